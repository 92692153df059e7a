"""``metadata.csv``: which file of a folder holds which sample, with its label and position.

A folder is given by others and may hold anything: each path is checked before a file is opened.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.chaos_media.variants import PARTS, checked_part
from xairt.data.files import atomic_write, existing_file
from xairt.errors import DataError, reason_of

FILE = "metadata.csv"
FILE_NAME = "file_name"

FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}
"""Names of the folder of a part; the first one is written."""

_WHOLE = re.compile(r"[0-9]+(\.0*)?")


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of a folder: where they are, not what is in them.

    Attributes
    ----------
    folder : pathlib.Path
    files : (n,) str
        Paths within the folder, with ``/``.
    label : (n,) int64
        Indices of `classes`.
    position : (n, 2) or (n,) int64
        Of images row and column of the foreground's upper left corner; of sounds the foreground's channel.
    classes : tuple of str
    """

    folder: Path
    files: NDArray[np.str_]
    label: NDArray[np.int64]
    position: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Self:
        """Return some of the samples: a slice, indices, or a mask."""
        return replace(self, files=self.files[rows], label=self.label[rows], position=self.position[rows])

    @property
    def paths(self) -> list[Path]:
        """The files with their folder."""
        return [self.folder / name for name in self.files]


def part_folder(folder: str | os.PathLike[str], part: str) -> Path:
    """Return the folder of a part that is there.

    Parameters
    ----------
    folder : path
        Of the data set.
    part : {"train", "test"}
        The test part may be called ``test``, ``val`` or ``validation``.

    Raises
    ------
    DataError
        If there is none with a ``metadata.csv``.
    """
    checked_part(part)
    for name in FOLDERS[part]:
        if (Path(folder) / name / FILE).is_file():
            return Path(folder) / name
    names = " or ".join(f"{name}/{FILE}" for name in FOLDERS[part])
    raise DataError(f"{folder}: has no {names}; give the folder above {' and '.join(PARTS)}")


def write_rows(folder: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write ``metadata.csv`` of a folder, atomically.

    Parameters
    ----------
    folder : Path
    columns : sequence of str
        The first one is ``file_name``.
    rows : sequence
        Values of each sample.
    """
    with atomic_write(folder / FILE) as path, open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_rows(folder: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Give the rows of a folder's ``metadata.csv`` whose files are there and safe to open.

    Parameters
    ----------
    folder : path
    columns : sequence of str
        That must be there beside ``file_name``; others are passed on too.

    Yields
    ------
    where : str
        File and line, for messages.
    row : dict
        Texts by column.

    Raises
    ------
    DataError
        If the file is missing, no CSV, lacks a column, names one twice or has no row; or if a row lacks a value, or
        names a file that is missing, named twice, or outside the folder: by an absolute path, by ``..``, or by a link.
    """
    source = existing_file(Path(folder) / FILE)
    root = os.path.realpath(folder)
    seen: set[str] = set()
    for line, row in _texts(source, (FILE_NAME, *columns)):
        where = f"{source} line {line}"
        name = row[FILE_NAME]
        _check_file(root, name, where)
        same = str(PurePosixPath(name))
        if same in seen:
            raise DataError(f"{where}: names '{name}' a second time; keep one row for each file")
        seen.add(same)
        yield where, row
    if not seen:
        raise DataError(f"{source}: has no row; write one for each file")


def whole_number(row: Mapping[str, str], column: str, limit: int, where: str) -> int:
    """Return a column of a row as an integer from 0 to below a limit.

    Parameters
    ----------
    row : mapping
    column : str
    limit : int
        First number that is too large.
    where : str
        File and line, for the message.

    Raises
    ------
    DataError
        If it is no such number.

    Examples
    --------
    >>> whole_number({"position_x": "96.0"}, "position_x", 193, "metadata.csv line 2")
    96
    """
    text = row[column].strip()
    if not _WHOLE.fullmatch(text) or float(text) >= limit:
        raise DataError(
            f"{where}: {column} is {row[column][:40]!r}, out of range; give a whole number from 0 to {limit - 1}"
        )
    return int(float(text))


def _texts(source: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Give line and columns of each row."""
    try:
        with open(source, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{source}: lacks the column {', '.join(missing)}; name it in the first line")
            for name, count in Counter(reader.fieldnames).items():
                if count > 1:
                    raise DataError(f"{source}: names the column '{name[:80]}' twice; keep one of them")
            for row in reader:
                empty = [name for name in needed if not row[name]]
                if empty or None in row:
                    reason = f"has no {', '.join(empty)}" if empty else "has more values than columns"
                    raise DataError(
                        f"{source} line {reader.line_num}: {reason}; give one value for each column"
                    )
                yield reader.line_num, {name: text or "" for name, text in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source}: no table of text ({reason_of(error, 120)}); write it as CSV") from error


def _check_file(root: str, name: str, where: str) -> None:
    shown = repr(name[:80])
    path = PurePosixPath(name)
    if (
        "\0" in name
        or "\\" in name
        or path.is_absolute()
        or ".." in path.parts
        or ":" in name.partition("/")[0]
    ):
        raise DataError(
            f"{where}: file_name {shown} leads out of the folder; give a path within it, with '/'"
        )
    found = os.path.realpath(os.path.join(root, name))
    if not found.startswith(root.rstrip(os.sep) + os.sep):
        raise DataError(f"{where}: file_name {shown} is a link out of the folder; put the file itself there")
    if not os.path.isfile(found):
        raise DataError(f"{where}: file_name {shown} is no file; restore it or leave the row out")
