"""Network of the SST benchmark and the compiled training loop."""

from __future__ import annotations

import csv
import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from xairt import training
from xairt.errors import DataError, ModelError
from xairt.models.architectures import linear, mamalakis2022

RNG = np.random.default_rng(0)
X = RNG.standard_normal((70, 5)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5, 0.0, 3.0])).astype(np.float32)


def _network(seed=1, outputs=1):
    kernel = tf.keras.initializers.GlorotUniform(seed=seed)
    layers = [tf.keras.layers.Input((5,)), tf.keras.layers.Dense(outputs, kernel_initializer=kernel)]
    return tf.keras.Sequential(layers)


def _with(array, value):
    changed = array.copy()
    changed.flat[7] = value
    return changed


def _naive_sgd(model, x, y, epochs, batch, rate, seed):
    """Train one Dense layer of one output by hand in float64, from the same start and order."""
    kernel, bias = (weight.astype(np.float64) for weight in model.get_weights())
    losses = []
    for epoch in range(1, epochs + 1):
        order = np.random.default_rng([seed, epoch]).permutation(len(x))
        total = 0.0
        for start in range(0, len(x), batch):
            rows = order[start : start + batch]
            error = (x[rows] @ kernel + bias)[:, 0] - y[rows]
            total += np.sum(error**2)
            kernel = kernel - rate * 2 * (x[rows].T @ error)[:, None] / len(rows)
            bias = bias - rate * 2 * error.mean()
        losses.append(total / len(x))
    return losses, kernel, bias


def test_network_of_the_paper():
    model = mamalakis2022(458, seed=0)
    assert model.count_params() == 410_112
    assert [layer.units for layer in model.layers] == [512, 256, 128, 64, 32, 16, 1]
    assert [layer.activation.__name__ for layer in model.layers] == ["relu"] * 6 + ["linear"]
    assert not model.layers[-1].use_bias
    assert getattr(model, "optimizer", None) is None
    first, *inner = model.layers
    kernel, bias = first.get_weights()
    assert kernel.std() == pytest.approx(1 / 458, rel=0.02)
    assert abs(kernel).max() > 3 / 458
    assert (bias == 0).all()
    for layer in inner[:3]:
        weights, biases = layer.get_weights()
        assert weights.std() == pytest.approx(np.sqrt(2 / len(weights)), rel=0.05)
        assert biases.std() == pytest.approx(np.sqrt(2 / len(biases)), rel=0.35)


def test_networks_are_seeded_and_leave_random_state_alone():
    tf.random.set_seed(3)
    np.random.seed(3)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    wanted = tf.random.uniform((2,)).numpy()
    tf.random.set_seed(3)
    one, two, other = (mamalakis2022(10, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(tf.random.uniform((2,)).numpy(), wanted)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    for a, b, c in zip(one.get_weights(), two.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a == 0).all() or not np.array_equal(a, c)


def test_linear_control_model():
    model = linear(458, seed=0)
    (kernel,) = model.get_weights()
    assert kernel.shape == (458, 1)
    assert kernel.std() == pytest.approx(1 / 458, rel=0.15)
    with pytest.raises(ModelError, match="n_inputs=0, seed=0: out of range"):
        linear(0, seed=0)


def test_loop_is_plain_sgd_with_a_short_last_batch():
    model = _network()
    losses, kernel, bias = _naive_sgd(model, X, Y, epochs=3, batch=32, rate=0.02, seed=7)
    history = training.fit(model, X, Y, epochs=3, seed=7)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], bias, rtol=1e-4, atol=1e-6)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert not history.interrupted


def test_same_seed_same_weights_and_data_untouched():
    x, y = X.copy(), Y.copy()
    results = []
    for seed in (0, 0, 1):
        model = mamalakis2022(5, seed=0)
        training.fit(model, x, y, epochs=2, seed=seed)
        results.append(model.get_weights()[2])
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


def test_validation_loss_is_that_of_the_epochs_end():
    model = _network()
    history = training.fit(model, X[:50], Y[:50], epochs=2, validation=(X[50:], Y[50:]))
    wanted = np.mean((model(X[50:]).numpy()[:, 0] - Y[50:]) ** 2)
    assert history["val_loss"][-1] == pytest.approx(wanted, rel=1e-5)
    assert (history["seconds"] > 0).all()


def test_compile_state_and_optimizer_stay():
    optimizer, mine = tf.keras.optimizers.Adam(0.1), tf.keras.optimizers.SGD(0.5)
    model = _network()
    model.compile(mine, "mae", metrics=["mse"])
    metrics = list(model.metrics_names)
    training.fit(model, X, Y, epochs=1, optimizer=optimizer)
    assert model.optimizer is mine
    assert model.loss == "mae"
    assert model.metrics_names == metrics
    assert int(optimizer.iterations) == 0
    assert not optimizer.variables[2:]
    fresh = _network()
    training.fit(fresh, X, Y, epochs=1)
    assert getattr(fresh, "optimizer", None) is None


