"""Batch normalization folds into its neighbours where that is exact, and stays a layer where it is not."""

from __future__ import annotations

import graphs
import naive
import networks
import numpy as np
import pytest
import tensorflow as tf
from graphs import chain, functional
from hypothesis import given, settings
from hypothesis import strategies as st

from xairt import attribute
from xairt.models.graph import Evaluator, convert
from xairt.models.graph.nodes import Linear, Scale

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers
VECTOR, SEQUENCE, IMAGE, VOLUME = (5,), (10, 3), (7, 6, 2), (4, 5, 3, 2)


def relu_dense(shape, *layers):
    return lambda: chain(shape, *layers, L.Activation("relu"), L.Dense(3))


def read_by_two():
    def connect(x):
        normalised = L.BatchNormalization()(L.ReLU()(x))
        return L.Concatenate()([L.Dense(2)(normalised), L.Dense(3)(normalised)])

    return functional(VECTOR, connect)


def linear_layer_read_by_two():
    def connect(x):
        dense = L.Dense(4)(x)
        return L.Add()([L.BatchNormalization()(dense), dense])

    return functional(VECTOR, connect)


def normalised_shared_layer():
    """A dense layer used twice, normalised in one of its two uses."""
    dense = L.Dense(5)
    return functional(
        VECTOR, lambda x: L.Dense(2)(L.ReLU()(L.BatchNormalization()(dense(L.ReLU()(dense(x))))))
    )


def nested_model_twice():
    inner = tf.keras.Sequential([L.InputLayer(4), L.Dense(4, "relu"), L.BatchNormalization()], name="inner")
    return functional(VECTOR, lambda x: L.Dense(2)(inner(inner(L.Dense(4)(x)))))


def after_addition():
    return functional(
        VECTOR, lambda x: L.ReLU()(L.BatchNormalization()(L.Add()([L.Dense(4)(x), L.Dense(4)(x)])))
    )


