"""Weights of cells that damp or remove them from a known function."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError
from xairt.fields.correlation import EARTH_RADIUS_KM
from xairt.grid import Grid


def bump_weights(
    grid: Grid,
    centres: Sequence[tuple[float, float]],
    *,
    width_km: float = 2000.0,
    removed_below: float = 0.0,
) -> NDArray[np.float64]:
    """Return weights that fall from 1 at chosen places to 0 far from all of them.

    The weight of a cell is that of the nearest place, :math:`\\exp(-d^2 / (2 w^2))` with the great-circle distance
    d and the width w: a Gaussian bump at each place.

    Parameters
    ----------
    grid : Grid
        The n valid cells.
    centres : sequence of (lat, lon)
        Places in degrees north and east, one or more.
    width_km : float
        w > 0.
    removed_below : float
        Smaller weights become 0, which removes these cells; 0.5 is what Krell et al. (2025) take.

    Returns
    -------
    numpy.ndarray
        (n,) float64, 0 .. 1: `cell_weights` of `xairt.fields.draw`.

    Raises
    ------
    DataError
        If there is no centre, one is not on the globe, or a number is out of its range.

    Examples
    --------
    >>> grid = Grid([[True, True]], lat=[0], lon=[0, 90])
    >>> bump_weights(grid, [(0, 360)], width_km=5000).round(3)
    array([1.   , 0.135])
    """
    places = np.asarray(centres, dtype=np.float64)
    if places.ndim != 2 or places.shape[1:] != (2,) or not len(places):
        raise DataError(f"centres: shape {places.shape}; give pairs of latitude and longitude, one or more")
    if not (np.isfinite(places).all() and (np.abs(places[:, 0]) <= 90).all()):
        raise DataError("centres: not on the globe; give degrees north and east")
    if not width_km > 0:
        raise DataError(f"width_km={width_km}: must be positive; give kilometres")
    if not 0 <= removed_below <= 1:
        raise DataError(f"removed_below={removed_below}: outside 0 .. 1; give the least weight that is kept")
    nearest = np.min([great_circle_km(grid, lat, lon) for lat, lon in places], axis=0)
    weights = np.exp(-((nearest / width_km) ** 2) / 2)
    return np.where(weights < removed_below, 0.0, weights)


def great_circle_km(grid: Grid, lat: float, lon: float) -> NDArray[np.float64]:
    """Return the great-circle distance of each valid cell from a place, by the haversine formula.

    Parameters
    ----------
    grid : Grid
        The n valid cells.
    lat, lon : float
        Place in degrees north and east.

    Returns
    -------
    numpy.ndarray
        (n,) km from the centres of the cells.
    """
    lats, lons = grid.places
    phi, theta = np.deg2rad(lats), np.deg2rad(lat)
    half_lat, half_lon = (phi - theta) / 2, np.deg2rad(lons - lon) / 2
    haversine = np.sin(half_lat) ** 2 + np.cos(phi) * np.cos(theta) * np.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))