@pytest.mark.parametrize(
    "optimizer", ["adam", tf.keras.optimizers.Adam(0.001), tf.keras.optimizers.legacy.Adam()]
)
def test_optimizers_by_name_and_object_agree(optimizer):
    model, reference = _network(), _network()
    training.fit(model, X, Y, epochs=2, optimizer=optimizer, batch_size=70)
    reference.compile(tf.keras.optimizers.Adam(0.001), "mse")
    reference.fit(X, Y, batch_size=70, epochs=2, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], reference.get_weights()[0], rtol=1e-5)


def test_regularisation_and_batch_norm_are_trained():
    layers = [
        tf.keras.layers.Input((5,)),
        tf.keras.layers.BatchNormalization(momentum=0.5),
        tf.keras.layers.Dense(1, kernel_regularizer=tf.keras.regularizers.L2(10.0)),
    ]
    model = tf.keras.Sequential(layers)
    penalty = 10.0 * np.sum(model.layers[1].kernel.numpy() ** 2)
    history = training.fit(model, X, Y, epochs=1, batch_size=70)
    assert history["loss"][0] > penalty
    moving_mean = model.layers[0].get_weights()[2]
    np.testing.assert_allclose(moving_mean, 0.5 * X.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_targets_of_one_column_or_class_numbers():
    one, column = _network(), _network()
    training.fit(one, X, Y, epochs=1)
    training.fit(column, X, Y[:, np.newaxis], epochs=1)
    np.testing.assert_array_equal(one.get_weights()[0], column.get_weights()[0])
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    history = training.fit(
        _network(outputs=3), X, (Y > 0).astype(int), epochs=20, loss=loss, optimizer="adam"
    )
    assert history["loss"][-1] < history["loss"][0]


def test_callback_sees_records_and_may_stop():
    seen = []

    def callback(epoch, record):
        seen.append((epoch, record["loss"]))
        return epoch == 2

    history = training.fit(_network(), X, Y, epochs=5, callback=callback)
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert history["loss"].tolist() == [loss for _, loss in seen]
    assert len(history) == 2
    assert not history.interrupted


@pytest.mark.parametrize("how", ["signal", "exception"])
def test_interrupt_returns_the_history_so_far(how):
    def callback(epoch, record):
        if epoch == 2 and how == "signal":
            os.kill(os.getpid(), signal.SIGINT)
        elif epoch == 2:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    model = _network()
    history = training.fit(model, X, Y, epochs=50, callback=callback)
    assert history.interrupted
    assert history["epoch"].tolist() == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before
    reference = _network()
    training.fit(reference, X, Y, epochs=2)
    np.testing.assert_array_equal(model.get_weights()[0], reference.get_weights()[0])


def test_history_csv(tmp_path):
    history = training.fit(_network(), X, Y, epochs=2, validation=(X, Y))
    with history.to_csv(tmp_path / "run" / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["epoch", "loss", "val_loss", "seconds"]
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert [float(row["loss"]) for row in rows] == history["loss"].tolist()


def test_progress_only_on_a_terminal(monkeypatch, capsys):
    training.fit(_network(), X, Y, epochs=1, progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    training.fit(_network(), X, Y, epochs=2, progress=True)
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "samples/s" in shown


def test_diverging_training_names_epoch_and_remedy():
    with pytest.raises(DataError, match=r"loss (inf|nan) in epoch \d+; lower the learning rate"):
        training.fit(_network(), X, Y, epochs=60, optimizer=tf.keras.optimizers.SGD(1e3))


@pytest.mark.parametrize(
    ("x", "y", "arguments", "reason"),
    [
        (X, Y, {"epochs": 0}, "epochs=0: out of range"),
        (X, Y, {"batch_size": 0}, "batch_size=0: out of range"),
        (X, Y, {"seed": -1}, "seed=-1: out of range"),
        (X[:, :4], Y, {}, r"x: samples of shape \(4,\), the model takes \(5,\)"),
        (X, Y[:9], {}, r"x \(70, 5\) and y \(9,\): numbers of samples differ"),
        (X[:0], Y[:0], {}, "numbers of samples differ or are 0"),
        (X, np.zeros((70, 2)), {}, r"y: samples of shape \(2,\), the model gives \(1,\)"),
        (_with(X, np.nan), Y, {}, "x: holds NaN or infinity"),
        (X, _with(Y, np.inf), {}, "y: holds NaN or infinity"),
        (X, Y, {"validation": (X, Y * np.nan)}, "validation y: holds NaN or infinity"),
        (X.astype(str), Y, {}, "x: holds <U32, not numbers"),
    ],
)
def test_bad_data_are_refused_before_training(x, y, arguments, reason):
    model = _network()
    before = model.get_weights()[0]
    with pytest.raises(DataError, match=reason):
        training.fit(model, x, y, **{"epochs": 1, **arguments})
    np.testing.assert_array_equal(model.get_weights()[0], before)


def test_model_of_two_outputs_is_refused():
    entry = tf.keras.layers.Input((5,))
    model = tf.keras.Model(entry, [tf.keras.layers.Dense(1)(entry), tf.keras.layers.Dense(1)(entry)])
    with pytest.raises(ModelError, match="has several inputs or outputs"):
        training.fit(model, X, Y, epochs=1)
