"""Progress bars of long work: shown on a terminal, silent elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def bar(total: int | None, label: str, show: bool, done: int = 0) -> Iterator[Callable[..., None]]:
    """Give a function that advances a progress bar by one and shows a note beside it.

    The bar shows the steps done, the time taken and the time left, and the rate of steps.

    Parameters
    ----------
    total : int or None
        Number of steps; None where it is not known.
    label : str
        Text before the bar.
    show : bool
        False shows nothing; nor does True where standard error is no terminal.
    done : int
        Steps done before, which count for neither the time left nor the rate.
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
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as shown:
        task = shown.add_task(label, total=total, completed=done, note="", rate="")

        def advance(note: str = "") -> None:
            shown.update(task, advance=1, note=note)
            shown.update(task, rate=rate(shown.tasks[0].speed))

        yield advance


def rate(speed: float | None) -> str:
    """Return a rate of steps as text.

    Examples
    --------
    >>> rate(12.345), rate(0.02), rate(None)
    ('12.3/s', '50 s each', '')
    """
    if not speed:
        return ""
    return f"{speed:.3g}/s" if speed >= 1 else f"{1 / speed:.3g} s each"


def track(items: Iterable[T], total: int, label: str, show: bool) -> Iterator[T]:
    """Yield the items under a progress bar; see `bar`."""
    with bar(total, label, show) as advance:
        for item in items:
            yield item
            advance()
