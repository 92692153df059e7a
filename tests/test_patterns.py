"""Relevance beside a sensitivity field: pattern correlation and regional shares."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr

from xairt import Grid
from xairt.errors import DataError
from xairt.metrics import compare_with_sensitivity, pattern_correlation, regional_shares

NAN = float("nan")
SCORES = ("correlation", "magnitude_correlation", "congruence")
LAT, LON = np.array([60.0, 30.0, 0.0, -30.0]), np.arange(0.0, 360.0, 60.0)


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def grid() -> Grid:
    mask = np.ones((4, 6), bool)
    mask[1, 2] = mask[3, 5] = False
    return Grid(mask, LAT, LON)


def drawn(grid: Grid, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, grid.n_valid)) + 0.4


def naive_scores(a, b, w) -> list[float]:
    def r(a, b):
        ma, mb = sum(w * a) / sum(w), sum(w * b) / sum(w)
        return sum(w * (a - ma) * (b - mb)) / np.sqrt(sum(w * (a - ma) ** 2) * sum(w * (b - mb) ** 2))

    return [r(a, b), r(abs(a), abs(b)), sum(w * a * b) / np.sqrt(sum(w * a * a) * sum(w * b * b))]


def test_scores_are_weighted_by_area(grid):
    a, b = drawn(grid), drawn(grid, seed=1)
    found = pattern_correlation(a, b, grid=grid)
    np.testing.assert_allclose(
        [found[name] for name in SCORES], naive_scores(a, b, grid.area_weights), rtol=1e-12
    )
    unweighted = naive_scores(a, b, np.ones(grid.n_valid))
    assert np.abs(unweighted - found.to_array().values).max() > 0.01


def test_known_answers(grid):
    a = drawn(grid)
    for b, wanted in ((3 * a, [1, 1, 1]), (-a, [-1, 1, -1])):
        found = pattern_correlation(a, b, grid=grid)
        np.testing.assert_allclose([found[name] for name in SCORES], wanted, rtol=1e-13)
    half = np.zeros(grid.n_valid)
    half[:5] = 1.0
    assert float(pattern_correlation(half, 1.0 - half, grid=grid)["congruence"]) == 0.0
    assert float(pattern_correlation(half, 1.0 - half, grid=grid)["correlation"]) == pytest.approx(-1)
    tiny = pattern_correlation(1e-200 * a, 1e200 * a, grid=grid)
    np.testing.assert_allclose([tiny[name] for name in SCORES], [1, 1, 1], rtol=1e-13)


def test_constant_and_missing_maps_have_no_correlation(grid):
    a = drawn(grid)
    constant = pattern_correlation(np.full(grid.n_valid, 0.1), a, grid=grid)
    assert np.isnan([constant["correlation"], constant["magnitude_correlation"]]).all()
    assert np.isfinite(constant["congruence"])
    assert np.isnan(pattern_correlation(np.zeros(grid.n_valid), a, grid=grid).to_array()).all()
    maps = grid.to_map(np.stack([np.full(grid.n_valid, NAN), a]))
    classes = xr.DataArray(
        maps, {"class": ["negative", "positive"], "lat": LAT, "lon": LON}, ("class", "lat", "lon")
    )
    found = pattern_correlation(classes, a, grid=grid)
    np.testing.assert_allclose(found["correlation"], [NAN, 1.0])


def test_maps_in_another_order_are_brought_to_the_grid(grid, tmp_path):
    a, b = drawn(grid, 2), drawn(grid, seed=1)
    wanted = pattern_correlation(a[1], b, grid=grid)
    relevance = xr.DataArray(
        grid.to_map(a), {"class": [0, 1], "lat": LAT, "lon": LON}, ("class", "lat", "lon")
    )
    other = xr.DataArray(grid.to_map(b), {"lat": LAT, "lon": LON}, ("lat", "lon"), "sensitivity")
    turned = other.assign_coords(lon=(LON + 180) % 360 - 180).sortby(["lat", "lon"])
    turned.to_netcdf(tmp_path / "adjoint.nc")
    two = xr.Dataset({"sensitivity": turned, "error": turned})
    cells = grid.to_vector(other)
    for reference in (other, turned, tmp_path / "adjoint.nc", turned.to_dataset(), cells, b):
        found = pattern_correlation(relevance, reference, grid=grid)
        np.testing.assert_allclose(found["correlation"][1], wanted["correlation"], rtol=1e-13)
    found = pattern_correlation(relevance, two, grid=grid, variable="sensitivity")
    np.testing.assert_allclose(found["congruence"][1], wanted["congruence"], rtol=1e-13)
    with pytest.raises(DataError, match=r"reference.*sensitivity"):
        pattern_correlation(relevance, two, grid=grid)


def test_lags_and_classes_pair_by_name(grid):
    a, b = drawn(grid, 3, 2), drawn(grid, 3, seed=1)
    relevance = xr.DataArray(a, {"lag": [0, 1, 2]}, dims=("lag", "class", "cell"))
    baseline = xr.DataArray(b, {"lag": [0, 1, 2]}, dims=("lag", "cell"))
    found = pattern_correlation(relevance, baseline, grid=grid)["correlation"].transpose("lag", "class")
    wanted = [[naive_scores(a[t, c], b[t], grid.area_weights)[0] for c in range(2)] for t in range(3)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    with pytest.raises(DataError, match="coordinates differ; select the same classes and lags"):
        pattern_correlation(relevance, baseline.assign_coords(lag=[1, 2, 3]), grid=grid)


def test_another_grid_is_refused(grid):
    a = drawn(grid)
    maps = xr.DataArray(grid.to_map(a), {"lat": LAT, "lon": LON}, ("lat", "lon"))
    with pytest.raises(DataError, match="longitude"):
        pattern_correlation(a, maps.assign_coords(lon=LON + 1), grid=grid)
    with pytest.raises(DataError, match="grid has 6 longitudes, the map has 5"):
        pattern_correlation(a, maps.isel(lon=slice(5)), grid=grid)
    cells = grid.to_vector(maps)
    moved = cells.assign_coords(lat=cells["lat"] + np.where(np.arange(grid.n_valid) == 4, 0.1, 0))
    with pytest.raises(DataError, match="reference: cell 4 is not where the grid has it"):
        pattern_correlation(a, moved, grid=grid)
    with pytest.raises(DataError, match="reference: 21 cells, the grid has 22"):
        pattern_correlation(a, a[1:], grid=grid)
    with pytest.raises(DataError, match=r"nowhere\.nc"):
        pattern_correlation(a, "nowhere.nc", grid=grid)


def test_values_that_are_no_numbers_are_refused(grid):
    a = drawn(grid)
    holed = np.where(np.arange(grid.n_valid) == 2, NAN, a)
    with pytest.raises(DataError, match="reference: NaN in 1 of the grid's 22 cells"):
        pattern_correlation(a, holed, grid=grid)
    with pytest.raises(DataError, match="field: infinite"):
        pattern_correlation(np.where(a > 0, np.inf, a), a, grid=grid)
    with pytest.raises(DataError, match="field: holds bool"):
        pattern_correlation(a > 0, a, grid=grid)


# -------------------------------------------------------------------------------------------- shares


def naive_box(grid: Grid, south, north, lons) -> np.ndarray:
    cells = [grid.cell(i) for i in range(grid.n_valid)]
    return np.array([south <= lat <= north and lon in lons for lat, lon in cells])


@pytest.mark.parametrize("area_weighted", [False, True])
def test_shares_against_sums(grid, area_weighted):
    a = drawn(grid, 2)
    flags = np.arange(grid.n_valid) % 3 == 0
    on_map = xr.DataArray(grid.to_map(flags, fill=False), {"lat": LAT, "lon": LON}, ("lat", "lon"))
    regions = {
        "box": (0, 60, 60, 180),
        "across Greenwich": (-30, 0, -60, 60),
        "band": (-30, 0, 0, 360),
        "flags": flags,
        "map": on_map,
    }
    members = [
        naive_box(grid, 0, 60, {60, 120, 180}),
        naive_box(grid, -30, 0, {300, 0, 60}),
        naive_box(grid, -30, 0, set(LON)),
        flags,
        flags,
    ]
    found = regional_shares(a, regions, grid=grid, area_weighted=area_weighted)
    w = grid.area_weights if area_weighted else np.ones(grid.n_valid)
    assert list(found["region"].values) == list(regions)
    for i, inside in enumerate(members):
        for name, part in {
            "magnitude": np.abs(a),
            "positive": np.maximum(a, 0),
            "negative": np.maximum(-a, 0),
        }.items():
            wanted = (part * w)[:, inside].sum(axis=1) / (part * w).sum(axis=1)
            np.testing.assert_allclose(found[name].transpose("region", ...)[i], wanted, rtol=1e-13)
        np.testing.assert_allclose(
            found["area"][i], grid.area_weights[inside].sum() / grid.n_valid, rtol=1e-13
        )


def test_shares_of_nothing_are_undefined(grid):
    flags = np.arange(grid.n_valid) < 5
    zero = regional_shares(np.zeros(grid.n_valid), {"r": flags}, grid=grid, area_weighted=False)
    assert np.isnan([zero["magnitude"], zero["positive"], zero["negative"]]).all()
    missing = regional_shares(np.full(grid.n_valid, NAN), {"r": flags}, grid=grid, area_weighted=False)
    assert np.isnan([missing["magnitude"], missing["positive"], missing["negative"]]).all()
    positive = regional_shares(np.ones(grid.n_valid), {"r": flags}, grid=grid, area_weighted=True)
    assert np.isnan(positive["negative"]).all()
    np.testing.assert_allclose(positive["magnitude"], positive["area"])
    everywhere = {"all": np.ones(grid.n_valid, bool)}
    found = regional_shares(drawn(grid), everywhere, grid=grid, area_weighted=False)
    np.testing.assert_array_equal(found.to_array(), 1.0)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ({}, "regions: none given"),
        ({"r": (10, 0, 0, 60)}, r"region 'r': .* is no box \(south, north"),
        ({"r": (0, 10, 0, "east")}, r"region 'r': .* is no box \(south, north"),
        ({"r": (1, 2, 1, 2)}, "region 'r': holds no valid cell"),
        ({"r": np.zeros(22, bool)}, "region 'r': holds no valid cell"),
        ({"r": np.ones(21, bool)}, r"region 'r': bool of shape \(21,\)"),
        ({"r": np.ones(22)}, r"region 'r': float64 of shape \(22,\)"),
    ],
)
def test_bad_regions_are_refused(grid, regions, message):
    with pytest.raises(DataError, match=message):
        regional_shares(drawn(grid), regions, grid=grid, area_weighted=False)


def test_comparison_with_a_sensitivity(grid):
    a, b = drawn(grid), drawn(grid, seed=1)
    regions = {"north": (0, 60, 0, 360)}
    found = compare_with_sensitivity(a, b, grid=grid, regions=regions, area_weighted=False)
    xr.testing.assert_identical(found[list(SCORES)], pattern_correlation(a, b, grid=grid))
    for name, values in (("relevance", a), ("sensitivity", b)):
        shares = regional_shares(values, regions, grid=grid, area_weighted=False)
        np.testing.assert_array_equal(found[f"{name}_magnitude"], shares["magnitude"])
        np.testing.assert_array_equal(found["area"], shares["area"])
    assert set(compare_with_sensitivity(a, b, grid=grid)) == set(SCORES)
    with pytest.raises(DataError, match="area_weighted: missing; give False"):
        compare_with_sensitivity(a, b, grid=grid, regions=regions)
