"""Networks of the IGC benchmark: layers, seeds, files, explanation, training."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tensorflow as tf

import xairt
from xairt import training
from xairt.benchmarks.igc.images import images
from xairt.errors import ModelError
from xairt.models.encoders import convnext, mlp
from xairt.models.saving import save_model

L = tf.keras.layers
IMAGES = np.random.default_rng(0).standard_normal((4, 64, 64, 1)).astype(np.float32)


def small(kind: str, seed: int = 0, outputs: int = 1, **options) -> tf.keras.Model:
    if kind == "mlp":
        return mlp(seed, outputs, units=(6, 5), **options)
    return convnext(seed, outputs, **{"widths": (4, 6, 8), "blocks": 2, "units": (6, 5)} | options)


def shaken(model: tf.keras.Model) -> tf.keras.Model:
    """Give every array values that matter: layer scales of 1e-6 would hide the blocks."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        shape = weight.shape.as_list()
        if "gamma" in weight.name or "variance" in weight.name or shape[:2] == [1, 1]:
            values = rng.uniform(0.5, 1.5, shape) / (shape[2] ** 0.5 if len(shape) == 4 else 1)
        elif len(shape) > 1:
            fan_in = np.prod(shape[:2]) if "depthwise" in weight.name else np.prod(shape[:-1])
            values = rng.standard_normal(shape) / fan_in**0.5
        else:
            values = 0.2 * rng.standard_normal(shape)
        weight.assign(values)
    return model


