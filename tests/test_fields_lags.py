"""Running means and lagged pairs, on all calendars and over gaps, against loops over dates."""

from __future__ import annotations

import contextlib
import datetime
import io
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xairt import fields
from xairt.errors import DataError


def axis(freq: str, n: int, calendar: str = "standard", start: str = "1959-11-20", use_cftime=None):
    use_cftime = calendar != "standard" if use_cftime is None else use_cftime
    return xr.date_range(start, periods=n, freq=freq, calendar=calendar, use_cftime=use_cftime).values


def field_of(time: np.ndarray, *shape: int, dtype=np.float64) -> xr.DataArray:
    values = np.random.default_rng(0).standard_normal((len(time), *shape)).astype(dtype)
    dims = ("time", "cell", "level")[: 1 + len(shape)]
    return xr.DataArray(values, {"time": time}, dims, "sst", {"units": "degC"})


# ------------------------------------------------------------------------------------------ running means


def naive_means(field: xr.DataArray, window: int, longest: float) -> tuple[list, np.ndarray]:
    """Dates and means of the windows in which no two successive dates are further apart, in days."""
    half, kept, means = window // 2, [], []
    dates = as_objects(field.time.values)
    days = [(date - dates[0]).days for date in dates]
    for middle in range(half, len(field) - half):
        rows = range(middle - half, middle + half + 1)
        if all(days[i + 1] - days[i] <= longest for i in rows[:-1]):
            kept.append(field.time.values[middle])
            means.append(sum(field.values[i].astype(float) for i in rows) / window)
    return kept, np.array(means)


def as_objects(dates) -> list:
    """Return the days as objects with year, month and difference."""
    if isinstance(dates[0], np.datetime64):
        return [datetime.datetime(*map(int, str(date)[:10].split("-"))) for date in dates]
    return list(dates)


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize(
    ("freq", "calendar", "longest"),
    [
        ("D", "standard", 1),
        ("D", "noleap", 1),
        ("D", "360_day", 1),
        ("MS", "standard", 31),
        ("MS", "julian", 31),
    ],
)
def test_running_means_are_those_of_a_loop(freq, calendar, longest, window):
    time = np.delete(axis(freq, 140, calendar), [20, 21, 60, 97, 98, 99])
    field = field_of(time, 2, 3)
    found = fields.running_mean(field, window)
    kept, means = naive_means(field, window, longest)
    assert 0 < len(kept) <= len(time)
    np.testing.assert_array_equal(found.time, kept)
    np.testing.assert_allclose(found, means, atol=1e-12)
    assert found.attrs == field.attrs
    assert found.dims == field.dims


def test_a_window_keeps_no_date_at_ends_or_across_a_gap():
    time = np.delete(axis("D", 30), 15)
    found = fields.running_mean(field_of(time), 5)
    assert [int(np.flatnonzero(time == t)[0]) for t in found.time.values] == [*range(2, 13), *range(17, 27)]


def test_nan_in_a_window_stays_nan_and_reaches_no_further():
    field = field_of(axis("MS", 12), 3, dtype=np.float32)
    field[:, 0] = np.nan
    field[5, 1] = np.inf
    found = fields.running_mean(field, 3)
    assert found.dtype == np.float32
    assert np.isnan(found[:, 0]).all()
    assert np.flatnonzero(np.isnan(found[:, 1])).tolist() == [3, 4, 5]
    assert np.isfinite(found[:, 2]).all()


def test_running_means_keep_constants_and_leave_the_field():
    field = field_of(axis("D", 400), 2, dtype=np.float32) * 0 + np.float32(293.15)
    before = field.copy(deep=True)
    np.testing.assert_array_equal(fields.running_mean(field, 61), field[30:-30])
    xr.testing.assert_identical(field, before)
    whole = field_of(axis("D", 400), 2)
    np.testing.assert_allclose(
        fields.running_mean(whole + 1e4, 61) - 1e4, fields.running_mean(whole, 61), atol=1e-11
    )
    np.testing.assert_array_equal(fields.running_mean(whole.T, 5), fields.running_mean(whole, 5))


@pytest.mark.parametrize(
    ("change", "window", "reason"),
    [
        (lambda f: f, 4, "window=4: has no date in its middle; give 1, 3, 5"),
        (lambda f: f, 0, "window=0: has no date in its middle"),
        (lambda f: f, -3, "window=-3: has no date in its middle"),
        (lambda f: f, 3.0, r"window=3.0: is no whole number; give an odd number"),
        (lambda f: f, 31, "sst: none of 30 dates has a window of 31 dates without gaps"),
        (lambda f: f[::-1], 3, "sst: time: dates do not ascend; sort them first"),
        (lambda f: f.isel(time=0), 3, "have no time"),
        (lambda f: f.assign_coords(time=np.arange(30)), 3, "dimension 'time' holds no dates"),
    ],
)
def test_windows_that_cannot_be_are_refused(change, window, reason):
    with pytest.raises(DataError, match=reason):
        fields.running_mean(change(field_of(axis("D", 30), 2)), window)


# ------------------------------------------------------------------------------------------- lagged pairs


def naive_pairs(x_dates, y_dates, lag: int, monthly: bool) -> list[tuple[int, int]]:
    """Rows of x and y whose dates are the lag apart, by trying all."""
    found = []
    for i, x in enumerate(as_objects(x_dates)):
        for j, y in enumerate(as_objects(y_dates)):
            months = 12 * (y.year - x.year) + y.month - x.month
            if (months if monthly else (y - x).days) == lag:
                found.append((i, j))
    return found


