"""Anomalies of both conventions, on all calendars, against loops over cells, dates and calendar groups."""

from __future__ import annotations

import datetime
import logging
import tracemalloc

import numpy as np
import pytest
import xarray as xr

from xairt import fields
from xairt.errors import DataError
from xairt.fields.calendars import in_period

CONVENTIONS = ("classic", "per_calendar_day")
YEARS = 16
AXES = {
    "gregorian days": ("D", "standard", False),
    "cftime days": ("D", "standard", True),
    "noleap days": ("D", "noleap", True),
    "360-day days": ("D", "360_day", True),
    "gregorian months": ("MS", "standard", False),
    "julian months": ("MS", "julian", True),
}


def dates(axis: str, gaps: float = 0.0, first: int = 1992, years: int = YEARS) -> np.ndarray:
    """Months, or the days around the end of February, 5 % of them lacking where asked for."""
    freq, calendar, use_cftime = AXES[axis]
    found = xr.date_range(
        f"{first}-01-01", f"{first + years - 1}-12-28", freq=freq, calendar=calendar, use_cftime=use_cftime
    )
    if freq == "D":
        found = found[(found.month == 2) & (found.day > 24) | (found.month == 3) & (found.day < 6)]
    return found[np.random.default_rng(5).random(len(found)) >= gaps].values


def field_of(time: np.ndarray, n_cells: int = 3, seed: int = 0) -> xr.DataArray:
    """Noise with a climatology and a trend of the season."""
    day = xr.DataArray(time, dims="time").dt.dayofyear.values
    year = xr.DataArray(time, dims="time").dt.year.values
    signal = 10 + np.sin(0.1 * day) + 0.05 * (year - 1992) * np.cos(2 * np.pi * day / 365)
    values = signal[:, None] + np.random.default_rng(seed).standard_normal((len(time), n_cells))
    return xr.DataArray(values, {"time": time}, ("time", "cell"), "sst", {"units": "degC"})


def year_month_day(date) -> tuple[int, int, int]:
    if isinstance(date, np.datetime64):
        return tuple(map(int, str(date)[:10].split("-")))
    return date.year, date.month, date.day


def naive(field: xr.DataArray, convention: str, by_day: bool, known, detrend: bool = True) -> np.ndarray:
    """Every cell and calendar group in turn, by polyfit on the dates that are known."""
    time = list(field.time.values)
    stamps = [year_month_day(date) for date in time]
    one_day = np.timedelta64(1, "D") if isinstance(time[0], np.datetime64) else datetime.timedelta(1)
    days = np.array([(date - time[0]) / one_day for date in time])
    degree = 1 if convention == "per_calendar_day" and detrend else 0

    def rows(key, among):
        return [i for i in range(len(time)) if among[i] and stamps[i][1 : 2 + by_day] == key]

    def removed(values, key, year):
        fitted = rows(key, known)
        return np.polyval(
            np.polyfit([stamps[i][0] - 2000 for i in fitted], values[fitted], degree), year - 2000
        )

    found = np.empty(field.shape)
    for cell in range(field.shape[1]):
        values = field.values[:, cell]
        for key in {stamp[1 : 2 + by_day] for stamp in stamps}:
            borrows = key == (2, 29) and len({stamps[i][0] for i in rows(key, known)}) < 2 + degree
            for i in rows(key, np.ones(len(time), bool)):
                from_keys = [(2, 28), (3, 1)] if borrows else [key]
                found[i, cell] = values[i] - np.mean([removed(values, k, stamps[i][0]) for k in from_keys])
        if detrend and convention == "classic":
            found[:, cell] -= np.polyval(np.polyfit(days[known], found[known, cell], 1), days)
    return found


def all_of(field: xr.DataArray) -> np.ndarray:
    return np.ones(len(field), bool)


# ------------------------------------------------------------------------------------------ re-derivation


@pytest.mark.parametrize("gaps", [0.0, 0.1])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("axis", AXES)
def test_anomalies_are_those_of_a_loop_over_cells_and_groups(axis, convention, gaps):
    field = field_of(dates(axis, gaps))
    found = fields.anomalies(field, convention=convention, standardise=False)
    wanted = naive(field, convention, "days" in axis, all_of(field))
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    np.testing.assert_allclose(
        fields.anomalies(field, convention=convention), wanted / wanted.std(axis=0), atol=1e-9
    )


