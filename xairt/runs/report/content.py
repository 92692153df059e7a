"""What a report tells: sentences and tables made of what is known of runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from xairt._version import __version__
from xairt.errors import DataError
from xairt.runs.config import RunConfig, describe
from xairt.runs.contract import Benchmark
from xairt.runs.manifest import Record
from xairt.runs.report.entries import ENTRY, by_case, is_central, statistic, with_entries
from xairt.runs.report.facts import Attribution, Facts, size_of, stage_of
from xairt.runs.report.leaderboard import CONTROL, is_control, leaderboard, metrics
from xairt.runs.report.tables import MISSING, Cell, Column, Row, Table, count, naming, numbers, seconds, size
from xairt.runs.runner import FIGURES
from xairt.runs.scores import GATED_STATISTICS, NETWORK, of_networks

DEFAULTS = "the defaults"

STATUS_ORDER = ("fail", "damaged", "", "warn", "ok", "not_promised")
"""Statuses as they are sorted, the worst first."""


@dataclass(frozen=True)
class About:
    """What was run: name and folder, a paragraph, settings that differ from a preset, and all of them."""

    name: str
    folder: str
    text: str
    changed: Table | None
    settings: Table
    cases: Table


def about(facts: Facts) -> About:
    """Return what was run."""
    run, name = facts.run, facts.name
    base, base_settings = _base(run.benchmark, run.config)
    changed = _differing(run.config.plain(), base_settings.plain())
    records = list(facts.records.values())
    times = sorted(r.versions["time"] for r in records if "time" in r.versions)
    settings = f"settings of {base}" + (f" with {len(changed)} changed" if changed else "")
    text = (
        f"{_plural(len(facts.cases), 'case')}{_own_settings(facts.cases)}; stages "
        f"{', '.join(run.benchmark.stages)}; {settings}. "
        f"{_plural(sum(not r.error for r in records), 'finished step')}, "
        f"{sum(r.seconds for r in records):,.0f} seconds of work, files of {size(size_of(facts)).text}; "
        f"begun {run.manifest.created}, last step {times[-1] if times else MISSING}."
    )
    differences = Table(
        f"Settings that differ from {base}",
        (Column("setting"), Column("value"), Column(base)),
        tuple(_texts(key, *values) for key, values in changed.items()),
    )
    return About(
        name,
        str(run.folder),
        text,
        differences if changed else None,
        _settings(run.config),
        _case_settings(facts),
    )


def differing_settings(runs: Sequence[Facts]) -> Table:
    """Return the settings that are not the same in all runs."""
    plain = [facts.run.config.plain() for facts in runs]
    names = [n for n in plain[0] if any(other[n] != plain[0][n] for other in plain[1:])]
    columns = (Column("setting"), *(Column(facts.name) for facts in runs))
    rows = tuple(_texts(n, *(_shown(settings[n]) for settings in plain)) for n in names)
    return Table(
        "Settings that differ between the runs", columns, rows, note="" if rows else "All settings are equal."
    )


def leaderboards(runs: Sequence[Facts]) -> list[Table]:
    """Return a leaderboard of methods for every metric."""
    tables = {facts.name: facts.table for facts in runs}
    cases = {facts.name: len(facts.cases) for facts in runs}
    controls = runs[0].run.benchmark.controls
    return [leaderboard(metric, tables, controls, cases) for metric in metrics(tables.values())]


def networks(runs: Sequence[Facts]) -> Table | None:
    """Return how good each case's network is, beside what its benchmark asks for; None where nothing tells."""
    metric_names = metrics((facts.table for facts in runs), network=True)
    metric_names += [m for m in runs[0].run.benchmark.gates if m not in metric_names]
    if not metric_names:
        return None
    columns = [*map(Column, ("run", "case", "metric", "statistic"))]
    columns += [Column("value", True), Column("gate", True), Column("gate is"), Column("method")]
    rows = [row for metric in metric_names for row in _networks(runs, metric)]
    first = 0 if len(runs) > 1 else 1
    return Table(
        "Networks",
        tuple(columns[first:]),
        tuple(Row(tuple(row[first:])) for row in rows),
        note="A gate is the least that a benchmark asks for.",
    )


