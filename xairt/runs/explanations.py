"""Attributions of a case, computed and written block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from xairt.runs.contract import Explanation


class Executor(Protocol):
    """Where blocks of samples are explained."""

    def map(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield task(item) for every item, in their order."""
        ...


class Serial:
    """Explains blocks here, one after the other."""

    def map(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield task(item) for every item, in their order."""
        return map(task, items)


def explain(
    explanation: Explanation,
    folder: Path,
    output: Path,
    inputs: str,
    executor: Executor,
    progress: bool = False,
) -> Mapping[str, Any]:
    """Compute one attribution of a case and write it as ``output / explanation.file``."""
    raise NotImplementedError
