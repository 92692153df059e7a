"""Composites, normalisation and frequency of relevance, and the lag correlation beside them."""

from __future__ import annotations

import logging
import math
import warnings

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from test_docs import EXAMPLE, printed, read

import xairt.metrics.samples
from xairt.errors import DataError
from xairt.metrics import (
    class_composites,
    frequency_above_percentile,
    lag_correlation,
    normalise,
    pattern_correlation,
    regional_shares,
    zero_maps,
)

NAN = float("nan")
DIVISORS = ("sum", "absolute_sum", "largest_absolute")


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def drawn(samples: int, cells: int = 12, *, land: tuple[int, ...] = (3, 7)) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((samples, cells)) + 0.3
    values[:, list(land)] = NAN
    return values


def classes(samples: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, samples), rng.integers(0, 2, samples)


# ------------------------------------------------------------------------------------- normalisation


def naive_divisor(row, by: str) -> float:
    cells = [v for v in row if not math.isnan(v)]
    return {
        "sum": sum(cells),
        "absolute_sum": sum(map(abs, cells)),
        "largest_absolute": max(map(abs, cells)),
    }[by]


@pytest.mark.parametrize("by", DIVISORS)
def test_each_map_is_divided_by_a_number_of_its_own(by):
    maps = drawn(6)
    wanted = [[v / naive_divisor(row, by) for v in row] for row in maps]
    np.testing.assert_allclose(normalise(maps, by=by), wanted, rtol=1e-13)
    np.testing.assert_allclose(normalise(maps.T, by=by, axis=0), np.transpose(wanted), rtol=1e-13)
    cube = maps.reshape(6, 3, 4)
    np.testing.assert_allclose(
        normalise(cube, by=by, axis=(1, 2)), np.reshape(wanted, cube.shape), rtol=1e-13
    )
    labelled = xr.DataArray(cube, dims=("sample", "lat", "lon"), attrs={"units": "K"}).transpose("lat", ...)
    found = normalise(labelled, ("lat", "lon"), by=by)
    assert found.dims == labelled.dims
    assert found.attrs == {"units": "1", "normalisation": by}
    np.testing.assert_allclose(found.transpose("sample", ...), np.reshape(wanted, cube.shape), rtol=1e-13)


def test_known_answers_of_the_normalisation():
    row = [1.0, -3.0, 0.0, NAN]
    np.testing.assert_array_equal(normalise(row, by="sum"), [-0.5, 1.5, 0.0, NAN])
    np.testing.assert_array_equal(normalise(row, by="absolute_sum"), [0.25, -0.75, 0.0, NAN])
    np.testing.assert_array_equal(normalise(row, by="largest_absolute"), [1 / 3, -1.0, 0.0, NAN])
    np.testing.assert_array_equal(normalise(row, by=None), row)


@pytest.mark.parametrize("by", DIVISORS)
def test_maps_of_zeros_and_of_nothing_stay_and_are_counted(by, caplog):
    maps = np.array([[0.0, -0.0, NAN], [NAN, NAN, NAN], [1.0, 1.0, NAN]])
    with caplog.at_level(logging.WARNING, "xairt"):
        found = normalise(maps, by=by)
    np.testing.assert_array_equal(found[:2], maps[:2])
    assert "1 of 3 maps are all zero" in caplog.text
    np.testing.assert_array_equal(zero_maps(maps), [True, False, False])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sum_that_cancels_is_no_divisor(dtype):
    maps = np.array([[1.0, 2.0], [0.1, -0.1]], dtype)
    with pytest.raises(DataError, match="sum of 1 maps is 0 within rounding; normalise by='absolute_sum'"):
        normalise(maps, by="sum")
    np.testing.assert_allclose(normalise(maps, by="absolute_sum")[1], [0.5, -0.5])


def test_normalisation_is_always_chosen():
    with pytest.raises(TypeError, match="by"):
        normalise([1.0])
    with pytest.raises(DataError, match=r"by='sums' is unknown.*did you mean 'sum'"):
        normalise([1.0], by="sums")
    with pytest.raises(DataError, match="relevance: infinite"):
        normalise([np.inf], by="sum")
    with pytest.raises(DataError, match="axis"):
        normalise([1.0], by="sum", axis=1)
    with pytest.raises(DataError, match="dim: missing"):
        normalise(xr.DataArray([1.0], dims="cell"), by="sum")


def test_zero_maps_of_labelled_arrays():
    maps = xr.DataArray(np.zeros((3, 2, 2)), dims=("sample", "lat", "lon"))
    maps[1, 0, 1] = 1e-30
    found = zero_maps(maps, ("lat", "lon"))
    assert found.dims == ("sample",)
    assert int(found.sum()) == 2


