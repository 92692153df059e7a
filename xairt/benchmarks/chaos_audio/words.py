"""The spoken words, recorded or made of tones, and the recordings beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.chaos_audio.wav import RATE, fitted, one_second
from xairt.benchmarks.chaos_media.variants import checked_part, of_part
from xairt.errors import DataError, suggest
from xairt.keys import generator_of

Split = Literal["speaker", "take"]
"""How recordings are divided: by who speaks, or by when it was spoken."""

SYNTHETIC = "synthetic"
"""Name of the words that are made of tones."""

TEST_SHARE = 0.2
"""Share of the speakers, or of the takes of each speaker and label, that is for tests; rounded, one at least."""

FORMANTS = {
    "ah": (730, 1090, 730, 1090),
    "eh": (530, 1840, 530, 1840),
    "ee": (270, 2290, 270, 2290),
    "oo": (300, 870, 300, 870),
    "er": (490, 1350, 490, 1350),
    "eye": (730, 1090, 270, 2290),
    "ow": (730, 1090, 300, 870),
    "ay": (530, 1840, 270, 2290),
    "oy": (570, 840, 270, 2290),
    "you": (270, 2290, 300, 870),
}
"""Synthetic words: first and second formant at their beginning and at their end, Hz (vowels of Peterson and Barney
1952, Journal of the Acoustical Society of America 24, table II, men)."""

_SYNTHETIC_CLIPS = {"train": 2000, "test": 500}
_HELD = 2048
_SPEAKER_OF_FOLDERS = re.compile(r"(?P<speaker>.+)_nohash_(?P<take>\d+)")
_NO_FOLDER = re.compile(r"\.{0,2}|.*[/\\:].*", re.DOTALL)
_IN_NAME = re.compile(r"(?P<label>[^_]+)_(?P<speaker>.+)_(?P<take>\d+)")


@dataclass(frozen=True, eq=False)
class Words:
    """Clips of words of one part; files are opened when they are heard.

    Attributes
    ----------
    label : (n,) int64
        Indices of `classes`.
    classes : tuple of str
    files : tuple of str
        Empty for synthetic words.
    part : {"train", "test"}
    """

    label: NDArray[np.int64]
    classes: tuple[str, ...]
    files: tuple[str, ...]
    part: str

    def __len__(self) -> int:
        return len(self.label)

    def clip(self, number: int) -> NDArray[np.float32]:
        """Return a word, (16000,) float32 from -1 to 1 at 16 kHz, padded or cut to one second.

        Raises
        ------
        DataError
            If a file is damaged.
        """
        if self.files:
            return _recording(self.files[number])
        word = self.classes[self.label[number]]
        return synthetic_word(word, generator_of((checked_part(self.part), number)))


@dataclass(frozen=True)
class _File:
    path: str
    label: str
    speaker: str
    take: int


def words(source: str | os.PathLike[str] = SYNTHETIC, part: str = "train", split: Split = "take") -> Words:
    """Return the words of a part; no clip is in both.

    Parameters
    ----------
    source : str or path
        "synthetic": the words of `FORMANTS`, 2,000 clips to train and 500 to test. Else a folder, with one folder
        of WAV files for each label (as Speech Commands; folders whose name begins with ``_`` are left out), or
        with files ``label_speaker_take.wav`` (as the Free Spoken Digit Dataset). Other sample rates are resampled.
    part : {"train", "test"}
    split : {"speaker", "take"}
        What the test part is made of: a fifth of the speakers, the last ones by name, or the last fifth of what
        each speaker says of each label. Names without speaker count as one speaker.

    Returns
    -------
    Words

    Raises
    ------
    DataError
        If the folder is missing or holds no such files, a label cannot name a folder, or there are too few to divide.

    Examples
    --------
    >>> made = words()
    >>> len(made), made.classes[made.label[0]], made.clip(0).shape
    (2000, 'ah', (16000,))
    """
    checked_part(part)
    if source == SYNTHETIC:
        names = tuple(FORMANTS)
        return Words(np.arange(_SYNTHETIC_CLIPS[part]) % len(names), names, (), part)
    found = _files(Path(source))
    names = tuple(sorted({file.label for file in found}))
    tested = _tested(found, split)
    if not tested or len(tested) == len(found):
        raise DataError(f"{source}: too few {split}s to train and to test with; add some, or split otherwise")
    own = [file for file in found if (file in tested) == (part == "test")]
    label = np.array([names.index(file.label) for file in own])
    return Words(label, names, tuple(file.path for file in own), part)


def synthetic_word(word: str, random: np.random.Generator) -> NDArray[np.float32]:
    """Return a word of `FORMANTS` as somebody says it, (16000,) float32 from -1 to 1.

    Harmonics of a voice, each as loud as it is near to a formant; pitch, formants (each within 8 %), length, begin
    and loudness vary.

    Parameters
    ----------
    word : str
        Of `FORMANTS`.
    random : numpy.random.Generator
    """
    seconds, begin = random.uniform(0.35, 0.6), random.uniform(0.0, 0.3)
    time = np.arange(round(seconds * RATE)) / RATE
    way = time / seconds
    pitch = random.uniform(90, 220) * (1 + random.uniform(-0.15, 0.15) * way)
    first0, second0, first1, second1 = np.array(FORMANTS[word]) * random.uniform(0.92, 1.08, 4)
    formants = (
        (first0 + (first1 - first0) * way, 1.0, 90.0),
        (second0 + (second1 - second0) * way, 0.6, 130.0),
    )
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = harmonic * pitch
        strength = sum(high / (1 + ((frequency - centre) / width) ** 2) for centre, high, width in formants)
        sound += strength * np.sin(harmonic * phase)
    sound *= np.hanning(len(time)) ** 0.5
    sound *= random.uniform(0.3, 0.9) / np.abs(sound).max()
    return fitted(np.concatenate([np.zeros(round(begin * RATE)), sound]).astype(np.float32))


def recordings(folder: str | os.PathLike[str] | None, part: str = "train") -> tuple[str, ...]:
    """Return the recordings of a folder of a part, for structural backgrounds.

    Parameters
    ----------
    folder : path, optional
        Every fifth of its WAV files, by name, is for tests; two at least. None gives no file: synthetic calls,
        see `background`.
    part : {"train", "test"}

    Raises
    ------
    DataError
        If the folder is missing, or holds fewer than two WAV files.
    """
    checked_part(part)
    if folder is None:
        return ()
    place = _folder(Path(folder))
    files = sorted(str(file) for file in place.rglob("*") if file.suffix.lower() == ".wav")
    if len(files) < 2:
        raise DataError(f"{place}: holds {len(files)} WAV files, training and test need one each; add some")
    return of_part(files, part)


def background(files: Sequence[str], random: np.random.Generator) -> NDArray[np.float32]:
    """Return a recording, or a synthetic call, divided by its 99 % amplitude and cut at -1 and 1.

    Parameters
    ----------
    files : sequence of str
        Of `recordings`. Without any, a call is made: up to six sweeps of tone, each of 50 to 400 ms.
    random : numpy.random.Generator

    Returns
    -------
    (16000,) float32

    Raises
    ------
    DataError
        If a file is damaged.
    """
    sound = _recording(files[int(random.integers(len(files)))]) if files else _call(random)
    amplitude = np.quantile(np.abs(sound), 0.99)
    return (sound / (amplitude or 1.0)).clip(-1, 1).astype(np.float32)


def _call(random: np.random.Generator) -> NDArray[np.float32]:
    sound = 0.02 * random.normal(size=RATE)
    for _ in range(int(random.integers(1, 7))):
        n = round(random.uniform(0.05, 0.4) * RATE)
        frequency = np.linspace(*random.uniform(300, 5000, 2), n)
        at = int(random.integers(RATE - n))
        sweep = np.sin(2 * np.pi * np.cumsum(frequency) / RATE) * np.hanning(n)
        sound[at : at + n] += random.uniform(0.2, 1) * sweep
    return sound.astype(np.float32)


@lru_cache(maxsize=_HELD)
def _recording(file: str) -> NDArray[np.float32]:
    sound = one_second(file)
    sound.flags.writeable = False
    return sound


def _folder(place: Path) -> Path:
    if not place.is_dir():
        raise DataError(f"{place}: no such folder; give one that holds WAV files")
    return place


def _files(folder: Path) -> list[_File]:
    """Return the recordings of a folder by label, speaker and take."""
    place = _folder(folder)
    folders = [
        child for child in sorted(place.iterdir()) if child.is_dir() and not child.name.startswith("_")
    ]
    found = [_of_label(child.name, _wavs(child)) for child in folders]
    joined = [file for files in found for file in files] or _of_names(_wavs(place))
    for file in joined:
        if _NO_FOLDER.fullmatch(file.label):
            raise DataError(f"{file.path}: its label {file.label!r} cannot name a folder; rename it")
    if len({file.label for file in joined}) < 2:
        raise DataError(
            f"{place}: holds no WAV files of two labels; give a folder for each label, or label_speaker_take.wav"
        )
    return joined


def _wavs(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".wav")


def _of_label(label: str, files: Sequence[Path]) -> list[_File]:
    found = []
    for number, file in enumerate(files):
        match = _SPEAKER_OF_FOLDERS.fullmatch(file.stem)
        speaker, take = (match["speaker"], int(match["take"])) if match else ("", number)
        found.append(_File(str(file), label, speaker, take))
    return found


def _of_names(files: Sequence[Path]) -> list[_File]:
    found = []
    for file in files:
        match = _IN_NAME.fullmatch(file.stem)
        if match is None:
            raise DataError(f"{file}: its name does not tell what it is; call it label_speaker_take.wav")
        found.append(_File(str(file), match["label"], match["speaker"], int(match["take"])))
    return found


def _tested(files: Sequence[_File], split: str) -> set[_File]:
    """Return the recordings for tests."""
    if split == "speaker":
        speakers = sorted({file.speaker for file in files})
        last = set(speakers[len(speakers) - _of_share(len(speakers)) :])
        return {file for file in files if file.speaker in last}
    if split != "take":
        raise DataError(
            f"split {split!r}: unknown; give 'speaker' or 'take'{suggest(split, ('speaker', 'take'))}"
        )
    groups: dict[tuple[str, str], list[_File]] = {}
    for file in files:
        groups.setdefault((file.label, file.speaker), []).append(file)
    return {file for own in groups.values() for file in _last(own)}


def _last(files: list[_File]) -> list[_File]:
    """Return the last share of one speaker's takes; none of a single one."""
    ordered = sorted(files, key=lambda file: (file.take, file.path))
    return ordered[len(ordered) - _of_share(len(ordered)) :]


def _of_share(n: int) -> int:
    return max(1, round(TEST_SHARE * n)) if n > 1 else 0
