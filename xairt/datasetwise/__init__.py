"""Attribution of a whole data set: which features carry the skill of a model on it.

`attribute` computes several methods in one pass; the functions named like a method compute one.
"""

from xairt.datasetwise.baselines import Drawn
from xairt.datasetwise.methods import (
    NORMAL_DECILES,
    attribute,
    baseline_shapley,
    bsc,
    ig_mean,
    ig_std,
    igac,
    igc,
    naive_correlation,
    naive_ttest,
)

__all__ = [
    "NORMAL_DECILES",
    "Drawn",
    "attribute",
    "baseline_shapley",
    "bsc",
    "ig_mean",
    "ig_std",
    "igac",
    "igc",
    "naive_correlation",
    "naive_ttest",
]
