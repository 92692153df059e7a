"""Linear models of fields and their exact attribution."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize
from sklearn.linear_model import LinearRegression

from xairt.errors import DataError
from xairt.metrics.classification import classification_scores
from xairt.training import TrainLR, blocked

RNG = np.random.default_rng(6)
X = RNG.standard_normal((120, 5)) + 1.0
VALUES = X @ np.array([1.0, -2.0, 0.0, 0.5, 0.0]) + 3.0 + RNG.standard_normal(120)
LABELS = (VALUES > 3.5).astype(int)
SPLIT = blocked(120, 0.2, n_test=20, gap=2)


def maps():
    return xr.DataArray(
        np.insert(X, 2, np.nan, axis=1).reshape(120, 2, 3),
        {"lat": [10.0, 20.0], "lon": [0.0, 10.0, 20.0], "sample": np.arange(120) + 7},
        ("sample", "lat", "lon"),
    )


@pytest.mark.parametrize(("how", "scale"), [("balanced", 2), ("inverse_frequency", 1), (None, 0)])
def test_logistic_regression_minimises_the_weighted_loss(how, scale):
    counts = np.bincount(LABELS)
    weights = (120 / counts / scale if scale else np.ones(2))[LABELS]

    def loss(parameters):
        decision = X @ parameters[:5] + parameters[5]
        return np.sum(weights * np.logaddexp(0, np.where(LABELS, -decision, decision))) + np.sum(
            0.7 / 2 * parameters[:5] ** 2
        )

    wanted = minimize(loss, np.zeros(6), tol=1e-10).x
    trainer = TrainLR(l2=0.7, class_weight=how).fit(X, LABELS)
    np.testing.assert_allclose([*trainer.coefficients, trainer.intercept], wanted, atol=2e-3)


def test_regression_is_ridge_or_least_squares():
    centred, anomaly = X - X.mean(axis=0), VALUES - VALUES.mean()
    wanted = np.linalg.solve(centred.T @ centred + 4.0 * np.eye(5), centred.T @ anomaly)
    trainer = TrainLR("regression", l2=4.0).fit(X, VALUES)
    np.testing.assert_allclose(trainer.coefficients, wanted, rtol=1e-8)
    plain = TrainLR("regression", l2=0.0).fit(X, VALUES)
    np.testing.assert_allclose(
        plain.coefficients, np.linalg.lstsq(centred, anomaly, rcond=None)[0], rtol=1e-8
    )
    assert isinstance(plain.model, LinearRegression)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("reference", [0.0, 1.0, np.linspace(-1, 1, 5)])
def test_attribution_adds_up_to_the_decision_function(task, reference):
    trainer = TrainLR(task).fit(X, LABELS if task == "classification" else VALUES)
    found = trainer.attribution(X, reference)
    assert found.dims == ("sample", "dim_1")
    start = found.attrs["decision_at_reference"]
    np.testing.assert_allclose(found.sum("dim_1") + start, trainer.decision(X), rtol=1e-10)
    assert start == pytest.approx(trainer.decision(np.broadcast_to(reference, (1, 5)))[0])
    if task == "classification":
        np.testing.assert_allclose(
            trainer.decision(X), trainer.model.decision_function(X), rtol=1e-8, atol=1e-10
        )
        np.testing.assert_array_equal(trainer.predict(X), trainer.model.predict(X))


def test_attribution_of_maps_is_maps():
    x = maps()
    trainer = TrainLR().fit(x, LABELS)
    found = trainer.attribution(x, reference=x.mean("sample"))
    assert found.dims == x.dims
    assert (found.sample == x.sample).all()
    np.testing.assert_array_equal(found.isnull(), x.isnull())
    wanted = trainer.coefficients * (X - X.mean(axis=0))
    np.testing.assert_allclose(
        found.values.reshape(120, -1)[:, [0, 1, 3, 4, 5]], wanted, rtol=1e-8, atol=1e-10
    )
    vectors = xr.DataArray(X, {"lat": ("cell", np.arange(5.0))}, ("time", "cell"))
    labelled = TrainLR().fit(vectors, LABELS).attribution(vectors)
    assert labelled.dims == ("time", "cell")
    assert "lat" in labelled.coords


def test_split_decides_what_is_fitted_and_scores_know_the_baselines():
    trainer = TrainLR().fit(X, LABELS, SPLIT)
    alone = TrainLR().fit(X[SPLIT.train], LABELS[SPLIT.train])
    np.testing.assert_array_equal(trainer.coefficients, alone.coefficients)
    rows = SPLIT.test
    wanted = classification_scores(LABELS[rows], trainer.predict(X[rows]))
    assert trainer.scores(X[rows], LABELS[rows]) == wanted
    scores = TrainLR("regression").fit(X, VALUES, SPLIT).scores(X[rows], VALUES[rows])
    assert scores["r2"] == pytest.approx(1 - scores["mse"] / VALUES[rows].var())


def test_too_few_iterations_are_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "xairt"):
        TrainLR(l2=0.0, max_iter=1).fit(X, LABELS)
    assert "not converged in 1 iterations" in caplog.text
    caplog.clear()
    TrainLR().fit(X, LABELS)
    assert not caplog.text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"task": "classify"}, "task 'classify' is unknown: give classification or regression"),
        ({"l2": -1.0}, r"l2=-1\.0, max_iter=1000: out of range"),
        ({"l2": np.inf}, "l2=inf"),
        ({"max_iter": 0}, "max_iter=0: out of range"),
        ({"class_weight": "equal"}, "class_weight 'equal' is unknown"),
    ],
)
def test_bad_settings_are_refused(options, reason):
    with pytest.raises(DataError, match=reason):
        TrainLR(**options)


@pytest.mark.parametrize(
    ("task", "x", "y", "reason"),
    [
        ("classification", X, LABELS * 2, "labels: class 2, while there are 2"),
        ("classification", X, LABELS * 0, "labels: no sample of class 1"),
        ("classification", X, VALUES, "is no class"),
        ("classification", X[:0], LABELS, r"x \(0, 5\) of float64"),
        ("regression", X, VALUES[:9], r"y \(9,\): give one finite number for each of the 120"),
        ("regression", X, VALUES * np.nan, "y .*: give one finite number"),
        ("regression", X * np.inf, VALUES, "x: holds NaN or infinity"),
    ],
)
def test_bad_data_are_refused(task, x, y, reason):
    with pytest.raises(DataError, match=reason):
        TrainLR(task).fit(x, y)


def test_what_is_not_fitted_or_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"TrainLR: not fitted yet; call fit\(x, y\) first"):
        TrainLR().attribution(X)
    trainer = TrainLR().fit(X, LABELS)
    with pytest.raises(DataError, match="x: 4 cells, the model has 5"):
        trainer.predict(X[:, :4])
    with pytest.raises(DataError, match=r"reference \(4,\): give a finite number, or one for each of the 5"):
        trainer.attribution(X, np.zeros(4))
    with pytest.raises(DataError, match=r"reference \(\): give a finite number"):
        trainer.attribution(X, np.nan)
