"""Reading and writing WAV files of 16 bit."""

from __future__ import annotations

import os
import struct
import warnings
import wave
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.data.files import existing_file
from xairt.errors import DataError, reason_of

RATE = 16_000
"""Samples per second."""

_FULL = 2**15
_SCALES = {"i2": 2.0**15, "i4": 2.0**31, "f4": 1.0, "f8": 1.0}


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
        If the file is missing, damaged, empty, or of another coding than 8-, 16- or 32-bit PCM or floats.
    """
    from scipy.io import wavfile

    source = existing_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", wavfile.WavFileWarning
            )  # of notes that a file holds beside its sound
            rate, levels = wavfile.read(source)
    except (OSError, ValueError, EOFError, MemoryError, struct.error, ArithmeticError) as error:
        raise DataError(f"{source}: damaged or no WAV file ({reason_of(error, 120)}); restore it") from error
    if levels.dtype == np.uint8:
        values = (levels.astype(np.float32) - 128) / 128
    elif levels.dtype.str[1:] in _SCALES:
        values = (levels / _SCALES[levels.dtype.str[1:]]).astype(np.float32)
    else:
        raise DataError(f"{source}: holds {levels.dtype} values; write it as 16-bit PCM")
    if not values.size or not np.isfinite(values).all():
        raise DataError(f"{source}: holds no sound or one that is not finite; remove or replace it")
    return int(rate), values.reshape(len(values), -1)


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
