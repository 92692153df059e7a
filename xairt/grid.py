"""Grid: a land mask with latitudes and longitudes, and the way between vectors of valid cells and maps.

`xairt.cells` does what all grids have in common; here are the coordinates of regular grids. Only numpy is
imported at the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.cells import CELL_DIM, Cells, as_mask, cf_attributes, frozen, refuse_empty
from xairt.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

COORDINATE_TOLERANCE = 1e-3
"""Largest difference, in degrees, between two coordinates that name the same place."""

_NAMES = {"latitude": ("lat", "latitude"), "longitude": ("lon", "longitude")}
_UNITS = {
    "latitude": {"degrees_north", "degree_north", "degrees_N", "degree_N", "degreesN", "degreeN"},
    "longitude": {"degrees_east", "degree_east", "degrees_E", "degree_E", "degreesE", "degreeE"},
}


def unwrap_longitude(lon: ArrayLike) -> NDArray[np.float64]:
    """Return longitudes as a strictly monotonic sequence without the jump at the date line or at Greenwich.

    Centres (nlon,) in degrees east, 0 .. 360 or -180 .. 180, in either direction, give the same places with a
    span below 360. DataError if they are not finite, occur twice (modulo 360) or are out of order.

    Examples
    --------
    >>> unwrap_longitude([160, 170, 180, -170])
    array([160., 170., 180., 190.])
    """
    lon = _axis(lon, "longitude")
    circle = np.sort(np.mod(lon, 360.0))
    gaps = np.diff(circle, append=circle[:1] + 360.0)
    if lon.size > 1 and gaps.min() < COORDINATE_TOLERANCE:
        twice = circle[gaps.argmin()]
        raise DataError(f"longitude {twice:g} occurs twice (modulo 360); drop the repeated column")
    for candidate in (np.unwrap(lon, period=360.0), lon):
        steps = np.diff(candidate)
        if abs(candidate[-1] - candidate[0]) < 360.0 and ((steps > 0).all() or (steps < 0).all()):
            return candidate
    raise DataError("longitudes do not run once around the circle in one direction; sort the columns first")


def longitude_edges(lon: ArrayLike) -> NDArray[np.float64]:
    """Return the edges (nlon + 1,) in degrees east of cells with centres (nlon,), halfway between centres.

    Where the centres go around the globe (the gap that closes the circle is at most 1.5 times the largest
    step) the outer edges meet, so that the edges span exactly 360 degrees; elsewhere the outer cells are
    symmetric about their centres. A single centre gets a cell of 1 degree. Errors as `unwrap_longitude`.

    Examples
    --------
    >>> longitude_edges([0, 10, 20])
    array([-5.,  5., 15., 25.])
    """
    lon = unwrap_longitude(lon)
    edges = _edges(lon)
    if lon.size > 1:
        turn = 360.0 * np.sign(lon[1] - lon[0])
        closing = turn - (lon[-1] - lon[0])
        if abs(closing) <= 1.5 * np.abs(np.diff(lon)).max():
            edges[-1] = lon[-1] + closing / 2
            edges[0] = edges[-1] - turn
    return edges


def latitude_edges(lat: ArrayLike) -> NDArray[np.float64]:
    """Return the edges (nlat + 1,) in degrees north of cells with centres (nlat,), clipped at the poles.

    Edges lie halfway between centres; a single centre gets a cell of 1 degree. DataError if the centres are
    not finite, not strictly monotonic or outside -90 .. 90.

    Examples
    --------
    >>> latitude_edges([90, 80, 70])
    array([90., 85., 75., 65.])
    """
    lat = _axis(lat, "latitude")
    if np.abs(lat).max() > 90.0:
        worst = lat[np.abs(lat).argmax()]
        raise DataError(f"latitude {worst:g} lies outside -90 .. 90; give degrees north")
    steps = np.diff(lat)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise DataError("latitudes are not strictly monotonic; sort the rows first")
    return np.clip(_edges(lat), -90.0, 90.0)


def lat_lon_names(da: xr.DataArray | xr.Dataset) -> tuple[str, str]:
    """Return the names of the latitude and longitude dimensions, in this order.

    A dimension is recognised by its name (lat, latitude; lon, longitude, any case) or by the CF attributes
    `standard_name` or `units` of its coordinate. DataError if there is none, or it has no coordinate values.
    """
    return _dimension(da, "latitude"), _dimension(da, "longitude")


@dataclass(frozen=True, eq=False, repr=False)
class Grid(Cells):
    """Regular latitude-longitude grid with a mask of valid cells.

    The vector of a grid holds the valid cells row by row (first latitude first); invalid cells are left out.
    A grid is immutable: it copies its arrays and sets them read-only.

    Parameters
    ----------
    mask
        (nlat, nlon) booleans (or 0 and 1), True where a cell is valid (ocean).
    lat
        (nlat,) cell centres in degrees north, strictly increasing or decreasing.
    lon
        (nlon,) cell centres in degrees east, 0 .. 360 or -180 .. 180, in the order of the circle. The order
        given is kept.

    Raises
    ------
    DataError
        If shapes disagree, a coordinate is NaN, out of range, repeated or out of order, or no cell is valid.

    Examples
    --------
    >>> grid = Grid([[True, False], [True, True]], lat=[10, -10], lon=[0, 20])
    >>> grid
    Grid 2 x 2, 3 valid cells, lat 10 .. -10, lon 0 .. 20
    >>> grid.to_map([1.0, 2.0, 3.0])
    array([[ 1., nan],
           [ 2.,  3.]])
    """

    dims: ClassVar[tuple[str, ...]] = ("lat", "lon")
    mask: NDArray[np.bool_]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]

    def __post_init__(self) -> None:
        lat, lon = _axis(self.lat, "latitude").copy(), _axis(self.lon, "longitude").copy()
        latitude_edges(lat)
        unwrap_longitude(lon)
        mask = as_mask(self.mask, self.dims)
        if mask.shape != (lat.size, lon.size):
            raise DataError(
                f"mask has shape {mask.shape}, coordinates give {(lat.size, lon.size)}; order it (lat, lon)"
            )
        refuse_empty(mask)
        for name, value in (("mask", mask), ("lat", lat), ("lon", lon)):
            object.__setattr__(self, name, frozen(value))

    def __reduce__(self) -> tuple[Any, ...]:
        return Grid, (self.mask, self.lat, self.lon)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return all(np.array_equal(getattr(self, k), getattr(other, k)) for k in ("mask", "lat", "lon"))

    def __hash__(self) -> int:
        return hash((self.mask.tobytes(), self.lat.tobytes(), self.lon.tobytes()))

    def __repr__(self) -> str:
        (nlat, nlon), lat, lon = self.shape, self.lat, self.lon
        return (
            f"Grid {nlat} x {nlon}, {self.n_valid} valid cells, "
            f"lat {lat[0]:g} .. {lat[-1]:g}, lon {lon[0]:g} .. {lon[-1]:g}"
        )

    @cached_property
    def lat_edges(self) -> NDArray[np.float64]:
        """Edges (nlat + 1,) in degrees north, see `latitude_edges`."""
        return frozen(latitude_edges(self.lat))

    @cached_property
    def lon_edges(self) -> NDArray[np.float64]:
        """Edges (nlon + 1,) in degrees east, see `longitude_edges`."""
        return frozen(longitude_edges(self.lon))

    @cached_property
    def places(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude (n_valid,) of the centres of the valid cells, in degrees north and east."""
        rows, columns = np.divmod(self._flat, self.shape[1])
        return frozen(self.lat[rows]), frozen(self.lon[columns])

    @cached_property
    def _areas(self) -> NDArray[np.float64]:
        """Areas (n_valid,) of the valid cells, as sine of latitude times degrees of longitude.

        The area between two latitudes is exact, ``|sin(north) - sin(south)|`` times the width in longitude:
        proportional to the cosine of the latitude on a regular grid, and positive at the poles.
        """
        bands = np.abs(np.diff(np.sin(np.deg2rad(self.lat_edges))))
        return np.outer(bands, np.abs(np.diff(self.lon_edges))).reshape(-1)[self._flat]

    def _with_mask(self, mask: NDArray[np.bool_]) -> Grid:
        return Grid(mask, self.lat, self.lon)

    def _labelled_vector(self, m: xr.DataArray) -> xr.DataArray:
        import xarray as xr

        lat, lon = lat_lon_names(m)
        m = m.transpose(..., lat, lon)
        rows = match_coordinates(m[lat].values, self.lat, "latitude")
        columns = match_coordinates(m[lon].values, self.lon, "longitude")
        values = self.to_vector(m.values[..., rows[:, None], columns])
        coords = {name: c for name, c in m.coords.items() if not {lat, lon} & set(c.dims)}
        coords |= self.cell_coordinates()
        return xr.DataArray(values, coords, (*m.dims[:-2], CELL_DIM), m.name, m.attrs)

    def _map_coordinates(self) -> dict[str, Any]:
        return {
            "lat": ("lat", self.lat.copy(), {**cf_attributes("latitude"), "axis": "Y"}),
            "lon": ("lon", self.lon.copy(), {**cf_attributes("longitude"), "axis": "X"}),
        }

    @classmethod
    def from_dataarray(cls, da: xr.DataArray, *, partial: Literal["raise", "exclude"] = "raise") -> Grid:
        """Infer the grid of a field: a cell that is NaN is land.

        Parameters
        ----------
        da
            Field with latitude and longitude dimensions (see `lat_lon_names`) and any others, floats with NaN
            on land. An array of booleans, or one named `mask` that holds 0 and 1, is itself the mask.
        partial
            What to do with cells that are NaN in some maps only: "raise", or "exclude" them as land.

        Raises
        ------
        DataError
            If latitude or longitude is missing, cells are sometimes NaN, or integers leave land unmarked.
        """
        lat, lon = lat_lon_names(da)
        values = da.transpose(..., lat, lon).values
        if values.dtype == bool or da.name == "mask":
            return cls(values, da[lat].values, da[lon].values)
        if values.dtype.kind != "f":
            raise DataError(
                f"variable '{da.name}' holds {values.dtype}, which has no NaN to mark land; "
                "give floats with NaN on land, or a variable named 'mask' (1 valid, 0 not)"
            )
        missing = np.isnan(values).reshape(-1, *values.shape[-2:])
        always, ever = missing.all(axis=0), missing.any(axis=0)
        if partial not in ("raise", "exclude"):
            raise DataError(f"partial={partial!r} is unknown; use 'raise' or 'exclude'")
        if partial == "raise" and (count := int((ever & ~always).sum())):
            raise DataError(
                f"{count} cells are NaN in some maps only; fill them, "
                "or leave them out with a grid of Grid.from_dataarray(maps, partial='exclude')"
            )
        return cls(~ever, da[lat].values, da[lon].values)

    @classmethod
    def from_dataset(cls, ds: xr.Dataset, variable: str | None = None) -> Grid:
        """Infer the grid from one variable of a dataset, as `from_dataarray` does.

        The variable is `mask` (what `to_dataset` writes) or else the only one with latitude and longitude,
        unless it is named. DataError if it does not exist, or there is not exactly one to choose.
        """
        if variable is None:
            lat, lon = lat_lon_names(ds)
            found = [str(name) for name, v in ds.data_vars.items() if {lat, lon} <= set(v.dims)]
            if "mask" not in found and len(found) != 1:
                raise DataError(
                    f"dataset has {len(found)} gridded variables {found}; name one with variable= (--grid-variable)"
                )
            variable = "mask" if "mask" in found else found[0]
        if variable not in ds:
            raise DataError(f"dataset has no variable '{variable}'; it has {sorted(map(str, ds.data_vars))}")
        return cls.from_dataarray(ds[variable])

    def to_dataset(self) -> xr.Dataset:
        """Return the grid as a Dataset with `mask` (int8, 1 = valid) and CF coordinates, ready for netCDF."""
        import xarray as xr

        flags = {"flag_values": np.array([0, 1], np.int8), "flag_meanings": "invalid valid"}
        mask = (("lat", "lon"), self.mask.astype(np.int8), {"long_name": "valid cells", **flags})
        return xr.Dataset({"mask": mask}, self._map_coordinates(), {"Conventions": "CF-1.8"})


