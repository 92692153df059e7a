"""Running means over time, and pairs of inputs with a target some months or days later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError
from xairt.fields.calendars import (
    day_numbers,
    days_since_first,
    is_monthly,
    month_numbers,
    time_dimension,
)
from xairt.fields.checks import whole_number

if TYPE_CHECKING:
    import xarray as xr

LONGEST_STEP = 1.5
"""A step between dates that is longer than this many median steps is a gap; months differ in length by less."""

_BLOCK_VALUES = 1 << 22


def running_mean(field: xr.DataArray, window: int) -> xr.DataArray:
    """Return centred means over a number of successive dates.

    A date whose window is not complete is dropped: near both ends, and where dates are lacking, that is where a
    step in the window is longer than 1.5 times the median step. No mean is over fewer dates than the others, or
    over a longer time. Where 29 February has been cut out of daily data it is such a gap: convert the calendar
    to "noleap" (`xarray.DataArray.convert_calendar`) instead.

    Parameters
    ----------
    field : xarray.DataArray
        With a dimension of dates in ascending order, any calendar, and any others. It is left as it is.
    window : int
        Number of dates, odd: 61 for 61 days of daily data, 3 for a season of monthly data.

    Returns
    -------
    xarray.DataArray
        (time, ...) with the dates that have a complete window; precision (float32 at least) and units of the
        field, computed in float64. NaN, or infinity, anywhere in a window makes the mean NaN.

    Raises
    ------
    DataError
        If the window is no odd positive number, the field has no dates, they do not ascend, or none has a
        complete window.

    Examples
    --------
    >>> import xarray as xr
    >>> time = xr.date_range("2001-01-01", periods=5, freq="MS")
    >>> field = xr.DataArray([1.0, 2.0, 6.0, 4.0, 5.0], {"time": time}, ("time",), "sst")
    >>> running_mean(field, 3).values
    array([3., 4., 5.])
    """
    window = whole_number(window, "window", "an odd number of dates")
    if window < 1 or window % 2 == 0:
        raise DataError(f"window={window}: has no date in its middle; give 1, 3, 5, ...")
    name, half = field.name or "field", window // 2
    dim = time_dimension(field)
    kept = _complete(days_since_first(field[dim]), half, f"{name}: {dim}")
    if not kept.size:
        raise DataError(
            f"{name}: none of {field.sizes[dim]} dates has a window of {window} dates without gaps; "
            "give a shorter window"
        )
    ordered = field.transpose(dim, ...)
    flat = ordered.values.reshape(ordered.sizes[dim], -1)
    means = np.empty((len(kept), flat.shape[1]), np.result_type(flat.dtype, np.float32))
    width = max(1, _BLOCK_VALUES // len(flat))
    for start in range(0, flat.shape[1], width):
        means[:, start : start + width] = _means(flat[:, start : start + width], kept, half)
    return ordered.isel({dim: kept}).copy(data=means.reshape(len(kept), *ordered.shape[1:]))


def lagged(x: xr.DataArray, y: xr.DataArray, lag: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Pair each x with the y some time later, by date.

    Dates are monthly where their median step is over 20 days: then the lag counts months, and the day of the
    month does not matter. Else it counts days on the calendar of the dates, and the hour does not matter. A
    date without its partner, as at the ends or in gaps, is left out.

    Parameters
    ----------
    x : xarray.DataArray
        Inputs, with a dimension of dates and any others. It is left as it is.
    y : xarray.DataArray
        (time,) target, without NaN, as of `target_series`; dates on the same calendar, monthly or daily as those of x.
    lag : int
        Months or days. Positive is prediction: x(t) is paired with y(t + lag).

    Returns
    -------
    x : xarray.DataArray
        (sample, ...) with coordinates `time`, the date of x, and `target_time`, the date of y, both along
        sample, in the order of x.
    y : xarray.DataArray
        (sample,) with the same coordinates, and attributes `lag` and `lag_units` ("months" or "days").

    Raises
    ------
    DataError
        If the lag is no whole number, dates are missing, two lie in the same month or day, calendars or
        spacings differ, y has other dimensions or NaN, or no pair is left.

    Examples
    --------
    >>> import xarray as xr
    >>> time = xr.date_range("2001-01-01", periods=4, freq="MS")
    >>> field = xr.DataArray([0.0, 1.0, 2.0, 3.0], {"time": time}, ("time",), "sst")
    >>> x, y = lagged(field, field, 2)
    >>> x.values, y.values
    (array([0., 1.]), array([2., 3.]))
    >>> str(x.time.values[0])[:10], str(x.target_time.values[0])[:10]
    ('2001-01-01', '2001-03-01')
    """
    lag = whole_number(lag, "lag", "a number of months or days")
    dim, target_dim = time_dimension(x), time_dimension(y)
    if y.ndim != 1 or y.isnull().any():
        raise DataError(
            f"{y.name or 'y'}: a target is one series without NaN, not {dict(y.sizes)} with "
            f"{int(y.isnull().sum())} NaN; choose a place or box, and drop NaN"
        )
    monthly = _both_monthly(x[dim], y[target_dim])
    rows, target_rows = _partners(x[dim], y[target_dim], lag, monthly)
    dates = {
        "time": ("sample", x[dim].values[rows], x[dim].attrs),
        "target_time": ("sample", y[target_dim].values[target_rows], y[target_dim].attrs),
    }
    attributes = {"lag": lag, "lag_units": "months" if monthly else "days"}
    y_samples = _samples(y, target_dim, target_rows).assign_coords(dates).assign_attrs(attributes)
    return _samples(x, dim, rows).assign_coords(dates), y_samples


