"""scores.csv: one number per row, tidy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xairt.data.files import atomic_write
from xairt.errors import DataError
from xairt.runs.contract import Case, Explanation

FILE = "scores.csv"

COLUMNS = (
    *("benchmark", "case", "method", "label", "engine", "convention"),
    *("metric", "statistic", "value", "n", "seconds"),
)
"""Columns of the table. ``statistic`` says what of the metric's values ``value`` is (mean, sd, median, p05 ...)
over ``n`` samples; ``seconds`` is the time the attribution took. Rows of one case and label may differ in
``engine`` or ``convention``."""

NUMBERS = ("value", "n", "seconds")
"""Columns of numbers, empty where one is missing; all others hold texts, empty where there is none."""

NETWORK = "network"
"""Label of the rows that judge a case's network itself: its r2, mse, accuracy on data it was not trained on."""

GATED_STATISTICS = ("value", "mean")
"""Statistics of a network's row that a gate looks at."""

NAMES = ("label", "metric", "statistic")
"""Columns that are never empty."""


def write(table: pd.DataFrame, benchmark: str, case: Case, path: Path) -> None:
    """Write the scores of a case.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``label, metric, statistic, value`` and as far as known ``method, engine, convention, n,
        seconds``. Seconds left out are those of the attribution of that label.
    benchmark : str
        Its name.
    case : Case
        The case.
    path : Path
        CSV file.

    Raises
    ------
    DataError
        If the stage returned no table, or one that lacks a column or has an unknown one, a row without a
        label, metric or statistic, or a value that is no number.
    """
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"{benchmark}: its score stage returned a {type(table).__name__}; return a DataFrame")
    missing = [name for name in (*NAMES, "value") if name not in table]
    unknown = [str(name) for name in table if name not in COLUMNS]
    if missing or unknown:
        wrong = f"lacks {', '.join(missing)}" if missing else f"has the unknown {', '.join(unknown)}"
        raise DataError(f"{benchmark}: its table of scores {wrong}; columns are {', '.join(COLUMNS)}")
    full = table.assign(benchmark=benchmark, case=case.name)
    if "method" not in full:
        full["method"] = full["label"]
    if "seconds" not in full:
        full["seconds"] = [case.records.get(f"explain/{label}") for label in full["label"]]
    full = full.reindex(columns=list(COLUMNS)).reset_index(drop=True)
    _check_names(full, benchmark)
    _write(full.assign(**{name: _numbers(full, name, benchmark) for name in NUMBERS}), path)


def gather(files: Sequence[Path], path: Path) -> None:
    """Write the scores of several cases as one table."""
    tables = [read(file) for file in files]
    empty = pd.DataFrame(columns=list(COLUMNS))
    _write(pd.concat(tables, ignore_index=True) if tables else empty, path)


def read(path: Path) -> pd.DataFrame:
    """Read a table of scores; missing numbers are NaN, missing texts are empty.

    Raises
    ------
    DataError
        If the file is missing or no such table.
    """
    texts = {name: str for name in COLUMNS if name not in NUMBERS}
    empty = {name: [""] for name in NUMBERS}  # a case may be called NA
    try:
        table = pd.read_csv(
            path, dtype=texts, keep_default_na=False, na_values=empty, float_precision="round_trip"
        )
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no table of scores ({type(error).__name__}); run the stage score") from None
    if tuple(table.columns) != COLUMNS:
        raise DataError(f"{path}: its columns are not those of a table of scores; run the stage score again")
    if (table[list(NAMES)].fillna("") == "").any(axis=None):
        raise DataError(f"{path}: a row has no {' or no '.join(NAMES)}; run the stage score again")
    for name in NUMBERS if len(table) else ():
        if table[name].dtype.kind not in "iuf":
            raise DataError(f"{path}: its column {name} holds what is no number; run the stage score again")
    return table


@dataclass(frozen=True)
class MissedGate:
    """A network that is not as good as its benchmark asks for.

    Attributes
    ----------
    case, metric : str
    value : float or None
        None where no row of label `NETWORK` tells the metric.
    minimum : float
    """

    case: str
    metric: str
    value: float | None
    minimum: float


def statistics(values: ArrayLike) -> dict[str, float]:
    """Summarise the scores of samples; samples without a score are left out, and counted as missing.

    Parameters
    ----------
    values : (samples,)

    Returns
    -------
    dict
        ``mean, sd`` (divided by n - 1), ``median, p05, p95`` (percentiles), NaN where no sample has a score,
        and ``missing``, the number of samples without one.

    Examples
    --------
    >>> statistics([0.5, float("nan"), 0.5])["missing"]
    1.0
    """
    scores = np.asarray(values, np.float64)
    there = scores[np.isfinite(scores)]
    p05, median, p95 = np.quantile(there, [0.05, 0.5, 0.95]) if there.size else [np.nan] * 3
    return {
        "mean": float(there.mean()) if there.size else float("nan"),
        "sd": float(there.std(ddof=1)) if there.size > 1 else float("nan"),
        "median": float(median),
        "p05": float(p05),
        "p95": float(p95),
        "missing": float(scores.size - there.size),
    }