def naive_convnext(model: tf.keras.Model, x: np.ndarray) -> np.ndarray:
    """The network of `small("convnext")` in float64 numpy, from its weights in the order of the publication."""
    weights = iter([w.astype(np.float64) for layer in model.layers for w in layer.get_weights()])

    def take() -> np.ndarray:
        return next(weights)

    def normalised(x):
        scale, shift = take(), take()
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * scale + shift

    def halved(x):
        kernel, bias = take(), take()
        n, side, _, width = x.shape
        cells = x.reshape(n, side // 2, 2, side // 2, 2, width)
        return np.einsum("niajbc,abcd->nijd", cells, kernel) + bias

    def depthwise(x):
        kernel, bias = take(), take()
        padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
        side = x.shape[1]
        return bias + sum(
            padded[:, i : i + side, j : j + side] * kernel[i, j, :, 0] for i in range(7) for j in range(7)
        )

    def pointwise(x):
        kernel, bias = take(), take()
        return x @ kernel[0, 0] + bias

    def gelu(x):
        from scipy.stats import norm

        return x * norm.cdf(x)

    def block(x):
        y = pointwise(gelu(pointwise(normalised(depthwise(x)))))
        return x + y * take()[0, 0, :, 0]

    x = normalised(halved(x.astype(np.float64)))
    for _ in range(2):
        x = halved(normalised(block(block(x))))
    x = x.reshape(len(x), -1)
    for _ in range(2):
        x = x @ take()
        scale, shift, mean, variance = take(), take(), take(), take()
        x = (x - mean) / np.sqrt(variance + 1e-6) * scale + shift
        x = x * np.tanh(np.log1p(np.exp(x)))
    kernel, bias = take(), take()
    assert next(weights, None) is None
    return x @ kernel + bias


def test_convnext_is_the_naive_one():
    model = shaken(small("convnext"))
    want = naive_convnext(model, IMAGES[:2])
    np.testing.assert_allclose(model(IMAGES[:2], training=False), want, rtol=1e-4)
    assert np.ptp(want) > 1e-3 * np.abs(want).max()


def test_layers_of_the_publication():
    model = convnext(0, 4)
    kinds = [type(layer).__name__ for layer in model.layers]
    # Depthwise: 12 of 7 x 7 and 12 layer scales. Others: stem, 24 of 1 x 1, 4 that halve.
    assert [kinds.count(k) for k in ("DepthwiseConv2D", "Conv2D", "Add")] == [24, 29, 12]
    assert kinds.count("LayerNormalization") == 1 + 12 + 4
    widths = [
        layer.filters for layer in model.layers if type(layer) is L.Conv2D and layer.kernel_size == (2, 2)
    ]
    assert widths == [16, 32, 64, 128, 256]
    shares = [layer.rate for layer in model.layers if isinstance(layer, L.Dropout)]
    np.testing.assert_allclose(shares[:12], 0.5 * np.arange(12) / 11)
    assert shares[12:] == [0.25, 0.25]
    flat = next(layer for layer in model.layers if isinstance(layer, L.Flatten))
    assert flat.output_shape == (None, 2 * 2 * 256)
    scales = [w for layer in model.layers if isinstance(layer, L.DepthwiseConv2D)
              for w in layer.get_weights() if w.shape[:2] == (1, 1)]  # fmt: skip
    assert len(scales) == 12
    assert all((scale == np.float32(1e-6)).all() for scale in scales)
    assert [layer.units for layer in model.layers if isinstance(layer, L.Dense)] == [128, 16, 4]
    assert [layer.units for layer in mlp(0).layers if isinstance(layer, L.Dense)] == [256, 128, 64, 32, 16, 1]


@pytest.mark.parametrize("kind", ["mlp", "convnext"])
def test_seeds_and_random_state(kind):
    python, numpy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = (small(kind, seed) for seed in (3, 3, 4))
    for mine, equal, different in zip(one.weights, same.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine, equal)
        if "kernel" in mine.name and np.ptp(mine) > 0:
            assert not np.array_equal(mine, different)
    assert random.getstate() == python
    np.testing.assert_array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002


@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("kind", ["mlp", "convnext"])
def test_saved_networks_load_and_are_explained(kind, outputs, tmp_path):
    options = {} if kind == "mlp" else {"blocks": 1, "widths": (4, 6)}
    model = shaken(small(kind, outputs=outputs, **options))
    loaded = xairt.load_model(save_model(model, tmp_path / "model.h5"))
    want = model(IMAGES, training=False).numpy()
    np.testing.assert_array_equal(loaded(IMAGES, training=False), want)
    if outputs == 4:
        np.testing.assert_allclose(np.exp(want).sum(axis=1), 1, rtol=1e-5)
    target = 0 if outputs == 4 else None
    gradient = xairt.attribute(loaded, IMAGES, "gradient", target=target)
    x = tf.constant(IMAGES)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(model(x, training=False)[:, 0])
    slopes = tape.gradient(total, x).numpy()
    np.testing.assert_allclose(gradient.attribution, slopes, atol=1e-4 * np.abs(slopes).max())
    assert np.abs(slopes).max() > 0
    start = IMAGES[3]
    path = xairt.attribute(
        loaded, IMAGES[:3], "integrated_gradients", target=target, steps=256, baseline=start
    )
    reached = want[:3, 0] - want[3, 0]
    np.testing.assert_allclose(path.prediction, want[:3, 0], atol=1e-5 * np.abs(want).max())
    # Layer normalisation bends the path where the channels of a pixel agree: 64 steps miss by 2 %.
    error = np.abs(path.attribution.values.sum(axis=(1, 2, 3)) - reached).max()
    assert error < 0.005 * np.abs(reached).max()


def test_stochastic_depth_leaves_whole_samples_out():
    """In training a block of share 0.5 gives a sample's input unchanged, or adds twice the branch."""
    model = shaken(small("convnext", stochastic_depth=0.5))
    add = [layer for layer in model.layers if isinstance(layer, L.Add)][-1]
    drop = [layer for layer in model.layers if isinstance(layer, L.Dropout) and layer.noise_shape][-1]
    assert drop.rate == 0.5
    branch = np.random.default_rng(0).uniform(1, 2, (200, 4, 4, 6)).astype(np.float32)
    kept = drop(branch, training=True).numpy() / branch
    per_sample = kept.reshape(200, -1)
    assert np.ptp(per_sample, axis=1).max() == 0
    assert set(np.unique(per_sample)) == {0.0, 2.0}
    assert 60 < (per_sample[:, 0] == 0).sum() < 140
    assert add.input[1].name.startswith(drop.name)


@pytest.mark.parametrize(
    ("kind", "options"), [("mlp", {}), ("convnext", {"blocks": 1, "widths": (4, 4), "stochastic_depth": 0.0})]
)
def test_networks_learn_by_adamw_with_the_rate_lowered_on_plateaus(kind, options):
    x = images(64, part="train")[..., np.newaxis]
    y = 3 * x[:, :32].mean(axis=(1, 2, 3))
    schedule, callback = training.plateau_decay(0.01, 4, factor=0.5)
    history = training.fit(
        small(kind, dropout=0.0, **options),
        x,
        y,
        epochs=15,
        batch_size=16,
        optimizer=tf.keras.optimizers.AdamW(5e-5),
        validation=(x[:20], -y[:20]),
        schedule=schedule,
        callback=callback,
    )
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert history["learning_rate"][0] == 0.01
    assert history["learning_rate"][-1] < 0.01


def test_classes_are_learnt_by_their_log_likelihood():
    x = np.random.default_rng(3).standard_normal((64, 64, 64, 1)).astype(np.float32)
    classes = np.arange(64) % 4
    x[np.arange(64), classes * 16] += 2
    history = training.fit(
        small("mlp", outputs=4, dropout=0.0),
        x,
        np.eye(4, dtype=np.float32)[classes],
        epochs=8,
        batch_size=16,
        optimizer=tf.keras.optimizers.AdamW(0.01),
        loss=training.negative_log_likelihood,
        metrics={"accuracy": tf.keras.metrics.categorical_accuracy},
    )
    assert history["loss"][-1] < 0.5
    assert history["accuracy"][-1] > 0.9


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: convnext(0, widths=(4,)), r"widths=\(4,\)"),
        (lambda: convnext(0, blocks=0), "blocks=0"),
        (lambda: convnext(0, stochastic_depth=1.0), "stochastic_depth=1.0: out of range"),
        (lambda: convnext(-1), "seed=-1"),
        (lambda: mlp(0, outputs=0), "outputs=0"),
        (lambda: mlp(0, dropout=1.0), "dropout=1.0: out of range"),
        (lambda: mlp(0, units=()), "at least one hidden layer"),
    ],
)
def test_bad_sizes_are_refused(build, reason):
    with pytest.raises(ModelError, match=reason):
        build()
