"""What may be drawn: results, labelled arrays and vectors with a grid, all brought to maps of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xairt.cells import CELL_DIM
from xairt.errors import DataError
from xairt.grid import COORDINATE_TOLERANCE, Grid, lat_lon_names
from xairt.llc import LLCGrid, is_llc
from xairt.plots.projections import GLOBAL_LATITUDES

SAMPLE_DIM = "sample"
DRAWN = ("attribution", "optimal_input")
"""Variables of a result that are drawn: what `xairt.attribute` gives, or `xairt.optimal_input`."""
METHOD_DIM = "method"
LLC_STEP, FINE_LLC_STEP = 1.0, 0.5
"""Degrees that fields on LLC tiles are brought to; a single map is drawn on the finer grid."""


def labelled_maps(attributions: Any, grid: Grid | LLCGrid | None) -> dict[str, xr.DataArray]:
    """Return the maps of each method under its label.

    Parameters
    ----------
    attributions
        Dataset with the variable `attribution` or `optimal_input`, a DataArray, a mapping of label to DataArray or vectors, or
        vectors. A dimension `method` is taken apart by its labels.
    grid
        Grid of the vectors.

    Returns
    -------
    dict
        Label to DataArray (sample, lat, lon); the first dimension keeps its name.

    Raises
    ------
    DataError
        If there is nothing to draw, labels are not unique, or an array is not one of maps.
    """
    if isinstance(attributions, xr.Dataset):
        name = next((name for name in DRAWN if name in attributions), None)
        if name is None:
            raise DataError(f"dataset has no variable 'attribution'; it has {sorted(map(str, attributions))}")
        attributions = attributions[name]
    if isinstance(attributions, Mapping):
        found = {str(label): as_maps(value, grid) for label, value in attributions.items()}
        if not found:
            raise DataError("attributions are empty; give at least one method")
        return found
    if not isinstance(attributions, xr.DataArray) or METHOD_DIM not in attributions.dims:
        label = attributions.coords.get(METHOD_DIM) if isinstance(attributions, xr.DataArray) else None
        name = attributions.name if isinstance(attributions, xr.DataArray) else None
        title = "optimal input" if name == "optimal_input" else "attribution"
        return {title if label is None else str(label.item()): as_maps(attributions, grid)}
    labels = [str(label) for label in attributions[METHOD_DIM].values]
    if len(set(labels)) < len(labels):
        raise DataError(f"method labels are not unique: {labels}; rename the repeated ones")
    parts = (attributions.isel({METHOD_DIM: i}, drop=True) for i in range(len(labels)))
    return {label: as_maps(part, grid) for label, part in zip(labels, parts, strict=True)}


def as_maps(value: Any, grid: Grid | LLCGrid | None) -> xr.DataArray:
    """Return one array as maps (sample, lat, lon).

    Parameters
    ----------
    value
        DataArray with latitude and longitude and at most one more dimension (a map becomes one sample); or
        vectors (sample, n_valid) or (n_valid,), or maps (..., nlat, nlon) without coordinates. Fields of an
        LLC grid, labelled vectors or with `grid`, are brought to a regular grid, see `LLCGrid.to_regular`.
    grid
        Grid of values without coordinates.

    Raises
    ------
    DataError
        If coordinates are missing and no grid is given, or there are more dimensions.
    """
    maps = value if isinstance(value, xr.DataArray) else xr.DataArray(np.asarray(value))
    if isinstance(grid, LLCGrid) or is_llc(maps):
        maps = _llc_on_globe(maps, grid if isinstance(grid, LLCGrid) else LLCGrid.from_dataarray(maps))
    try:
        lat, lon = lat_lon_names(maps)
    except DataError as error:
        if grid is None:
            raise DataError(f"{error}; for vectors or plain arrays pass grid=") from None
        maps, (lat, lon) = _on_grid(maps, grid), ("lat", "lon")
    maps = maps.rename({lat: "lat", lon: "lon"}).transpose(..., "lat", "lon")
    if maps.ndim > 3:
        maps = maps.squeeze([dim for dim in maps.dims[:-2] if maps.sizes[dim] == 1])
    if maps.ndim == 2:
        maps = maps.expand_dims(SAMPLE_DIM)
    if maps.ndim != 3:
        raise DataError(f"array has dimensions {maps.dims}; select until only samples, lat and lon remain")
    return maps


def _on_grid(values: xr.DataArray, grid: Grid) -> xr.DataArray:
    if values.shape[-2:] != grid.shape:
        return grid.to_map(values)
    values = values.rename({values.dims[-2]: "lat", values.dims[-1]: "lon"})
    return values.assign_coords(lat=grid.lat, lon=grid.lon)


def _llc_on_globe(values: xr.DataArray, grid: LLCGrid) -> xr.DataArray:
    """Return vectors (..., n_valid) or maps (..., tile, j, i) of an LLC grid as maps of latitude and longitude."""
    if values.shape[-3:] == grid.shape:
        coords = {name: c for name, c in values.coords.items() if not set(values.dims[-3:]) & set(c.dims)}
        dims = (*values.dims[:-3], CELL_DIM)
        values = xr.DataArray(grid.take(values.values), coords, dims, values.name, values.attrs)
    step = FINE_LLC_STEP if values.size == grid.n_valid else LLC_STEP
    south, north = grid.places[0].min() - step, grid.places[0].max() + step
    maps = grid.to_regular(values, step)
    return maps if north - south >= GLOBAL_LATITUDES else maps.sel(lat=slice(south, north))


def check_truth(truth: xr.DataArray, maps: xr.DataArray, label: str) -> None:
    """Raise DataError unless the truth has the samples, latitudes and longitudes of a method's maps."""
    if truth.shape != maps.shape:
        raise DataError(
            f"truth has shape {truth.shape}, '{label}' has {maps.shape}; select the same samples and grid"
        )
    same_lat = np.abs(truth["lat"].values - maps["lat"].values).max() <= COORDINATE_TOLERANCE
    turn = np.mod(truth["lon"].values - maps["lon"].values + 180.0, 360.0) - 180.0
    if not (same_lat and np.abs(turn).max() <= COORDINATE_TOLERANCE):
        raise DataError(f"truth and '{label}' have other coordinates; bring them to one order of lat and lon")


def sample_name(maps: xr.DataArray, index: int) -> str:
    """Return the name of a sample: its dimension with its coordinate, else its position."""
    dim = maps.dims[0]
    if dim not in maps.coords:
        return f"{dim} {index}"
    value = maps[dim].values[index]
    if isinstance(value, np.datetime64):
        value = np.datetime_as_string(value, unit="D")
    return f"{dim} {value}"
