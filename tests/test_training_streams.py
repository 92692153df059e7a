"""Training on datasets that are read while it runs, and the schedule of cosine restarts."""

import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.io import wavfile

from xairt.errors import DataError, DivergedError, ModelError
from xairt.training import (
    cosine_restarts,
    file_batches,
    fit,
    fit_dataset,
    read_png,
    read_wav,
    shuffled_file_batches,
)
from xairt.training.loop import epoch_order

N, SIDE, BATCH = 22, 6, 8


def network(outputs=3, seed=1, shape=(SIDE, SIDE, 3)):
    glorot = tf.keras.initializers.GlorotUniform
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input(shape),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(5, "relu", kernel_initializer=glorot(seed)),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.Dense(outputs, kernel_initializer=glorot(seed + 1)),
        ]
    )


def cross_entropy(labels, outputs):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.reshape(labels, [-1]), outputs)


def arrays(n=N):
    random = np.random.default_rng(0)
    return random.uniform(-1, 1, (n, SIDE, SIDE, 3)).astype("float32"), random.integers(0, 3, n)


def shuffled(x, y, seed=0):
    """The batches that `fit` makes of arrays, as datasets."""

    def of_epoch(epoch):
        order = epoch_order(len(x), seed, epoch)
        return tf.data.Dataset.from_tensor_slices((x[order], y[order])).batch(BATCH)

    return of_epoch


@pytest.fixture
def pictures(tmp_path):
    """PNG files, and the arrays that they hold."""
    levels = np.random.default_rng(2).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
    files = [tmp_path / f"{k}.png" for k in range(N)]
    for file, picture in zip(files, levels, strict=True):
        Image.fromarray(picture).save(file)
    return files, levels / np.float32(127.5) - 1, np.arange(N) % 3


def same_history(one, two):
    assert list(one.columns) == list(two.columns)
    for name in set(one.columns) - {"seconds"}:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("optimizer", ["sgd", tf.keras.optimizers.AdamW(1e-2)], ids=["sgd", "adamw"])
def test_same_batches_give_the_same_training(optimizer):
    (x, y), validation = arrays(), arrays(10)
    common = {
        "epochs": 3,
        "optimizer": optimizer,
        "loss": cross_entropy,
        "metrics": {"accuracy": tf.keras.metrics.sparse_categorical_accuracy},
        "schedule": cosine_restarts(0.05, 2),
        "keep_best": True,
    }
    whole, streamed = network(), network()
    expected = fit(whole, x, y, batch_size=BATCH, validation=validation, seed=4, **common)
    held_out = tf.data.Dataset.from_tensor_slices(validation).batch(10)
    found = fit_dataset(streamed, shuffled(x, y, 4), validation=held_out, **common)
    same_history(found, expected)
    assert found.best_epoch == expected.best_epoch
    np.testing.assert_allclose(found["learning_rate"], [0.05, 0.025, 0.05])
    for one, two in zip(streamed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


def test_real_targets_of_one_output():
    x, y = arrays()[0], np.linspace(0, 1, N)
    whole, streamed = network(1), network(1)
    expected = fit(whole, x, y, epochs=2, batch_size=BATCH)
    same_history(fit_dataset(streamed, shuffled(x, y), epochs=2), expected)


def test_pictures_are_streamed_as_they_are_trained_on_in_memory(pictures):
    files, x, y = pictures
    whole, streamed = network(), network()
    expected = fit(whole, x, y, epochs=2, batch_size=BATCH, loss=cross_entropy, seed=3)
    batches = shuffled_file_batches(files, y, read_png((SIDE, SIDE, 3)), BATCH, seed=3)
    same_history(fit_dataset(streamed, batches, epochs=2, loss=cross_entropy), expected)


def test_sounds_are_read_as_they_were_written(tmp_path):
    sounds = np.random.default_rng(0).integers(-32768, 32768, (3, 50, 10), dtype=np.int16)
    files = [tmp_path / f"{k}.wav" for k in range(3)]
    for file, sound in zip(files, sounds, strict=True):
        wavfile.write(file, 16_000, sound)
    batches = list(file_batches(files, [2, 0, 1], read_wav((50, 10), 16_000), 2))
    assert [tuple(x.shape) for x, _ in batches] == [(2, 50, 10), (1, 50, 10)]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), sounds / np.float32(32768))
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), [2, 0, 1])


