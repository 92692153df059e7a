"""Blocks of samples: sizes, XLA, and what many inputs change in the positive pot."""

from __future__ import annotations

import functools

import networks
import numpy as np
import pytest
import tensorflow as tf

import xairt
from xairt.attribution import batching, blocks
from xairt.attribution.network import Network
from xairt.models.graph import convert

L = tf.keras.layers
METHODS = ("gradient", "lrp.alpha_1_beta_0", "integrated_gradients(steps=8)", "smoothgrad(augment_by_n=5)")


def wide(activation="relu", seed: int = 0) -> tf.keras.Model:
    """Dense layers of enough weights that XLA compiles them."""
    layers = [L.InputLayer(90), L.Dense(250, "relu"), L.Dense(40, activation), L.Dense(3)]
    return networks.randomised(tf.keras.Sequential(layers), seed)


MODELS = {"mlp": networks.mlp, "wide": wide, "cnn": networks.cnn}


@functools.cache
def case(network: str) -> tuple[tf.keras.Model, np.ndarray]:
    model = MODELS[network]()
    return model, networks.samples(model, 1200)


def test_xla_takes_dense_networks_of_some_size():
    chosen = {name: Network.of(case(name)[0]).compiles_by_xla for name in MODELS}
    assert chosen == {"mlp": False, "wide": True, "cnn": False}


