"""Relevance beside another map of the same grid: an adjoint sensitivity, or a lag correlation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.fields.regions import region
from xairt.grid import CELL_DIM, COORDINATE_TOLERANCE
from xairt.metrics.arrays import is_dataarray
from xairt.metrics.correlation import pearson

if TYPE_CHECKING:
    import xarray as xr

    from xairt.cells import Cells

Box = tuple[float, float, float, float]
"""(south, north, west, east) in degrees; eastward from west to east, also across the date line."""

Regions = Mapping[str, "Box | ArrayLike | xr.DataArray"]


def pattern_correlation(
    field: Any,
    reference: Any,
    *,
    grid: Cells,
    variable: str | None = None,
) -> xr.Dataset:
    """Correlate maps cell by cell, weighted by the areas of the cells.

    Parameters
    ----------
    field
        Map or maps, such as a composite of relevance: a DataArray (..., lat, lon) or (..., cell), a Dataset
        or file of one, or plain vectors (..., n_valid).
    reference
        Map to compare with, in the same forms: an adjoint sensitivity, a lag correlation. Dimensions that
        both have (class, lag) must agree.
    grid : Grid
        Of both. Maps in another order of latitude or longitude are brought to it by their coordinates.
    variable : str, optional
        Variable of `reference` where that is a Dataset or file with several.

    Returns
    -------
    xarray.Dataset
        With the dimensions left (class, lag), -1 .. 1, float64:

        - ``correlation``: Pearson's r, centred and area-weighted: do high and low values coincide?
        - ``magnitude_correlation``: that of the magnitudes: do both rest on the same places, whatever the
          sign? Relevance is a share of an output, a sensitivity its slope, so signs need not agree.
        - ``congruence``: without subtracting means, sum(w a b) / sqrt(sum(w a^2) sum(w b^2)).

        NaN where one of both is constant (for the congruence: all zero) or has no value in any cell.

    Raises
    ------
    DataError
        If either has other cells than the grid, is NaN in some of them or infinite, a file cannot be read,
        or dimensions do not agree.

    References
    ----------
    Centred and uncentred pattern correlation: Santer, Wigley and Jones (1993), Climate Dynamics 8, 265-276.

    Examples
    --------
    >>> from xairt import Grid
    >>> grid = Grid([[True, True, True]], lat=[0], lon=[0, 120, 240])
    >>> found = pattern_correlation([1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], grid=grid)
    >>> [float(found[name].round(9)) for name in found]
    [-1.0, 1.0, -1.0]
    """
    import xarray as xr

    a = cells_of(field, grid, name="field")
    b = cells_of(reference, grid, variable=variable, name="reference")
    try:
        a, b = xr.align(a, b, join="exact")
    except ValueError as error:
        raise DataError(
            "field and reference: coordinates differ; select the same classes and lags"
        ) from error
    w = xr.DataArray(grid.area_weights, dims=CELL_DIM)
    # vectors of unit size: squares then neither vanish nor overflow
    a, b = (v / abs(v).max(CELL_DIM).where(lambda size: size > 0, 1.0) for v in (a, b))
    sizes = [(w * v**2).sum(CELL_DIM, skipna=False) for v in (a, b)]
    product = (w * a * b).sum(CELL_DIM, skipna=False)
    both = sizes[0] * sizes[1]
    found = {
        "correlation": (pearson(a, b, CELL_DIM, weights=w), "area-weighted pattern correlation"),
        "magnitude_correlation": (
            pearson(abs(a), abs(b), CELL_DIM, weights=w),
            "area-weighted pattern correlation of magnitudes",
        ),
        "congruence": (
            (product / np.sqrt(both.where(both > 0))).clip(-1, 1),
            "area-weighted uncentred pattern correlation",
        ),
    }
    return xr.Dataset({n: v.assign_attrs(long_name=text, units="1") for n, (v, text) in found.items()})


def regional_shares(
    field: Any,
    regions: Regions,
    *,
    grid: Cells,
    area_weighted: bool,
    variable: str | None = None,
) -> xr.Dataset:
    """Return which share of a map's total lies in each region.

    Parameters
    ----------
    field, grid, variable
        As `pattern_correlation` takes a reference.
    regions : mapping of name to region
        A box (south, north, west, east) in degrees, which holds the cells whose centre is in it or on its
        border, or booleans: a vector (n_valid,) or a DataArray on the grid. Regions may overlap.
    area_weighted : bool
        False adds up cells: relevance and a sensitivity to cell values are amounts per cell. True integrates
        over the area, for a quantity per area. There is no default.

    Returns
    -------
    xarray.Dataset
        Dimensions left, then ``region``; float64, 0 .. 1: ``magnitude``, ``positive`` and ``negative``, the
        share of the sum of |values|, of the positive and of the negative values of the whole map; NaN where
        that sum is 0 or the map has no value. Beside them the share of ``area``, (region,): what a map
        without structure has, if it is area-weighted.

    Raises
    ------
    DataError
        If there is no region, a region holds no cell or is not a box or booleans of the grid's cells, and as
        `pattern_correlation`.

    Examples
    --------
    >>> from xairt import Grid
    >>> grid = Grid([[True, True, True]], lat=[0], lon=[0, 120, 240])
    >>> box = {"around Greenwich": (-10, 10, 350, 10)}
    >>> found = regional_shares([1.0, -3.0, 4.0], box, grid=grid, area_weighted=False)
    >>> [found[name].values.round(3).tolist() for name in ("magnitude", "positive", "negative", "area")]
    [[0.125], [0.2], [0.0], [0.333]]
    """
    import xarray as xr

    values = cells_of(field, grid, variable=variable, name="field")
    members = _members(regions, grid)
    inside = xr.DataArray(members.astype(np.float64), {"region": list(regions)}, ("region", CELL_DIM))
    area = xr.DataArray(grid.area_weights, dims=CELL_DIM)
    amounts = values * area if area_weighted else values
    parts = {"magnitude": abs(amounts), "positive": amounts.clip(min=0), "negative": -amounts.clip(max=0)}
    found = {name: _share(part, inside) for name, part in parts.items()} | {"area": _share(area, inside)}
    return xr.Dataset(
        {
            name: share.assign_attrs(long_name=f"share of {name} in the region", units="1")
            for name, share in found.items()
        }
    )


def compare_with_sensitivity(
    relevance: Any,
    sensitivity: Any,
    *,
    grid: Cells,
    variable: str | None = None,
    regions: Regions | None = None,
    area_weighted: bool | None = None,
) -> xr.Dataset:
    """Compare relevance with a sensitivity field, such as that of an ocean adjoint, on the same grid.

    Parameters
    ----------
    relevance
        Composite of relevance, or maps, as the field of `pattern_correlation`.
    sensitivity
        Sensitivity of the target to each cell: a DataArray, Dataset, netCDF file or vector.
    grid : Grid
        Of both.
    variable : str, optional
        Variable of the sensitivity where there are several.
    regions : mapping, optional
        As `regional_shares`.
    area_weighted : bool
        As `regional_shares`; must be given with regions.

    Returns
    -------
    xarray.Dataset
        What `pattern_correlation` gives, and with regions the shares of both as ``relevance_magnitude``,
        ``relevance_positive``, ``relevance_negative``, ``sensitivity_magnitude``, ``sensitivity_positive``,
        ``sensitivity_negative`` and ``area``.

    Raises
    ------
    DataError
        As both functions, and if regions come without `area_weighted`.
    """
    maps = {
        "relevance": cells_of(relevance, grid, name="relevance"),
        "sensitivity": cells_of(sensitivity, grid, variable=variable, name="sensitivity"),
    }
    found = pattern_correlation(maps["relevance"], maps["sensitivity"], grid=grid)
    if regions is None:
        return found
    if area_weighted is None:
        raise DataError("area_weighted: missing; give False to add up cells, True to integrate over area")
    for name, values in maps.items():
        shares = regional_shares(values, regions, grid=grid, area_weighted=area_weighted)
        renamed = {part: f"{name}_{part}" for part in ("magnitude", "positive", "negative")}
        found = found.assign(shares.rename(renamed))
    return found


def cells_of(source: Any, grid: Cells, *, variable: str | None = None, name: str = "map") -> xr.DataArray:
    """Return maps as vectors (..., cell) of a grid, after checking that they are on it.

    Parameters
    ----------
    source
        DataArray (..., lat, lon) or (..., cell), Dataset or netCDF file, or plain vectors (..., n_valid).
        Coordinates ``lat`` and ``lon`` of cells are compared with those of the grid.
    grid : Grid
    variable : str, optional
        Variable of a Dataset or file with several.
    name : str
        What it is, for messages.

    Returns
    -------
    xarray.DataArray
        (..., cell) float64 without coordinates of the cells; a map of nothing but NaN is left so.

    Raises
    ------
    DataError
        If the cells are not those of the grid, some of them are NaN, or a value is infinite.
    """
    import xarray as xr

    from xairt.data.files import read_array, variable_of

    if isinstance(source, str | os.PathLike):
        source = read_array(source, variable)
    elif isinstance(source, xr.Dataset):
        source = variable_of(source, variable, name)
    if not is_dataarray(source):
        vectors = np.atleast_1d(source)
        source = xr.DataArray(vectors, dims=[*(f"dim_{i}" for i in range(vectors.ndim - 1)), CELL_DIM])
    if source.dtype.kind not in "fiu":
        raise DataError(f"{name}: holds {source.dtype}, no real numbers; give floats, NaN on land")
    if CELL_DIM in source.dims:
        _require_cells(source, grid, name)
        found = source.transpose(..., CELL_DIM).astype(np.float64)
    else:
        filled = grid.to_vector(source.fillna(0.0))
        found = filled.where(~grid.to_vector(source.isnull())).astype(np.float64)
    _require_numbers(found, name)
    return found.drop_vars([c for c in found.coords if CELL_DIM in found[c].dims])


def _require_cells(source: xr.DataArray, grid: Cells, name: str) -> None:
    """Raise a DataError unless vectors have as many cells as the grid, at the same places if they name them."""
    if source.sizes[CELL_DIM] != grid.n_valid:
        raise DataError(
            f"{name}: {source.sizes[CELL_DIM]} cells, the grid has {grid.n_valid}; bring it to this grid"
        )
    if not all(c in source.coords and source[c].dims == (CELL_DIM,) for c in ("lat", "lon")):
        return
    lat, lon = grid.places
    turn = np.mod(source["lon"].values - lon + 180.0, 360.0) - 180.0
    off = np.maximum(np.abs(source["lat"].values - lat), np.abs(turn))
    if not (off <= COORDINATE_TOLERANCE).all():
        worst = int(np.argmax(np.nan_to_num(off, nan=np.inf)))
        raise DataError(
            f"{name}: cell {worst} is not where the grid has it (lat {lat[worst]:g}, lon {lon[worst]:g}); "
            "bring it to this grid"
        )


def _require_numbers(found: xr.DataArray, name: str) -> None:
    """Raise a DataError if a value is infinite, or a map is NaN in some cells only."""
    values = found.values
    if np.isinf(values).any():
        raise DataError(f"{name}: infinite; give finite numbers, NaN on land")
    missing = np.isnan(values)
    partly = missing.any(axis=-1) & ~missing.all(axis=-1)
    if partly.any():
        count = int(missing[partly].any(axis=0).sum())
        raise DataError(
            f"{name}: NaN in {count} of the grid's {values.shape[-1]} cells; fill them, or use a grid without"
        )


def _share(part: xr.DataArray, inside: xr.DataArray) -> xr.DataArray:
    total = part.sum(CELL_DIM, skipna=False)
    return (part * inside).sum(CELL_DIM, skipna=False) / total.where(total > 0)


def _members(regions: Regions, grid: Cells) -> NDArray[np.bool_]:
    """Return which cells are in each region, (regions, cells)."""
    if not regions:
        raise DataError("regions: none given; give a mapping of name to box or booleans")
    members = []
    for name, given in regions.items():
        inside = _in_box(name, given, grid) if _is_box(given) else _flags(name, given, grid)
        if not inside.any():
            raise DataError(f"region '{name}': holds no valid cell; check its limits")
        members.append(inside)
    return np.array(members)


def _is_box(given: Any) -> bool:
    return isinstance(given, tuple | list) and len(given) == 4 and not isinstance(given[0], bool | np.bool_)


def _in_box(name: str, box: Any, grid: Cells) -> NDArray[np.bool_]:
    south, north, west, east = box
    try:
        return region(grid, lat=(south, north), lon=(west, east))
    except DataError as error:
        raise DataError(
            f"region '{name}': {box!r} is no box (south, north, west, east) in degrees; {error}"
        ) from None


def _flags(name: str, given: Any, grid: Cells) -> NDArray[np.bool_]:
    if is_dataarray(given) and CELL_DIM not in given.dims:
        given = grid.to_vector(given)
    elif is_dataarray(given):
        _require_cells(given, grid, f"region '{name}'")
    flags = np.asarray(given)
    if flags.dtype != bool or flags.shape != (grid.n_valid,):
        raise DataError(
            f"region '{name}': {flags.dtype} of shape {flags.shape}; give a box (south, north, west, east), "
            f"or booleans of the {grid.n_valid} cells"
        )
    return flags
