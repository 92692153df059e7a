"""The stage that scores: does the box around the brightest pixels of an attribution meet the foreground's?"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xairt import metrics
from xairt.benchmarks.chaos_media.stages import DATA
from xairt.benchmarks.chaos_media.training import network_rows
from xairt.benchmarks.chaos_vision.stages import explain
from xairt.data.files import read_array, write_dataset
from xairt.data.streams import sample_blocks
from xairt.metrics.found_boxes import CHAOSMINING
from xairt.runs import Case
from xairt.runs.scores import identity_of, statistic_rows

if TYPE_CHECKING:
    import xarray as xr

SAMPLE_SCORES = "sample_scores.nc"

IOU, IOU_PUBLISHED = "iou", "iou_published"
"""Intersection over union by the definition, and as the published program computes it."""

_BLOCK = 25

log = logging.getLogger(__name__)


def score(case: Case) -> pd.DataFrame:
    """Score the network and every attribution of a case.

    Writes ``sample_scores.nc``: ``iou`` and ``iou_published`` (label, sample) and ``found_box`` (label, sample, bound).

    Parameters
    ----------
    case : Case

    Returns
    -------
    pandas.DataFrame
        For each attribution ``iou`` and ``iou_published``: ``mean, sd, median, p05, p95`` over images and
        ``missing``, the number of attributions that are not finite. For the network ``accuracy`` and
        ``accuracy_top5`` of its parts.
    """
    import xarray as xr

    boxes = read_array(case.read(DATA), "box").values
    rows, found = network_rows(case), []
    explanations = explain(case)
    for explanation in explanations:
        blocks = sample_blocks(case.read(explanation.file), "attribution", size=_BLOCK)
        scored, start = [], 0
        for block in blocks:
            scored.append(image_scores(block.values, boxes[start : start + len(block)], case.config.sigma))
            start += len(block)
        found.append(xr.concat(scored, "sample"))
        for metric in (IOU, IOU_PUBLISHED):
            rows += [identity_of(explanation) | row for row in statistic_rows(metric, found[-1][metric])]
    joined = xr.concat(found, "label").assign_coords(label=[e.name for e in explanations])
    write_dataset(joined, case.write(SAMPLE_SCORES), title="Scores and found boxes of every image by label")
    return pd.DataFrame(rows)


def image_scores(attribution: ArrayLike, boxes: ArrayLike, sigma: float) -> xr.Dataset:
    """Score attributions by both kinds of intersection over union; those that are not finite have no score.

    Parameters
    ----------
    attribution : (samples, y, x, channel)
    boxes : (samples, 4)
        See `xairt.metrics.found_box_iou`.
    sigma : float
        Standard deviation of the blur, pixels.

    Returns
    -------
    xarray.Dataset
        ``iou`` and ``iou_published`` (sample), and ``found_box`` (sample, bound) of the former, -1 where there is none.
    """
    import xarray as xr

    values, true = np.asarray(attribution), np.asarray(boxes)
    finite = np.isfinite(values).all(axis=(1, 2, 3))
    if not finite.all():
        log.warning("%d of %d attributions are not finite and have no score", (~finite).sum(), len(finite))
    scores = {name: np.full(len(values), np.nan) for name in (IOU, IOU_PUBLISHED)}
    found = np.full((len(values), 4), -1)
    if finite.any():
        for name, convention in ((IOU, None), (IOU_PUBLISHED, CHAOSMINING)):
            scored = metrics.found_box_iou(values[finite], true[finite], sigma=sigma, convention=convention)
            scores[name][finite] = scored["iou"]
            if convention is None:
                found[finite] = scored["found_box"]
    variables = {name: ("sample", values, {"units": "1"}) for name, values in scores.items()}
    return xr.Dataset(variables | {"found_box": (("sample", "bound"), found)})
