"""The stage that attributes a whole data set, and scores the maps against the mask that made the truth."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xairt import metrics
from xairt.benchmarks.igc.experiments import Experiment, experiment_of
from xairt.benchmarks.igc.images import BLOCK_IMAGES
from xairt.benchmarks.igc.masks import SIDE
from xairt.benchmarks.igc.settings import FUNCTION
from xairt.benchmarks.igc.stages import MODEL, ImageStream, image_coordinates, truth_of
from xairt.benchmarks.igc.statistics import Scaling, region_indices
from xairt.data.files import read_dataset, write_dataset
from xairt.metrics.classification import accuracy
from xairt.progress import track
from xairt.runs import Case, CaseSettings
from xairt.runs.scores import NETWORK

if TYPE_CHECKING:
    import tensorflow as tf
    import xarray as xr

log = logging.getLogger(__name__)

ATTRIBUTIONS = "attributions.nc"
BSC = "bsc"
GAPS = ("gap", "gap_of_baselines")

_CLASS_BOUND = 0.5
"""Between 0 and 1 of a one-hot truth, for the t-test."""


def score(case: Case) -> pd.DataFrame:
    """Attribute the data set of a case by every method, and score the maps.

    Writes ``attributions.nc``: the map of each method (y, x), its gaps, and ``correlation`` of prediction and truth
    as `xairt.datasetwise.attribute` gives them (``bsc_correlation``: on the images of bsc). Of experiments with
    classes it is the experiment's one output that is attributed.

    Parameters
    ----------
    case : Case

    Returns
    -------
    pandas.DataFrame
        For each method what `map_scores` returns of `scored_map`; where its sum is promised, ``sum``, ``gap`` (sum minus
        promise) and ``gap_of_baselines`` (the part that comes from baselines drawn for each image). For the model, label
        "network": ``correlation`` on the attributed output, and ``r2``, or ``accuracy`` of several classes; the truth of
        experiments C and D is random, so that no model reaches 1.
    """
    from xairt.datasetwise.parameters import NAIVE

    maps = attributions(case)
    write_dataset(maps, case.write(ATTRIBUTIONS), title="Attributions of a whole data set")
    experiment = experiment_of(case.config.experiment)
    rows = _model_rows(case)
    for method in case.config.methods:
        scores = map_scores(scored_map(method, maps[method].values), experiment)
        if f"{method}_gap" in maps:
            scores["sum"] = float(maps[method].sum())
        for gap in GAPS:
            if f"{method}_{gap}" in maps:
                scores[gap] = float(maps[f"{method}_{gap}"])
        n = case.config.bsc_images if method == BSC else case.config.n_images
        identity = {"label": method, "method": method, "engine": "" if method in NAIVE else "native"}
        rows += [identity | {"metric": metric, "value": v, "n": n} for metric, v in scores.items()]
    return pd.DataFrame(rows).assign(statistic="value")


def attributions(case: Case) -> xr.Dataset:
    """Return the maps of a case by all its methods, with their gaps.

    Parameters
    ----------
    case : Case

    Returns
    -------
    xarray.Dataset
        As `xairt.datasetwise.attribute`, with the dimensions ``y`` and ``x``; ``naive_ttest`` is a p-value. A method
        that these images do not define is NaN, and a warning is logged: ``naive_ttest`` where a group has less than
        two images, ``bsc`` where the truth of its images is constant.
    """
    import xarray as xr

    from xairt import datasetwise
    from xairt.datasetwise.parameters import NAIVE

    config, (truth, scaling) = case.config, truth_of(case)
    output = 0 if scaling else experiment_of(config.experiment).output
    undefined = _undefined(case, truth.reshape(len(truth), -1)[:, output], scaling)
    defined = [method for method in config.methods if method not in undefined]
    together = [method for method in defined if method != BSC]
    runs = [(together, config.n_images)] if together else []
    runs += [([BSC], config.bsc_images)] if BSC in defined else []
    model = None if set(config.methods) <= NAIVE else model_of(case)
    found = []
    for methods, n in runs:
        part = datasetwise.attribute(
            *(model, ImageStream(n, config.seed), truth[:n], methods),
            outputs=output,
            baseline=datasetwise.Drawn(config.n_drawn),
            seed=config.seed,
            progress=case.progress,
            **_parameters(config, methods, scaling),
        )
        found.append(part.rename(correlation="bsc_correlation") if methods == [BSC] else part)
    identities = {name: known for part in found for name, known in json.loads(part.identities).items()}
    maps = xr.merge([*map(_on_image, found), _missing(undefined)], combine_attrs="drop")
    return maps.assign_attrs(identities=json.dumps(identities, sort_keys=True))


def _undefined(case: Case, truth: NDArray[np.float64], scaling: Scaling | None) -> list[str]:
    """Return the methods that the truth (n,) of a case's images does not define, with a warning for each."""
    low, high = _bounds(scaling)
    groups = int((truth <= low).sum()), int((truth >= high).sum())
    reasons = {}
    if min(groups) < 2:
        reasons["naive_ttest"] = f"its groups have {groups[0]} and {groups[1]} images, 2 are needed in each"
    if np.ptp(truth[: case.config.bsc_images]) == 0:
        reasons[BSC] = f"the truth of its {case.config.bsc_images} images is constant"
    found = [method for method in case.config.methods if method in reasons]
    for method in found:
        log.warning("%s: %s is NaN: %s; give more images", case.name, method, reasons[method])
    return found


