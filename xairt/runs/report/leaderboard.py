"""The scores of one metric: every method, value and spread, several runs side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from xairt.runs.report.entries import CENTRAL, ENTRY, by_case, is_central, statistic, with_entries
from xairt.runs.report.tables import (
    MISSING,
    Cell,
    Column,
    Drawing,
    Row,
    Table,
    count,
    naming,
    number,
    number_format,
    seconds,
)
from xairt.runs.scores import of_networks

CONTROL = "control"


@dataclass(frozen=True)
class Summary:
    """One entry (see `with_entries`) of one run in one metric.

    Attributes
    ----------
    values : tuple of float
        What stands for each case that has it; may be infinite.
    others : mapping
        Mean over cases of every other statistic.
    stand_in : str
        The statistics that `values` are of, where it is not the metric's own; else empty.
    n : float
        Samples in these cases; NaN where not told.
    seconds : float
        Mean time of the attribution over cases; NaN where not told.
    """

    values: tuple[float, ...] = ()
    others: Mapping[str, float] = field(default_factory=dict)
    stand_in: str = ""
    n: float = np.nan
    seconds: float = np.nan

    @property
    def mean(self) -> float | None:
        """Mean over cases; None where there is none."""
        if not self.values or {np.inf, -np.inf} <= set(self.values):
            return None
        return float(np.mean(self.values))

    @property
    def sd(self) -> float | None:
        """Standard deviation over cases (n - 1); None where it is not finite."""
        finite = len(self.values) > 1 and np.isfinite(self.values).all()
        return float(np.std(self.values, ddof=1)) if finite else None

    @property
    def reach(self) -> tuple[float, float] | None:
        """Spread within cases: outermost percentiles, else mean and sd, else none."""
        told = {p: v for name, v in self.others.items() if (p := _percentile(name)) is not None}
        if told and min(told) < 50 < max(told):
            ends = told[min(told)], told[max(told)]
        elif self.mean is not None and "sd" in self.others:
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
    named = with_entries(list(tables.values()))
    rows = {run: _rows(table, metric) for run, table in zip(tables, named, strict=True)}
    every = pd.concat(list(rows.values()), ignore_index=True)
    main = statistic(every)
    known = {str(row[ENTRY]): (str(row["label"]), str(row["method"])) for row in every.to_dict("records")}
    known |= {c: (c, c) for c in controls if not any(is_control(x, [c], m) for x, m in known.values())}
    found = {run: summaries(own, main) for run, own in rows.items()}
    found = {run: {entry: own.get(entry, Summary()) for entry in known} for run, own in found.items()}
    groups = _Groups(found, main, _others(every, found), cases)
    table = tuple(
        Row(
            (Cell(entry), *groups.cells(entry)),
            CONTROL if is_control(known[entry][0], controls, known[entry][1]) else "",
        )
        for entry in sorted(known, key=lambda entry: _rank(entry, found))
    )
    return Table(metric, (Column("method"), *groups.columns), table, groups.headings, groups.note)


def summaries(rows: pd.DataFrame, main: str) -> dict[str, Summary]:
    """Return a summary for each entry of the score rows of one metric and run.

    Parameters
    ----------
    rows : pandas.DataFrame
        As of `with_entries`.
    main : str
        Statistic that stands for the metric.
    """
    central = is_central(rows, main)
    told = rows[central & rows["value"].notna()]
    others = rows[~central].groupby([ENTRY, "statistic"], sort=False)["value"].mean()
    found = {}
    for entry in dict.fromkeys(rows[ENTRY]):
        own = by_case(told[told[ENTRY] == entry])
        used = list(dict.fromkeys(own["statistic"]))
        found[str(entry)] = Summary(
            tuple(own["value"].astype(float)),
            {str(name): float(value) for (of, name), value in others.items() if of == entry},
            "" if used in ([], [main]) else ", ".join(used),
            float(own["n"].astype(float).sum(min_count=1)),
            float(own["seconds"].astype(float).mean()),
        )
    return found


@dataclass(frozen=True, eq=False)
class _Groups:
    """The columns of a leaderboard: the values of all runs, their drawings on one scale, then the rest by run."""

    summaries: Mapping[str, Mapping[str, Summary]]
    main: str
    others: Sequence[str]
    cases: Mapping[str, int]

    @property
    def columns(self) -> list[Column]:
        """Columns of all runs."""
        several = len(self.summaries) > 1
        values = [Column(run if several else self.main, numeric=True) for run in self.summaries]
        drawings = [Column(run if several else "spread", sortable=False) for run in self.summaries]
        names = ["sd over cases"] if self._several_cases else []
        names += [*self.others, "cases", *(name for name in ("n", "seconds") if self._told(name))]
        rest = [Column(name, numeric=True) for name in names]
        groups = [values, drawings, *[rest] * len(self.summaries)]
        return [replace(c, first=several and i == 0) for group in groups for i, c in enumerate(group)]

    @property
    def headings(self) -> tuple[tuple[str, int], ...]:
        """Headings over the columns of several runs."""
        n = len(self.summaries)
        if n == 1:
            return ()
        rest = len(self.columns) // n - 2
        return ("", 1), (self.main, n), ("spread", n), *((run, rest) for run in self.summaries)

    def cells(self, entry: str) -> list[Cell]:
        """Return the cells of an entry."""
        of_runs = [summaries[entry] for summaries in self.summaries.values()]
        write = number_format(self._all_values())
        cells = [self._value(summary, write) for summary in of_runs]
        cells += [self._spread(entry, summary, write) for summary in of_runs]
        return cells + [cell for run in self.summaries for cell in self._rest(entry, run)]

    def _value(self, summary: Summary, write: Callable[[float | None], str]) -> Cell:
        return naming(number(summary.mean, write), summary.stand_in)

    def _rest(self, entry: str, run: str) -> list[Cell]:
        summary, cells = self.summaries[run][entry], []
        if self._several_cases:
            one = Cell("one case", kind="missing")
            alike = number_format(s.sd for s in self._all)
            cells.append(one if len(summary.values) == 1 else number(summary.sd, alike))
        for name in self.others:
            alike = number_format(s.others.get(name) for s in self._all)
            cells.append(number(summary.others.get(name), alike))
        there, wanted = len(summary.values), self.cases[run]
        few = there < wanted
        cells.append(Cell(f"{there} of {wanted}" if few else str(there), there, "warn" if few else ""))
        cells += [count(summary.n)] if self._told("n") else []
        return cells + ([seconds(summary.seconds)] if self._told("seconds") else [])

    @property
    def note(self) -> str:
        """How the table is to be read."""
        within = [name for name in self.others if name not in CENTRAL]
        over = [self.main, *(name for name in self.others if name in CENTRAL)]
        text = f"Averaged over cases: {', '.join(over)}"
        text += f"; and of the values within each case {', '.join(within)}. " if within else ". "
        if any(summary.stand_in for summary in self._all):
            text += f"Where a method has no {self.main}, what stands in its place is named beside it. "
        line = " the line its spread within a case," if any(s.reach for s in self._all) else ""
        return (
            f"{text}In the drawings each dot is a case,{line} the upright stroke the mean. Sorted by "
            f"{self.main}, the largest first: whether large is good depends on the metric."
        )

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

    def _spread(self, entry: str, summary: Summary, write: Callable[[float | None], str]) -> Cell:
        """Return the drawing of value and spread; what is infinite is not on it."""
        dots = [value for value in summary.values if np.isfinite(value)]
        if not dots:
            return Cell("infinite" if summary.values else MISSING, kind="missing")
        low, high = scale(self._all_values())

        def place(value: float) -> float:
            return round(100 * (value - low) / (high - low), 2)

        text = f"{entry}: {summary.stand_in or self.main} {write(summary.mean)}"
        reach, centre = summary.reach, summary.mean
        if reach:
            text += f", within a case {write(reach[0])} to {write(reach[1])}"
        drawing = Drawing(
            tuple(map(place, dots)),
            place(centre) if centre is not None and np.isfinite(centre) else None,
            None if reach is None else (place(reach[0]), place(reach[1])),
            place(0.0) if low <= 0 <= high else None,
            text,
        )
        return Cell("", key=centre, drawing=drawing)


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


def _others(every: pd.DataFrame, found: Mapping[str, Mapping[str, Summary]]) -> list[str]:
    """Return the statistics beside those that stand for the metric."""
    told = {name for run in found.values() for summary in run.values() for name in summary.others}
    return [name for name in dict.fromkeys(map(str, every["statistic"])) if name in told]


def _rank(entry: str, found: Mapping[str, Mapping[str, Summary]]) -> tuple[bool, float]:
    """Return what an entry is sorted by: missing ones last, the largest first."""
    means = [run[entry].mean for run in found.values() if run[entry].mean is not None]
    return (not means, -means[0] if means else 0.0)


def _percentile(name: str) -> float | None:
    found = re.fullmatch(r"[pq](\d+(?:\.\d+)?)", name)
    return float(found[1]) if found else None
