"""Progress bars of long work: shown on a terminal, silent elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def columns() -> tuple:
    """Return the columns that every progress bar of xairt has."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )


def track(items: Iterable[T], total: int, label: str, show: bool) -> Iterator[T]:
    """Yield the items, with a progress bar on standard error if `show` and it is a terminal.

    Parameters
    ----------
    items : iterable
        What is worked through.
    total : int
        Number of items.
    label : str
        Text before the bar.
    show : bool
        False shows nothing.
    """
    if not (show and sys.stderr.isatty()):
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(*columns(), console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=total, note="")
        for item in items:
            yield item
            bars.advance(task)
