"""Writing and checking the files of a part in parallel threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from xairt.benchmarks.chaos_media.metadata import FILE, Samples, write_rows
from xairt.errors import DataError
from xairt.progress import bar

THREADS = 4
"""Threads that draw and compress: most of the work is done outside of Python."""

_AT_ONCE = 64

T = TypeVar("T")


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
        rows = list(_in_threads(write_one, n, label, progress))
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror}); check the place and its free space"
        ) from error
    write_rows(folder, columns, rows)


def check_files(parts: Sequence[Samples], check: Callable[[Path], None], progress: bool = False) -> None:
    """Check every file of some parts, so that a bad one is told before hours of work and not after them.

    Parameters
    ----------
    parts : sequence of Samples
    check : callable
        Raises DataError for a file that is not as it should be. Called from several threads.
    progress : bool

    Raises
    ------
    DataError
        That of the first bad file.
    """
    paths = [path for samples in parts for path in samples.paths]
    for _ in _in_threads(lambda number: check(paths[number]), len(paths), "checking files", progress):
        pass


def _in_threads(work: Callable[[int], T], n: int, label: str, progress: bool) -> Iterator[T]:
    """Give what is made of the numbers 0 to n - 1, in their order."""
    with ThreadPoolExecutor(THREADS) as pool, bar(n, label, progress) as advance:
        for start in range(0, n, _AT_ONCE):  # a few at once, so that an interruption ends soon
            for made in pool.map(work, range(start, min(start + _AT_ONCE, n))):
                yield made
                advance()
