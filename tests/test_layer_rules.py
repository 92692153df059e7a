"""LRP through every kind of linear layer against formulas on its matrix, and the ledger of whole networks."""

from __future__ import annotations

import functools

import naive
import networks
import numpy as np
import pytest
import tensorflow as tf
from graphs import chain
from test_lrp_rules import FIRST, RULES

from xairt import attribute, explainer
from xairt.attribution.lrp import engine
from xairt.models.graph import Evaluator, convert

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers
SEQUENCE, IMAGE, VOLUME = (7, 4), (5, 4, 4), (4, 3, 3, 2)

LAYERS = {
    "Conv3D": (VOLUME, L.Conv3D, {"filters": 3, "kernel_size": 2, "strides": (2, 1, 1), "padding": "same"}),
    "Conv3D, dilated": (VOLUME, L.Conv3D, {"filters": 3, "kernel_size": 2, "dilation_rate": (2, 1, 2)}),
    "Conv3D, groups": (VOLUME, L.Conv3D, {"filters": 4, "kernel_size": 2, "groups": 2}),
    "Conv2D, groups": (IMAGE, L.Conv2D, {"filters": 6, "kernel_size": 3, "groups": 2, "padding": "same"}),
    "Conv1D, groups": (
        SEQUENCE,
        L.Conv1D,
        {"filters": 4, "kernel_size": 3, "groups": 4, "padding": "causal", "dilation_rate": 2},
    ),
    "DepthwiseConv2D": (
        IMAGE,
        L.DepthwiseConv2D,
        {"kernel_size": (3, 2), "padding": "same", "depth_multiplier": 2},
    ),
    "DepthwiseConv2D, unequal strides": (
        IMAGE,
        L.DepthwiseConv2D,
        {"kernel_size": 2, "strides": (1, 2), "padding": "same"},
    ),
    "DepthwiseConv2D, dilated": (IMAGE, L.DepthwiseConv2D, {"kernel_size": 2, "dilation_rate": (2, 1)}),
    "DepthwiseConv1D": (
        SEQUENCE,
        L.DepthwiseConv1D,
        {"kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2},
    ),
    "SeparableConv2D": (
        IMAGE,
        L.SeparableConv2D,
        {"filters": 5, "kernel_size": 2, "strides": 2, "padding": "same", "depth_multiplier": 2},
    ),
    "SeparableConv1D": (SEQUENCE, L.SeparableConv1D, {"filters": 5, "kernel_size": 3}),
    "Conv1DTranspose": (
        SEQUENCE,
        L.Conv1DTranspose,
        {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"},
    ),
    "Conv2DTranspose": (IMAGE, L.Conv2DTranspose, {"filters": 2, "kernel_size": 3, "strides": (2, 1)}),
    "Conv2DTranspose, gaps": (IMAGE, L.Conv2DTranspose, {"filters": 2, "kernel_size": 2, "strides": 3}),
    "Conv2DTranspose, dilated": (
        IMAGE,
        L.Conv2DTranspose,
        {"filters": 2, "kernel_size": 2, "dilation_rate": 2},
    ),
    "Conv3DTranspose": (
        VOLUME,
        L.Conv3DTranspose,
        {"filters": 2, "kernel_size": 2, "strides": 2, "padding": "same", "output_padding": 1},
    ),
}
METHODS = (
    *("lrp.z", "lrp.epsilon(epsilon=0.25)", "lrp.gamma(gamma=0.4)", "lrp.w_square", "lrp.flat"),
    *("lrp.alpha_1_beta_0", "lrp.alpha_2_beta_1", "lrp.alpha_2_beta_1_IB", "lrp.z_plus_fast"),
)
POOLED = {
    "AveragePooling3D": [L.AveragePooling3D(2, padding="same")],
    "AveragePooling3D, overlapping": [L.AveragePooling3D((2, 1, 3), strides=1)],
    "MaxPooling3D": [L.MaxPooling3D((3, 2, 2), strides=(1, 2, 1), padding="same")],
    "GlobalAveragePooling3D": [L.GlobalAveragePooling3D()],
    "GlobalMaxPooling3D": [L.GlobalMaxPooling3D()],
    "copies": [L.ZeroPadding3D(1), L.Cropping3D((1, 0, 2)), L.UpSampling3D((1, 2, 1))],
    "repeated": [L.Flatten(), L.RepeatVector(3)],
}


@functools.cache
def network(layer: str) -> tf.keras.Model:
    shape, kind, options = LAYERS[layer]
    return chain(shape, kind(**options, activation="relu"), L.Flatten(), L.Dense(3))


@functools.cache
def pooled(kind: str) -> tf.keras.Model:
    return chain(VOLUME, L.Conv3D(2, 2, padding="same"), *POOLED[kind], L.Flatten(), L.Dense(3))


@functools.cache
def matrices(model: tf.keras.Model) -> list:
    return naive.read_layers(model)


def check(model: tf.keras.Model, method: str, rule: tuple, input_rule: str | None = None) -> None:
    x = networks.samples(model, 3)
    got = attribute(model, x, method, target=1, dtype="float64", input_layer_rule=input_rule)
    layers = matrices(model)
    want = [naive.lrp(layers, v.astype(float).ravel(), 1, rule, FIRST[input_rule]) for v in x]
    np.testing.assert_allclose(got.attribution.values.reshape(len(x), -1), want, rtol=1e-7, atol=1e-9)
    assert np.abs(want).max() > 0


@pytest.mark.parametrize("layer", LAYERS)
def test_forward_equals_the_matrix(layer):
    model = network(layer)
    x = networks.samples(model, 3).astype(float)
    layers = matrices(model)
    (got,) = Evaluator(convert(model), "float64")(tf.constant(x))
    np.testing.assert_allclose(got, [naive.forward(layers, v.ravel())[-1] for v in x], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", LAYERS)
def test_rule_equals_its_formula(layer, method):
    check(network(layer), method, RULES[method])


@pytest.mark.parametrize("layer", LAYERS)
def test_bounded_input_rule_equals_its_formula(layer):
    check(network(layer), "lrp.alpha_1_beta_0", RULES["lrp.alpha_1_beta_0"], "Bounded(low=-3, high=2.5)")


@pytest.mark.parametrize("method", ["lrp.z", "lrp.alpha_2_beta_1", "lrp.flat"])
@pytest.mark.parametrize("kind", POOLED)
def test_rule_equals_its_formula_behind_pooling_and_copies(kind, method):
    check(pooled(kind), method, RULES[method])


@pytest.mark.parametrize("layer", LAYERS)
def test_presets_take_every_convolution_for_one(layer):
    model = network(layer)
    x = networks.samples(model, 3)
    got = attribute(model, x, "lrp.sequential_preset_a", target=1, dtype="float64").attribution.values
    *convolutions, relu, dense = layers = matrices(model)
    relevance = []
    for v in x.astype(float):
        values = naive.forward(layers, v.ravel())
        arriving = np.where(np.arange(3) == 1, values[-1], 0)
        back = naive.dense_rule(
            ("epsilon", 0.1, "canonical"), values[-2], dense.weights, dense.bias, values[-1], arriving
        )
        for layer_, a, z in zip(convolutions[::-1], values[-4::-1], values[-3:0:-1], strict=True):
            back = naive.dense_rule(
                ("alpha_beta", 1, 0, "canonical"), a, layer_.weights, layer_.bias, z, back
            )
        relevance.append(back)
    assert isinstance(relu, naive.Relu)
    np.testing.assert_allclose(got.reshape(len(x), -1), relevance, rtol=1e-7, atol=1e-9)


def test_separable_convolution_is_two_layers_in_the_ledger():
    model = chain(IMAGE, L.SeparableConv2D(3, 2, name="split"), L.Flatten(), L.Dense(1, name="end"))
    ledger = explainer(model, "lrp.z").ledger(networks.samples(model))
    assert list(ledger.layer.values) == ["end", "split/pointwise", "split/depthwise"]


# --------------------------------------------------------------------------- whole networks

WHOLE = {
    make.__name__: make for make in (networks.volume, networks.separable, networks.decoder, networks.averaged)
}


def books(out) -> tuple[np.ndarray, np.ndarray]:
    """Return sum R + ledger, and the sum of all amounts booked."""
    axes = [d for d in out.attribution.dims if d != "sample"]
    kept = sum(out[name] for name in engine.LEDGER)
    amounts = abs(out.attribution).sum(axes) + sum(abs(out[name]) for name in engine.LEDGER)
    return (out.attribution.sum(axes) + kept).values, amounts.values + 1


@pytest.mark.parametrize("method", ["lrp.epsilon", "lrp.gamma", "lrp.alpha_2_beta_1", "lrp.flat"])
@pytest.mark.parametrize("whole", WHOLE)
def test_books_balance(whole, method):
    model = WHOLE[whole]()
    x = networks.samples(model, 4)
    exact, single = (attribute(model, x, method, dtype=dtype) for dtype in ("float64", "float32"))
    total, amounts = books(exact)
    np.testing.assert_array_less(abs(total - exact.prediction), 1e-10 * amounts)
    total, amounts = books(single)
    np.testing.assert_array_less(abs(total - single.prediction), 1e-4 * amounts)


@pytest.mark.parametrize("whole", WHOLE)
def test_every_layer_balances(whole):
    model = WHOLE[whole]()
    ledger = explainer(model, "lrp.alpha_2_beta_1", dtype="float64").ledger(networks.samples(model))
    kept = sum(ledger[name] for name in engine.LEDGER)
    np.testing.assert_allclose(ledger.relevance_in, ledger.relevance_out + kept, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("whole", WHOLE)
def test_z_equals_input_times_gradient(whole):
    model = WHOLE[whole]()
    x = networks.samples(model)
    z, product = (
        attribute(model, x, method, dtype="float64").attribution.values
        for method in ("lrp.z", "input_t_gradient")
    )
    np.testing.assert_allclose(z, product, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layer", [L.Add, L.Average])
@pytest.mark.parametrize("method", ["lrp.z", "lrp.alpha_1_beta_0", "lrp.w_square"])
def test_merged_branches_share_in_proportion(layer, method):
    x = tf.keras.Input(3)
    branches = [L.Dense(1, use_bias=False)(x) for _ in range(3)]
    model = tf.keras.Model(x, layer()(branches))
    model.set_weights([weight * np.eye(3)[:, [i]] for i, weight in enumerate((1.0, 2.0, 4.0))])
    out = attribute(model, np.array([[3.0, 0.5, 0.25]]), method)
    shares = np.array([[3.0, 1.0, 1.0]]) / (3 if layer is L.Average else 1)
    # w-square hands each dense layer's relevance to all its inputs by weight: to the only one here
    np.testing.assert_allclose(out.attribution.values, shares, rtol=1e-6)
    assert out.prediction.item() == pytest.approx(shares.sum())


def test_average_of_branches_of_different_rank():
    x = tf.keras.Input((3, 2))
    model = tf.keras.Model(x, L.Average()([x, L.GlobalMaxPooling1D()(x)]))
    values = np.arange(1.0, 7.0).reshape(1, 3, 2)
    out = attribute(model, values, "lrp.alpha_1_beta_0", target=lambda y: y[:, 0, 0])
    # (1 + 5) / 2: 1 is the value itself, 5 the largest of its channel
    np.testing.assert_allclose(out.attribution.values, [[[0.5, 0], [0, 0], [2.5, 0]]])