@pytest.mark.parametrize("lag", [-2, 0, 1, 30])
@pytest.mark.parametrize(
    ("freq", "calendar"),
    [
        ("D", "standard"),
        ("D", "noleap"),
        ("D", "360_day"),
        ("MS", "standard"),
        ("MS", "noleap"),
        ("D", "julian"),
    ],
)
def test_pairs_are_those_of_a_loop_over_all_dates(freq, calendar, lag):
    """Over a leap day, with gaps of both, and y of other years."""
    rng = np.random.default_rng(abs(lag))
    dates = axis(freq, 130, calendar)
    x_dates = dates[rng.random(130) > 0.1]
    y_dates = dates[20:][rng.random(110) > 0.1]
    x, y = field_of(x_dates, 4), field_of(y_dates)
    x_samples, y_samples = fields.lagged(x, y, lag)
    pairs = naive_pairs(x_dates, y_dates, lag, freq == "MS")
    assert len(pairs) > 50
    rows, partners = map(list, zip(*pairs, strict=True))
    np.testing.assert_array_equal(x_samples, x[rows])
    np.testing.assert_array_equal(y_samples, y[partners])
    for samples in (x_samples, y_samples):
        assert samples.dims[0] == "sample"
        np.testing.assert_array_equal(samples.time, x_dates[rows])
        np.testing.assert_array_equal(samples.target_time, y_dates[partners])
        assert not samples.indexes
    assert y_samples.attrs == {"units": "degC", "lag": lag, "lag_units": "months" if freq == "MS" else "days"}
    assert x_samples.attrs == x.attrs


def test_a_positive_lag_is_a_prediction():
    field = field_of(axis("D", 40))
    x, y = fields.lagged(field, field, 10)
    assert (x.target_time - x.time == np.timedelta64(10, "D")).all()
    np.testing.assert_array_equal(y, field[10:])
    np.testing.assert_array_equal(x, field[:-10])
    assert np.shares_memory(x.values, field.values)


def test_the_day_of_the_month_and_the_hour_do_not_matter():
    first, middle = axis("MS", 24, start="1959-01-01"), axis("MS", 24, start="1959-01-01")
    middle = middle + np.where(np.arange(24) % 2, 14, 15).astype("timedelta64[D]")
    x, y = fields.lagged(field_of(first), field_of(middle), 3)
    assert len(x) == 21
    assert (y.target_time.values == middle[3:]).all()
    noon = axis("D", 30, start="1959-12-20 12:00")
    x, y = fields.lagged(field_of(noon), field_of(noon - np.timedelta64(12, "h")), 5)
    assert len(x) == 25
    np.testing.assert_array_equal(x.target_time - x.time, np.timedelta64(108, "h"))


@pytest.mark.parametrize(
    ("calendar", "partner"), [("standard", "03-01"), ("noleap", "03-02"), ("360_day", "02-30")]
)
def test_lags_of_days_count_leap_days_of_the_calendar(calendar, partner):
    field = field_of(axis("D", 20, calendar, start="2004-02-20", use_cftime=True))
    x, _ = fields.lagged(field, field, 2)
    row = [date.strftime("%m-%d") for date in x.time.values].index("02-28")
    assert x.target_time.values[row].strftime("%m-%d") == partner


def test_the_order_and_the_other_coordinates_of_x_are_kept():
    field = field_of(axis("MS", 24), 3).assign_coords(lat=("cell", [1.0, 2, 3]))
    field = field.assign_coords(season=("time", field.time.dt.quarter.values))
    shuffled = field[np.random.default_rng(0).permutation(24)].T
    x, y = fields.lagged(shuffled, field[np.random.default_rng(1).permutation(24), 0], 2)
    assert len(x) == 22
    assert x.dims == ("sample", "cell")
    assert {"lat", "season", "time", "target_time"} <= set(x.coords)
    first, later = (12 * dates.dt.year + dates.dt.month for dates in (x.time, x.target_time))
    np.testing.assert_array_equal(later - first, 2)
    for i in range(len(x)):
        np.testing.assert_array_equal(x[i], field.sel(time=x.time[i].values))
        assert float(y[i]) == float(field[:, 0].sel(time=y.target_time[i].values))


@pytest.mark.parametrize(
    ("change", "lag", "reason"),
    [
        (lambda x, y: (x, y), 40, "lag=40: no x has a y 40 days later among 40 and 40 dates"),
        (lambda x, y: (x, y), 1.0, "lag=1.0: is no whole number"),
        (
            lambda x, y: (x, x),
            1,
            "a target is one series without NaN, not .* with 0 NaN; choose a place or box",
        ),
        (lambda x, y: (x, y.where(y.time != y.time[3])), 1, "with 1 NaN"),
        (lambda x, y: (x[::30], y), 1, "x is monthly, y daily; average the daily one over months"),
        (
            lambda x, y: (x, y.convert_calendar("noleap")),
            1,
            r"x is on the calendar proleptic_gregorian .* y on noleap",
        ),
        (lambda x, y: (x[:1], y), 1, "1 date does not tell months from days"),
        (lambda x, y: (x.isel(time=0), y), 1, "have no time"),
        (
            lambda x, y: (
                x,
                y.assign_coords(time=y.time.values[0] + np.arange(40) * np.timedelta64(12, "h")),
            ),
            1,
            "y: two dates lie in the same day; take one",
        ),
    ],
)
def test_pairs_that_cannot_be_are_refused(change, lag, reason):
    field = field_of(axis("D", 40), 2)
    with pytest.raises(DataError, match=reason) as caught:
        fields.lagged(*change(field, field[:, 0]), lag)
    assert "\n" not in str(caught.value)


def test_the_example_of_the_documentation_prints_what_it_shows():
    page = (Path(__file__).parents[1] / "docs" / "fields.md").read_text(encoding="utf-8")
    code, shown = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == shown
