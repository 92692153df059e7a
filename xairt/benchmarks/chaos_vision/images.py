"""Images of one foreground in a larger background, written as PNG with ``metadata.csv`` and read back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.chaos_media.metadata import (
    FILE_NAME,
    FOLDERS,
    Samples,
    part_folder,
    read_rows,
    whole_number,
)
from xairt.benchmarks.chaos_media.variants import Variant, checked_count, checked_part, variant_of
from xairt.benchmarks.chaos_media.writing import write_part
from xairt.benchmarks.chaos_vision.backgrounds import IMAGE_SIDE, Photographs, photographs
from xairt.benchmarks.chaos_vision.foregrounds import DIGITS, N_CLASSES, SIDE, Foregrounds, foregrounds
from xairt.errors import DataError, reason_of
from xairt.keys import generator_of, noise_keys

if TYPE_CHECKING:
    import xarray as xr
    from PIL.Image import Image as Picture

FIXED_CORNER = 96
"""Row and column of the upper left corner where the position is fixed: the middle of the image."""

N_CORNERS = IMAGE_SIDE - SIDE
"""Random rows and columns of the corner are 0 to below this; the last one possible, 192, is left out as published."""

LABEL, BACKGROUND, ROW, COLUMN = "foreground_label", "background_label", "position_x", "position_y"
"""Columns of ``metadata.csv``; ``position_x`` is the row, as published."""

IMAGE = "image"
"""Variable of netCDF files; not x, which is the dimension of the columns."""

_LEVELS = 256
_ORDER = 1


@dataclass(frozen=True, eq=False)
class Drawing:
    """All that images of a part are drawn from; see `drawing`."""

    variant: Variant
    part_number: int
    seed: int
    foregrounds: Foregrounds
    photographs: Photographs | None
    order: NDArray[np.integer]

    def image(self, number: int) -> tuple[NDArray[np.uint8], int, tuple[int, int], int]:
        """Return the image of a number, which depends on nothing else.

        Parameters
        ----------
        number : int
            Counted from 0. The foregrounds follow each other in a random order, and then begin anew.

        Returns
        -------
        picture : (224, 224, 3) uint8
        label : int
        corner : (int, int)
            Row and column.
        background : int
            Number of the photograph; -1 for noise.

        Raises
        ------
        DataError
            If a photograph is damaged.
        """
        random = generator_of((self.seed, number), 2 + self.part_number)
        corner = (FIXED_CORNER, FIXED_CORNER)
        if self.variant.random_position:
            corner = (int(random.integers(N_CORNERS)), int(random.integers(N_CORNERS)))
        if self.photographs is None:
            picture, background = (
                random.integers(_LEVELS, size=(IMAGE_SIDE, IMAGE_SIDE, 3), dtype=np.uint8),
                -1,
            )
        else:
            crop, background = self.photographs.crop(random)
            picture = crop.copy()
        chosen = self.order[number % len(self.order)]
        row, column = corner
        picture[row : row + SIDE, column : column + SIDE] = self.foregrounds.pictures[chosen]
        return picture, int(self.foregrounds.label[chosen]), corner, background


def drawing(
    variant: str | Variant,
    part: str = "train",
    *,
    seed: int = 0,
    foregrounds_of: str | os.PathLike[str] = DIGITS,
    backgrounds_of: str | os.PathLike[str] | None = None,
) -> Drawing:
    """Return what draws the images of a part.

    Parameters
    ----------
    variant : {"RBFP", "RBRP", "SBFP", "SBRP"} or Variant
        Noise is uniform on the levels 0 to 255, independent in each pixel and channel.
    part : {"train", "test"}
        They share neither a foreground nor a piece of a photograph.
    seed : int
        From 0 to 2**31 - 1.
    foregrounds_of : str or path
        See `xairt.benchmarks.chaos_vision.foregrounds.foregrounds`.
    backgrounds_of : path, optional
        Folder of photographs, for structural backgrounds; see
        `xairt.benchmarks.chaos_vision.backgrounds.photographs`.

    Returns
    -------
    Drawing

    Raises
    ------
    DataError
        If an argument is not valid, a folder of photographs is given where noise is drawn, or a source cannot be
        read.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, section 3.2.

    Examples
    --------
    >>> picture, label, corner, background = drawing("RBFP").image(0)
    >>> picture.shape, corner, background
    ((224, 224, 3), (96, 96), -1)
    """
    chosen, number = variant_of(variant), checked_part(part)
    noise_keys(seed, None, 1)
    if backgrounds_of is not None and not chosen.structural:
        raise DataError(
            f"variant {chosen.name}: its background is noise; leave the photographs out, or give SB.."
        )
    small = foregrounds(foregrounds_of, part)
    large = photographs(backgrounds_of, part) if chosen.structural else None
    order = generator_of((seed, number), _ORDER).permutation(len(small))
    return Drawing(chosen, number, seed, small, large, order)


def write_images(
    folder: str | os.PathLike[str],
    variant: str | Variant,
    n_train: int,
    n_test: int,
    *,
    seed: int = 0,
    foregrounds_of: str | os.PathLike[str] = DIGITS,
    backgrounds_of: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Path:
    """Write a training and a test set: ``train/`` and ``test/``, each with PNG files and ``metadata.csv``.

    Parameters
    ----------
    folder : path
        Made if it is not there. About 150 kB for an image with noise, 100 kB with a photograph.
    variant, seed, foregrounds_of, backgrounds_of
        As `drawing`.
    n_train, n_test : int
        Images of each part. The first ones do not depend on how many there are.
    progress : bool

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    DataError
        As `drawing`, or if the folder cannot be written.
    """
    counts = {"train": checked_count(n_train, "n_train"), "test": checked_count(n_test, "n_test")}
    sources = {"seed": seed, "foregrounds_of": foregrounds_of, "backgrounds_of": backgrounds_of}
    for part, n in counts.items():
        _write(Path(folder) / FOLDERS[part][0], drawing(variant, part, **sources), n, progress)
    return Path(folder)


def _write(folder: Path, drawn: Drawing, n: int, progress: bool) -> None:
    from PIL import Image

    def write_one(number: int) -> list[Any]:
        picture, label, corner, background = drawn.image(number)
        name = f"{number:06d}.png"
        Image.fromarray(picture).save(folder / name, compress_level=1)
        of_photograph = [background] if drawn.photographs else []
        return [name, label, *of_photograph, *corner]

    columns = [FILE_NAME, LABEL, *([BACKGROUND] if drawn.photographs else []), ROW, COLUMN]
    write_part(folder, n, write_one, columns, label=f"writing {folder.name}", progress=progress)


def read_images(folder: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Samples:
    """Read the ``metadata.csv`` of a folder of images; the images stay where they are.

    Parameters
    ----------
    folder : path
        Of one part, written by `write_images` or published (``train``, ``test`` or ``val``).
    classes : sequence of str, optional
        Names of the labels; by default "0" to "9".

    Returns
    -------
    Samples

    Raises
    ------
    DataError
        If ``metadata.csv`` or a file is missing, a path leads out of the folder, a label is unknown, or a
        foreground does not lie within the image.
    """
    names = tuple(classes or map(str, range(N_CLASSES)))
    files, labels, corners = [], [], []
    for where, row in read_rows(folder, (LABEL, ROW, COLUMN)):
        files.append(row[FILE_NAME])
        labels.append(whole_number(row, LABEL, len(names), where))
        corners.append([whole_number(row, name, N_CORNERS + 1, where) for name in (ROW, COLUMN)])
    return Samples(Path(folder), np.array(files), np.array(labels), np.array(corners), names)


def image_parts(folder: str | os.PathLike[str]) -> tuple[Samples, Samples]:
    """Return the training and the test images of a data set; see `read_images`.

    Raises
    ------
    DataError
        As `read_images`, or if a part is missing.
    """
    train, test = (read_images(part_folder(folder, part)) for part in ("train", "test"))
    return train, test


def require_image(path: str | os.PathLike[str]) -> None:
    """Refuse a file whose header tells that it is no PNG of 224 x 224 pixels, red, green and blue.

    Raises
    ------
    DataError
        If it is not, or is damaged.
    """
    with _opened(path):
        pass


def decoded(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Return the image of a file, (224, 224, 3) uint8.

    Raises
    ------
    DataError
        As `require_image`.
    """
    with _opened(path) as picture:
        return np.asarray(picture)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Picture]:
    """Open an image whose header is right; what fails while its pixels are decoded is told the same way."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as opened:
            size, mode = opened.size, opened.mode
            if size != (IMAGE_SIDE, IMAGE_SIDE) or mode != "RGB":
                raise DataError(
                    f"{path}: is {size[0]} x {size[1]} pixels of mode {mode}; give {IMAGE_SIDE} x {IMAGE_SIDE} "
                    "of mode RGB"
                )
            yield opened
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: damaged or no PNG image ({reason_of(error, 120)}); restore it") from error


def scaled(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return levels 0 to 255 as float32 from -1 to 1: 0, the baseline of attributions, is mid-grey.

    Examples
    --------
    >>> scaled(np.array([0, 255], np.uint8))
    array([-1.,  1.], dtype=float32)
    """
    return levels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def load_images(samples: Samples) -> NDArray[np.float32]:
    """Return images (n, 224, 224, 3) float32 from -1 to 1; 600 kB each.

    Raises
    ------
    DataError
        As `decoded`.
    """
    made = np.empty((len(samples), IMAGE_SIDE, IMAGE_SIDE, 3), np.float32)
    for room, path in zip(made, samples.paths, strict=True):
        room[:] = scaled(decoded(path))
    return made


def image_dataset(samples: Samples) -> xr.Dataset:
    """Return images with what is known of them, for a netCDF file.

    Returns
    -------
    xarray.Dataset
        ``image`` (sample, y, x, channel) from -1 to 1, ``label`` (sample), ``box`` (sample, bound): first row, last
        row + 1, first column, last column + 1 of the foreground.

    Raises
    ------
    DataError
        As `decoded`.
    """
    import xarray as xr

    rows, columns = samples.position.T
    box = np.stack([rows, rows + SIDE, columns, columns + SIDE], axis=1)
    attributes = {"units": "1", "long_name": "brightness, -1 black to 1 white"}
    variables = {
        IMAGE: (("sample", "y", "x", "channel"), load_images(samples), attributes),
        "label": ("sample", samples.label),
        "box": (("sample", "bound"), box, {"long_name": "first and last row and column, half open"}),
    }
    return xr.Dataset(variables, {"bound": ["row0", "row1", "col0", "col1"]})
