"""Recursive feature elimination with estimators of scikit-learn, as a control of that with networks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, ModelError, suggest
from xairt.progress import track
from xairt.selection.features import Features, checked_features
from xairt.selection.results import Round, Selection, mean_absolute_error
from xairt.selection.schedule import FRACTION, feature_counts
from xairt.training.splits import Split

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

ESTIMATORS = ("linear_regression", "decision_tree", "linear_svr")
"""Names of the controls: LinearRegression, DecisionTreeRegressor and LinearSVR of scikit-learn."""

SVR_STRENGTH, SVR_ITERATIONS = 0.1, 10_000
"""C and most iterations of LinearSVR: with its defaults it does not converge for hundreds of features."""


def eliminate_by_sklearn(
    estimator: str | BaseEstimator,
    x: Any,
    y: ArrayLike,
    *,
    n_features: int | Sequence[int],
    fraction: float = FRACTION,
    split: Split | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Selection:
    """Select features by `sklearn.feature_selection.RFE`, on the training part alone.

    Parameters
    ----------
    estimator : str or estimator of scikit-learn
        One of `ESTIMATORS`, or a regressor with ``coef_`` or ``feature_importances_`` (it stays as it is).
    x, y, n_features, fraction, split
        As of `xairt.selection.eliminate`; each round drops the features in one step.
    seed : int
        Of the named estimators.
    progress : bool
        Show a bar of the rounds on a terminal.

    Returns
    -------
    Selection
        The relevance is the magnitude of ``coef_``, or ``feature_importances_``; the model the fitted estimator. The
        selection part decides nothing; its error is told.

    Raises
    ------
    DataError
        If the data, the split or a number cannot be used, or the name is unknown.
    ModelError
        If the estimator tells no importance of features.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> x = random.normal(size=(100, 5))
    >>> eliminate_by_sklearn("linear_regression", x, x[:, 1] - x[:, 3], n_features=2).selected
    ('x1', 'x3')
    """
    from sklearn.base import clone
    from sklearn.feature_selection import RFE

    data = checked_features(x, y, split)
    counts = feature_counts(len(data.names), n_features, fraction)
    chosen = _estimator(estimator, seed)
    name = estimator if isinstance(estimator, str) else type(chosen).__name__
    rows = data.split.train
    rounds: list[Round] = []
    positions = np.arange(counts[0])
    for count in track(counts, len(counts), f"selecting by {name}", progress):
        started = time.perf_counter()
        if count == counts[0]:
            model = clone(chosen).fit(data.part(rows, positions), data.y[rows])
        else:
            rfe = RFE(clone(chosen), n_features_to_select=count, step=len(positions) - count)
            rfe.fit(data.part(rows, positions), data.y[rows])
            positions, model = positions[rfe.support_], rfe.estimator_
        rounds.append(_round(data, positions, model, started))
    return Selection(name, data.names, tuple(rounds), len(rounds) - 1, model)


def _estimator(given: str | BaseEstimator, seed: int) -> BaseEstimator:
    from sklearn.linear_model import LinearRegression
    from sklearn.svm import LinearSVR
    from sklearn.tree import DecisionTreeRegressor

    if not isinstance(given, str):
        if not hasattr(given, "fit") or not hasattr(given, "get_params"):
            raise ModelError(
                f"estimator {type(given).__name__}: is none of scikit-learn; give a regressor, or a name"
            )
        return given
    makers = (
        LinearRegression,
        lambda: DecisionTreeRegressor(random_state=seed),
        lambda: LinearSVR(C=SVR_STRENGTH, random_state=seed, max_iter=SVR_ITERATIONS),
    )
    made = dict(zip(ESTIMATORS, makers, strict=True))
    if given not in made:
        raise DataError(f"estimator '{given}': unknown{suggest(given, made)}; give {', '.join(made)}")
    return made[given]()


def _round(data: Features, positions: NDArray[np.intp], model: BaseEstimator, started: float) -> Round:
    importance = getattr(model, "coef_", getattr(model, "feature_importances_", None))
    if importance is None:
        raise ModelError(
            f"estimator {type(model).__name__}: tells no importance of features; give one with coef_ or "
            "feature_importances_"
        )
    seconds = time.perf_counter() - started
    parts = (data.split.validation, data.split.test)
    found = [model.predict(data.part(rows, positions)) if rows.size else np.zeros(0) for rows in parts]
    errors = [mean_absolute_error(data.y[rows], values) for rows, values in zip(parts, found, strict=True)]
    relevance = np.abs(np.ravel(importance)).astype(np.float64)
    return Round(positions, relevance, *errors, found[1].astype(np.float64), seconds)
