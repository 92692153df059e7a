"""Correlation of attribution with truth, and the share of variance a prediction explains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, reason_of
from xairt.metrics.arrays import axes_to_one, dimensions, is_dataarray, refuse_names

if TYPE_CHECKING:
    import xarray as xr

_Kernel = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None], NDArray[np.float64]
]


def pearson(
    a: ArrayLike | xr.DataArray,
    b: ArrayLike | xr.DataArray,
    dim: str | Sequence[str] | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    weights: ArrayLike | xr.DataArray | None = None,
    skipna: bool = True,
) -> Any:
    """Return the Pearson correlation of ``a`` with ``b``.

    Parameters
    ----------
    a, b : array or DataArray
        Arrays broadcast against each other (DataArrays by dimension name).
    dim : str or sequence of str
        For DataArrays: the dimensions to correlate over; must be given.
    axis : int or tuple of int
        For plain arrays: the axes to correlate over.
    weights : array or DataArray, optional
        Weights >= 0, for example cell areas; must broadcast against a and b.
    skipna : bool
        Leave out pairs in which either is NaN (land); with False the result is NaN there.

    Returns
    -------
    numpy.ndarray, float or xarray.DataArray
        Without the reduced axes, -1 .. 1, float64. NaN where fewer than two pairs are left, or a or b is
        constant over them.

    Raises
    ------
    DataError
        If shapes do not fit, a weight is negative or NaN, or ``dim`` is missing, unknown, or given for plain
        arrays.

    Examples
    --------
    >>> float(pearson([1.0, 2.0, 3.0, np.nan], [2.0, 4.0, 6.0, 8.0]))
    1.0
    """
    return _correlate(_pearson, a, b, dim, axis, weights, skipna)


def spearman(
    a: ArrayLike | xr.DataArray,
    b: ArrayLike | xr.DataArray,
    dim: str | Sequence[str] | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    weights: ArrayLike | xr.DataArray | None = None,
    skipna: bool = True,
) -> Any:
    """Return the Spearman rank correlation: the Pearson correlation of the ranks (ties get their mean rank).

    Parameters
    ----------
    a, b, dim, axis, skipna
        As `pearson`.
    weights : array or DataArray, optional
        As `pearson`; they weight the correlation, not the ranks.

    Returns
    -------
    numpy.ndarray, float or xarray.DataArray
        As `pearson`.

    Raises
    ------
    DataError
        As `pearson`.

    Examples
    --------
    >>> float(spearman([1.0, 2.0, 3.0], [1.0, 10.0, 100.0]))
    1.0
    """
    return _correlate(_spearman, a, b, dim, axis, weights, skipna)


def r2(y: ArrayLike, prediction: ArrayLike) -> float:
    """Return the coefficient of determination, 1 - (residual sum of squares) / (total sum of squares).

    Parameters
    ----------
    y : (samples, ...)
        The right values.
    prediction : same number of values, for example (samples, 1) for (samples,)

    Returns
    -------
    float
        1 for a perfect prediction, 0 for the mean of y, negative for worse; NaN if y is constant.

    Raises
    ------
    DataError
        If the numbers of values differ or are 0.

    Examples
    --------
    >>> r2([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    0.0
    """
    right = np.asarray(y, dtype=np.float64)
    guess = np.asarray(prediction, dtype=np.float64)
    if np.squeeze(right).shape != np.squeeze(guess).shape or not right.size:
        raise DataError(
            f"y {right.shape} and prediction {guess.shape}: shapes do not fit; give one per sample"
        )
    right, guess = right.ravel(), guess.ravel()
    if right.min() == right.max():
        return float("nan")
    return float(1 - np.sum((right - guess) ** 2) / np.sum((right - right.mean()) ** 2))


def pairwise_correlation(
    attributions: ArrayLike | xr.DataArray,
    dim: str | Sequence[str] | None = None,
    *,
    network: str = "network",
    axis: int | tuple[int, ...] = -1,
    weights: ArrayLike | xr.DataArray | None = None,
    skipna: bool = True,
) -> Any:
    """Return the Pearson correlation between the attributions of every two networks.

    Networks that predict equally well agree here as far as they have learned the same relations (Krell et al.
    2025, where strongly correlated inputs let them differ).

    Parameters
    ----------
    attributions : array (networks, ..., cells) or DataArray
        Of the same samples, one method.
    dim : str or sequence of str
        For a DataArray: the dimensions to correlate over (cells); must be given.
    network : str
        For a DataArray: the dimension of the networks.
    axis : int or tuple of int
        For a plain array: the axes to correlate over, counted in the array of one network.
    weights, skipna
        As `pearson`; weights broadcast against the array of one network.

    Returns
    -------
    numpy.ndarray or xarray.DataArray
        (pairs, ...), for example (pairs, samples), -1 .. 1, float64, NaN as `pearson`. The pairs are ordered
        (0, 1), (0, 2), ... (1, 2), ...; in a DataArray the coordinates ``network_a`` and ``network_b`` of
        dimension ``pair`` name them.

    Raises
    ------
    DataError
        If there are fewer than two networks or no such dimension, and as `pearson`.

    Examples
    --------
    >>> pairwise_correlation([[[1.0, 2.0, 3.0]], [[2.0, 4.0, 6.0]], [[3.0, 2.0, 1.0]]])
    array([[ 1.],
           [-1.],
           [-1.]])
    """
    if is_dataarray(attributions):
        return _pairwise_labelled(attributions, dim, network, weights, skipna)
    array = np.asarray(attributions, dtype=np.float64)
    pairs = _pairs(len(array) if array.ndim else 0)
    found = [pearson(array[i], array[j], dim, axis=axis, weights=weights, skipna=skipna) for i, j in pairs]
    return np.stack(found)


def _pairwise_labelled(
    attributions: xr.DataArray, dim: str | Sequence[str] | None, network: str, weights: Any, skipna: bool
) -> xr.DataArray:
    import xarray as xr

    dimensions(network, attributions.dims)
    pairs = _pairs(attributions.sizes[network])
    each = [attributions.isel({network: i}, drop=True) for i in range(attributions.sizes[network])]
    found = xr.concat(
        [pearson(each[i], each[j], dim, weights=weights, skipna=skipna) for i, j in pairs], "pair"
    )
    labels = attributions[network].values
    first, second = np.transpose(pairs)
    return found.assign_coords(network_a=("pair", labels[first]), network_b=("pair", labels[second]))


def _pairs(networks: int) -> list[tuple[int, int]]:
    if networks < 2:
        raise DataError(f"attributions: {networks} network(s) make no pair; give those of two or more")
    return list(combinations(range(networks), 2))


def _correlate(
    kernel: _Kernel,
    a: Any,
    b: Any,
    dim: str | Sequence[str] | None,
    axis: int | tuple[int, ...],
    weights: Any,
    skipna: bool,
) -> Any:
    """Send DataArrays through xarray's alignment and plain arrays straight to the kernel."""
    if is_dataarray(a) or is_dataarray(b):
        return _correlate_labelled(kernel, a, b, dim, weights, skipna)
    refuse_names(dim)
    arrays = [np.asarray(array, dtype=np.float64) for array in (a, b)]
    if weights is not None:
        arrays.append(np.asarray(weights, dtype=np.float64))
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        moved = [axes_to_one(np.broadcast_to(array, shape), axis) for array in arrays]
    except ValueError as error:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise DataError(f"arrays {shapes}: shapes or axis {axis} do not fit ({error})") from error
    return _masked(kernel, skipna, *moved)


def _correlate_labelled(
    kernel: _Kernel, a: Any, b: Any, dim: str | Sequence[str] | None, weights: Any, skipna: bool
) -> xr.DataArray:
    import xarray as xr

    arrays = [a, b] if weights is None else [a, b, weights]
    if not all(is_dataarray(array) for array in arrays):
        raise DataError("a, b and weights: DataArrays and plain arrays are mixed; give DataArrays only")
    dims = dimensions(dim, {*a.dims, *b.dims})
    try:
        aligned = xr.broadcast(*xr.align(*arrays, join="exact"))
    except ValueError as error:
        raise DataError(
            f"a, b and weights: coordinates differ ({reason_of(error, 160)}); bring them to one grid"
        ) from error

    def reduce(*values: NDArray[Any]) -> NDArray[np.float64]:
        axes = tuple(range(-len(dims), 0))
        return _correlate(
            kernel, values[0], values[1], None, axes, values[2] if len(values) > 2 else None, skipna
        )

    return xr.apply_ufunc(reduce, *aligned, input_core_dims=[dims] * len(aligned))


def _masked(
    kernel: _Kernel,
    skipna: bool,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Mark pairs that do not count with NaN in both arrays, and run the kernel on them."""
    left_out = np.isnan(a) | np.isnan(b)
    refused = np.zeros(a.shape[:-1], bool) if skipna else left_out.any(axis=-1)
    if weights is not None:
        if not (weights >= 0).all():
            raise DataError("weights: negative or NaN; give weights >= 0, for example cell areas")
        left_out |= weights == 0
    if left_out.any():
        a, b = np.where(left_out, np.nan, a), np.where(left_out, np.nan, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        result = kernel(a, b, weights)
    return np.where(refused, np.nan, result)[()]


def _pearson(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Correlate over the last axis; NaN, always in both arrays, marks pairs to leave out."""
    if weights is None:
        shares = np.where(np.isnan(a), 0.0, 1.0)
    else:
        shares = np.where(np.isnan(a), 0.0, weights)
        shares /= np.max(shares, axis=-1, keepdims=True, initial=0.0)
    x, y = _anomaly(a, shares), _anomaly(b, shares)
    covariance = np.sum(shares * x * y, axis=-1)
    variances = np.sum(shares * x**2, axis=-1) * np.sum(shares * y**2, axis=-1)
    return np.clip(covariance / np.sqrt(variances), -1.0, 1.0)


def _anomaly(values: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract the weighted mean and scale to a largest value of 1: squares then neither vanish nor overflow.

    Constant rows become 0, exactly, which makes their correlation 0 / 0 = NaN.
    """
    filled = np.where(shares > 0, values, 0.0)
    mean = np.sum(shares * filled, axis=-1, keepdims=True) / np.sum(shares, axis=-1, keepdims=True)
    anomaly = np.where(shares > 0, values - mean, 0.0)
    lowest = np.min(values, axis=-1, keepdims=True, initial=np.inf, where=shares > 0)
    highest = np.max(values, axis=-1, keepdims=True, initial=-np.inf, where=shares > 0)
    anomaly = np.where(highest > lowest, anomaly, 0.0)
    scale = np.max(np.abs(anomaly), axis=-1, keepdims=True, initial=0.0)
    return anomaly / np.where(scale > 0, scale, 1.0)


def _spearman(
    a: NDArray[np.float64], b: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    ranks = [rankdata(array, axis=-1, nan_policy="omit") if array.size else array for array in (a, b)]
    return _pearson(ranks[0], ranks[1], weights)
