"""A lock against two processes that work in one run's folder."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xairt.data.provenance import utc_time
from xairt.errors import DataError

FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder; the system frees it when the process ends, however it ends.

    Raises
    ------
    DataError
        If another process holds it, which the message names, or the folder cannot be written.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    with file as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held.seek(0)
            raise DataError(
                f"{folder}: {_owner(held.read())} works here; wait for it or choose another folder"
            ) from None
        held.truncate(0)
        held.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": utc_time()}))
        held.flush()
        yield


def _owner(text: str) -> str:
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
