"""The small pictures with a label that are put into backgrounds."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.chaos_media.variants import checked_part
from xairt.data.files import existing_file
from xairt.errors import DataError, reason_of
from xairt.keys import generator_of

SIDE = 32
"""Side of a foreground, pixels."""

N_CLASSES = 10

DIGITS = "digits"
"""Name of the foregrounds that come with scikit-learn."""

CIFAR10 = "cifar10"
"""Name of the foregrounds that Keras downloads."""

_CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_TEST_EVERY = 5
_DIGIT_LEVELS = 16


@dataclass(frozen=True, eq=False)
class Foregrounds:
    """Pictures of one part.

    Attributes
    ----------
    pictures : (n, 32, 32, 3) uint8
    label : (n,) int64
        Indices of `classes`.
    classes : tuple of str
    """

    pictures: NDArray[np.uint8]
    label: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)


def foregrounds(source: str | os.PathLike[str] = DIGITS, part: str = "train") -> Foregrounds:
    """Return the foregrounds of a part; no picture is in both.

    Parameters
    ----------
    source : str or path
        "digits": the 1,797 handwritten digits of scikit-learn, enlarged to 32 x 32 pixels, light on dark, each in
        two random colours; every fifth is for tests. "cifar10": as Keras downloads it (60,000 photographs). Else
        an npz file with ``x_train, y_train, x_test, y_test`` and, if the classes have names, ``classes``.
    part : {"train", "test"}

    Returns
    -------
    Foregrounds

    Raises
    ------
    DataError
        If the file is missing, damaged, holds pickled objects or not these arrays, if a label is not 0 to 9, or
        if the download fails.

    Examples
    --------
    >>> made = foregrounds()
    >>> made.pictures.shape, made.pictures.dtype, made.classes[:2]
    ((1438, 32, 32, 3), dtype('uint8'), ('0', '1'))
    """
    checked_part(part)
    if source == DIGITS:
        return _digits(part)
    if source == CIFAR10:
        return _cifar10(part)
    return _of_file(existing_file(source), part)


def _digits(part: str) -> Foregrounds:
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    found = load_digits()
    tested = np.arange(len(found.target)) % _TEST_EVERY == _TEST_EVERY - 1
    rows = np.flatnonzero(tested == (part == "test"))
    ink = zoom(found.images[rows] / _DIGIT_LEVELS, (1, 4, 4), order=1, mode="nearest", grid_mode=True)
    colours = np.array([_two_colours(row) for row in rows])
    ground, line = colours[:, 0, None, None], colours[:, 1, None, None]
    pictures = ground + (line - ground) * ink.clip(0, 1)[..., None]
    names = tuple(str(name) for name in found.target_names)
    return Foregrounds(pictures.round().astype(np.uint8), found.target[rows].astype(np.int64), names)


def _two_colours(number: int) -> NDArray[np.float64]:
    """Return a dark and a light colour (2, 3), which follow from the number alone and tell nothing of the label."""
    random = generator_of((0, int(number)))
    return np.stack([random.uniform(0, 90, 3), random.uniform(165, 255, 3)])


def _cifar10(part: str) -> Foregrounds:
    import tensorflow as tf

    try:
        parts = tf.keras.datasets.cifar10.load_data()
    except Exception as error:  # Keras raises a bare Exception where a download fails
        raise DataError(
            f"cifar10: cannot be fetched ({reason_of(error, 120)}); give an npz file, or foregrounds='{DIGITS}'"
        ) from error
    pictures, label = parts[part == "test"]
    return _checked(f"cifar10 ({part})", pictures, label, tuple(_CIFAR10_CLASSES))


def _of_file(source: Path, part: str) -> Foregrounds:
    try:
        with np.load(source, allow_pickle=False) as archive:
            names = (f"x_{part}", f"y_{part}")
            missing = [name for name in names if name not in archive]
            if missing:
                raise DataError(
                    f"{source}: lacks {', '.join(missing)}; give x_train, y_train, x_test and y_test"
                )
            pictures, label = (archive[name] for name in names)
            classes = archive["classes"] if "classes" in archive else np.arange(N_CLASSES)
    except DataError:
        raise
    except (ValueError, TypeError, AttributeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{source}: damaged, pickled or no npz file ({reason_of(error, 120)}); write it with numpy.savez"
        ) from error
    return _checked(f"{source} ({part})", pictures, label, tuple(map(str, classes.ravel())))


def _checked(where: str, pictures: NDArray, label: NDArray, classes: tuple[str, ...]) -> Foregrounds:
    """Return foregrounds whose arrays fit."""
    n = len(label)
    if pictures.shape != (n, SIDE, SIDE, 3) or pictures.dtype != np.uint8 or n == 0:
        raise DataError(
            f"{where}: pictures are {pictures.shape} of {pictures.dtype} for {n} labels; "
            f"give (n, {SIDE}, {SIDE}, 3) of uint8"
        )
    if label.dtype.kind not in "iu" or label.size != n or label.min() < 0 or label.max() >= N_CLASSES:
        raise DataError(f"{where}: labels are no whole numbers from 0 to {N_CLASSES - 1}; number the classes")
    if len(classes) != N_CLASSES:
        raise DataError(f"{where}: names {len(classes)} classes; give {N_CLASSES}")
    return Foregrounds(pictures, label.reshape(n).astype(np.int64), classes)
