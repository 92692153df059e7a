"""Cells within latitudes and longitudes, and series of a field at a place or over a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError
from xairt.fields.anomaly import in_order
from xairt.fields.masks import great_circle_km
from xairt.grid import CELL_DIM, COORDINATE_TOLERANCE, Grid

if TYPE_CHECKING:
    import xarray as xr


def region(
    grid: Grid, *, lat: tuple[float, float] | None = None, lon: tuple[float, float] | None = None
) -> NDArray[np.bool_]:
    """Return which valid cells have their centre within latitudes and longitudes.

    Parameters
    ----------
    grid : Grid
        The n valid cells.
    lat : (south, north), optional
        Degrees north, both included (to 0.001 degree). None: all latitudes.
    lon : (west, east), optional
        Degrees east in any convention, both included: from west eastwards to east, so that (170, -170) and
        (170, 190) are the 20 degrees over the date line, and (-10, 10) and (350, 10) those over Greenwich.
        (0, 360) and (-180, 180) go around the globe. None: all longitudes.

    Returns
    -------
    numpy.ndarray
        (n,) booleans in the order of the grid's vectors; none may be True.

    Raises
    ------
    DataError
        If latitudes are not on the globe or run southwards, or a bound is no number.

    Examples
    --------
    >>> grid = Grid([[True, True, True], [False, True, True]], lat=[40, -40], lon=[0, 120, 240])
    >>> region(grid, lat=(-20, 90))
    array([ True,  True,  True, False, False])
    >>> region(grid, lon=(230, 10))
    array([ True, False,  True, False,  True])
    """
    lats, lons = grid.places
    inside = np.ones(len(lats), dtype=bool)
    if lat is not None:
        south, north = _bounds(lat, "lat", "(south, north)")
        if not -90 <= south <= north <= 90:
            raise DataError(
                f"region: latitudes ({south:g}, {north:g}) do not run northwards within -90 .. 90; "
                "give (south, north)"
            )
        inside &= (lats >= south - COORDINATE_TOLERANCE) & (lats <= north + COORDINATE_TOLERANCE)
    if lon is not None:
        west, east = _bounds(lon, "lon", "(west, east)")
        width = min(east - west, 360.0) if east >= west else (east - west) % 360.0
        inside &= (lons - west + COORDINATE_TOLERANCE) % 360.0 <= width + 2 * COORDINATE_TOLERANCE
    return inside


def target_series(
    field: xr.DataArray,
    *,
    grid: Grid,
    place: tuple[float, float] | None = None,
    box: tuple[float, float, float, float] | None = None,
) -> xr.DataArray:
    """Return a field over time at the ocean cell nearest to a place, or its area-weighted mean over a box.

    Parameters
    ----------
    field : xarray.DataArray
        With a dimension of dates and the cells of the grid: maps, or `cell`. Valid cells hold no NaN.
    grid : Grid
        Its valid (ocean) cells. `Grid.from_dataarray(field)` where it is on latitudes and longitudes.
    place : (lat, lon), optional
        Degrees north and east, any longitude convention.
    box : (south, north, west, east), optional
        Degrees, both included: cells as of `region`.

    Returns
    -------
    xarray.DataArray
        (time,) in the precision of the field, its units. Attributes: `target`, a sentence; `target_cells`,
        indices in the vectors of the grid; `target_place` (lat, lon of the cell) with `target_distance_km` (from
        the place to its centre), or `target_box` as given.

    Raises
    ------
    DataError
        If neither or both of place and box are given, the place is not on the globe, the box holds no ocean
        cell, the field is not on the grid or has no dates, or a value of it is NaN.

    Examples
    --------
    >>> import xarray as xr
    >>> time = xr.date_range("2001-01-01", periods=2, freq="MS")
    >>> coords = {"time": time, "lat": [60.0, 0.0], "lon": [170.0, 190.0]}
    >>> field = xr.DataArray([[[1.0, 3.0], [5, 7]], [[2, 4], [6, np.nan]]], coords, ("time", "lat", "lon"), "sst")
    >>> grid = Grid.from_dataarray(field, partial="exclude")
    >>> target_series(field, grid=grid, box=(50, 70, 165, -165)).values
    array([2., 3.])
    >>> target_series(field, grid=grid, place=(2, -175)).attrs["target"]
    'nearest cell to lat 2, lon -175: lat 0, lon 170, 1682 km away'
    """
    if (place is None) == (box is None):
        raise DataError("target: give a place (lat, lon) or a box (south, north, west, east), one of them")
    ordered = in_order(field)
    cells, attributes = _place_of(grid, place) if box is None else _box_of(grid, box)
    vectors = ordered if CELL_DIM in ordered.dims else grid.to_vector(ordered)
    _check_cells(vectors, grid)
    values = vectors.isel({CELL_DIM: cells}).values
    if not np.isfinite(values).all():
        raise DataError(
            f"{field.name or 'field'}: lacks values in cells of the target; fill them or choose others"
        )
    weights = grid.area_weights[cells]
    series = values.astype(np.float64) @ (weights / weights.sum())
    found = vectors.isel({CELL_DIM: 0}, drop=True).copy(data=series.astype(values.dtype))
    return found.assign_attrs({"target_cells": cells, **attributes})


def _check_cells(vectors: xr.DataArray, grid: Grid) -> None:
    """Raise DataError if vectors (time, cell) are not those of the grid, as far as they tell."""
    name = vectors.name or "field"
    if vectors.sizes[CELL_DIM] != grid.n_valid:
        raise DataError(
            f"{name}: has {vectors.sizes[CELL_DIM]} cells, the grid {grid.n_valid}; use the grid of the field"
        )
    for axis, wanted in zip(("lat", "lon"), grid.places, strict=True):
        if axis not in vectors.coords:
            continue
        off = np.abs((vectors[axis].values - wanted + 180.0) % 360.0 - 180.0)
        if off.max() > COORDINATE_TOLERANCE:
            raise DataError(
                f"{name}: {axis} of its cells is not that of the grid's (cell {off.argmax()} is {off.max():g} degrees "
                "off); use the grid of the field"
            )


def _place_of(grid: Grid, place: Sequence[float]) -> tuple[NDArray[np.intp], dict[str, object]]:
    """Return the cell nearest to a place, and what tells so."""
    lat, lon = _bounds(place, "place", "(lat, lon)")
    cell = grid.nearest(lat, lon)
    cell_lat, cell_lon = grid.cell(cell)
    distance = float(great_circle_km(grid, lat, lon)[cell])
    text = f"lat {lat:g}, lon {lon:g}: lat {cell_lat:g}, lon {cell_lon:g}, {distance:.0f} km away"
    return np.array([cell]), {
        "target": f"nearest cell to {text}",
        "target_place": [cell_lat, cell_lon],
        "target_distance_km": distance,
    }


def _box_of(grid: Grid, box: Sequence[float]) -> tuple[NDArray[np.intp], dict[str, object]]:
    """Return the cells of a box, and what tells so."""
    south, north, west, east = _bounds(box, "box", "(south, north, west, east)")
    cells = np.flatnonzero(region(grid, lat=(south, north), lon=(west, east)))
    text = f"lat {south:g} .. {north:g}, lon {west:g} .. {east:g}"
    if not cells.size:
        raise DataError(f"box {text}: holds no ocean cell of the grid; give a larger or another box")
    return cells, {
        "target": f"area-weighted mean of {cells.size} cells, {text}",
        "target_box": [south, north, west, east],
    }


def _bounds(values: Sequence[float], name: str, wanted: str) -> tuple[float, ...]:
    """Return numbers as floats; DataError if they are not as many as wanted, or not finite."""
    try:
        numbers = tuple(map(float, values))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != wanted.count(",") + 1 or not np.isfinite(numbers).all():
        raise DataError(f"{name} {values}: is not {wanted}; give degrees north and east")
    return numbers
