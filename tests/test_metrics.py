"""Correlations and R2 on cases with known answers and against scipy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xairt.errors import DataError
from xairt.metrics import pearson, r2, spearman

BOTH = pytest.mark.parametrize("score", [pearson, spearman])
RAMP = np.arange(5.0)


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@BOTH
def test_known_answers(score):
    assert score(RAMP, 3 * RAMP + 1) == pytest.approx(1.0, abs=1e-15)
    assert score(RAMP, -RAMP) == pytest.approx(-1.0, abs=1e-15)
    assert score([1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]) == 0.0


@BOTH
def test_matches_scipy_over_samples(score):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 40)), rng.integers(0, 6, (7, 40)).astype(float)
    reference = scipy.stats.pearsonr if score is pearson else scipy.stats.spearmanr
    wanted = [reference(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(score(a, b), wanted, rtol=1e-12)
    np.testing.assert_allclose(score(a.T, b.T, axis=0), wanted, rtol=1e-12)
    np.testing.assert_allclose(score(a.reshape(7, 5, 8), b.reshape(7, 5, 8), axis=(1, 2)), wanted, rtol=1e-12)


@BOTH
def test_nan_pairs_are_left_out(score):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((3, 30)), rng.standard_normal((3, 30))
    a[0, :4] = np.nan
    b[0, 3:6] = np.nan
    found = score(a, b)
    assert found[0] == pytest.approx(score(a[0, 6:], b[0, 6:]), rel=1e-13)
    strict = score(a, b, skipna=False)
    assert np.isnan(strict[0])
    np.testing.assert_array_equal(strict[1:], found[1:])


@BOTH
def test_undefined_is_nan_without_warning(score):
    nothing = np.full(5, np.nan)
    for a in (np.full(5, 0.1), nothing, np.array([1.0, *nothing[1:]])):
        assert np.isnan(score(a, RAMP))
        assert np.isnan(score(RAMP, a))
    many = np.array([np.full(5, 0.1), RAMP])
    np.testing.assert_array_equal(np.isnan(score(many, RAMP)), [True, False])


@BOTH
def test_no_samples_gives_no_scores(score):
    assert score(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)
    assert np.isnan(score(np.zeros((2, 0)), np.zeros((2, 0)))).all()


@BOTH
@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1e200])
def test_scale_does_not_matter(score, scale):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(20), rng.standard_normal(20)
    assert score(a * scale, b) == pytest.approx(score(a, b), rel=1e-12)


def test_integer_weights_repeat_pairs():
    rng = np.random.default_rng(3)
    a, b, counts = rng.standard_normal(12), rng.standard_normal(12), rng.integers(0, 4, 12)
    wanted = scipy.stats.pearsonr(np.repeat(a, counts), np.repeat(b, counts)).statistic
    assert pearson(a, b, weights=counts) == pytest.approx(wanted, rel=1e-12)
    for weight in (3.0, 1e-200, 1e200):
        assert pearson(a, b, weights=np.full(12, weight)) == pytest.approx(pearson(a, b), rel=1e-12)


@BOTH
def test_weight_zero_leaves_out(score):
    a, b = np.array([1.0, 2.0, 3.0, 1e6]), np.array([2.0, 1.0, 5.0, -1e6])
    assert score(a, b, weights=[1, 1, 1, 0]) == pytest.approx(score(a[:3], b[:3]), rel=1e-12)
    assert np.isnan(score([1.0, 1.0, 2.0], [1.0, 2.0, 3.0], weights=[1, 1, 0]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=12))
def test_symmetric_and_bounded(pairs):
    a, b = np.array(pairs, dtype=float).T
    found = pearson(a, b)
    np.testing.assert_array_equal(found, pearson(b, a))
    constant = a.min() == a.max() or b.min() == b.max()
    assert np.isnan(found) == constant
    if not constant:
        assert -1.0 <= found <= 1.0
        order = np.random.default_rng(0).permutation(len(a))
        assert pearson(a[order], b[order]) == pytest.approx(found, abs=1e-12)


@BOTH
def test_dataarrays_by_name(score):
    rng = np.random.default_rng(4)
    coords = {"lat": [10.0, 0.0], "lon": [0.0, 10.0, 20.0]}
    a = xr.DataArray(rng.standard_normal((4, 2, 3)), dims=("sample", "lat", "lon"), coords=coords)
    a[:, 0, 0] = np.nan
    truth = xr.DataArray(rng.standard_normal((3, 2, 4)), dims=("lon", "lat", "sample"), coords=coords)
    area = xr.DataArray([1.0, 2.0], dims="lat", coords={"lat": coords["lat"]})
    found = score(a, truth, dim=("lat", "lon"), weights=area)
    assert found.dims == ("sample",)
    weights = np.repeat([[1.0], [2.0]], 3, axis=1)
    wanted = score(a.values, truth.values.transpose(2, 1, 0), axis=(1, 2), weights=weights)
    np.testing.assert_allclose(found, wanted, rtol=1e-14)
    assert score(a, truth, dim="lat").dims == ("sample", "lon")


def test_arrays_stay_untouched():
    a, b = np.array([1.0, np.nan, 3.0, 5.0]), np.array([1.0, 2.0, 4.0, 3.0])
    copies = a.copy(), b.copy()
    pearson(a, b, weights=[1, 1, 0, 1])
    spearman(a, b)
    np.testing.assert_array_equal(a, copies[0])
    np.testing.assert_array_equal(b, copies[1])


def test_bad_input_is_one_line():
    labelled = xr.DataArray(np.zeros((2, 3)), dims=("lat", "lon"), coords={"lat": [0.0, 1.0]})
    with pytest.raises(DataError, match="shapes or axis -1 do not fit"):
        pearson(np.zeros(3), np.zeros(4))
    with pytest.raises(DataError, match="shapes or axis 2 do not fit"):
        pearson(np.zeros(3), np.zeros(3), axis=2)
    with pytest.raises(DataError, match="plain arrays have no dimension names"):
        pearson(RAMP, RAMP, dim="cell")
    with pytest.raises(DataError, match="dim: missing; give some of lat, lon"):
        pearson(labelled, labelled)
    with pytest.raises(DataError, match="dim=cell: no such dimension"):
        pearson(labelled, labelled, dim="cell")
    with pytest.raises(DataError, match="mixed; give DataArrays only"):
        pearson(labelled, labelled.values, dim="lat")
    with pytest.raises(DataError, match="coordinates differ"):
        pearson(labelled, labelled.assign_coords(lat=[0.0, 2.0]), dim="lat")
    with pytest.raises(DataError, match="weights: negative or NaN"):
        pearson(RAMP, RAMP, weights=[-1, 1, 1, 1, 1])


def test_r2_known_answers():
    assert r2(RAMP, RAMP[:, np.newaxis]) == 1.0
    assert r2(RAMP, np.full(5, 2.0)) == 0.0
    assert r2(RAMP, -RAMP) < 0
    assert np.isnan(r2(np.ones(4), RAMP[:4]))
    with pytest.raises(DataError, match="shapes do not fit"):
        r2(RAMP, RAMP[:3])
