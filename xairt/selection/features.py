"""The data of an elimination: features with names, targets, and the three parts of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.attribution.parameters import as_array
from xairt.errors import DataError
from xairt.metrics.arrays import is_dataarray
from xairt.training.samples import checked_split
from xairt.training.splits import Split

SELECTION, TEST, SPLIT_SEED = 0.1, 0.2, 42
"""Shares of the samples that rank the features, and that test; and the published seed of the split."""

_SHOWN = 3
"""Features that an error names."""


@dataclass(frozen=True, eq=False)
class Features:
    """Checked data of an elimination.

    Attributes
    ----------
    names : tuple of str
        Of the features.
    x : (samples, features) float32
    y : (samples,) float32
    split : Split
        Its validation part ranks the features.
    """

    names: tuple[str, ...]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    split: Split

    def part(self, rows: NDArray[np.intp], positions: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return some features of some samples."""
        return self.x[np.ix_(rows, positions)]


def three_parts(n: int, selection: float = SELECTION, test: float = TEST, *, seed: int = SPLIT_SEED) -> Split:
    """Draw the samples that train, those that rank the features, and those that test.

    The test part depends on n, its share and the seed alone.

    Parameters
    ----------
    n : int
        Number of samples.
    selection, test : float
        Shares of all samples, rounded to whole ones; test may be 0.
    seed : int
        Not negative.

    Returns
    -------
    Split
        Its ``validation`` is the selection part. Every sample is in one part; positions ascend.

    Raises
    ------
    DataError
        If a number is out of range, or a part that must not be empty is.

    Examples
    --------
    >>> split = three_parts(10, 0.2, 0.3)
    >>> len(split.train), len(split.validation), len(split.test)
    (5, 2, 3)
    """
    if not 0 < selection < 1 or not 0 <= test < 1 or seed < 0:
        raise DataError(
            f"selection={selection}, test={test}, seed={seed}: out of range; give shares from 0 to below 1, the "
            "first above 0, and a seed from 0"
        )
    n_test, n_selection = round(test * n), round(selection * n)
    if n_selection < 1 or n - n_test - n_selection < 1 or (test and not n_test):
        raise DataError(
            f"split of {n} samples: {n - n_test - n_selection} to train, {n_selection} to select, {n_test} to test; "
            "give more samples or other shares"
        )
    order = np.random.default_rng(seed).permutation(n)
    parts = np.split(order, [n_test, n_test + n_selection])
    chosen_test, chosen, train = map(np.sort, parts)
    return Split(train, chosen, chosen_test)


def checked_features(x: Any, y: ArrayLike, split: Split | None) -> Features:
    """Return checked data with the names of features.

    Parameters
    ----------
    x : (samples, features) array, pandas.DataFrame or xarray.DataArray
        Names are the columns, or the labels of the second dimension; else ``x0, x1 ...``.
    y : (samples,) or (samples, 1)
    split : Split or None
        None: `three_parts` of all samples.

    Returns
    -------
    Features

    Raises
    ------
    DataError
        If shapes do not fit, a value is no finite number, names repeat, the target is constant where it trains, or
        a sample is in two parts.
    """
    names, values = _named(x)
    target = as_array(y, "y", "float64")
    target = target[:, 0] if target.ndim == 2 and target.shape[1] == 1 else target
    if target.shape != (len(values),):
        raise DataError(f"y {target.shape}: give one target for each of the {len(values)} samples of x")
    if not np.isfinite(target).all():
        raise DataError("y: holds NaN or infinity; fill or remove these samples")
    split = three_parts(len(values)) if split is None else _disjoint(checked_split(split, len(values)))
    if np.ptp(target[split.train]) == 0:
        raise DataError("y: constant in the training part; there is nothing to learn, give another target")
    return Features(names, values, target.astype(np.float32), split)


def _named(x: Any) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):
        labels = [str(name) for name in x.columns]
        text = [name for name, dtype in zip(labels, x.dtypes, strict=True) if dtype.kind not in "iufb"]
        if text:
            raise DataError(f"x: {_columns(text)} no numbers; encode or leave them out")
    elif is_dataarray(x) and x.ndim == 2 and x.dims[1] in x.coords:
        labels = [str(name) for name in x[x.dims[1]].values]
    else:
        labels = None
    values = as_array(x, "x", "float32")
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"x {values.shape}: give numbers (samples, features)")
    labels = labels or [f"x{position}" for position in range(values.shape[1])]
    twice = sorted({name for name in labels if labels.count(name) > 1})
    if twice:
        raise DataError(f"x: {_columns(twice)} a name twice; give each feature a name of its own")
    bad = [name for name, good in zip(labels, np.isfinite(values).all(axis=0), strict=True) if not good]
    if bad:
        raise DataError(f"x: {_columns(bad)} NaN or infinity; fill or remove them")
    return tuple(labels), values


def _columns(names: Sequence[str]) -> str:
    """Return names of features in front of what they hold or are.

    Examples
    --------
    >>> _columns(["a"]), _columns(["a", "b", "c", "d"])
    ("feature 'a' has", "features 'a', 'b', 'c' and 1 more have")
    """
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"features {shown}{more} have" if len(names) > 1 else f"feature {shown} has"


def _disjoint(split: Split) -> Split:
    parts = [np.asarray(part) for part in (split.train, split.validation, split.test)]
    if not parts[0].size or not parts[1].size:
        raise DataError("split: no sample trains, or none selects; give both parts, see three_parts")
    every = np.concatenate(parts)
    if len(np.unique(every)) < len(every):
        raise DataError("split: a sample is in two parts, or twice in one; give parts that share none")
    return split
