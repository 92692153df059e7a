"""One step of a run: its files appear all at once or not at all, and its record tells what it took."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xairt.data.provenance import fixed_time, sha256_of
from xairt.errors import ClusterError, DataError, XairtError, reason_of
from xairt.runs.manifest import Manifest, Record

log = logging.getLogger(__name__)

LONGEST_REASON = 2000
"""Characters of an error's text that are kept; the log has all of it, with the traceback, at level DEBUG."""


def carry_out(
    manifest: Manifest,
    step: str,
    inputs: str,
    place: Path,
    work: Callable[[Path], Mapping[str, Any] | None],
) -> bool:
    """Let a step write its files into a folder of its own, then move them to their place and record them.

    A failure is logged and recorded; the files of the step before stay as they were.

    Parameters
    ----------
    manifest : Manifest
        Of the run.
    step : str
        Name of the step.
    inputs : str
        Hash of what it depends on.
    place : Path
        Folder that gets its files.
    work : callable
        Writes files into the folder it is given; may return facts for the record. What it writes tells the
        time at which the run was begun, so that the same work done again makes the same files.

    Returns
    -------
    bool
        Whether it succeeded.
    """
    staging = place / f".{step.replace('/', '-')}.part"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    begun = time.perf_counter()
    try:
        with peak_memory() as peak, fixed_time(manifest.created):
            facts = work(staging) or {}
        files = {file.relative_to(staging): sha256_of(file) for file in _files(staging)}
        _refuse_others(manifest, step, [place / name for name in files])
        _move(manifest, step, staging, place, files)
    except ClusterError:  # nothing can be done without it
        raise
    except (Exception, SystemExit) as error:
        log.debug("%s failed", step, exc_info=True)
        reason = reason_of(error, LONGEST_REASON)
        reason = reason if isinstance(error, XairtError) else f"{type(error).__name__}: {reason}"
        log.error("%s failed: %s", step, reason)
        if not manifest.is_current(step, inputs):  # else it was forced, and what it had made is still right
            manifest.put(
                step, Record(inputs, manifest.hashes(step), time.perf_counter() - begun, error=reason)
            )
        return False
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    outputs = {str((place / name).relative_to(manifest.folder)): value for name, value in files.items()}
    manifest.put(
        step, Record(inputs, outputs, time.perf_counter() - begun, peak_memory=peak(), facts=dict(facts))
    )
    return True


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _refuse_others(manifest: Manifest, step: str, files: Sequence[Path]) -> None:
    """Raise `DataError` if a file is another step's, which would be taken for damaged from then on."""
    owners = {name: other for other in manifest.records for name in manifest.hashes(other) if other != step}
    for file in files:
        name = str(file.relative_to(manifest.folder))
        if name in owners:
            raise DataError(f"{step} writes {name}, a file of {owners[name]}; give it another name")


def _move(manifest: Manifest, step: str, staging: Path, place: Path, files: Mapping[Path, str]) -> None:
    """Put files in their place; while some are new and some old, the manifest knows none of them."""
    before = manifest.hashes(step)
    manifest.drop([step])
    for name in files:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / name, place / name)
    for name in before:
        old = manifest.folder / name
        if old.is_relative_to(place) and old.relative_to(place) not in files:
            old.unlink(missing_ok=True)


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Give a function that returns the process's largest resident memory since, in bytes; 0 if not known."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: begin the count anew
    yield _high_water_mark


def _high_water_mark() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0
