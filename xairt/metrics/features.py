"""Scores of attributions of single variables, some of which are known to matter and others not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.metrics.arrays import dimensions, is_dataarray, refuse_names

if TYPE_CHECKING:
    import xarray as xr

SMALL = 1e-7
"""Added to the denominator of an agreement, so that two zeros agree."""


def uniformity_score(
    attribution: ArrayLike | xr.DataArray,
    truth: ArrayLike | xr.DataArray,
    relevant: ArrayLike | xr.DataArray,
    dim: str | Sequence[str] | None = None,
) -> Any:
    """Return how far the relevant variables get the shares that they should: the UScore, 0 to 1.

    With a and b the attribution and the truth, each divided by the sum of its magnitudes over all variables, the score
    is the mean over the relevant variables of

        1 - |a - b| / (|a| + |b| + 1e-7),

    which is 0 where signs differ. The scale of either does not matter.

    Parameters
    ----------
    attribution, truth : array (..., variables) or DataArray
        The truth of a variable that does not matter is 0.
    relevant : array (variables,) of bool or DataArray
        Which variables matter.
    dim : str or sequence of str
        For a DataArray: the dimension of the variables; must be given.

    Returns
    -------
    numpy.ndarray, float or xarray.DataArray
        Without the dimension of the variables, for example (samples,), float64. NaN where an attribution or truth is
        not finite. An attribution of zeros alone scores 0 but for variables whose truth is 0.

    Raises
    ------
    DataError
        If shapes do not fit, no variable is relevant, or ``dim`` is missing, unknown, or given for a plain array.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, UScore.

    Examples
    --------
    >>> float(uniformity_score([2.0, 1.0, 1.0], [0.5, 0.25, 0.25], [True, True, False]))
    1.0
    """
    if is_dataarray(attribution):
        return _by_dimension(uniformity_score, attribution, dim, truth, relevant=relevant)
    refuse_names(dim)
    a, chosen = _checked(attribution, relevant)
    b = np.asarray(truth, np.float64)
    if b.shape != a.shape:
        raise DataError(f"truth {b.shape}: attribution is {a.shape}; give both for the same variables")
    return _agreement(_shares(a)[..., chosen], _shares(b)[..., chosen]).mean(axis=-1)[()]


def functional_precision(
    attribution: ArrayLike | xr.DataArray,
    relevant: ArrayLike | xr.DataArray,
    dim: str | Sequence[str] | None = None,
    *,
    k: int | None = None,
) -> Any:
    """Return which share of the k variables with the largest magnitude is relevant: the FPrec, 0 to 1.

    Parameters
    ----------
    attribution : array (..., variables) or DataArray
    relevant : array (variables,) of bool or DataArray
        Which variables matter.
    dim : str or sequence of str
        For a DataArray: the dimension of the variables; must be given.
    k : int, optional
        By default the number of relevant variables.

    Returns
    -------
    numpy.ndarray, float or xarray.DataArray
        Without the dimension of the variables, for example (samples,), float64. NaN where an attribution is not
        finite. Variables that tie for the last places count by the share of them that is relevant.

    Raises
    ------
    DataError
        If shapes do not fit, no variable is relevant, ``k`` is not from 1 to the number of variables, or ``dim`` is
        missing, unknown, or given for a plain array.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, functional precision.

    Examples
    --------
    >>> functional_precision([[3.0, -2.0, 1.0], [0.0, 0.0, 0.0]], [False, True, True]).tolist()
    [0.5, 0.6666666666666666]
    """
    if is_dataarray(attribution):
        return _by_dimension(functional_precision, attribution, dim, relevant=relevant, k=k)
    refuse_names(dim)
    a, chosen = _checked(attribution, relevant)
    count = int(chosen.sum()) if k is None else k
    if not 1 <= count <= a.shape[-1]:
        raise DataError(f"k={k}: out of range; give a number from 1 to the {a.shape[-1]} variables")
    size = np.abs(a)
    last = np.partition(size, -count, axis=-1)[..., -count, None]
    above, tied = size > last, size == last
    places = count - above.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        share = places * (tied & chosen).sum(axis=-1) / tied.sum(axis=-1)
    found = ((above & chosen).sum(axis=-1) + share) / count
    return np.where(np.isfinite(a).all(axis=-1), found, np.nan)[()]


def prediction_score(prediction: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Return how far predictions agree with the truth, in the measure of `uniformity_score`.

    Parameters
    ----------
    prediction, truth : (samples,)

    Returns
    -------
    numpy.ndarray
        (samples,) float64: 1 - |p - y| / (|p| + |y| + 1e-7), from 0, also where signs differ, to 1.

    Raises
    ------
    DataError
        If shapes differ.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150.

    Examples
    --------
    >>> prediction_score([1.0, 1.0], [1.0, -2.0]).round(6).tolist()
    [1.0, 0.0]
    """
    p, y = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    if p.shape != y.shape:
        raise DataError(f"prediction {p.shape} and truth {y.shape}: give one truth for each prediction")
    return _agreement(p, y)


def _agreement(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 - np.abs(a - b) / (np.abs(a) + np.abs(b) + SMALL)


def _shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide by the sum of magnitudes; zeros stay zeros."""
    finite = np.where(np.isfinite(values).all(axis=-1, keepdims=True), values, np.nan)
    total = np.abs(finite).sum(axis=-1, keepdims=True)
    return finite / np.where(total == 0, 1.0, total)


def _checked(attribution: ArrayLike, relevant: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    a, chosen = np.asarray(attribution, np.float64), np.asarray(relevant)
    if a.ndim < 1 or chosen.dtype != bool or chosen.shape != a.shape[-1:]:
        raise DataError(
            f"relevant {chosen.shape} of {chosen.dtype}: attribution is {a.shape}; give one bool for each variable"
        )
    if not chosen.any():
        raise DataError("relevant: all False; name one variable or more")
    return a, chosen


def _by_dimension(
    score: Any, attribution: xr.DataArray, dim: Any, *others: Any, **options: Any
) -> xr.DataArray:
    """Apply a score of arrays to DataArrays whose variables lie along one dimension."""
    import xarray as xr

    dims = dimensions(dim, attribution.dims)
    if len(dims) != 1:
        raise DataError(f"dim={dim}: name the one dimension of the variables")
    chosen = np.asarray(options.pop("relevant"))
    return xr.apply_ufunc(
        lambda *arrays: score(*arrays, relevant=chosen, **options),
        attribution,
        *others,
        input_core_dims=[dims] * (1 + len(others)),
    )
