"""Methods that look at activations, and the controls that look at nothing but the input."""

from __future__ import annotations

import networks
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from xairt import attribute, explainer
from xairt.errors import MethodError, UnsupportedLayerError

L = tf.keras.layers

pytestmark = pytest.mark.usefixtures("run_eagerly")


def keras_gradient(model: tf.keras.Model, x: np.ndarray, target: int, inner: tf.keras.layers.Layer):
    """Return a layer's output and the gradient of one output with respect to it, by Keras."""
    both = tf.keras.Model(model.inputs, [inner.output, model.output])
    with tf.GradientTape() as tape:
        activations, outputs = both(x)
        tape.watch(activations)
        value = outputs[:, target]
    return activations.numpy(), tape.gradient(value, activations).numpy()


@pytest.mark.parametrize("index", [None, 0])
def test_grad_cam_equals_its_formula(index):
    model = networks.cnn()
    convolutions = [layer for layer in model.layers if isinstance(layer, L.Conv2D)]
    layer = convolutions[-1 if index is None else index]
    x = networks.samples(model)
    out = attribute(model, x, "grad_cam", target=1, layer=None if index is None else layer.name)
    activations, slopes = keras_gradient(model, x, 1, layer)
    coarse = np.maximum((slopes.mean(axis=(1, 2), keepdims=True) * activations).sum(-1, keepdims=True), 0)
    fine = tf.image.resize(coarse, model.input_shape[1:3], method="bilinear").numpy()
    assert fine.max() > 0
    np.testing.assert_allclose(out.attribution, np.broadcast_to(fine, x.shape), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [("conv", r"'conv' is no convolution layer of the model: it has"), (None, "has no 2-D convolution")],
)
def test_grad_cam_needs_a_convolution(layer, message):
    flat = tf.keras.Sequential([L.InputLayer((4, 4, 1)), L.Flatten(), L.Dense(1)])
    with pytest.raises(MethodError, match=message):
        explainer(networks.cnn() if layer else flat, "grad_cam", layer=layer)


@pytest.mark.parametrize("method", ["grad_cam", "edge"])
def test_vectors_have_no_rows_and_columns(method):
    with pytest.raises(MethodError, match=f"{method}: .*(no rows and columns|no 2-D convolution)"):
        explainer(networks.mlp(), method)


def test_guided_backprop_lies_between_the_others():
    # where no gradient is negative, all three are the gradient
    model = networks.mlp(n_outputs=1)
    model.set_weights([np.abs(w) for w in model.get_weights()])
    x = np.abs(networks.samples(model))
    want = attribute(model, x, "gradient").attribution
    for method in ("guided_backprop", "deconvnet"):
        np.testing.assert_allclose(attribute(model, x, method).attribution, want, rtol=1e-5)


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
def test_other_activations_are_refused(method):
    model = tf.keras.Sequential([L.InputLayer(3), L.Dense(2, "tanh", name="bend"), L.Dense(1)])
    with pytest.raises(UnsupportedLayerError, match=r"layer 'bend' has the activation 'tanh': deconvnet and"):
        explainer(model, method)


def test_deep_taylor_is_zero_where_the_output_is_negative():
    model = networks.mlp()
    x = networks.samples(model, 30)
    logits = model(x).numpy()
    target = int(np.argmax((logits > 0).any(0) & (logits < 0).any(0)))
    out = attribute(model, x, "deep_taylor", target=target)
    negative = out.prediction < 0
    assert 0 < negative.sum() < 30
    assert (out.attribution[negative.values] == 0).all()
    kept = out.attribution.sum("feature") + out.lost_to_empty_pot
    np.testing.assert_allclose(kept, np.maximum(out.prediction, 0), rtol=1e-4, atol=1e-6)


def test_input_is_the_input():
    model = networks.mlp()
    np.testing.assert_array_equal(
        attribute(model, networks.samples(model), "input").attribution, networks.samples(model)
    )


def test_edge_is_the_sobel_magnitude():
    model = networks.cnn()
    x = networks.samples(model)
    planes = np.moveaxis(x, -1, 1).reshape(-1, *x.shape[1:3])
    slopes = [np.stack([ndimage.sobel(p, axis, mode="mirror") for p in planes]) for axis in (0, 1)]
    want = np.moveaxis(np.hypot(*slopes).reshape(len(x), x.shape[-1], *x.shape[1:3]), 1, -1)
    np.testing.assert_allclose(attribute(model, x, "edge").attribution, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("direction", "axis"), [("x", 1), ("y", 0)])
def test_edge_of_five_pixels_in_one_direction(direction, axis):
    """Kernel written out: the smoothing of 1 4 6 4 1 across, and -1 -2 0 2 1 along the slope."""
    model = networks.cnn()
    x = networks.samples(model, 2)
    kernel = np.array([1, 4, 6, 4, 1])[:, None] * np.array([-1, -2, 0, 2, 1])
    kernel = kernel if axis == 1 else kernel.T
    want = [
        [ndimage.correlate(s[..., c], kernel, mode="mirror") for c in range(s.shape[-1])]
        for s in x.astype(np.float64)
    ]
    want = np.moveaxis(np.abs(want), 1, -1)
    got = attribute(model, x, "edge", size=5, direction=direction).attribution
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_edge_needs_more_rows_than_half_its_kernel():
    low = tf.keras.Sequential([L.InputLayer((2, 9, 1)), L.Flatten(), L.Dense(1)])
    attribute(low, np.ones((1, 2, 9, 1), np.float32), "edge")
    with pytest.raises(
        MethodError, match=r"edge: samples of shape \(2, 9, 1\) have no rows .* not more than 2"
    ):
        explainer(low, "edge", size=5)
