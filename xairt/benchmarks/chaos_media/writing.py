"""Writing the files of a part in parallel threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from xairt.benchmarks.chaos_media.metadata import FILE, write_rows
from xairt.errors import DataError
from xairt.progress import bar

THREADS = 4
"""Threads that draw and compress: most of the work is done outside of Python."""

_AT_ONCE = 64


def write_part(
    folder: Path,
    n: int,
    write_one: Callable[[int], Sequence[Any]],
    columns: Sequence[str],
    *,
    label: str,
    progress: bool = False,
) -> None:
    """Write n samples into a folder, and ``metadata.csv`` last: without it the folder is no data set.

    Parameters
    ----------
    folder : Path
        A ``metadata.csv`` that it holds is removed first.
    n : int
    write_one : callable
        From the number of a sample to its row; writes its file into the folder. Called from several threads.
    columns : sequence of str
        Of the rows.
    label : str
        Before the progress bar.
    progress : bool

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).unlink(missing_ok=True)
        rows: list[Sequence[Any]] = []
        with ThreadPoolExecutor(THREADS) as pool, bar(n, label, progress) as advance:
            for start in range(0, n, _AT_ONCE):  # a few at once, so that an interruption ends soon
                for row in pool.map(write_one, range(start, min(start + _AT_ONCE, n))):
                    rows.append(row)
                    advance()
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror}); check the place and its free space"
        ) from error
    write_rows(folder, columns, rows)
