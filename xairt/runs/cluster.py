"""Where attributions are computed: here, or on a dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xairt.runs.explanations import Executor, Serial


@contextmanager
def executor(dask: str | None) -> Iterator[Executor]:
    """Give the executor for ``--dask``: None computes here."""
    yield Serial()
