"""Progress bars of long work: shown on a terminal, silent elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def bar(total: int, label: str, show: bool) -> Iterator[Callable[..., None]]:
    """Give a function that advances a progress bar by one and shows a note beside it.

    Parameters
    ----------
    total : int
        Number of steps.
    label : str
        Text before the bar.
    show : bool
        False shows nothing; nor does True where standard error is no terminal.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield lambda note="": None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as shown:
        task = shown.add_task(label, total=total, note="")
        yield lambda note="": shown.update(task, advance=1, note=note)


def track(items: Iterable[T], total: int, label: str, show: bool) -> Iterator[T]:
    """Yield the items under a progress bar; see `bar`."""
    with bar(total, label, show) as advance:
        for item in items:
            yield item
            advance()
