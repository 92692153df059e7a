"""Projected gradient descent, training on its samples, the losses of networks that end in logits."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from networks import mlp

from xairt import training
from xairt.errors import DataError, MethodError, ModelError
from xairt.models.architectures import smerf
from xairt.training import Attack, class_loss, fit, pgd, pgd_perturbation, stop_at_loss

RNG = np.random.default_rng(0)
X = RNG.random((200, 6)).astype(np.float32)
LABELS = (X[:, 0] > 0.5).astype(np.int64)
SMALL = Attack(epsilon=0.1, step=0.04, iterations=5)


def network(seed: int = 0) -> tf.keras.Model:
    return mlp(n_inputs=6, n_outputs=2, seed=seed)


def mean_loss(model, x, convention=None) -> float:
    return float(np.mean(class_loss(convention)(LABELS[: len(x)], model(x, training=False))))


def accuracy(model, x, labels) -> float:
    return float(np.mean(model(x, training=False).numpy().argmax(axis=1) == labels))


# ------------------------------------------------------------------------------------------------ pgd


def naive_pgd(model, x, labels, attack):
    """One value after another, in float64, with the gradient of the network in float32; no random start."""
    found = x.astype(np.float64)
    for _ in range(attack.iterations):
        now = tf.constant(found, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(now)
            share = tf.nn.softmax(model(now))
            loss = -tf.math.log(tf.gather(share, labels, batch_dims=1))
        slope = tape.gradient(loss, now).numpy()
        for place, s in np.ndenumerate(slope):
            moved = found[place] + attack.step * np.sign(s)
            moved = min(max(moved, x[place] - attack.epsilon), x[place] + attack.epsilon)
            found[place] = min(max(moved, attack.low), attack.high)
    return found


@pytest.mark.parametrize("attack", [Attack(random_start=False), Attack(0.07, 0.05, 4, 0.0, 1.0, False)])
def test_pgd_is_the_naive_one(attack):
    model = network()
    np.testing.assert_allclose(
        pgd(model, X[:12], LABELS[:12], attack), naive_pgd(model, X[:12], LABELS[:12], attack), atol=1e-6
    )


@pytest.mark.parametrize("attack", [SMALL, Attack(), Attack(epsilon=0.02, step=1.0, iterations=1)])
@pytest.mark.parametrize("convention", [None, "smerf2022"])
def test_pgd_stays_near_within_bounds_and_raises_the_loss(attack, convention):
    model = network()
    if convention is not None:  # outputs that are probabilities, as that loss makes them
        model.set_weights([*model.get_weights()[:-2], 0.05 * model.get_weights()[-2], np.full(2, 0.5)])
    found = pgd(model, X, LABELS, attack, loss=class_loss(convention))
    assert found.dtype == np.float32
    assert np.abs(found - X).max() <= attack.epsilon + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    assert mean_loss(model, found, convention) > mean_loss(model, X, convention)


def test_pgd_lowers_the_loss_of_no_sample_of_a_linear_network():
    model = tf.keras.Sequential([tf.keras.layers.Input((6,)), tf.keras.layers.Dense(2)])
    found = pgd(model, X, LABELS, SMALL)
    before, after = (class_loss()(LABELS, model(x)).numpy() for x in (X, found))
    assert (after > before).all()
    # The loss of a linear network is largest in the corner of the box that its weights point to.
    kernel = model.get_weights()[0]
    way = np.sign(kernel[:, 0] - kernel[:, 1]) * np.where(LABELS == 1, 1, -1)[:, None]
    np.testing.assert_allclose(found, np.clip(X + 0.1 * way, 0, 1), atol=1e-6)


def test_pgd_is_repeatable_by_seed_and_sample_whatever_the_batch():
    model = network()
    kept, weights = X.copy(), [w.copy() for w in model.get_weights()]
    one_step = Attack(epsilon=0.2, step=0.01, iterations=1)
    found = pgd(model, X, LABELS, one_step, seed=3)
    np.testing.assert_array_equal(pgd(model, X, LABELS, one_step, seed=3), found)
    np.testing.assert_allclose(pgd(model, X, LABELS, one_step, seed=3, batch_size=37), found, atol=1e-6)
    np.testing.assert_allclose(pgd(model, X[:5], LABELS[:5], one_step, seed=3), found[:5], atol=1e-6)
    other = pgd(model, X, LABELS, one_step, seed=4)
    assert np.abs(other - found).mean() > 0.05
    np.testing.assert_array_equal(X, kept)
    for mine, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(mine, before)


def test_random_start_fills_the_box():
    still = tf.keras.Sequential(
        [tf.keras.layers.Input((6,)), tf.keras.layers.Dense(2, kernel_initializer="zeros")]
    )
    moved = pgd(still, np.full((200, 6), 0.5), LABELS, Attack()) - 0.5
    assert np.abs(moved).max() == pytest.approx(0.3, abs=0.01)
    assert np.abs(moved.mean()) < 0.02
    assert np.abs(moved).mean() == pytest.approx(0.15, abs=0.01)


# ----------------------------------------------------------------------------------------- training


def trained(perturb_with: Attack | None, seed: int = 0, **options):
    model = network(seed=1)
    perturb = None if perturb_with is None else pgd_perturbation(model, perturb_with)
    given = {"epochs": 25, "batch_size": 20, "optimizer": tf.keras.optimizers.legacy.Adam(0.02), "seed": seed}
    history = fit(model, X, LABELS, loss=class_loss(), perturb=perturb, **(given | options))
    return model, history


def test_adversarial_training_defends():
    plain, adversarial = trained(None)[0], trained(SMALL)[0]
    lost = []
    for model in (plain, adversarial):
        clean, attacked = (accuracy(model, x, LABELS) for x in (X, pgd(model, X, LABELS, SMALL, seed=9)))
        assert clean > 0.85
        lost.append(clean - attacked)
    assert lost[1] < lost[0] - 0.03


def test_loss_and_metrics_are_those_of_the_changed_samples():
    model = network()
    shifted = X + 0.25
    wanted, clean = mean_loss(model, shifted), mean_loss(model, X)
    history = fit(
        model,
        X,
        LABELS,
        epochs=1,
        batch_size=64,
        optimizer=tf.keras.optimizers.legacy.SGD(1e-9),
        loss=class_loss(),
        metrics={"accuracy": tf.keras.metrics.sparse_categorical_accuracy},
        validation=(X, LABELS),
        perturb=lambda x, labels, seed: x + 0.25,
    )
    assert history["loss"][0] == pytest.approx(wanted, rel=1e-4)
    assert history["accuracy"][0] == pytest.approx(accuracy(model, shifted, LABELS))
    assert history["val_loss"][0] == pytest.approx(clean, rel=1e-4)


def test_adversarial_training_is_repeatable_and_seeds_each_step():
    one, two, other = (trained(SMALL, seed, epochs=2)[0].get_weights() for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    seeds = []

    def noting(x, labels, seed):
        tf.py_function(lambda s: seeds.append(tuple(s.numpy().tolist())), [seed], [])
        return x

    fit(network(), X, LABELS, epochs=2, batch_size=100, loss=class_loss(), perturb=noting, seed=2**40 + 5)
    assert seeds == [(5, 0), (5, 1), (5, 2), (5, 3)]


def test_images_are_trained_on_and_stopped_at_a_loss():
    images = RNG.random((16, 64, 64, 3)).astype(np.float32) * 0.3
    labels = np.arange(16) % 2
    images[labels == 1, 20:40, 20:40] = 1.0
    model = smerf("simple", 0)
    attack = Attack(epsilon=0.02, step=0.01, iterations=2)
    history = fit(
        model,
        images,
        labels,
        epochs=40,
        batch_size=8,
        optimizer=tf.keras.optimizers.legacy.Adam(1e-3),
        loss=class_loss(),
        perturb=pgd_perturbation(model, attack),
        callback=stop_at_loss(0.1),
    )
    assert len(history) < 40
    assert (history["loss"][:-1] >= 0.1).all()
    assert history["loss"][-1] < 0.1
    assert accuracy(model, pgd(model, images, labels, attack), labels) == 1.0


# -------------------------------------------------------------------------------------------- losses


def test_losses_are_the_formulas():
    outputs = RNG.normal(0.5, 0.6, (50, 2)).astype(np.float32)
    labels = RNG.integers(0, 2, 50)
    wide = outputs.astype(np.float64)
    wanted = np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(50), labels]
    np.testing.assert_allclose(class_loss()(labels, outputs), wanted, rtol=1e-5)
    # float32 cannot hold 1 - 1e-7 exactly.
    share = np.clip(outputs, np.float32(1e-7), np.float32(1) - np.float32(1e-7)).astype(np.float64)
    hot = np.eye(2)[labels]
    binary = -(hot * np.log(share + 1e-7) + (1 - hot) * np.log(1 - share + 1e-7)).mean(axis=1)
    np.testing.assert_allclose(class_loss("smerf2022")(labels, outputs), binary, rtol=1e-5, atol=2e-6)


def test_published_loss_is_that_of_keras_and_trains():
    model = network()
    model.compile(loss="binary_crossentropy")
    wanted = model.evaluate(X, np.eye(2)[LABELS], verbose=0)
    assert mean_loss(model, X, "smerf2022") == pytest.approx(wanted, rel=1e-5)
    model.set_weights([*model.get_weights()[:-2], 0.1 * model.get_weights()[-2], np.full(2, 0.5)])
    history = fit(
        model,
        X,
        LABELS,
        epochs=30,
        optimizer=tf.keras.optimizers.legacy.Adam(0.01),
        loss=class_loss("smerf2022"),
    )
    assert history["loss"][-1] < 0.5 * history["loss"][0]


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Attack(epsilon=0), "attack epsilon=0, step=0.1, iterations=10: out of range"),
        (lambda: Attack(step=np.nan), "step=nan"),
        (lambda: Attack(iterations=0), "iterations=0: out of range"),
        (lambda: Attack(low=1, high=1), "attack low=1, high=1: give finite bounds"),
        (lambda: pgd(network(), X * 2, LABELS), "x: NaN or outside of 0.0 .. 1.0"),
        (lambda: pgd(network(), X * np.nan, LABELS), "x: NaN or outside"),
        (
            lambda: pgd(network(), X[:, :5], LABELS),
            r"x \(200, 5\) of float32: give real numbers \(samples, \(6,\)\)",
        ),
        (lambda: pgd(network(), X[:0], LABELS[:0]), r"x \(0, 6\)"),
        (lambda: pgd(network(), X, LABELS[:3]), r"labels \(3,\) of int64: give one class number"),
        (lambda: pgd(network(), X, LABELS * 1.0), "labels .* of float64"),
        (lambda: pgd(network(), X, LABELS + 1), "labels: not in 0 .. 1; give the classes of the model"),
        (lambda: pgd(network(), X, LABELS, batch_size=0), "batch_size=0: out of range"),
        (lambda: pgd(network(), X, LABELS, seed=-1), "seed -1 is not usable"),
        (lambda: stop_at_loss(0.0), r"stop_at_loss\(0.0\): out of range"),
        (lambda: stop_at_loss(0.1, monitor="val_loss")(1, {"loss": 0.0}), "no column 'val_loss' in loss"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_models_and_conventions_that_do_not_fit():
    one_output = mlp(n_inputs=6, n_outputs=1)
    for call in (lambda: pgd(one_output, X, LABELS), lambda: pgd_perturbation(one_output)):
        with pytest.raises(ModelError, match="no classifier of one input and one number per class"):
            call()
    with pytest.raises(MethodError, match="convention 'smerf' does not apply here: known are smerf2022"):
        training.class_loss("smerf")
    with pytest.raises(ValueError, match=r"Shapes are \[32,6\] and \[32,2\]"):
        fit(network(), X, LABELS, epochs=1, loss=class_loss(), perturb=lambda x, labels, seed: x[:, :2])
