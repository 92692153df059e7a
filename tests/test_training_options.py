"""Options of the compiled training loop: weights of samples, metrics, schedules, constraints, the best epoch."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import xairt
from xairt import training
from xairt.errors import DataError, DivergedError
from xairt.models.architectures import dense_network
from xairt.training import memory

RNG = np.random.default_rng(1)
X = RNG.standard_normal((60, 4)).astype(np.float32)
CLASSES = (X[:, 0] + 0.5 * RNG.standard_normal(60) > 0.4).astype(int)
Y = np.eye(2, dtype=np.float32)[CLASSES]
WEIGHTS = np.where(CLASSES == 1, 3.0, 0.5)
CROSS_ENTROPY = "categorical_crossentropy"


def softmax_network(**fields):
    return dense_network(4, [{"size": 2, "activation": "softmax", **fields}], seed=3)


def nesterov():
    return tf.keras.optimizers.legacy.SGD(0.1, 0.9, nesterov=True)


def naive_training(model, epochs, rates, weights=1.0, l2=0.0, bias_l2=0.0):
    """Softmax regression in float64 by Nesterov's momentum, one step per epoch; returns losses and weights."""
    kernel, bias = (array.astype(np.float64) for array in model.get_weights())
    speeds, losses = [0.0, 0.0], []
    for epoch in range(epochs):
        logits = X @ kernel + bias
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        loss = np.mean(weights * -np.log(share[np.arange(60), CLASSES]))
        losses.append(loss + l2 * np.sum(kernel**2) + bias_l2 * np.sum(bias**2))
        error = np.reshape(weights, (-1, 1)) * (share - Y) / 60
        slopes = [X.T @ error + 2 * l2 * kernel, error.sum(axis=0) + 2 * bias_l2 * bias]
        speeds = [0.9 * v - rates[epoch] * g for v, g in zip(speeds, slopes, strict=True)]
        kernel, bias = (
            w + 0.9 * v - rates[epoch] * g for w, v, g in zip((kernel, bias), speeds, slopes, strict=True)
        )
    return losses, kernel, bias


@pytest.mark.parametrize("loss", [CROSS_ENTROPY, tf.keras.losses.CategoricalCrossentropy()])
def test_weighted_loss_with_regularisation_is_the_naive_one(loss):
    model = softmax_network(l2=0.3, bias_l2=0.7)
    losses, kernel, bias = naive_training(model, 4, [0.1] * 4, WEIGHTS, 0.3, 0.7)
    history = training.fit(
        model, X, Y, epochs=4, batch_size=60, optimizer=nesterov(), loss=loss, sample_weight=WEIGHTS
    )
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], bias, rtol=1e-4, atol=1e-6)


def test_class_weights_validation_loss_and_accuracy_are_those_of_keras():
    ours, keras = (softmax_network(l2=0.1) for _ in range(2))
    held_out = (X[::-1][:20] * 1.5, Y[::-1][:20])
    keras.compile(nesterov(), CROSS_ENTROPY, metrics=["accuracy"])
    options = {"batch_size": 60, "epochs": 3, "verbose": 0, "class_weight": {0: 0.5, 1: 3.0}}
    wanted = keras.fit(X, Y, validation_data=held_out, **options).history
    found = training.fit(
        ours,
        X,
        Y,
        epochs=3,
        batch_size=60,
        optimizer=nesterov(),
        loss=CROSS_ENTROPY,
        validation=held_out,
        sample_weight=WEIGHTS,
        metrics={"accuracy": tf.keras.metrics.categorical_accuracy},
    )
    assert list(found.columns) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"]
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)


def test_metrics_of_short_batches_are_means_over_samples():
    model = softmax_network()
    right = model(X).numpy().argmax(axis=1) == CLASSES
    history = training.fit(
        model,
        X,
        Y,
        epochs=1,
        batch_size=32,
        optimizer=tf.keras.optimizers.legacy.SGD(1e-12),
        loss=CROSS_ENTROPY,
        validation=(X[:7], Y[:7]),
        metrics={"accuracy": tf.keras.metrics.categorical_accuracy},
    )
    assert history["accuracy"][0] == pytest.approx(right.mean())
    assert history["val_accuracy"][0] == pytest.approx(right[:7].mean())