def statistic_rows(
    metric: str, values: ArrayLike, further: Mapping[str, float] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a row of scores for each of the `statistics` of a metric over samples.

    Parameters
    ----------
    metric : str
    values : (samples,)
        NaN where a sample has no score.
    further : mapping, optional
        Statistic -> value: in place of those, or beside them.

    Yields
    ------
    dict
        ``metric, statistic, value, n``: `n` counts the samples with a score, of ``missing`` all.

    Examples
    --------
    >>> next(statistic_rows("iou", [0.5, 0.7, float("nan")]))
    {'metric': 'iou', 'statistic': 'mean', 'value': 0.6, 'n': 2}
    """
    scores = np.asarray(values, np.float64)
    summary = statistics(scores)
    n_scored = len(scores) - int(summary["missing"])
    for statistic, value in (summary | dict(further or {})).items():
        n = len(scores) if statistic == "missing" else n_scored
        yield {"metric": metric, "statistic": statistic, "value": value, "n": n}


def identity_of(explanation: Explanation) -> dict[str, str | None]:
    """Return the columns ``label, method, engine, convention`` of an attribution's scores."""
    from xairt.attribution.registry import resolve

    call = resolve(explanation.method, convention=explanation.convention)
    return {
        "label": explanation.name,
        "method": call.form,
        "engine": explanation.engine or call.method.engines[0],
        "convention": explanation.convention,
    }


def short_names(methods: Iterable[str]) -> dict[str, str]:
    """Return methods without their parameters, as far as that tells them apart; else with the first one.

    Examples
    --------
    >>> short_names(["gradient", "shap.kernel(nsamples=100)"])
    {'gradient': 'gradient', 'shap.kernel(nsamples=100)': 'shap.kernel'}
    >>> list(short_names(["ig(steps=10, rule='x')", "ig(steps=20, rule='x')"]).values())
    ['ig(steps=10)', 'ig(steps=20)']
    """
    full = list(methods)
    ways = ([m.partition("(")[0] for m in full], [_with_first_parameter(m) for m in full], full)
    return {
        method: next(names[k] for names in ways if names.count(names[k]) == 1 or names is full)
        for k, method in enumerate(full)
    }


def _with_first_parameter(method: str) -> str:
    head, comma, _ = method.partition(", ")
    return f"{head})" if comma else method


def of_networks(table: pd.DataFrame) -> pd.Series:
    """Return which rows tell the skill of a network: label `NETWORK`, or ``network.<name>`` of further ones."""
    labels = table["label"].astype(str)
    return (labels == NETWORK) | labels.str.startswith(f"{NETWORK}.")


def missed_gates(table: pd.DataFrame, gates: Mapping[str, Mapping[str, float]]) -> list[MissedGate]:
    """Return the gates that networks miss: rows of label `NETWORK` below a minimum, NaN, or absent.

    Parameters
    ----------
    table : pandas.DataFrame
        Scores, see `COLUMNS`. Of several rows of one case and metric the worst counts.
    gates : mapping
        Minimum of each metric, by case; see ``gates`` of `xairt.runs.Benchmark`.

    Returns
    -------
    list of MissedGate

    Examples
    --------
    >>> row = {"case": "n10", "label": "network", "metric": "r2", "statistic": "value", "value": 0.4}
    >>> missed_gates(pd.DataFrame([row]), {"n10": {"r2": 0.9}})
    [MissedGate(case='n10', metric='r2', value=0.4, minimum=0.9)]
    """
    judged = table[(table["label"] == NETWORK) & table["statistic"].isin(GATED_STATISTICS)]
    found = []
    for case, minima in gates.items():
        for metric, minimum in minima.items():
            values = judged[(judged["case"] == case) & (judged["metric"] == metric)]["value"].astype(float)
            told = len(values) > 0 and values.notna().all()
            if not told or values.min() < minimum:
                found.append(MissedGate(case, metric, float(values.min()) if told else None, minimum))
    return found


def _write(table: pd.DataFrame, path: Path) -> None:
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def _check_names(table: pd.DataFrame, benchmark: str) -> None:
    for name in NAMES:
        empty = table[name].isna() | (table[name].astype(str) == "")
        if empty.any():
            row = int(empty.to_numpy().argmax())
            raise DataError(f"{benchmark}: row {row} of its table of scores has no {name}; name it")


def _numbers(table: pd.DataFrame, name: str, benchmark: str) -> pd.Series:
    """Return a column as numbers, NaN where one is missing."""
    found = [_number(value) for value in table[name]]
    if None in found:
        row = table.iloc[found.index(None)]
        shown = " ".join(repr(row[name]).split())[:60]
        raise DataError(
            f"{benchmark}: score of '{row['label']}' in {row['metric']}, {row['statistic']}: {name} {shown} is "
            "no number; return a number, or None where there is none"
        )
    return pd.Series(found, table.index)


def _number(value: Any) -> float | None:
    """Return a whole or real number, NaN for one that is missing, None for what is no number."""
    if isinstance(value, Integral | np.bool_) and abs(int(value)) < 2**53:
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return np.nan if value is None or value is pd.NA or value is pd.NaT else None
