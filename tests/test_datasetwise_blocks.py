"""Moments merged from blocks, and blocks cut anew."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from xairt.datasetwise.moments import Moments
from xairt.datasetwise.reading import rebatched


def test_moments_of_blocks_are_those_of_all():
    rng = np.random.default_rng(0)
    x, series = rng.standard_normal((100, 5)) + 1e4, rng.standard_normal((100, 2))
    whole, merged = Moments.of(x, series), Moments.of(x[:1], series[:1])
    for low, high in ((1, 2), (2, 60), (60, 100)):
        merged = merged.merged(Moments.of(x[low:high], series[low:high]))
    np.testing.assert_allclose(merged.squares, ((x - x.mean(0)) ** 2).sum(0), rtol=1e-9)
    for name in ("mean", "squares", "series_mean", "series_products", "products"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sizes", [[1] * 10, [3, 3, 4], [10], [7, 1, 2]])
def test_rebatched(sizes):
    edges = np.cumsum([0, *sizes])
    values = np.arange(20.0).reshape(10, 2)
    parts = [(values[a:b], values[a:b, :1]) for a, b in itertools.pairwise(edges)]
    found = list(rebatched(parts, 4))
    assert [start for start, _, _ in found] == [0, 4, 8]
    np.testing.assert_array_equal(np.concatenate([x for _, x, _ in found]), values)
    np.testing.assert_array_equal(np.concatenate([y for _, _, y in found]), values[:, :1])
