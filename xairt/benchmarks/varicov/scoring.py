"""The stage that scores: against the truth, between networks, and against what the networks do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xairt import metrics
from xairt.benchmarks.sstanom.scoring import sample_scores
from xairt.benchmarks.varicov.layout import Layout
from xairt.benchmarks.varicov.stages import (
    DATA,
    NETWORKS,
    PARTS,
    TEST,
    Attribution,
    attributions,
    explained_ranges,
    model_file,
    network_numbers,
    patch_file,
    patch_sizes,
)
from xairt.benchmarks.varicov.task import known_function
from xairt.data.files import read_dataset, write_dataset
from xairt.runs import Case
from xairt.runs.contract import Explanation
from xairt.runs.scores import NETWORK, statistic_rows

SAMPLE_SCORES = "sample_scores.nc"
PAIRWISE = "pairwise"
SUBSET = 50
"""Cells in each subset of the faithfulness correlation; half of the cells where there are fewer than 100."""
WHOLE_DIFFERENCE = ("occlusion", "feature_ablation")
"""Methods that give every cell of a patch the difference of the whole patch; others share it out."""

Predict = Callable[[ArrayLike], NDArray[np.float32]]
Scores = dict[tuple[str, str], NDArray[np.float64]]
"""(label of an attribution, metric): (networks or pairs of networks, samples)."""

log = logging.getLogger(__name__)


class Explained(NamedTuple):
    """The explained samples, those of the training set before those of the test set.

    Attributes
    ----------
    x, truth, slope : numpy.ndarray
        (samples, cells): anomalies, true contributions and true slopes.
    """

    x: NDArray[np.floating]
    truth: NDArray[np.floating]
    slope: NDArray[np.floating]


def explained_samples(case: Case, layout: Layout) -> Explained:
    """Return the explained samples of a case with the truth about them."""
    ranges = explained_ranges(case.config)
    x = np.concatenate([layout.vectors(case.read(DATA), "x", *ranges[part]) for part in PARTS])
    function = known_function(case.read(DATA), layout, case.config.convention)
    return Explained(x, function.contribution(x), function.slope_at(x))


def score(case: Case) -> pd.DataFrame:
    """Score the networks and every attribution of a case.

    Writes ``sample_scores.nc``: the scores of every sample, of each network or pair of networks.

    Parameters
    ----------
    case : Case

    Returns
    -------
    pandas.DataFrame
        For each method and metric the distribution over samples of the mean over networks (or pairs). Metrics
        end in ``.train`` or ``.test``: those of `network_scores`, ``pairwise``, and on the test set
        ``pairwise.patch-<size>`` (the method treats patches of cells as one feature) and
        ``pairwise.summed-<size>`` (its attributions of cells, summed over patches). For the networks R2, mean
        squared error and mean absolute error on the test set, of each and their mean and standard deviation.
    """
    layout = Layout.of_file(case.read(DATA))
    ways = attributions(case.config)
    of_networks, of_pairs = _scores_by_cell(case, layout, [way for way in ways if way.patch is None])
    of_pairs |= _scores_by_patch(case, layout, [way for way in ways if way.patch is not None])
    rows = _network_rows(case)
    for (method, metric), values in (of_networks | of_pairs).items():
        rows += [_identity(case, method) | row for row in statistic_rows(metric, mean_over_networks(values))]
    _write(case, of_networks, of_pairs)
    return pd.DataFrame(rows)


def network_scores(
    method: str,
    attribution: ArrayLike,
    prediction: ArrayLike,
    predict: Predict,
    explained: Explained,
) -> dict[str, NDArray[np.float64]]:
    """Score the attributions of one network, sample by sample.

    Parameters
    ----------
    method : str
        Decides which truth counts, see `xairt.benchmarks.sstanom.scoring.truths_of`.
    attribution : (samples, cells)
    prediction : (samples,)
        Outputs of the network.
    predict : callable
        The network, (n, cells) -> (n,).
    explained : Explained
        The samples with their truth.

    Returns
    -------
    dict
        (samples,) each: ``pearson.contribution`` and the like, ``faithfulness``, ``monotonicity`` and
        ``sparseness``; NaN where a score is not defined.

    References
    ----------
    Faithfulness correlation: Bhatt, Weller and Moura (2020), arXiv:2005.00631. Monotonicity: Nguyen and
    Martinez (2020), arXiv:2007.07584. Sparseness: Chalasani et al. (2020), arXiv:1810.06583.
    """
    x, values = np.asarray(explained.x, np.float32), np.asarray(attribution, np.float64)
    return {
        **sample_scores(method, values, prediction, explained.truth, explained.slope),
        "faithfulness": metrics.faithfulness_correlation(
            predict, x, values, subset_size=min(SUBSET, x.shape[1] // 2)
        ),
        "monotonicity": metrics.monotonicity_correlation(predict, x, values),
        "sparseness": metrics.sparseness(values),
    }


def remembered(predict: Predict) -> Predict:
    """Return a network that computes the same inputs once.

    The scores of every method change the same cells of the same samples to the same values.
    """
    known: dict[bytes, NDArray[np.float32]] = {}

    def remembering(x: ArrayLike) -> NDArray[np.float32]:
        rows = np.ascontiguousarray(x, np.float32)
        key = blake2b(rows, digest_size=16).digest()
        if key not in known:
            known[key] = predict(rows)
        return known[key]

    return remembering


def patch_totals(
    way: Attribution, values: NDArray[np.floating], patches: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return what is attributed to each patch.

    Parameters
    ----------
    way : Attribution
        Attributions by patches of a method of `WHOLE_DIFFERENCE` stand in every cell of a patch; all others
        add up over its cells.
    values : (..., cells)
    patches : (cells,)
        Number of the patch of each cell, from 0.

    Returns
    -------
    numpy.ndarray
        (..., patches)

    Examples
    --------
    >>> patch_totals(Attribution("gradient"), np.array([1.0, 2.0, 4.0]), np.array([0, 0, 1]))
    array([3., 4.])
    """
    members = patches[:, np.newaxis] == np.arange(patches.max() + 1)
    if way.patch is not None and _method_name(way.method) in WHOLE_DIFFERENCE:
        return np.asarray(values, np.float64) @ (members / members.sum(axis=0))
    return np.asarray(values, np.float64) @ members.astype(np.float64)