def _missing(methods: list[str]) -> xr.Dataset:
    import xarray as xr

    attrs = {"units": "1", "long_name": "not defined by these images"}
    columns = {name: (("y", "x"), np.full((SIDE, SIDE), np.nan), attrs) for name in methods}
    return xr.Dataset(columns, image_coordinates())


def _bounds(scaling: Scaling | None) -> tuple[float, float]:
    """Return the largest truth of the low group and the smallest one of the high group."""
    from xairt.datasetwise import NORMAL_DECILES

    return NORMAL_DECILES if scaling else (_CLASS_BOUND, _CLASS_BOUND)


def _parameters(config: CaseSettings, methods: list[str], scaling: Scaling | None) -> dict[str, Any]:
    """Return the parameters that these methods have."""
    from xairt.datasetwise.parameters import INTEGRATED

    found: dict[str, Any] = {}
    if methods == [BSC]:
        found["n_iter"] = config.n_iter
    elif INTEGRATED & set(methods):
        found["steps"] = config.steps
    if "naive_ttest" in methods:
        found["low"], found["high"] = _bounds(scaling)
    return found


def _on_image(part: xr.Dataset) -> xr.Dataset:
    """Return maps with the dimensions y and x in place of those of an array (64, 64, 1)."""
    import xarray as xr

    columns = {}
    for name, values in part.reset_coords(drop=True).variables.items():
        is_map = values.size == SIDE * SIDE
        dims, numbers = (("y", "x"), values.values.reshape(SIDE, SIDE)) if is_map else ((), values.item())
        columns[name] = (dims, numbers, {"units": "1"} | values.attrs)
    return xr.Dataset(columns, image_coordinates())


def model_of(case: Case) -> tf.keras.Model | Callable[[tf.Tensor], tf.Tensor]:
    """Return what a case explains: its network, or the differentiable function of its statistic."""
    if case.config.model == FUNCTION:
        from xairt.benchmarks.igc.functions import function_model

        return function_model(case.config.experiment, truth_of(case)[1])
    import xairt

    return xairt.load_model(case.read(MODEL))


def predictions(case: Case) -> NDArray[np.float32]:
    """Return the predictions of a case's model for its images, (n,) or (n, classes)."""
    import tensorflow as tf

    config, model = case.config, model_of(case)
    images = ImageStream(config.n_images, config.seed)
    rows = tf.TensorSpec((None, SIDE, SIDE, 1), tf.float32)
    if config.model == FUNCTION:
        predict = tf.function(model, input_signature=[rows])
    else:
        predict = tf.function(lambda x: model(x, training=False), input_signature=[rows])
    starts = range(0, config.n_images, BLOCK_IMAGES)
    shown = track(starts, len(starts), "predicting", case.progress)
    return np.concatenate([predict(images[start : start + BLOCK_IMAGES]).numpy() for start in shown])


def _model_rows(case: Case) -> list[dict[str, Any]]:
    """Return the skill of the model on the images that are attributed."""
    (truth, scaling), found = truth_of(case), predictions(case)
    if scaling is None:
        output = experiment_of(case.config.experiment).output
        scores = {"correlation": metrics.pearson(truth[:, output], found[:, output])}
        scores["accuracy"] = accuracy(truth.argmax(axis=1), found.argmax(axis=1))
    else:
        scores = {"correlation": metrics.pearson(truth, found.reshape(-1)), "r2": metrics.r2(truth, found)}
    row = {"label": NETWORK, "method": case.config.model, "engine": "", "n": case.config.n_images}
    return [row | {"metric": metric, "value": float(value)} for metric, value in scores.items()]


