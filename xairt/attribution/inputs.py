"""Samples and baselines as users give them, checked and brought to the model's input shape."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xairt.attribution.parameters import as_array
from xairt.cells import Cells
from xairt.errors import DataError
from xairt.grid import Grid, lat_lon_names, match_coordinates

log = logging.getLogger(__name__)

PLAIN_DIMS = {1: ("feature",), 2: ("step", "channel"), 3: ("y", "x", "channel")}
"""Names of a plain array's sample axes by their number."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples in the model's input shape, and what it takes to give results the user's shape.

    Attributes
    ----------
    values : numpy.ndarray
        (n, *input_shape), a new array or a view never written to.
    dims : tuple of str
        Dimensions of the result.
    coords : dict
        Coordinates of the result.
    map_dims : tuple of str or None
        Names of the sample, latitude and longitude dimensions where they stand in another order in `dims`.
    grid : Grid or None
        Where the samples are vectors of a map's valid cells.
    """

    values: np.ndarray
    dims: tuple[str, ...]
    coords: dict[str, Any]
    grid: Grid | None
    map_dims: tuple[str, ...] | None = None

    @property
    def sample_dim(self) -> str:
        """Name of the dimension that counts samples."""
        return (self.map_dims or self.dims)[0]

    def variables(self, attribution: np.ndarray) -> dict[str, xr.DataArray]:
        """Return (n, *input_shape) as the variable of a result."""
        return {"attribution": self.restore(attribution)}

    def restore(self, attribution: np.ndarray) -> xr.DataArray:
        """Return (n, *input_shape) with the user's dimensions and coordinates, NaN on land."""
        if self.grid is None:
            return xr.DataArray(attribution, self.coords, self.dims)
        maps = self.grid.to_map(attribution)
        dims = self.map_dims or self.dims
        lat, lon = (np.asarray(self.coords[name]) for name in dims[1:])
        rows = match_coordinates(self.grid.lat, lat, "latitude")
        columns = match_coordinates(self.grid.lon, lon, "longitude")
        return xr.DataArray(maps[..., rows[:, None], columns], self.coords, dims).transpose(*self.dims)


def read_samples(
    x: Any, input_shape: tuple[int, ...], grid: Grid | None, dtype: str, name: str = "x"
) -> Samples:
    """Check samples and bring them to the shape (n, *input_shape).

    Parameters
    ----------
    x : array_like or xarray.DataArray
        (n, *input_shape); or maps (n, lat, lon) with NaN on land where the model takes vectors.
    input_shape : tuple of int
        Shape of one sample in the model.
    grid : Grid or None
        Valid cells of the maps; None infers them from lat and lon coordinates and NaN.
    dtype : str
        Floating dtype of the result.
    name : str
        What error messages call the samples.

    Raises
    ------
    DataError
        If the shape does not fit, the grid does not fit the model, or a value is not finite.
    """
    if isinstance(x, xr.Dataset):
        raise DataError(
            f"{name} is a Dataset of {', '.join(map(str, x.data_vars)) or 'nothing'}: give one of its variables"
        )
    array = x if isinstance(x, xr.DataArray) else as_array(x, name)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} has dtype {array.dtype}: give real numbers")
    if array.ndim == 0 or 0 in array.shape:
        raise DataError(
            f"{name} of shape {tuple(array.shape)} holds no samples: give shape (samples, {_text(input_shape)})"
        )
    if tuple(array.shape[1:]) == input_shape:
        return _direct(array, input_shape, grid, dtype, name)
    if len(input_shape) == 1 and array.ndim == 3:
        return _maps(array, input_shape, grid, dtype, name)
    hint = ""
    if array.shape == input_shape or (len(input_shape) == 1 and array.ndim == 2 and is_labelled_map(array)):
        keep = name + (".expand_dims('sample')" if isinstance(array, xr.DataArray) else "[None]")
        hint = f"; for one sample give {keep}, shape {(1, *array.shape)} (command line: --select sample=3:4)"
    raise DataError(
        f"{name} has shape {tuple(array.shape)}, but the model takes (samples, {_text(input_shape)}): "
        f"reshape it{' or give maps and a grid' if len(input_shape) == 1 else ''}{hint}"
    )


def sample_dimension(array: xr.DataArray) -> str:
    """Return the name of the dimension that counts samples: the first that is neither lat nor lon."""
    places = lat_lon_names(array) if is_labelled_map(array) else ()
    return next((d for d in array.dims if d not in places), array.dims[0] if array.dims else "sample")