def mean_over_networks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over networks or pairs (members, samples) -> (samples,); NaN where one has no score.

    Samples of which some network has none count as missing: a mean of the others would hide a dead network.
    """
    return np.mean(values, axis=0)


def stored_scores(case: Case) -> Scores:
    """Return the scores of every sample that the stage has written."""
    stored = read_dataset(case.read(SAMPLE_SCORES))
    return {
        (str(label), str(metric)): values
        for kind in ("network", "pair")
        for label, metric, values in zip(
            *(stored[f"{kind}_{name}"].values for name in ("label", "metric", "score")), strict=True
        )
    }


def attribution_of(case: Case, way: Attribution, layout: Layout, part: str) -> NDArray[np.floating]:
    """Return the attributions of one part of the samples by all networks (networks, samples, cells)."""
    first, last = explained_ranges(case.config)[part]
    files = [case.read(_file(way, number, part)) for number in network_numbers(case.config)]
    return np.stack([layout.vectors(file, "attribution", 0, last - first) for file in files])


def _scores_by_cell(case: Case, layout: Layout, ways: Sequence[Attribution]) -> tuple[Scores, Scores]:
    """Return the scores of networks and of pairs of networks, of attributions cell by cell."""
    from xairt.models.loading import load_model
    from xairt.models.prediction import predictor

    explained = explained_samples(case, layout)
    models = [load_model(case.read(model_file(number))) for number in network_numbers(case.config)]
    predicts = [remembered(predictor(model)) for model in models]
    predictions = [predict(explained.x) for predict in predicts]
    of_networks, of_pairs = {}, {}
    for way in ways:
        values = np.concatenate([attribution_of(case, way, layout, part) for part in PARTS], axis=1)
        found = [
            network_scores(way.method, *own, explained)
            for own in zip(values, predictions, predicts, strict=True)
        ]
        for metric in found[0]:
            of_networks |= _in_parts(way.method, metric, np.stack([scores[metric] for scores in found]))
        of_pairs |= _in_parts(way.method, PAIRWISE, metrics.pairwise_correlation(values))
        of_pairs |= _patch_scores(
            case, way, values[:, values.shape[1] // 2 :], "summed", patch_sizes(case.config)
        )
    return of_networks, of_pairs


def _scores_by_patch(case: Case, layout: Layout, ways: Sequence[Attribution]) -> Scores:
    """Return the scores of pairs of networks, of methods that treat patches as one feature."""
    found: Scores = {}
    for way in ways:
        found |= _patch_scores(case, way, attribution_of(case, way, layout, TEST), "patch", [way.patch])
    return found


def _patch_scores(
    case: Case, way: Attribution, values: NDArray[np.floating], kind: str, sizes: Sequence[int]
) -> Scores:
    """Correlate networks patch by patch, (networks, samples, cells) of the test set; one cell is no patch."""
    return {
        (way.method, f"{PAIRWISE}.{kind}-{size}.{TEST}"): metrics.pairwise_correlation(
            patch_totals(way, values, np.load(case.read(patch_file(size)), allow_pickle=False))
        )
        for size in sizes
        if size > 1
    }


def _in_parts(label: str, metric: str, values: NDArray[np.float64]) -> Scores:
    """Cut the samples of the training set, which come first, from as many of the test set."""
    halves = np.split(values, len(PARTS), axis=1)
    return {(label, f"{metric}.{part}"): half for part, half in zip(PARTS, halves, strict=True)}


def _file(way: Attribution, number: int, part: str) -> str:
    return Explanation(way.method, label=way.name(number, part)).file


def _method_name(method: str) -> str:
    from xairt.attribution.registry import resolve

    return resolve(method).method.name


def _identity(case: Case, method: str) -> dict[str, Any]:
    """Return who gave an attribution, and how long all networks took for the cells of both parts."""
    from xairt.attribution.registry import resolve

    call = resolve(method)
    names = [Attribution(method).name(k, part) for k in network_numbers(case.config) for part in PARTS]
    seconds = [case.records.get(f"explain/{name}") for name in names]
    return {
        "label": method,
        "method": call.form,
        "engine": call.method.engines[0],
        "seconds": None if None in seconds else sum(seconds),
    }


def _network_rows(case: Case) -> list[dict[str, Any]]:
    """Return the skill of each network and of all; tell of inaccurate ones, which explanations say little about."""
    table = pd.read_csv(case.read(NETWORKS))
    rows = table.assign(method=table["label"], statistic="value").to_dict("records")
    for metric, group in table.groupby("metric", sort=False):
        shared = {"label": NETWORK, "method": NETWORK, "metric": metric, "n": group["n"].iloc[0]}
        rows += [shared | {"statistic": s, "value": v} for s, v in _mean_and_sd(group["value"]).items()]
        least = case.config.minimum_r2
        if metric == "r2" and least is not None and not group["value"].mean() >= least:
            log.warning(
                "case %s: mean R2 %.3f on the test set, below minimum_r2=%g: attributions tell little of the truth",
                *(case.name, group["value"].mean(), least),
            )
    return rows


def _mean_and_sd(values: pd.Series) -> Mapping[str, float]:
    return {"mean": values.mean(), "sd": values.std(ddof=1)}


def _write(case: Case, of_networks: Scores, of_pairs: Scores) -> None:
    import xarray as xr

    variables: dict[str, Any] = {}
    for kind, scores in (("network", of_networks), ("pair", of_pairs)):
        labels, names = zip(*scores, strict=True)
        comparison = f"{kind}_comparison"
        variables[f"{kind}_label"] = (comparison, list(labels))
        variables[f"{kind}_metric"] = (comparison, list(names))
        variables[f"{kind}_score"] = ((comparison, kind, "sample"), np.stack(list(scores.values())))
    title = "Scores of every explained sample, of each network and each pair of networks"
    write_dataset(xr.Dataset(variables), case.write(SAMPLE_SCORES), title=title)
