"""Images of a setting with their boxes, labels, and the objects that should be shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.benchmarks.smerf.drawing import Canvas, canvas_of, paint_objects
from xairt.benchmarks.smerf.placing import FIRST_WORDS, SIDE, image_keys, place, random_words
from xairt.benchmarks.smerf.rules import OBJECTS, PARTS, Setting, feature_codes, setting_of
from xairt.errors import DataError, suggest

if TYPE_CHECKING:
    import xarray as xr

BLOCK_IMAGES = 256
"""Images that `image_blocks` gives at once."""

_N_CODES = 18


@dataclass(frozen=True, eq=False)
class Images:
    """Images, what they hold, and how a setting judges them.

    Attributes
    ----------
    images : numpy.ndarray
        (n, 64, 64, 3) float32, levels from 0 to 255 divided by 255.
    boxes : numpy.ndarray
        (n, 3, 4) int16: objects in the order of `OBJECTS` by (row0, row1, col0, col1), half open; -1 where
        absent.
    features : numpy.ndarray
        (n, 3) int8, see `Features`; -1 where a file does not tell.
    number : numpy.ndarray
        (n,) int64 of the image among those with its features; -1 where a file does not tell.
    label : numpy.ndarray
        (n,) int64, class; -1 where the setting has no such bucket.
    primary, secondary : numpy.ndarray
        (n, 3) bool: objects that are there and should be shown, and that are there and should not.
    bucket : numpy.ndarray
        (n,) int16, index among the buckets of the setting; -1 where it has no such bucket or a file does not
        tell.
    """

    images: NDArray[np.float32]
    boxes: NDArray[np.int16]
    features: NDArray[np.int8]
    number: NDArray[np.int64]
    label: NDArray[np.int64]
    primary: NDArray[np.bool_]
    secondary: NDArray[np.bool_]
    bucket: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Self:
        """Return some of the images: a slice, indices, or a mask."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def under(self, setting: str | Setting) -> Self:
        """Return the same images with label, objects and buckets of another setting (the identity test).

        Parameters
        ----------
        setting : str or Setting

        Returns
        -------
        Images
            Label and bucket are -1, and no object is primary or secondary, where the setting has no such
            bucket.

        Raises
        ------
        DataError
            If the setting is unknown, or the features are.

        Examples
        --------
        >>> made = images("complex-cr1", 1)
        >>> made.label.tolist(), made.under("complex-cr2").label.tolist()
        ([0, 1, 0, 1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 1, -1, 0, 1, 0, 0, 0])
        """
        return replace(self, **_judged(setting_of(setting), self.features))

    def to_dataset(self) -> xr.Dataset:
        """Return the images with names of dimensions, for a netCDF file.

        Returns
        -------
        xarray.Dataset
            ``image`` (sample, y, x, channel), ``box`` (sample, object, bound), ``primary`` and ``secondary``
            (sample, object) as 0 and 1, ``features`` (sample, object), ``label``, ``bucket``, ``number``
            (sample).
        """
        import xarray as xr

        objects = ("sample", "object")
        masks = {name: (objects, getattr(self, name).astype(np.int8)) for name in ("primary", "secondary")}
        singles = {name: (("sample",), getattr(self, name)) for name in ("label", "bucket", "number")}
        variables = {
            "image": (
                ("sample", "y", "x", "channel"),
                self.images,
                {"units": "1", "long_name": "brightness"},
            ),
            "box": (
                (*objects, "bound"),
                self.boxes,
                {"long_name": "first and last row and column, half open"},
            ),
            "features": (objects, self.features),
            **masks,
            **singles,
        }
        bounds = ["row0", "row1", "col0", "col1"]
        return xr.Dataset(variables, {"object": list(OBJECTS), "bound": bounds})


