"""What made a file: versions, platform and time, and the hash of a file."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from xairt._version import __version__
from xairt.errors import DataError

_CHUNK_BYTES = 1 << 20

_fixed: ContextVar[str | None] = ContextVar("fixed_time", default=None)


@contextmanager
def fixed_time(moment: str) -> Iterator[None]:
    """Let `utc_time` tell one moment, so that the same work done again writes identical files.

    Parameters
    ----------
    moment : str
        As of `utc_time`.
    """
    token = _fixed.set(moment)
    try:
        yield
    finally:
        _fixed.reset(token)


def utc_time() -> str:
    """Return the UTC time as ``YYYY-MM-DDThh:mm:ssZ``.

    The environment variable ``SOURCE_DATE_EPOCH`` (seconds since 1970, reproducible-builds.org) replaces
    the clock, so that two runs can write identical files; within `fixed_time` it stands still.

    Returns
    -------
    str

    Raises
    ------
    DataError
        If ``SOURCE_DATE_EPOCH`` is not a whole number of seconds.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if (moment := _fixed.get()) is not None:
        return moment
    if epoch is None:
        moment = datetime.now(UTC)
    else:
        try:
            moment = datetime.fromtimestamp(int(epoch), UTC)
        except (ValueError, OverflowError, OSError):
            raise DataError(
                f"SOURCE_DATE_EPOCH={epoch}: no number of seconds since 1970; give a whole number or unset it"
            ) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def provenance() -> dict[str, str]:
    """Describe the program and machine that produce a result.

    Returns
    -------
    dict
        Texts under ``xairt``, ``python``, ``platform``, ``time`` (UTC, see `utc_time`), and the installed
        versions of ``numpy`` and ``tensorflow``; nothing is imported for it.

    Examples
    --------
    >>> sorted(set(provenance()) - {"numpy", "tensorflow"})
    ['platform', 'python', 'time', 'xairt']
    """
    record = {
        "xairt": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "time": utc_time(),
    }
    for package in ("numpy", "tensorflow"):
        with suppress(PackageNotFoundError):
            record[package] = version(package)
    return record


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, reading it in pieces.

    Parameters
    ----------
    path : path of a file of any size

    Returns
    -------
    str

    Raises
    ------
    DataError
        If the file is missing or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return digest.hexdigest()
