"""Coastlines and land of Natural Earth at 1:110 million, embedded in the package.

Source: Natural Earth, https://www.naturalearthdata.com, physical vectors `ne_110m_coastline` and
`ne_110m_land`. Natural Earth is in the public domain. Nothing is ever downloaded.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.geometry.base import BaseGeometry

from xairt.errors import DataError
from xairt.grid import latitude_edges, unwrap_longitude


@cache
def coastlines() -> tuple[BaseGeometry, ...]:
    """Return the coastlines of the world as line geometries.

    Returns
    -------
    tuple of shapely geometries
        Lines in degrees (x = longitude -180 .. 180, y = latitude), in the order of the file; read once.

    Raises
    ------
    DataError
        If the embedded file is missing from the installation.

    References
    ----------
    Natural Earth, 1:110m physical vectors, public domain, https://www.naturalearthdata.com
    """
    return _geometries("ne_110m_coastline")


@cache
def land() -> tuple[BaseGeometry, ...]:
    """Return the land of the world as polygons; holes are inland seas.

    Returns
    -------
    tuple of shapely geometries
        Polygons in degrees (x = longitude -180 .. 180, y = latitude), in the order of the file; read once.

    Raises
    ------
    DataError
        If the embedded file is missing from the installation.

    References
    ----------
    Natural Earth, 1:110m physical vectors, public domain, https://www.naturalearthdata.com
    """
    return _geometries("ne_110m_land")


def land_mask(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.bool_]:
    """Tell which cells of a grid have their centre on land.

    Parameters
    ----------
    lat
        (nlat,) cell centres in degrees north, strictly monotonic.
    lon
        (nlon,) cell centres in degrees east, any convention.

    Returns
    -------
    numpy.ndarray
        (nlat, nlon) booleans, True = land. A centre exactly on a coast counts as land, so that the pole and
        the 180th meridian of Antarctica do. Small islands and lakes are below the 1:110m scale.

    Raises
    ------
    DataError
        If the coordinates are not those of a grid.

    Examples
    --------
    >>> land_mask([48.0, 0.0], [2.0, 200.0])
    array([[ True, False],
           [False, False]])
    """
    latitude_edges(lat)
    unwrap_longitude(lon)
    x, y = np.meshgrid(np.mod(np.asarray(lon, float) + 180.0, 360.0) - 180.0, np.asarray(lat, float))
    return shapely.intersects_xy(_land_area(), x, y)


@cache
def _land_area() -> BaseGeometry:
    area = shapely.union_all(land())
    shapely.prepare(area)
    return area


def _geometries(name: str) -> tuple[BaseGeometry, ...]:
    from cartopy.io.shapereader import BasicReader

    with as_file(files("xairt.data") / "natural_earth" / f"{name}.shp") as path:
        if not path.exists():
            raise DataError(f"{name}.shp is missing from the installed package; install xairt again")
        return tuple(BasicReader(path).geometries())
