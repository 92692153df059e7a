"""What the trainers share: samples as vectors, the part to train with, class weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, suggest
from xairt.grid import Grid
from xairt.metrics.arrays import is_dataarray
from xairt.metrics.classification import class_numbers
from xairt.training.splits import Split

CLASS_WEIGHTS = ("balanced", "inverse_frequency")

ClassWeight = str | Mapping[int, float] | None


def read_vectors(x: Any, grid: Grid | None = None) -> tuple[Any, Grid | None]:
    """Return samples as vectors of cells.

    Parameters
    ----------
    x : (samples, cells) array or DataArray, or (samples, lat, lon) DataArray with NaN on land
    grid : Grid, optional
        Of maps; by default the cells that are not NaN.

    Returns
    -------
    vectors : numpy.ndarray or xarray.DataArray
        (samples, cells); a DataArray where x is one.
    grid : Grid or None
        The grid of x, if x are maps; else the one given.

    Raises
    ------
    DataError
        If x has another shape, holds NaN elsewhere than on land, infinity, or no numbers.
    """
    if is_dataarray(x) and x.ndim == 3:
        grid = grid or Grid.from_dataarray(x)
        x = grid.to_vector(x)
    elif not is_dataarray(x):
        x = np.asarray(x)
    if x.ndim != 2 or not x.size or x.dtype.kind not in "iufb":
        raise DataError(
            f"x {x.shape} of {x.dtype}: give numbers (samples, cells), or maps as a DataArray (sample, lat, lon)"
        )
    values = x.values if is_dataarray(x) else x
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise DataError("x: holds NaN or infinity; leave land out (Grid.to_vector) or fill gaps")
    return x, grid


def checked_split(split: Split | None, n: int) -> Split:
    """Return the split, or the one that trains with all samples; DataError if it is one of a longer series."""
    none = np.arange(0)
    split = split or Split(np.arange(n), none, none)
    last = max(int(part.max(initial=-1)) for part in (split.train, split.validation, split.test))
    if last >= n:
        raise DataError(f"split: names sample {last} of {n}; make it with n={n}")
    return split


def taken(values: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return some rows; without a copy where they are all, in order, since fields are large."""
    return values if np.array_equal(rows, np.arange(len(values))) else values[rows]


def known_classes(labels: ArrayLike, n_samples: int, n_classes: int, rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return the class of every sample, checked.

    Parameters
    ----------
    labels : (samples,)
        Classes 0 .. n_classes - 1.
    n_samples, n_classes : int
    rows : numpy.ndarray
        Samples to train with, which must hold every class.

    Raises
    ------
    DataError
        If labels do not fit, or a class is missing from the training part.
    """
    classes = class_numbers(labels)
    if len(classes) != n_samples:
        raise DataError(f"labels ({len(classes)},): give one for each of the {n_samples} samples")
    if classes.max() >= n_classes:
        raise DataError(
            f"labels: class {classes.max()}, while there are {n_classes}; give 0 to {n_classes - 1}"
        )
    counts = np.bincount(classes[rows], minlength=n_classes)
    if not counts.all():
        raise DataError(
            f"labels: no sample of class {counts.argmin()} to train with; give a series or a split that holds it"
        )
    return classes


def class_weights(
    labels: ArrayLike, how: ClassWeight = "balanced", n_classes: int = 2
) -> NDArray[np.float64] | None:
    """Return the weight of each class in the loss.

    Parameters
    ----------
    labels : (samples,)
        Classes 0 .. n_classes - 1 of the samples to train with; every class must occur.
    how : {"balanced", "inverse_frequency"}, mapping or None
        "balanced": n / (n_classes count), so that the mean over samples is 1, as scikit-learn has it;
        "inverse_frequency": n / count, as the publication has it, which is n_classes times as much and so weakens
        the regularisation against the loss. A mapping gives each class its weight; None weights nothing.
    n_classes : int

    Returns
    -------
    numpy.ndarray or None
        (n_classes,) float64.

    Raises
    ------
    DataError
        If `how` is unknown, a mapping does not give every class a positive number, or a class is missing.

    References
    ----------
    King and Zeng (2001), doi:10.1093/oxfordjournals.pan.a004868 (balanced); Gaikwad et al. (XAIRT), n / count.

    Examples
    --------
    >>> class_weights([0, 0, 0, 1]), class_weights([0, 0, 0, 1], "inverse_frequency")
    (array([0.66666667, 2.        ]), array([1.33333333, 4.        ]))
    """
    require_class_weight(how, n_classes)
    if how is None:
        return None
    if isinstance(how, Mapping):
        return np.array([how[k] for k in range(n_classes)], np.float64)
    classes = known_classes(labels, np.size(labels), n_classes, np.arange(np.size(labels)))
    counts = np.bincount(classes, minlength=n_classes)
    return len(classes) / counts / (n_classes if how == "balanced" else 1)


def require_class_weight(how: ClassWeight, n_classes: int) -> None:
    """Raise a DataError if this says no weight of the classes."""
    if isinstance(how, Mapping):
        if set(how) != set(range(n_classes)) or not all(_positive(weight) for weight in how.values()):
            raise DataError(
                f"class_weight {dict(how)}: give each class from 0 to {n_classes - 1} a positive number"
            )
    elif how is not None and how not in CLASS_WEIGHTS:
        known = ", ".join(map(repr, CLASS_WEIGHTS))
        raise DataError(
            f"class_weight {how!r} is unknown: give {known}, a number for each class, or None"
            f"{suggest(how, CLASS_WEIGHTS)}"
        )


def _positive(weight: Any) -> bool:
    return isinstance(weight, int | float | np.number) and 0 < weight < np.inf
