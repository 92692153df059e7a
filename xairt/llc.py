"""LLCGrid: the lat-lon-cap grid of the ECCO ocean state estimates, and the way from its tiles to the globe.

An LLC grid has 13 square tiles (tile, j, i): 0 to 2 are the face over the eastern Atlantic and Africa, 3 to 5
that over the Indian Ocean, 6 the Arctic cap, 7 to 9 the western and central Pacific, 10 to 12 the Americas.
Tiles 7 to 12 are turned: j runs east, i runs south. Only numpy is imported at the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.cells import CELL_DIM, Cells, as_mask, cf_attributes, frozen, is_dataarray, refuse_empty
from xairt.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

LLC_DIMS = ("tile", "j", "i")
REACH = 1.2
"""A cell holds what is nearer to its centre than half its diagonal, times this for cells that are no rectangles."""
FINEST_DEGREES = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class LLCGrid(Cells):
    """Lat-lon-cap grid of several tiles with a mask of valid cells.

    The vector of a grid holds the valid cells tile by tile, row by row; invalid cells are left out. A grid is
    immutable: it copies its arrays and sets them read-only.

    Parameters
    ----------
    mask
        (tile, j, i) booleans (or 0 and 1), True where a cell is valid (ocean); (13, 90, 90) for LLC90.
    lat, lon
        Of the same shape: cell centres in degrees north and east (YC and XC of the MITgcm). NaN where a cell
        that is not valid has no known place.
    area
        Of the same shape: areas of the cells in any unit (RAC or rA, in m2). None where they are not known:
        then there are no `area_weights`.

    Raises
    ------
    DataError
        If shapes disagree, no cell is valid, a valid cell has no place on the globe, or its area is not
        positive.

    References
    ----------
    Forget et al. (2015), ECCO version 4, Geosci. Model Dev. 8, 3071, section 2.

    Examples
    --------
    >>> lat, lon = np.meshgrid([10.0, 11.0], [200.0, 201.0], indexing="ij")
    >>> grid = LLCGrid([[[True, False], [True, True]]], lat[None], lon[None])
    >>> grid
    LLCGrid 1 x 2 x 2, 3 valid cells
    >>> grid.cell(1), grid.nearest(10.1, -160.2)
    ((11.0, 200.0), 0)
    >>> grid.to_map([1.0, 2.0, 3.0])
    array([[[ 1., nan],
            [ 2.,  3.]]])
    """

    dims: ClassVar[tuple[str, ...]] = LLC_DIMS
    mask: NDArray[np.bool_]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    area: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        mask = as_mask(self.mask, self.dims)
        refuse_empty(mask)
        arrays = {"lat": self.lat, "lon": self.lon} | ({} if self.area is None else {"area": self.area})
        for name, given in arrays.items():
            values = _numbers(given, name, mask.shape)
            _check_valid(values[mask], name)
            object.__setattr__(self, name, frozen(values))
        object.__setattr__(self, "mask", frozen(mask))

    def __reduce__(self) -> tuple[Any, ...]:
        return LLCGrid, (self.mask, self.lat, self.lon, self.area)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LLCGrid):
            return NotImplemented
        if (self.area is None) != (other.area is None) or not np.array_equal(self.mask, other.mask):
            return False
        names = ("lat", "lon") if self.area is None else ("lat", "lon", "area")
        return all(np.array_equal(getattr(self, k), getattr(other, k), equal_nan=True) for k in names)

    def __hash__(self) -> int:
        return hash((self.mask.tobytes(), self.lat.tobytes(), self.lon.tobytes()))

    def __repr__(self) -> str:
        return f"LLCGrid {' x '.join(map(str, self.shape))}, {self.n_valid} valid cells"

    @cached_property
    def places(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude (n_valid,) of the centres of the valid cells, in degrees north and east."""
        return frozen(self.lat[self.mask]), frozen(self.lon[self.mask])

    @cached_property
    def _areas(self) -> NDArray[np.float64]:
        if self.area is None:
            raise DataError(
                "LLC grid has no areas; give area= (RAC, rA), or read it with xairt.data.llc.llc_grid"
            )
        return self.area[self.mask]

    def _with_mask(self, mask: NDArray[np.bool_]) -> LLCGrid:
        return LLCGrid(mask, self.lat, self.lon, self.area)

    @cached_property
    def indices(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Tile, j and i (n_valid,) of the valid cells, counted from 0."""
        tile, j, i = np.unravel_index(self._flat, self.shape)
        return frozen(tile), frozen(j), frozen(i)

    def index(self, tile: int, j: int, i: int) -> int:
        """Return the vector index of the cell at (tile, j, i), counted from 0.

        DataError if there is no such cell, or it is not valid.
        """
        place = (tile, j, i)
        inside = all(0 <= at < size for at, size in zip(place, self.shape, strict=True))
        if not (inside and self.mask[place]):
            reason = "is not valid (land)" if inside else f"does not exist in {self.shape}"
            raise DataError(
                f"cell (tile, j, i) = {place} {reason}; name a valid cell, or ask nearest(lat, lon)"
            )
        return int(np.searchsorted(self._flat, np.ravel_multi_index(place, self.shape)))

    def cell_coordinates(self) -> dict[str, Any]:
        """Return the coordinates of labelled vectors: lat, lon (degrees), tile, j, i, and area where known."""
        coords = super().cell_coordinates()
        coords |= {name: (CELL_DIM, at) for name, at in zip(LLC_DIMS, self.indices, strict=True)}
        if self.area is not None:
            coords["area"] = (CELL_DIM, self._areas, {"standard_name": "cell_area"})
        return coords

    def to_regular(self, v: Any, degrees: float = 1.0) -> Any:
        """Bring vectors to a regular grid around the globe: each of its cells takes the nearest LLC cell.

        Parameters
        ----------
        v
            (..., n_valid) array, or a DataArray whose dimension `cell` (else the last one) holds the cells.
        degrees
            Step of the regular grid in latitude and longitude; it divides 180.

        Returns
        -------
        xarray.DataArray
            (..., lat, lon) floats, latitudes from south to north, longitudes 0 .. 360. NaN where the nearest
            cell is not valid, or where no cell reaches, such as the interior of Antarctica.

        Raises
        ------
        DataError
            If the vectors have another length, or the step does not divide 180 or is below 0.05.
        """
        import xarray as xr

        lat, lon = _regular_axes(degrees)
        if not is_dataarray(v):
            v = self._checked_vectors(v)
            v = xr.DataArray(v, dims=(*(f"dim_{axis}" for axis in range(v.ndim - 1)), CELL_DIM))
        v, coords = self._without_cell_coordinates(v)
        values = self._checked_vectors(v.values)
        land = np.full((*values.shape[:-1], 1), np.nan, np.result_type(values.dtype, np.float32))
        coords |= {
            "lat": ("lat", lat, {**cf_attributes("latitude"), "axis": "Y"}),
            "lon": ("lon", lon, {**cf_attributes("longitude"), "axis": "X"}),
        }
        regular = np.concatenate([values, land], axis=-1)[..., self._source(lat, lon)]
        return xr.DataArray(regular, coords, (*v.dims[:-1], "lat", "lon"), v.name, v.attrs)

    def _source(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the vector index (nlat, nlon) of the cell that each place takes; n_valid for none."""
        if lat.size not in self._sources:
            known = np.isfinite(self.lat) & np.isfinite(self.lon)
            distance, nearest = self._tree.query(_points(*np.meshgrid(lat, lon, indexing="ij")))
            rank = np.where(self.mask, np.cumsum(self.mask).reshape(self.shape) - 1, self.n_valid)[known]
            reached = distance <= self._reach[known][nearest]
            self._sources[lat.size] = frozen(np.where(reached, rank[nearest], self.n_valid))
        return self._sources[lat.size]

    @cached_property
    def _sources(self) -> dict[int, NDArray[np.intp]]:
        """What `_source` has found, by the number of latitudes."""
        return {}

    @cached_property
    def _tree(self) -> Any:
        """Tree of the places of all cells, land too, as points on the unit sphere."""
        from scipy.spatial import cKDTree

        points = _points(self.lat, self.lon)
        return cKDTree(points[np.isfinite(points).all(axis=-1)])

    @cached_property
    def _reach(self) -> NDArray[np.float64]:
        """Chord (tile, j, i) on the unit sphere up to which a cell counts as the place's own."""
        points = _points(self.lat, self.lon)
        along_j, along_i = _spacing(points, 1), _spacing(points, 2)
        along_j, along_i = (np.where(np.isnan(a), b, a) for a, b in ((along_j, along_i), (along_i, along_j)))
        reach = REACH / 2 * np.hypot(along_j, along_i)
        alone = np.isnan(reach)
        typical = np.deg2rad(1.0) if alone.all() else np.median(reach[~alone])
        return np.where(alone, typical, reach)

    def _labelled_vector(self, m: xr.DataArray) -> xr.DataArray:
        import xarray as xr

        m = tile_maps(m)
        values = self.take(m.values)
        self._refuse_nan(values)
        coords = {name: c for name, c in m.coords.items() if not set(LLC_DIMS) & set(c.dims)}
        return xr.DataArray(
            values, coords | self.cell_coordinates(), (*m.dims[:-3], CELL_DIM), m.name, m.attrs
        )

    def _map_coordinates(self) -> dict[str, Any]:
        axes = {dim: (dim, np.arange(size)) for dim, size in zip(LLC_DIMS, self.shape, strict=True)}
        return axes | {
            "lat": (LLC_DIMS, self.lat.copy(), cf_attributes("latitude")),
            "lon": (LLC_DIMS, self.lon.copy(), cf_attributes("longitude")),
        }

    @classmethod
    def from_dataarray(cls, da: xr.DataArray) -> LLCGrid:
        """Return the grid of labelled vectors, from their coordinates.

        The places of cells that are not in the vectors stay unknown, and the grid is as large as the largest
        tile, j and i.

        Parameters
        ----------
        da
            Array with the dimension `cell` and its coordinates tile, j, i (from 0, in the order of a vector),
            lat and lon (degrees), and area where it is known: what `to_vector` and `xairt.data.llc` give.

        Raises
        ------
        DataError
            If a coordinate is missing, or the cells are out of order or twice there.
        """
        if not is_llc(da):
            raise DataError(
                "array has no coordinates tile, j, i, lat and lon along 'cell'; read it with xairt.data.llc"
            )
        indices = tuple(np.asarray(da[name].values, np.intp) for name in LLC_DIMS)
        shape = tuple(int(at.max()) + 1 for at in indices)
        if min(at.min() for at in indices) < 0 or (np.diff(np.ravel_multi_index(indices, shape)) <= 0).any():
            raise DataError("cells are not in the order of tile, j, i (from 0), each once; sort them so")
        mask = np.zeros(shape, bool)
        mask[indices] = True
        arrays = {name: np.full(shape, np.nan) for name in ("lat", "lon", "area") if name in da.coords}
        for name, values in arrays.items():
            values[indices] = da[name].values
        return cls(mask, **arrays)


def is_llc(da: xr.DataArray) -> bool:
    """Tell labelled vectors of an LLC grid: tile, j, i, lat and lon along the dimension `cell`."""
    return all(name in da.coords and da[name].dims == (CELL_DIM,) for name in (*LLC_DIMS, "lat", "lon"))


def tile_maps(m: xr.DataArray) -> xr.DataArray:
    """Return labelled maps as (..., tile, j, i); `face` is another name of `tile`.

    DataError if a dimension is missing.
    """
    if "face" in m.dims:
        m = m.rename(face="tile")
    missing = [dim for dim in LLC_DIMS if dim not in m.dims]
    if missing:
        raise DataError(
            f"array with dimensions {tuple(map(str, m.dims))} has no '{missing[0]}'; LLC maps are (..., tile, j, i)"
        )
    return m.transpose(..., *LLC_DIMS)


def _numbers(values: ArrayLike, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        values = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} holds values that are not numbers; give an array (tile, j, i)") from None
    if values.shape != shape:
        raise DataError(
            f"{name} has shape {values.shape}, the mask {shape}; give one value for each (tile, j, i)"
        )
    return values


def _check_valid(values: NDArray[np.float64], name: str) -> None:
    """Refuse values of valid cells that cannot be."""
    good = {
        "lat": np.abs(values) <= 90.0,
        "lon": np.abs(values) <= 360.0,
        "area": np.isfinite(values) & (values > 0),
    }[name]
    if not good.all():
        needed = {"lat": "degrees in -90 .. 90", "lon": "degrees in -360 .. 360", "area": "a positive area"}
        worst = values[~good][0]
        raise DataError(
            f"{name} of {(~good).sum()} valid cells is wrong, such as {worst:g}; give {needed[name]}"
        )


def _regular_axes(degrees: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centres of latitude and longitude around the globe."""
    rows = 180.0 / degrees if FINEST_DEGREES <= degrees <= 180.0 else 0.5
    if abs(rows - round(rows)) > 1e-9 * rows:
        raise DataError(f"degrees={degrees}: must divide 180 and be {FINEST_DEGREES} or more; give 1 or 0.5")
    step = 180.0 / round(rows)
    centres = (np.arange(2 * round(rows)) + 0.5) * step
    return centres[: round(rows)] - 90.0, centres


def _points(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places in degrees as points (..., 3) on the unit sphere."""
    phi, theta = np.deg2rad(lat), np.deg2rad(lon)
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=-1)


def _spacing(points: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the larger distance of each cell to its two neighbours along an axis; NaN where it has none."""
    step = np.linalg.norm(np.diff(points, axis=axis), axis=-1)
    ends = [(0, 0)] * step.ndim
    ends[axis] = (1, 1)
    padded = np.pad(step, ends, constant_values=np.nan)
    before, after = (np.delete(padded, end, axis) for end in (-1, 0))
    return np.fmax(before, after)
