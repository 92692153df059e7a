"""Linear models of fields, whose attribution is exact: coefficient times distance from the reference."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.metrics.arrays import is_dataarray
from xairt.metrics.classification import classification_scores
from xairt.metrics.correlation import r2
from xairt.training.samples import (
    ClassWeight,
    checked_split,
    class_weights,
    known_classes,
    read_vectors,
    require_class_weight,
    taken,
)
from xairt.training.splits import Split

if TYPE_CHECKING:
    import xarray as xr

TASKS = ("classification", "regression")

_log = logging.getLogger(__name__)


class TrainLR:
    """Fit a linear model of fields by scikit-learn: logistic regression of two classes, or linear regression.

    Both minimise the loss of the data plus an L2 term of the coefficients b, not of the intercept:
    sum of log loss + l2 / 2 sum b^2 (classification), sum of squared errors + l2 sum b^2 (regression).

    Parameters
    ----------
    task : {"classification", "regression"}
    l2 : float
        Regularisation >= 0; 0 is plain logistic or linear regression. 1 is scikit-learn's default of both.
    class_weight : {"balanced", "inverse_frequency"}, mapping or None
        Of classification, see `class_weights`.
    max_iter : int
        Iterations of the logistic regression, >= 1; one that needs more is logged as a warning.

    Attributes
    ----------
    model : scikit-learn estimator
        LogisticRegression, Ridge or LinearRegression; after `fit`.

    Raises
    ------
    DataError
        If an argument is out of range.

    References
    ----------
    Gaikwad et al. (XAIRT), linear model.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 4))
    >>> trainer = TrainLR("regression", l2=0.0).fit(x, x @ [1.0, -2.0, 4.0, 0.5] + 3.0)
    >>> trainer.coefficients.round(6).tolist(), round(trainer.intercept, 6)
    ([1.0, -2.0, 4.0, 0.5], 3.0)
    """

    def __init__(
        self,
        task: Literal["classification", "regression"] = "classification",
        *,
        l2: float = 1.0,
        class_weight: ClassWeight = "balanced",
        max_iter: int = 1000,
    ) -> None:
        if task not in TASKS:
            raise DataError(f"task {task!r} is unknown: give {' or '.join(TASKS)}")
        if not 0 <= l2 < np.inf or max_iter < 1:
            raise DataError(f"l2={l2}, max_iter={max_iter}: out of range; give l2 >= 0 and max_iter >= 1")
        require_class_weight(class_weight, 2)
        self.task, self.l2, self.class_weight, self.max_iter = task, l2, class_weight, max_iter
        self._model: Any = None

    def fit(self, x: Any, y: ArrayLike, split: Split | None = None) -> TrainLR:
        """Fit the model to the training part, or to all samples.

        Parameters
        ----------
        x : (samples, cells), or (sample, lat, lon) DataArray with NaN on land
        y : (samples,)
            Classes 0 and 1, or the values of a regression.
        split : Split, optional
            Only its training part is looked at.

        Returns
        -------
        TrainLR
            Itself.

        Raises
        ------
        DataError
            If samples, targets and split do not fit, hold NaN, or the training part lacks a class.
        """
        vectors, self._grid = read_vectors(x)
        values = np.asarray(vectors)
        rows = checked_split(split, len(values)).train
        if self.task == "classification":
            classes = known_classes(y, len(values), 2, rows)[rows]
            weights = class_weights(classes, self.class_weight)
            self._model = self._logistic(taken(values, rows), classes, weights)
        else:
            targets = _finite_targets(y, len(values))
            self._model = self._regression().fit(taken(values, rows), targets[rows])
        return self

    @property
    def model(self) -> Any:
        """The fitted scikit-learn estimator; DataError before `fit`."""
        if self._model is None:
            raise DataError("TrainLR: not fitted yet; call fit(x, y) first")
        return self._model

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """Change of the decision function per unit of each cell, (cells,)."""
        return np.asarray(self.model.coef_, np.float64).reshape(-1)

    @property
    def intercept(self) -> float:
        """Decision function where all cells are 0."""
        return float(np.asarray(self.model.intercept_).reshape(-1)[0])

    def decision(self, x: Any) -> NDArray[np.float64]:
        """Return the decision function (samples,): log odds of class 1, or the predicted value.

        DataError if x is not like in `fit`.
        """
        return self._values(x) @ self.coefficients + self.intercept

    def predict(self, x: Any) -> NDArray[Any]:
        """Return the class, 1 where the decision function is positive, or the value; (samples,)."""
        decision = self.decision(x)
        return (decision > 0).astype(np.int64) if self.task == "classification" else decision

    def scores(self, x: Any, y: ArrayLike, persistence: ArrayLike | None = None) -> dict[str, float]:
        """Return the scores of samples in time order.

        Parameters
        ----------
        x, y
            As of `fit`.
        persistence : (samples,), optional
            Of classification: class at the date of the input.

        Returns
        -------
        dict
            Of classification as of `xairt.metrics.classification.classification_scores`, of regression ``n``, ``r2``
            and ``mse`` (units of y squared).

        Raises
        ------
        DataError
            If samples are not like in `fit`, or targets do not fit.
        """
        predicted = self.predict(x)
        if self.task == "classification":
            return classification_scores(y, predicted, persistence=persistence)
        targets = _finite_targets(y, len(predicted))
        mse = float(np.mean((predicted - targets) ** 2))
        return {"n": float(len(targets)), "r2": r2(targets, predicted), "mse": mse}

    def attribution(self, x: Any, reference: Any = 0.0) -> xr.DataArray:
        """Return coefficient times (x - reference), the exact share of every cell.

        Parameters
        ----------
        x : as of `fit`
        reference : float, (cells,) array, or one map as a DataArray (lat, lon)
            What the samples are compared with, in units of x.

        Returns
        -------
        xarray.DataArray
            Dimensions and coordinates of x, maps on the grid of `fit` with NaN on land; positive where a cell speaks
            for class 1, or raises the value. The sum over cells is decision(x) - decision(reference); the latter is
            the attribute ``decision_at_reference``.

        Raises
        ------
        DataError
            If x or the reference is not like in `fit`.
        """
        import xarray as xr

        start = self._reference(reference)
        vectors, grid = read_vectors(x, self._grid)
        share = self.coefficients * (self._values(vectors) - start)
        if is_dataarray(vectors):
            found = vectors.copy(data=share)
            found = grid.to_map(found) if x.ndim == 3 else found
        else:
            found = xr.DataArray(share, dims=("sample", "dim_1"))
        at_reference = float(start @ self.coefficients + self.intercept)
        found.attrs = {
            "long_name": "coefficient times difference from the reference",
            "decision_at_reference": at_reference,
        }
        return found.rename("attribution")

    def _values(self, x: Any) -> NDArray[np.float64]:
        n = len(self.coefficients)
        values = np.asarray(read_vectors(x, self._grid)[0], np.float64)
        if values.shape[1] != n:
            raise DataError(f"x: {values.shape[1]} cells, the model has {n}; give those of fit")
        return values

    def _reference(self, reference: Any) -> NDArray[np.float64]:
        n = len(self.coefficients)
        if is_dataarray(reference) and reference.ndim == 2 and self._grid is not None:
            reference = self._grid.to_vector(reference)
        values = np.asarray(reference, np.float64)
        if values.shape not in ((), (n,)) or not np.isfinite(values).all():
            raise DataError(
                f"reference {values.shape}: give a finite number, or one for each of the {n} cells"
            )
        return np.broadcast_to(values, (n,))

    def _regression(self) -> Any:
        from sklearn.linear_model import LinearRegression, Ridge

        return Ridge(alpha=self.l2) if self.l2 else LinearRegression()

    def _logistic(
        self, x: NDArray[Any], classes: NDArray[np.int64], weights: NDArray[np.float64] | None
    ) -> Any:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=1 / self.l2 if self.l2 else np.inf, max_iter=self.max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, classes, sample_weight=None if weights is None else weights[classes])
        if model.n_iter_[0] >= self.max_iter:
            _log.warning(
                "logistic regression: not converged in %d iterations; scale x or raise l2", self.max_iter
            )
        return model


def _finite_targets(y: ArrayLike, n: int) -> NDArray[np.float64]:
    targets = np.asarray(y, np.float64)
    if targets.shape != (n,) or not np.isfinite(targets).all():
        raise DataError(f"y {targets.shape}: give one finite number for each of the {n} samples")
    return targets
