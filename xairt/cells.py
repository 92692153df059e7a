"""Valid cells of a grid: what regular and curvilinear grids have in common.

A network of gridded fields sees a vector of the valid (ocean) cells; a scientist sees a map. `Cells` holds
what is needed to go from one to the other without loss. Only numpy is imported at the top.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError

if TYPE_CHECKING:
    from typing import Self

    import xarray as xr

CELL_DIM = "cell"


class Cells(ABC):
    """Base of the grids: a mask of valid cells, their places and areas, and the way to maps and back.

    The vector of a grid holds the valid cells in the order of the mask (last dimension fastest); invalid
    cells are left out. A subclass names the dimensions of its maps, and says where its cells are and how
    large.
    """

    dims: ClassVar[tuple[str, ...]]
    mask: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a map."""
        return self.mask.shape

    @property
    def n_valid(self) -> int:
        """Number of valid cells, the length of a vector."""
        return self._flat.size

    @cached_property
    def _flat(self) -> NDArray[np.intp]:
        """Positions (n_valid,) of the valid cells in the flattened map."""
        return frozen(np.flatnonzero(self.mask))

    @property
    @abstractmethod
    def places(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latitude and longitude (n_valid,) of the centres of the valid cells, in degrees north and east."""

    @property
    @abstractmethod
    def _areas(self) -> NDArray[np.float64]:
        """Areas (n_valid,) of the valid cells in any unit."""

    @cached_property
    def area_weights(self) -> NDArray[np.float64]:
        """Areas (n_valid,) of the valid cells on the sphere, scaled to mean 1 over the valid cells."""
        return frozen(self._areas / self._areas.mean())

    @abstractmethod
    def _with_mask(self, mask: NDArray[np.bool_]) -> Self:
        """Return the grid with another mask."""

    def restricted(self, keep: ArrayLike) -> Self:
        """Return the grid with a part of its valid cells.

        Parameters
        ----------
        keep
            (n_valid,) booleans, True where a cell stays valid: ``v[..., keep]`` are the vectors of the new
            grid, and ``grid.places[0] > -20`` keeps what lies north of 20 degrees south.

        Raises
        ------
        DataError
            If it is no boolean vector of the valid cells, or keeps none of them.
        """
        keep = np.asarray(keep)
        if keep.dtype != bool or keep.shape != (self.n_valid,):
            raise DataError(
                f"keep has shape {keep.shape} of {keep.dtype}; give {self.n_valid} booleans, one for each valid cell"
            )
        if not keep.any():
            raise DataError("keep is False everywhere; keep one valid cell or more")
        return self._with_mask(self.to_map(keep, fill=False))

    def cell(self, i: int) -> tuple[float, float]:
        """Return (lat, lon) in degrees of the i-th cell of the vector; DataError outside 0 .. n_valid - 1."""
        if not 0 <= i < self.n_valid:
            raise DataError(f"cell {i} does not exist; the grid has cells 0 .. {self.n_valid - 1}")
        lat, lon = self.places
        return float(lat[i]), float(lon[i])

    def nearest(self, lat: float, lon: float) -> int:
        """Return the vector index of the valid cell whose centre is nearest on the great circle.

        Place in degrees north and east, any longitude convention; DataError if it is not on the globe.
        """
        if not (np.isfinite(lon) and -90.0 <= lat <= 90.0):
            raise DataError(f"place (lat {lat}, lon {lon}) is not on the globe; give degrees north and east")
        lats, lons = self.places
        phi, theta = np.deg2rad(lats), np.deg2rad(lat)
        half_dlat, half_dlon = (phi - theta) / 2, np.deg2rad(lons - lon) / 2
        haversine = np.sin(half_dlat) ** 2 + np.cos(phi) * np.cos(theta) * np.sin(half_dlon) ** 2
        return int(haversine.argmin())

    def to_map(self, v: Any, fill: float = np.nan) -> Any:
        """Lay vectors of valid cells out as maps.

        Parameters
        ----------
        v
            (..., n_valid) array, or a DataArray whose dimension `cell` (else the last one) holds the cells.
        fill
            Value of the invalid cells. With NaN, floats keep their dtype and integers and booleans become
            float64; any other value keeps the dtype of `v`.

        Returns
        -------
        numpy.ndarray or xarray.DataArray
            (..., *shape), such as (..., nlat, nlon); a DataArray in gives a DataArray with coordinates out.

        Raises
        ------
        DataError
            If the vectors have another length, or their dtype cannot hold `fill`.
        """
        if is_dataarray(v):
            return self._labelled_map(v, fill)
        v = self._checked_vectors(v)
        dtype = _map_dtype(v.dtype, fill)
        out = np.full((*v.shape[:-1], self.mask.size), fill, dtype=dtype)
        out[..., self._flat] = v
        return out.reshape(*v.shape[:-1], *self.shape)

    def to_vector(self, m: Any) -> Any:
        """Take the valid cells out of maps; the exact inverse of `to_map`.

        Parameters
        ----------
        m
            (..., *shape) array, such as (..., nlat, nlon), or a DataArray. Rows and columns of a regular grid
            are brought into its order by coordinate value, whichever way latitude runs, with longitudes in
            any convention.

        Returns
        -------
        numpy.ndarray or xarray.DataArray
            (..., n_valid) of the same dtype; a DataArray in gives a DataArray with dimension `cell` out.

        Raises
        ------
        DataError
            If the shape or the coordinates (within 0.001 degree) are not those of the grid, or a valid cell
            holds NaN.
        """
        if is_dataarray(m):
            return self._labelled_vector(m)
        v = self.take(np.asarray(m))
        self._refuse_nan(v)
        return v

    def _checked_vectors(self, v: ArrayLike) -> NDArray[Any]:
        v = np.asarray(v)
        if v.ndim == 0 or v.shape[-1] != self.n_valid:
            length = v.shape[-1] if v.ndim else "a single number"
            raise DataError(
                f"grid has {self.n_valid} valid cells, got vectors of {length}: "
                "use the grid that the vectors were made with"
            )
        return v

    def take(self, m: NDArray[Any]) -> NDArray[Any]:
        """Return the valid cells (..., n_valid) of a plain array of maps, NaN or not.

        DataError if its shape is not that of the grid.
        """
        if m.shape[-len(self.shape) :] != self.shape:
            dims = ", ".join(self.dims)
            raise DataError(
                f"grid is {self.shape} ({dims}), got maps of shape {m.shape}: order them (..., {dims})"
            )
        before = m.shape[: m.ndim - len(self.shape)]
        return m.reshape(*before, self.mask.size)[..., self._flat]

    def _refuse_nan(self, v: NDArray[Any]) -> None:
        if v.dtype.kind not in "fc" or not (missing := np.isnan(v)).any():
            return
        *sample, i = np.argwhere(missing)[0].tolist()
        lat, lon = self.cell(i)
        where = f"index {tuple(sample)}, " if sample else ""
        raise DataError(
            f"map has {missing.sum()} NaN in valid cells, the first at {where}lat {lat:g}, lon {lon:g}; "
            "fill them or build the grid from these data"
        )

    def _labelled_map(self, v: xr.DataArray, fill: float) -> xr.DataArray:
        import xarray as xr

        if v.ndim == 0:
            return self.to_map(v.values, fill)
        v, coords = self._without_cell_coordinates(v)
        return xr.DataArray(
            self.to_map(v.values, fill),
            coords | self._map_coordinates(),
            (*v.dims[:-1], *self.dims),
            v.name,
            v.attrs,
        )

    def _without_cell_coordinates(self, v: xr.DataArray) -> tuple[xr.DataArray, dict[str, Any]]:
        """Return labelled vectors (..., cell) and those of their coordinates that do not name cells."""
        dim = CELL_DIM if CELL_DIM in v.dims else v.dims[-1]
        own = {"lat", "lon", *self.dims}
        coords = {str(name): c for name, c in v.coords.items() if dim not in c.dims and name not in own}
        return v.transpose(..., dim), coords

    @abstractmethod
    def _labelled_vector(self, m: xr.DataArray) -> xr.DataArray:
        """Return the vectors of labelled maps."""

    @abstractmethod
    def _map_coordinates(self) -> dict[str, Any]:
        """Return the coordinates of a labelled map."""

    def cell_coordinates(self) -> dict[str, Any]:
        """Return the coordinates of labelled vectors: lat and lon (cell), in degrees, with CF attributes."""
        lat, lon = self.places
        return {
            "lat": (CELL_DIM, lat.copy(), cf_attributes("latitude")),
            "lon": (CELL_DIM, lon.copy(), cf_attributes("longitude")),
        }


def frozen(values: NDArray[Any]) -> NDArray[Any]:
    """Return the same array, set read-only."""
    values.setflags(write=False)
    return values


def as_mask(mask: ArrayLike, dims: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return a copy of a mask (booleans, or 0 and 1) as booleans; DataError if it is none of these dimensions."""
    mask = np.asarray(mask)
    if mask.ndim != len(dims):
        raise DataError(f"mask has shape {mask.shape}; give a {len(dims)}-D array ({', '.join(dims)})")
    if mask.dtype == bool:
        return mask.copy()
    if mask.dtype.kind not in "iuf" or not np.isin(mask[mask == mask], (0, 1)).all():
        raise DataError("mask holds values other than 0 and 1; give booleans, True where a cell is valid")
    return mask == 1


def refuse_empty(mask: NDArray[np.bool_]) -> None:
    """Raise DataError if no cell is valid."""
    if not mask.any():
        raise DataError("mask has no valid cell; True marks a valid (ocean) cell")


def is_dataarray(value: Any) -> bool:
    """Tell an xarray.DataArray without importing xarray."""
    return hasattr(value, "dims") and hasattr(value, "coords") and hasattr(value, "values")


def cf_attributes(kind: str) -> dict[str, str]:
    """Return the CF attributes of a "latitude" or "longitude"."""
    direction = "north" if kind == "latitude" else "east"
    return {"standard_name": kind, "long_name": kind, "units": f"degrees_{direction}"}


def _map_dtype(dtype: np.dtype, fill: float) -> np.dtype:
    if np.isnan(fill):
        return dtype if dtype.kind in "fc" else np.dtype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        held = np.asarray(fill).astype(dtype)
    if held != fill and dtype.kind in "biu":
        raise DataError(f"fill {fill!r} does not fit the dtype {dtype}; convert the vectors to floats")
    return dtype
