"""Reader of the binary files of the MITgcm (MDS): pairs of .data and .meta, with numpy alone."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.data.files import existing_file
from xairt.errors import DataError, suggest


@dataclass(frozen=True)
class MdsMeta:
    """What the .meta file of a MITgcm pair says.

    Attributes
    ----------
    shape : of one record, slowest dimension first
    dtype : big-endian float32 or float64
    records : number of records
    fields : names of the records; empty where none are given
    missing : value that marks missing ones, or None
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    records: int
    fields: tuple[str, ...]
    missing: float | None


def read_meta(path: str | os.PathLike[str]) -> MdsMeta:
    """Read the .meta file of a MITgcm pair.

    Parameters
    ----------
    path : path
        Of the .meta or .data file, or of both without suffix.

    Raises
    ------
    DataError
        If it is missing, lacks dimensions or precision, or describes a part of a field (output of one process).
    """
    file = _part(path, ".meta")
    text = file.read_text(encoding="latin-1")
    numbers = [int(n) for n in re.findall(r"-?\d+", _entry(text, "dimList", r"\[([^\]]*)\]", file))]
    rank = int(_entry(text, "nDims", r"\[\s*(\d+)\s*\]", file))
    if not rank or len(numbers) != 3 * rank:
        raise DataError(
            f"{file}: dimList has {len(numbers)} numbers for nDims = {rank}; fetch the file again"
        )
    sizes, first, last = numbers[::3], numbers[1::3], numbers[2::3]
    if first != [1] * rank or last != sizes or min(sizes) < 1:
        raise DataError(f"{file}: describes a part of a field; join the output of the processes first")
    precision = _entry(text, "(?:dataprec|format)", r"\[\s*'\s*(\w+)\s*'\s*\]", file)
    if precision not in ("float32", "float64"):
        raise DataError(f"{file}: precision '{precision}' is unknown; it must be float32 or float64")
    records = re.search(r"nrecords\s*=\s*\[\s*(\d+)\s*\]", text)
    fields = re.search(r"fldList\s*=\s*\{([^}]*)\}", text)
    missing = re.search(r"missingValue\s*=\s*\[\s*([-+.\dEeDd]+)\s*\]", text)
    return MdsMeta(
        shape=tuple(sizes[::-1]),
        dtype=np.dtype(precision).newbyteorder(">"),
        records=int(records[1]) if records else 1,
        fields=tuple(name.strip() for name in re.findall(r"'([^']*)'", fields[1])) if fields else (),
        missing=float(missing[1].upper().replace("D", "E")) if missing else None,
    )


def read_mds(path: str | os.PathLike[str], record: int | str | None = None) -> NDArray[np.floating]:
    """Read a MITgcm pair of .data and .meta files.

    Parameters
    ----------
    path : path
        Of the .data or .meta file, or of both without suffix.
    record : int or str, optional
        The record to read, by its position from 0 or its name in fldList; nothing else is read. By default all.

    Returns
    -------
    numpy.ndarray
        In the stored precision and the order of this machine's bytes, slowest dimension first, such as
        (1170, 90) for a field on LLC90; with a first dimension of records if there are several and all are
        read. NaN where the .meta file marks missing values.

    Raises
    ------
    DataError
        If a file is missing or damaged, the size of the data is not what the .meta file says, or there is no
        such record.
    """
    meta = read_meta(path)
    file = _part(path, ".data")
    expected = meta.records * int(np.prod(meta.shape)) * meta.dtype.itemsize
    size = file.stat().st_size
    if size != expected:
        state = "truncated" if size < expected else "longer than its .meta file says"
        raise DataError(f"{file}: {state} ({size:,} of {expected:,} bytes); fetch the pair again")
    count = int(np.prod(meta.shape))
    if record is None:
        shape = meta.shape if meta.records == 1 else (meta.records, *meta.shape)
        values = np.fromfile(file, meta.dtype).reshape(shape)
    else:
        skip = _record(meta, record, file) * count * meta.dtype.itemsize
        values = np.fromfile(file, meta.dtype, count, offset=skip).reshape(meta.shape)
    values = values.astype(meta.dtype.newbyteorder("="))
    if meta.missing is not None:
        values[values == values.dtype.type(meta.missing)] = np.nan
    return values


def iterations_to_dates(
    iterations: ArrayLike, *, time_step_seconds: float, start: str | np.datetime64
) -> NDArray[np.datetime64]:
    """Return the dates of iteration numbers of the MITgcm, in nanoseconds.

    Parameters
    ----------
    iterations
        (n,) whole numbers.
    time_step_seconds
        Seconds of one iteration.
    start
        Date of iteration 0 in the Gregorian calendar.

    Raises
    ------
    DataError
        If the step is not positive, or the start is no date.

    Examples
    --------
    >>> iterations_to_dates([732], time_step_seconds=3600, start="1992-01-01T12:00")
    array(['1992-02-01T00:00:00.000000000'], dtype='datetime64[ns]')
    """
    if not (np.isfinite(time_step_seconds) and time_step_seconds > 0):
        raise DataError(
            f"time_step_seconds={time_step_seconds}: must be positive; give the seconds of an iteration"
        )
    try:
        origin = np.datetime64(start, "ns")
    except ValueError:
        raise DataError(f"start={start!r}: is no date; give one such as '1992-01-01T12:00'") from None
    nanoseconds = np.rint(np.asarray(iterations) * (time_step_seconds * 1e9)).astype("timedelta64[ns]")
    return origin + nanoseconds


def _part(path: str | os.PathLike[str], suffix: str) -> Path:
    """Return the .meta or the .data file of a pair."""
    text = os.fspath(path)
    stem = text[:-5] if text.endswith((".meta", ".data")) else text
    return existing_file(stem + suffix)


def _entry(text: str, name: str, pattern: str, file: Path) -> str:
    found = re.search(rf"{name}\s*=\s*{pattern}", text)
    if found is None:
        word = "dataprec" if "dataprec" in name else name
        raise DataError(f"{file}: has no {word}; give the .meta file that the MITgcm wrote")
    return found[1]


def _record(meta: MdsMeta, record: int | str, file: Path) -> int:
    if isinstance(record, str):
        if record not in meta.fields:
            known = ", ".join(meta.fields) or "records without names"
            raise DataError(
                f"{file}: has no record '{record}'{suggest(record, meta.fields)}; it holds {known}"
            )
        return meta.fields.index(record)
    if not 0 <= record < meta.records:
        raise DataError(f"{file}: record {record} does not exist; it holds records 0 .. {meta.records - 1}")
    return record