def images(
    setting: str | Setting,
    n: int | None = None,
    *,
    part: str = "test",
    seed: int = 0,
    background: str = "black",
    natural: str | os.PathLike[str] | None = None,
    tight_boxes: bool = True,
) -> Images:
    """Return images of all buckets of a setting, bucket by bucket.

    Parameters
    ----------
    setting : str or Setting
        A name of `SETTINGS`, or one's own.
    n : int, optional
        Images in each bucket; by default the numbers of the setting. The first ones do not depend on it.
    part : {"train", "test"}
        Two independent sets.
    seed : int
        From 0 to 2**31 - 1. Places and backgrounds depend on seed, part, features and the image's number in
        its bucket alone: they are the same in every setting that has the bucket.
    background : {"black", "white", "noise", "natural"}
        "noise" is uniform on the levels 0 to 99 of 255, independent in each pixel and channel. Objects are
        white, but black on "white".
    natural : path, optional
        Folder of natural images; by default twelve squares of two photographs of scikit-learn.
    tight_boxes : bool
        Whether the box of a character is its ink, or begins at its origin with a few blank rows above, as
        published.

    Returns
    -------
    Images

    Raises
    ------
    DataError
        If an argument is not valid, or natural images cannot be read.

    Notes
    -----
    The distances kept are the published ones (`SQUARED_DISTANCE`), which leave out that a character is drawn 6
    pixels from int(36 u): its box meets that of a patch in 11 %, that of a switch in 7 % of the images with both.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506.

    Examples
    --------
    >>> made = images("simple-fr", 2)
    >>> made.images.shape, made.boxes.shape, made.label.sum()
    ((24, 64, 64, 3), (24, 3, 4), 12)
    """
    pictures = np.empty((image_count(setting, n, part), SIDE, SIDE, 3), dtype=np.float32)
    look = {"background": background, "natural": natural, "tight_boxes": tight_boxes}
    blocks = [block for _, block in _blocks(setting, n, pictures, part=part, seed=seed, **look)]
    others = [field.name for field in fields(Images) if field.name != "images"]
    joined = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in others}
    return Images(images=pictures, **joined)


def image_blocks(
    setting: str | Setting,
    n: int | None = None,
    *,
    part: str = "test",
    seed: int = 0,
    background: str = "black",
    natural: str | os.PathLike[str] | None = None,
    tight_boxes: bool = True,
) -> Iterator[tuple[slice, Images]]:
    """Give the images of `images` block by block, for sets larger than memory.

    Parameters
    ----------
    setting, n, part, seed, background, natural, tight_boxes
        As `images`.

    Yields
    ------
    rows : slice
        Positions of these images among all.
    block : Images
        At most `BLOCK_IMAGES`.

    Raises
    ------
    DataError
        As `images`.
    """
    look = {"background": background, "natural": natural, "tight_boxes": tight_boxes}
    return _blocks(setting, n, None, part=part, seed=seed, **look)


def objects_added(
    setting: str | Setting,
    bucket: str,
    n: int,
    *,
    order: Sequence[str] = OBJECTS,
    part: str = "test",
    seed: int = 0,
    background: str = "black",
    natural: str | os.PathLike[str] | None = None,
    tight_boxes: bool = True,
) -> list[Images]:
    """Return the images of a bucket with their objects added one by one ("object added" test).

    Places and background of an image stay the same; the last step is the images of the bucket itself.

    Parameters
    ----------
    setting : str or Setting
        Labels, and judges, the images of every step; label and bucket are -1 where it has no such bucket.
    bucket : str
        Name of the bucket with all objects, see `Features.name`.
    n : int
        Images, numbered from 0.
    order : sequence of str
        Objects in the order in which they are added; those that the bucket does not have are passed over.
    part, seed, background, natural, tight_boxes
        As `images`.

    Returns
    -------
    list of Images
        First the background alone, then one more object in each.

    Raises
    ------
    DataError
        If an argument is not valid, or natural images cannot be read.

    Examples
    --------
    >>> steps = objects_added("complex-fr", "patch-A-switch", 1)
    >>> [(int((step.boxes[0, :, 0] >= 0).sum()), int(step.label[0])) for step in steps]
    [(0, 0), (1, 0), (2, 0), (3, 1)]
    """
    chosen = setting_of(setting)
    whole = chosen.bucket(bucket).features
    if sorted(order) != sorted(OBJECTS):
        raise DataError(f"order {tuple(order)}: does not name each object once; give {', '.join(OBJECTS)}")
    canvas = canvas_of(background, natural)
    numbers = np.arange(_checked_count(n))
    added = [name for name in order if name in whole.objects]
    steps = [
        np.tile([value * (name in added[:count]) for name, value in zip(OBJECTS, whole, strict=True)], (n, 1))
        for count in range(len(added) + 1)
    ]
    keys = image_keys(seed, part, steps[-1], numbers)
    made = []
    for shown in steps:
        pictures = np.empty((n, SIDE, SIDE, 3), dtype=np.float32)
        boxes = _draw(pictures, keys, steps[-1], shown, canvas, tight_boxes)
        made.append(_images(chosen, pictures, boxes, shown, numbers))
    return made