@pytest.mark.parametrize("network", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_small_and_large_blocks_give_the_same_bits(network, method):
    model, x = case(network)
    explain = xairt.explainer(model, method)
    sizes = explain._engine.sizes
    assert len(sizes) > 1 or "(" in method
    n = sum(sizes) + 3
    x = np.resize(x, (n, *x.shape[1:]))
    assert set(sizes) <= set(batching.plan(n, sizes))
    whole = explain(x)
    for rows in (slice(0, 3), slice(n // 2, n // 2 + 70), slice(n - 1, n)):
        part = explain(x[rows], sample_index=range(n)[rows])
        np.testing.assert_array_equal(part.attribution, whole.attribution[rows])


def square_by_python(values):
    """Square that XLA cannot compile: it leaves TensorFlow."""
    return tf.ensure_shape(tf.py_function(tf.square, [values], values.dtype), values.shape)


PYTHON = {
    "target": (lambda: wide(), {"target": lambda y: square_by_python(y[:, 1])}),
    "activation": (lambda: wide(square_by_python), {"target": 1}),
}
PLAIN = {
    "target": (lambda: wide(), {"target": lambda y: tf.square(y[:, 1])}),
    "activation": (lambda: wide(tf.square), {"target": 1}),
}


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients"])
@pytest.mark.parametrize("where", PYTHON)
def test_python_code_of_the_user_is_not_given_to_xla(where, method):
    x = case("wide")[1][:4]
    got, want = (xairt.attribute(make(), x, method, **o) for make, o in (PYTHON[where], PLAIN[where]))
    np.testing.assert_allclose(got.attribution, want.attribution, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.prediction, want.prediction, rtol=1e-5)
    assert abs(want.attribution).max() > 1e-2


@pytest.mark.parametrize("method", METHODS)
def test_xla_agrees_with_tensorflow(method, monkeypatch):
    model, x = case("wide")
    by_xla = xairt.explainer(model, method)(x[:20])
    monkeypatch.setattr(Network, "compiles_by_xla", False)
    plain = xairt.explainer(model, method)(x[:20])
    largest = abs(plain.attribution).max("feature")
    assert (abs(by_xla.attribution - plain.attribution).max("feature") <= 2e-5 * largest).all()


@pytest.mark.parametrize("evaluations", [1, 3, 64, 500, 10_000])
@pytest.mark.parametrize("rows", [1, 64, 4096])
def test_blocks_hold_the_rows_that_fit(rows, evaluations):
    sizes = blocks.block_sizes(rows, evaluations)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == 1 or sizes[-1] * evaluations <= rows
    assert sizes[0] <= 2 or sizes[0] * evaluations <= blocks.FEW_ROWS
    assert blocks.block_sizes(2 * rows, evaluations)[-1] >= sizes[-1]


@pytest.mark.parametrize("sizes", [(1,), (8,), (16, 64), (64, 512, 4096), (2, 8, 64)])
def test_plans_hold_all_samples_with_little_padding(sizes):
    for n in [*range(1, 70), 500, 1000, 2047, 2049, 5000, 9999]:
        found = batching.plan(n, sizes)
        assert set(found) <= set(sizes)
        assert found == sorted(found, reverse=True)
        assert 0 <= sum(found) - n < max(sizes[0], found[-1] / 2)


@pytest.mark.parametrize("evaluations", [1, 64])
def test_small_blocks_hold_few_samples_of_a_costly_network(evaluations):
    cheap, costly = (blocks.block_sizes(1024, evaluations, n) for n in (2**19, 2**27))
    assert cheap == blocks.block_sizes(1024, evaluations)
    assert costly[0] == 2
    assert costly[-1] == cheap[-1]


@pytest.mark.parametrize(("n", "at_once"), [(1, 1), (7, 3), (8, 4), (5, 100)])
def test_chunks_hold_every_number_once(n, at_once):
    table = blocks.chunks(n, at_once)
    assert table.shape[1] <= at_once
    np.testing.assert_array_equal(table[table >= 0], np.arange(n))


def test_rows_at_once_are_bounded_by_memory():
    image = networks.randomised(
        tf.keras.Sequential([L.InputLayer((256, 256, 3)), L.Conv2D(8, 3), L.Flatten()])
    )
    network = Network.of(image)
    rows = blocks.rows_at_once(network, "float32")
    numbers = sum(int(np.prod(node.shape)) for node in network.graph.nodes)
    assert rows * numbers * 4 <= blocks.BLOCK_BYTES
    assert blocks.rows_at_once(network, "float64") <= rows
    assert blocks.rows_at_once(Network.of(networks.mlp()), "float32") == blocks.MOST_ROWS


@pytest.mark.parametrize("bias", ["canonical", "innvestigate", "ignore"])
def test_positive_pot_of_many_inputs(bias):
    model, x = case("wide")
    x = x[:6].astype(float)
    out = xairt.attribute(model, x, "lrp.alpha_beta(alpha=1, beta=0)", target=1, bias=bias)
    weights = [(node.op.kernel, node.op.bias) for node in convert(model).nodes if hasattr(node.op, "kernel")]
    want = by_hand(x, weights, bias)
    np.testing.assert_allclose(out.attribution, want, rtol=1e-3, atol=1e-5 * abs(want).max())


def by_hand(x: np.ndarray, weights: list, bias: str) -> np.ndarray:
    """Return alpha 1, beta 0 of output 1 of dense layers with ReLU between them, in float64."""
    inputs = [x]
    for w, b in weights:
        inputs.append(np.maximum(inputs[-1] @ w + b, 0))
    logits = inputs[-2] @ weights[-1][0] + weights[-1][1]
    relevance = np.where(np.arange(logits.shape[1]) == 1, logits, 0)
    for a, (w, b) in zip(inputs[-2::-1], weights[::-1], strict=True):
        terms = np.maximum(a[:, :, None] * w, 0)
        kept = {"canonical": np.maximum(b, 0), "innvestigate": b, "ignore": 0 * b}[bias]
        pot = terms.sum(axis=1) + kept
        share = np.divide(relevance, pot, out=np.zeros_like(relevance), where=pot != 0)
        relevance = (terms * share[:, None]).sum(axis=2)
    return relevance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("positive", [1e-5, 1e-3, 0.1, 3.0])
def test_few_positive_contributions_among_many_negative_ones(positive, dtype):
    model = tf.keras.Sequential([L.InputLayer(80), L.Dense(1, use_bias=False)])
    kernel = np.full((80, 1), -1.0)
    kernel[[3, 5], 0] = 0.75 * positive, 0.25 * positive
    model.set_weights([kernel])
    out = xairt.attribute(model, np.ones((2, 80)), "lrp.alpha_1_beta_0", dtype=dtype)
    want = np.zeros(80)
    want[[3, 5]] = np.array([0.75, 0.25]) * (positive - 78)
    np.testing.assert_allclose(out.attribution, [want, want], rtol=1e-5)
    assert (out.lost_to_empty_pot == 0).all()


def test_empty_pot_of_many_inputs_is_empty():
    model = tf.keras.Sequential([L.InputLayer(100), L.Dense(2, "relu"), L.Dense(1, use_bias=False)])
    kernel = np.random.default_rng(0).uniform(0.1, 1, (100, 2)) * [-1, 1]
    model.set_weights([kernel, np.array([60.0, 0.0]), np.ones((2, 1))])
    x = np.random.default_rng(1).uniform(0.1, 1, (5, 100))
    first = np.maximum(x @ kernel[:, 0] + 60, 0)
    assert (first > 1).all()
    out = xairt.attribute(model, x, "lrp.alpha_1_beta_0_IB")
    np.testing.assert_allclose(out.lost_to_empty_pot, first, rtol=1e-5)
    np.testing.assert_allclose(out.attribution, x * kernel[:, 1], rtol=1e-5)