BN = L.BatchNormalization
FOLDED = {
    "dense": relu_dense(VECTOR, L.Dense(6), BN()),
    "dense without bias": relu_dense(VECTOR, L.Dense(6, use_bias=False), BN()),
    "dense, dropout": relu_dense(VECTOR, L.Dense(6), L.Dropout(0.5), BN()),
    "dense over steps": relu_dense(SEQUENCE, L.Dense(6), BN(), L.Flatten()),
    "convolution": relu_dense(IMAGE, L.Conv2D(4, 3, padding="same", strides=2), BN(), L.Flatten()),
    "causal convolution": relu_dense(SEQUENCE, L.Conv1D(4, 3, padding="causal"), BN(), L.Flatten()),
    "convolution over three axes": relu_dense(VOLUME, L.Conv3D(4, 2), BN(), L.Flatten()),
    "convolution in groups": relu_dense(IMAGE, L.Conv2D(6, 3, groups=2), BN(), L.Flatten()),
    "depthwise convolution": relu_dense(
        IMAGE, L.DepthwiseConv2D(3, padding="same", depth_multiplier=3, use_bias=False), BN(), L.Flatten()
    ),
    "depthwise convolution of steps": relu_dense(
        SEQUENCE, L.DepthwiseConv1D(3, depth_multiplier=2), BN(), L.Flatten()
    ),
    "separable convolution": relu_dense(IMAGE, L.SeparableConv2D(4, 3, padding="same"), BN(), L.Flatten()),
    "transposed convolution": relu_dense(
        IMAGE, L.Conv2DTranspose(5, 3, strides=2, padding="same"), BN(), L.Flatten()
    ),
    "transposed convolution over three axes": relu_dense(VOLUME, L.Conv3DTranspose(5, 2), BN(), L.Flatten()),
    "relu, convolution over three axes": relu_dense(VOLUME, L.ReLU(), BN(), L.Conv3D(4, 2), L.Flatten()),
    "relu, convolution in groups": relu_dense(
        IMAGE, L.Conv2D(6, 2, activation="relu"), BN(), L.Conv2D(9, 2, groups=3), L.Flatten()
    ),
    "relu, depthwise convolution": relu_dense(
        IMAGE, L.ReLU(), BN(), L.DepthwiseConv2D(3, depth_multiplier=3), L.Flatten()
    ),
    "relu, separable convolution": relu_dense(
        SEQUENCE, L.ReLU(), BN(), L.SeparableConv1D(4, 3, depth_multiplier=2), L.Flatten()
    ),
    "two in a row": relu_dense(VECTOR, L.Dense(6), BN(), BN()),
    "before dense": relu_dense(VECTOR, BN(), L.Dense(6)),
    "relu, dropout, dense": lambda: chain(VECTOR, L.Dense(6, "relu"), BN(), L.Dropout(0.5), L.Dense(3)),
    "relu, flatten, dense": lambda: chain(
        IMAGE, L.Conv2D(4, 3, activation="relu"), BN(), L.Flatten(), L.Dense(3)
    ),
    "relu, valid convolution": relu_dense(
        IMAGE, L.Conv2D(4, 3, activation="relu"), BN(), L.Conv2D(3, 2, use_bias=False), L.Flatten()
    ),
    "relu, dilated convolution": relu_dense(
        SEQUENCE,
        L.Conv1D(4, 2, activation="relu"),
        BN(),
        L.Conv1D(3, 2, dilation_rate=2, strides=1),
        L.Flatten(),
    ),
    "other axis, flatten, dense": lambda: chain(IMAGE, L.ReLU(), BN(axis=1), L.Flatten(), L.Dense(3)),
    "reshaped to as many channels": relu_dense(
        IMAGE, L.Conv2D(4, 3, activation="relu"), BN(), L.Reshape((20, 4)), L.Conv1D(3, 2), L.Flatten()
    ),
    "dense over steps, before": lambda: chain(SEQUENCE, L.ReLU(), BN(), L.Dense(3)),
    "shared layer, one use": normalised_shared_layer,
    "nested model used twice": nested_model_twice,
}
NOT_FOLDED = {
    "after addition": after_addition,
    "before same convolution": relu_dense(IMAGE, L.ReLU(), BN(), L.Conv2D(3, 3, padding="same"), L.Flatten()),
    "before causal convolution": relu_dense(
        SEQUENCE, L.ReLU(), BN(), L.Conv1D(3, 3, padding="causal"), L.Flatten()
    ),
    "before same depthwise convolution": relu_dense(
        IMAGE, L.ReLU(), BN(), L.DepthwiseConv2D(3, padding="same"), L.Flatten()
    ),
    "before transposed convolution": relu_dense(IMAGE, L.ReLU(), BN(), L.Conv2DTranspose(3, 3), L.Flatten()),
    "after average": lambda: functional(
        VECTOR, lambda x: L.ReLU()(BN()(L.Average()([L.Dense(4)(x), L.Dense(4)(x)])))
    ),
    "before padding": relu_dense(IMAGE, L.ReLU(), BN(), L.ZeroPadding2D(), L.Conv2D(3, 3), L.Flatten()),
    "read by two": read_by_two,
    "linear layer read by two": linear_layer_read_by_two,
    "scale differs along a dense layer": lambda: chain(SEQUENCE, L.ReLU(), BN(axis=1), L.Dense(3)),
    "reshaped to other channels": relu_dense(
        IMAGE, L.Conv2D(4, 3, activation="relu"), BN(), L.Reshape((40, 2)), L.Conv1D(3, 2), L.Flatten()
    ),
    "one channel reshaped to many": relu_dense(
        IMAGE, L.Conv2D(1, 3, activation="relu"), BN(), L.Permute((2, 1, 3)), L.Conv2D(3, 2), L.Flatten()
    ),
    "at the end": lambda: chain(VECTOR, L.Dense(3, "relu"), BN()),
}
ALL = FOLDED | NOT_FOLDED


def scales(graph) -> list[str]:
    return [n.name for n in graph.nodes if isinstance(n.op, Linear) and isinstance(n.op.map, Scale)]


@pytest.mark.parametrize("case", ALL)
def test_forward_equals_keras(case):
    graphs.check_forward(ALL[case]())


@pytest.mark.parametrize("case", ALL)
def test_node_shapes_and_signs_are_what_the_nodes_give(case):
    graphs.check_nodes(ALL[case]())


@st.composite
def convolution(draw) -> L.Layer:
    """A convolution of any kind for images of four channels."""
    options = {
        "kernel_size": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "padding": draw(st.sampled_from(["valid", "same"])),
        "strides": draw(st.integers(1, 2)),
        "use_bias": draw(st.booleans()),
    }
    kind = draw(st.sampled_from([L.Conv2D, L.DepthwiseConv2D, L.SeparableConv2D, L.Conv2DTranspose]))
    if kind is not L.DepthwiseConv2D:
        options["filters"] = draw(st.sampled_from([4, 8]))
    if kind in (L.DepthwiseConv2D, L.SeparableConv2D):
        options["depth_multiplier"] = draw(st.integers(1, 3))
    if kind is L.Conv2D:
        options["groups"] = draw(st.sampled_from([1, 2, 4]))
    return kind(**options)


