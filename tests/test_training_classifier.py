"""Fully connected classifiers: networks from lists of layers, class weights, splits, scores."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import xarray as xr

import xairt
from xairt.errors import DataError, ModelError
from xairt.metrics.classification import classification_scores
from xairt.models.architectures import GAIKWAD_LAYERS, dense_network, gaikwad
from xairt.models.dense import DenseLayer, dense_layers
from xairt.training import TrainFullyConnectedNN, blocked, class_weights, step_decay

pytestmark = pytest.mark.usefixtures("run_eagerly")

RNG = np.random.default_rng(4)
X = RNG.standard_normal((200, 6)).astype(np.float32)
LABELS = (X[:, 0] - X[:, 1] > 0.8).astype(np.int8)
SPLIT = blocked(200, 0.25, n_test=40, gap=2)
SOFTMAX = {"size": 2, "activation": "softmax"}
SMALL = ({"size": 4, "l2": 0.001}, SOFTMAX)


def quick(**options):
    return TrainFullyConnectedNN(SMALL, **({"epochs": 12, "batch_size": 32} | options))


# ------------------------------------------------------------------------------------------ networks


def test_network_of_the_publication():
    model = gaikwad(31811, seed=0)
    assert model.count_params() == 31811 * 8 + 8 + 8 * 8 + 8 + 8 * 2 + 2
    assert [layer.activation.__name__ for layer in model.layers] == ["relu", "relu", "softmax"]
    for layer, strength in zip(model.layers, (10.0, 0.01, 0.01), strict=True):
        kernel, bias = layer.get_weights()
        for regulariser, values in ((layer.kernel_regularizer, kernel), (layer.bias_regularizer, bias)):
            assert float(regulariser(tf.constant(values))) == pytest.approx(
                strength * np.sum(values**2), rel=1e-4
            )
        assert bias.any()
    assert model.layers[0].get_weights()[0].std() == pytest.approx(np.sqrt(2 / 31811), rel=0.01)
    biases = [gaikwad(5, seed).layers[0].get_weights()[1] for seed in range(12)]
    assert np.std(biases) == pytest.approx(np.sqrt(2 / 8), rel=0.2)


def test_network_from_layers_is_seeded_and_complete():
    layers = [
        {"size": 3, "use_bias": False, "l1": 0.1, "constraint": "non_neg"},
        DenseLayer(2, "softmax", bias_l1=0.2, bias_constraint="max_norm"),
    ]
    one, two, other = (dense_network(5, layers, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.get_weights()[0], two.get_weights()[0])
    assert not np.array_equal(one.get_weights()[0], other.get_weights()[0])
    hidden, output = one.layers
    assert not hidden.use_bias
    assert isinstance(hidden.kernel_constraint, tf.keras.constraints.NonNeg)
    assert isinstance(output.bias_constraint, tf.keras.constraints.MaxNorm)
    penalty = 0.1 * np.abs(hidden.get_weights()[0]).sum() + 0.2 * np.abs(output.get_weights()[1]).sum()
    assert float(tf.add_n(one.losses)) == pytest.approx(penalty, rel=1e-5)
    assert xairt.attribute(one, X[:3, :5], "lrp.alpha_1_beta_0_IB", target=1)["attribution"].shape == (3, 5)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([], "layers = .*: give a list of one layer or more"),
        ("relu", "layers = 'relu': give a list"),
        ([SOFTMAX, 8], "layer 2: 8 names no size"),
        ([{"activation": "relu"}], "layer 1: .* names no size"),
        ([{"size": 0}], "layer 1: size = 0: give a whole number of units"),
        ([{"size": 2.5}], r"layer 1: size = 2\.5"),
        ([{"size": 4}, {"size": 2, "units": 3}], "layer 2: no field 'units'; a layer has size, activation"),
        ([{"size": 2, "bias_L2": 3}], "layer 1: no field 'bias_L2'; .*did you mean 'bias_l2'"),
        ([{"size": 2, "activation": "rleu"}], "layer 1: activation = 'rleu': .*did you mean 'relu'"),
        ([{"size": 2, "activation": None}], "layer 1: activation = None"),
        ([{"size": 2, "l2": -1.0}], r"layer 1: l2 = -1\.0: give a number, 0 or more"),
        ([{"size": 2, "bias_l1": np.nan}], "layer 1: bias_l1 = nan"),
        ([{"size": 2, "use_bias": 1}], "layer 1: use_bias = 1: give True or False"),
        ([{"size": 2, "use_bias": False, "bias_l2": 1.0}], "layer 1: use_bias = False: there is no bias"),
        ([{"size": 2, "constraint": "nonneg"}], "layer 1: constraint = 'nonneg': .*did you mean 'non_neg'"),
        ([{"size": 2, "bias_constraint": 3}], "layer 1: bias_constraint = 3"),
    ],
)
def test_bad_layers_are_named(layers, reason):
    with pytest.raises(ModelError, match=reason):
        dense_layers(layers)


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"layers": [{"size": 2}]}, ModelError, "layer 1: activation = 'relu' of the output; give 'softmax'"),
        ({"layers": [{"size": 1, "activation": "softmax"}]}, ModelError, "layer 1: size = 1 of the output"),
        (
            {"class_weight": "balance"},
            DataError,
            "class_weight 'balance' is unknown: .*did you mean 'balanced'",
        ),
        ({"class_weight": {0: 1.0}}, DataError, "class_weight .*: give each class from 0 to 1"),
        ({"class_weight": {0: 1.0, 1: -2}}, DataError, "a positive number"),
        ({"loss": "sparse_categorical_crossentropy"}, DataError, "one-hot; give 'categorical_crossentropy'"),
    ],
)
def test_bad_settings_are_refused_when_made(options, error, reason):
    with pytest.raises(error, match=reason):
        TrainFullyConnectedNN(**options)


# ------------------------------------------------------------------------------------------ training


def test_training_is_that_of_keras():
    trainer = quick(batch_size=200, class_weight={0: 0.5, 1: 3.0}).fit(X, LABELS)
    model = dense_network(6, SMALL, seed=0)
    model.compile(
        tf.keras.optimizers.SGD(0.01, 0.9, nesterov=True), "categorical_crossentropy", metrics=["accuracy"]
    )
    weights = {0: 0.5, 1: 3.0}
    wanted = model.fit(X, np.eye(2)[LABELS], 200, 12, verbose=0, class_weight=weights).history
    np.testing.assert_allclose(trainer.history["loss"], wanted["loss"], rtol=1e-4)
    np.testing.assert_allclose(trainer.history["accuracy"], wanted["accuracy"], rtol=1e-6)
    np.testing.assert_allclose(trainer.model.get_weights()[0], model.get_weights()[0], rtol=1e-3, atol=1e-5)


def test_split_decides_what_is_trained_validated_and_scored():
    trainer = quick(class_weight="inverse_frequency", schedule=step_decay(0.1, 4)).fit(X, LABELS, SPLIT)
    spoilt = X.copy()
    spoilt[SPLIT.test] = 7.0
    same = quick(class_weight="inverse_frequency", schedule=step_decay(0.1, 4)).fit(spoilt, LABELS, SPLIT)
    np.testing.assert_array_equal(trainer.model.get_weights()[0], same.model.get_weights()[0])
    history, validation = trainer.history, SPLIT.validation
    assert history.best_epoch == history["val_loss"].argmin() + 1
    probability = trainer.probabilities(X[validation])
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)
    accuracy = np.mean(probability.argmax(axis=1) == LABELS[validation])
    assert history["val_accuracy"][history.best_epoch - 1] == pytest.approx(accuracy)
    test = SPLIT.test
    scores = trainer.scores(X[test], LABELS[test], persistence=LABELS[test - 1])
    wanted = classification_scores(LABELS[test], trainer.predict(X[test]), persistence=LABELS[test - 1])
    assert scores == wanted
    assert scores["accuracy"] > scores["class_frequency"]


def test_keep_best_off_and_no_split_end_with_the_last_weights():
    last = quick(keep_best=False, epochs=3).fit(X, LABELS, SPLIT)
    assert last.history.best_epoch is None
    assert quick(epochs=2).fit(X, LABELS).history.best_epoch is None


def test_training_again_begins_anew(tmp_path):
    trainer = quick(epochs=2)
    first = trainer.fit(X, LABELS, SPLIT).model.get_weights()[0]
    again = trainer.fit(X, LABELS, SPLIT, checkpoint=tmp_path / "best.h5").model.get_weights()[0]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(xairt.load_model(tmp_path / "best.h5").get_weights()[0], again)
    other = quick(epochs=2, seed=1).fit(X, LABELS, SPLIT).model.get_weights()[0]
    assert not np.array_equal(first, other)


def test_maps_with_land_train_as_their_vectors():
    maps = xr.DataArray(
        np.insert(X, [0, 3], np.nan, axis=1).reshape(200, 2, 4),
        {"lat": [10.0, 20.0], "lon": [0.0, 10.0, 20.0, 30.0]},
        ("sample", "lat", "lon"),
    )
    plain, mapped = quick(epochs=2).fit(X, LABELS), quick(epochs=2).fit(maps, LABELS)
    np.testing.assert_array_equal(plain.model.get_weights()[0], mapped.model.get_weights()[0])
    np.testing.assert_array_equal(plain.predict(X), mapped.predict(maps))
    np.testing.assert_array_equal(plain.predict(X), mapped.predict(maps.isel(lat=[1, 0])))
    with pytest.raises(DataError, match="NaN in valid cells"):
        mapped.predict(maps.where(maps.lon != 20))


def test_class_weights_by_name():
    labels = np.repeat([0, 1], [30, 10])
    balanced, publication = (class_weights(labels, how) for how in ("balanced", "inverse_frequency"))
    np.testing.assert_allclose(balanced, [40 / 60, 40 / 20])
    np.testing.assert_allclose(publication, [40 / 30, 40 / 10])
    assert balanced[labels].mean() == pytest.approx(1)
    assert class_weights(labels, None) is None
    assert class_weights(labels, {1: 2, 0: 0.5}).tolist() == [0.5, 2.0]


@pytest.mark.parametrize(
    ("x", "labels", "split", "reason"),
    [
        (X, LABELS * 2, None, "labels: class 2, while there are 2; give 0 to 1"),
        (X, np.where(LABELS, 1, -1), None, "labels: -1 is no class"),
        (X, LABELS * 0, None, "labels: no sample of class 1 to train with"),
        (X, np.arange(200) >= 160, SPLIT, "labels: no sample of class 1 to train with"),
        (X, np.where(LABELS, np.nan, 0), None, "labels: holds NaN"),
        (X, LABELS[:9], None, r"labels \(9,\): give one for each of the 200 samples"),
        (np.where(X > 2, np.nan, X), LABELS, None, "x: holds NaN or infinity"),
        (X[:, 0], LABELS, None, r"x \(200,\) of float32: give numbers \(samples, cells\)"),
        (X.astype(str), LABELS, None, "x .* of <U32: give numbers"),
        (X, LABELS, blocked(300), "split: names sample 299 of 200; make it with n=200"),
        (X[:, :5], LABELS, None, "x: 5 cells, n_inputs=6"),
    ],
)
def test_bad_samples_are_refused(x, labels, split, reason):
    with pytest.raises(DataError, match=reason):
        quick(n_inputs=6).fit(x, labels, split)


def test_what_needs_training_says_so_and_other_cells_are_refused():
    for ask in (
        lambda t: t.model,
        lambda t: t.history,
        lambda t: t.predict(X),
        lambda t: t.scores(X, LABELS),
    ):
        with pytest.raises(DataError, match=r"not trained yet; call fit\(x, labels\) first"):
            ask(quick())
    with pytest.raises(DataError, match="x: 5 cells, the network takes 6"):
        quick(epochs=1).fit(X, LABELS).predict(X[:, :5])


def test_defaults_are_those_of_the_publication():
    trainer = TrainFullyConnectedNN()
    assert trainer.layers == GAIKWAD_LAYERS
    assert (trainer.epochs, trainer.batch_size, trainer.loss) == (500, 128, "categorical_crossentropy")
