"""What a run's folder tells about itself; nothing of it is computed anew."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xairt.data.files import read_attributes
from xairt.errors import DataError
from xairt.runs import scores
from xairt.runs.manifest import Record
from xairt.runs.runner import CASES, FIGURES, Run, planned

DAMAGED, UNKNOWN = "damaged", ""


@dataclass(frozen=True)
class Attribution:
    """How well the sums of one attribution keep their promise.

    Attributes
    ----------
    case, label : str
    status : str
        One of `xairt.attribution.status.MEANINGS`, "damaged" for a file that is not what was written, or
        empty where nothing was computed.
    reason : str
    counts : mapping
        Number of samples by status.
    """

    case: str
    label: str
    status: str = UNKNOWN
    reason: str = ""
    counts: Mapping[str, int] | None = None


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of a run.

    Attributes
    ----------
    name : str
        Short name of the run, unique in a report.
    run : Run
    cases : dict
        Settings of its own by the name of each case.
    records : dict
        Records of the steps of these cases and of the figures, as far as the settings of now ask for them.
    damaged : dict
        Files that are missing or changed, by step; empty lists left out.
    table : pandas.DataFrame
        The scores; empty where there are none. Those of changed cases are left out.
    changed : tuple of str
        Cases whose rows in the table of all scores are not those of their own table.
    scores_error : str
        Why the scores cannot be read; empty where they can.
    attributions : tuple of Attribution
        Of every case and every label that any case has.
    """

    name: str
    run: Run
    cases: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, Record]
    damaged: Mapping[str, Sequence[str]]
    table: pd.DataFrame
    changed: tuple[str, ...]
    scores_error: str
    attributions: tuple[Attribution, ...]


def read(run: Run, name: str) -> Facts:
    """Read what a run's folder tells."""
    cases = run.benchmark.case_table(run.config)
    records = {step: run.manifest.records[step] for step in _asked_for(run, cases)}
    damaged = {step: files for step in records if (files := run.manifest.damaged(step))}
    table, scores_error = _scores(run, cases)
    whole = [case for case in table["case"].unique() if f"{case}/score" not in damaged]
    changed = tuple(case for case in whole if not _is_own(run, case, table))
    table = table[~table["case"].isin(changed)].reset_index(drop=True)
    attributions = _attributions(run, cases, records, damaged)
    return Facts(name, run, cases, records, damaged, table, changed, scores_error, attributions)


def _is_own(run: Run, case: str, table: pd.DataFrame) -> bool:
    """Return whether the rows of a case are those of its own table."""
    try:
        own = scores.read(run.folder / CASES / case / scores.FILE)
    except DataError:
        return False
    return table[table["case"] == case].reset_index(drop=True).astype(object).equals(own.astype(object))


def _asked_for(run: Run, cases: Mapping[str, Any]) -> list[str]:
    """Return the recorded steps that belong to the settings of now: methods may have been taken out of them."""
    steps = planned(run) if "explain" in run.benchmark.stages else {}
    untold = [case for case in cases if not steps or f"{case}/explain" in steps]

    def belongs(step: str) -> bool:
        case, _, rest = step.partition("/")
        if step == FIGURES or not rest.startswith("explain"):
            return step == FIGURES or case in cases
        return step in steps or case in untold

    return [step for step in run.manifest.records if belongs(step)]


def names(runs: Sequence[Run]) -> list[str]:
    """Return a short name of each run: its folder's, with as many parent folders as tell them apart.

    Raises
    ------
    DataError
        If a folder is given twice.
    """
    parts = [run.folder.resolve().parts for run in runs]
    twice = sorted({str(run.folder) for run, p in zip(runs, parts, strict=True) if parts.count(p) > 1})
    if twice:
        raise DataError(f"{', '.join(twice)}: the same run given twice; name each folder once")
    kept = 1
    while len({p[-kept:] for p in parts}) < len(parts):
        kept += 1
    return [str(Path(*p[-kept:])) for p in parts]


def _scores(run: Run, cases: Mapping[str, Any]) -> tuple[pd.DataFrame, str]:
    empty = pd.DataFrame(columns=list(scores.COLUMNS))
    if "score" not in run.benchmark.stages:
        return empty, ""
    try:
        table = run.scores
    except DataError as error:
        return empty, str(error)
    return table[table["case"].isin(list(cases))].reset_index(drop=True), ""


def _attributions(
    run: Run,
    cases: Mapping[str, Any],
    records: Mapping[str, Record],
    damaged: Mapping[str, Sequence[str]],
) -> tuple[Attribution, ...]:
    steps = [step.split("/", 2) for step in records if step.split("/")[1:2] == ["explain"]]
    labels = dict.fromkeys(label for _, _, label in steps)
    found = []
    for case in cases:
        for label in labels:
            step = f"{case}/explain/{label}"
            record = records.get(step)
            if record is None or record.error:
                found.append(Attribution(case, label, reason=record.error if record else ""))
            elif step in damaged:
                found.append(Attribution(case, label, DAMAGED, "the file is not the one that was written"))
            else:
                found.append(_attribution(run, case, label, record))
    return tuple(found)


def _attribution(run: Run, case: str, label: str, record: Record) -> Attribution:
    """Read the report that an attribution's file carries in its attributes."""
    files = [name for name in record.outputs if name.endswith(".nc")]
    try:
        (file,) = files
        reports = json.loads(read_attributes(run.folder / file)["status_report"])
        told = reports[label] if label in reports else next(iter(reports.values()))
        counts = {name: int(told[name]) for name in ("ok", "warn", "fail") if name in told}
        return Attribution(case, label, str(told["status"]), str(told.get("reason", "")), counts)
    except (DataError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return Attribution(case, label, reason="its file holds no status_report")


def stage_of(step: str) -> str:
    """Return the stage of a step.

    Examples
    --------
    >>> stage_of("n10/explain/lrp.z"), stage_of("figures")
    ('explain', 'figures')
    """
    return step.split("/")[1] if "/" in step else step


def size_of(facts: Facts) -> int:
    """Return the bytes of all files that the run's steps wrote and that are there."""
    files = {facts.run.folder / name for record in facts.records.values() for name in record.outputs}
    return sum(path.stat().st_size for path in files if path.is_file())