def _networks(runs: Sequence[Facts], metric: str) -> list[list[Cell]]:
    """Return the rows of one metric; a case without the metric has a row that says so."""
    texts, methods, values, gates = [], [], [], []
    for facts in runs:
        minima = facts.run.benchmark.case_gates(facts.run.config)
        judged = facts.table[of_networks(facts.table) & (facts.table["metric"] == metric)]
        for case in facts.cases:
            rows = judged[judged["case"] == case].to_dict("records")
            for row in rows or [
                {"label": NETWORK, "method": NETWORK, "statistic": GATED_STATISTICS[0], "value": None}
            ]:
                texts.append((facts.name, case, metric, str(row["statistic"])))
                methods.append(str(row["method"]))
                values.append(row["value"])
                is_gated = row["label"] == NETWORK and row["statistic"] in GATED_STATISTICS
                gates.append(minima[case].get(metric) if is_gated else None)
    cells = numbers([*values, *gates])
    shown = [Cell("none") if g is None else c for g, c in zip(gates, cells[len(values) :], strict=True)]
    judged = [_judged(value, gate) for value, gate in zip(cells, gates, strict=False)]
    return [
        [*map(Cell, text), *cells_of, Cell(method)]
        for text, method, *cells_of in zip(texts, methods, cells, shown, judged, strict=False)
    ]


def _judged(value: Cell, gate: float | None) -> Cell:
    if gate is None:
        return Cell("")
    missed = value.key is None or value.key < gate
    return Cell("missed", kind="fail") if missed else Cell("reached", kind="ok")


def case_scores(facts: Facts) -> Table:
    """Return every case and method with all metrics."""
    (named,) = with_entries([facts.table])
    table, controls = named[~of_networks(named)], facts.run.benchmark.controls
    entries = {str(r[ENTRY]): (str(r["label"]), str(r["method"])) for r in table.to_dict("records")}
    columns: list[list[Cell]] = []
    heads = []
    for metric in metrics([table]):
        of_metric = table[table["metric"] == metric]
        main = statistic(of_metric)
        found = by_case(of_metric[is_central(of_metric, main)]).to_dict("index")
        told = [found.get((entry, case), {}) for case in facts.cases for entry in entries]
        cells = numbers(one.get("value") for one in told)
        columns.append([naming(cell, _other(one, main)) for cell, one in zip(cells, told, strict=True)])
        heads.append(Column(metric if main == "value" else f"{metric}, {main}", numeric=True))
    rows = []
    for i, (case, entry) in enumerate((case, entry) for case in facts.cases for entry in entries):
        label, method = entries[entry]
        mark = CONTROL if is_control(label, controls, method) else ""
        rows.append(Row((Cell(entry), Cell(case), *(column[i] for column in columns)), mark))
    return Table("Scores by case", (Column("method"), Column("case"), *heads), tuple(rows))


def _other(told: Mapping[str, Any], main: str) -> str:
    """Return the statistic that a score is of, empty where it is the metric's own."""
    return "" if told.get("statistic", main) == main else str(told["statistic"])


def attributions(facts: Facts) -> Table:
    """Return how well each attribution's sum keeps its promise, the worst first."""
    heads = (Column("method"), Column("case"), Column("status"))
    numeric = tuple(Column(f"samples {name}", numeric=True) for name in ("ok", "warn", "fail"))
    order = sorted(facts.attributions, key=lambda a: STATUS_ORDER.index(a.status))
    controls = facts.run.benchmark.controls
    rows = tuple(
        Row(
            (
                Cell(a.label),
                Cell(a.case),
                _status(a),
                *(count((a.counts or {}).get(name)) for name in ("ok", "warn", "fail")),
                Cell(a.reason, kind="long"),
            ),
            CONTROL if is_control(a.label, controls, a.label) else "",
        )
        for a in order
    )
    return Table("Completeness", (*heads, *numeric, Column("reason")), rows)


def timing(facts: Facts) -> tuple[Table, Table]:
    """Return seconds and memory of every stage, and of every step."""
    stages: dict[str, list[Record]] = {stage: [] for stage in facts.run.benchmark.stages}
    for step, record in facts.records.items():
        stages.setdefault(stage_of(step), []).append(record)
    columns = (
        *(Column("stage"), Column("steps", True), Column("failed", True)),
        *(Column("seconds", True), Column("longest step, seconds", True), Column("peak memory", True)),
    )
    rows = tuple(
        Row(
            (
                *(Cell(stage), count(len(those)), _failures(sum(bool(r.error) for r in those))),
                *(seconds(sum(r.seconds for r in those) if those else None),),
                *(seconds(max((r.seconds for r in those), default=None)),),
                size(max((r.peak_memory for r in those), default=0)),
            )
        )
        for stage, those in stages.items()
    )
    every = tuple(
        Row(
            (
                Cell(step),
                seconds(r.seconds),
                size(r.peak_memory),
                Cell(r.error or "done", kind="fail" if r.error else ""),
            )
        )
        for step, r in facts.records.items()
    )
    heads = (Column("step"), Column("seconds", True), Column("peak memory", True), Column("outcome"))
    return Table("Stages", columns, rows), Table("Steps", heads, every)


