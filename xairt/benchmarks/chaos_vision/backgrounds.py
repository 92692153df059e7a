"""What surrounds the foregrounds: noise, or crops of photographs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.chaos_media.variants import checked_part, of_part
from xairt.errors import DataError, reason_of

IMAGE_SIDE = 224
"""Side of an image, pixels."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

_HELD = 64


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs of one part; files are opened when they are cropped.

    Attributes
    ----------
    files : tuple of str
        Empty for the two photographs of scikit-learn, of which training crops are from the left half, test
        crops from the right one.
    part : {"train", "test"}
    """

    files: tuple[str, ...]
    part: str

    @property
    def count(self) -> int:
        """Number of photographs to crop."""
        return len(self.files) or len(_built_in(self.part))

    def crop(self, random: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
        """Return a crop (224, 224, 3) of a photograph, and the number of the photograph.

        Raises
        ------
        DataError
            If a file is damaged.
        """
        number = int(random.integers(self.count))
        picture = _picture(self.files[number]) if self.files else _built_in(self.part)[number]
        row, column = (int(random.integers(size - IMAGE_SIDE + 1)) for size in picture.shape[:2])
        return picture[row : row + IMAGE_SIDE, column : column + IMAGE_SIDE], number


def photographs(folder: str | os.PathLike[str] | None = None, part: str = "train") -> Photographs:
    """Return the photographs of a part; no pixel is in both.

    Parameters
    ----------
    folder : path, optional
        Every fifth of its images, by name, is for tests; two at least. By default the two photographs of
        scikit-learn.
    part : {"train", "test"}

    Returns
    -------
    Photographs
        Those whose shorter side is below 224 pixels are enlarged to that when they are cropped.

    Raises
    ------
    DataError
        If the folder is missing, or holds fewer than two images.
    """
    checked_part(part)
    if folder is None:
        return Photographs((), part)
    place = Path(folder)
    if not place.is_dir():
        raise DataError(f"{place}: no such folder; give one that holds photographs")
    files = sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if len(files) < 2:
        raise DataError(
            f"{place}: holds {len(files)} images ({' '.join(SUFFIXES)}), training and test need one each; add some"
        )
    return Photographs(of_part([str(file) for file in files], part), part)


@lru_cache(maxsize=2)
def _built_in(part: str) -> tuple[NDArray[np.uint8], ...]:
    from sklearn.datasets import load_sample_images

    halves = []
    for photograph in load_sample_images().images:
        middle = photograph.shape[1] // 2
        halves.append(photograph[:, :middle] if part == "train" else photograph[:, middle:])
    return tuple(halves)


@lru_cache(maxsize=_HELD)
def _picture(file: str) -> NDArray[np.uint8]:
    """Return an image of a file, its shorter side 224 pixels at least."""
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{file}: damaged or no image ({reason_of(error, 120)}); remove or replace it"
        ) from error
    shorter = min(image.size)
    if shorter < IMAGE_SIDE:
        scale = IMAGE_SIDE / shorter
        image = image.resize([max(IMAGE_SIDE, round(size * scale)) for size in image.size])
    return np.asarray(image)