# ---------------------------------------------------------------------------------------- composites


@pytest.mark.parametrize("by", [None, *DIVISORS])
@pytest.mark.parametrize("block", [1, 30, 2**22])
def test_composites_are_means_over_correct_samples(by, block, monkeypatch):
    monkeypatch.setattr(xairt.metrics.samples, "BLOCK_VALUES", block)
    maps, (label, predicted) = drawn(40), classes(40)
    found = class_composites(maps, predicted, label, by=by)
    assert list(found["class"].values) == ["negative", "positive"]
    for c in (0, 1):
        own = [row for row, a, b in zip(maps, label, predicted, strict=True) if a == b == c]
        rows = np.array([row / (naive_divisor(row, by) if by else 1) for row in own])
        np.testing.assert_allclose(found["mean"][c], rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found["standard_deviation"][c], rows.std(axis=0, ddof=1), rtol=1e-12)
        assert found["count"][c] == len(own)
        assert found["n_labelled"][c] == (label == c).sum()


def test_outputs_tell_the_class_of_the_larger_one():
    maps, (label, predicted) = drawn(30), classes(30)
    outputs = np.where(predicted[:, None] == [0, 1], 0.7, 0.3)
    wanted = class_composites(maps, predicted, label, by=None)
    xr.testing.assert_identical(class_composites(maps, outputs, label, by=None), wanted)
    tied = class_composites(maps, np.full((30, 2), 0.5), np.zeros(30, int), by=None)
    np.testing.assert_array_equal(tied["count"], [30, 0])


def test_a_large_mean_does_not_spoil_the_deviation():
    maps = np.array([[1e8 + 1, 5.0], [1e8 + 2, 5.0], [1e8 + 3, 5.0]])
    found = class_composites(maps, [1, 1, 1], [1, 1, 1], by=None)
    np.testing.assert_array_equal(found["standard_deviation"][1], [1.0, 0.0])


def test_a_class_without_correct_samples_is_marked_and_told(caplog):
    with caplog.at_level(logging.WARNING, "xairt"):
        found = class_composites(drawn(4), [1, 1, 1, 1], [1, 0, 0, 1], by=None)
    assert "class 'negative': no correctly predicted sample" in caplog.text
    np.testing.assert_array_equal(found["count"], [0, 2])
    np.testing.assert_array_equal(found["n_labelled"], [2, 2])
    assert np.isnan(found["mean"][0]).all()
    assert np.isnan(found["standard_deviation"][0]).all()
    assert np.isfinite(found["mean"][1]).sum() == 10


def test_one_sample_has_a_mean_and_no_deviation():
    maps = drawn(1)
    found = class_composites(maps, [1], [1], by=None)
    np.testing.assert_array_equal(found["mean"][1], maps[0])
    assert np.isnan(found["standard_deviation"]).all()


def test_maps_of_zeros_count_as_zeros_and_are_counted():
    maps = np.array([[0.0, 0.0, NAN], [2.0, 2.0, NAN], [0.0, 0.0, NAN]])
    found = class_composites(maps, [1, 1, 0], [1, 1, 0], by="sum")
    np.testing.assert_array_equal(found["zero_maps"], [1, 1])
    np.testing.assert_array_equal(found["mean"], [[0, 0, NAN], [0.25, 0.25, NAN]])


def test_labelled_composites_keep_methods_and_coordinates():
    values = np.random.default_rng(0).standard_normal((2, 9, 3, 4))
    dates = np.arange(9).astype("datetime64[D]")
    maps = xr.DataArray(
        values,
        {"method": ["a", "b"], "sample": np.arange(9), "lat": [0, 1, 2], "time": ("sample", dates)},
        ("method", "sample", "lat", "lon"),
        attrs={"long_name": "LRP", "units": "K"},
    )
    label, predicted = classes(9)
    found = class_composites(maps, predicted, label, ("lat", "lon"), by="absolute_sum")
    assert found["mean"].dims == ("class", "method", "lat", "lon")
    assert found["zero_maps"].dims == ("class", "method")
    assert "time" not in found.coords
    assert found["mean"].attrs == {"long_name": "mean of LRP / sum |LRP|", "units": "1"}
    for i in range(2):
        alone = class_composites(values[i].reshape(9, 12), predicted, label, by="absolute_sum")
        np.testing.assert_allclose(
            found["mean"][:, i].values.reshape(2, 12), alone["mean"].values, rtol=1e-13
        )


