"""Tasks for the tests of the cluster: what workers import by name, and nothing slow to import."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xairt.errors import DataError


@dataclass(frozen=True)
class Item:
    """A number, a folder to leave marks in, and how long to take."""

    number: int
    folder: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Explained:
    """A block of samples and how to explain it."""

    method: str
    first: int = 0
    last: int = 300
    engine: str = "native"


def square(item: Item) -> int:
    """Take the time, leave a mark, return the square."""
    if item.folder:
        (Path(item.folder) / f"{item.number}-{time.time_ns()}").touch()
    time.sleep(item.seconds)
    return item.number**2


def fail_at_two(item: Item) -> int:
    """Raise at number 2."""
    if item.number == 2:
        raise DataError("block 2: holds NaN; mask it")
    return square(item)


def die_at_two(item: Item) -> int:
    """End the process at number 2, however often it is tried."""
    if item.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(item)


def die_once_at_two(item: Item) -> int:
    """End the process when number 2 is tried first."""
    mark = Path(item.folder) / "died"
    if item.number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item.number**2


def variable(name: str) -> str | None:
    """Return a variable of the worker's environment."""
    return os.environ.get(name)


def process_id(item: Any) -> int:
    """Return the worker's process."""
    return os.getpid()


def load_tensorflow(item: Any) -> None:
    """Let it look as if TensorFlow were loaded."""
    sys.modules.setdefault("tensorflow", sys)


def explained(block: Explained) -> np.ndarray:
    """Return the attribution of some samples for a seeded network."""
    import xairt
    from xairt.models.architectures import mamalakis2022

    x = np.random.default_rng(0).normal(size=(1000, 458)).astype("float32")[block.first : block.last]
    index = range(block.first, block.last)
    made = xairt.explainer(mamalakis2022(458, seed=0), block.method, engine=block.engine)
    return made(x, seed=3, sample_index=index)["attribution"].values


def explained_by_another_package(block: Explained) -> tuple[np.ndarray, list[int]]:
    """Return an attribution and the processes of the package."""
    from xairt.attribution.legacy import client

    return explained(block), [worker.process.pid for worker in client._workers.values() if worker.process]