@pytest.mark.parametrize("kind", [tf.keras.optimizers.legacy.SGD, tf.keras.optimizers.SGD])
def test_schedule_sets_the_rate_of_each_epoch(kind):
    model, rates = softmax_network(), [0.2, 0.2, 0.1, 0.1, 0.05]
    losses, kernel, _ = naive_training(model, 5, rates)
    history = training.fit(
        model,
        X,
        Y,
        epochs=5,
        batch_size=60,
        optimizer=kind(7.0, 0.9, nesterov=True),
        loss=CROSS_ENTROPY,
        schedule=training.step_decay(0.2, every=2),
    )
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-4, atol=1e-6)
    assert history["learning_rate"].tolist() == rates


def test_keras_schedule_of_the_optimizer_counts_steps():
    model = softmax_network()
    by_steps = tf.keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.2, 0.1, 0.05])
    losses, _, _ = naive_training(model, 4, [0.2, 0.2, 0.1, 0.05])
    optimizer = tf.keras.optimizers.legacy.SGD(by_steps, 0.9, nesterov=True)
    history = training.fit(model, X, Y, epochs=4, batch_size=60, optimizer=optimizer, loss=CROSS_ENTROPY)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)


@pytest.mark.parametrize("kind", [tf.keras.optimizers.legacy.SGD, tf.keras.optimizers.SGD])
def test_constraints_hold_after_every_step(kind):
    model = softmax_network(constraint="non_neg", bias_constraint=tf.keras.constraints.MaxNorm(0.01))
    free = softmax_network()
    for network in (model, free):
        training.fit(network, X, Y, epochs=3, optimizer=kind(0.1), loss=CROSS_ENTROPY)
    kernel, bias = model.get_weights()
    assert kernel.min() == 0
    assert np.linalg.norm(bias) <= 0.0101
    assert free.get_weights()[0].min() < -0.1
    assert np.linalg.norm(free.get_weights()[1]) > 0.05


# ------------------------------------------------------------------------------------ the best epoch

OVERFITTED = (-X[:20], Y[:20])
"""Validation data of the opposite relation: the loss rises while the network learns."""


def learning(model, **options):
    given = {"epochs": 8, "optimizer": nesterov(), "loss": CROSS_ENTROPY, "validation": OVERFITTED}
    return training.fit(model, X, Y, **(given | options))


def total_loss(model, x, y):
    data = tf.reduce_mean(tf.keras.losses.categorical_crossentropy(y, model(x)))
    return float(tf.add_n([data, *model.losses]))


def test_best_weights_are_those_of_the_smallest_validation_loss_with_regularisation():
    model, same, last = (softmax_network(l2=0.05) for _ in range(3))
    history = learning(model, keep_best=True)
    best = history.best_epoch
    assert best == int(history["val_loss"].argmin()) + 1 < 8
    learning(same, epochs=best)
    np.testing.assert_array_equal(model.get_weights()[0], same.get_weights()[0])
    assert total_loss(model, *OVERFITTED) == pytest.approx(history["val_loss"].min(), rel=1e-5)
    assert learning(last).best_epoch is None
    assert not np.array_equal(last.get_weights()[0], model.get_weights()[0])


