"""What an elimination found: its rounds, and the features of the one it ended with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Round:
    """One round: a model of some features.

    Attributes
    ----------
    positions : (features,) int
        Columns of x that it had, ascending.
    relevance : (features,) float64
        What its features are ranked by, in their order: mean over the selection part of the magnitude of the
        attribution; of an estimator of scikit-learn, its importance of the feature.
    selection_mae : float
        Mean absolute error on the selection part, in units of y.
    test_mae : float
        On the test part, which nothing depends on; NaN where it is empty.
    test_prediction : (test samples,) float64
        Predictions of the test part, in its order.
    seconds : float
        Time of training and ranking. A training that was shared counts each time as it was.
    """

    positions: NDArray[np.intp]
    relevance: NDArray[np.float64]
    selection_mae: float
    test_mae: float
    test_prediction: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True, eq=False)
class Selection:
    """The features that an elimination kept.

    Attributes
    ----------
    method : str
        What ranked the features.
    names : tuple of str
        Of all features, in the order of x.
    rounds : tuple of Round
        From all features on. With the stop rule "error" the last may be the one that was worse.
    chosen : int
        Which round has the selected features.
    model : tensorflow.keras.Model or estimator
        The trained model of that round; its inputs are the columns `positions`.
    """

    method: str
    names: tuple[str, ...]
    rounds: tuple[Round, ...]
    chosen: int
    model: Any

    @property
    def positions(self) -> NDArray[np.intp]:
        """Columns of the selected features, ascending."""
        return self.rounds[self.chosen].positions

    @property
    def selected(self) -> tuple[str, ...]:
        """Names of the selected features, in the order of x."""
        return tuple(self.names[position] for position in self.positions)

    @property
    def seconds(self) -> float:
        """Time of all rounds."""
        return sum(one.seconds for one in self.rounds)

    def table(self) -> pd.DataFrame:
        """Return a row for each round.

        Returns
        -------
        pandas.DataFrame
            ``n_features, selection_mae, test_mae, seconds, chosen, ranking``: names, the most relevant first.
        """
        import pandas as pd

        rows = [
            {
                "n_features": len(one.positions),
                "selection_mae": one.selection_mae,
                "test_mae": one.test_mae,
                "seconds": one.seconds,
                "chosen": number == self.chosen,
                "ranking": [self.names[position] for position in ranked(one)],
            }
            for number, one in enumerate(self.rounds)
        ]
        return pd.DataFrame(rows)

    def ranking(self) -> pd.DataFrame:
        """Return a row for each feature, the most relevant first.

        Returns
        -------
        pandas.DataFrame
            ``feature, position, n_features`` (of the last round up to the chosen one that had it), ``relevance`` in
            that round, ``selected``.
        """
        import pandas as pd

        rows: dict[int, dict[str, Any]] = {}
        for one in reversed(self.rounds[: self.chosen + 1]):
            values = dict(zip(one.positions.tolist(), one.relevance.tolist(), strict=True))
            for position in ranked(one).tolist():
                rows.setdefault(
                    position,
                    {
                        "feature": self.names[position],
                        "position": position,
                        "n_features": len(one.positions),
                        "relevance": values[position],
                        "selected": one is self.rounds[self.chosen],
                    },
                )
        return pd.DataFrame(list(rows.values()))


def ranked(one: Round) -> NDArray[np.intp]:
    """Return the columns of a round, the most relevant first; of equally relevant ones the first column.

    Examples
    --------
    >>> relevance = np.array([0.1, 0.7, 0.7])
    >>> ranked(Round(np.array([2, 4, 6]), relevance, 0.0, 0.0, np.zeros(0), 0.0))
    array([4, 6, 2])
    """
    return one.positions[np.argsort(-one.relevance, kind="stable")]


def precision_recall(selected: Collection[Any], relevant: Collection[Any]) -> tuple[float, float]:
    """Return which share of the selected features is relevant, and which share of the relevant ones is selected.

    Parameters
    ----------
    selected, relevant : collections of names or positions
        Without repetitions.

    Returns
    -------
    precision, recall : float
        Equal where both are as many; NaN for none selected, or none relevant.

    Examples
    --------
    >>> precision_recall(["a", "b", "x", "y"], ["a", "b"])
    (0.5, 1.0)
    """
    found = len(set(selected) & set(relevant))
    precision = found / len(selected) if len(selected) else float("nan")
    return precision, found / len(relevant) if len(relevant) else float("nan")


def mean_absolute_error(y: ArrayLike, prediction: ArrayLike) -> float:
    """Return the mean magnitude of the error; NaN where there is no sample.

    Examples
    --------
    >>> mean_absolute_error([1.0, 2.0], [1.0, 4.0]), mean_absolute_error([], [])
    (1.0, nan)
    """
    error = np.abs(np.asarray(y, np.float64) - np.asarray(prediction, np.float64))
    return float(error.mean()) if error.size else float("nan")
