"""LIME by the lime package against the regression written out."""

from __future__ import annotations

import sys

import networks
import numpy as np
import pytest
import tensorflow as tf
from graphs import chain

from xairt import attribute, explainer
from xairt.errors import MethodError

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers


@pytest.fixture
def package():
    return pytest.importorskip("lime", reason="the extra [lime] is not installed")


def regression(model, x, baselines, key, groups, nsamples, width=0.25):
    """Return ridge weights of the players on the mean over baselines, for target 0."""
    players = int(groups.max()) + 1
    on = np.random.default_rng(key).integers(0, 2, (nsamples, players)).astype(bool)
    on[0] = True
    y = np.mean([model(np.where(on[:, groups], x, b)).numpy()[:, 0] for b in baselines], axis=0)
    cosine = on.sum(axis=1) / np.sqrt(np.maximum(on.sum(axis=1), 1) * players)
    weights = np.sqrt(np.exp(-((1 - cosine) ** 2) / width**2))
    centre, mean = np.average(on, axis=0, weights=weights), np.average(y, weights=weights)
    z = on - centre
    return np.linalg.solve(z.T @ (weights[:, None] * z) + np.eye(players), z.T @ (weights * (y - mean)))


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("groups", [None, np.array([8, 3, 3, 1, 8, 3, 1])])
def test_weights_are_those_of_the_regression(groups):
    model = networks.mlp()
    x, baselines = networks.samples(model, 3), networks.samples(model, 2, seed=4)
    out = attribute(model, x, "lime", target=0, baseline=baselines, nsamples=200, groups=groups, seed=6)
    index = np.arange(7) if groups is None else np.unique(groups, return_inverse=True)[1]
    for i, sample in enumerate(x):
        want = regression(model, sample, baselines, [6, i], index, 200) / np.bincount(index)
        np.testing.assert_allclose(out.attribution[i], want[index], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(out.prediction, model(x).numpy()[:, 0], rtol=1e-5)
    assert np.isnan(out.completeness_gap).all()


@pytest.mark.usefixtures("package")
def test_features_of_a_linear_model_are_in_their_places():
    model = chain((12,), L.Dense(1))
    x, weights = networks.samples(model, 2), model.get_weights()[0][:, 0]
    out = attribute(model, x, "lime", baseline=0.5, nsamples=4000)
    want = (x - 0.5) * weights
    np.testing.assert_allclose(out.attribution, want, rtol=5e-3, atol=1e-3)


@pytest.mark.usefixtures("package")
def test_copies_are_keyed_by_seed_and_sample():
    model = networks.mlp()
    x = networks.samples(model, 4)
    explain = explainer(model, "lime", nsamples=50)
    whole = explain(x, seed=2)
    np.testing.assert_array_equal(
        explain(x[2:], seed=2, sample_index=[2, 3]).attribution, whole.attribution[2:]
    )
    np.testing.assert_array_equal(explainer(model, "lime", nsamples=50, batch_size=3)(x, seed=2).attribution,
                                  whole.attribution)  # fmt: skip
    assert np.abs(explain(x, seed=3).attribution - whole.attribution).max() > 1e-4
    twice = explain(np.stack([x[0], x[0]]))
    assert np.abs(twice.attribution[0] - twice.attribution[1]).max() > 1e-4


@pytest.mark.usefixtures("package")
def test_images_are_explained_by_groups():
    model = networks.cnn()
    x = networks.samples(model, 1)
    out = attribute(model, x, "lime", groups=np.arange(144).reshape(9, 8, 2) // 24, nsamples=60)
    assert out.attribution.shape == x.shape
    assert len(np.unique(out.attribution)) == 6


def test_a_missing_package_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lime", None)
    with pytest.raises(MethodError, match=r"the package lime is not installed: pip install 'xairt\[lime\]'"):
        explainer(networks.mlp(), "lime")


def test_the_native_engine_has_no_lime():
    with pytest.raises(MethodError, match="lime has no engine 'native': use engine='lime'"):
        explainer(networks.mlp(), "lime", engine="native")
