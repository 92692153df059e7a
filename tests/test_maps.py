"""Linear maps of the canonical graph as rules use them: linear in input and kernel, with an exact way back."""

from __future__ import annotations

import networks
import numpy as np
import pytest
import tensorflow as tf
from graphs import chain
from test_layer_rules import LAYERS

from xairt import attribute
from xairt.models.graph import Evaluator, convert, pull_back
from xairt.models.graph.nodes import (
    AnyConvolution,
    Convolution,
    DepthwiseConvolution,
    Linear,
    TransposedConvolution,
)

L = tf.keras.layers

PRECISION = {"float32": 1e-4, "float64": 1e-11}


def linear_nodes(layer: str) -> list[tuple]:
    """Return the map, kernel and shape of the input of every convolution that a layer becomes."""
    shape, kind, options = LAYERS[layer]
    nodes = convert(chain(shape, kind(**options))).nodes
    return [
        (n.op.map, n.op.kernel, nodes[n.inputs[0]].shape, n.shape) for n in nodes if isinstance(n.op, Linear)
    ]


def drawn(rng, shape, dtype) -> tf.Tensor:
    return tf.constant(rng.normal(size=shape), dtype)


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("layer", LAYERS)
def test_maps_are_linear_and_go_back(layer, dtype):
    rng = np.random.default_rng(0)
    for apply, kernel, before, after in linear_nodes(layer):
        x, y = drawn(rng, (3, *before), dtype), drawn(rng, (3, *after), dtype)
        first, second = (drawn(rng, kernel.shape, dtype) for _ in range(2))

        @tf.function(
            input_signature=[tf.TensorSpec((None, *before), dtype), tf.TensorSpec((None, *after), dtype)]
        )
        def both(x, y, apply=apply, first=first):
            result = apply(x, first)
            return result, pull_back(lambda v: apply(v, first), x, y)

        assert tuple(both.get_concrete_function().outputs[0].shape) == (None, *after)
        result, back = both(x, y)
        scale = np.abs(result).max() * PRECISION[dtype]
        np.testing.assert_allclose(apply(2 * x, first), 2 * result, atol=scale)
        np.testing.assert_allclose(
            apply(x, 2 * first - second), 2 * result - apply(x, second), atol=10 * scale
        )
        products = tf.reduce_sum(result * y), tf.reduce_sum(x * back)
        np.testing.assert_allclose(*products, atol=scale * np.size(y))
        assert np.abs(products[0]) > scale * np.size(y)


@pytest.mark.parametrize("layer", LAYERS)
def test_one_sample_stands_for_all(layer):
    for apply, kernel, before, after in linear_nodes(layer):
        ones = apply(tf.ones((1, *before)), tf.ones_like(kernel))
        assert ones.shape == (1, *after)
        # ones on ones count the inputs that each output sees: whole numbers
        np.testing.assert_array_equal(ones, np.round(ones))


def test_kinds_of_convolution_are_told_apart():
    kinds = {layer: [type(apply) for apply, *_ in linear_nodes(layer)] for layer in LAYERS}
    for layer, found in kinds.items():
        name = layer.split(",")[0]
        wanted = [Convolution]
        if name.startswith("Depthwise"):
            wanted = [DepthwiseConvolution]
        elif name.startswith("Separable"):
            wanted = [DepthwiseConvolution, Convolution]
        elif name.endswith("Transpose"):
            wanted = [TransposedConvolution]
        assert found == wanted
        assert all(issubclass(kind, AnyConvolution) for kind in found)


def shortcut() -> tf.keras.Model:
    """A residual block: strides larger than the window, as in the shortcuts of ResNet."""
    x = tf.keras.Input((7, 6, 3))
    branch = L.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    total = L.Add()([L.Conv2D(4, 1, strides=2)(x), L.Conv2DTranspose(4, 1, strides=1)(branch)])
    wide = L.Conv2DTranspose(2, 1, strides=2, activation="relu")(L.ReLU()(total))
    return networks.randomised(tf.keras.Model(x, L.Dense(2)(L.Flatten()(wide))))


def padded_twice(axes: int) -> tf.keras.Model:
    """Zeros around the input, and those of the convolution."""
    pad, conv = getattr(L, f"ZeroPadding{axes}D"), getattr(L, f"Conv{axes}D")
    return chain((*(5, 4, 3)[:axes], 2), pad(1), conv(3, 2, padding="same", activation="relu"))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_compiled_padding_is_not_forgotten(axes):
    model = padded_twice(axes)
    x = tf.constant(networks.samples(model))
    (got,) = tf.function(Evaluator(convert(model)))(x)
    np.testing.assert_allclose(got, model(x), rtol=1e-5, atol=1e-6)


WHOLE = (networks.volume, networks.separable, networks.decoder, networks.averaged, shortcut)


@pytest.mark.parametrize("make", WHOLE)
def test_compiled_networks_compute_what_keras_does(make):
    model = make()
    x = tf.constant(networks.samples(model))
    (got,) = tf.function(Evaluator(convert(model)))(x)
    np.testing.assert_allclose(got, model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", WHOLE)
def test_compiled_relevance_agrees_in_both_precisions(make):
    model = make()
    x = networks.samples(model)
    single, double = (
        attribute(model, x, "lrp.alpha_1_beta_0", dtype=dtype).attribution.values for dtype in PRECISION
    )
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-4 * np.abs(double).max())
    assert np.isfinite(double).all()
