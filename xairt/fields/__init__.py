"""Gridded climate fields: anomalies, lags and targets, correlations, Gaussian random fields, known functions."""

from xairt.fields.anomaly import anomalies, coarsen, correlation_of_field
from xairt.fields.cobe import NETWORK_EXCLUDES, cobe_correlation, without_cells
from xairt.fields.correlation import analytic_sst_correlation, default_grid, to_correlation
from xairt.fields.fitting import fit_breakpoints
from xairt.fields.gaussian import Factor, factorise, gaussian_blocks, sample_gaussian
from xairt.fields.lags import lagged, running_mean
from xairt.fields.masks import bump_weights
from xairt.fields.piecewise import PiecewiseLinear, draw
from xairt.fields.regions import region, target_series
from xairt.fields.sources import (
    Source,
    correlation_of,
    read_covariance,
    read_field,
    source_file,
    strengthened,
)

__all__ = [
    "NETWORK_EXCLUDES",
    "Factor",
    "PiecewiseLinear",
    "Source",
    "analytic_sst_correlation",
    "anomalies",
    "bump_weights",
    "coarsen",
    "cobe_correlation",
    "correlation_of",
    "correlation_of_field",
    "default_grid",
    "draw",
    "factorise",
    "fit_breakpoints",
    "gaussian_blocks",
    "lagged",
    "read_covariance",
    "read_field",
    "region",
    "running_mean",
    "sample_gaussian",
    "source_file",
    "strengthened",
    "target_series",
    "to_correlation",
    "without_cells",
]
