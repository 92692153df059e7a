"""Backgrounds, and objects drawn on them: brightness as levels from 0 to 255 divided by 255."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from xairt.benchmarks.smerf.placing import (
    CHARACTER,
    PATCH,
    PATCH_SIDE,
    SIDE,
    STATE_WORDS,
    SWITCH,
    SWITCH_SIDE,
    uniform_below,
)
from xairt.benchmarks.smerf.rules import CHARACTERS, OBJECTS
from xairt.errors import DataError, reason_of, suggest

BACKGROUNDS = ("black", "white", "noise", "natural")
"""Kinds of backgrounds."""

CHARACTER_PIXELS = 20
"""Size of the font."""

NOISE_LEVELS = 100
"""Noise is uniform on the levels 0 to 99 of 255."""

BRIGHTNESS = 0.7
"""Factor on the brightness of natural images."""

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Files of a folder of natural images that are read."""

_FULL = np.float32(255)
_CHANNELS = 3
_VALUES = SIDE * SIDE * _CHANNELS
_WORD, _BITS = np.dtype("<u8"), np.dtype("<u2")
_NOISE_AT_ONCE = 4  # images that stay in the cache
_PHOTOGRAPH_TILE = 213


@lru_cache
def glyph(character: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return how a character is drawn, and where it begins.

    Parameters
    ----------
    character : int
        1 for A, 2 for B.

    Returns
    -------
    opacity : numpy.ndarray
        (rows, columns) uint8, 255 where a pixel is full of ink; the outermost rows and columns hold ink.
    offset : (int, int)
        Rows and columns from the origin, which is left of the character and at its font's ascender.

    Notes
    -----
    DejaVu Sans, which comes with matplotlib, stands for the Arial of the publication.
    """
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    font_file = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = ImageFont.truetype(font_file, CHARACTER_PIXELS, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(canvas).text((0, 0), CHARACTERS[character - 1], fill=255, font=font)
    opacity = np.array(canvas)
    rows, columns = np.flatnonzero(opacity.any(axis=1)), np.flatnonzero(opacity.any(axis=0))
    ink = opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    ink.setflags(write=False)
    return ink, (int(rows[0]), int(columns[0]))


def natural_images(folder: str | os.PathLike[str] | None = None) -> NDArray[np.uint8]:
    """Return natural images of 64 x 64 pixels at brightness 0.7.

    Parameters
    ----------
    folder : path, optional
        All image files in it (`IMAGE_SUFFIXES`) are read, in the order of their names; each is resized as a
        whole. By default twelve squares of the two photographs of scikit-learn.

    Returns
    -------
    numpy.ndarray
        (images, 64, 64, 3) uint8.

    Raises
    ------
    DataError
        If the folder does not exist or holds no image, or an image is damaged.
    """
    from PIL import Image, ImageEnhance

    found = []
    for picture in _photographs() if folder is None else _pictures(Path(folder)):
        small = Image.fromarray(picture).resize((SIDE, SIDE))
        found.append(np.asarray(ImageEnhance.Brightness(small).enhance(BRIGHTNESS)))
    return np.stack(found)


@dataclass(frozen=True, eq=False)
class Canvas:
    """What objects are drawn on, and with what.

    Attributes
    ----------
    background : {"black", "white", "noise", "natural"}
    natural : numpy.ndarray, optional
        (images, 64, 64, 3) float32 in [0, 1], where the background is "natural".
    """

    background: str
    natural: NDArray[np.float32] | None = None

    @property
    def ink(self) -> float:
        """Brightness of the objects: 1, but 0 on white, where white ones could not be seen."""
        return 0.0 if self.background == "white" else 1.0

    def paint(self, pictures: NDArray[np.float32], words: NDArray[np.uint64]) -> None:
        """Overwrite images with the background.

        Parameters
        ----------
        pictures : (n, 64, 64, 3) float32, C order
        words : (n, at least 4) uint64
            The beginning of each image's stream. Noise is made by SFC64 with them as its state; the first one
            chooses the natural image.
        """
        if self.background == "noise":
            _paint_noise(pictures, words[:, :STATE_WORDS])
        elif self.background == "natural":
            chosen = uniform_below(words[:, 0], len(self.natural))
            np.take(self.natural, chosen, axis=0, out=pictures, mode="clip")
        else:
            pictures.fill(1 if self.background == "white" else 0)


def canvas_of(background: str, folder: str | os.PathLike[str] | None = None) -> Canvas:
    """Return the canvas of a kind of background.

    Parameters
    ----------
    background : {"black", "white", "noise", "natural"}
    folder : path, optional
        Of natural images, see `natural_images`.

    Raises
    ------
    DataError
        If the kind is unknown, natural images cannot be read, or a folder is given where it is not used.
    """
    if background not in BACKGROUNDS:
        raise DataError(
            f"background {background!r} is unknown; "
            f"give {', '.join(BACKGROUNDS)}{suggest(background, BACKGROUNDS)}"
        )
    if background == "natural":
        return Canvas(background, natural_images(folder) / _FULL)
    if folder is not None:
        raise DataError(
            f"background '{background}' reads no folder; leave it out, or give background='natural'"
        )
    return Canvas(background)


def paint_objects(
    pictures: NDArray[np.float32],
    features: NDArray[np.integer],
    places: NDArray[np.integer],
    *,
    ink: float = 1.0,
    tight_boxes: bool = True,
) -> NDArray[np.int16]:
    """Draw objects, and return their boxes.

    Parameters
    ----------
    pictures : (n, 64, 64, 3) float32, C order
        Is drawn on; levels from 0 to 255 divided by 255.
    features : (n, 3), whole numbers
    places : (n, 3, 2), whole numbers
        Rows and columns, see `xairt.benchmarks.smerf.placing.place`.
    ink : float
        Brightness of the objects, 0 or 1.
    tight_boxes : bool
        Whether the box of a character is its ink, or begins at its origin, a few blank rows above, as
        published.

    Returns
    -------
    numpy.ndarray
        (n, 3, 4) int16 of objects by (row0, row1, col0, col1), half open; -1 where an object is absent.
    """
    boxes = np.full((len(pictures), len(OBJECTS), 4), -1, dtype=np.int16)
    for index, side in ((PATCH, PATCH_SIDE), (SWITCH, SWITCH_SIDE)):
        rows = np.flatnonzero(features[:, index])
        corner = places[rows, index]
        windows, at = _windows(pictures, (side, side), rows, corner)
        windows[at] = ink
        boxes[rows, index] = _box(corner, corner + side)
    for character in range(1, len(CHARACTERS) + 1):
        opacity, offset = glyph(character)
        rows = np.flatnonzero(features[:, CHARACTER] == character)
        origin = places[rows, CHARACTER]
        start = origin + np.array(offset, dtype=origin.dtype)
        windows, at = _windows(pictures, opacity.shape, rows, start)
        windows[at] = _blended(windows[at], opacity, ink)
        boxes[rows, CHARACTER] = _box(start if tight_boxes else origin, start + opacity.shape)
    return boxes


def _windows(
    pictures: NDArray[np.float32],
    shape: tuple[int, int],
    rows: NDArray[np.integer],
    corner: NDArray[np.integer],
) -> tuple[NDArray[np.float32], tuple[NDArray[np.integer], ...]]:
    """Return all windows of a shape, columns and channels on one axis, and the index of some of them."""
    lines = pictures.reshape(len(pictures), SIDE, SIDE * _CHANNELS)
    window = (shape[0], shape[1] * _CHANNELS)
    windows = sliding_window_view(lines, window, axis=(1, 2), writeable=True)
    return windows, (rows, corner[:, 0], corner[:, 1] * _CHANNELS)


def _box(start: NDArray[np.integer], end: NDArray[np.integer]) -> NDArray[np.integer]:
    return np.stack([start[:, 0], end[:, 0], start[:, 1], end[:, 1]], axis=1)


def _blended(below: NDArray[np.float32], opacity: NDArray[np.uint8], ink: float) -> NDArray[np.float32]:
    """Return windows with ink of some opacity above, rounded to whole levels.

    A level lies 1/510 or more from the half where it would round the other way, rounding errors are 1e-4.
    """
    over = np.repeat(opacity, _CHANNELS, axis=1).astype(np.float32)
    levels = below * (_FULL - over)
    levels += np.float32(ink) * over
    np.rint(levels, out=levels)
    levels /= _FULL
    return levels


def _paint_noise(pictures: NDArray[np.float32], states: NDArray[np.uint64]) -> None:
    generator = np.random.SFC64(0)
    fresh = generator.state
    # The level is the integer part of 100 u / 2^16 of 16 bits u; float32 holds the product exactly.
    scale, room = np.float32(NOISE_LEVELS / 2**16), np.empty((_NOISE_AT_ONCE, _VALUES), np.float32)
    flat = pictures.reshape(-1, _VALUES)
    for start in range(0, len(flat), _NOISE_AT_ONCE):
        part = flat[start : start + _NOISE_AT_ONCE]
        levels = room[: len(part)]
        for level, state in zip(levels, states[start:], strict=False):
            fresh["state"]["state"] = state
            generator.state = fresh
            level[:] = generator.random_raw(_VALUES // 4).astype(_WORD, copy=False).view(_BITS)
        levels *= scale
        np.floor(levels, out=levels)
        np.divide(levels, _FULL, out=part)


def _photographs() -> Iterator[NDArray[np.uint8]]:
    from sklearn.datasets import load_sample_images

    side = _PHOTOGRAPH_TILE
    for photograph in load_sample_images().images:
        for row in range(0, photograph.shape[0] - side + 1, side):
            for column in range(0, photograph.shape[1] - side + 1, side):
                yield photograph[row : row + side, column : column + side]


def _pictures(folder: Path) -> Iterator[NDArray[np.uint8]]:
    from PIL import Image

    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give one that holds images")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"{folder}: holds no image ({' '.join(IMAGE_SUFFIXES)}); give another folder")
    for file in files:
        try:
            with Image.open(file) as image:
                picture = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(
                f"{file}: damaged or no image ({reason_of(error, 120)}); remove or replace it"
            ) from error
        yield picture
