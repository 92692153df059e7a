"""Who has a score: labels, apart where one label was computed in several ways, and what stands for a metric."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

CENTRAL = ("mean", "median", "value")
"""The statistic that stands for a metric is the first of these that it has, else its first. A method that lacks
it is shown by the first of these that it has itself."""

ENTRY = "entry"
"""Column with the name of a method in the report."""

WAYS = ("engine", "convention")


def with_entries(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Return the scores of each run with the column `ENTRY`.

    It is the label; where a run has one metric of one label in several engines or conventions (or in one case by
    several methods), these are named.

    Parameters
    ----------
    tables : sequence of pandas.DataFrame
        Scores of each run; a name means the same in all.
    """
    ways: dict[str, dict[str, None]] = {}
    for table in tables:
        for (label, _), rows in table.groupby(["label", "metric"], sort=False):
            found = [way for way in WAYS if rows[way].nunique(dropna=False) > 1]
            if (rows.groupby("case")["method"].nunique() > 1).any():
                found.append("method")
            ways.setdefault(str(label), {}).update(dict.fromkeys(found))
    return [table.assign(**{ENTRY: _entries(table, ways)}) for table in tables]


def _entries(table: pd.DataFrame, ways: dict[str, dict[str, None]]) -> list[str]:
    names = []
    for row in table.to_dict("records"):
        label = str(row["label"])
        told = [f"{way} {row[way]}" if row[way] else f"no {way}" for way in ways[label]]
        names.append(f"{label} ({', '.join(told)})" if told else label)
    return names


def statistic(rows: pd.DataFrame) -> str:
    """Return the statistic that stands for a metric."""
    there = list(dict.fromkeys(map(str, rows["statistic"])))
    return next((name for name in CENTRAL if name in there), there[0] if there else CENTRAL[0])


def is_central(rows: pd.DataFrame, main: str) -> pd.Series:
    """Return which rows stand for their entry and case: those of the statistic `main`, or else of a `CENTRAL` one.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of one metric.
    main : str
        See `statistic`.
    """
    order = {name: rank for rank, name in reversed(list(enumerate((main, *CENTRAL))))}
    ranks = rows["statistic"].map(order).astype(float)
    return ranks.notna() & (ranks == ranks.groupby([rows[ENTRY], rows["case"]]).transform("min"))


def by_case(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each entry and case of rows that stand for them; equal ones are averaged."""
    totals = {"value": "mean", "statistic": "first", "n": lambda n: n.sum(min_count=1), "seconds": "mean"}
    return rows.groupby([ENTRY, "case"], sort=False).agg(totals)
