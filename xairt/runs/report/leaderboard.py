"""The scores of one metric: every method, value and spread, several runs side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from xairt.runs.report.tables import (
    MISSING,
    Cell,
    Column,
    Drawing,
    Row,
    Table,
    count,
    number,
    number_format,
    seconds,
)
from xairt.runs.scores import of_networks

PREFERRED = ("mean", "value", "median")
"""The statistic that stands for a metric: the first of these that it has, else its first."""

CONTROL = "control"


@dataclass(frozen=True)
class Summary:
    """One label of one run in one metric.

    Attributes
    ----------
    values : tuple of float
        The preferred statistic of each case that has one.
    others : mapping
        Mean over cases of every other statistic.
    n : float
        Samples in these cases; NaN where not told.
    seconds : float
        Mean time of the attribution over cases; NaN where not told.
    """

    values: tuple[float, ...] = ()
    others: Mapping[str, float] | None = None
    n: float = np.nan
    seconds: float = np.nan

    @property
    def mean(self) -> float | None:
        """Mean over cases."""
        return float(np.mean(self.values)) if self.values else None

    @property
    def sd(self) -> float | None:
        """Standard deviation over cases (n - 1)."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    @property
    def reach(self) -> tuple[float, float] | None:
        """Spread within cases: outermost percentiles, else mean and sd, else none."""
        told = {p: v for name, v in (self.others or {}).items() if (p := _percentile(name)) is not None}
        if told and min(told) < 50 < max(told):
            ends = told[min(told)], told[max(told)]
        elif self.mean is not None and "sd" in (self.others or {}):
            ends = self.mean - self.others["sd"], self.mean + self.others["sd"]
        else:
            return None
        return ends if np.isfinite(ends).all() else None


def metrics(tables: Iterable[pd.DataFrame], network: bool = False) -> list[str]:
    """Return the metrics of methods, or those of the network, in the order of the tables."""
    found: dict[str, None] = {}
    for table in tables:
        rows = table[of_networks(table) == network]
        found |= dict.fromkeys(map(str, rows["metric"]))
    return list(found)


def statistic(rows: pd.DataFrame) -> str:
    """Return the statistic that stands for a metric."""
    there = list(dict.fromkeys(map(str, rows["statistic"])))
    return next((name for name in PREFERRED if name in there), there[0] if there else PREFERRED[0])


def is_control(label: str, controls: Sequence[str], method: str = "") -> bool:
    """Whether a label, or the method behind it, is a control.

    Examples
    --------
    >>> is_control("random", ["random"]), is_control("noise", ["random"], "random(scale=2)")
    (True, True)
    """
    return label in controls or method.split("(")[0] in controls


def leaderboard(
    metric: str, tables: Mapping[str, pd.DataFrame], controls: Sequence[str], cases: Mapping[str, int]
) -> Table:
    """Return the leaderboard of one metric.

    Parameters
    ----------
    metric : str
    tables : mapping
        Scores of each run.
    controls : sequence of str
        Labels (or methods) that are controls; each gets a row, also where it was not computed.
    cases : mapping
        Number of cases of each run.

    Returns
    -------
    Table
        Sorted by the mean of the first run that has one, the largest first.
    """
    rows = {run: _rows(table, metric) for run, table in tables.items()}
    every = pd.concat(list(rows.values()), ignore_index=True)
    main = statistic(every)
    others = [s for s in dict.fromkeys(map(str, every["statistic"])) if s != main]
    methods = dict(zip(map(str, every["label"]), map(str, every["method"]), strict=True))
    missing = [c for c in controls if not any(is_control(label, [c], m) for label, m in methods.items())]
    summaries = {
        run: {label: summarise(found[found["label"] == label], main) for label in [*methods, *missing]}
        for run, found in rows.items()
    }
    order = sorted([*methods, *missing], key=lambda label: _rank(label, summaries))
    groups, columns = _Groups(summaries, main, others, cases), [Column("method")]
    for run in tables:
        columns += groups.columns(run)
    marks = {label: is_control(label, controls, methods.get(label, "")) for label in order}
    table = tuple(
        Row(
            (Cell(label), *(cell for run in tables for cell in groups.cells(run, label))),
            CONTROL if marks[label] else "",
        )
        for label in order
    )
    widths = tuple((run, len(groups.columns(run))) for run in tables)
    return Table(
        metric,
        tuple(columns),
        table,
        (("", 1), *widths) if len(tables) > 1 else (),
        _note(main, others),
    )


