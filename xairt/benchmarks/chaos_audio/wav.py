"""Reading and writing WAV files."""

from __future__ import annotations

import os
import struct
import wave
from dataclasses import dataclass
from io import BytesIO
from math import gcd
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.data.files import existing_file
from xairt.errors import DataError, reason_of

RATE = 16_000
"""Samples per second."""

PCM16 = "16-bit PCM"
"""Coding of the files that are written, and of data sets that networks are trained on."""

_FULL = 2**15
_SCALES = {"i2": 2.0**15, "i4": 2.0**31, "f4": 1.0, "f8": 1.0}
_CODINGS = {1: "PCM", 3: "floats"}
_ORDERS = {b"RIFF": "<", b"RIFX": ">"}
_FORMAT_BYTES, _PLAIN_BYTES = range(16, 1025), (16, 18)
_FIRST = 20


@dataclass(frozen=True)
class Header:
    """What a WAV file tells of itself before its sound.

    Attributes
    ----------
    coding : str
        `PCM16`, "32-bit floats" or others.
    rate : int
        Samples per second.
    channels : int
    length : int
        Samples in time.
    plain : bool
        Whether TensorFlow finds the sound: the format comes first, in 16 or 18 bytes, and no note of an odd number
        of bytes stands before the sound.
    """

    coding: str
    rate: int
    channels: int
    length: int
    plain: bool


@dataclass(frozen=True)
class _Layout:
    """Bytes of the format, and where the sound begins and how many bytes it has."""

    order: str
    format: bytes
    begin: int
    size: int
    plain: bool


def write_wav(path: str | os.PathLike[str], sound: ArrayLike) -> None:
    """Write a sound of 16 kHz as 16-bit PCM.

    Parameters
    ----------
    path : path
    sound : (time, channel)
        From -1 to 1; what lies beyond is cut.
    """
    values = np.asarray(sound, np.float32)
    levels = np.rint(values * _FULL).clip(-_FULL, _FULL - 1).astype("<i2")
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(levels.tobytes())


def read_wav(path: str | os.PathLike[str]) -> tuple[int, NDArray[np.float32]]:
    """Read a WAV file of any sample rate.

    Parameters
    ----------
    path : path

    Returns
    -------
    rate : int
        Samples per second.
    sound : (time, channel) float32
        From -1 to 1.

    Raises
    ------
    DataError
        If the file is missing, damaged, cut short, empty, or of another coding than 8-, 16- or 32-bit PCM or floats.
    """
    from scipy.io import wavfile

    source = existing_file(path)
    try:
        with source.open("rb") as stream:
            layout = _layout(stream)
            stream.seek(layout.begin)
            rate, levels = wavfile.read(_sound_alone(layout, stream.read(layout.size)))
    except (OSError, ValueError, EOFError, MemoryError, struct.error, ArithmeticError) as error:
        raise _damaged(source, error) from error
    if levels.dtype == np.uint8:
        values = (levels.astype(np.float32) - 128) / 128
    elif levels.dtype.str[1:] in _SCALES:
        values = (levels / _SCALES[levels.dtype.str[1:]]).astype(np.float32)
    else:
        raise DataError(f"{source}: holds {levels.dtype} values; write it as 16-bit PCM")
    if not values.size or not np.isfinite(values).all():
        raise DataError(f"{source}: holds no sound or one that is not finite; remove or replace it")
    return int(rate), values.reshape(len(values), -1)


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read what a WAV file tells of itself; the sound is not read.

    Raises
    ------
    DataError
        If the file is missing, damaged or cut short.
    """
    source = existing_file(path)
    try:
        with source.open("rb") as stream:
            layout = _layout(stream)
        tag, channels, rate, _, frame, bits = struct.unpack_from(layout.order + "HHIIHH", layout.format)
        length = layout.size // frame
    except (OSError, ValueError, struct.error, ArithmeticError) as error:
        raise _damaged(source, error) from error
    coding = f"{bits}-bit {_CODINGS.get(tag, f'values of format {tag}')}"
    coding = coding if layout.order == "<" else f"big-endian {coding}"
    return Header(coding, rate, channels, length, layout.plain)


def _damaged(source: Path, error: Exception) -> DataError:
    return DataError(f"{source}: damaged or no WAV file ({reason_of(error, 120)}); restore it")


def _layout(stream: BinaryIO) -> _Layout:
    """Find format and sound among the chunks of a file, and check that it does not end before its sound."""
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    first = stream.read(12)
    if first[:4] not in _ORDERS or first[8:] != b"WAVE":
        raise ValueError("it does not begin with RIFF and WAVE")
    order, format_, plain = _ORDERS[first[:4]], b"", True
    while True:
        name, size = struct.unpack(order + "4sI", stream.read(8))
        begin = stream.tell()
        if begin + size > end:
            raise ValueError(f"it ends {begin + size - end} bytes too early")
        if name == b"data" and format_:
            return _Layout(order, format_, begin, size, plain)
        if name == b"fmt ":
            if size not in _FORMAT_BYTES:
                raise ValueError(f"its format has {size} bytes")
            format_ = stream.read(size)
            plain &= begin == _FIRST and size in _PLAIN_BYTES
        plain &= size % 2 == 0
        stream.seek(begin + size + size % 2)


def _sound_alone(layout: _Layout, sound: bytes) -> BytesIO:
    """Return a WAV file without the notes that it may hold beside its sound."""
    word = struct.Struct(layout.order + "I")
    body = b"WAVE"
    for name, content in ((b"fmt ", layout.format), (b"data", sound)):
        body += name + word.pack(len(content)) + content + b"\0" * (len(content) % 2)
    kind = next(name for name, order in _ORDERS.items() if order == layout.order)
    return BytesIO(kind + word.pack(len(body)) + body)


def resampled(sound: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return a sound (time, ...) of some sample rate at 16 kHz, by a polyphase filter.

    Examples
    --------
    >>> resampled(np.zeros(8000, np.float32), 8000).shape
    (16000,)
    """
    from scipy.signal import resample_poly

    if rate == RATE:
        return sound
    common = gcd(RATE, rate)
    return resample_poly(sound, RATE // common, rate // common, axis=0).astype(np.float32)


def one_second(path: str | os.PathLike[str] | Path) -> NDArray[np.float32]:
    """Return the first second of a recording, (16000,) float32 at 16 kHz.

    Several channels are averaged, others rates resampled, and shorter recordings followed by silence.

    Raises
    ------
    DataError
        As `read_wav`.
    """
    rate, sound = read_wav(path)
    return fitted(resampled(sound[: 2 * rate].mean(axis=1), rate))


def fitted(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a sound (time,) cut, or followed by silence, to one second."""
    made = np.zeros(RATE, np.float32)
    made[: len(sound)] = sound[:RATE]
    return made
