"""A synthetic SST whose anomalies at a target come from a known region, a known time before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xairt import fields
from xairt.errors import DataError
from xairt.grid import Grid

if TYPE_CHECKING:
    import xarray as xr

    from xairt.llc import LLCGrid

PLANTED_LAG = 3
"""Months from the source region to the target."""

SOURCE_BOX = (30.0, 45.0, 150.0, 180.0)
"""South, north, west, east of the source region: upstream of the target in the North Pacific Current."""

N_PATTERNS = 300
WIDTH_KM = 900.0
"""Number and width (standard deviation) of the bumps that anomalies are made of."""

MEMORY_MONTHS = 3.0
"""Time after which the anomalies' autocorrelation is 1/e."""

_FIRST_MONTH = "1950-01"
_SEASONAL_KELVIN, _TREND_KELVIN_PER_YEAR = 5.0, 0.02


def planted_sst(
    grid: Grid | LLCGrid,
    target: tuple[float, float],
    *,
    n_months: int,
    lag: int = PLANTED_LAG,
    share: float = 0.9,
    source_box: tuple[float, float, float, float] = SOURCE_BOX,
    seed: int = 0,
) -> xr.DataArray:
    """Return a monthly SST in which a target follows a source region.

    Anomalies are a sum of bumps with red noise, of variance 1 everywhere. With w = exp(-(d / 900 km)^2 / 2)
    of the distance d to the target, and s the standardised mean anomaly of the source region, the anomaly is
    ``share w s(t - lag) + sqrt(1 - (share w)^2) noise(t)``: at the target its correlation with the source region
    `lag` months before is `share`. Seasonal cycle and trend are added, for the removal of anomalies to find.

    Parameters
    ----------
    grid : Grid or LLCGrid
        The ocean.
    target : (float, float)
        Latitude and longitude of the target, degrees.
    n_months : int
        Length, from January 1950 on.
    lag : int
        Months from source to target, >= 1.
    share : float
        0 to 1.
    source_box : (south, north, west, east)
        Degrees; holds an ocean cell.
    seed : int
        Not negative.

    Returns
    -------
    xarray.DataArray
        ``sst`` (time, lat, lon) with NaN on land, or (time, cell) of an LLC grid; degrees Celsius, float32.

    Raises
    ------
    DataError
        If no ocean cell lies in the source region.
    """
    weights = grid.area_weights * fields.region(grid, lat=source_box[:2], lon=source_box[2:])
    if not weights.any():
        raise DataError(f"source region {source_box}: holds no ocean cell; give another box")
    noise = _anomalies(grid, n_months + lag, np.random.default_rng(seed))
    signal = noise @ (weights / weights.sum())
    signal = (signal - signal.mean()) / signal.std()
    near = share * fields.bump_weights(grid, [target], width_km=WIDTH_KM)
    sst = noise[lag:] * np.sqrt(1 - near**2)
    sst += signal[:-lag, None] * near
    sst += _climate(grid, n_months)
    return _labelled(grid, sst.astype(np.float32))


def planted_grid() -> Grid:
    """Return the ocean of a regular grid of 5 degrees, the default of the planted field."""
    from xairt.data.natural_earth import land_mask

    lat, lon = np.arange(-87.5, 90.0, 5.0), np.arange(2.5, 360.0, 5.0)
    return Grid(~land_mask(lat, lon), lat, lon)


def _anomalies(grid: Grid | LLCGrid, n_months: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Return red noise (time, cells) of variance 1, smooth on the sphere."""
    centres = zip(
        np.degrees(np.arcsin(random.uniform(-1, 1, N_PATTERNS))),
        random.uniform(0, 360, N_PATTERNS),
        strict=True,
    )
    patterns = np.stack([fields.bump_weights(grid, [centre], width_km=WIDTH_KM) for centre in centres])
    patterns /= np.linalg.norm(patterns, axis=0)
    memory = np.exp(-1 / MEMORY_MONTHS)
    amplitudes = random.standard_normal((n_months, N_PATTERNS))
    amplitudes[1:] *= np.sqrt(1 - memory**2)
    for month in range(1, n_months):
        amplitudes[month] += memory * amplitudes[month - 1]
    return amplitudes.astype(np.float32) @ patterns.astype(np.float32)


def _climate(grid: Grid | LLCGrid, n_months: int) -> NDArray[np.float32]:
    """Return mean, seasonal cycle and trend (time, cells) in degrees Celsius."""
    lat = np.deg2rad(grid.places[0])
    month = np.arange(n_months)[:, None]
    season = _SEASONAL_KELVIN * np.sin(lat) * np.cos(2 * np.pi * (month - 7) / 12)
    return (28 * np.cos(lat) ** 2 + season + _TREND_KELVIN_PER_YEAR / 12 * month).astype(np.float32)


def _labelled(grid: Grid | LLCGrid, values: NDArray[np.float32]) -> xr.DataArray:
    import xarray as xr

    time = np.datetime64(_FIRST_MONTH, "M") + np.arange(len(values))
    attributes = {"long_name": "synthetic sea surface temperature", "units": "degC"}
    coordinates = {"time": time.astype("datetime64[ns]"), **grid.cell_coordinates()}
    field = xr.DataArray(values, coordinates, ("time", "cell"), "sst", attributes)
    return grid.to_map(field) if isinstance(grid, Grid) else field