def test_samples_must_be_explained_for_their_own_class():
    maps, label = drawn(4), [0, 0, 1, 1]
    class_composites(maps, label, label, by=None, target=label)
    class_composites(maps, [1, 0, 1, 1], label, by=None, target=[1, 0, 1, 1])  # a wrong one does not matter
    with pytest.raises(DataError, match="2 correct samples are explained for the other class"):
        class_composites(maps, label, label, by=None, target=[1, 1, 1, 1])


@pytest.mark.parametrize(
    ("predicted", "label", "message"),
    [
        ([0, 1, 2], [0, 1, 1], "predicted: holds other numbers than 0"),
        ([0, 1, 1], [0, 1, 0.5], "label: holds other numbers than 0"),
        ([0, 1], [0, 1, 1], r"predicted \(2,\): does not fit 3 samples"),
        (np.zeros((3, 1)), [0, 1, 1], r"outputs \(samples, 2\)"),
        (np.full((3, 2), NAN), [0, 1, 1], "outputs are NaN or infinite"),
        ([0, 1, 1], np.zeros((3, 2)), r"label \(3, 2\): no class"),
    ],
)
def test_bad_classes_are_refused(predicted, label, message):
    with pytest.raises(DataError, match=message):
        class_composites(drawn(3), predicted, label, by=None)


def test_bad_relevance_is_refused():
    maps = drawn(3)
    maps[1, 0] = NAN
    with pytest.raises(DataError, match="1 cells are NaN in some samples only"):
        class_composites(maps, [0, 1, 1], [0, 1, 1], by=None)
    with pytest.raises(DataError, match=r"relevance \(12,\): not \(samples, cells\)"):
        class_composites(maps[0], [0], [0], by=None)
    with pytest.raises(DataError, match="empty"):
        class_composites(maps[:0], [], [], by=None)
    with pytest.raises(DataError, match="holds bool, no real numbers"):
        class_composites(maps > 0, [0, 1, 1], [0, 1, 1], by=None)
    labelled = xr.DataArray(drawn(3), {"sample": [4, 5, 6]}, dims=("sample", "cell"))
    other = xr.DataArray([0, 1, 1], {"sample": [5, 6, 7]}, dims="sample")
    with pytest.raises(DataError, match="label: coordinate 'sample' is that of other samples"):
        class_composites(labelled, [0, 1, 1], other, "cell", by=None)
    with pytest.raises(DataError, match="'sample' counts the samples"):
        class_composites(labelled, [0, 1, 1], [0, 1, 1], ("sample", "cell"), by=None)


# ----------------------------------------------------------------------------------------- frequency


def naive_percentile(cells, area, p: float) -> float:
    """The smallest value v such that cells with at most v make up p percent of the area."""
    total = sum(area)
    for v in sorted(cells):
        if sum(a for c, a in zip(cells, area, strict=True) if c <= v) >= p / 100 * total - 1e-12:
            return v
    raise AssertionError("no percentile")


def naive_frequency(maps, area, p: float, magnitude: bool) -> np.ndarray:
    found = np.full(maps.shape[1], NAN)
    valid = ~np.isnan(maps[0])
    found[valid] = 0
    for row in maps:
        cells = np.abs(row[valid]) if magnitude else row[valid]
        found[valid] += cells > naive_percentile(list(cells), list(area[valid]), p)
    return found / len(maps)


@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize("p", [0, 10, 37.5, 50, 90, 99])
def test_frequency_against_a_loop(p, magnitude):
    maps = np.round(drawn(25), 0)  # many ties
    area = np.random.default_rng(2).uniform(0.1, 2, 12)
    plain = frequency_above_percentile(maps, p, magnitude=magnitude)
    np.testing.assert_allclose(plain, naive_frequency(maps, np.ones(12), p, magnitude), rtol=1e-14)
    equal = frequency_above_percentile(maps, p, magnitude=magnitude, weights=np.full(12, 0.3))
    np.testing.assert_array_equal(equal, plain)
    weighted = frequency_above_percentile(maps, p, magnitude=magnitude, weights=area)
    np.testing.assert_allclose(weighted, naive_frequency(maps, area, p, magnitude), rtol=1e-14)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(0, 99), st.integers(0, 10**6))
def test_at_most_the_rest_of_the_area_is_above(cells, p, seed):
    rng = np.random.default_rng(seed)
    area = rng.uniform(0.1, 1, cells)
    found = frequency_above_percentile(rng.standard_normal((1, cells)), p, magnitude=False, weights=area)
    assert set(found) <= {0.0, 1.0}
    assert area @ found <= (1 - p / 100) * area.sum() + 1e-7


