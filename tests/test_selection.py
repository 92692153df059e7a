"""Feature selection: planted features are found, counts fall as published, and no test sample decides anything."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import xarray as xr
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import LinearSVR
from sklearn.tree import DecisionTreeRegressor

import xairt
from xairt.errors import DataError, MethodError, ModelError, UnsupportedLayerError
from xairt.models.architectures import linear
from xairt.selection import (
    ESTIMATORS,
    Round,
    Scaling,
    Selection,
    eliminate,
    eliminate_by_sklearn,
    feature_counts,
    precision_recall,
    read_table,
    three_parts,
)
from xairt.training.splits import Split

PAGE = Path(__file__).parents[1] / "docs" / "selection.md"
N, RELEVANT = 300, (2, 7, 11)
FIT = {"epochs": 25, "optimizer": tf.keras.optimizers.legacy.Adam(0.05)}


@pytest.fixture(autouse=True)
def _eagerly(run_eagerly):
    """Compile nothing: each function is called once."""


def small(n_inputs: int, seed: int) -> tf.keras.Model:
    glorot = [tf.keras.initializers.GlorotUniform(seed=seed + i) for i in range(2)]
    inputs = tf.keras.layers.Input((n_inputs,))
    hidden = tf.keras.layers.Dense(12, "relu", kernel_initializer=glorot[0])(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(1, kernel_initializer=glorot[1])(hidden))


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(1).normal(size=(N, 20))
    return x, 2 * x[:, 2] + np.abs(x[:, 7]) * 1.5 - x[:, 11]


@pytest.fixture(scope="module")
def trained() -> dict:
    return {}


# --------------------------------------------------------------------------- counts and parts


def test_counts_are_the_published_ones():
    assert feature_counts(156, 6) == [156, 78, 39, 20, 10, 6]


@pytest.mark.parametrize(
    ("total", "last", "fraction"), itertools.product((1, 2, 7, 160), (1, 2, 7), (0.01, 0.29, 0.9))
)
def test_counts_fall_to_the_last_and_drop_no_more_than_the_share(total, last, fraction):
    if last > total:
        with pytest.raises(DataError, match=f"give a whole number from 1 to {total}"):
            feature_counts(total, last, fraction)
        return
    counts = feature_counts(total, last, fraction)
    assert (counts[0], counts[-1]) == (total, last)
    for before, after in itertools.pairwise(counts):
        assert 1 <= before - after <= max(1, before * fraction + 1e-9)


def test_given_counts_are_visited():
    assert feature_counts(20, [20, 10, 3]) == feature_counts(20, (10, 3)) == [20, 10, 3]
    assert feature_counts(100, 71, 0.29) == [100, 71]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, 0), r"n_features=0: out of range"),
        ((5, 6), r"n_features=6: out of range; give a whole number from 1 to 5"),
        ((5, [2, 3]), r"n_features=\[2, 3\]: does not fall"),
        ((5, [2, 2]), r"does not fall"),
        ((5, []), r"does not fall"),
        ((5, 2.5), r"n_features=2.5: out of range"),
        ((5, 2, 1.0), r"fraction=1.0: out of range"),
        ((5, 2, 0.0), r"fraction=0.0: out of range"),
    ],
)
def test_bad_counts_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        feature_counts(*arguments)


def test_every_sample_is_in_one_of_three_parts():
    split = three_parts(101, 0.1, 0.2)
    parts = (split.train, split.validation, split.test)
    assert [len(part) for part in parts] == [71, 10, 20]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(101))
    np.testing.assert_array_equal(split.test, three_parts(101, 0.3, 0.2).test)
    assert not np.array_equal(split.test, three_parts(101, 0.1, 0.2, seed=1).test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 0.0, 0.2), r"selection=0.0.*out of range"),
        ((10, 0.2, 1.0), r"test=1.0.*out of range"),
        ((10, 0.5, 0.5), r"split of 10 samples: 0 to train, 5 to select, 5 to test"),
        ((4, 0.1, 0.2), r"0 to select"),
    ],
)
def test_parts_that_would_be_empty_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        three_parts(*arguments)


# --------------------------------------------------------------------------- elimination by networks


@pytest.mark.parametrize("method", ["saliency", "feature_ablation", "integrated_gradients(steps=5)"])
def test_planted_features_are_found(planted, trained, method):
    found = eliminate(small, *planted, method=method, n_features=3, trained=trained, **FIT)
    assert found.method == method
    assert tuple(found.positions) == RELEVANT
    assert precision_recall(found.positions.tolist(), RELEVANT) == (1.0, 1.0)
    assert found.table()["n_features"].tolist() == [20, 10, 5, 3]
    assert found.table()["chosen"].tolist() == [False, False, False, True]
    assert found.model.input_shape == (None, 3)
    assert found.rounds[-1].test_mae < 0.5 * np.abs(planted[1] - planted[1].mean()).mean()


def test_a_round_is_what_the_network_of_its_features_tells(planted, trained):
    x, y = planted
    found = eliminate(small, x, y, n_features=3, trained=trained, **FIT)
    split, last = three_parts(N), found.rounds[-1]
    rows = x[np.ix_(split.validation, last.positions)].astype(np.float32)
    mean = np.abs(xairt.attribute(found.model, rows, "saliency")["attribution"].values).mean(axis=0)
    np.testing.assert_allclose(last.relevance, mean, rtol=1e-5)
    for part, error in ((split.validation, last.selection_mae), (split.test, last.test_mae)):
        prediction = found.model(x[np.ix_(part, last.positions)].astype(np.float32)).numpy()[:, 0]
        np.testing.assert_allclose(error, np.abs(prediction - y[part]).mean(), rtol=1e-5)
    for before, after in itertools.pairwise(found.rounds):
        left = np.argsort(-before.relevance)[: len(after.positions)]
        np.testing.assert_array_equal(after.positions, np.sort(before.positions[left]))


def test_no_test_sample_decides_anything(planted):
    x, y = planted
    other_x, other_y = x.copy(), y.copy()
    test = three_parts(N).test
    other_x[test], other_y[test] = 100 * np.random.default_rng(5).normal(size=(len(test), 20)), -1e3
    fit = FIT | {"epochs": 5}
    for stop in ("count", "error"):
        one, other = (
            eliminate(small, *given, stop=stop, n_features=3, **fit) for given in ((x, y), (other_x, other_y))
        )
        assert one.chosen == other.chosen
        for left, right in zip(one.rounds, other.rounds, strict=True):
            np.testing.assert_array_equal(left.positions, right.positions)
            np.testing.assert_array_equal(left.relevance, right.relevance)
            assert left.selection_mae == right.selection_mae
        assert one.rounds[-1].test_mae < 100 < other.rounds[-1].test_mae
    for estimator in ESTIMATORS:
        one, other = (
            eliminate_by_sklearn(estimator, *given, n_features=3) for given in ((x, y), (other_x, other_y))
        )
        assert one.selected == other.selected


def test_an_error_that_grows_returns_the_set_before(planted, trained):
    options = {"trained": trained, **FIT}
    whole = eliminate(small, *planted, n_features=1, **options)
    errors = [one.selection_mae for one in whole.rounds]
    grows = next(i for i, (before, after) in enumerate(itertools.pairwise(errors)) if after > before)
    found = eliminate(small, *planted, stop="error", **options)
    assert (found.chosen, len(found.rounds)) == (grows, grows + 2)
    np.testing.assert_array_equal(found.positions, whole.rounds[grows].positions)
    assert set(RELEVANT) <= set(found.positions)
    assert found.model.input_shape == (None, len(found.positions))
    rows = planted[0][three_parts(N).test][:, found.positions].astype(np.float32)
    np.testing.assert_allclose(
        found.model(rows).numpy()[:, 0], found.rounds[grows].test_prediction, rtol=1e-5
    )


def test_an_error_that_falls_ends_at_the_least_number(planted, trained):
    found = eliminate(small, *planted, stop="error", n_features=[10, 3], trained=trained, **FIT)
    errors = [one.selection_mae for one in found.rounds]
    assert errors == sorted(errors, reverse=True)
    assert tuple(found.positions) == RELEVANT


def test_it_is_repeatable_and_shares_networks(planted):
    made = []

    def counting(n_inputs, seed):
        made.append(n_inputs)
        return small(n_inputs, seed)

    options = {"n_features": [4], "epochs": 5, "trained": {}}
    one = eliminate(counting, *planted, **options)
    assert made == [20, 4, 20, 4]  # the first two to see whether the method applies
    again = eliminate(counting, *planted, method="input_t_gradient", **options)
    assert made[4:].count(20) == 2 - 1
    assert again.rounds[0].selection_mae == one.rounds[0].selection_mae
    fresh = eliminate(small, *planted, **(options | {"trained": None}))
    for left, right in zip(one.rounds, fresh.rounds, strict=True):
        np.testing.assert_array_equal(left.positions, right.positions)
        np.testing.assert_array_equal(left.relevance, right.relevance)
        np.testing.assert_array_equal(left.test_prediction, right.test_prediction)
    other = eliminate(counting, *planted, **options, seed=3)
    assert other.rounds[0].selection_mae != one.rounds[0].selection_mae
    other_y = eliminate(counting, planted[0], planted[1] + 1, **options)
    assert other_y.rounds[0].selection_mae != one.rounds[0].selection_mae


def test_equal_relevance_keeps_the_first_columns():
    def constant(n_inputs, seed):
        model = linear(n_inputs, seed)
        model.set_weights([np.full((n_inputs, 1), 0.5)])
        return model

    x = np.random.default_rng(0).normal(size=(40, 6))
    frozen = tf.keras.optimizers.legacy.SGD(0.0)
    found = eliminate(constant, x, x[:, 0], n_features=2, epochs=1, optimizer=frozen)
    assert found.selected == ("x0", "x1")


def test_names_are_kept_and_the_data_left_alone(planted):
    x, y = planted
    names = [f"sea {i}" for i in range(20)]
    given = {
        "frame": pd.DataFrame(x, columns=names),
        "array": xr.DataArray(x, {"region": names}, ("sample", "region")),
    }
    for table in given.values():
        before = table.copy()
        found = eliminate(small, table, y[:, None], n_features=[2], epochs=2)
        assert found.names == tuple(names)
        assert set(found.selected) < set(names)
        assert found.ranking()["feature"].tolist()[:2] == found.table()["ranking"].iloc[1]
        assert table.equals(before)


def test_a_baseline_of_features_follows_them(planted):
    x, y = planted
    baseline = np.arange(20.0)
    method = "integrated_gradients(steps=4)"
    found = eliminate(small, x, y, method=method, baseline=baseline, n_features=[5], epochs=2)
    rows = x[three_parts(N).validation][:, found.positions].astype(np.float32)
    right = xairt.attribute(found.model, rows, method, baseline=baseline[found.positions])
    np.testing.assert_allclose(
        found.rounds[1].relevance, np.abs(right["attribution"]).mean("sample"), rtol=1e-5
    )
    assert (
        eliminate(None, x, y, method=method, baseline=1, n_features=[5], epochs=1).rounds[0].relevance.any()
    )


def test_a_ranking_lists_every_feature_once():
    rounds = (
        Round(np.array([0, 1, 2]), np.array([3.0, 1.0, 2.0]), 1.0, 1.0, np.zeros(1), 1.0),
        Round(np.array([0, 2]), np.array([0.5, 0.7]), 0.5, 0.5, np.zeros(1), 2.0),
    )
    found = Selection("saliency", ("a", "b", "c"), rounds, 1, None)
    table = found.ranking()
    assert table["feature"].tolist() == ["c", "a", "b"]
    assert table["n_features"].tolist() == [2, 2, 3]
    assert table["selected"].tolist() == [True, True, False]
    assert found.seconds == 3.0


# --------------------------------------------------------------------------- bad input


def never(n_inputs, seed):
    raise AssertionError("trained")


def unsupported(n_inputs, seed):
    inputs = tf.keras.layers.Input((n_inputs,))
    steps = tf.keras.layers.Reshape((n_inputs, 1))(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(1)(tf.keras.layers.LSTM(2)(steps)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_features": None}, DataError, r"n_features: missing; say how many"),
        ({"stop": "eror"}, DataError, r"stop 'eror': unknown; did you mean 'error'"),
        ({"n_features": 21}, DataError, r"give a whole number from 1 to 20"),
        ({"batchsize": 3}, DataError, r"eliminate: no option 'batchsize'; did you mean 'batch_size'\?"),
        ({"baseline": [1.0, 2.0]}, DataError, r"baseline of shape \(2,\): .*each of the 20 features"),
        ({"method": "salience"}, MethodError, r"salience.*did you mean 'saliency'"),
        ({"baseline": 1.0}, MethodError, r"saliency uses no baseline"),
        ({"split": Split(np.arange(5), np.arange(4, 9), np.arange(0))}, DataError, r"in two parts"),
        ({"split": Split(np.arange(5), np.arange(0), np.arange(0))}, DataError, r"none selects"),
        (
            {"split": Split(np.arange(5), np.array([900]), np.arange(0))},
            DataError,
            r"names sample 900 of 300",
        ),
    ],
)
def test_bad_options_are_refused(planted, options, error, message):
    with pytest.raises(error, match=message):
        eliminate(small, *planted, **({"n_features": 3} | options))


@pytest.mark.parametrize(
    ("builder", "method", "error", "message"),
    [
        (lambda n, seed: "net", "saliency", ModelError, r"builder\(20, 0\): returned a str"),
        (lambda n, seed: small(20, seed), "saliency", ModelError, r"builder\(3, 0\): .*\(None, 20\)"),
        (unsupported, "deeplift.rescale", UnsupportedLayerError, r"LSTM|lstm"),
    ],
)
def test_a_model_or_method_that_does_not_fit_is_refused_before_training(
    planted, monkeypatch, builder, method, error, message
):
    monkeypatch.setattr("xairt.training.fit", never)
    with pytest.raises(error, match=message) as caught:
        eliminate(builder, *planted, method=method, n_features=3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros(5), np.arange(5), r"x \(5,\): give numbers \(samples, features\)"),
        (np.eye(20)[:, :3], np.arange(9), r"y \(9,\): give one target for each of the 20 samples"),
        (np.eye(20)[:, :3], np.full(20, np.nan), r"y: holds NaN"),
        (np.eye(20)[:, :3], np.ones(20), r"y: constant in the training part"),
        (np.where(np.eye(20), np.nan, 1.0), np.arange(20), r"features 'x0', 'x1', 'x2' and 17 more have NaN"),
        (pd.DataFrame({"a": range(20), "b": ["x"] * 20}), np.arange(20), r"feature 'b' has no numbers"),
        (
            pd.DataFrame(np.eye(20)[:, :2], columns=["a", "a"]),
            np.arange(20),
            r"feature 'a' has a name twice",
        ),
    ],
)
def test_bad_data_are_refused(x, y, message):
    for selecting in (
        lambda: eliminate(never, x, y, n_features=1),
        lambda: eliminate_by_sklearn("decision_tree", x, y, n_features=1),
    ):
        with pytest.raises(DataError, match=message):
            selecting()


# --------------------------------------------------------------------------- controls


def by_hand(estimator, x, y, counts, importance):
    kept = np.arange(x.shape[1])
    for count in counts:
        fitted = estimator().fit(x[:, kept], y)
        kept = np.sort(kept[np.argsort(-importance(fitted))[:count]])
    return kept, estimator().fit(x[:, kept], y)


@pytest.mark.parametrize(
    ("name", "estimator", "importance"),
    [
        ("linear_regression", LinearRegression, lambda e: np.abs(e.coef_)),
        ("decision_tree", lambda: DecisionTreeRegressor(random_state=4), lambda e: e.feature_importances_),
        ("linear_svr", lambda: LinearSVR(C=0.1, random_state=4, max_iter=10_000), lambda e: np.abs(e.coef_)),
    ],
)
def test_controls_are_those_of_scikit_learn(planted, name, estimator, importance):
    x, y = planted
    split = three_parts(N)
    found = eliminate_by_sklearn(name, x, y, n_features=3, seed=4)
    x, y = x.astype(np.float32), y.astype(np.float32)
    kept, fitted = by_hand(estimator, x[split.train], y[split.train], (10, 5, 3), importance)
    np.testing.assert_array_equal(found.positions, kept)
    prediction = fitted.predict(x[split.test][:, kept])
    np.testing.assert_allclose(found.rounds[-1].test_prediction, prediction, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found.rounds[-1].test_mae, np.abs(prediction - y[split.test]).mean(), rtol=1e-4
    )
    assert [len(one.positions) for one in found.rounds] == [20, 10, 5, 3]


def test_an_estimator_of_ones_own_is_taken_and_left_alone(planted):
    ridge = Ridge(alpha=0.1)
    found = eliminate_by_sklearn(ridge, *planted, n_features=2)
    assert (found.method, found.selected) == ("Ridge", ("x2", "x11"))
    assert not hasattr(ridge, "coef_")


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        ("linear_svm", DataError, r"estimator 'linear_svm': unknown; did you mean 'linear_svr'"),
        (3, ModelError, r"estimator int: is none of scikit-learn"),
        (KNeighborsRegressor(), ModelError, r"KNeighborsRegressor: tells no importance"),
    ],
)
def test_other_estimators_are_refused(planted, estimator, error, message):
    with pytest.raises(error, match=message):
        eliminate_by_sklearn(estimator, *planted, n_features=2)


def test_precision_and_recall_of_nothing_are_missing():
    assert np.isnan(precision_recall([], ["a"])[0])
    assert np.isnan(precision_recall(["a"], [])[1])
    assert precision_recall(["a", "x"], ["a", "b", "c", "d"]) == (0.5, 0.25)


# --------------------------------------------------------------------------- tables


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


ROWS = "\n".join(f"{i},{i * i},{i % 3}" for i in range(12))


def test_a_table_is_read_with_its_names(tmp_path):
    found = read_table(table(tmp_path, f"a, square,b c\n{ROWS}\n"), "square")
    assert (found.names, found.target) == (("a", "b c"), "square")
    np.testing.assert_array_equal(found.y, np.arange(12.0) ** 2)
    np.testing.assert_array_equal(found.x[:, 1], np.arange(12) % 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty"),
        (f"a,b,y\n{ROWS}\n1,2,3,4", r"no table \(.*line 14"),
        (f"a,y\n{ROWS}", r"line 2 has 3 columns, line 1 names 2"),
        (f"a,b,z\n{ROWS}", r"no column 'y'; .*target="),
        (f",b,y\n{ROWS}", r"column 1 has no name"),
        (f"a,a,y\n{ROWS}", r"column 'a' stands there twice"),
        ("a,b,y\n1,2,3\n", r"has 1 rows; give 10 or more"),
        (f"a,b,y\n{ROWS}\n1,,2", r"column 'b' has no value in 1 rows, the first in line 14"),
        (f"a,b,y\n{ROWS}\n1,red,2", r"column 'b' holds 'red' in line 14, which is no number"),
        (f"a,b,y\n{ROWS}\n1,inf,2", r"column 'b' holds numbers beyond"),
        ("y\n" + "\n".join("123456789ABC"), r"no column beside 'y'"),
        ("a,y\n" + "1,2\n" * 12, r"column 'y' is constant"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read_table(table(tmp_path, text), "y")
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tables_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"none.csv: no such file"):
        read_table(tmp_path / "none.csv", "y")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00a" * 9)
    with pytest.raises(DataError, match=r"binary.csv: no text of columns"):
        read_table(tmp_path / "binary.csv", "y")


def test_scaling_is_that_of_the_part_it_was_made_of():
    values = np.random.default_rng(0).normal(3, 2, (50, 4))
    values[:, 3] = 7
    made = Scaling.of(values[:20]).apply(values)
    np.testing.assert_allclose(made[:20, :3].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(made[:20, :3].std(axis=0), 1)
    assert not made[:, 3].any()


def test_the_example_of_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert set(names["found"].selected) == {"wind", "ice"}


def test_noise_of_a_method_is_drawn_anew_in_every_round():
    x = np.random.default_rng(0).normal(size=(60, 32)).astype(np.float32)
    found = eliminate(linear, x, x[:, 0], method="random", n_features=[16, 8], epochs=1)
    first, second, third = (one.relevance for one in found.rounds)
    # with the same draws a column that comes early would be ranked alike in every round
    assert abs(np.corrcoef(first[:16], second)[0, 1]) < 0.6
    assert abs(np.corrcoef(second[:8], third)[0, 1]) < 0.9