def scored_map(method: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return what of a method is scored and drawn: its map, and of the t-test -log10 of the p-value.

    A p-value that is too small for a float64 counts as the smallest one, so that the map ends at 307.65.

    Examples
    --------
    >>> scored_map("naive_ttest", [1.0, 0.001, 0.0]).round(2) + 0.0
    array([  0.  ,   3.  , 307.65])
    """
    found = np.asarray(values, dtype=np.float64)
    return -np.log10(np.maximum(found, np.finfo(np.float64).tiny)) if method == "naive_ttest" else found


def map_scores(values: ArrayLike, experiment: str | Experiment) -> dict[str, float]:
    """Score a map against the mask of an experiment.

    Parameters
    ----------
    values : (64, 64)
        Attribution, row 0 at the top.
    experiment : str or Experiment

    Returns
    -------
    dict
        ``mask_correlation``, Pearson over pixels with the signed weights of a mask of Gaussians, or with the union of
        regions (1 within, 0 elsewhere). With regions also ``mask_auc``, the area under the ROC curve
        by which the magnitudes of the map find the union, and ``region_sum.<i>``: the sum over a region (a patch
        without its inner square) divided by the largest magnitude of such a sum, so that signs stay. With these, by
        what is compared:

        - of means ``pixel_to_overlap.<i>``: mean over a region's pixels that no other region has, relative to the mean
          over those that all have;
        - of pairs ``second_to_first``: sum over the second pair relative to that over the first (of mask ccat_02 right
          to left);
        - of patches ``inner_to_outer``: mean per pixel over all inner squares relative to that over what is around
          them. Negative: the inner squares oppose it.

        NaN where a divisor is 0 or there are no such pixels, and all of a map that is NaN.

    References
    ----------
    Lelièvre and Chen (2024), arXiv:2404.13910.

    Examples
    --------
    >>> from xairt.benchmarks.igc.masks import MASKS
    >>> found = map_scores(MASKS["ccat_02"].generating(), "C")
    >>> {name: round(value, 3) for name, value in found.items() if name in ("mask_auc", "second_to_first")}
    {'mask_auc': 1.0, 'second_to_first': 1.0}
    """
    from sklearn.metrics import roc_auc_score

    chosen = experiment_of(experiment)
    pixels = np.asarray(values, dtype=np.float64).reshape(-1)
    mask = chosen.mask.generating().reshape(-1)
    if np.isnan(pixels).all():
        return dict.fromkeys(map_scores(mask, chosen), np.nan)
    scores = {"mask_correlation": float(metrics.pearson(pixels, mask))}
    if chosen.mask.gaussians:
        return scores
    scores["mask_auc"] = float(roc_auc_score(mask > 0, np.abs(pixels)))
    indices = region_indices(chosen)
    sums = np.array([pixels[index].sum() for index in indices])
    largest = np.abs(sums).max()
    scores |= {f"region_sum.{i}": _ratio(total, largest) for i, total in enumerate(sums)}
    compare = {"mean": _overlap_scores, "pairs": _pair_scores, "patches": _patch_scores}
    if chosen.rule.scores in compare:
        scores |= compare[chosen.rule.scores](pixels, indices)
    return scores


def _overlap_scores(pixels: NDArray[np.float64], indices: list[NDArray[np.intp]]) -> Mapping[str, float]:
    times = np.bincount(np.concatenate(indices), minlength=pixels.size)
    shared = pixels[times == len(indices)]
    own = [pixels[index[times[index] == 1]] for index in indices]
    return {
        f"pixel_to_overlap.{i}": _ratio(part.mean(), shared.mean()) if part.size and shared.size else np.nan
        for i, part in enumerate(own)
    }


def _pair_scores(pixels: NDArray[np.float64], indices: list[NDArray[np.intp]]) -> Mapping[str, float]:
    half = len(indices) // 2
    first, second = (pixels[indices[i]].sum() + pixels[indices[half + i]].sum() for i in (0, 1))
    return {"second_to_first": _ratio(second, first)}


def _patch_scores(pixels: NDArray[np.float64], indices: list[NDArray[np.intp]]) -> Mapping[str, float]:
    half = len(indices) // 2
    outer, inner = (pixels[np.concatenate(part)].mean() for part in (indices[:half], indices[half:]))
    return {"inner_to_outer": _ratio(inner, outer)}


def _ratio(value: float, divisor: float) -> float:
    return float(value / divisor) if divisor else np.nan


def stored_maps(case: Case) -> xr.Dataset:
    """Return what `score` wrote: the map of each method, and its gaps."""
    return read_dataset(case.read(ATTRIBUTIONS))