def test_equal_values_and_zeros_are_nowhere_above():
    maps = np.array([[2.0, 2.0, 2.0, NAN], [0.0, 0.0, 0.0, NAN]])
    np.testing.assert_array_equal(frequency_above_percentile(maps, 50, magnitude=False), [0, 0, 0, NAN])
    mostly_zero = [[0.0, 0.0, 0.0, -1.0, 1e-9]]
    np.testing.assert_array_equal(
        frequency_above_percentile(mostly_zero, 60, magnitude=False), [0, 0, 0, 0, 1]
    )
    np.testing.assert_array_equal(
        frequency_above_percentile(mostly_zero, 60, magnitude=True), [0, 0, 0, 1, 1]
    )


def test_frequency_of_labelled_maps():
    values = np.random.default_rng(0).standard_normal((2, 9, 3, 4))
    maps = xr.DataArray(values, {"method": ["a", "b"]}, ("method", "sample", "lat", "lon"))
    area = xr.DataArray([1.0, 2.0, 3.0], dims="lat")
    found = frequency_above_percentile(maps, 75, ("lat", "lon"), magnitude=True, weights=area)
    assert found.dims == ("method", "lat", "lon")
    assert found.attrs["long_name"] == "share of samples with |relevance| above its percentile 75"
    for i in range(2):
        wanted = naive_frequency(values[i].reshape(9, 12), np.repeat([1.0, 2.0, 3.0], 4), 75, True)
        np.testing.assert_allclose(found[i].values.ravel(), wanted, rtol=1e-14)


@pytest.mark.parametrize(
    ("percentile", "weights", "message"),
    [
        (100, None, "percentile=100: out of range"),
        (-1, None, "percentile=-1: out of range"),
        (NAN, None, "percentile=nan: out of range"),
        (50, np.ones(11), r"weights \(11,\): do not fit cells \(12,\)"),
        (50, np.zeros(12), "weights: not positive"),
    ],
)
def test_bad_percentiles_and_weights_are_refused(percentile, weights, message):
    with pytest.raises(DataError, match=message):
        frequency_above_percentile(drawn(3), percentile, magnitude=True, weights=weights)


# ----------------------------------------------------------------------------------- lag correlation