def test_checkpoint_holds_the_best_weights_and_can_be_loaded(tmp_path):
    model, best = (softmax_network(l2=0.05, constraint="max_norm") for _ in range(2))
    history = learning(model, checkpoint=tmp_path / "run" / "best.h5")
    learning(best, keep_best=True)
    loaded = xairt.load_model(tmp_path / "run" / "best.h5")
    np.testing.assert_array_equal(loaded.get_weights()[0], best.get_weights()[0])
    assert not np.array_equal(model.get_weights()[0], best.get_weights()[0])
    assert history.best_epoch < len(history)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["best.h5"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_best_weights_come_back_after_interruption_and_error(error):
    model, wanted = softmax_network(), softmax_network()
    best = learning(wanted, keep_best=True).best_epoch

    def stop(epoch, record):
        if epoch == best + 2:
            raise error("of the user")

    if error is KeyboardInterrupt:
        history = learning(model, keep_best=True, callback=stop)
        assert history.interrupted
        assert (history.best_epoch, len(history)) == (best, best + 2)
    else:
        with pytest.raises(KeyError, match="of the user"):
            learning(model, keep_best=True, callback=stop)
    np.testing.assert_array_equal(model.get_weights()[0], wanted.get_weights()[0])


def test_early_stopping_ends_after_patience_and_begins_anew():
    stop = training.early_stopping(2)
    for _ in range(2):
        history = learning(softmax_network(), epochs=50, keep_best=True, callback=stop)
        assert len(history) == history.best_epoch + 2
    rising = training.early_stopping(1, monitor="val_accuracy", mode="max")
    assert [rising(e, {"val_accuracy": a}) for e, a in [(1, 0.5), (2, 0.6), (3, 0.6)]] == [False, False, True]
    with pytest.raises(DataError, match="no column 'val_f1' in epoch, loss"):
        learning(softmax_network(), callback=training.early_stopping(2, monitor="val_f1"))


# ----------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"keep_best": True, "validation": None}, "keep_best: no validation data"),
        ({"checkpoint": "best.h5", "validation": None}, "checkpoint: no validation data"),
        ({"checkpoint": "best.keras"}, "checkpoint best.keras: no Keras HDF5 file"),
        ({"sample_weight": WEIGHTS[:9]}, r"sample_weight \(9,\): give one number for each of the 60"),
        ({"sample_weight": WEIGHTS * np.nan}, "sample_weight: holds NaN"),
        ({"sample_weight": -WEIGHTS}, "sample_weight: negative, or all 0"),
        ({"sample_weight": WEIGHTS * 0}, "sample_weight: negative, or all 0"),
        (
            {"sample_weight": WEIGHTS, "loss": lambda y, p: tf.reduce_mean((y - p) ** 2)},
            "the loss gives one number for all samples",
        ),
        ({"schedule": lambda epoch: 0.0}, r"schedule: learning rate 0\.0 in epoch 1; return a positive"),
        ({"schedule": lambda epoch: None}, "schedule: learning rate None in epoch 1"),
        ({"schedule": 0.1}, "schedule float: no function of the epoch"),
        (
            {"schedule": tf.keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)},
            "schedule ExponentialDecay: no function of the epoch; give a Keras schedule, which counts steps",
        ),
        (
            {
                "schedule": training.step_decay(0.1),
                "optimizer": tf.keras.optimizers.SGD(
                    tf.keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
                ),
            },
            "the optimizer has a schedule of its own",
        ),
    ],
)
def test_bad_options_are_refused_before_training(options, reason):
    model = softmax_network()
    before = model.get_weights()[0]
    with pytest.raises(DataError, match=reason):
        learning(model, **options)
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_infinite_validation_loss_is_divergence():
    def loss(y, prediction):
        return tf.reduce_sum((y - prediction) ** 2, axis=-1) * tf.where(y[:, 0] > 1, np.inf, 1.0)

    with pytest.raises(DivergedError, match="validation loss inf in epoch 1; lower the learning rate"):
        learning(softmax_network(), loss=loss, validation=(X[:4], Y[:4] + 2))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: training.step_decay(0.0), r"step_decay\(0.0, every=50, factor=0.5\): out of range"),
        (lambda: training.step_decay(0.1, every=0), "every=0"),
        (lambda: training.early_stopping(0), r"early_stopping\(0, mode='min'\): out of range"),
        (lambda: training.early_stopping(3, mode="least"), "mode='least'"),
    ],
)
def test_bad_schedules_and_callbacks_are_refused(make, reason):
    with pytest.raises(DataError, match=reason):
        make()


def test_an_aligned_array_is_trained_with_where_it_is():
    own = memory.empty(X.shape)
    own[:] = X
    tensor = memory.tensor_of(own)
    own[3, 2] = 7
    assert tensor[3, 2] == 7
    own[3, 2] = X[3, 2]
    elsewhere = memory.empty((X.size + 1,))[1:].reshape(X.shape)  # 4 bytes off
    elsewhere[:] = X
    copy = memory.tensor_of(elsewhere)
    elsewhere[3, 2] = 7
    assert copy[3, 2] == X[3, 2]
    for other in (own.astype(np.float64), own[:, ::-1], own[:0]):
        np.testing.assert_array_equal(memory.tensor_of(other, tf.float32), other.astype(np.float32))
    own.flags.writeable = False
    np.testing.assert_array_equal(memory.tensor_of(own), X)


def test_training_with_an_aligned_array_is_training():
    losses = []
    for x in (X, memory.empty(X.shape)):
        x[:] = X
        history = training.fit(softmax_network(), x, Y, epochs=3, loss=CROSS_ENTROPY)
        losses.append(history["loss"])
        np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(*losses)


