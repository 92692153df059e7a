"""Correlation matrices of gridded fields: from a covariance, or the embedded analytic default."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.fields.checks import real_numbers
from xairt.grid import Grid

EARTH_RADIUS_KM = 6371.0
# (1 + u) exp(-u) = 1/e
_MATERN_E_FOLDING = 2.146193220620582


@dataclass(frozen=True)
class Centre:
    """One centre of action of a teleconnection pattern: a Gaussian bump in latitude and longitude.

    Parameters
    ----------
    lat, lon : float
        Position, degrees north and east.
    lat_width, lon_width : float
        Distance at which the bump has fallen to 1/e, degrees.
    amplitude : float
        Height, in standard deviations of the local part; centres of opposite sign vary in opposition.
    """

    lat: float
    lon: float
    lat_width: float
    lon_width: float
    amplitude: float


TELECONNECTIONS: dict[str, tuple[Centre, ...]] = {
    "El Nino": (
        Centre(0, 225, 9, 40, 1.5),
        Centre(5, 140, 10, 15, -0.5),
        Centre(28, 175, 12, 35, -0.7),
        Centre(-28, 195, 12, 35, -0.7),
        Centre(45, 228, 15, 15, 0.6),
        Centre(-3, 70, 15, 25, 0.5),
        Centre(15, 310, 10, 25, 0.3),
    ),
    "North Pacific": (Centre(40, 170, 10, 30, -0.9), Centre(50, 215, 12, 15, 0.6)),
    "Atlantic": (Centre(50, 325, 12, 20, 0.9), Centre(15, 330, 10, 25, 0.7)),
    "Indian Ocean dipole": (Centre(-2, 60, 10, 14, 0.7), Centre(-8, 100, 8, 12, -0.7)),
}
"""Idealised patterns of large-scale SST variability; shapes after the well-known modes, not fitted."""


def default_grid() -> Grid:
    """Return the 10-degree ocean grid of the SST benchmark.

    Returns
    -------
    Grid
        18 x 36 cells, first row north: every 10th cell of a 1-degree grid, so latitudes 89.5, 79.5, ... -80.5
        and longitudes 0.5, 10.5, ... 350.5. A cell is ocean where its centre is not on land in Natural Earth
        1:110m.
    """
    from xairt.data.natural_earth import land_mask

    lat, lon = default_coordinates()
    return Grid(~land_mask(lat, lon), lat, lon)


def default_coordinates() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return latitudes (18,) and longitudes (36,) of the benchmark's grid, degrees north and east."""
    return np.arange(89.5, -90.0, -10.0), np.arange(0.5, 360.0, 10.0)


def to_correlation(covariance: ArrayLike) -> NDArray[np.float64]:
    """Divide a covariance matrix by its standard deviations.

    Parameters
    ----------
    covariance : (n, n), symmetric, positive diagonal

    Returns
    -------
    numpy.ndarray
        (n, n) float64, exactly symmetric with a diagonal of exactly 1.

    Raises
    ------
    DataError
        If the matrix is not square, finite and symmetric, a variance is not positive, or a covariance is larger
        than the variances allow.

    Examples
    --------
    >>> to_correlation([[4.0, 1.0], [1.0, 1.0]])
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    matrix = symmetric_matrix(covariance)
    variances = np.diag(matrix)
    if (variances <= 0).any():
        cell = int(np.argmin(variances))
        raise DataError(f"covariance: variance {variances[cell]:g} of cell {cell}; leave constant cells out")
    deviations = np.sqrt(variances)
    correlation = matrix / deviations / deviations[:, np.newaxis]
    correlation = (correlation + correlation.T) / 2
    if np.abs(correlation).max() > 1 + 1e-6:
        row, column = np.unravel_index(np.abs(correlation).argmax(), correlation.shape)
        raise DataError(
            f"covariance: correlation {correlation[row, column]:.3g} between cells {row} and {column}, beyond 1; "
            "give the covariance or correlation of the cells"
        )
    np.fill_diagonal(correlation, 1.0)
    return correlation


def symmetric_matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    """Return a matrix as float64 after checking that it is square, finite and symmetric.

    Parameters
    ----------
    matrix : (n, n)
        May be asymmetric by rounding: 1e-6 of its largest value.

    Returns
    -------
    numpy.ndarray
        (n, n) float64, the input itself where it is float64 already.

    Raises
    ------
    DataError
        If it is not such a matrix.
    """
    values = real_numbers(matrix, "covariance").astype(np.float64, copy=False)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or not values.size:
        raise DataError(f"covariance: shape {values.shape} is not square; give one row and column per cell")
    if not np.isfinite(values).all():
        raise DataError("covariance: holds NaN or infinity; leave the cells without data out")
    if np.abs(values - values.T).max() > 1e-6 * np.abs(values).max():
        raise DataError("covariance: not symmetric; give the covariance or correlation of the cells")
    return values


def analytic_sst_correlation(
    grid: Grid, *, length_scale_km: float = 2000.0, teleconnection: float = 1.0
) -> NDArray[np.float64]:
    r"""Return an analytic correlation matrix that resembles that of monthly SST anomalies.

    The local part is a Matern function with smoothness 3/2, :math:`(1 + u) e^{-u}`, of the chord between two
    cells (within 0.5 % of the great-circle distance up to 2,000 km), which is positive definite on the sphere
    for any set of distinct points. To it a rank-one matrix :math:`v v^T` is added for each pattern of
    `TELECONNECTIONS`, and the sum is scaled to unit diagonal: it stays positive definite.

    Parameters
    ----------
    grid : Grid
        The n valid cells, in the order of its vectors.
    length_scale_km : float
        Chord in km at which the local part has fallen to 1/e, > 0.
    teleconnection : float
        Factor on the patterns' amplitudes, >= 0; 0 leaves the local part alone.

    Returns
    -------
    numpy.ndarray
        (n, n) float64, symmetric, diagonal exactly 1.

    Raises
    ------
    DataError
        If a parameter is out of its range.

    Notes
    -----
    On the embedded 10-degree grid, neighbours 1,000 km apart correlate at about 0.7.
    """
    if not length_scale_km > 0:
        raise DataError(f"length_scale_km={length_scale_km}: must be positive; give kilometres")
    if not teleconnection >= 0:
        raise DataError(f"teleconnection={teleconnection}: must not be negative; give 0 for none")
    lat, lon = grid.places
    scaled = _chords_km(lat, lon) * (_MATERN_E_FOLDING / length_scale_km)
    covariance = (1 + scaled) * np.exp(-scaled)
    for centres in TELECONNECTIONS.values():
        pattern = teleconnection * _pattern(centres, lat, lon)
        covariance += np.outer(pattern, pattern)
    return to_correlation(covariance)


def _chords_km(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the straight distance through the Earth between all cells, (n, n) km."""
    phi, lam = np.deg2rad(lat), np.deg2rad(lon)
    points = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)
    squared = np.sum((points[:, np.newaxis] - points) ** 2, axis=-1)
    return EARTH_RADIUS_KM * np.sqrt(squared)


def _pattern(
    centres: tuple[Centre, ...], lat: NDArray[np.float64], lon: NDArray[np.float64]
) -> NDArray[np.float64]:
    total = np.zeros_like(lat)
    for centre in centres:
        east = (lon - centre.lon + 180) % 360 - 180
        distance = ((lat - centre.lat) / centre.lat_width) ** 2 + (east / centre.lon_width) ** 2
        total += centre.amplitude * np.exp(-distance)
    return total
