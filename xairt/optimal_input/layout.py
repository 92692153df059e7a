"""Inputs as users give them to a search, on a regular grid, on the tiles of an LLC grid, or plain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xairt.attribution import inputs
from xairt.attribution.inputs import Samples
from xairt.attribution.parameters import as_array
from xairt.cells import CELL_DIM
from xairt.errors import DataError
from xairt.grid import Grid
from xairt.llc import LLC_DIMS, LLCGrid, is_llc

AnyGrid = Grid | LLCGrid


def read_samples(
    x: Any, shape: tuple[int, ...], grid: AnyGrid | None, dtype: str, name: str = "x"
) -> Samples:
    """Check inputs and bring them to the shape (n, *input_shape).

    Parameters
    ----------
    x, grid, dtype, name
        As of `xairt.attribution.inputs.read_samples`; with an LLC grid x holds vectors (n, cell) or maps
        (n, tile, j, i), and the result is labelled with the places of the cells.
    shape : tuple of int
        Shape of one input of the model.

    Raises
    ------
    DataError
        If the shape does not fit, the grid does not fit the model, or a value is not finite.
    """
    if not isinstance(grid, LLCGrid):
        return inputs.read_samples(x, shape, grid, dtype, name)
    inputs.check_size(grid, shape)
    read = inputs.read_samples(_vectors(x, grid, name), shape, None, dtype, name)
    dim = read.sample_dim
    coords = {k: v for k, v in read.coords.items() if set(getattr(v, "dims", ())) <= {dim}}
    return replace(read, dims=(dim, CELL_DIM), coords=coords | grid.cell_coordinates())


def read_reference(
    value: Any, shape: tuple[int, ...], grid: AnyGrid | None, dtype: str, name: str
) -> NDArray[Any]:
    """Return inputs (m, *input_shape): zeros for None, or a number, one input, or several.

    Parameters
    ----------
    value, grid, dtype, name
        As of `xairt.attribution.inputs.read_baseline`; with an LLC grid vectors (cell) or maps (tile, j, i).
    shape : tuple of int
        Shape of one input of the model.

    Raises
    ------
    DataError
        If the shape does not fit, or a value is not finite.
    """
    if not isinstance(grid, LLCGrid):
        return inputs.read_baseline(value, shape, grid, dtype, name)
    inputs.check_size(grid, shape)
    vectors = None if value is None else _vectors(value, grid, name)
    return inputs.read_baseline(vectors, shape, None, dtype, name)


def _vectors(value: Any, grid: LLCGrid, name: str) -> Any:
    """Return maps (..., tile, j, i) as vectors (..., cell); vectors, a number and a Dataset as they are."""
    if isinstance(value, xr.Dataset):
        return value
    array = value if isinstance(value, xr.DataArray) else as_array(value, name)
    if isinstance(value, xr.DataArray) and {"tile", "face"} & set(value.dims):
        return grid.to_vector(value)
    if array.shape[-3:] == grid.shape:
        return grid.to_vector(np.asarray(array))
    if array.ndim and array.shape[-1] != grid.n_valid:
        raise DataError(
            f"{name} has shape {tuple(array.shape)}: give vectors (..., {grid.n_valid}) of the LLC grid's cells, "
            f"or maps (..., {', '.join(map(str, grid.shape))})"
        )
    if isinstance(value, xr.DataArray) and is_llc(value):
        _check_cells(value, grid, name)
    return value


def _check_cells(vectors: xr.DataArray, grid: LLCGrid, name: str) -> None:
    for dim, own in zip(LLC_DIMS, grid.indices, strict=True):
        if not np.array_equal(vectors[dim], own):
            raise DataError(
                f"{name}: its cells (tile, j, i) are not those of the LLC grid; give its own grid"
            )
