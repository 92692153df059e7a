"""Anomalies, coarse grids and correlation matrices of gridded fields; where a correlation comes from."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xairt import fields
from xairt.data.natural_earth import land_mask
from xairt.errors import DataError
from xairt.fields.anomaly import CONSTANT_SHARE

LAT, LON = np.arange(75.0, -80.0, -10.0), np.arange(5.0, 360.0, 10.0)
YEARS = 6


def dates(calendar: str = "standard", years: int = YEARS) -> xr.DataArray:
    use_cftime = calendar != "standard"
    found = xr.date_range(
        "2001-01-15", periods=12 * years, freq="MS", calendar=calendar, use_cftime=use_cftime
    )
    return xr.DataArray(found, dims="time", name="time")


def field_of(values: np.ndarray, calendar: str = "standard", lat=LAT, lon=LON) -> xr.DataArray:
    time = dates(calendar, len(values) // 12)
    coords = {"time": time.values, "lat": np.asarray(lat), "lon": np.asarray(lon)}
    return xr.DataArray(values, coords, ("time", "lat", "lon"), "sst", {"units": "degC", "long_name": "SST"})


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture(scope="module")
def sst() -> xr.DataArray:
    """Six years of noise with an annual cycle and a trend, NaN on land."""
    values = noise(12 * YEARS, len(LAT), len(LON)) + 15
    values += 5 * np.cos(2 * np.pi * np.arange(12 * YEARS) / 12)[:, None, None]
    values += 0.02 * np.arange(12 * YEARS)[:, None, None]
    values[:, land_mask(LAT, LON)] = np.nan
    return field_of(values)


def naive_anomalies(field: xr.DataArray) -> np.ndarray:
    """One cell at a time, by pandas and polyfit."""
    frame = pd.DataFrame(field.values.reshape(field.sizes["time"], -1), index=field.time.values)
    frame -= frame.groupby(frame.index.month).transform("mean")
    days = (frame.index - frame.index[0]).days
    found = frame.to_numpy().copy()
    for cell in np.flatnonzero(np.isfinite(found[0])):
        found[:, cell] -= np.polyval(np.polyfit(days, found[:, cell], 1), days)
        found[:, cell] /= found[:, cell].std()
    return found.reshape(field.shape)


# ------------------------------------------------------------------------------------------- anomalies


def test_anomalies_are_those_of_pandas_and_polyfit(sst):
    before = sst.copy(deep=True)
    found = fields.anomalies(sst)
    np.testing.assert_allclose(found, naive_anomalies(sst), atol=1e-9)
    np.testing.assert_allclose(found.std("time").values[np.isfinite(found[0])], 1, rtol=1e-12)
    assert found.attrs == {"units": "1", "long_name": "anomaly of SST"}
    xr.testing.assert_identical(sst, before)


def test_steps_can_be_left_out(sst):
    plain = fields.anomalies(sst, detrend=False, standardise=False)
    climatology = sst.groupby("time.month").mean("time")
    np.testing.assert_allclose(plain, sst.groupby("time.month") - climatology, atol=1e-12)
    assert plain.attrs["units"] == "degC"
    trend = plain.polyfit("time", 1).polyfit_coefficients[0]
    flat = fields.anomalies(sst, standardise=False).polyfit("time", 1).polyfit_coefficients[0]
    assert float(np.abs(flat).max()) < 1e-9 * float(np.abs(trend).max())


@pytest.mark.parametrize("calendar", ["360_day", "noleap", "julian"])
def test_every_calendar_removes_cycle_and_trend(calendar):
    time = dates(calendar)
    days = np.array([(t - time.values[0]).days for t in time.values])
    month = time.dt.month.values
    values = (10 * np.sin(month) + 0.001 * days)[:, None, None] + 0.1 * noise(12 * YEARS, 1, 2)
    found = fields.anomalies(field_of(values, calendar, lat=[0.0], lon=[0.0, 90.0]), standardise=False)
    assert float(np.abs(found).max()) < 0.5
    slopes = (days - days.mean()) @ found.values[:, 0]
    np.testing.assert_allclose(slopes, 0, atol=1e-6)


def test_the_trend_is_against_the_dates_not_their_number(sst):
    """Januaries alone, with years left out: a line through the dates is none through their number."""
    years = np.array([1950, 1951, 1952, 1960, 1990])
    time = np.array([f"{year}-01-15" for year in years], dtype="datetime64[ns]")
    days = (time - time[0]) / np.timedelta64(1, "D")
    field = xr.DataArray(np.stack([days, -2 * days], -1)[:, None] / 365, dims=("time", "lat", "lon"))
    field = field.assign_coords(time=time, lat=[0.0], lon=[0.0, 90.0])
    np.testing.assert_allclose(fields.anomalies(field, standardise=False), 0, atol=1e-12)
    assert float(np.abs(fields.anomalies(field, standardise=False, detrend=False)).max()) > 20


def test_cells_with_gaps_and_constant_cells_are_left_out_and_counted(sst, caplog):
    ocean = np.argwhere(np.isfinite(sst.values[0]))
    values = sst.values.copy()
    (a, b), (c, d), (e, f), (g, h) = ocean[[0, 5, 9, 20]]
    values[3, a, b] = np.nan
    values[7, c, d] = 1e20
    values[:, e, f] = -1.8
    values[:, g, h] = np.float32(273.15) + np.tile([0.0, 1e-5], 6 * YEARS)
    with caplog.at_level(logging.WARNING, "xairt"):
        found = fields.anomalies(field_of(values))
    assert "2 cells lack values at some times and are left out" in caplog.text
    assert "2 cells do not vary and are left out" in caplog.text
    left = np.isfinite(found.values)
    assert (left.all(axis=0) | ~left.any(axis=0)).all()
    assert left[0].sum() == len(ocean) - 4
    kept = fields.anomalies(field_of(values), standardise=False)
    assert float(np.abs(kept[:, e, f]).max()) < CONSTANT_SHARE


def test_values_above_the_limit_are_missing(sst):
    for fill in (9999.0, -9.99e33):
        np.testing.assert_array_equal(fields.anomalies(sst.fillna(fill)), fields.anomalies(sst))
    kelvin = fields.anomalies(sst + 600, missing_above=None)
    np.testing.assert_allclose(kelvin, fields.anomalies(sst), atol=1e-9)


def test_float32_stays_float32_and_is_computed_in_float64(sst):
    single = fields.anomalies(sst.astype("float32"))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, fields.anomalies(sst.astype("float32").astype("float64")), atol=1e-6)


def test_extra_dimensions_of_length_one_are_dropped_and_the_order_does_not_matter(sst):
    extra = sst.expand_dims(lev=[0.0], axis=1).transpose("lon", "lev", "lat", "time")
    xr.testing.assert_identical(fields.anomalies(extra).drop_attrs(), fields.anomalies(sst).drop_attrs())
    deep = xr.concat([sst, sst], "lev")
    with pytest.raises(DataError, match="sst: dimension 'lev' has 2 entries besides"):
        fields.anomalies(deep)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f.isel(time=0), "have no time; give a field of several dates"),
        (lambda f: f.assign_coords(time=np.arange(72)), "dimension 'time' holds no dates; give it units"),
        (lambda f: f.isel(lat=0), "has no latitude"),
        (lambda f: f.isel(lon=0), "has no longitude"),
        (lambda f: f.isel(time=slice(0, 12)), "no calendar month occurs twice in 12 dates"),
        (lambda f: xr.concat([f, f], "time"), "dates stand there twice"),
        (lambda f: f.assign_coords(time=f.time.where(f.time != f.time[3])), "time: dates are missing"),
        (lambda f: f.isel(time=slice(0, 0)), "dates"),
        (lambda f: f * np.nan, r"no cell is left \(0 have gaps, 0 are constant"),
        (lambda f: f + 600, r"no cell is left .* the others hold no value up to missing_above=500"),
        (lambda f: xr.zeros_like(f), "no cell is left .0 have gaps, 576 are constant"),
        (lambda f: f.where(f.time != f.time[3]), r"no cell is left \(\d+ have gaps"),
        (lambda f: f.astype(str), "holds <U.*, no numbers; choose another variable"),
    ],
)
def test_fields_without_anomalies_are_refused(sst, change, reason):
    with pytest.raises(DataError, match=reason) as caught:
        fields.anomalies(change(sst))
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------------- coarsen


def test_every_tenth_cell_of_one_degree_is_the_grid_of_the_benchmark(caplog):
    one = xr.DataArray(
        np.arange(180.0 * 360).reshape(180, 360),
        {"lat": np.arange(89.5, -90, -1), "lon": np.arange(0.5, 360)},
        ("lat", "lon"),
        "sst",
    )
    with caplog.at_level(logging.INFO, "xairt"):
        coarse = fields.coarsen(one)
    assert "sst: every 10. row and every 10. column is taken" in caplog.text
    grid = fields.default_grid()
    np.testing.assert_array_equal(coarse.lat, grid.lat)
    np.testing.assert_array_equal(coarse.lon, grid.lon)
    np.testing.assert_array_equal(coarse, one.values[::10, ::10])
    xr.testing.assert_identical(fields.coarsen(one, step=10), coarse)


@pytest.mark.parametrize("step", [None, 1, 3, 7])
def test_the_same_cells_are_taken_however_the_file_is_ordered(step):
    lat, lon = np.arange(87.5, -90, -5), np.arange(2.5, 360, 5)
    one = xr.DataArray(noise(len(lat), len(lon)), {"lat": lat, "lon": lon}, ("lat", "lon"), "sst")
    wanted = fields.coarsen(one, step)
    west = one.assign_coords(lon=(one.lon + 180) % 360 - 180).sortby("lon")
    others = [one[::-1], one.T, west, west[::-1], one.rename(lat="latitude", lon="longitude"), one[:, ::-1]]
    for other in others:
        np.testing.assert_array_equal(fields.coarsen(other, step), wanted)
        np.testing.assert_array_equal(fields.coarsen(other, step).lon, wanted.lon)
        assert list(fields.coarsen(other, step).lat) == list(wanted.lat)


def test_a_region_across_greenwich_stays_in_one_piece():
    lon = np.arange(-20.0, 21.0, 5.0)
    region = xr.DataArray(noise(3, 9), {"lat": [0.0, 5.0, 10.0], "lon": lon}, ("lat", "lon"))
    np.testing.assert_array_equal(fields.coarsen(region).lon, [-20, -10, 0, 10, 20])
    wrapped = region.assign_coords(lon=lon % 360)
    np.testing.assert_array_equal(fields.coarsen(wrapped), fields.coarsen(region))


@pytest.mark.parametrize("step", [0, -1, 1.5])
def test_a_step_is_a_whole_number(sst, step):
    with pytest.raises(DataError, match=rf"step={step}: must be a whole number from 1"):
        fields.coarsen(sst, step)


# ------------------------------------------------------------------------------- correlation of a field


def test_correlation_is_that_of_numpy(sst):
    found = fields.anomalies(sst)
    correlation, grid = fields.correlation_of_field(found)
    np.testing.assert_array_equal(grid.mask, np.isfinite(sst.values[0]))
    np.testing.assert_allclose(correlation, np.corrcoef(found.values[:, grid.mask].T), atol=1e-12)
    assert (np.diag(correlation) == 1).all()


def test_correlation_leaves_out_cells_without_a_correlation(sst, caplog):
    found = fields.anomalies(sst)
    ocean = np.argwhere(np.isfinite(found.values[0]))
    found[3, *ocean[0]] = np.nan
    found[:, *ocean[1]] = 2.0
    with caplog.at_level(logging.WARNING, "xairt"):
        correlation, grid = fields.correlation_of_field(found)
    assert len(correlation) == grid.n_valid == len(ocean) - 2
    assert "1 cells lack values" in caplog.text
    assert "1 cells do not vary" in caplog.text
    with pytest.raises(DataError, match="0 cells vary without gaps"):
        fields.correlation_of_field(found * 0)
    with pytest.raises(DataError, match="1 time, a correlation needs two"):
        fields.correlation_of_field(found[:1])


# --------------------------------------------------------------------------------------------- sources


def test_the_analytic_source_is_the_default():
    correlation, grid = fields.correlation_of("analytic")
    np.testing.assert_array_equal(correlation, fields.analytic_sst_correlation(fields.default_grid()))
    assert grid == fields.default_grid()
    with pytest.raises(DataError, match=r"x\.nc: source 'analytic' reads no file"):
        fields.correlation_of("analytic", "x.nc")
    with pytest.raises(DataError, match="source 'netcd': unknown; did you mean 'netcdf'"):
        fields.correlation_of("netcd", "x.nc")
    with pytest.raises(DataError, match="source 'netcdf': no file"):
        fields.correlation_of("netcdf")


@pytest.mark.parametrize("calendar", ["standard", "360_day", "noleap"])
def test_a_netcdf_file_gives_the_correlation_of_its_anomalies(sst, calendar, tmp_path):
    field = field_of(sst.values, calendar).expand_dims(lev=[0.0], axis=1)
    field.to_netcdf(tmp_path / "sst.nc")
    correlation, grid = fields.correlation_of("netcdf", tmp_path / "sst.nc", step=2)
    wanted, wanted_grid = fields.correlation_of_field(fields.anomalies(fields.coarsen(field, 2)))
    np.testing.assert_array_equal(correlation, wanted)
    assert grid == wanted_grid


@pytest.mark.parametrize("names", [("latitude", "longitude"), ("nav_lat", "nav_lon"), ("Y", "X")])
def test_coordinates_may_have_other_names(sst, names, tmp_path):
    other = sst.rename(lat=names[0], lon=names[1])
    if names == ("Y", "X"):
        other[names[0]].attrs["units"], other[names[1]].attrs["units"] = "degrees_north", "degrees_east"
    other.to_netcdf(tmp_path / "sst.nc")
    correlation, _ = fields.correlation_of("netcdf", tmp_path / "sst.nc")
    np.testing.assert_array_equal(correlation, fields.correlation_of_field(fields.anomalies(sst))[0])


def test_of_several_fields_one_is_to_be_chosen(sst, tmp_path):
    both = xr.Dataset({"sst": sst, "ice": sst + noise(*sst.shape, seed=1), "area": sst[0]})
    both.to_netcdf(tmp_path / "two.nc")
    with pytest.raises(DataError, match=r"two.nc: holds 3 variables \(sst, ice, area\); choose one with"):
        fields.correlation_of("netcdf", tmp_path / "two.nc")
    with pytest.raises(DataError, match=r"two\.nc: has no variable 'icec'; did you mean 'ice'"):
        fields.correlation_of("netcdf", tmp_path / "two.nc", variable="icec")
    found, _ = fields.correlation_of("netcdf", tmp_path / "two.nc", variable="ice")
    np.testing.assert_array_equal(found, fields.correlation_of_field(fields.anomalies(both["ice"]))[0])
    both.drop_vars("ice").to_netcdf(tmp_path / "one.nc")
    found, _ = fields.correlation_of("netcdf", tmp_path / "one.nc")
    np.testing.assert_array_equal(found, fields.correlation_of_field(fields.anomalies(sst))[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f.isel(time=0, drop=True), "have no time"),
        (lambda f: f.isel(lat=0, drop=True), "has no latitude"),
        (lambda f: f.isel(lon=0, drop=True), "has no longitude"),
        (lambda f: f * np.nan, "no cell is left"),
        (lambda f: f * 0, "no cell is left"),
    ],
)
def test_a_netcdf_file_that_does_not_fit_is_named(sst, change, reason, tmp_path):
    change(sst).to_netcdf(tmp_path / "bad.nc")
    with pytest.raises(DataError, match=rf"^{tmp_path}/bad.nc: .*{reason}") as caught:
        fields.correlation_of("netcdf", tmp_path / "bad.nc")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_netcdf_are_named(tmp_path):
    (tmp_path / "text.nc").write_text("time lat lon\n")
    with pytest.raises(DataError, match=r"text.nc: damaged or not a netCDF file"):
        fields.correlation_of("netcdf", tmp_path / "text.nc")
    with pytest.raises(DataError, match=r"none.nc: neither a file nor a known name"):
        fields.correlation_of("netcdf", tmp_path / "none.nc")
    with pytest.raises(DataError, match="is a folder, not a file"):
        fields.correlation_of("netcdf", tmp_path)


@pytest.fixture
def matrix() -> dict[str, np.ndarray]:
    mask = np.array([[True, False, True], [True, True, False]])
    base = noise(4, 9)
    return {
        "covariance": base @ base.T,
        "mask": mask,
        "lat": np.array([5.0, -5.0]),
        "lon": np.arange(3.0) * 10,
    }


def test_a_matrix_file_gives_the_correlation_of_its_covariance(matrix, tmp_path):
    np.savez(tmp_path / "c.npz", **matrix)
    correlation, grid = fields.correlation_of("correlation", tmp_path / "c.npz")
    np.testing.assert_allclose(correlation, fields.to_correlation(matrix["covariance"]), rtol=1e-14)
    np.testing.assert_array_equal(grid.mask, matrix["mask"])
    np.testing.assert_array_equal(grid.lat, [5, -5])
    other = {"correlation": correlation, **{k: v for k, v in matrix.items() if k != "covariance"}}
    np.savez(tmp_path / "r.npz", **other)
    np.testing.assert_array_equal(fields.correlation_of("correlation", tmp_path / "r.npz")[0], correlation)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"covariance": np.triu(np.ones((4, 4)))}, "covariance: not symmetric"),
        ({"covariance": np.eye(4) - 0.5}, "covariance: not positive semidefinite"),
        ({"covariance": np.full((4, 4), np.nan)}, "covariance: holds NaN"),
        ({"covariance": np.diag([1.0, 1.0, 0.0, 1.0])}, "variance 0 of cell 2; leave constant cells out"),
        ({"covariance": np.eye(5)}, r"mask is true in 4 cells, the matrix is \(5, 5\)"),
        ({"covariance": np.eye(4)[:3]}, r"mask is true in 4 cells, the matrix is \(3, 4\)"),
        ({"mask": np.ones((2, 4), bool)}, "mask"),
        ({"mask": np.zeros((2, 3), bool)}, "mask"),
        ({"mask": np.full((2, 3), 7)}, "mask holds values other than 0 and 1"),
        ({"lat": None}, r"mask of shape \(2, 3\) without coordinates; add 'lat' and 'lon'"),
        ({"mask": None}, "has no variable 'mask'; it holds covariance, lat, lon"),
        ({"covariance": None}, "holds neither 'covariance' nor 'correlation'"),
        ({"covariance": np.array([{}], dtype=object)}, "pickled Python objects"),
        ({"mask": np.array([{}], dtype=object)}, "pickled Python objects"),
    ],
)
def test_matrix_files_that_do_not_fit_are_refused(matrix, change, reason, tmp_path):
    arrays = {name: value for name, value in {**matrix, **change}.items() if value is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=rf"^{tmp_path}/bad.npz: .*{reason}") as caught:
        fields.correlation_of("correlation", tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_matrix_are_named(tmp_path, sst):
    (tmp_path / "text.npz").write_text("covariance")
    with pytest.raises(DataError, match=r"text.npz: .*\.npz file"):
        fields.correlation_of("correlation", tmp_path / "text.npz")
    sst.to_netcdf(tmp_path / "sst.nc")
    with pytest.raises(DataError, match=r"sst.nc: not an .npz file"):
        fields.correlation_of("correlation", tmp_path / "sst.nc")
    with pytest.raises(DataError, match=r"none.npz: neither a file nor a known name"):
        fields.correlation_of("correlation", tmp_path / "none.npz")


def test_the_registered_matrix_is_that_of_cobe(data_dir):
    correlation, grid = fields.correlation_of("correlation")
    file = next(data_dir.rglob("cobe_sstanom_correlation_10deg_460x460.npz"))
    named, _ = fields.correlation_of("correlation", file)
    np.testing.assert_array_equal(correlation, named)
    assert (grid.n_valid, grid.lat[0], grid.lon[-1]) == (460, 89.5, 350.5)
    smaller, small_grid = fields.cobe_correlation(fields.NETWORK_EXCLUDES, download=False)
    keep = np.delete(np.arange(460), fields.NETWORK_EXCLUDES)
    np.testing.assert_allclose(smaller, correlation[np.ix_(keep, keep)], atol=1e-15)
    assert small_grid.n_valid == 458
    with pytest.raises(DataError, match=r"exclude=\(460,\): the matrix has cells 0 to 459"):
        fields.cobe_correlation((460,), download=False)


def test_real_sst_gives_a_correlation_like_that_of_the_matrix(data_dir):
    found, grid = fields.correlation_of(
        "netcdf", next(data_dir.rglob("ersstv5_sst_2deg_global_2010-2020.nc"))
    )
    assert grid.shape == (18, 36)
    assert (grid.lat[0], grid.lat[-1], grid.lon[0], grid.lon[-1]) == (88, -82, 0, 350)
    assert 440 < grid.n_valid < 460
    cobe, cobe_grid = fields.correlation_of("correlation")
    pairs = [((0, 220), (0, 240)), ((0, 220), (-10, 220)), ((40, 170), (40, 190)), ((-40, 20), (40, 170))]
    both = [
        [c[g.nearest(*a), g.nearest(*b)] for a, b in pairs] for c, g in ((found, grid), (cobe, cobe_grid))
    ]
    np.testing.assert_allclose(*both, atol=0.25)
    regional, grid = fields.correlation_of(
        "netcdf", next(data_dir.rglob("ersstv5_anom_detrended_5deg_55S-60N_1980-2018.nc"))
    )
    assert regional.shape == (432, 432)


def test_a_large_file_is_read_coarse(sst, tmp_path):
    """120 months of one degree are 31 MB, of which the cells taken are 0.3."""
    sst.to_netcdf(tmp_path / "small.nc")
    values = noise(120, 180, 360).astype(np.float32)
    values[:, 30:] = np.nan
    field = field_of(values, lat=np.arange(89.5, -90, -1), lon=np.arange(-179.5, 180))
    field.to_netcdf(tmp_path / "big.nc", encoding={"sst": {"chunksizes": (1, 180, 360)}})
    code = (
        "import sys, tracemalloc; from xairt import fields; fields.correlation_of('netcdf', 'small.nc');"
        "tracemalloc.start(); fields.correlation_of('netcdf', 'big.nc'); print(tracemalloc.get_traced_memory()[1])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < values.nbytes / 8


# ---------------------------------------------------------------------------------------- strengthened


def test_strengthened_covariances_move_towards_one():
    correlation = fields.analytic_sst_correlation(fields.default_grid())[:30, :30]
    for w in (0.0, 0.3, 1.0):
        found = fields.strengthened(correlation, w)
        np.testing.assert_allclose(found, (1 - w) * correlation + w * np.ones((30, 30)), rtol=1e-15)
        assert np.linalg.eigvalsh(found)[0] > -1e-12
    for w in (-0.1, 1.1, float("nan")):
        with pytest.raises(DataError, match=rf"w={w}: outside 0 .. 1"):
            fields.strengthened(correlation, w)
    with pytest.raises(DataError, match="not symmetric"):
        fields.strengthened([[1.0, 0.5], [0.1, 1.0]], 0.5)


@pytest.mark.parametrize("values", [np.full((2, 2), "a"), np.eye(2) * 1j])
def test_a_matrix_of_no_real_numbers_is_refused(values, tmp_path):
    np.savez(tmp_path / "c.npz", covariance=values, mask=[[True, True]], lat=[0.0], lon=[0.0, 90.0])
    with pytest.raises(DataError, match=r"c.npz: covariance: holds .*, no real numbers"):
        fields.read_covariance(tmp_path / "c.npz")


def test_weights_that_keep_no_cell_are_refused():
    with pytest.raises(DataError, match="cell_weights: no cell is kept"):
        fields.draw(np.eye(3), 0, cell_weights=[0.0, 1e-9, 0.0])