def test_every_epoch_has_an_order_of_its_own_that_the_seed_decides(pictures):
    files, _, _ = pictures
    batches = shuffled_file_batches(files, np.arange(N), read_png((SIDE, SIDE, 3)), BATCH, seed=7)
    first, again, second = (np.concatenate([y for _, y in batches(epoch)]) for epoch in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert sorted(second) == list(range(N))
    assert (first != second).any()


def test_ctrl_c_ends_after_the_running_epoch():
    x, y = arrays()

    def press(epoch, record):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    history = fit_dataset(network(), shuffled(x, y), epochs=5, loss=cross_entropy, callback=press)
    assert history.interrupted
    assert len(history) == 2


def test_a_broken_file_is_told_by_its_epoch(pictures):
    files, _, y = pictures
    files[3].write_bytes(b"no picture")
    batches = file_batches(files, y, read_png((SIDE, SIDE, 3)), BATCH)
    with pytest.raises(DataError, match=r"^dataset in epoch 1: fails \(.*; check its files and labels$"):
        fit_dataset(network(), batches, epochs=1, loss=cross_entropy)
    files[3].unlink()
    with pytest.raises(DataError, match=r"3\.png"):
        fit_dataset(network(), batches, epochs=1, loss=cross_entropy)


def test_wrong_size_of_a_picture(pictures):
    files, _, y = pictures
    Image.new("RGB", (SIDE, SIDE + 1)).save(files[-1])
    batches = file_batches(files, y, read_png((SIDE, SIDE, 3)), BATCH)
    with pytest.raises(DataError, match="dataset in epoch 1: fails"):
        fit_dataset(network(), batches, epochs=1, loss=cross_entropy)


def slices(*values):
    return tf.data.Dataset.from_tensor_slices(values)


def ragged():
    signature = (tf.TensorSpec((None, None, SIDE, 3)), tf.TensorSpec((None,), tf.int64))
    return tf.data.Dataset.from_generator(lambda: iter([arrays()]), output_signature=signature)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda x, y: slices(x).batch(4), "dataset: gives no pairs of tensors"),
        (lambda x, y: (x, y), "dataset: gives no pairs of tensors"),
        (lambda x, y: slices(x, y).batch(4).repeat(), "dataset: never ends; cut it with dataset.take"),
        (lambda x, y: slices(x, y).batch(4).take(0), "dataset: gives no sample"),
        (lambda x, y: slices(x, y).filter(lambda a, b: b > 5).batch(4), "epoch 1: gives no sample"),
        (lambda x, y: ragged(), "dataset: batches of unknown shape"),
        (
            lambda x, y: slices(x[:, 1:], y).batch(4),
            r"dataset x: samples of shape \(5, 6, 3\), the model takes",
        ),
        (
            lambda x, y: slices(x, x).batch(4),
            r"dataset y: samples of shape \(6, 6, 3\), the model gives \(3,\)",
        ),
        (lambda x, y: slices(x * np.inf, y).batch(4), "epoch 1: x holds NaN or infinity"),
        (lambda x, y: slices(x, y + 3).batch(4), "epoch 1: fails"),
    ],
)
def test_what_is_no_dataset_to_train_on_is_refused(dataset, message):
    model = network()
    before = [weight.numpy() for weight in model.trainable_weights]
    with pytest.raises(DataError, match=message):
        fit_dataset(model, dataset(*arrays()), epochs=1, loss=cross_entropy)
    for one, two in zip(model.trainable_weights, before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_later_dataset_that_fails_leaves_the_best_weights():
    x, y = arrays()
    model, seen = network(), []

    def of_epoch(epoch):
        return slices(x if epoch < 3 else x * np.nan, y).batch(BATCH)

    def remember(epoch, record):
        seen.append((record["val_loss"], model.get_weights()))

    with pytest.raises(DataError, match="dataset in epoch 3: x holds NaN"):
        fit_dataset(
            model,
            of_epoch,
            epochs=4,
            loss=cross_entropy,
            validation=slices(x, y).batch(N),
            keep_best=True,
            callback=remember,
        )
    best = min(seen, key=lambda pair: pair[0])[1]
    for one, two in zip(model.get_weights(), best, strict=True):
        np.testing.assert_array_equal(one, two)


def test_other_refusals():
    x, y = arrays()
    batches = slices(x, y).batch(4)
    with pytest.raises(DataError, match="epochs=0: out of range"):
        fit_dataset(network(), batches, epochs=0)
    with pytest.raises(DataError, match="validation: gives no sample"):
        fit_dataset(network(), batches, epochs=1, loss=cross_entropy, validation=batches.take(0))
    with pytest.raises(DataError, match="keep_best: no validation data"):
        fit_dataset(network(), batches, epochs=1, loss=cross_entropy, keep_best=True)
    with pytest.raises(DivergedError, match=r"loss .* in epoch"):
        fit_dataset(network(), batches, epochs=9, loss=lambda a, b: cross_entropy(a, b) * np.inf)
    inputs = [tf.keras.layers.Input((2,)) for _ in range(2)]
    two = tf.keras.Model(inputs, tf.keras.layers.Add()(inputs))
    with pytest.raises(ModelError, match="has several inputs"):
        fit_dataset(two, batches, epochs=1)


@pytest.mark.parametrize(
    ("files", "labels", "batch_size", "message"),
    [
        ([], [], 4, r"files \(0,\) and labels \(0,\): give one label"),
        (["a.png"], [0, 1], 4, r"files \(1,\) and labels \(2,\): give one label"),
        (["a.png"], [0], 0, "batch_size=0: out of range"),
    ],
)
def test_bad_lists_of_files(files, labels, batch_size, message):
    for make in (file_batches, shuffled_file_batches):
        with pytest.raises(DataError, match=message):
            make(files, labels, read_png((SIDE, SIDE, 3)), batch_size)


def test_cosine_restarts_is_the_published_formula():
    schedule = cosine_restarts(0.3, 30, minimum=0.1)
    rates = [schedule(epoch) for epoch in range(1, 61)]
    expected = 0.1 + 0.5 * 0.2 * (1 + np.cos(np.pi * np.arange(30) / 30))
    np.testing.assert_allclose(rates, np.tile(expected, 2))
    assert cosine_restarts(0.3, 1)(7) == 0.3


@pytest.mark.parametrize("given", [(0.0, 3), (np.inf, 3), (0.1, 0), (0.1, 3, 0.2), (0.1, 3, -0.1)], ids=str)
def test_cosine_restarts_out_of_range(given):
    with pytest.raises(DataError, match=r"cosine_restarts.*out of range"):
        cosine_restarts(*given)
