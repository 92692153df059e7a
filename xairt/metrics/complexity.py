"""How few cells an attribution rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.metrics.arrays import axes_to_one, dimensions, is_dataarray, refuse_names

if TYPE_CHECKING:
    import xarray as xr


def sparseness(
    attribution: ArrayLike | xr.DataArray,
    dim: str | Sequence[str] | None = None,
    *,
    axis: int | tuple[int, ...] = -1,
    skipna: bool = True,
) -> Any:
    """Return the Gini index of the absolute attribution: 0 for equal shares, 1 - 1/n for a single cell.

    With v_1 <= ... <= v_n the absolute attributions of the n cells, sorted,

        G = sum_k (2 k - n - 1) v_k / (n sum_k v_k),

    which is the form 1 - 2 sum_k (v_k / sum v) (n - k + 1/2) / n of the paper. The sign and the unit of the
    attribution do not matter.

    Parameters
    ----------
    attribution : array (..., cells) or DataArray
    dim : str or sequence of str
        For a DataArray: the dimensions of the cells; must be given.
    axis : int or tuple of int
        For a plain array: the axes of the cells.
    skipna : bool
        Leave out cells that are NaN (land), so that n counts the others; with False the result is NaN there.

    Returns
    -------
    numpy.ndarray, float or xarray.DataArray
        Without the reduced axes, for example (samples,), float64. NaN where no cell is left, or all are 0:
        shares of nothing are not defined (Quantus adds 1e-7 to every cell and returns 0).

    Raises
    ------
    DataError
        If an attribution is infinite, the axis does not fit, or ``dim`` is missing, unknown, or given for a
        plain array.

    References
    ----------
    Chalasani et al. (2020), arXiv:1810.06583, who take the Gini index for the sparseness of an attribution.

    Examples
    --------
    >>> sparseness([[0.0, 0.0, -5.0, 0.0], [1.0, -1.0, 1.0, np.nan]])
    array([0.75, 0.  ])
    """
    if is_dataarray(attribution):
        import xarray as xr

        dims = dimensions(dim, attribution.dims)
        axes = tuple(range(-len(dims), 0))
        return xr.apply_ufunc(
            lambda values: sparseness(values, axis=axes, skipna=skipna), attribution, input_core_dims=[dims]
        )
    refuse_names(dim)
    size = np.abs(np.asarray(attribution, dtype=np.float64))
    if np.isinf(size).any():
        raise DataError("attribution: infinite; give finite numbers, NaN where there is no cell")
    try:
        cells = axes_to_one(size, axis)
    except ValueError as error:
        raise DataError(
            f"attribution {size.shape}: axis {axis} does not fit; name axes that it has"
        ) from error
    gini = _gini(cells)
    return (gini if skipna else np.where(np.isnan(cells).any(axis=-1), np.nan, gini))[()]


def _gini(size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Gini index over the last axis of numbers >= 0; NaN is left out."""
    n = np.sum(~np.isnan(size), axis=-1, keepdims=True)
    largest = np.fmax.reduce(size, axis=-1, keepdims=True, initial=0.0)
    shares = np.nan_to_num(np.sort(size / np.where(largest > 0, largest, 1.0), axis=-1))  # NaN comes last
    rank = np.arange(1, size.shape[-1] + 1)
    with np.errstate(invalid="ignore"):
        return np.sum((2 * rank - n - 1) * shares, axis=-1) / (n[..., 0] * np.sum(shares, axis=-1))
