"""Sounds of ten channels, one of which holds a spoken word, written as WAV with ``metadata.csv`` and read back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.chaos_audio.wav import PCM16, RATE, read_header, read_wav, write_wav
from xairt.benchmarks.chaos_audio.words import SYNTHETIC, Split, Words, background, recordings, words
from xairt.benchmarks.chaos_media.metadata import (
    FILE_NAME,
    FOLDERS,
    Samples,
    part_folder,
    read_rows,
    whole_number,
)
from xairt.benchmarks.chaos_media.variants import (
    PARTS,
    Variant,
    checked_count,
    checked_part,
    variant_of,
)
from xairt.benchmarks.chaos_media.writing import write_part
from xairt.errors import DataError
from xairt.keys import generator_of, noise_keys

if TYPE_CHECKING:
    import xarray as xr

N_CHANNELS = 10
FIXED_CHANNEL = 0
"""Channel of the word where the position is fixed."""

NOISE = 0.25
"""Standard deviation of the noise, which is cut at -1 and 1."""

LABEL, CHANNEL = "label", "position"
"""Columns of ``metadata.csv``."""

_ORDER = 1


@dataclass(frozen=True, eq=False)
class Mixing:
    """All that sounds of a part are mixed from; see `mixing`."""

    variant: Variant
    part_number: int
    seed: int
    words: Words
    recordings: tuple[str, ...]
    order: NDArray[np.integer]

    def sound(self, number: int) -> tuple[NDArray[np.float32], int, int]:
        """Return the sound of a number, which depends on nothing else.

        Parameters
        ----------
        number : int
            Counted from 0. The words follow each other in a random order, and then begin anew.

        Returns
        -------
        sound : (16000, 10) float32
            Time, channel; from -1 to 1.
        label : int
        channel : int
            That of the word.

        Raises
        ------
        DataError
            If a recording is damaged.
        """
        random = generator_of((self.seed, number), 2 + self.part_number)
        channel = int(random.integers(N_CHANNELS)) if self.variant.random_position else FIXED_CHANNEL
        if self.variant.structural:
            made = np.stack([background(self.recordings, random) for _ in range(N_CHANNELS)], axis=1)
        else:
            made = (NOISE * random.standard_normal((RATE, N_CHANNELS), np.float32)).clip(-1, 1)
        chosen = int(self.order[number % len(self.order)])
        made[:, channel] = self.words.clip(chosen)
        return made, int(self.words.label[chosen]), channel


def mixing(
    variant: str | Variant,
    part: str = "train",
    *,
    seed: int = 0,
    words_of: str | os.PathLike[str] = SYNTHETIC,
    split: Split = "take",
    recordings_of: str | os.PathLike[str] | None = None,
) -> Mixing:
    """Return what mixes the sounds of a part.

    Parameters
    ----------
    variant : {"RBFP", "RBRP", "SBFP", "SBRP"} or Variant
        Noise is normal, of standard deviation 0.25, cut at -1 and 1; recordings are divided by their 99 % amplitude.
    part : {"train", "test"}
        They share neither a clip of a word nor a recording.
    seed : int
        From 0 to 2**31 - 1.
    words_of : str or path
    split : {"speaker", "take"}
        See `xairt.benchmarks.chaos_audio.words.words`.
    recordings_of : path, optional
        Folder of recordings, for structural backgrounds; by default synthetic calls. See
        `xairt.benchmarks.chaos_audio.words.background`.

    Returns
    -------
    Mixing

    Raises
    ------
    DataError
        If an argument is not valid, recordings are given where noise is drawn, or a folder cannot be read.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, section 3.3.

    Examples
    --------
    >>> sound, label, channel = mixing("RBFP").sound(0)
    >>> sound.shape, channel
    ((16000, 10), 0)
    """
    chosen, number = variant_of(variant), checked_part(part)
    noise_keys(seed, None, 1)
    if recordings_of is not None and not chosen.structural:
        raise DataError(
            f"variant {chosen.name}: its background is noise; leave the recordings out, or give SB.."
        )
    spoken = words(words_of, part, split)
    beside = recordings(recordings_of, part) if chosen.structural else ()
    order = generator_of((seed, number), _ORDER).permutation(len(spoken))
    return Mixing(chosen, number, seed, spoken, beside, order)


def write_sounds(
    folder: str | os.PathLike[str],
    variant: str | Variant,
    n_train: int,
    n_test: int,
    *,
    seed: int = 0,
    words_of: str | os.PathLike[str] = SYNTHETIC,
    split: Split = "take",
    recordings_of: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Path:
    """Write a training and a test set: ``train/`` and ``test/``, each with ``label/*.wav`` and ``metadata.csv``.

    Parameters
    ----------
    folder : path
        Made if it is not there. 320 kB for each sound, 16-bit PCM.
    variant, seed, words_of, split, recordings_of
        As `mixing`.
    n_train, n_test : int
        Sounds of each part. The first ones do not depend on how many there are.
    progress : bool

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    DataError
        As `mixing`, or if the folder cannot be written.
    """
    counts = {"train": checked_count(n_train, "n_train"), "test": checked_count(n_test, "n_test")}
    sources = {"seed": seed, "words_of": words_of, "split": split, "recordings_of": recordings_of}
    for part, n in counts.items():
        _write(Path(folder) / FOLDERS[part][0], mixing(variant, part, **sources), n, progress)
    return Path(folder)


def _write(folder: Path, mixed: Mixing, n: int, progress: bool) -> None:
    def write_one(number: int) -> list[Any]:
        sound, label, channel = mixed.sound(number)
        word = mixed.words.classes[label]
        (folder / word).mkdir(exist_ok=True)
        name = f"{word}/{number:06d}.wav"
        write_wav(folder / name, sound)
        return [name, word, channel]

    columns = [FILE_NAME, LABEL, CHANNEL]
    write_part(folder, n, write_one, columns, label=f"writing {folder.name}", progress=progress)


def read_sounds(folder: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Samples:
    """Read the ``metadata.csv`` of a folder of sounds; the sounds stay where they are.

    Parameters
    ----------
    folder : path
        Of one part, written by `write_sounds` or published.
    classes : sequence of str, optional
        Names of the labels; by default those that the folder has, sorted.

    Returns
    -------
    Samples

    Raises
    ------
    DataError
        If ``metadata.csv`` or a file is missing, a path leads out of the folder, a label is unknown, or there is
        no such channel.
    """
    rows = list(read_rows(folder, (LABEL, CHANNEL)))
    names = tuple(classes) if classes is not None else _classes(row for _, row in rows)
    number = {name: k for k, name in enumerate(names)}
    for where, row in rows:
        if row[LABEL] not in number:
            raise DataError(
                f"{where}: label {row[LABEL][:40]!r} is unknown; give one of {', '.join(names)[:200]}"
            )
    channels = np.array([whole_number(row, CHANNEL, N_CHANNELS, where) for where, row in rows])
    files = np.array([row[FILE_NAME] for _, row in rows])
    label = np.array([number[row[LABEL]] for _, row in rows])
    return Samples(Path(folder), files, label, channels, names)


def sound_parts(folder: str | os.PathLike[str]) -> tuple[Samples, Samples]:
    """Return the training and the test sounds of a data set; see `read_sounds`.

    The classes of both are the labels that either part has.

    Raises
    ------
    DataError
        As `read_sounds`, or if a part is missing.
    """
    folders = [part_folder(folder, part) for part in PARTS]
    classes = _classes(row for place in folders for _, row in read_rows(place, (LABEL, CHANNEL)))
    train, test = (read_sounds(place, classes) for place in folders)
    return train, test


def require_sound(path: str | os.PathLike[str]) -> None:
    """Refuse a file whose header tells that it is none of 16-bit PCM, 16,000 samples of ten channels at 16 kHz.

    Raises
    ------
    DataError
        If it is not, or is damaged, cut short or no WAV file.
    """
    header = read_header(path)
    if header.coding != PCM16:
        raise DataError(f"{path}: holds {header.coding}; write it as {PCM16}")
    if not header.plain:
        raise DataError(
            f"{path}: has notes before its sound that TensorFlow cannot read; write it without them"
        )
    if header.rate != RATE:
        raise DataError(f"{path}: has {header.rate} samples per second; resample it to {RATE}")
    if header.channels != N_CHANNELS:
        raise DataError(f"{path}: has {header.channels} channels; give {N_CHANNELS}")
    if header.length != RATE:
        raise DataError(f"{path}: has {header.length} samples; cut or pad it to {RATE}, one second")


def heard(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Return the sound of a file, (16000, 10) float32 from -1 to 1.

    Raises
    ------
    DataError
        As `require_sound`.
    """
    require_sound(path)
    return read_wav(path)[1]


def load_sounds(samples: Samples) -> NDArray[np.float32]:
    """Return sounds (n, 16000, 10) float32 from -1 to 1; 640 kB each.

    Raises
    ------
    DataError
        As `heard`.
    """
    made = np.empty((len(samples), RATE, N_CHANNELS), np.float32)
    for room, path in zip(made, samples.paths, strict=True):
        room[:] = heard(path)
    return made


def sound_dataset(samples: Samples) -> xr.Dataset:
    """Return sounds with what is known of them, for a netCDF file.

    Returns
    -------
    xarray.Dataset
        ``x`` (sample, time, channel) from -1 to 1, ``label`` and ``position`` (sample): the channel of the word;
        coordinate ``time``, seconds.

    Raises
    ------
    DataError
        As `heard`.
    """
    import xarray as xr

    variables = {
        "x": (("sample", "time", "channel"), load_sounds(samples), {"units": "1", "long_name": "amplitude"}),
        "label": ("sample", samples.label),
        "position": ("sample", samples.position, {"long_name": "channel of the word"}),
    }
    time = ("time", np.arange(RATE) / RATE, {"units": "s", "long_name": "time"})
    return xr.Dataset(variables, {"time": time})


def _classes(rows: Iterable[dict[str, str]]) -> tuple[str, ...]:
    """Return the labels in the order of their names, numbers by size."""
    found = {row[LABEL] for row in rows}
    return tuple(
        sorted(found, key=lambda name: (not name.isdecimal(), name.zfill(20) if name.isdecimal() else name))
    )