@settings(max_examples=15, deadline=None)
@given(layer=convolution(), before=st.booleans())
def test_any_convolution_folds_exactly(layer, before):
    shape = (5, 6, 4)
    model = chain(shape, L.ReLU(), BN(), layer) if before else chain(shape, layer, BN(), L.ReLU())
    graphs.check_forward(model)
    padded = layer.padding == "same" or isinstance(layer, L.Conv2DTranspose)
    assert bool(scales(convert(model))) == (before and padded)


def positive_kernel(name: str, *between):
    """A dense layer of positive weights without bias behind a ReLU: never negative, until a scale joins it."""
    model = chain(VECTOR, L.ReLU(), L.Dense(4, use_bias=False, name=name), *between, L.Dense(2))
    layer = model.get_layer(name)
    layer.set_weights([np.abs(layer.get_weights()[0])])
    return model


def test_positive_layer_keeps_its_sign():
    graph = convert(positive_kernel("positive", L.Dropout(0.5)))
    assert {n.name: n.nonnegative for n in graph.nodes}["positive"]


def test_folding_forgets_the_sign():
    model = positive_kernel("positive", L.Dropout(0.5, name="between"), BN(name="scale"))
    shift = model.get_layer("scale")
    shift.set_weights([*shift.get_weights()[:2], shift.get_weights()[2] + 9, shift.get_weights()[3]])
    graph = convert(model)
    values, _ = Evaluator(graph).forward(tf.constant(networks.samples(model)))
    flags = {n.name: n.nonnegative for n in graph.nodes}
    assert all(
        v.numpy().min() < 0
        for n, v in zip(graph.nodes, values, strict=True)
        if n.name in ("between", "scale")
    )
    assert {name: flags[name] for name in ("positive", "between", "scale")} == dict.fromkeys(
        ("positive", "between", "scale"), False
    )


@pytest.mark.parametrize("case", FOLDED)
def test_batch_normalization_folds(case):
    assert scales(convert(FOLDED[case]())) == []


@pytest.mark.parametrize("case", NOT_FOLDED)
def test_batch_normalization_that_cannot_fold_stays(case):
    assert len(scales(convert(NOT_FOLDED[case]()))) == 1


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("method", ["lrp.z", "lrp.alpha_2_beta_1", "lrp.flat"])
def test_lrp_adds_up_with_batch_normalization(case, method):
    model = ALL[case]()
    functions = {1: lambda y: y[:, 0], 2: lambda y: y[:, 1, 0], 3: lambda y: y[:, 0, 0, 0]}
    target = functions[len(model.output_shape) - 1]
    out = attribute(model, networks.samples(model), method, target=target, dtype="float64")
    kept = out.absorbed_by_bias + out.lost_to_stabiliser + out.lost_to_empty_pot
    axes = [d for d in out.attribution.dims if d != "sample"]
    amounts = abs(out.attribution).sum(axes) + abs(out.absorbed_by_bias) + 1
    np.testing.assert_array_less(abs(out.attribution.sum(axes) + kept - out.prediction), 1e-9 * amounts)


def statistics(layer: tf.keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and shift of a batch normalization."""
    gamma, beta, mean, variance = (w.astype(float) for w in layer.get_weights())
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return scale, beta - mean * scale


@pytest.mark.parametrize("side", ["before", "after"])
def test_folded_relevance_is_that_of_the_folded_weights(side):
    layers = (
        [L.Dense(6), BN(), L.ReLU(), L.Dense(2)]
        if side == "after"
        else [L.Dense(6, "relu"), BN(), L.Dense(2)]
    )
    model = chain(VECTOR, *layers)
    (w1, b1), (w2, b2) = (tuple(v.astype(float) for v in model.layers[i].get_weights()) for i in (0, -1))
    scale, shift = statistics(model.layers[1])
    if side == "after":
        w1, b1 = w1 * scale, b1 * scale + shift
    else:
        w2, b2 = w2 * scale[:, None], b2 + shift @ w2
    by_hand = [naive.Matrix(w1, b1), naive.Relu(), naive.Matrix(w2, b2)]
    x = networks.samples(model).astype(float)
    for method, rule in {
        "lrp.alpha_1_beta_0": ("alpha_beta", 1, 0, "canonical"),
        "lrp.w_square": ("w_square",),
    }.items():
        got = attribute(model, x, method, target=1, dtype="float64").attribution
        np.testing.assert_allclose(got, [naive.lrp(by_hand, v, 1, rule) for v in x], rtol=1e-9, atol=1e-12)
