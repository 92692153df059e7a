"""What statistics over samples share: samples along one dimension, cells along others, NaN on land."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.grid import CELL_DIM
from xairt.metrics.arrays import dimensions, is_dataarray, refuse_names

if TYPE_CHECKING:
    import xarray as xr

BLOCK_VALUES = 2**22
"""Values that are turned into float64 at once: an archive of maps may fill half of the memory as it is."""


def labelled_samples(
    values: ArrayLike | xr.DataArray, dim: str | Sequence[str] | None, sample: str, name: str
) -> tuple[xr.DataArray, list[str]]:
    """Return samples as a DataArray, and its dimensions of the cells.

    Parameters
    ----------
    values : array (samples, cells) or DataArray
    dim : str or sequence of str
        For a DataArray: the dimensions of the cells; must be given. A plain array gets ``cell``.
    sample : str
        The dimension of the samples.
    name : str
        What the values are, for messages.

    Raises
    ------
    DataError
        If a plain array is not (samples, cells), a DataArray has no such dimensions, there is no sample, or
        the values are not real numbers.
    """
    import xarray as xr

    if is_dataarray(values):
        dims = dimensions(dim, values.dims)
        dimensions(sample, values.dims)
        if sample in dims:
            raise DataError(f"dim={dim}: '{sample}' counts the samples; name the dimensions of the cells")
        found = values
    else:
        refuse_names(dim)
        array = np.asarray(values)
        if array.ndim != 2:
            raise DataError(f"{name} {array.shape}: not (samples, cells); reshape it or give a DataArray")
        found, dims = xr.DataArray(array, dims=(sample, CELL_DIM)), [CELL_DIM]
    if found.dtype.kind not in "fiu":
        raise DataError(f"{name}: holds {found.dtype}, no real numbers; give floats, NaN on land")
    if not found.size:
        raise DataError(f"{name} {found.shape}: empty; give one sample and one cell or more")
    return found, dims


def per_sample(values: Any, samples: xr.DataArray, sample: str, name: str) -> NDArray[Any]:
    """Return the values that belong to samples, (samples, ...), after checking that they are of the same ones.

    Raises
    ------
    DataError
        If there is not one for each sample, or a DataArray names other samples.
    """
    if is_dataarray(values):
        dimensions(sample, values.dims)
        both = sample in values.coords and sample in samples.coords
        if both and not np.array_equal(values[sample].values, samples[sample].values):
            raise DataError(f"{name}: coordinate '{sample}' is that of other samples; select the same ones")
        values = values.transpose(sample, ...)
    array = np.asarray(values)
    if array.ndim < 1 or len(array) != samples.sizes[sample]:
        raise DataError(
            f"{name} {array.shape}: does not fit {samples.sizes[sample]} samples; give one for each sample"
        )
    return array


def blocks_of_samples(values: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield samples (samples, ...) block by block as float64, with their place."""
    for rows in _rows(values):
        yield rows, np.asarray(values[rows], np.float64)


def valid_cells(values: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """Return which cells of samples (samples, ...) hold numbers; the others are NaN in all samples.

    Raises
    ------
    DataError
        If a cell is NaN in some samples only, or a value is infinite.
    """
    always = np.ones(values.shape[1:], bool)
    ever = np.zeros(values.shape[1:], bool)
    for rows in _rows(values):
        missing = ~np.isfinite(values[rows])
        if np.isinf(values[rows][missing]).any():
            raise DataError(f"{name}: infinite; give finite numbers, NaN on land")
        always &= missing.all(axis=0)
        ever |= missing.any(axis=0)
    if count := int((ever & ~always).sum()):
        raise DataError(
            f"{name}: {count} cells are NaN in some samples only; fill them or leave these samples out"
        )
    return ~always


def _rows(values: NDArray[Any]) -> Iterator[slice]:
    size = max(1, BLOCK_VALUES // int(np.prod(values.shape[1:])))
    for start in range(0, len(values), size):
        yield slice(start, min(start + size, len(values)))
