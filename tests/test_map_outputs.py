"""Outputs that are maps, or several: a callable target makes one number of them."""

from __future__ import annotations

import networks
import numpy as np
import pytest
import tensorflow as tf

from xairt import attribute

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers


def u_net(end: str | None = None, channels: int = 1) -> tf.keras.Model:
    """Maps to maps with a way down, a way up and a skip between."""
    x = tf.keras.Input((4, 6, 2))
    down = L.Conv2D(3, 3, padding="same", activation="relu")(x)
    low = L.Conv2D(4, 3, padding="same", activation="relu")(L.MaxPooling2D(2)(down))
    up = L.Concatenate()([L.UpSampling2D(2)(low), down])
    return networks.randomised(tf.keras.Model(x, L.Conv2D(channels, 1, activation=end)(up)))


def maps_and_scalars() -> tf.keras.Model:
    """One output of shape (4, 6, 2), one of shape (3,)."""
    x = tf.keras.Input((4, 6, 2))
    hidden = L.Conv2D(3, 3, padding="same", activation="relu")(x)
    ends = [L.Conv2D(2, 3, padding="same")(hidden), L.Dense(3)(L.GlobalAveragePooling2D()(hidden))]
    return networks.randomised(tf.keras.Model(x, ends))


REGIONS = {
    "regression over a region": (u_net, lambda y: tf.reduce_mean(y[:, 1:3, 2:5, 0], axis=(1, 2))),
    "one class over a region": (
        lambda: u_net("softmax", 3),
        lambda y: tf.reduce_mean(y[:, :2, :, 1] - y[:, :2, :, 0], axis=(1, 2)),
    ),
    "map and scalar": (
        maps_and_scalars,
        lambda outputs: tf.reduce_mean(outputs[0][:, 1, :, 0], axis=1) - 2 * outputs[1][:, 2],
    ),
}
"""Model, and a target that is linear in its outputs (logits where it ends in a softmax)."""


def without_end(model: tf.keras.Model) -> tf.keras.Model:
    """Return the model with a linear end; the weights are shared by value."""
    linear = tf.keras.models.clone_model(model)
    linear.set_weights(model.get_weights())
    for layer in linear.layers[-2:]:
        if getattr(layer, "activation", None) is tf.keras.activations.softmax:
            layer.activation = tf.keras.activations.linear
    return linear


@pytest.mark.parametrize("case", REGIONS)
def test_map_shaped_and_several_outputs(case):
    make, target = REGIONS[case]
    model = make()
    x = tf.constant(networks.samples(model, 3))
    linear = without_end(model)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = linear(x)
        value = target(tuple(outputs) if isinstance(outputs, list) else outputs)
    slope = tape.gradient(value, x).numpy()
    out = attribute(model, x.numpy(), ["gradient", "input_t_gradient", "lrp.z"], target=target)
    for prediction in out.prediction:
        np.testing.assert_allclose(prediction, value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out.attribution[0], slope, rtol=1e-3, atol=1e-6)
    # lrp.z of a ReLU network is input times gradient; a linear target starts relevance at its own terms
    np.testing.assert_allclose(out.attribution[2], x * slope, rtol=1e-3, atol=1e-5)
    kept = out.absorbed_by_bias + out.lost_to_stabiliser + out.lost_to_empty_pot
    total = out.attribution.sum(["y", "x", "channel"]) + kept
    np.testing.assert_allclose(total[2], value, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(out.status[2], 0)
