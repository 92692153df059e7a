"""LRP of outputs that are not one plain neuron, and of graphs that are not plain chains."""

from __future__ import annotations

import networks
import numpy as np
import pytest
import tensorflow as tf

from xairt import attribute, explainer
from xairt.attribution.lrp import engine
from xairt.errors import MethodError

L = tf.keras.layers

pytestmark = pytest.mark.usefixtures("run_eagerly")


def booked(out) -> np.ndarray:
    return (out.attribution.sum("feature") + sum(out[name] for name in engine.LEDGER)).values


def test_two_outputs_that_are_one_tensor_are_explained_once():
    x = tf.keras.Input(4)
    logits = L.Dense(2)(L.Dense(5, "relu")(x))
    both = networks.randomised(tf.keras.Model(x, [logits, L.Softmax()(logits)]))
    single = tf.keras.Model(both.inputs, both.outputs[0])
    samples = networks.samples(single)
    out = attribute(both, samples, "lrp.z", target=lambda y: y[0][:, 0])
    np.testing.assert_allclose(out.attribution, attribute(single, samples, "lrp.z", target=0).attribution)
    np.testing.assert_allclose(booked(out), out.prediction, rtol=1e-4)


@pytest.mark.parametrize(
    ("target", "promised_by_start"),
    [
        (lambda y: y[:, 0] - 2 * y[:, 1], True),
        (lambda y: y[:, 0] + 5, False),
        (lambda y: y[:, 0] ** 2, False),
    ],
)
def test_gap_is_measured_against_the_explained_output(target, promised_by_start):
    model = networks.mlp()
    out = attribute(model, networks.samples(model), "lrp.z", target=target, dtype="float64")
    np.testing.assert_allclose(out.completeness_gap, booked(out) - out.prediction, atol=1e-9)
    assert np.allclose(out.completeness_gap, 0, atol=1e-9) == promised_by_start


def test_unfolded_batch_norm_is_not_the_input_layer():
    layers = [
        L.InputLayer((5, 5, 2)),
        L.BatchNormalization(),
        L.Conv2D(3, 3, padding="same", activation="relu"),
        L.Flatten(),
        L.Dense(1),
    ]
    model = networks.randomised(tf.keras.Sequential(layers))
    x = networks.samples(model)
    ledger = explainer(model, "lrp.z", input_layer_rule="WSquare").ledger(x)
    convolution = ledger.isel(layer=list(ledger.layer.values).index(model.layers[1].name))
    assert (convolution.absorbed_by_bias == 0).all()  # w-square knows no bias
    maps = {
        rule: attribute(model, x, "lrp.z", input_layer_rule=rule).attribution for rule in ("Flat", "WSquare")
    }
    assert not np.allclose(maps["Flat"], maps["WSquare"])


def test_unfolded_batch_norm_keeps_canonical_bias():
    x = tf.keras.Input(1)
    first, second = L.Dense(1, use_bias=False), L.Dense(1, use_bias=False)
    model = tf.keras.Model(x, L.BatchNormalization(epsilon=0.0)(L.Add()([first(x), second(x)])))
    weights = {"kernel": 1.0, "gamma": 1.0, "beta": 3.0, "moving_mean": 0.0, "moving_variance": 1.0}
    model.set_weights(
        [np.full(v.shape, next(w for k, w in weights.items() if k in v.name)) for v in model.weights]
    )
    out = attribute(model, np.array([[1.0]]), "lrp.alpha_1_beta_0_IB")
    assert out.prediction.item() == 5
    assert out.absorbed_by_bias.item() == pytest.approx(3)
    np.testing.assert_allclose(out.attribution.values, [[2.0]], rtol=1e-6)


def test_input_rule_without_an_input_layer_is_refused():
    model = tf.keras.Sequential([L.InputLayer(3), L.ReLU(), L.Dense(1)])
    with pytest.raises(MethodError, match="no weighted layer that reads the input alone and directly"):
        explainer(model, "lrp.z", input_layer_rule="Flat")


def test_model_without_weights():
    model = tf.keras.Sequential([L.InputLayer((4, 1)), L.GlobalMaxPooling1D()])
    out = attribute(model, np.array([[[1.0], [4.0], [2.0], [3.0]]]), "lrp.alpha_2_beta_1")
    np.testing.assert_array_equal(out.attribution.values.ravel(), [0, 4, 0, 0])
    assert out.absorbed_by_bias.item() == 0
