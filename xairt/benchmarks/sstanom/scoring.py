"""The stage that scores: correlation of every attribution with the truth that its method is after."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xairt import metrics
from xairt.benchmarks.sstanom.stages import DATA, NETWORK, NETWORKS, explain, grid_of, variables_of, vectors
from xairt.data.files import read_array, write_dataset
from xairt.runs import Case, Explanation
from xairt.runs.scores import identity_of, statistic_rows

CORRELATIONS = "correlations.nc"
MEASURES = {"pearson": metrics.pearson, "spearman": metrics.spearman}
DERIVATIVES = ("gradient", "smoothgrad")
"""Methods that estimate the slope of the function; publications compare them with the contribution."""

Scores = dict[tuple[str, str], NDArray[np.float64]]
"""(label of an attribution, metric): scores of its samples."""

_BLOCK = 4096

log = logging.getLogger(__name__)


def truths_of(method: str) -> tuple[str, ...]:
    """Return what a method's attribution is to be compared with.

    Parameters
    ----------
    method : str
        Method with its parameters, as of `xairt.explainer`.

    Returns
    -------
    tuple of str
        Some of "contribution", "slope", "positive_part" (the contribution where it is positive, else 0) and
        "magnitude" (its absolute value). A method without negative values is compared with the magnitude;
        LRP with alpha 1 and beta 0 keeps one sign for all cells, that of the output, and is compared with the
        positive part and the magnitude.

    References
    ----------
    Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7, section 3. The slope is compared here
    in addition: it is what a gradient estimates.

    Examples
    --------
    >>> truths_of("lrp.z"), truths_of("deep_taylor"), truths_of("lrp.alpha_1_beta_0")
    (('contribution',), ('magnitude',), ('positive_part', 'magnitude'))
    """
    from xairt.attribution.registry import resolve

    call = resolve(method)
    if _keeps_one_sign(method):
        return "positive_part", "magnitude"
    if not call.method.signed:
        return ("magnitude",)
    return ("contribution", "slope") if call.method.name in DERIVATIVES else ("contribution",)


def sample_scores(
    method: str, attribution: ArrayLike, prediction: ArrayLike, truth: ArrayLike, slope: ArrayLike | None
) -> dict[str, NDArray[np.float64]]:
    """Correlate attributions with the truths of their method, sample by sample.

    Parameters
    ----------
    method : str
        Decides with what, see `truths_of`.
    attribution : (samples, cells)
    prediction : (samples,)
        Output of the network: where LRP keeps one sign for all cells and the output is negative, the sign of
        the correlation is flipped.
    truth, slope : (samples, cells)
        True contributions and slopes; where the slopes are not known (None), nothing is compared with them.

    Returns
    -------
    dict
        ``pearson.contribution``, ``spearman.contribution`` ...: (samples,), -1 .. 1; NaN where the attribution
        is constant over the cells (a map of zeros) or not finite.
    """
    contribution = np.asarray(truth, np.float64)
    truths = {
        "contribution": contribution,
        "positive_part": np.maximum(contribution, 0.0),
        "magnitude": np.abs(contribution),
    }
    if slope is not None:
        truths["slope"] = np.asarray(slope, np.float64)
    values = np.asarray(attribution, np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    sign = np.where(np.asarray(prediction) < 0, -1.0, 1.0) if _keeps_one_sign(method) else 1.0
    return {
        f"{measure}.{name}": sign * correlate(values, truths[name], skipna=False)
        for name in truths_of(method)
        if name in truths
        for measure, correlate in MEASURES.items()
    }


def score(case: Case) -> pd.DataFrame:
    """Score the networks and every attribution of a case.

    Writes ``correlations.nc``: the scores of every sample.

    Parameters
    ----------
    case : Case

    Returns
    -------
    pandas.DataFrame
        For each attribution and metric of `sample_scores` the rows of `xairt.runs.scores.statistics`; for both networks R2, mean
        squared error and mean absolute error on the test set.
    """
    explanations = {explanation.name: explanation for explanation in explain(case)}
    found, rows = _scores_of_samples(case, list(explanations.values())), _network_rows(case)
    for (label, metric), values in found.items():
        identity = identity_of(explanations[label])
        rows += [identity | row for row in statistic_rows(metric, values)]
    _write_correlations(case, found)
    return pd.DataFrame(rows)


def _keeps_one_sign(method: str) -> bool:
    """Whether a method gives every cell the sign of the output: LRP with positive parts alone."""
    from xairt.attribution.registry import resolve

    call = resolve(method)
    return call.method.name == "lrp.z_plus_fast" or (
        call.method.name == "lrp.alpha_beta" and call.parameters.beta == 0
    )


def _scores_of_samples(case: Case, explanations: Sequence[Explanation]) -> Scores:
    """Score the samples of all attributions of a case, block by block; they explain the same samples."""
    data = case.read(DATA)
    grid, begin, end = grid_of(data), explanations[0].first, explanations[0].last
    with_slope = "slope" in variables_of(data)
    parts: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for first in range(begin, end, _BLOCK):
        last = min(first + _BLOCK, end)
        truth = vectors(data, "truth", grid, first, last)
        slope = vectors(data, "slope", grid, first, last) if with_slope else None
        rows = first - begin, last - begin
        for explanation in explanations:
            file = case.read(explanation.file)
            attribution = vectors(file, "attribution", grid, *rows)
            prediction = read_array(file, "prediction", select={"sample": slice(*rows)}).values
            scores = sample_scores(explanation.method, attribution, prediction, truth, slope)
            for metric, values in scores.items():
                parts.setdefault((explanation.name, metric), []).append(values)
    return {key: np.concatenate(blocks) for key, blocks in parts.items()}


def _network_rows(case: Case) -> list[dict[str, Any]]:
    """Return the skill of the networks; tell of an inaccurate one, which explanations say little about."""
    table = pd.read_csv(case.read(NETWORKS))
    r2 = table.loc[(table["label"] == NETWORK) & (table["metric"] == "r2"), "value"].item()
    if not r2 >= case.config.minimum_r2:
        log.warning(
            "case %s: R2 %.3f on the test set, below minimum_r2=%g: attributions of it tell little of the truth",
            *(case.name, r2, case.config.minimum_r2),
        )
    return table.assign(method=table["label"], statistic="value").to_dict("records")


def _write_correlations(case: Case, found: Scores) -> None:
    import xarray as xr

    labels, metric_names = zip(*found, strict=True)
    dataset = xr.Dataset(
        {"score": (("comparison", "sample"), np.stack(list(found.values())), {"units": "1"})},
        {"label": ("comparison", list(labels)), "metric": ("comparison", list(metric_names))},
    )
    dataset["score"].attrs["long_name"] = "correlation of attribution and truth over ocean cells"
    write_dataset(dataset, case.write(CORRELATIONS), title="Scores of every explained sample")
