"""Scores of selected features: errors of the model that has them, and which of them matter."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from xairt import metrics
from xairt.benchmarks.chaos_rfe.stages import PREDICTIONS, ROUNDS, Data, data_of
from xairt.data.files import read_dataset
from xairt.runs import Case
from xairt.runs.scores import NETWORK
from xairt.selection import precision_recall
from xairt.selection.results import mean_absolute_error


def score(case: Case) -> pd.DataFrame:
    """Score the selections of a case.

    Parameters
    ----------
    case : Case
        With samples, rounds and predictions.

    Returns
    -------
    pandas.DataFrame
        Of each method and control, and of ``network``, the one of all features: ``mae`` on the test part, ``r2``, and
        where the function is known ``mae_noise_free``, against y without noise. Of methods and controls also
        ``n_selected``, and where it is known which features matter ``precision`` and ``recall`` of those selected, with
        the seconds that the elimination took.
    """
    data, rounds = data_of(case), rounds_of(case)
    predicted = read_dataset(case.read(PREDICTIONS))["prediction"]
    rows = []
    for label in predicted["label"].values.astype(str):
        scores = _errors(data, predicted.sel(label=label).values)
        identity: dict[str, Any] = {"label": label, "method": label, "n": len(data.split.test)}
        if label == NETWORK:
            identity["method"] = case.config.network
        else:
            own = rounds[rounds["label"] == label]
            identity |= {"engine": own["engine"].iloc[0], "seconds": own["seconds"].sum()}
            scores |= _found(data, own)
        rows += [identity | {"metric": metric, "value": value} for metric, value in scores.items()]
    return pd.DataFrame(rows).assign(statistic="value")


def rounds_of(case: Case) -> pd.DataFrame:
    """Return the rounds that stage train wrote, ``ranking`` as lists of names."""
    table = pd.read_csv(case.read(ROUNDS), float_precision="round_trip")
    return table.assign(ranking=table["ranking"].map(json.loads))


def _errors(data: Data, prediction: np.ndarray) -> dict[str, float]:
    test = data.split.test
    scores = {
        "mae": mean_absolute_error(data.y[test], prediction),
        "r2": metrics.r2(data.y[test], prediction),
    }
    if data.clean is not None:
        scores["mae_noise_free"] = mean_absolute_error(data.clean[test], prediction)
    return scores


def _found(data: Data, own: pd.DataFrame) -> dict[str, float]:
    selected = own.loc[own["chosen"], "ranking"].iloc[0]
    scores = {"n_selected": float(len(selected))}
    if data.relevant:
        scores["precision"], scores["recall"] = precision_recall(selected, data.relevant)
    return scores
