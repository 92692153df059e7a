"""Tables as a page shows them: numbers with their digits, and what was not computed said in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

MISSING = "not computed"
"""Shown in place of every value that is not there."""

FOLDED_ROWS = 60
"""A table of more rows is folded at first."""


@dataclass(frozen=True)
class Drawing:
    """Value and spread of a score on a scale from 0 to 100.

    Attributes
    ----------
    dots : tuple of float
        The value of each case.
    centre : float or None
        Their mean; None where it is not on the scale.
    reach : tuple of float or None
        Lower and upper end of the spread within the cases.
    zero : float or None
        Where 0 lies; None where it is not on the scale.
    text : str
        The same in words.
    """

    dots: tuple[float, ...]
    centre: float | None
    reach: tuple[float, float] | None
    zero: float | None
    text: str


@dataclass(frozen=True)
class Cell:
    """One cell: its text, the number it is sorted by, its kind (a class of the stylesheet) and its drawing."""

    text: str
    key: float | None = None
    kind: str = ""
    drawing: Drawing | None = None

    @property
    def sort_key(self) -> str:
        """The number it is sorted by as a script reads it; empty where there is none."""
        return "" if self.key is None else str(self.key).replace("inf", "Infinity")


@dataclass(frozen=True)
class Column:
    """One column; `numeric` ones are set to the right, `first` ones begin a group.

    Columns of drawings are not `sortable`.
    """

    name: str
    numeric: bool = False
    sortable: bool = True
    first: bool = False

    @property
    def kind(self) -> str:
        """Classes of the stylesheet."""
        return " ".join(filter(None, ("number" if self.numeric else "", "first" if self.first else "")))


@dataclass(frozen=True)
class Row:
    """Cells, and a mark that stands in the first one (such as "control")."""

    cells: tuple[Cell, ...]
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption; `groups` are headings over several columns, as (text, number of columns)."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    groups: tuple[tuple[str, int], ...] = ()
    note: str = ""

    @property
    def folded(self) -> bool:
        """Whether the table is too long to stand open."""
        return len(self.rows) > FOLDED_ROWS


def number_format(values: Iterable[float | None]) -> Callable[[float | None], str]:
    """Return how to write the numbers of a column: alike, with about three digits of the largest.

    Examples
    --------
    >>> [number_format([0.5, 0.81234])(v) for v in (0.5, 0.81234, float("-inf"), None)]
    ['0.500', '0.812', '-inf', 'not computed']
    >>> number_format([1234.5])(1234.5), number_format([3e-7])(3e-7), number_format([7.25])(7.25)
    ('1,234', '3.00e-07', '7.250')
    """
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    if largest and not 1e-3 <= largest < 1e7:
        pattern = "{:.2e}"
    else:
        exponent = math.floor(math.log10(largest)) if largest else 0
        decimals = 3 if exponent in (-1, 0) else max(0, 2 - exponent)
        pattern = f"{{:,.{decimals}f}}"
    return lambda value: MISSING if _absent(value) else pattern.format(value)


def number(value: float | None, write: Callable[[float | None], str], kind: str = "") -> Cell:
    """Return the cell of a number; one that is missing or NaN is told in words."""
    if _absent(value):
        return Cell(MISSING, kind="missing")
    return Cell(write(value), key=float(value), kind=kind)


def naming(cell: Cell, statistic: str) -> Cell:
    """Return a number's cell with the name of the statistic that it is, where there is one to tell."""
    return replace(cell, text=f"{cell.text} ({statistic})") if statistic and cell.key is not None else cell


def numbers(values: Iterable[float | None]) -> list[Cell]:
    """Return the cells of a column of numbers."""
    column = list(values)
    write = number_format(column)
    return [number(value, write) for value in column]


def count(value: float | None) -> Cell:
    """Return the cell of a whole number."""
    return number(value, "{:,.0f}".format)


def seconds(value: float | None) -> Cell:
    """Return the cell of a time in seconds."""
    return number(value, "{:,.1f}".format)


def size(n_bytes: float) -> Cell:
    """Return the cell of a size in bytes; 0 is a size that nobody measured.

    Examples
    --------
    >>> size(2_500_000).text, size(0).text
    ('2.5 MB', 'not computed')
    """
    if not n_bytes:
        return Cell(MISSING, kind="missing")
    steps = min(int(math.log10(n_bytes)) // 3, 4)
    text = f"{n_bytes / 1000**steps:.{1 if steps else 0}f} {('B', 'kB', 'MB', 'GB', 'TB')[steps]}"
    return Cell(text, key=float(n_bytes))


def _absent(value: float | None) -> bool:
    return value is None or math.isnan(value)
