"""Tables as CSV files, and the scaling of their columns."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.data.files import existing_file
from xairt.errors import DataError, reason_of, suggest

if TYPE_CHECKING:
    import pandas as pd

LEAST_ROWS = 10
"""Rows that a table must have: fewer cannot be split into three parts."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Table:
    """A table of numbers with a target.

    Attributes
    ----------
    names : tuple of str
        Of the features, in the order of the file.
    x : (samples, features) float64
    y : (samples,) float64
    target : str
        Name of y.
    """

    names: tuple[str, ...]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    target: str


@dataclass(frozen=True, eq=False)
class Scaling:
    """Mean and standard deviation of the training part, by which all samples are standardised.

    Attributes
    ----------
    mean, sd : (features,) or () float64
        The standard deviation divides by n; 1 where a column is constant.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        """Return the scaling of the training part (samples, features) or (samples,).

        Examples
        --------
        >>> Scaling.of([[1.0, 5.0], [3.0, 5.0]]).apply([[3.0, 5.0]])
        array([[1., 0.]])
        """
        array = np.asarray(values, np.float64)
        sd = array.std(axis=0)
        return cls(array.mean(axis=0), np.where(np.ptp(array, axis=0) == 0, 1.0, sd))

    def apply(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return standardised values."""
        return (np.asarray(values, np.float64) - self.mean) / self.sd


def read_table(path: str | os.PathLike[str], target: str) -> Table:
    """Read a CSV file: one column is the target, all others are features.

    Parameters
    ----------
    path : path
        UTF-8, columns separated by commas, their names in the first line. Columns hold numbers (True and False do).
    target : str
        Name of the target's column.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        If the file is missing or no such table, a column has no name or the name of another, holds what is no finite
        number, the target is missing or constant, or there are fewer than `LEAST_ROWS` rows.
    """
    import pandas as pd

    source = existing_file(path)
    _require_header(source)
    try:
        frame = pd.read_csv(source, float_precision="round_trip", skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{source}: no table ({reason_of(error, 100)}); write columns separated by commas"
        ) from None
    frame.columns = [str(name).strip() for name in frame.columns]
    if target not in frame:
        raise DataError(
            f"{source}: no column '{target}'{suggest(target, frame.columns)}; name the target's column with target="
        )
    if len(frame.columns) < 2:
        raise DataError(f"{source}: no column beside '{target}'; give features")
    if len(frame) < LEAST_ROWS:
        raise DataError(f"{source}: has {len(frame)} rows; give {LEAST_ROWS} or more")
    columns = {name: _numbers(source, frame[name]) for name in frame}
    y = columns.pop(target)
    if np.ptp(y) == 0:
        raise DataError(f"{source}: column '{target}' is constant; name another target")
    return Table(tuple(columns), np.stack(list(columns.values()), axis=1), y, target)


def _require_header(source: Path) -> None:
    rows = _rows(source)
    names = [name.strip() for name in next(rows, (1, []))[1]]
    line, first = next(rows, (2, []))
    if not names:
        raise DataError(f"{source}: is empty; write the names of columns in the first line")
    if len(first) > len(names):  # pandas takes columns without a name for labels of rows
        raise DataError(
            f"{source}: line {line} has {len(first)} columns, line 1 names {len(names)}; name each column once"
        )
    for number, name in enumerate(names, start=1):
        if not name:
            raise DataError(
                f"{source}: column {number} has no name; name it, or leave it out if it counts rows"
            )
        if names.count(name) > 1:
            raise DataError(f"{source}: column '{name}' stands there twice; name each column once")


def _rows(source: Path) -> Iterator[tuple[int, list[str]]]:
    """Give the header and the rows of a table, each with the line in which it begins; pandas too skips blank lines."""
    try:
        with source.open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.reader(stream)
            before = 0
            for row in lines:
                blank = not row or (len(row) == 1 and row[0].isspace())
                if before == 0 or not blank:
                    yield before + 1, row
                before = lines.line_num
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DataError(f"{source}: no text of columns ({reason_of(error, 60)}); write UTF-8") from None


def _line(source: Path, wrong: NDArray[np.bool_]) -> int:
    """Return the line of a file with the first row that is wrong."""
    lines = [line for line, _ in _rows(source)]
    return lines[min(int(wrong.argmax()) + 1, len(lines) - 1)]


def _numbers(source: Path, column: pd.Series) -> NDArray[np.float64]:
    import pandas as pd

    missing = column.isna().to_numpy()
    if missing.any():
        raise DataError(
            f"{source}: column '{column.name}' has no value in {missing.sum()} rows, the first in line "
            f"{_line(source, missing)}; fill or remove them"
        )
    # integers of many digits are no integers of pandas, and yet numbers
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    wrong = np.isnan(values)
    if wrong.any():
        shown = " ".join(str(column.iloc[int(wrong.argmax())]).split())[:40]
        raise DataError(
            f"{source}: column '{column.name}' holds '{shown}' in line {_line(source, wrong)}, which is no "
            "number; encode it as numbers, or leave the column out"
        )
    if not (np.abs(values) <= _LARGEST).all():
        raise DataError(
            f"{source}: column '{column.name}' holds numbers beyond {_LARGEST:.2g}; use other units"
        )
    return values
