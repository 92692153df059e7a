"""Scores of attributions and predictions: numpy kernels with a thin xarray wrapper."""

from xairt.metrics.correlation import pearson, r2, spearman

__all__ = ["pearson", "r2", "spearman"]
