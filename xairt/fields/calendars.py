"""Dates of fields on any calendar: their dimension, spacing, numbers, calendar groups and periods."""

from __future__ import annotations

from calendar import month_name
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError, reason_of, suggest

if TYPE_CHECKING:
    import xarray as xr

Climatology = Literal["month", "day"]
"""Dates that share a climatology: those of a calendar month, or of a calendar day (month and day of the month)."""

MONTHLY_DAYS = 20.0
"""Dates whose median step is longer, in days, are monthly; all others are daily."""


def time_dimension(field: xr.DataArray) -> str:
    """Return the dimension of dates.

    Parameters
    ----------
    field : xarray.DataArray

    Returns
    -------
    str
        The first dimension whose coordinate holds dates, numpy or cftime.

    Raises
    ------
    DataError
        If there is none.
    """
    for dim in map(str, field.dims):
        if dim in field.coords and _is_dates(field[dim]):
            return dim
    name, dims = field.name or "field", ", ".join(map(str, field.dims))
    if "time" in field.dims:
        raise DataError(
            f"{name}: dimension 'time' holds no dates; give it units such as 'days since 1950-01-01'"
        )
    raise DataError(f"{name}: dimensions ({dims}) have no time; give a field of several dates")


def days_since_first(time: xr.DataArray) -> NDArray[np.float64]:
    """Return the real time in days from the first date to each.

    Parameters
    ----------
    time : xarray.DataArray
        (n,) dates, in any order.

    Returns
    -------
    numpy.ndarray
        (n,), counted on the calendar of the dates.

    Raises
    ------
    DataError
        If a date is missing or stands there twice.
    """
    dates = time.values
    if not dates.size or time.isnull().any():
        raise DataError(f"{time.name}: dates are missing; give a date to each time")
    if time.dtype.kind == "M":
        days = (dates - dates[0]) / np.timedelta64(1, "D")
    else:
        days = np.array([(date - dates[0]).total_seconds() / 86400 for date in dates])
    if len(np.unique(days)) < len(days):
        raise DataError(f"{time.name}: dates stand there twice; give each date once")
    return days


def is_monthly(time: xr.DataArray) -> bool:
    """Return whether dates are monthly: their median step is over 20 days; else they are daily.

    Parameters
    ----------
    time : xarray.DataArray
        (n,) dates, two or more, in any order.

    Raises
    ------
    DataError
        If there are fewer, or a date is missing or stands there twice.

    Examples
    --------
    >>> import xarray as xr
    >>> [is_monthly(xr.date_range("2001-01-01", periods=4, freq=f).to_series().to_xarray()) for f in ("MS", "D")]
    [True, False]
    """
    steps = np.diff(np.sort(days_since_first(time)))
    if not steps.size:
        raise DataError(f"{time.name}: 1 date does not tell months from days; give two or more")
    return bool(np.median(steps) > MONTHLY_DAYS)


def month_numbers(time: xr.DataArray) -> NDArray[np.int64]:
    """Return the number of each date's month, (n,): 12 times the year plus the month, whatever the day."""
    return time.dt.year.values.astype(np.int64) * 12 + time.dt.month.values


def day_numbers(time: xr.DataArray) -> NDArray[np.int64]:
    """Return the number of each date's day on its calendar, (n,): a day later is one more, whatever the hour."""
    if time.dtype.kind == "M":
        return time.values.astype("datetime64[D]").astype(np.int64)
    return np.array([date.toordinal() for date in time.values], dtype=np.int64)


def calendar_groups(time: xr.DataArray, climatology: Climatology | None = None) -> NDArray[np.int64]:
    """Return which climatology each date belongs to.

    Parameters
    ----------
    time : xarray.DataArray
        (n,) dates.
    climatology : "month", "day" or None
        Groups. None: "month" where dates are monthly (see `is_monthly`), else "day".

    Returns
    -------
    numpy.ndarray
        (n,) 100 times the month, 1 .. 12, plus the day of the month, which is 0 for "month"; `group_name`
        spells it out.

    Raises
    ------
    DataError
        If the groups are unknown, or a date is missing.
    """
    if climatology not in (None, *get_args(Climatology)):
        raise DataError(
            f"climatology '{climatology}': unknown{suggest(climatology, get_args(Climatology))}; "
            "choose 'month', 'day' or None"
        )
    if not time.size or time.isnull().any():
        raise DataError(f"{time.name}: dates are missing; give a date to each time")
    if climatology is None:
        climatology = "month" if is_monthly(time) else "day"
    months = time.dt.month.values.astype(np.int64) * 100
    return months if climatology == "month" else months + time.dt.day.values


def group_name(group: int) -> str:
    """Return the name of a group of `calendar_groups`.

    Examples
    --------
    >>> group_name(200), group_name(229)
    ('February', '29 February')
    """
    month, day = divmod(int(group), 100)
    return f"{day} {month_name[month]}" if day else month_name[month]


def in_period(time: xr.DataArray, period: slice | tuple[Any, Any]) -> NDArray[np.bool_]:
    """Return which dates lie in a period, (n,).

    Parameters
    ----------
    time : xarray.DataArray
        (n,) dates along their own dimension, in any order.
    period : slice or (start, end)
        Dates, both included: strings such as "1990" or "1990-06-30" (which include the whole year or day), or
        dates of the same kind as those of `time`; None leaves a side open.

    Raises
    ------
    DataError
        If the period is no pair of dates, or no date lies in it.
    """
    import xarray as xr

    pair = isinstance(period, tuple | list) and len(period) == 2
    wanted = period if isinstance(period, slice) else slice(*period) if pair else None
    if wanted is None or wanted.step is not None:
        raise DataError(f"reference {period}: is no pair of dates; give (start, end)")
    dim = str(time.dims[0])
    numbers = xr.DataArray(np.arange(time.size), {dim: time.values}, (dim,)).sortby(dim)
    try:
        found = numbers.sel({dim: wanted}).values
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"reference ({wanted.start}, {wanted.stop}): no dates of this axis ({reason_of(error, 80)}); "
            "give such as ('1990', '2010')"
        ) from None
    if not found.size:
        first, last = (str(numbers[dim].values[i])[:10] for i in (0, -1))
        raise DataError(
            f"reference ({wanted.start}, {wanted.stop}): holds none of the dates {first} .. {last}; give another"
        )
    return np.isin(np.arange(time.size), found)


def _is_dates(time: xr.DataArray) -> bool:
    first = time.values[0] if time.size else None
    return time.dtype.kind == "M" or type(first).__module__.startswith("cftime")
