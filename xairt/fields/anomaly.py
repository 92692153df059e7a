"""Anomalies of gridded fields, every n-th cell of them, and the correlation between their cells."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError, suggest
from xairt.fields.calendars import (
    Climatology,
    calendar_groups,
    days_since_first,
    group_name,
    in_period,
    time_dimension,
)
from xairt.fields.correlation import to_correlation
from xairt.grid import CELL_DIM, Grid, lat_lon_names, longitude_edges, unwrap_longitude

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

Convention = Literal["classic", "per_calendar_day"]
"""What is removed: climatology and one trend, or a trend of each calendar group."""

LONGEST_YEAR = 366.0
"""Days of a record beyond which every calendar day of daily data occurs twice."""

_ROW_VALUES = 1 << 22
_CELL_DIMENSIONS = ((CELL_DIM,), ("tile", "j", "i"))
_LEAP_DAY, _BESIDE_LEAP_DAY = 229, (228, 301)

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Group:
    """Dates of one calendar group, and the reference dates of each fit whose average is removed from them."""

    rows: NDArray[np.intp]
    fitted: tuple[NDArray[np.intp], ...]


@dataclass(frozen=True, eq=False)
class _Fit:
    """What is removed; `years` or `days` are the abscissae (time,) of lines for each group, or for each cell."""

    groups: tuple[_Group, ...]
    reference: slice | NDArray[np.intp]
    years: NDArray[np.float64] | None
    days: NDArray[np.float64] | None


def anomalies(
    field: xr.DataArray,
    *,
    convention: Convention = "classic",
    climatology: Climatology | None = None,
    reference: slice | tuple[Any, Any] | None = None,
    detrend: bool = True,
    standardise: bool = True,
    missing_above: float | None = MISSING_ABOVE,
) -> xr.DataArray:
    """Remove climatology and trend of every cell, and divide by its standard deviation.

    "classic": the mean of each calendar group is subtracted, then one line for each cell, fitted by least
    squares against the real time between the dates in days. "per_calendar_day": from each calendar group its
    own line over the years is subtracted, fitted against the year of the date, so that a trend that differs
    between seasons goes too. Then the rest is divided by its standard deviation over all dates (divided by n).

    29 February has a mean, or a line, of its own where the reference holds it in two, or three, years or more.
    With fewer its anomalies would be 0 by construction: then the average of the fits of 28 February and 1 March
    is subtracted, which is logged. All other groups of "per_calendar_day" need three years.

    A cell with a value at some times only is left out as a whole, as land is, and so is one that is constant
    in the reference, whose anomalies cannot be standardised; their numbers are logged.

    Parameters
    ----------
    field : xarray.DataArray
        With a dimension of dates (numpy or cftime, any calendar, dates may be lacking), cells (latitude and
        longitude; or `cell`; or `tile`, `j`, `i`), and others of length 1. It is left as it is.
    convention : "classic" or "per_calendar_day"
        What is removed.
    climatology : "month", "day" or None
        Calendar groups: months, or days of the year as (month, day). None: months where the median step between
        dates is over 20 days, else days.
    reference : slice, (start, end) or None
        Period that means, trends and standard deviations are fitted on, both dates included, as strings
        ("1990", "1990-06-30") or dates; they are applied everywhere. Give the training years, and nothing of
        the other years is known to the anomalies. None: all dates.
    detrend, standardise : bool
        Whether to remove the trend (without it, both conventions are the same), and to divide; without the
        division constant cells stay, as zeros.
    missing_above : float or None
        Values of a larger magnitude are missing, in the units of the field.

    Returns
    -------
    xarray.DataArray
        (time, lat, lon), (time, cell) or (time, tile, j, i) in the precision of the field, computed in float64;
        NaN at all times where the cell was left out. Positive above the climatology. Dimensionless where
        standardised, else in the units of the field.

    Raises
    ------
    DataError
        If the field has no dates or cells, holds no numbers, dates are missing or stand there twice, a name is
        unknown, the reference holds no dates or too few of a calendar group, no calendar group occurs in it
        twice, or no cell is left.

    References
    ----------
    Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7, section 2.1 ("classic").
    """
    if convention not in get_args(Convention):
        known = ", ".join(get_args(Convention))
        raise DataError(
            f"convention '{convention}': unknown{suggest(convention, get_args(Convention))}; there are {known}"
        )
    ordered = in_order(field)
    per_group = convention == "per_calendar_day"
    fit = _fit_of(ordered[ordered.dims[0]], per_group, climatology, reference, detrend)
    values = np.array(ordered.values, dtype=np.result_type(ordered.dtype, np.float32))
    flat = values.reshape(len(values), -1)
    left_out = constant = 0
    width = max(1, _ROW_VALUES // len(flat))
    for start in range(0, flat.shape[1], width):
        block = flat[:, start : start + width]
        if missing_above is not None:
            block[np.abs(block) > missing_above] = np.nan
        left_out += _leave_out_gaps(block)
        constant += _remove(block, fit, standardise)
    _tell(_name(field), left_out, constant)
    if np.isnan(flat[0]).all():
        raise DataError(
            f"{_name(field)}: no cell is left ({left_out} have gaps, {constant} are constant, the others hold no "
            f"value up to missing_above={missing_above}); give a gap-free field that varies"
        )
    attributes = {"long_name": f"anomaly of {field.attrs.get('long_name', _name(field))}"}
    units = "1" if standardise else field.attrs.get("units")
    return ordered.copy(data=values).assign_attrs(attributes | ({"units": units} if units else {}))


def in_order(field: xr.DataArray) -> xr.DataArray:
    """Return a field as time and cells, without its other dimensions.

    Parameters
    ----------
    field : xarray.DataArray
        Numbers with a dimension of dates, dimensions of cells, and others of length 1, in any order.

    Returns
    -------
    xarray.DataArray
        (time, cell), (time, tile, j, i) or (time, lat, lon), under the names that the field gives them.

    Raises
    ------
    DataError
        If it holds no numbers, lacks dates or cells, or another dimension is longer.
    """
    if field.dtype.kind not in "fiu":
        raise DataError(f"{_name(field)}: holds {field.dtype}, no numbers; choose another variable")
    space = next((dims for dims in _CELL_DIMENSIONS if set(dims) <= set(field.dims)), None)
    named = ", ".join(space) if space else "latitude and longitude"
    space = space or lat_lon_names(field)
    time = time_dimension(field)
    others = [str(dim) for dim in field.dims if dim not in (time, *space)]
    for dim in others:
        if field.sizes[dim] != 1:
            raise DataError(
                f"{_name(field)}: dimension '{dim}' has {field.sizes[dim]} entries besides time and {named}; "
                "select one of them first"
            )
    return field.squeeze(others, drop=True).transpose(time, *space)


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
    lat, lon = lat_lon_names(anomalies)
    ordered = in_order(anomalies)
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
    grid = Grid(mask, ordered[lat].values, ordered[lon].values)
    return to_correlation(series.T @ series / len(series)), grid


def _fit_of(
    time: xr.DataArray,
    per_group: bool,
    climatology: Climatology | None,
    reference: slice | tuple[Any, Any] | None,
    detrend: bool,
) -> _Fit:
    """Return what is removed from fields of these dates."""
    days, codes = days_since_first(time), calendar_groups(time, climatology)
    known = np.ones(len(codes), bool) if reference is None else in_period(time, reference)
    years = time.dt.year.values.astype(np.float64) if per_group and detrend else None
    if np.unique(codes[known], return_counts=True)[1].max() < 2:
        raise DataError(f"{time.name}: {_never_twice(codes[known], days[known])}")
    groups = _groups_of(time, codes, known, years)
    rows = slice(None) if reference is None else np.flatnonzero(known)
    return _Fit(groups, rows, years, days if detrend and not per_group else None)


def _never_twice(codes: NDArray[np.int64], days: NDArray[np.float64]) -> str:
    """Return reason and remedy where no group occurs twice: too short a record, or dates such as weeks."""
    kind = "calendar month" if codes[0] % 100 == 0 else "calendar day"
    of_weeks = kind == "calendar day" and np.ptp(days) > LONGEST_YEAR
    remedy = "choose climatology='month'" if of_weeks else "give two years or more"
    return f"no {kind} occurs twice in {len(codes)} dates; {remedy}"


def _groups_of(
    time: xr.DataArray, codes: NDArray[np.int64], known: NDArray[np.bool_], years: NDArray[np.float64] | None
) -> tuple[_Group, ...]:
    """Return the groups, those that borrow the fits of others first; DataError where one cannot be fitted."""
    fitted = {int(code): np.flatnonzero(known & (codes == code)) for code in np.unique(codes)}
    short = {
        code: years_in for code, rows in fitted.items() if (years_in := _lacks_years(time, code, rows, years))
    }
    found = []
    if _LEAP_DAY in short and fitted.keys() >= set(_BESIDE_LEAP_DAY):
        log.warning(
            "%s: 29 February occurs in %s; the average of the fits of 28 February and 1 March is removed from it",
            time.name,
            short.pop(_LEAP_DAY),
        )
        beside = tuple(fitted[code] for code in _BESIDE_LEAP_DAY)
        fitted.pop(_LEAP_DAY)
        found.append(_Group(np.flatnonzero(codes == _LEAP_DAY), beside))
    for code, years_in in short.items():
        longer = ", or choose climatology='month'" if code % 100 else ""
        raise DataError(
            f"{time.name}: {group_name(code)} occurs in {years_in}; widen the reference or leave its dates out{longer}"
        )
    return (*found, *(_Group(np.flatnonzero(codes == code), (rows,)) for code, rows in fitted.items()))


def _lacks_years(
    time: xr.DataArray, code: int, rows: NDArray[np.intp], years: NDArray[np.float64] | None
) -> str:
    """Return in how few years of the reference a group occurs, as text, or nothing if there are enough."""
    wanted = 3 if years is not None else 2 if code == _LEAP_DAY else 1
    have = len(np.unique(time.dt.year.values[rows]))
    kind = "line over the years" if years is not None else "mean"
    return f"{have} years of the reference, its {kind} needs {wanted}" if have < wanted else ""


def _leave_out_gaps(flat: NDArray[np.floating]) -> int:
    """Set cells that lack some values to NaN at all times, (time, cells); return their number."""
    missing = ~np.isfinite(flat)
    gaps = missing.any(axis=0)
    count = int((gaps & ~missing.all(axis=0)).sum())
    flat[:, gaps] = np.nan
    return count


def _remove(block: NDArray[np.floating], fit: _Fit, standardise: bool) -> int:
    """Turn values (time, cells) into anomalies in place; return the number of constant cells set to NaN."""
    values = block.astype(np.float64)
    magnitude = np.abs(values).max(axis=0)
    for group in fit.groups:
        fits = [_fitted(values, rows, fit.years, group.rows) for rows in group.fitted]
        values[group.rows] -= np.mean(fits, axis=0)
    if fit.days is not None:
        known = values[fit.reference]
        origin = fit.days[fit.reference].mean()
        centred = fit.days[fit.reference] - origin
        slope = centred @ known / (centred @ centred)
        values -= known.mean(axis=0) + np.outer(fit.days - origin, slope)
    constant = 0
    if standardise:
        deviation = values[fit.reference].std(axis=0)
        varies = deviation > CONSTANT_SHARE * magnitude
        constant = int((~varies & ~np.isnan(deviation)).sum())
        values /= np.where(varies, deviation, np.nan)
    block[...] = values
    return constant


def _fitted(
    values: NDArray[np.float64],
    rows: NDArray[np.intp],
    years: NDArray[np.float64] | None,
    applied: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return mean (cells,), or line over the years (applied, cells), of some rows of values (time, cells)."""
    known = values[rows]
    mean = known.mean(axis=0)
    if years is None:
        return mean
    origin = years[rows].mean()
    centred = years[rows] - origin
    return mean + np.outer(years[applied] - origin, centred @ known / (centred @ centred))


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