# ------------------------------------------------------------- rates lowered on plateaus, fresh data


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_plateau_decay_gives_the_rates_of_keras(patience):
    losses = np.random.default_rng(4).uniform(size=40).round(1)
    keras = tf.keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, patience, min_delta=0, min_lr=0.02)
    network = softmax_network()
    network.compile(tf.keras.optimizers.legacy.SGD(0.4), "mse")
    keras.set_model(network)
    keras.on_train_begin()
    schedule, callback = training.plateau_decay(0.4, patience, factor=0.5, minimum=0.02)
    for _ in range(2):
        rates, wanted = [], []
        network.optimizer.learning_rate.assign(0.4)
        keras.on_train_begin()
        for epoch, loss in enumerate(losses, start=1):
            rates.append(schedule(epoch))
            wanted.append(float(network.optimizer.learning_rate))
            assert callback(epoch, {"val_loss": loss}) is False
            keras.on_epoch_end(epoch, {"val_loss": loss})
        np.testing.assert_allclose(rates, wanted, rtol=1e-6)
        assert rates[-1] < rates[0]


def test_plateau_decay_steers_a_training():
    schedule, callback = training.plateau_decay(0.1, 2, factor=0.5)
    history = learning(softmax_network(), optimizer=nesterov(), schedule=schedule, callback=callback)
    assert history["val_loss"].argmin() == 0
    assert history["learning_rate"].tolist() == [0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.0125]


@pytest.mark.parametrize(
    ("arguments", "options", "reason"),
    [
        ((0.0,), {}, "give a positive rate"),
        ((0.1, 0), {}, "patience >= 1"),
        ((0.1,), {"factor": 1.0}, "factor=1.0"),
        ((0.1,), {"minimum": 0.2}, "minimum=0.2"),
    ],
)
def test_bad_plateaus_are_refused(arguments, options, reason):
    with pytest.raises(DataError, match=reason):
        training.plateau_decay(*arguments, **options)


def test_plateau_of_a_column_that_is_not_there():
    _, callback = training.plateau_decay(0.1, monitor="val_mse")
    with pytest.raises(DataError, match="plateau_decay: no column 'val_mse' in loss"):
        callback(1, {"loss": 1.0})


def test_fresh_samples_of_each_epoch():
    """As trainings of one epoch each, one after the other, without momentum."""
    sets = {epoch: (X + epoch, Y[::-1] if epoch == 2 else Y) for epoch in (1, 2, 3)}
    plain = {"batch_size": 16, "optimizer": tf.keras.optimizers.legacy.SGD(0.1), "loss": CROSS_ENTROPY}
    one, asked = softmax_network(), []

    def fresh(epoch):
        asked.append(epoch)
        return sets[epoch]

    history = training.fit(one, *sets[1], epochs=3, fresh=fresh, seed=5, **plain)
    assert asked == [2, 3]
    kernel, bias = softmax_network().get_weights()
    for epoch in (1, 2, 3):
        x, y = sets[epoch]
        order = np.random.default_rng([5, epoch]).permutation(60)
        losses = []
        for start in range(0, 60, 16):
            rows = order[start : start + 16]
            logits = x[rows] @ kernel + bias
            share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            losses += (-(y[rows] * np.log(share)).sum(axis=1)).tolist()
            error = (share - y[rows]) / len(rows)
            kernel, bias = kernel - 0.1 * x[rows].T @ error, bias - 0.1 * error.sum(axis=0)
        assert history["loss"][epoch - 1] == pytest.approx(np.mean(losses), rel=1e-4)
    np.testing.assert_allclose(one.get_weights()[0], kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one.get_weights()[1], bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "options", "reason"),
    [
        (
            (X[:30], Y[:30]),
            {},
            r"fresh\(2\) x and y: \(30, 4\) of float32 where the first epoch has \(60, 4\)",
        ),
        ((X * np.nan, Y), {}, r"fresh\(2\) x: holds NaN"),
        ((X, Y[:9]), {}, r"fresh\(2\) y \(9, 2\): numbers of samples differ"),
        ((X, Y), {"sample_weight": WEIGHTS}, "leave them or fresh out"),
    ],
)
def test_bad_fresh_samples_are_refused(given, options, reason):
    with pytest.raises(DataError, match=reason):
        learning(softmax_network(), fresh=lambda epoch: given, epochs=2, **options)


def test_steps_compiled_by_xla_train_the_same_network():
    found = []
    for jit_compile in (False, True):
        model = dense_network(
            4, [{"size": 7, "activation": "gelu"}, {"size": 2, "activation": "softmax"}], seed=1
        )
        history = training.fit(
            *(model, X, Y),
            epochs=8,
            batch_size=16,  # and a last batch of 12
            optimizer="adam",
            loss=CROSS_ENTROPY,
            metrics={"accuracy": tf.keras.metrics.categorical_accuracy},
            jit_compile=jit_compile,
        )
        found.append((model.get_weights(), history["loss"], history["accuracy"]))
    (plain, *columns), (compiled, *same) = found
    for one, other in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(same, columns, rtol=1e-5)