def _axis(values: ArrayLike, kind: str) -> NDArray[np.float64]:
    try:
        values = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{kind} holds values that are not numbers; give degrees") from None
    if values.ndim != 1 or values.size == 0:
        raise DataError(f"{kind} has shape {values.shape}; give cell centres as a 1-D array")
    if not np.isfinite(values).all():
        raise DataError(f"{kind} contains NaN or infinity; give the centre of every cell")
    return values


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    if centres.size == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _dimension(da: xr.DataArray | xr.Dataset, kind: str) -> str:
    for dim in map(str, da.dims):
        attrs = da[dim].attrs if dim in da.coords else {}
        named = dim.lower() in _NAMES[kind]
        if named or attrs.get("standard_name") == kind or attrs.get("units") in _UNITS[kind]:
            if dim not in da.coords:
                raise DataError(f"dimension '{dim}' has no coordinate values; assign the {kind}s in degrees")
            return dim
    curved = [str(n) for n, c in da.coords.items() if str(n).lower() in _NAMES[kind] and c.ndim == 2]
    if curved:
        raise DataError(f"coordinate '{curved[0]}' is 2-D (curvilinear); interpolate to a regular grid first")
    raise DataError(
        f"array with dimensions {tuple(map(str, da.dims))} has no {kind}; "
        f"name one '{_NAMES[kind][0]}' or set its standard_name"
    )


def match_coordinates(have: ArrayLike, want: NDArray[np.float64], kind: str) -> NDArray[np.intp]:
    """Return where in `have` the coordinates `want` (degrees) are; `kind` is "latitude" or "longitude".

    Longitudes are compared modulo 360. DataError if sizes differ or one is off by more than 0.001 degree.
    """
    have = _axis(have, kind)
    if have.size != want.size:
        raise DataError(
            f"grid has {want.size} {kind}s, the map has {have.size}; regrid or select the map first"
        )
    distance = np.abs(have - want[:, None])
    if kind == "longitude":
        distance = np.abs(np.mod(distance + 180.0, 360.0) - 180.0)
    nearest = distance.argmin(axis=1)
    off = distance[np.arange(want.size), nearest]
    if off.max() > COORDINATE_TOLERANCE:
        worst = off.argmax()
        raise DataError(
            f"{kind} {want[worst]:g} of the grid is not in the map (nearest {have[nearest[worst]]:g}); "
            "regrid the map or use its own grid"
        )
    return nearest
