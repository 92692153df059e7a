"""Gridded climate fields: anomalies, correlation matrices, Gaussian random fields, piecewise-linear truth."""

from xairt.fields.anomaly import anomalies, coarsen, correlation_of_field
from xairt.fields.cobe import NETWORK_EXCLUDES, cobe_correlation
from xairt.fields.correlation import analytic_sst_correlation, default_grid, to_correlation
from xairt.fields.gaussian import Factor, factorise, gaussian_blocks, sample_gaussian
from xairt.fields.piecewise import PiecewiseLinear, draw
from xairt.fields.sources import Source, correlation_of, read_covariance, read_field, strengthened

__all__ = [
    "NETWORK_EXCLUDES",
    "Factor",
    "PiecewiseLinear",
    "Source",
    "analytic_sst_correlation",
    "anomalies",
    "coarsen",
    "cobe_correlation",
    "correlation_of",
    "correlation_of_field",
    "default_grid",
    "draw",
    "factorise",
    "gaussian_blocks",
    "read_covariance",
    "read_field",
    "sample_gaussian",
    "strengthened",
    "to_correlation",
]
