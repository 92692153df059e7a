"""Networks of images and sounds whose label lies at one place: shapes, seeds, files, and which methods explain them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf

import xairt
from xairt.errors import ModelError, UnsupportedLayerError
from xairt.models import image_networks
from xairt.models.audio_networks import AUDIO_NETWORKS, SOUND_SHAPE, lstm, rnn, tcn, transformer
from xairt.models.card import inspect_model
from xairt.models.image_networks import APPLICATIONS, IMAGE_NETWORKS, application, googlenet, small_cnn, vit
from xairt.models.saving import save_model
from xairt.models.seeding import seeded

TINY_VIT = {"image_shape": (8, 8, 3), "patch": 4, "depth": 2, "heads": 2, "width": 6}
TINY = {
    "small_cnn": lambda seed: small_cnn(seed, 3, image_shape=(32, 32, 3), filters=(4, 6)),
    "vit": lambda seed: vit(seed, 3, **TINY_VIT),
    "rnn": lambda seed: rnn(seed, 3, sound_shape=(400, 2), width=4, depth=2),
    "lstm": lambda seed: lstm(seed, 3, sound_shape=(400, 2), width=4, depth=2),
    "tcn": lambda seed: tcn(seed, 3, sound_shape=(900, 2), width=4, filters=(5,)),
    "transformer": lambda seed: transformer(seed, 3, sound_shape=(400, 2), width=4, depth=2, heads=2),
}
CONVERTIBLE = ("small_cnn", "tcn")


def samples(model: tf.keras.Model, n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (n, *model.input_shape[1:])).astype(np.float32)


@pytest.mark.parametrize("name", TINY)
def test_network_is_saved_loaded_and_explained(name, tmp_path):
    model = TINY[name](0)
    path = save_model(model, tmp_path / "model.h5")
    loaded, x = xairt.load_model(path), samples(model)
    outputs = model.predict_on_batch(x)
    assert outputs.shape == (2, 3)
    np.testing.assert_allclose(loaded.predict_on_batch(x), outputs, rtol=1e-6, atol=1e-7)

    saliency = xairt.attribute(loaded, x, "saliency", target=1)["attribution"].values
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        output = model(inputs, training=False)[:, 1]
    np.testing.assert_allclose(saliency, np.abs(tape.gradient(output, inputs)), rtol=1e-3, atol=1e-6)

    # A baseline that is not 0: layer normalisation of nothing makes attention nearly jump there.
    baseline = np.random.default_rng(1).uniform(-1, 1, x.shape[1:]).astype(np.float32)
    steps = "integrated_gradients(steps=300)"
    found = xairt.attribute(loaded, x, steps, target=1, baseline=baseline)["attribution"].values
    assert found.shape == x.shape
    rise = (outputs - model.predict_on_batch(baseline[None]))[:, 1]
    np.testing.assert_allclose(found.sum(axis=tuple(range(1, x.ndim))), rise, atol=0.03 * np.abs(rise).max())


@pytest.mark.parametrize("name", TINY)
def test_deeplift_takes_networks_of_convolutions_alone(name, tmp_path):
    model = TINY[name](0)
    x = samples(model)
    deeplift = inspect_model(save_model(model, tmp_path / "model.h5")).families["deeplift"]
    assert deeplift.applies == (name in CONVERTIBLE)
    if name in CONVERTIBLE:
        gap = xairt.attribute(model, x, "deeplift.rescale", target=1)["completeness_gap"].values
        np.testing.assert_allclose(gap, 0, atol=1e-5)
    else:
        with pytest.raises(UnsupportedLayerError, match="has no canonical form"):
            xairt.attribute(model, x, "deeplift.rescale", target=1)


def test_channels_of_a_sound_are_left_out_as_groups():
    model = TINY["lstm"](0)
    x = samples(model)
    channel = np.tile(np.arange(2), (400, 1))
    found = xairt.attribute(model, x, "feature_ablation", groups=channel, target=1)["attribution"].values
    without = x * (np.arange(2) != 1)
    expected = (model.predict_on_batch(x) - model.predict_on_batch(without))[:, 1]
    assert np.ptp(found[:, :, 1], axis=1).max() == 0
    np.testing.assert_allclose(found[:, 0, 1], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", TINY)
def test_seeds_and_random_state(name):
    random.seed(5)
    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global one must be left alone
    one, two, other = (TINY[name](seed).get_weights() for seed in (3, 3, 4))
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(one, other, strict=True))
    drawn = [w for w in one if w.ndim > 1 and w.any()]
    pairs = [(a, b) for k, a in enumerate(drawn) for b in drawn[:k] if a.shape == b.shape]
    assert not any((a == b).all() for a, b in pairs), "layers of one shape begin alike"


def test_weights_keep_the_distribution_of_their_initializer():
    def build():
        wide = tf.keras.initializers.RandomNormal(stddev=3.0)
        layers = [tf.keras.layers.Dense(200, kernel_initializer=wide), tf.keras.layers.Dense(200)]
        return tf.keras.Sequential([tf.keras.layers.Input((200,)), *layers])

    first, _, second, bias = seeded(build, 0).get_weights()
    assert first.std() == pytest.approx(3.0, rel=0.02)
    assert second.std() == pytest.approx(
        np.sqrt(2 / 400), rel=0.02
    )  # Glorot uniform: variance 2 / (in + out)
    assert not bias.any()


def test_vit_is_the_published_one_in_numpy():
    """Patches row by row, a token without pixels, position, two layers, the first token's logits."""
    model, erf = vit(0, 3, **TINY_VIT), np.vectorize(__import__("math").erf)
    x = samples(model, 1)[0].astype(np.float64)
    weights = iter(w.astype(np.float64) for w in model.get_weights())

    def normalised(t):
        scale, shift = next(weights), next(weights)
        centred = t - t.mean(axis=-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * scale + shift

    def dense(t):
        kernel, bias = next(weights), next(weights)
        return t @ kernel + bias

    def attention(t):
        query, key, value = (
            np.einsum("nd,dhk->hnk", t, next(weights)) + next(weights)[:, None] for _ in range(3)
        )
        score = np.exp(np.einsum("hnk,hmk->hnm", query, key) / np.sqrt(3))
        mixed = np.einsum("hnm,hmk->hnk", score / score.sum(axis=-1, keepdims=True), value)
        return np.einsum("hnk,hkd->nd", mixed, next(weights)) + next(weights)

    patches = [x[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].ravel() for i in range(2) for j in range(2)]
    kernel, position = next(weights), next(weights)
    tokens = np.vstack([np.zeros(48), *patches]) @ kernel + position
    for _ in range(2):
        tokens = tokens + attention(normalised(tokens))
        wide = dense(normalised(tokens))
        tokens = tokens + dense(wide * 0.5 * (1 + erf(wide / np.sqrt(2))))
    expected = dense(normalised(tokens)[0])
    np.testing.assert_allclose(model.predict_on_batch(x[None])[0], expected, rtol=1e-3, atol=1e-5)


def test_attention_stays_within_a_sound():
    model = TINY["transformer"](0)
    x = samples(model, 3)
    alone = np.concatenate([model.predict_on_batch(x[k : k + 1]) for k in range(3)])
    np.testing.assert_allclose(model.predict_on_batch(x), alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", AUDIO_NETWORKS)
def test_published_audio_networks(name):
    model = AUDIO_NETWORKS[name](0, 35)
    assert model.input_shape == (None, *SOUND_SHAPE)
    assert model.output_shape == (None, 35)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds[1:5] == ["Conv1D", "BatchNormalization", "ReLU", "MaxPooling1D"]
    assert kinds[-2:] == ["GlobalMaxPooling1D", "Dense"]
    first = model.layers[1]
    assert (first.filters, first.kernel_size, first.strides) == (60, (80,), (16,))
    middle = {"rnn": ("SimpleRNN", 3), "lstm": ("LSTM", 3), "tcn": ("Conv1D", 4)}
    kind, count = middle.get(name, ("MultiHeadAttention", 3))
    assert kinds.count(kind) == count


def test_filters_of_the_tcn():
    filters = [layer.filters for layer in tcn(0, 35).layers if isinstance(layer, tf.keras.layers.Conv1D)]
    assert filters == [60, 60, 120, 120]


@pytest.mark.parametrize("name", ["mobilenet", "vgg16"])
def test_weights_of_an_application_come_from_a_file(name, tmp_path):
    options = {"image_shape": (32, 32, 3), "units": (4, 4)}
    make = getattr(tf.keras.applications, APPLICATIONS[name])
    base = make(include_top=False, weights=None, input_shape=(32, 32, 3))
    base.save_weights(tmp_path / "base.h5")
    model = application(name, 0, 3, weights=tmp_path / "base.h5", **options)
    for given, taken in zip(base.get_weights(), model.get_weights(), strict=False):
        np.testing.assert_array_equal(given, taken)
    (tmp_path / "junk.h5").write_bytes(b"junk")
    with pytest.raises(ModelError, match=f"junk.h5: not the weights of {APPLICATIONS[name]} without top"):
        application(name, 0, 3, weights=tmp_path / "junk.h5", **options)


def test_sizes_of_the_published_image_networks():
    assert list(IMAGE_NETWORKS) == [
        *(
            "small_cnn",
            "alexnet",
            "resnet50",
            "vgg16",
            "vgg19",
            "densenet121",
            "mobilenet",
            "googlenet",
            "vit",
        )
    ]
    model = googlenet(0)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Concatenate") == 9
    assert model.output_shape == (None, 10)
    assert model.count_params() == pytest.approx(6.0e6, rel=0.01)
    assert image_networks.IMAGE_SHAPE == (224, 224, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: application("resnet18", 0), r"application 'resnet18' is unknown: .*did you mean 'resnet50'"),
        (lambda: application("resnet50", 0, image_shape=(16, 32, 3)), "too small; give 32 rows"),
        (lambda: application("vgg16", 0, units=()), "give at least one hidden layer"),
        (lambda: application("mobilenet", 0, weights="none.h5", image_shape=(32, 32, 3)), "no such file"),
        (lambda: small_cnn(-1), "seed=-1: out of range"),
        (lambda: small_cnn(0, filters=()), r"filters=\(\): give at least one convolution"),
        (lambda: googlenet(0, 0), "n_classes=0: out of range"),
        (lambda: vit(0, heads=5), "heads that divide the width"),
        (lambda: vit(0, patch=15), "a patch that divides 224"),
        (lambda: transformer(0, 10, heads=7), "heads=7: do not divide width=60"),
        (lambda: rnn(0, 0), "rnn: sizes out of range"),
        (lambda: tcn(0, 10, sound_shape=(1000, 10)), "tcn: 1000 samples in time are too few"),
    ],
)
def test_bad_sizes_are_refused(build, message):
    with pytest.raises(ModelError, match=message):
        build()