def _text(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _direct(array: Any, input_shape: tuple[int, ...], grid: Grid | None, dtype: str, name: str) -> Samples:
    values = finite(
        array,
        dtype,
        name,
        "fill or remove them" + ("; give maps with a grid for NaN on land" if len(input_shape) == 1 else ""),
    )
    sample_dim = array.dims[0] if isinstance(array, xr.DataArray) else "sample"
    leading = _leading_coords(array, sample_dim)
    if grid is not None and len(input_shape) == 1:
        check_grid(grid, input_shape)
        return Samples(values, (sample_dim, "lat", "lon"), leading | {"lat": grid.lat, "lon": grid.lon}, grid)
    if isinstance(array, xr.DataArray):
        return Samples(values, array.dims, dict(array.coords), None)
    names = PLAIN_DIMS.get(len(input_shape), tuple(f"axis_{i}" for i in range(len(input_shape))))
    return Samples(values, ("sample", *names), leading, None)


def _leading_coords(array: Any, sample_dim: str) -> dict[str, Any]:
    if isinstance(array, xr.DataArray):
        return {k: v for k, v in array.coords.items() if v.dims in ((sample_dim,), ())}
    return {"sample": np.arange(array.shape[0])}


def _maps(array: Any, input_shape: tuple[int, ...], grid: Grid | None, dtype: str, name: str) -> Samples:
    if grid is None:
        if not isinstance(array, xr.DataArray):
            raise DataError(
                f"{name} has shape {tuple(array.shape)}, but the model takes vectors of {input_shape[0]} values: "
                "give a grid, or a DataArray with lat and lon coordinates"
            )
        grid = Grid.from_dataarray(array)
        _tell_inferred(repr(grid))
    check_grid(grid, input_shape)
    if isinstance(array, xr.DataArray) and not is_labelled_map(array):
        array = array.values
    values = finite(grid.to_vector(array), dtype, name, "valid cells must hold finite numbers")
    if isinstance(array, xr.DataArray):
        map_dims = (sample_dimension(array), *lat_lon_names(array))
        return Samples(values, array.dims, dict(array.coords), grid, map_dims)
    coords = {"sample": np.arange(array.shape[0]), "lat": grid.lat, "lon": grid.lon}
    return Samples(values, ("sample", "lat", "lon"), coords, grid)


@functools.cache
def _tell_inferred(grid: str) -> None:
    log.warning(
        "%s, inferred from the maps: the model sees its cells in this order (row by row), which must be that of "
        "its training; give a grid to be sure",
        grid,
    )


def check_grid(grid: Grid, input_shape: tuple[int, ...]) -> None:
    """Raise `DataError` unless this is a grid with as many valid cells as the model has inputs."""
    if not isinstance(grid, Grid):
        tiles = isinstance(grid, Cells)
        remedy = (
            "give vectors (sample, cell) with their coordinates, and no grid"
            if tiles
            else "give a Grid, e.g. xairt.Grid.from_dataarray(field)"
        )
        raise DataError(f"grid is a {type(grid).__name__}: {remedy}")
    check_size(grid, input_shape)


def check_size(grid: Cells, input_shape: tuple[int, ...]) -> None:
    """Raise `DataError` unless the model takes vectors of as many values as a grid has valid cells."""
    if input_shape != (grid.n_valid,):
        raise DataError(
            f"the grid has {grid.n_valid} valid cells, but the model takes {_text(input_shape)} inputs: "
            "use the land mask that the model was trained with"
        )


def finite(array: Any, dtype: str, name: str, remedy: str) -> np.ndarray:
    """Return an array in a floating dtype.

    Raises
    ------
    DataError
        That counts the values that are NaN, infinite, or beyond the dtype's range, and tells where the first is.
    """
    with np.errstate(over="ignore"):
        values = np.asarray(array, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):  # quicker than to look at each, and never finite where one is not
            return values
    good = np.isfinite(values)
    if good.all():
        return values
    bad, given = np.argwhere(~good), np.asarray(array)
    kind = "NaN" if np.isnan(values).any() else "infinite value"
    kind += "s" * (len(bad) > 1)
    if np.isfinite(given).all():
        kind = kind.replace("infinite ", "") + f" beyond the range of {dtype}"
        remedy = "use dtype='float64' or other units" if dtype == "float32" else "use other units"
    raise DataError(
        f"{name} holds {len(bad)} {kind}, the first at index {tuple(int(i) for i in bad[0])}: {remedy}"
    )


def read_baseline(
    baseline: Any, input_shape: tuple[int, ...], grid: Grid | None, dtype: str, name: str = "baseline"
) -> np.ndarray:
    """Return reference samples (m, *input_shape): zeros for None, or a number, one sample, or a set.

    Raises
    ------
    DataError
        If the shape fits neither a sample nor a set of samples, or a value is not finite.
    """
    if baseline is None:
        return np.zeros((1, *input_shape), dtype)
    if grid is not None and len(input_shape) == 1 and is_labelled_map(baseline):
        baseline = grid.to_vector(baseline)
    values = as_array(baseline, name, "float64")
    if values.ndim == 0:
        values = np.full(input_shape, values)
    elif (
        grid is not None
        and values.shape[-2:] == grid.shape
        and values.shape[-len(input_shape) :] != input_shape
    ):
        values = grid.to_vector(values)
    values = finite(values, dtype, name, "give finite numbers")
    if values.shape == input_shape:
        return values[None]
    if values.shape[1:] == input_shape and len(values):
        return values
    raise DataError(
        f"{name} has shape {values.shape}: give a number, one sample ({_text(input_shape)}) "
        f"or a set (m, {_text(input_shape)})"
    )


def is_labelled_map(value: Any) -> bool:
    """Return whether this is a DataArray with latitude and longitude dimensions."""
    if not isinstance(value, xr.DataArray):
        return False
    try:
        return bool(lat_lon_names(value))
    except DataError:
        return False


def describe_baseline(baseline: Any) -> Any:
    """Return what identifies a baseline: None, the number, or shape and sha256 of the array, per input."""
    if isinstance(baseline, Mapping):
        return {str(name): describe_baseline(part) for name, part in baseline.items()}
    if baseline is None or np.ndim(baseline) == 0:
        return None if baseline is None else float(baseline)
    return {"shape": list(np.shape(baseline)), "sha256": array_sha256(baseline)}


def array_sha256(array: Any) -> str:
    """Return a hash of an array's shape, dtype and values, and of the coordinates of a labelled one."""
    values = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{values.shape}{values.dtype.str}".encode() + values.tobytes())
    if isinstance(array, xr.DataArray):
        for dim in array.dims:
            digest.update(str(dim).encode())
            if dim in array.coords:
                digest.update(np.ascontiguousarray(array[dim].values).tobytes())
    return digest.hexdigest()
