"""The file layout of the published program: npz with images, labels and boxes of a training and a test set.

The published files hold lists of boxes as pickled objects. The files written here have the same keys with
integers alone, and further keys with what the published ones do not tell.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.smerf.images import Images
from xairt.benchmarks.smerf.placing import CHARACTER, PATCH, PATCH_SIDE, SIDE, SWITCH, SWITCH_SIDE
from xairt.benchmarks.smerf.rules import OBJECTS, PARTS
from xairt.data.files import atomic_write, existing_file
from xairt.errors import DataError, reason_of

KEYS = tuple(
    key for part in PARTS for key in (f"x_{part}", f"y_{part}", f"{part}_primary", f"{part}_secondary")
)
"""Keys of the published files."""

_TOLD_HERE = ("boxes", "features", "number", "bucket")


def write_npz(path: str | os.PathLike[str], train: Images, test: Images) -> None:
    """Write a training and a test set under the published keys, without pickled objects.

    ``x_train`` (n, 64, 64, 3) float32, ``y_train`` (n,), ``train_primary`` and ``train_secondary`` (n, 3, 4)
    int16 of the objects patch, character and switch by (row0, row1, col0, col1), -1 where an object is absent
    or is none of these; likewise for the test set. ``train_boxes``, ``train_features``, ``train_number`` and
    ``train_bucket`` are further keys, see `Images`.

    Parameters
    ----------
    path : path ending in .npz
    train, test : Images

    Raises
    ------
    DataError
        If the name ends otherwise, or the file cannot be written.
    """
    if Path(path).suffix != ".npz":
        raise DataError(f"{path}: is no name of an npz file; end it with .npz")
    arrays: dict[str, NDArray] = {}
    for part, made in zip(PARTS, (train, test), strict=True):
        arrays |= {f"x_{part}": made.images, f"y_{part}": made.label}
        for name in ("primary", "secondary"):
            arrays[f"{part}_{name}"] = np.where(getattr(made, name)[:, :, None], made.boxes, np.int16(-1))
        arrays |= {f"{part}_{name}": getattr(made, name) for name in _TOLD_HERE}
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_npz(path: str | os.PathLike[str], *, trust_pickle: bool = False) -> tuple[Images, Images]:
    """Read the training and the test set of a file in the published layout.

    Parameters
    ----------
    path : path
        Written by `write_npz` or by the published program.
    trust_pickle : bool
        Read pickled objects, as the published files hold them. These can run any code while they are read:
        only for files whose origin is known.

    Returns
    -------
    train, test : Images
        Of published files, features, number and bucket are -1, and boxes are those of primary and secondary
        objects alone, told apart by their size: 10 x 10 the patch, 4 x 4 the switch, others the character.

    Raises
    ------
    DataError
        If the file is missing, damaged, holds pickled objects that are not trusted, or lacks a key, or shapes
        do not fit, or boxes are none.
    """
    source = existing_file(path)
    arrays = _read_arrays(source, trust_pickle)
    train, test = (_part(source, part, arrays) for part in PARTS)
    return train, test


def _read_arrays(source: Path, trust_pickle: bool) -> dict[str, NDArray]:
    try:
        with np.load(source, allow_pickle=trust_pickle) as archive:
            missing = [key for key in KEYS if key not in archive]
            if missing:
                raise DataError(f"{source}: lacks {', '.join(missing)}; give a file with the published keys")
            further = [f"{part}_{name}" for part in PARTS for name in _TOLD_HERE]
            return {key: archive[key] for key in (*KEYS, *further) if key in archive}
    except DataError:
        raise
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        if "Object arrays" in str(error):
            raise DataError(
                f"{source}: holds pickled objects, which can run code; "
                "give trust_pickle=True if you trust its origin"
            ) from error
        raise DataError(
            f"{source}: damaged or no npz file ({reason_of(error, 120)}); fetch or write it again"
        ) from error


def _part(source: Path, part: str, arrays: dict[str, NDArray]) -> Images:
    pictures, label = arrays[f"x_{part}"], arrays[f"y_{part}"]
    n = len(label)
    if pictures.shape != (n, SIDE, SIDE, 3) or pictures.dtype.kind != "f" or label.dtype.kind not in "iu":
        raise DataError(
            f"{source}: x_{part} is {pictures.shape} of {pictures.dtype}, "
            f"y_{part} {label.shape} of {label.dtype}; give (n, 64, 64, 3) floating and (n,) whole numbers"
        )
    primary, secondary = (
        _boxes(source, f"{part}_{name}", arrays[f"{part}_{name}"], n) for name in ("primary", "secondary")
    )
    masks = [boxes[:, :, 0] >= 0 for boxes in (primary, secondary)]
    if (masks[0] & masks[1]).any():
        raise DataError(f"{source}: {part}: an object is primary and secondary; fetch the file again")
    told = {"boxes": np.where(masks[0][:, :, None], primary, secondary)}
    for name, shape, dtype in (
        ("features", (n, 3), np.int8),
        ("number", n, np.int64),
        ("bucket", n, np.int16),
    ):
        told[name] = np.full(shape, -1, dtype)
    for name, default in told.items():
        found = arrays.get(f"{part}_{name}", default)
        if found.shape != default.shape or found.dtype != default.dtype:
            raise DataError(
                f"{source}: {part}_{name} is {found.shape} of {found.dtype}, "
                f"not {default.shape} of {default.dtype}; write the file again"
            )
        told[name] = found
    return Images(
        images=pictures.astype(np.float32, copy=False),
        label=label.astype(np.int64),
        primary=masks[0],
        secondary=masks[1],
        **told,
    )


def _boxes(source: Path, key: str, stored: NDArray, n: int) -> NDArray[np.int16]:
    """Return boxes (n, 3, 4) of the objects, from these or from a list of boxes for each image."""
    if len(stored) != n:
        raise DataError(f"{source}: {key} is of {len(stored)} images, not {n}; fetch the file again")
    if stored.dtype == np.int16 and stored.shape == (n, len(OBJECTS), 4):
        _check_boxes(source, key, stored[stored[:, :, 0] >= 0])
        return stored
    boxes = np.full((n, len(OBJECTS), 4), -1, dtype=np.int16)
    for image, listed in enumerate(stored):
        for box in listed if np.iterable(listed) else [listed]:
            values = _whole_numbers(source, key, box)
            index = _object_of(values)
            if boxes[image, index, 0] >= 0:
                raise DataError(
                    f"{source}: {key}: image {image} has two boxes of a {OBJECTS[index]}; fetch it again"
                )
            boxes[image, index] = values
    _check_boxes(source, key, boxes[boxes[:, :, 0] >= 0])
    return boxes


def _whole_numbers(source: Path, key: str, box: Any) -> NDArray[np.int64]:
    try:
        values = np.asarray(box, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (4,) or not ((values >= 0) & (values <= SIDE) & (values % 1 == 0)).all():
        raise DataError(
            f"{source}: {key} holds {str(box)[:60]!r}, no box; give (row0, row1, col0, col1) of whole numbers"
        )
    return values.astype(np.int64)


def _object_of(box: NDArray[np.int64]) -> int:
    sides = {(PATCH_SIDE, PATCH_SIDE): PATCH, (SWITCH_SIDE, SWITCH_SIDE): SWITCH}
    return sides.get((int(box[1] - box[0]), int(box[3] - box[2])), CHARACTER)


def _check_boxes(source: Path, key: str, boxes: NDArray[np.int16]) -> None:
    start, end = boxes[:, ::2], boxes[:, 1::2]
    wrong = boxes[((start < 0) | (start >= end) | (end > SIDE)).any(axis=1)]
    if len(wrong):
        raise DataError(
            f"{source}: {key} holds the box {tuple(wrong[0].tolist())}; "
            "give rows and columns that ascend, 0 to 64"
        )