def red_noise(samples: int, cells: int, memory: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.zeros((samples, cells))
    for t in range(1, samples):
        x[t] = memory * x[t - 1] + rng.standard_normal(cells)
    return x


def naive_autocorrelation(x) -> float:
    a = x - x.mean()
    return sum(a[t] * a[t + 1] for t in range(len(a) - 1)) / sum(v * v for v in a)


@pytest.mark.parametrize("block", [1, 100, 2**22])
def test_lag_correlation_against_a_loop(block, monkeypatch):
    monkeypatch.setattr(xairt.metrics.samples, "BLOCK_VALUES", block)
    x = red_noise(120, 9, 0.6)
    x[:, 4] = NAN
    y = x[:, 0] + red_noise(120, 1, 0.6, seed=5)[:, 0]
    found = lag_correlation(x, y)
    for i in (0, 1, 2, 3, 5, 6, 7, 8):
        r = scipy.stats.pearsonr(x[:, i], y).statistic
        product = naive_autocorrelation(x[:, i]) * naive_autocorrelation(y)
        n = min(120, 120 * (1 - product) / (1 + product))
        p = 2 * scipy.stats.t.sf(abs(r) * math.sqrt((n - 2) / (1 - r * r)), n - 2)
        np.testing.assert_allclose(found["correlation"][i], r, rtol=1e-12)
        np.testing.assert_allclose(found["n_effective"][i], n, rtol=1e-12)
        np.testing.assert_allclose(found["p_value"][i], p, rtol=1e-9)
    assert np.isnan(found.isel(cell=4).to_array()).all()


def test_without_memory_p_is_that_of_scipy():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((50, 40)), rng.standard_normal(50)
    found = lag_correlation(x, y)
    free = np.flatnonzero(found["n_effective"] == 50)
    assert len(free) > 5
    wanted = [scipy.stats.pearsonr(x[:, i], y).pvalue for i in free]
    np.testing.assert_allclose(found["p_value"][free], wanted, rtol=1e-9)


def test_memory_without_relation_is_rarely_significant():
    """Of unrelated red noise 5 % of cells are below p = 0.05 with n_eff, far more with n."""
    x, y = red_noise(400, 1500, 0.9), red_noise(400, 1, 0.9, seed=9)[:, 0]
    found = lag_correlation(x, y)
    share = float((found["p_value"] < 0.05).mean())
    naive = np.mean(scipy.stats.pearsonr(x, y[:, None], axis=0).pvalue < 0.05)
    assert share < 0.09
    assert naive > 0.3


def test_known_correlations():
    y = np.array([1.0, 2.0, 0.0, 5.0, 3.0, 3.0])
    orthogonal = np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
    orthogonal = orthogonal - (y - y.mean()) * (orthogonal @ (y - y.mean())) / ((y - y.mean()) ** 2).sum()
    found = lag_correlation(np.stack([2 * y, -y, orthogonal, np.full(6, 4.0)], axis=1), y)
    np.testing.assert_allclose(found["correlation"], [1, -1, 0, NAN], atol=1e-12)
    np.testing.assert_allclose(found["p_value"], [0, 0, 1, NAN], atol=1e-6)


def test_lag_correlation_of_maps_keeps_coordinates():
    values = red_noise(20, 6, 0.1)
    dates = np.arange(20).astype("datetime64[D]")
    coords = {"time": ("sample", dates), "lat": [0.0, 5.0]}
    x = xr.DataArray(values.reshape(20, 2, 3), coords, ("sample", "lat", "lon"))
    y = xr.DataArray(values[:, 0], dims="sample")
    found = lag_correlation(x.transpose("lat", "sample", "lon"), y)
    assert found["correlation"].dims == ("lat", "lon")
    assert set(found.coords) == {"lat"}
    np.testing.assert_array_equal(
        found["correlation"].values.ravel(), lag_correlation(values, values[:, 0])["correlation"]
    )
    with pytest.raises(DataError, match="dates along 'sample' do not increase; sort"):
        lag_correlation(x[::-1], y[::-1])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (drawn(5), np.zeros(4), r"y \(4,\): does not fit 5 samples"),
        (drawn(5), np.zeros((5, 2)), "not one number for each sample"),
        (drawn(2), np.zeros(2), "2 samples are too few"),
        (drawn(3), [0.0, NAN, 1.0], "y: NaN or infinite"),
        (np.where(np.eye(3), NAN, 1.0), np.arange(3.0), "3 cells are NaN in some samples only"),
        (np.where(np.eye(3), np.inf, 1.0), np.arange(3.0), "x: infinite"),
    ],
)
def test_bad_series_are_refused(x, y, message):
    with pytest.raises(DataError, match=message):
        lag_correlation(x, y)


# ---------------------------------------------------------------------------------------- all of it


def test_example_of_the_page_prints_what_it_shows():
    examples = EXAMPLE.findall(read("relevance_maps.md"))
    assert len(examples) == 1
    for code, shown in examples:
        assert printed(code, {}) == shown


def test_relevance_of_real_sst_lies_on_the_target(data_dir):
    """A linear model of the target's own cells has its relevance there, where the correlation is largest."""
    from xairt import Grid
    from xairt.data.natural_earth import land_mask

    path = next(data_dir.rglob("ersstv5_anom_detrended_5deg*.nc"))
    with xr.open_dataset(path, decode_times=False) as dataset:
        sst = dataset["tos"].load()
    grid = Grid(~land_mask(sst["lat"], sst["lon"]), sst["lat"], sst["lon"])
    x = grid.to_vector(sst).values.astype(np.float64)
    lat, lon = np.transpose([grid.cell(i) for i in range(grid.n_valid)])
    box = (40, 55, 200, 235)
    inside = (lat >= 40) & (lat <= 55) & (lon >= 200) & (lon <= 235)
    weights = np.where(inside, grid.area_weights, 0.0) / grid.area_weights[inside].sum()
    y = x @ weights
    relevance = np.sign(y)[:, None] * x * weights
    label = (y > 0).astype(int)
    composites = class_composites(relevance, label, label, by="absolute_sum")
    shares = regional_shares(composites["mean"], {"box": box}, grid=grid, area_weighted=False)
    np.testing.assert_allclose(shares["magnitude"], 1.0, rtol=1e-12)
    found = lag_correlation(x[:-1], y[1:])
    assert inside[np.argmax(found["correlation"].values)]
    assert float(found["n_effective"].median()) < 467 / 2
    agreement = pattern_correlation(composites["mean"], found["correlation"].values, grid=grid)
    for c, mean in enumerate(composites["mean"].values):
        cov = np.cov(mean, found["correlation"].values, aweights=grid.area_weights)
        wanted = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
        np.testing.assert_allclose(agreement["correlation"][c], wanted, rtol=1e-9)
