"""Anomalies of gridded fields, every n-th cell of them, and the correlation between their cells."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError
from xairt.fields.correlation import to_correlation
from xairt.grid import Grid, lat_lon_names, longitude_edges, unwrap_longitude

if TYPE_CHECKING:
    import xarray as xr

MISSING_ABOVE = 500.0
"""Values of a larger magnitude are missing, as in COBE-SST2."""

COARSE_DEGREES = 10.0
"""Spacing that a coarsened grid gets where no step is given."""

CONSTANT_SHARE = 1e-6
"""A cell is constant if its standard deviation is at most this share of its largest magnitude.

More than the rounding of float32, which leaves a constant temperature in kelvin with a small variance.
"""

_ROW_VALUES = 1 << 22

log = logging.getLogger(__name__)


def anomalies(
    field: xr.DataArray,
    *,
    detrend: bool = True,
    standardise: bool = True,
    missing_above: float | None = MISSING_ABOVE,
) -> xr.DataArray:
    """Remove climatology and trend of every cell, and divide by its standard deviation.

    In this order: the mean of each calendar month is subtracted, then the line fitted by least squares against
    the real time between the dates (months differ in length), then the rest is divided by its standard
    deviation (divided by n).

    A cell with a value at some times only is left out as a whole, as land is, and so is a constant one, whose
    anomalies cannot be standardised; their numbers are logged.

    Parameters
    ----------
    field : xarray.DataArray
        With a dimension of dates (numpy or cftime, any calendar), latitude and longitude, and others of length
        1. It is left as it is.
    detrend, standardise : bool
        Whether to remove the trend, and to divide; without the division constant cells stay, as zeros.
    missing_above : float or None
        Values of a larger magnitude are missing, in the units of the field.

    Returns
    -------
    xarray.DataArray
        (time, lat, lon) in the precision of the field, computed in float64; NaN at all times where the cell was
        left out. Dimensionless where standardised, else in the units of the field.

    Raises
    ------
    DataError
        If the field has no dates, latitudes or longitudes, holds no numbers, dates are missing or stand there
        twice, no calendar month occurs in two years, or no cell is left.

    References
    ----------
    Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7, section 2.1.
    """
    ordered = _ordered(field)
    time = ordered.dims[0]
    days, groups = _days(ordered[time]), calendar_months(ordered[time])
    values = np.array(ordered.values, dtype=np.result_type(ordered.dtype, np.float32))
    if missing_above is not None:
        values[np.abs(values) > missing_above] = np.nan
    flat = values.reshape(len(values), -1)
    left_out = _leave_out_gaps(flat)
    constant = 0
    width = max(1, _ROW_VALUES // len(flat))
    for start in range(0, flat.shape[1], width):
        block = flat[:, start : start + width]
        constant += _remove(block, groups, days if detrend else None, standardise)
    _tell(_name(field), left_out, constant)
    if np.isnan(flat[0]).all():
        raise DataError(
            f"{_name(field)}: no cell is left ({left_out} have gaps, {constant} are constant, the others hold no "
            f"value up to missing_above={missing_above}); give a gap-free field that varies"
        )
    attributes = {"long_name": f"anomaly of {field.attrs.get('long_name', _name(field))}"}
    units = "1" if standardise else field.attrs.get("units")
    return ordered.copy(data=values).assign_attrs(attributes | ({"units": units} if units else {}))


def coarsen(field: xr.DataArray, step: int | None = None) -> xr.DataArray:
    """Take every n-th cell from the first, after ordering rows from north to south.

    Parameters
    ----------
    field : xarray.DataArray
        With latitude and longitude, and any other dimensions. Of a file opened but not read, nothing but the
        cells taken is read.
    step : int or None
        n >= 1, for rows and columns. None: for each of them as many as make about 10 degrees; what was chosen
        is logged.

    Returns
    -------
    xarray.DataArray
        (..., lat, lon): the first row is the northernmost of the field. Longitudes around the globe run
        eastwards from the first one at or east of Greenwich, 0 .. 360, however they were written, so that the
        same cells are taken.

    Raises
    ------
    DataError
        If there are no latitudes or longitudes, or the step is no positive number.

    Examples
    --------
    >>> import xarray as xr
    >>> field = xr.DataArray(np.zeros((4, 4)), {"lat": [-3, -1, 1, 3], "lon": [-180, -90, 0, 90]}, ("lat", "lon"))
    >>> coarse = coarsen(field, 2)
    >>> coarse.lat.values, coarse.lon.values
    (array([ 3., -1.]), array([  0., 180.]))
    """
    lat, lon = lat_lon_names(field)
    rows, north = _southwards(field[lat].values)
    columns, east = _eastwards(field[lon].values)
    steps = [_step(step, degrees) for degrees in (north, east)]
    if step is None:
        log.info("%s: every %d. row and every %d. column is taken", _name(field), *steps)
    rows, columns = rows[:: steps[0]], columns[:: steps[1]]
    coarse = _taken(_taken(field, lat, rows), lon, columns).transpose(..., lat, lon)
    places = {lat: north[:: steps[0]], lon: east[:: steps[1]]}
    coarse = coarse.assign_coords({n: (n, v, field[n].attrs) for n, v in places.items()})
    return coarse.rename({old: new for old, new in ((lat, "lat"), (lon, "lon")) if old != new})


def correlation_of_field(anomalies: xr.DataArray) -> tuple[NDArray[np.float64], Grid]:
    """Return the correlation over time between the cells of a field.

    Parameters
    ----------
    anomalies : xarray.DataArray
        With time, latitude and longitude, as of `anomalies`. Cells that are constant or lack a value at some
        time are left out, and their numbers logged.

    Returns
    -------
    correlation : numpy.ndarray
        (n, n) float64 with unit diagonal; singular if there are fewer times than cells.
    grid : Grid
        The n cells.

    Raises
    ------
    DataError
        If dimensions are missing, or fewer than two times or cells are left.
    """
    ordered = _ordered(anomalies)
    values = np.array(ordered.values, dtype=np.float64)
    if len(values) < 2:
        raise DataError(f"{_name(anomalies)}: {len(values)} time, a correlation needs two; give more")
    flat = values.reshape(len(values), -1)
    left_out = _leave_out_gaps(flat)
    magnitude = np.abs(flat).max(axis=0)
    flat -= flat.mean(axis=0)
    with np.errstate(invalid="ignore"):
        kept = np.sqrt(np.mean(flat**2, axis=0)) > CONSTANT_SHARE * magnitude
    constant = int((~np.isnan(flat[0]) & ~kept).sum())
    _tell(_name(anomalies), left_out, constant)
    if kept.sum() < 2:
        raise DataError(
            f"{_name(anomalies)}: {kept.sum()} cells vary without gaps ({left_out} have gaps, {constant} are "
            "constant), a correlation needs two; give a gap-free field"
        )
    series = flat[:, kept]
    mask = kept.reshape(values.shape[1:])
    grid = Grid(mask, ordered[ordered.dims[1]].values, ordered[ordered.dims[2]].values)
    return to_correlation(series.T @ series / len(series)), grid


def calendar_months(time: xr.DataArray) -> NDArray[np.intp]:
    """Return the calendar month of each date, counted from 0: the groups whose means are the climatology.

    Parameters
    ----------
    time : xarray.DataArray
        (n,) dates.

    Returns
    -------
    numpy.ndarray
        (n,), 0 .. 11.

    Raises
    ------
    DataError
        If a date is missing, or no month occurs twice, so that nothing varies about the climatology.
    """
    if not time.size or time.isnull().any():
        raise DataError(f"{_name(time)}: dates are missing; give a date to each time")
    months = np.asarray(time.dt.month.values, dtype=np.intp) - 1
    if np.bincount(months).max() < 2:
        raise DataError(
            f"{_name(time)}: no calendar month occurs twice in {len(months)} dates; give two years or more"
        )
    return months


def _ordered(field: xr.DataArray) -> xr.DataArray:
    """Return a field as (time, lat, lon) without its dimensions of length 1."""
    if field.dtype.kind not in "fiu":
        raise DataError(f"{_name(field)}: holds {field.dtype}, no numbers; choose another variable")
    lat, lon = lat_lon_names(field)
    time = _time_name(field)
    others = [str(dim) for dim in field.dims if dim not in (time, lat, lon)]
    for dim in others:
        if field.sizes[dim] != 1:
            raise DataError(
                f"{_name(field)}: dimension '{dim}' has {field.sizes[dim]} entries besides time, latitude and "
                "longitude; select one of them first"
            )
    return field.squeeze(others, drop=True).transpose(time, lat, lon)


def _time_name(field: xr.DataArray) -> str:
    """Return the dimension of dates."""
    for dim in map(str, field.dims):
        if dim in field.coords and _is_dates(field[dim]):
            return dim
    if "time" in field.dims:
        raise DataError(
            f"{_name(field)}: dimension 'time' holds no dates; give it units such as 'days since 1950-01-01'"
        )
    dims = ", ".join(map(str, field.dims))
    raise DataError(f"{_name(field)}: dimensions ({dims}) have no time; give a field of several dates")


def _is_dates(time: xr.DataArray) -> bool:
    first = time.values[0] if time.size else None
    return time.dtype.kind == "M" or type(first).__module__.startswith("cftime")


def _days(time: xr.DataArray) -> NDArray[np.float64]:
    """Return days since the first date."""
    dates = time.values
    if not dates.size or time.isnull().any():
        raise DataError(f"{_name(time)}: dates are missing; give a date to each time")
    if time.dtype.kind == "M":
        days = (dates - dates[0]) / np.timedelta64(1, "D")
    else:
        days = np.array([(date - dates[0]).total_seconds() / 86400 for date in dates])
    if len(np.unique(days)) < len(days):
        raise DataError(f"{_name(time)}: dates stand there twice; give each date once")
    return days


def _leave_out_gaps(flat: NDArray[np.floating]) -> int:
    """Set cells that lack some values to NaN at all times, (time, cells); return their number."""
    missing = ~np.isfinite(flat)
    gaps = missing.any(axis=0)
    count = int((gaps & ~missing.all(axis=0)).sum())
    flat[:, gaps] = np.nan
    return count


def _remove(
    block: NDArray[np.floating], groups: NDArray[np.intp], days: NDArray[np.float64] | None, standardise: bool
) -> int:
    """Turn values (time, cells) into anomalies in place; return the number of constant cells set to NaN."""
    values = block.astype(np.float64)
    magnitude = np.abs(values).max(axis=0)
    for group in np.unique(groups):
        values[groups == group] -= values[groups == group].mean(axis=0)
    if days is not None:
        centred = days - days.mean()
        values -= values.mean(axis=0) + np.outer(centred, centred @ values / (centred @ centred))
    constant = 0
    if standardise:
        deviation = values.std(axis=0)
        varies = deviation > CONSTANT_SHARE * magnitude
        constant = int((~varies & ~np.isnan(deviation)).sum())
        values /= np.where(varies, deviation, np.nan)
    block[...] = values
    return constant


def _tell(name: str, left_out: int, constant: int) -> None:
    for count, reason in ((left_out, "lack values at some times"), (constant, "do not vary")):
        if count:
            log.warning("%s: %d cells %s and are left out", name, count, reason)


def _step(step: int | None, places: NDArray[np.float64]) -> int:
    if step is None:
        spacing = np.median(np.abs(np.diff(places))) if len(places) > 1 else COARSE_DEGREES
        return max(1, round(COARSE_DEGREES / spacing))
    if isinstance(step, bool) or step != int(step) or step < 1:
        raise DataError(f"step={step}: must be a whole number from 1; 1 takes every cell")
    return int(step)


def _southwards(lat: Any) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the order of rows from north to south, and their latitudes."""
    values = np.asarray(lat, dtype=np.float64)
    order = np.arange(len(values))
    if len(values) > 1 and values[0] < values[-1]:
        order = order[::-1]
    return order, values[order]


def _eastwards(lon: Any) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the order of columns from west to east, around the globe from Greenwich on, and their longitudes."""
    values = unwrap_longitude(lon)
    edges = longitude_edges(values)
    if abs(edges[-1] - edges[0]) > 360 - 1e-6:
        values = np.mod(values, 360.0)
    order = np.argsort(values)
    return order, values[order]


def _taken(field: xr.DataArray, dim: str, index: NDArray[np.intp]) -> xr.DataArray:
    """Take entries by slices, so that of an unread file nothing else is read."""
    import xarray as xr

    steps = np.diff(index)
    runs = np.split(index, np.flatnonzero(steps != steps[0]) + 1 if len(steps) else [])
    parts = [field.isel({dim: _as_slice(run)}) for run in runs]
    return parts[0] if len(parts) == 1 else xr.concat(parts, dim)


def _as_slice(run: NDArray[np.intp]) -> slice:
    stride = int(run[1] - run[0]) if len(run) > 1 else 1
    stop = int(run[-1]) + (1 if stride > 0 else -1)
    return slice(int(run[0]), stop if stop >= 0 else None, stride)


def _name(field: xr.DataArray) -> str:
    return str(field.name or "field")
