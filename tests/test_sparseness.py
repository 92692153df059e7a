"""Sparseness of an attribution, and agreement between networks."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xairt.errors import DataError
from xairt.metrics import pairwise_correlation, pearson, sparseness

NAN = float("nan")


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def drawn(samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((samples, 12))


# ----------------------------------------------------------------------------------------- sparseness


def naive_gini(a) -> float:
    """The form of the paper, in which the shares of the smaller cells are weighted more."""
    v = sorted(abs(value) for value in a)
    return 1 - 2 * sum(v[k] / sum(v) * (len(v) - (k + 1) + 0.5) / len(v) for k in range(len(v)))


def test_sparseness_is_the_gini_index():
    a = drawn(6)
    np.testing.assert_allclose(sparseness(a), [naive_gini(row) for row in a], rtol=1e-13)
    np.testing.assert_allclose(sparseness(a.T, axis=0), sparseness(a), rtol=1e-15)
    np.testing.assert_allclose(sparseness(a.reshape(6, 3, 4), axis=(1, 2)), sparseness(a), rtol=1e-15)


def test_sparseness_of_one_cell_and_of_equal_cells():
    for n in (1, 2, 7, 458):
        one = np.zeros(n)
        one[n // 2] = -0.3
        assert sparseness(one) == pytest.approx(1 - 1 / n, rel=1e-14)
        assert sparseness(np.full(n, 0.1)) == 0.0


def test_sparseness_leaves_land_out_and_nothing_is_nan():
    a = drawn(4)
    a[0, 3:6] = NAN
    a[1], a[2] = NAN, 0.0
    found = sparseness(a)
    assert found[0] == pytest.approx(naive_gini(np.delete(a[0], [3, 4, 5])), rel=1e-13)
    np.testing.assert_array_equal(np.isnan(found), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(sparseness(a, skipna=False)), [True, True, True, False])
    assert np.isnan(sparseness(np.zeros((2, 0)))).all()


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6, width=32)),
    st.sampled_from([1e-200, -3.0, 1e200]),
    st.randoms(use_true_random=False),
)
def test_sparseness_does_not_feel_scale_sign_and_order(a, scale, random):
    found = sparseness(a)
    if not a.any():
        assert np.isnan(found)
        return
    assert -1e-12 <= found <= 1 - 1 / len(a) + 1e-12
    shuffled = random.sample(list(a), len(a))
    np.testing.assert_allclose(sparseness(shuffled), found, atol=1e-15)
    np.testing.assert_allclose(sparseness(a * scale), found, atol=1e-12)


def test_sparseness_of_maps_by_name():
    maps = xr.DataArray(
        drawn(4).reshape(4, 3, 4), dims=("sample", "lat", "lon"), coords={"sample": [5, 6, 7, 8]}
    )
    found = sparseness(maps, ["lat", "lon"])
    assert found.dims == ("sample",)
    np.testing.assert_array_equal(found.sample, [5, 6, 7, 8])
    np.testing.assert_array_equal(found.values, sparseness(maps.values, axis=(1, 2)))
    np.testing.assert_array_equal(sparseness(maps.transpose("lon", "sample", "lat"), ["lat", "lon"]), found)


def test_sparseness_refuses_what_does_not_fit():
    maps = xr.DataArray(np.ones((2, 3)), dims=("sample", "cell"))
    with pytest.raises(DataError, match="dim: missing; give some of cell, sample"):
        sparseness(maps)
    with pytest.raises(DataError, match="dim=lon: no such dimension; give some of cell, sample"):
        sparseness(maps, "lon")
    with pytest.raises(DataError, match="dim=cell: plain arrays have no dimension names; use axis="):
        sparseness(maps.values, "cell")
    with pytest.raises(DataError, match=r"attribution \(2, 3\): axis 2 does not fit"):
        sparseness(maps.values, axis=2)
    with pytest.raises(DataError, match="attribution: infinite; give finite numbers"):
        sparseness([1.0, np.inf])


# --------------------------------------------------------------------------------- pairwise correlation


def test_pairs_are_correlated_sample_by_sample():
    a = np.random.default_rng(0).standard_normal((4, 3, 20))
    a[:, :, 7] = NAN
    found = pairwise_correlation(a)
    assert found.shape == (6, 3)
    kept = np.delete(a, 7, axis=2)
    for row, (i, j) in zip(found, itertools.combinations(range(4), 2), strict=True):
        for sample in range(3):
            wanted = scipy.stats.pearsonr(kept[i, sample], kept[j, sample]).statistic
            assert row[sample] == pytest.approx(wanted, rel=1e-12)


def test_equal_networks_agree_and_opposite_ones_do_not():
    a = drawn(3)
    np.testing.assert_allclose(pairwise_correlation(np.stack([a, 2 * a, -a])), [[1] * 3, [-1] * 3, [-1] * 3])
    constant = pairwise_correlation(np.stack([a, np.ones_like(a)]))
    assert np.isnan(constant).all()


def test_pairs_of_maps_by_name():
    values = np.random.default_rng(1).standard_normal((3, 2, 4, 5))
    area = xr.DataArray(np.linspace(0.2, 1.0, 4), dims="lat")
    maps = xr.DataArray(values, dims=("network", "sample", "lat", "lon"), coords={"network": ["a", "b", "c"]})
    found = pairwise_correlation(maps, ["lat", "lon"], weights=area)
    assert found.dims == ("pair", "sample")
    assert list(zip(found.network_a.values, found.network_b.values, strict=True)) == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    weights = area.values[:, None]
    plain = pairwise_correlation(values, axis=(1, 2), weights=weights)
    np.testing.assert_allclose(found, plain, rtol=1e-14)
    assert found.values[1, 0] == pytest.approx(
        pearson(values[0, 0], values[2, 0], axis=(0, 1), weights=weights), rel=1e-14
    )
    seeds = maps.rename(network="seed").drop_vars("seed")
    np.testing.assert_array_equal(
        pairwise_correlation(seeds, ["lat", "lon"], network="seed").network_b, [1, 2, 2]
    )


def test_pairs_need_two_networks():
    one = xr.DataArray(np.ones((1, 2, 3)), dims=("network", "sample", "cell"))
    with pytest.raises(
        DataError, match=r"attributions: 1 network\(s\) make no pair; give those of two or more"
    ):
        pairwise_correlation(one.values)
    with pytest.raises(DataError, match=r"attributions: 1 network\(s\) make no pair"):
        pairwise_correlation(one, "cell")
    with pytest.raises(DataError, match="dim=seed: no such dimension; give some of cell, network, sample"):
        pairwise_correlation(one, "cell", network="seed")