def summarise(rows: pd.DataFrame, main: str) -> Summary:
    """Return the summary of the score rows of one label in one run."""
    if rows.empty:
        return Summary()
    own = rows[(rows["statistic"] == main) & rows["value"].notna()]
    others = rows[rows["statistic"] != main].groupby("statistic")["value"].mean()
    n, took = own["n"].astype(float), own["seconds"].astype(float)
    return Summary(
        tuple(own["value"].astype(float)),
        {str(name): float(value) for name, value in others.items()},
        float(n.sum(min_count=1)),
        float(took.mean()),
    )


@dataclass(frozen=True, eq=False)
class _Groups:
    """The columns that each run has in a leaderboard, all on one scale."""

    summaries: Mapping[str, Mapping[str, Summary]]
    main: str
    others: Sequence[str]
    cases: Mapping[str, int]

    def columns(self, run: str) -> list[Column]:
        """Return the columns of a run."""
        several = len(self.summaries) > 1
        shown = [Column(self.main, numeric=True, first=several), Column("spread", sortable=False)]
        shown += [Column("sd over cases", numeric=True)] if self._several_cases else []
        shown += [Column(name, numeric=True) for name in self.others]
        shown += [Column("cases", numeric=True)]
        shown += [Column("n", numeric=True)] if self._told("n") else []
        return shown + ([Column("seconds", numeric=True)] if self._told("seconds") else [])

    def cells(self, run: str, label: str) -> list[Cell]:
        """Return the cells of a label in the columns of a run."""
        summary = self.summaries[run][label]
        write = number_format(self._all_values())
        cells = [number(summary.mean, write), self._spread(label, summary, write)]
        if self._several_cases:
            one = Cell("one case", kind="missing")
            alike = number_format(s.sd for s in self._all)
            cells.append(one if len(summary.values) == 1 else number(summary.sd, alike))
        for name in self.others:
            alike = number_format((s.others or {}).get(name) for s in self._all)
            cells.append(number((summary.others or {}).get(name), alike))
        there, wanted = len(summary.values), self.cases[run]
        few = there < wanted
        cells.append(Cell(f"{there} of {wanted}" if few else str(there), there, "warn" if few else ""))
        cells += [count(summary.n)] if self._told("n") else []
        return cells + ([seconds(summary.seconds)] if self._told("seconds") else [])

    @property
    def _all(self) -> list[Summary]:
        return [summary for run in self.summaries.values() for summary in run.values()]

    @property
    def _several_cases(self) -> bool:
        return max(self.cases.values()) > 1

    def _told(self, name: str) -> bool:
        return any(np.isfinite(getattr(summary, name)) for summary in self._all)

    def _all_values(self) -> list[float]:
        return [v for s in self._all for v in (*s.values, *(s.reach or ())) if np.isfinite(v)]

    def _spread(self, label: str, summary: Summary, write: Callable[[float | None], str]) -> Cell:
        """Return the drawing of value and spread."""
        if summary.mean is None:
            return Cell(MISSING, kind="missing")
        low, high = scale(self._all_values())

        def place(value: float) -> float:
            return round(100 * (value - low) / (high - low), 2)

        text = f"{label}: {self.main} {write(summary.mean)}"
        reach = summary.reach
        if reach:
            text += f", within a case {write(reach[0])} to {write(reach[1])}"
        drawing = Drawing(
            tuple(map(place, summary.values)),
            place(summary.mean),
            None if reach is None else (place(reach[0]), place(reach[1])),
            place(0.0) if low <= 0 <= high else None,
            text,
        )
        return Cell("", key=summary.mean, drawing=drawing)


def scale(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the scale for some values; 0 is on it unless they lie far from it.

    Examples
    --------
    >>> scale([0.2, 0.8])
    (0.0, 0.8)
    >>> scale([100.0, 101.0])
    (100.0, 101.0)
    >>> scale([0.0])
    (0.0, 1.0)
    """
    low, high = min(values), max(values)
    if 0 < low <= high / 2:
        low = 0.0
    if 0 > high >= low / 2:
        high = 0.0
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def _rows(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    return table[(table["metric"] == metric) & ~of_networks(table)]


def _rank(label: str, summaries: Mapping[str, Mapping[str, Summary]]) -> tuple[bool, float]:
    """Return what a label is sorted by: missing ones last, the largest first."""
    means = [run[label].mean for run in summaries.values() if run[label].mean is not None]
    return (not means, -means[0] if means else 0.0)


def _percentile(name: str) -> float | None:
    found = re.fullmatch(r"[pq](\d+(?:\.\d+)?)", name)
    return float(found[1]) if found else None


def _note(main: str, others: Sequence[str]) -> str:
    within = f" {', '.join(others)} are those within a case, averaged over cases." if others else ""
    line = " the line its spread within a case," if others else ""
    return (
        f"{main} is averaged over cases.{within} In the drawings each dot is a case,{line} the upright "
        "stroke the mean. Sorted by the mean, the largest first: whether large is good depends on the metric."
    )
