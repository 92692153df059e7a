"""The manifest of a run: what every finished step read, wrote and took."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter

from xairt.data.files import atomic_write
from xairt.data.provenance import provenance, sha256_of, utc_time
from xairt.errors import DataError

FORMAT = 1
"""Format of a run's folder; a newer one is refused."""

FILE = "manifest.json"

T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """One finished step.

    Attributes
    ----------
    inputs : str
        SHA-256 of everything that the step depends on.
    outputs : dict
        SHA-256 of every file it wrote, by its path relative to the run.
    seconds : float
        Wall-clock time.
    peak_memory : int
        Largest resident memory of the process during the step, bytes; 0 where the system does not tell.
    versions : dict
        See `xairt.data.provenance.provenance`.
    error : str
        Why the step failed; empty where it did not.
    facts : dict
        Numbers and texts that the step reports, such as its workers.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    inputs: str
    outputs: Mapping[str, str]
    seconds: float
    peak_memory: int = 0
    versions: Mapping[str, str] = field(default_factory=provenance)
    error: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Stored:
    """What the file holds."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    format: int
    benchmark: str
    created: str
    records: Mapping[str, Record]


@dataclass(frozen=True)
class _Format:
    """What the file of any format holds."""

    __pydantic_config__ = ConfigDict(strict=True)

    format: int


class Manifest:
    """The records of a run by step: ``<case>/<stage>``, ``<case>/explain/<label>``, or ``figures``.

    Every change is written at once, atomically.
    """

    def __init__(self, folder: Path, benchmark: str, created: str, records: Mapping[str, Record]) -> None:
        self.folder, self.benchmark, self.created = folder, benchmark, created
        self.records = dict(records)

    @classmethod
    def open(cls, folder: Path, benchmark: str | None = None) -> Manifest:
        """Read a run's manifest, or begin one where the folder holds none.

        Parameters
        ----------
        folder : Path
            Of the run.
        benchmark : str, optional
            The benchmark it must be of; without it the manifest must exist.

        Raises
        ------
        DataError
            If the manifest is damaged, of another benchmark, of a newer format, or missing.
        """
        path = folder / FILE
        if not path.exists():
            if benchmark is None:
                raise DataError(f"{folder}: no run (it holds no {FILE}); check the path")
            return cls(folder, benchmark, utc_time(), {})
        written = _read(path, _Format).format
        if written > FORMAT:
            raise DataError(
                f"{folder}: written by a newer xairt (format {written}, this one knows {FORMAT}); "
                "update xairt or choose another folder"
            )
        stored = _read(path, _Stored)
        if benchmark is not None and stored.benchmark != benchmark:
            raise DataError(
                f"{folder}: holds a run of '{stored.benchmark}', not of '{benchmark}'; choose another folder"
            )
        return cls(folder, stored.benchmark, stored.created, stored.records)

    def put(self, step: str, record: Record) -> None:
        """Enter a record in place of the one before, and write."""
        self.records[step] = record
        self.write()

    def drop(self, steps: Iterable[str]) -> None:
        """Take records out, and write if there were any."""
        known = [step for step in steps if self.records.pop(step, None) is not None]
        if known:
            self.write()

    def write(self) -> None:
        """Write the manifest."""
        records = {step: asdict(record) for step, record in self.records.items()}
        content = {"format": FORMAT, "benchmark": self.benchmark, "created": self.created, "records": records}
        with atomic_write(self.folder / FILE) as path:
            path.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")

    def is_current(self, step: str, inputs: str) -> bool:
        """Whether a step succeeded from the same inputs, and all it wrote is there unchanged."""
        record = self.records.get(step)
        return record is not None and not record.error and record.inputs == inputs and not self.damaged(step)

    def damaged(self, step: str) -> list[str]:
        """Return the files of a finished step that are missing or were changed."""
        record = self.records.get(step)
        return [
            name
            for name, expected in (record.outputs.items() if record else ())
            if not (self.folder / name).is_file() or sha256_of(self.folder / name) != expected
        ]

    def hashes(self, step: str) -> dict[str, str]:
        """Return the hashes of the files that a step wrote; empty where it has no record."""
        return dict(self.records[step].outputs) if step in self.records else {}


def digest(content: Any) -> str:
    """Return the SHA-256 of anything that JSON can hold; mappings are the same in any order."""
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _read(path: Path, kind: type[T]) -> T:
    try:
        return _adapter(kind).validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise DataError(
            f"{path}: damaged or no manifest; restore it, or delete it to let the run begin anew in its folder"
        ) from None


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