def versions(runs: Sequence[Facts]) -> Table:
    """Return what each run was computed with."""
    names: dict[str, None] = {}
    for facts in runs:
        for record in facts.records.values():
            names |= dict.fromkeys(n for n in record.versions if n != "time")
    rows = []
    for name in names:
        told = [
            sorted({r.versions[name] for r in facts.records.values() if name in r.versions}) for facts in runs
        ]
        cells = [
            Cell(", ".join(t) or MISSING, kind="warn" if len(t) > 1 else "" if t else "missing") for t in told
        ]
        rows.append(Row((Cell(name), *cells)))
    return Table("Versions", (Column("of"), *(Column(facts.name) for facts in runs)), tuple(rows))


def figures(runs: Sequence[Facts]) -> dict[str, dict[str, Path | None]]:
    """Return the figures by file name and run, None where a run lacks one that is as it was drawn."""
    sound: dict[str, set[str]] = {}
    for facts in runs:
        record = facts.records.get(FIGURES)
        drawn = set(record.outputs if record else ()) - set(facts.damaged.get(FIGURES, ()))
        sound[facts.name] = {name for name in drawn if name.lower().endswith(".png")}
    return {
        file: {f.name: f.run.folder / file if file in sound[f.name] else None for f in runs}
        for file in sorted(set().union(*sound.values()))
    }


def caption(file: str) -> str:
    """Return the caption of a figure: its file name in words.

    Examples
    --------
    >>> caption("figures/learning_curve.png"), caption("figures/maps-n2000.png")
    ('Learning curve', 'Maps n2000')
    """
    words = re.sub(r"[\s_-]+", " ", Path(file).stem).strip() or file
    return words[:1].upper() + words[1:]


def citations(benchmark: Benchmark) -> list[str]:
    """Return what to cite: the benchmark's references, and xairt."""
    own = yaml.safe_load(citation_file())
    authors = ", ".join(a.get("name") or a.get("family-names", "") for a in own["authors"])
    year = str(own["date-released"])[:4]
    return [*benchmark.citation, f"{authors} ({year}): {own['title']}. Version {__version__}."]


def citation_file() -> str:
    """Return xairt's CITATION.cff."""
    return files("xairt.runs.report").joinpath("citation.cff").read_text(encoding="utf-8")


def check_comparable(runs: Sequence[Facts]) -> None:
    """Refuse what cannot stand side by side.

    Raises
    ------
    DataError
        If the runs are of several benchmarks.
    """
    found = sorted({facts.run.benchmark.name for facts in runs})
    if len(found) > 1:
        raise DataError(f"runs of {', '.join(found)}: different benchmarks; write one report for each")


def _base(benchmark: Benchmark, config: RunConfig) -> tuple[str, RunConfig]:
    """Return the preset that settings are nearest to, or the defaults, and its settings."""
    known = {f"preset {preset}": benchmark.configured({}, preset) for preset in benchmark.presets}
    known = known or {DEFAULTS: benchmark.configured({})}
    plain = config.plain()
    return min(known.items(), key=lambda item: len(_differing(plain, item[1].plain())))


def _differing(plain: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {n: (_shown(value), _shown(base[n])) for n, value in plain.items() if value != base[n]}


def _shown(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _settings(config: RunConfig) -> Table:
    rows = describe(config)
    return Table(
        "All settings", tuple(map(Column, rows[0])) if rows else (), tuple(_texts(*r.values()) for r in rows)
    )


def _case_settings(facts: Facts) -> Table:
    names = list(dict.fromkeys(name for own in facts.cases.values() for name in own))
    rows = tuple(
        _texts(case, *(_shown(own[n]) if n in own else "" for n in names))
        for case, own in facts.cases.items()
    )
    return Table("Cases", (Column("case"), *map(Column, names)), rows)


def _own_settings(cases: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in brackets which values the cases have of the settings that are their own."""
    names = dict.fromkeys(name for own in cases.values() for name in own)
    texts = []
    for name in names:
        values = list(dict.fromkeys(_shown(own[name]) for own in cases.values() if name in own))
        more = f" and {len(values) - 8} more" if len(values) > 8 else ""
        texts.append(f"{name} {', '.join(values[:8])}{more}")
    return f" ({'; '.join(texts)})" if texts else ""


def _status(attribution: Attribution) -> Cell:
    text = attribution.status.replace("_", " ") or (MISSING if attribution.counts is None else "unknown")
    return Cell(text, kind=attribution.status or "missing")


def _failures(n: int) -> Cell:
    return Cell(str(n), n, "fail" if n else "")


def _texts(*texts: str) -> Row:
    return Row(tuple(map(Cell, texts)))


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
