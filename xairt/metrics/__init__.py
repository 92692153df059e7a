"""Scores of attributions and predictions: numpy kernels with a thin xarray wrapper."""

from xairt.metrics.buckets import bucket_scores
from xairt.metrics.complexity import sparseness
from xairt.metrics.correlation import pairwise_correlation, pearson, r2, spearman
from xairt.metrics.faithfulness import faithfulness_correlation, monotonicity_correlation
from xairt.metrics.features import functional_precision, prediction_score, uniformity_score
from xairt.metrics.found_boxes import blurred_magnitude, found_box, found_box_iou, iou_of_boxes
from xairt.metrics.lagged import lag_correlation
from xairt.metrics.localisation import (
    blurred,
    box_iou,
    focus_level,
    localisation_scores,
    mean_focus_level,
    saliency_plane,
)
from xairt.metrics.patterns import compare_with_sensitivity, pattern_correlation, regional_shares
from xairt.metrics.relevance import class_composites, frequency_above_percentile, normalise, zero_maps

__all__ = [
    "blurred",
    "blurred_magnitude",
    "box_iou",
    "bucket_scores",
    "class_composites",
    "compare_with_sensitivity",
    "faithfulness_correlation",
    "focus_level",
    "found_box",
    "found_box_iou",
    "frequency_above_percentile",
    "functional_precision",
    "iou_of_boxes",
    "lag_correlation",
    "localisation_scores",
    "mean_focus_level",
    "monotonicity_correlation",
    "normalise",
    "pairwise_correlation",
    "pattern_correlation",
    "pearson",
    "prediction_score",
    "r2",
    "regional_shares",
    "saliency_plane",
    "sparseness",
    "spearman",
    "uniformity_score",
    "zero_maps",
]
