"""Scores of attributions and predictions: numpy kernels with a thin xarray wrapper."""

from xairt.metrics.complexity import sparseness
from xairt.metrics.correlation import pairwise_correlation, pearson, r2, spearman
from xairt.metrics.faithfulness import faithfulness_correlation, monotonicity_correlation

__all__ = [
    "faithfulness_correlation",
    "monotonicity_correlation",
    "pairwise_correlation",
    "pearson",
    "r2",
    "sparseness",
    "spearman",
]