def image_count(setting: str | Setting, n: int | None = None, part: str = "test") -> int:
    """Return how many images `images` returns.

    Raises
    ------
    DataError
        If an argument is not valid.

    Examples
    --------
    >>> image_count("complex-cr1", part="train"), image_count("complex-cr1", 20)
    (150000, 200)
    """
    return sum(_counts(setting_of(setting), n, part))


def _blocks(
    setting: str | Setting,
    n: int | None,
    out: NDArray[np.float32] | None,
    *,
    part: str,
    seed: int,
    background: str,
    natural: str | os.PathLike[str] | None,
    tight_boxes: bool,
) -> Iterator[tuple[slice, Images]]:
    """Give blocks of images, whose pictures are parts of ``out`` where it is given."""
    chosen = setting_of(setting)
    counts = _counts(chosen, n, part)
    index = np.repeat(np.arange(len(counts)), counts)
    numbers = np.concatenate([np.arange(count) for count in counts])
    features = np.array([bucket.features for bucket in chosen.buckets], dtype=np.int8)
    canvas = canvas_of(background, natural)
    for start in range(0, len(index), BLOCK_IMAGES):
        rows = slice(start, min(start + BLOCK_IMAGES, len(index)))
        shown = features[index[rows]]
        keys = image_keys(seed, part, shown, numbers[rows])
        pictures = np.empty((len(keys), SIDE, SIDE, 3), np.float32) if out is None else out[rows]
        boxes = _draw(pictures, keys, shown, shown, canvas, tight_boxes)
        yield rows, _images(chosen, pictures, boxes, shown, numbers[rows])


def _counts(setting: Setting, n: int | None, part: str) -> list[int]:
    """Return the number of images of each bucket."""
    if part not in PARTS:
        raise DataError(f"part {part!r} is unknown; give 'train' or 'test'{suggest(part, PARTS)}")
    if n is not None:
        return [_checked_count(n)] * len(setting.buckets)
    return [bucket.n_train if part == "train" else bucket.n_test for bucket in setting.buckets]


def _checked_count(n: int) -> int:
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
        raise DataError(f"n {n!r} is no number of images; give a whole number from 1")
    return int(n)


def _draw(
    pictures: NDArray[np.float32],
    keys: NDArray[np.uint64],
    whole: NDArray[np.integer],
    shown: NDArray[np.integer],
    canvas: Canvas,
    tight_boxes: bool,
) -> NDArray[np.int16]:
    """Draw the features shown, at the places of the whole ones, into pictures, and return the boxes."""
    words = random_words(keys, FIRST_WORDS)
    places = place(keys, whole, words)
    canvas.paint(pictures, words)
    return paint_objects(pictures, shown, places, ink=canvas.ink, tight_boxes=tight_boxes)


def _images(
    setting: Setting,
    pictures: NDArray[np.float32],
    boxes: NDArray[np.int16],
    features: NDArray[np.integer],
    numbers: NDArray[np.integer],
) -> Images:
    shown = features.astype(np.int8)
    return Images(pictures, boxes, shown, numbers.astype(np.int64), **_judged(setting, shown))


def _judged(setting: Setting, features: ArrayLike) -> dict[str, NDArray]:
    """Return label, primary, secondary and bucket of images with these features."""
    label, bucket_index = np.full(_N_CODES, -1, np.int64), np.full(_N_CODES, -1, np.int16)
    primary, secondary = np.zeros((2, _N_CODES, len(OBJECTS)), dtype=bool)
    for index, (code, bucket) in enumerate(zip(_bucket_codes(setting), setting.buckets, strict=True)):
        label[code], bucket_index[code] = bucket.label, index
        primary[code] = [name in bucket.primary for name in OBJECTS]
        secondary[code] = [name in bucket.secondary for name in OBJECTS]
    codes = feature_codes(features)
    return {
        "label": label[codes],
        "primary": primary[codes],
        "secondary": secondary[codes],
        "bucket": bucket_index[codes],
    }


def _bucket_codes(setting: Setting) -> list[int]:
    return feature_codes([bucket.features for bucket in setting.buckets]).tolist()
