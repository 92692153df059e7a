"""LRP rules against formulas written out in float64 numpy, and the numerical cases of the literature."""

from __future__ import annotations

import naive
import networks
import numpy as np
import pytest
import tensorflow as tf

from xairt import attribute

pytestmark = pytest.mark.usefixtures("run_eagerly")

RULES = {
    "lrp.z": ("z", "canonical"),
    'lrp.z(bias="ignore")': ("z", "ignore"),
    "lrp.epsilon(epsilon=0.25)": ("epsilon", 0.25, "canonical"),
    "lrp.epsilon(epsilon=0.01, bias=False)": ("epsilon", 0.01, "ignore"),
    "lrp.gamma(gamma=0.4)": ("gamma", 0.4, "canonical"),
    'lrp.gamma(gamma=2, bias="ignore")': ("gamma", 2, "ignore"),
    "lrp.alpha_1_beta_0": ("alpha_beta", 1, 0, "canonical"),
    "lrp.alpha_1_beta_0_IB": ("alpha_beta", 1, 0, "ignore"),
    "lrp.alpha_2_beta_1": ("alpha_beta", 2, 1, "canonical"),
    "lrp.alpha_2_beta_1_IB": ("alpha_beta", 2, 1, "ignore"),
    'lrp.alpha_beta(alpha=3, beta=2, bias="innvestigate")': ("alpha_beta", 3, 2, "innvestigate"),
    "lrp.z_plus": ("alpha_beta", 1, 0, "ignore"),
    "lrp.z_plus_fast": ("z_plus_fast",),
    "lrp.w_square": ("w_square",),
    "lrp.flat": ("flat",),
}

FIRST = {
    None: None,
    "Flat": ("flat",),
    "WSquare": ("w_square",),
    "Bounded": ("bounded", -1, 1),
    "Bounded(low=-3, high=2.5)": ("bounded", -3, 2.5),
}


def check(model: tf.keras.Model, method: str, rule: tuple, input_rule: str | None = None) -> None:
    x = networks.samples(model)
    options = {} if input_rule is None else {"input_layer_rule": input_rule}
    got = attribute(model, x, method, target=1, dtype="float64", **options).attribution.values
    layers = naive.read_layers(model)
    want = [naive.lrp(layers, v.astype(float).ravel(), 1, rule, FIRST[input_rule]) for v in x]
    np.testing.assert_allclose(got.reshape(len(x), -1), want, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("network", [networks.mlp, networks.cnn, networks.cnn_1d])
def test_rule_equals_its_formula(method, network):
    check(network(), method, RULES[method])


@pytest.mark.parametrize("input_rule", [name for name in FIRST if name])
@pytest.mark.parametrize("network", [networks.mlp, networks.cnn])
def test_input_rule_equals_its_formula(input_rule, network):
    check(network(), "lrp.alpha_2_beta_1", RULES["lrp.alpha_2_beta_1"], input_rule)


# Two inputs, one output: the numbers are worked out by hand in the literature.
X = np.array([[0.15601864, 0.15599452]])
W = np.array([[1.2197995], [1.2793059]])
B = np.array([3.634342])
ARRIVING = 4.0242043


def one_layer(weights, bias) -> tf.keras.Model:
    model = tf.keras.Sequential([tf.keras.layers.InputLayer(2), tf.keras.layers.Dense(1)])
    model.set_weights([np.asarray(weights), np.asarray(bias)])
    return model


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ('lrp.z(bias="ignore")', (1.96435, 2.05986)),
        ("lrp.w_square", (1.91634, 2.10787)),
        ('lrp.z(bias="ignore", input_layer_rule=Bounded)', (1.96421, 2.05999)),
        ("lrp.z", (0.19031, 0.19956)),
    ],
)
def test_numerical_case(method, expected):
    out = attribute(one_layer(W, B), X, method)
    # the case starts from a rounded relevance; LRP is linear in what arrives
    relevance = out.attribution.values[0] * ARRIVING / out.prediction.item()
    np.testing.assert_allclose(relevance, expected, atol=6e-6)


def test_numerical_case_bias_share():
    out = attribute(one_layer(W, B), X, "lrp.z")
    assert out.absorbed_by_bias.item() * ARRIVING / out.prediction.item() == pytest.approx(3.63433, abs=6e-6)


@pytest.mark.parametrize("bias", ["canonical", "ignore"])
def test_negative_bias_never_explodes(bias):
    # positive pot 1, negative pot -1 and bias -1: with the whole bias in the positive pot it would hold
    # exactly 0, and the zero guard of 1e-7 would turn -1 into -1e7
    model, x = one_layer([[1.0], [-1.0]], [-1.0]), np.ones((1, 2))
    out = attribute(model, x, "lrp.alpha_1_beta_0", bias=bias)
    np.testing.assert_allclose(out.attribution.values, [[-1.0, 0.0]])
    published = attribute(model, x, "lrp.alpha_1_beta_0", convention="innvestigate")
    np.testing.assert_allclose(published.attribution.values, [[-1e7, 0.0]], rtol=1e-5)


@pytest.mark.parametrize("network", [networks.mlp, networks.cnn, networks.cnn_1d, networks.branched])
def test_z_equals_input_times_gradient_on_relu_networks(network):
    model = network()
    x = networks.samples(model)
    z = attribute(model, x, "lrp.z", dtype="float64").attribution.values
    ixg = attribute(model, x, "input_t_gradient", dtype="float64").attribution.values
    np.testing.assert_allclose(z, ixg, rtol=1e-6, atol=1e-9)


def test_z_sums_to_output_without_biases():
    model = networks.mlp(use_bias=False)
    out = attribute(model, networks.samples(model, 20), "lrp.z")
    np.testing.assert_allclose(out.attribution.sum("feature"), out.prediction, rtol=1e-4)


def test_addition_shares_in_proportion():
    x = tf.keras.Input(2)
    dense = tf.keras.layers.Dense(1, use_bias=False)
    twice = tf.keras.layers.Dense(1, use_bias=False)
    model = tf.keras.Model(x, tf.keras.layers.Add()([dense(x), twice(x)]))
    dense.set_weights([np.array([[1.0], [0.0]])])
    twice.set_weights([np.array([[0.0], [2.0]])])
    out = attribute(model, np.array([[3.0, 0.5]]), "lrp.alpha_1_beta_0")
    np.testing.assert_allclose(out.attribution.values, [[3.0, 1.0]])


def test_average_pooling_keeps_its_own_rule():
    layers = [
        tf.keras.layers.InputLayer((2, 1)),
        tf.keras.layers.AveragePooling1D(2),
        tf.keras.layers.Flatten(),
    ]
    model = tf.keras.Sequential(layers)
    for method in ("lrp.flat", "lrp.w_square", "lrp.alpha_2_beta_1", "lrp.epsilon(epsilon=1)"):
        out = attribute(model, np.array([[[1.0], [3.0]]]), method)
        np.testing.assert_allclose(out.attribution.values.ravel(), [0.5, 1.5])
