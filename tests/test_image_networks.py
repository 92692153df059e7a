"""Networks of SMERF: layers, seeds, weights of the base, explanation."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf

import xairt
from xairt.errors import ModelError
from xairt.models.architectures import alexnet, smerf, vgg16
from xairt.models.graph.convert import convert

pytestmark = pytest.mark.usefixtures("run_eagerly")
IMAGES = np.random.default_rng(0).random((3, 64, 64, 3)).astype(np.float32)


def small_alexnet(seed: int) -> tf.keras.Model:
    return alexnet(seed, units=(12, 10))


def explained(model: tf.keras.Model) -> None:
    """Check that the graph is the model, and that lrp.z and gradient are what they promise."""
    logits = model(IMAGES, training=False).numpy()
    convert(model)
    relevance = xairt.attribute(model, IMAGES, "lrp.z", target=1)
    gradient = xairt.attribute(model, IMAGES, "gradient", target=1)
    scale = np.abs(logits[:, 1]).max()
    assert relevance.attribution.dims == ("sample", "y", "x", "channel")
    np.testing.assert_allclose(relevance.prediction, logits[:, 1], atol=1e-5 * scale)
    assert np.abs(relevance.completeness_gap).max() < 1e-3 * scale
    images = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(model(images, training=False)[:, 1])
    wanted = tape.gradient(total, images).numpy()
    np.testing.assert_allclose(gradient.attribution, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("build", [lambda seed: smerf("simple", seed), lambda seed: smerf("complex", seed)])
def test_cnns_are_explained(build):
    explained(build(0))


def test_cnn_sizes():
    """3x3 with stride 2 without padding: 64 -> 31 -> 15 -> 7 (-> 3)."""
    simple, complex_ = smerf("simple", 0), smerf("complex", 0)
    assert simple.count_params() == 896 + 18_496 + 36_928 + (7 * 7 * 64 + 1) * 200 + 402
    assert (
        complex_.count_params() == 1_792 + 73_856 + 295_168 + 147_520 + (3 * 3 * 64 + 1) * 200 + 40_200 + 402
    )


def test_alexnet_is_explained_with_its_statistics():
    model = small_alexnet(0)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            scale, shift, mean, variance = (w.shape for w in layer.weights)
            values = [rng.uniform(0.5, 1.5, scale), rng.normal(size=shift), rng.normal(size=mean)]
            layer.set_weights([*values, rng.uniform(0.5, 1.5, variance)])
    explained(model)


def test_alexnet_layers():
    model = alexnet(0)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert [kinds.count(k) for k in ("Conv2D", "Dense", "BatchNormalization", "Dropout")] == [5, 4, 9, 3]
    convolutions = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.Conv2D)]
    assert [layer.kernel_size[0] for layer in convolutions] == [11, 5, 3, 3, 3]
    assert [layer.strides[0] for layer in convolutions] == [4, 1, 1, 1, 1]
    assert [layer.output_shape[1] for layer in convolutions] == [16, 8, 4, 4, 4]
    assert [layer.rate for layer in model.layers if isinstance(layer, tf.keras.layers.Dropout)] == [0.4] * 3
    assert model.count_params() == 28_868_194


@pytest.fixture
def compiled():
    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


def dropped(seed: int) -> np.ndarray:
    """What the two dropout layers leave of ones, in two compiled steps."""
    layers = [layer for layer in small_alexnet(seed).layers if isinstance(layer, tf.keras.layers.Dropout)]
    steps = [tf.function(lambda x, layer=layer: layer(x, training=True)) for layer in layers]
    return np.array([[step(tf.ones((4, 50))).numpy() for step in steps] for _ in range(2)])


@pytest.mark.usefixtures("compiled")
def test_alexnet_drops_out_repeatably_in_compiled_steps():
    one, two, other = (dropped(seed) for seed in (2, 2, 5))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert len(np.unique(one.reshape(4, -1), axis=0)) == 4  # neither layers nor steps repeat one another
    assert np.mean(one == 0) == pytest.approx(0.4, abs=0.06)


def test_seeds_and_random_state():
    python, numpy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, two, other = (small_alexnet(seed) for seed in (3, 3, 4))
    kernels = [w for w in one.trainable_weights if "kernel" in w.name]
    for mine, same, different in zip(one.weights, two.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine, same)
        if "kernel" in mine.name:
            assert not np.array_equal(mine, different)
    assert len({float(tf.math.reduce_std(kernel)) for kernel in kernels}) == len(kernels)
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002


def test_vgg16_takes_the_weights_of_its_base_and_is_explained(tmp_path, caplog):
    base = tf.keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3))
    path = tmp_path / "vgg16_notop.h5"
    base.save_weights(path)
    model = vgg16(0, weights=path, units=(6, 5))
    assert not caplog.records
    assert model.name == "vgg16"
    middle = tf.keras.Model(model.inputs, model.get_layer("block5_pool").output)
    np.testing.assert_allclose(middle(IMAGES), base(IMAGES), rtol=1e-4, atol=1e-6)
    # The base is frozen: kernels and biases of three dense layers train.
    assert [w.shape[0] for w in model.trainable_weights] == [512, 6, 6, 5, 5, 2]
    explained(model)
    for file, message in ((tmp_path / "no.h5", "no.h5: no such file"), (tmp_path, "no such file")):
        with pytest.raises(ModelError, match=message):
            vgg16(0, weights=file)
    (tmp_path / "junk.h5").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"junk.h5: not the weights of VGG16 without top"):
        vgg16(0, weights=tmp_path / "junk.h5")
    (tmp_path / "weights.bin").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"weights.bin: no Keras HDF5 file; let its name end in .h5"):
        vgg16(0, weights=tmp_path / "weights.bin")


def test_vgg16_without_weights_says_so(caplog):
    model = vgg16(0, units=(4,))
    assert model.name == "vgg16_random_base"
    assert "the frozen base is random" in caplog.text
    assert model.count_params() == 14_714_688 + 512 * 4 + 4 + 10


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: smerf("complexe", 0), "kind 'complexe' is unknown.*did you mean 'complex'"),
        (lambda: alexnet(-1), "seed=-1: out of range"),
        (lambda: alexnet(0, units=()), r"units=\(\): give at least one hidden layer"),
        (lambda: vgg16(0, units=(4, 0)), r"units=\(4, 0\): give at least one hidden layer"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ModelError, match=message):
        build()