def _complete(days: NDArray[np.float64], half: int, name: str) -> NDArray[np.intp]:
    """Return which dates have as many dates without a gap before and after them."""
    steps = np.diff(days)
    if (steps < 0).any():
        raise DataError(f"{name}: dates do not ascend; sort them first")
    gaps = steps > LONGEST_STEP * np.median(steps) if steps.size else np.zeros(0, bool)
    before = np.concatenate([[0], np.cumsum(gaps)])
    middle = np.arange(half, len(days) - half)
    return middle[before[middle + half] == before[middle - half]]


def _means(block: NDArray, kept: NDArray[np.intp], half: int) -> NDArray[np.float64]:
    """Return the means around the kept dates of values (time, cells), NaN where one is missing."""
    values = block.astype(np.float64)
    missing = ~np.isfinite(values)
    values[missing] = 0.0
    offset = values.mean(axis=0)  # sums of small numbers lose fewer digits
    means = _sums(values - offset, kept, half) / (2 * half + 1) + offset
    if missing.any():
        means[_sums(missing, kept, half) > 0] = np.nan
    return means


def _sums(values: NDArray, kept: NDArray[np.intp], half: int) -> NDArray:
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return total[kept + half + 1] - total[kept - half]


def _both_monthly(time: xr.DataArray, target_time: xr.DataArray) -> bool:
    """Return whether both have monthly dates; DataError if they cannot be compared."""
    calendars = [dates.dt.calendar for dates in (time, target_time)]
    if calendars[0] != calendars[1] or time.dtype.kind != target_time.dtype.kind:
        raise DataError(
            f"dates: x is on the calendar {calendars[0]} ({time.dtype}), y on {calendars[1]} "
            f"({target_time.dtype}); use convert_calendar on one of them"
        )
    monthly = [is_monthly(dates) for dates in (time, target_time)]
    if monthly[0] != monthly[1]:
        words = ["monthly" if each else "daily" for each in monthly]
        raise DataError(f"dates: x is {words[0]}, y {words[1]}; average the daily one over months first")
    return monthly[0]


def _partners(
    time: xr.DataArray, target_time: xr.DataArray, lag: int, monthly: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of x and of y that make pairs, in the order of x."""
    number, unit = (month_numbers, "month") if monthly else (day_numbers, "day")
    sought, there = number(time) + lag, number(target_time)
    for name, numbers in (("x", sought), ("y", there)):
        if len(np.unique(numbers)) < len(numbers):
            raise DataError(
                f"{name}: two dates lie in the same {unit}; take one, or their mean, of each {unit}"
            )
    order = np.argsort(there)
    place = np.searchsorted(there, sought, sorter=order).clip(max=len(there) - 1)
    found = there[order[place]] == sought
    if not found.any():
        raise DataError(
            f"lag={lag}: no x has a y {lag} {unit}s later among {len(sought)} and {len(there)} dates; "
            "give a shorter lag or a longer record"
        )
    return np.flatnonzero(found), order[place[found]]


def _samples(field: xr.DataArray, dim: str, rows: NDArray[np.intp]) -> xr.DataArray:
    """Return rows as samples, without a copy where they follow each other."""
    successive = (np.diff(rows) == 1).all()
    taken = field.isel({dim: slice(int(rows[0]), int(rows[-1]) + 1) if successive else rows})
    return taken.drop_vars(dim).rename({dim: "sample"}).transpose("sample", ...)