@pytest.mark.parametrize("period", [("1993", "2001-12-30"), ("1995-03-02", None), slice("1992", "2004")])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("axis", AXES)
def test_a_reference_is_all_that_is_fitted_on(axis, convention, period):
    """The first period holds two leap years: enough for a mean of 29 February, not for a line."""
    field = field_of(dates(axis, gaps=0.05))
    ends = (period.start, period.stop) if isinstance(period, slice) else period
    texts = ["{:04d}-{:02d}-{:02d}".format(*year_month_day(date)) for date in field.time.values]
    known = np.array([ends[0] <= t and (ends[1] is None or t[: len(ends[1])] <= ends[1]) for t in texts])
    assert 0 < known.sum() < len(known)
    np.testing.assert_array_equal(in_period(field.time, period), known)
    found = fields.anomalies(field, convention=convention, reference=period, standardise=False)
    wanted = naive(field, convention, "days" in axis, known)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    np.testing.assert_allclose(
        fields.anomalies(field, convention=convention, reference=period),
        wanted / wanted[known].std(axis=0),
        atol=1e-9,
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_nothing_outside_of_the_reference_leaks_into_it(convention):
    field = field_of(dates("gregorian days"))
    known = in_period(field.time, ("1992", "2003"))
    other = field.copy(data=np.where(known[:, None], field.values, 7 - 3 * field.values))
    found, again = (
        fields.anomalies(f, convention=convention, reference=("1992", "2003")) for f in (field, other)
    )
    np.testing.assert_array_equal(found.values[known], again.values[known])
    assert (np.abs(found.values - again.values)[~known] > 1e-6).all()
    everything = fields.anomalies(other, convention=convention)
    assert np.abs(everything.values - again.values)[known].max() > 0.1


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("axis", AXES)
def test_without_a_trend_both_conventions_remove_the_climatology(axis, convention):
    field = field_of(dates(axis, gaps=0.05))
    found = fields.anomalies(field, convention=convention, detrend=False, standardise=False)
    np.testing.assert_allclose(
        found, naive(field, convention, "days" in axis, all_of(field), False), atol=1e-9
    )


def test_whole_years_of_days_with_every_group():
    time = xr.date_range("1999-07-01", "2004-06-30", freq="D").values
    field = field_of(time, n_cells=1)
    found = fields.anomalies(field, convention="per_calendar_day", standardise=False)
    np.testing.assert_allclose(found, naive(field, "per_calendar_day", True, all_of(field)), atol=1e-9)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_days_can_have_the_climatology_of_their_month(convention):
    field = field_of(dates("gregorian days", gaps=0.05))
    found = fields.anomalies(field, convention=convention, climatology="month", standardise=False)
    np.testing.assert_allclose(found, naive(field, convention, False, all_of(field)), atol=1e-9)


def test_groups_follow_from_the_median_step():
    days, months = (field_of(dates(axis)) for axis in ("gregorian days", "gregorian months"))
    xr.testing.assert_identical(fields.anomalies(days), fields.anomalies(days, climatology="day"))
    xr.testing.assert_identical(fields.anomalies(months), fields.anomalies(months, climatology="month"))
    assert not fields.anomalies(days).equals(fields.anomalies(days, climatology="month"))
    shuffled = days[np.random.default_rng(0).permutation(len(days))]
    np.testing.assert_allclose(fields.anomalies(shuffled).sortby("time"), fields.anomalies(days), atol=1e-12)


# --------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("axis", AXES)
def test_climatology_and_trend_alone_leave_nothing(axis):
    time = dates(axis, gaps=0.05)
    stamp = xr.DataArray(time, dims="time").dt
    group = stamp.month.values * 10.0 + (np.sin(stamp.day.values) if "days" in axis else 0)
    seasonal = group + (stamp.year.values - 2000) * np.cos(group)
    field = xr.DataArray(seasonal[:, None], {"time": time}, ("time", "cell"))
    found = fields.anomalies(field, convention="per_calendar_day", standardise=False)
    np.testing.assert_allclose(found, 0, atol=1e-9)


@pytest.mark.parametrize("axis", AXES)
def test_group_means_and_lines_of_the_reference_are_zero_and_idempotent(axis):
    field = field_of(dates(axis, gaps=0.05))
    chosen = {"convention": "per_calendar_day", "reference": ("1992", "2004"), "standardise": False}
    found = fields.anomalies(field, **chosen)
    known = found[in_period(field.time, chosen["reference"])]
    stamp = known.time.dt
    for group in np.unique(stamp.month * 100 + stamp.day):
        rows = known[(stamp.month * 100 + stamp.day).values == group]
        if group == 229 and len(rows) < 3:
            continue
        np.testing.assert_allclose(rows.mean("time"), 0, atol=1e-10)
        np.testing.assert_allclose((rows.time.dt.year - 1998) @ rows, 0, atol=1e-8)
    np.testing.assert_allclose(fields.anomalies(found, **chosen), found, atol=1e-10)
    plain = {"detrend": False, "standardise": False}
    once = fields.anomalies(field, **plain)
    np.testing.assert_allclose(fields.anomalies(once, **plain), once, atol=1e-10)


def test_the_line_of_classic_has_neither_mean_nor_slope_in_the_reference():
    field = field_of(dates("gregorian months"))
    found = fields.anomalies(field, reference=("1995", "2003"))
    known = found.sel(time=slice("1995", "2003"))
    days = (known.time.values - known.time.values[0]) / np.timedelta64(1, "D")
    np.testing.assert_allclose(known.mean("time"), 0, atol=1e-12)
    np.testing.assert_allclose(known.std("time"), 1, rtol=1e-12)
    np.testing.assert_allclose((days - days.mean()) @ known.values, 0, atol=1e-8)


def test_only_per_calendar_day_removes_a_trend_of_the_season():
    """Warming winters and cooling summers: no trend over all."""
    time = dates("gregorian months")
    stamp = xr.DataArray(time, dims="time").dt
    trend = (stamp.year.values - 2000) * np.cos(2 * np.pi * (stamp.month.values - 1) / 12)
    field = xr.DataArray(trend[:, None], {"time": time}, ("time", "cell"))
    classic, own = (fields.anomalies(field, convention=c, standardise=False) for c in CONVENTIONS)
    np.testing.assert_allclose(own, 0, atol=1e-9)
    january = classic[classic.time.dt.month == 1].values[:, 0]
    np.testing.assert_allclose(np.diff(january), 1, atol=0.05)


# -------------------------------------------------------------------------------------------- 29 February


@pytest.mark.parametrize(("convention", "years"), [("classic", 4), ("per_calendar_day", 8)])
def test_29_february_of_few_leap_years_takes_the_fits_beside_it(convention, years, caplog):
    field = field_of(dates("gregorian days", first=1997, years=years))
    with caplog.at_level(logging.WARNING, "xairt"):
        found = fields.anomalies(field, convention=convention, standardise=False)
    assert "time: 29 February occurs in" in caplog.text
    assert "the average of the fits of 28 February and 1 March is removed from it" in caplog.text
    leap = (found.time.dt.month == 2) & (found.time.dt.day == 29)
    assert leap.sum() == years // 4
    assert (np.abs(found[leap.values]) > 1e-3).all()
    np.testing.assert_allclose(found, naive(field, convention, True, all_of(field)), atol=1e-9)


def test_29_february_has_its_own_line_of_three_leap_years(caplog):
    field = field_of(dates("gregorian days", first=1996, years=9))
    with caplog.at_level(logging.WARNING, "xairt"):
        found = fields.anomalies(field, convention="per_calendar_day", standardise=False)
    assert "29 February" not in caplog.text
    leap = found[((found.time.dt.month == 2) & (found.time.dt.day == 29)).values]
    np.testing.assert_allclose(leap.sum("time"), 0, atol=1e-9)


# --------------------------------------------------------------------------------------- shapes and errors


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_cells_of_every_layout_have_the_same_anomalies(convention):
    flat = field_of(dates("gregorian months"), n_cells=12)
    flat[3, 5] = np.nan
    flat[:, 7] = np.nan
    wanted = fields.anomalies(flat, convention=convention)
    assert wanted.dims == ("time", "cell")
    assert np.isnan(wanted.values).all(axis=0).nonzero()[0].tolist() == [5, 7]
    places = {"lat": ("cell", np.linspace(-60, 60, 12)), "lon": ("cell", np.arange(12.0))}
    labelled = fields.anomalies(flat.assign_coords(places).T.expand_dims("lev"), convention=convention)
    np.testing.assert_array_equal(labelled, wanted)
    np.testing.assert_array_equal(labelled.lat, places["lat"][1])
    time = {"time": flat.time}
    maps = xr.DataArray(
        flat.values.reshape(-1, 3, 4),
        time | {"lat": [1.0, 2, 3], "lon": [1.0, 2, 3, 4]},
        ("time", "lat", "lon"),
    )
    tiles = xr.DataArray(flat.values.reshape(-1, 3, 2, 2), time, ("time", "tile", "j", "i"))
    for field in (maps, tiles, tiles.transpose("i", "tile", "time", "j")):
        found = fields.anomalies(field, convention=convention)
        assert found.dims in (maps.dims, tiles.dims)
        np.testing.assert_array_equal(found.values.reshape(wanted.shape), wanted)


def test_a_field_needs_no_more_memory_than_its_result_and_a_block():
    time = xr.date_range("1990-01-01", periods=4000, freq="D").values
    field = xr.DataArray(np.zeros((4000, 5000), np.float32), {"time": time}, ("time", "cell"))
    field.values[:] = np.random.default_rng(0).standard_normal(5000, np.float32)
    field.values[::2] += 1
    tracemalloc.start()
    fields.anomalies(field, convention="per_calendar_day", reference=("1990", "1998"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < field.nbytes + 250e6


@pytest.mark.parametrize(
    ("change", "chosen", "reason"),
    [
        (
            lambda f: f,
            {"convention": "clasic"},
            "'clasic': unknown; did you mean 'classic'.; there are classic, per",
        ),
        (lambda f: f, {"climatology": "days"}, "climatology 'days': unknown; did you mean 'day'"),
        (
            lambda f: f,
            {"reference": ("1950", "1960")},
            r"reference \(1950, 1960\): holds none of the dates 1992-01-01",
        ),
        (lambda f: f, {"reference": ("x", "y")}, r"reference \(x, y\): no dates of this axis"),
        (lambda f: f, {"reference": ("1992",)}, "is no pair of dates"),
        (lambda f: f, {"reference": 5}, r"reference 5: is no pair of dates; give \(start, end\)"),
        (lambda f: f, {"reference": "92"}, "reference 92: is no pair of dates"),
        (lambda f: f, {"reference": slice("1992", "2000", 2)}, "is no pair of dates"),
        (lambda f: f, {"reference": ("1992", "1992")}, "time: no calendar month occurs twice in 12 dates"),
        (
            lambda f: f[(f.time.dt.month != 7) | (f.time.dt.year > 2000)],
            {"reference": ("1992", "2000")},
            "time: July occurs in 0 years of the reference, its mean needs 1; widen the reference",
        ),
        (
            lambda f: f[(f.time.dt.month != 7) | (f.time.dt.year < 1994)],
            {"convention": "per_calendar_day"},
            "time: July occurs in 2 years of the reference, its line over the years needs 3; widen the reference",
        ),
        (lambda f: f.rename(cell="tile"), {}, "has no latitude"),
        (lambda f: f[:1], {}, "time: 1 date does not tell months from days; give two or more"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, chosen, reason):
    field = change(field_of(dates("gregorian months")))
    with pytest.raises(DataError, match=reason) as caught:
        fields.anomalies(field, **chosen)
    assert "\n" not in str(caught.value)


def test_days_of_two_years_have_no_lines():
    time = xr.date_range("2001-01-01", "2002-12-31", freq="D").values
    with pytest.raises(DataError, match="time: 1 January occurs in 2 years of the reference, its line"):
        fields.anomalies(field_of(time), convention="per_calendar_day")
    with pytest.raises(DataError, match="no calendar day occurs twice in 365 dates; give two years or more"):
        fields.anomalies(field_of(time[:365]))


def test_weeks_are_told_to_take_the_climatology_of_months():
    weeks = field_of(xr.date_range("2001-01-01", periods=208, freq="7D").values)
    with pytest.raises(DataError, match=r"no calendar day .* in 208 dates; choose climatology='month'"):
        fields.anomalies(weeks)
    found = fields.anomalies(weeks, climatology="month")
    np.testing.assert_allclose(found.std("time"), 1.0, rtol=1e-6)


def test_the_correlation_of_a_field_needs_latitude_and_longitude():
    with pytest.raises(DataError, match="has no latitude"):
        fields.correlation_of_field(fields.anomalies(field_of(dates("gregorian months"))))


def test_the_anomalies_of_the_archived_sst_have_no_group_means(data_dir):
    file = data_dir / "sst" / "ersstv5_anom_detrended_5deg_55S-60N_1980-2018.nc"
    if not file.exists():
        pytest.skip(f"{file.name} is not among the archived files")
    with xr.open_dataset(file) as stored:
        field = next(v for v in stored.data_vars.values() if v.ndim == 3).load()
    found = fields.anomalies(field, convention="per_calendar_day", reference=("1980", "2010"))
    known = found.sel(time=slice("1980", "2010"))
    assert np.isfinite(known).any()
    np.testing.assert_allclose(known.groupby("time.month").mean().fillna(0), 0, atol=1e-5)
    np.testing.assert_allclose(known.std("time").values[np.isfinite(known[0].values)], 1, rtol=1e-5)
