"""Gridded climate fields: correlation matrices, Gaussian random fields, piecewise-linear truth."""

from xairt.fields.cobe import NETWORK_EXCLUDES, cobe_correlation
from xairt.fields.correlation import analytic_sst_correlation, default_grid, to_correlation
from xairt.fields.gaussian import Factor, factorise, gaussian_blocks, sample_gaussian
from xairt.fields.piecewise import PiecewiseLinear, draw

__all__ = [
    "NETWORK_EXCLUDES",
    "Factor",
    "PiecewiseLinear",
    "analytic_sst_correlation",
    "cobe_correlation",
    "default_grid",
    "draw",
    "factorise",
    "gaussian_blocks",
    "sample_gaussian",
    "to_correlation",
]
