"""Attribution of a whole data set: which features carry the agreement of prediction and truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Unpack

import numpy as np
import tensorflow as tf
import xarray as xr
from numpy.typing import ArrayLike

from xairt.attribution.functions import TFFunction
from xairt.attribution.inputs import Samples, read_samples
from xairt.datasetwise.collecting import collect, shapley_values
from xairt.datasetwise.job import Options, Outputs, check_methods, prepare
from xairt.datasetwise.parameters import PARAMETERS, WITH_TRUTH, Method
from xairt.datasetwise.scores import summarise
from xairt.errors import DataError, MethodError
from xairt.grid import Grid

Model = tf.keras.Model | TFFunction


def attribute(
    model: Model | None,
    x: Any,
    y: ArrayLike | xr.DataArray | None = None,
    methods: str | Sequence[Method] = ("igc", "igac", "ig_mean", "ig_std"),
    *,
    outputs: Outputs = None,
    baseline: Any = None,
    grid: Grid | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
    seed: int = 0,
    convention: str | None = None,
    progress: bool = False,
    **params: Any,
) -> xr.Dataset:
    """Explain a model on a whole data set with several methods in one pass over it.

    Integrated gradients are computed once for igc, igac, ig_mean and ig_std. Moments are collected in
    float64 and merged block by block; the attributions of single samples are never kept. Nothing is
    written, so an interruption leaves nothing behind.

    Parameters
    ----------
    model : tf.keras.Model or callable
        Of one input and outputs (n, outputs); a final softmax or sigmoid of a Keras model is explained
        before it. Or a differentiable TensorFlow function from (n, ...) float32 to (n,) or (n, outputs).
        None for the naive methods.
    x : array_like with a shape, xarray.DataArray, or iterable of (x, y)
        Samples (n, ...); maps with NaN on land as `xairt.attribute` takes them. A DataArray that is backed by
        dask or an open file is read in blocks. Blocks may also come as pairs (x, y) of arrays, read once.
    y : array_like, optional
        Truth: (n, outputs), numbers or one-hot; (n,) for one output; (n,) class numbers of several outputs.
        Only igac, ig_mean and ig_std go without.
    methods : sequence of {"igc", "igac", "ig_mean", "ig_std", "naive_correlation", "naive_ttest", "bsc"}
    outputs : None, int or sequence of int
        All outputs, one, or several. The result has a dimension ``output`` unless it is of one alone.
    baseline : None, number, array_like or Drawn
        Zeros, a number, one sample, a set (then the mean over it), or samples of the data drawn for each
        sample, see `Drawn`.
    grid : Grid, optional
        Valid cells of maps, where the model takes vectors of them.
    dtype : {"float32", "float64"}
        Precision of the model; "float64" needs a Keras model with a canonical graph.
    batch_size : int, optional
        Samples computed at once; by default what the memory of a block holds, whatever blocks x comes in.
    seed : int
        Of drawn baselines and of random orders, which depend on (seed, index of the sample) alone.
    convention : {"igc2025"}, optional
        Reproduces the published package.
    progress : bool
        Show a progress bar on a terminal: the correlation so far with its standard error
        (1 - r^2) / sqrt(n - 1), and the completeness, by how much the sum of igc (or bsc) misses it.
    **params
        ``steps`` (64) and ``quadrature`` ("trapezoid" on linspace(0, 1, steps)) of integrated gradients;
        ``n_iter`` (2) of bsc; ``low`` and ``high`` of naive_ttest.

    Returns
    -------
    xarray.Dataset
        A field of every method with the dimensions of a sample (lat, lon kept, NaN on land); ``correlation``
        of prediction and truth; ``<method>_gap``, by how much its sum misses what it promises, and
        ``<method>_gap_of_baselines``, the part of it that is no error of the integral: where baselines are
        drawn, f(baseline) varies from sample to sample. The attribute ``identities`` (JSON, by method) holds
        everything the result depends on. Population moments; igc, igac and bsc have no unit, ig_mean and
        ig_std that of the output. A naive method gives NaN for a feature that is constant.

    Raises
    ------
    DataError
        If samples and truths do not fit each other or the model, are not finite or fewer than two, a
        correlation is not defined because predictions or truths are constant, or an output is unknown.
    MethodError
        If a method, parameter, convention or dtype is unknown.
    ModelError
        If the model is none, has other inputs or outputs, or (igc, igac, ig_mean, ig_std) no gradient.

    Source: Lelievre and Chen 2024 (arXiv:2404.13910): IGC, section 2; integrated gradients of Sundararajan
    et al. 2017 (arXiv:1703.01365), eq. 1.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((500, 3))
    >>> found = attribute(lambda x: 2 * x[:, 0] - x[:, 1], x, 2 * x[:, 0])
    >>> found.igc.dims, found.igc.values.round(1) + 0.0
    (('feature',), array([0.9, 0. , 0. ]))
    >>> bool(abs(found.igc.sum() - found.correlation) < 1e-6)
    True
    """
    names = check_methods(methods)
    job = prepare(
        *(model, x, y, _given(names, params)),
        **{"outputs": outputs, "baseline": baseline, "grid": grid, "dtype": dtype},
        **{"batch_size": batch_size, "seed": seed, "convention": convention},
    )
    if not job.data.n_truths and (needing := [name for name in names if name in WITH_TRUTH]):
        raise DataError(f"{', '.join(needing)}: no truth: give y, or pairs (x, y)")
    return summarise(job, *collect(job, progress))


def _given(names: Sequence[str], params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the parameters of each method; one that none of them has is an error."""
    known = {name: set(PARAMETERS[name].model_fields) for name in names}
    for parameter in params:
        if not any(parameter in fields for fields in known.values()):
            having = sorted(set().union(*known.values()))
            raise MethodError(
                f"{', '.join(names)}: no parameter '{parameter}': use {', '.join(having) or 'none'}"
            )
    return {name: {p: v for p, v in params.items() if p in fields} for name, fields in known.items()}


def igc(
    model: Model,
    x: Any,
    y: ArrayLike | None = None,
    *,
    steps: int = 64,
    **options: Unpack[Options],
) -> xr.Dataset:
    """Integrated gradient correlation: how much of the correlation of prediction and truth a feature carries.

    IGC_i = cov(IG_i, y) / (sd(f) sd(y)); the sum over features is corr(f(x), y) up to the error of the
    integral, where all samples have the same baselines.

    Parameters
    ----------
    model, x, y, **options
        As of `attribute`.
    steps : int
        Points of the trapezoidal rule.

    Returns
    -------
    xarray.Dataset
        ``igc``, ``igc_gap``, ``igc_gap_of_baselines``, ``correlation``; see `attribute`.

    Raises
    ------
    DataError, MethodError, ModelError
        As `attribute`.

    Source: Lelievre and Chen 2024 (arXiv:2404.13910), section 2.
    """
    return attribute(model, x, y, "igc", steps=steps, **options)


def igac(
    model: Model,
    x: Any,
    y: ArrayLike | None = None,
    *,
    steps: int = 64,
    **options: Unpack[Options],
) -> xr.Dataset:
    """Integrated gradient auto-correlation: how much of the prediction's variance a feature carries.

    IGaC_i = cov(IG_i, f) / var(f); it sums to 1 up to the error of the integral. It needs no truth.

    Parameters
    ----------
    model, x, y, steps, **options
        As of `igc`; y adds ``correlation``.

    Returns
    -------
    xarray.Dataset
        ``igac``, ``igac_gap``, ``igac_gap_of_baselines``; see `attribute`.

    Raises
    ------
    DataError, MethodError, ModelError
        As `attribute`.

    Source: Lelievre and Chen 2024 (arXiv:2404.13910), section 2.
    """
    return attribute(model, x, y, "igac", steps=steps, **options)


def ig_mean(model: Model, x: Any, *, steps: int = 64, **options: Unpack[Options]) -> xr.Dataset:
    """Mean of integrated gradients over the data, signed, in units of the output.

    Parameters
    ----------
    model, x, steps, **options
        As of `igc`.

    Returns
    -------
    xarray.Dataset
        ``ig_mean``, ``ig_mean_gap``: its sum minus the mean of f(x) - f(baseline); see `attribute`.

    Raises
    ------
    DataError, MethodError, ModelError
        As `attribute`.
    """
    return attribute(model, x, None, "ig_mean", steps=steps, **options)


def ig_std(
    model: Model,
    x: Any,
    *,
    steps: int = 64,
    convention: str | None = None,
    **options: Unpack[Options],
) -> xr.Dataset:
    """Population standard deviation of integrated gradients over the data, in units of the output.

    Parameters
    ----------
    model, x, steps, **options
        As of `igc`.
    convention : {"igc2025"}, optional
        The variance in place of the standard deviation.

    Returns
    -------
    xarray.Dataset
        ``ig_std``; see `attribute`.

    Raises
    ------
    DataError, MethodError, ModelError
        As `attribute`.
    """
    return attribute(model, x, None, "ig_std", steps=steps, convention=convention, **options)


def bsc(
    model: Model,
    x: Any,
    y: ArrayLike | None = None,
    *,
    n_iter: int = 2,
    **options: Unpack[Options],
) -> xr.Dataset:
    """Baseline Shapley correlation: IGC with `baseline_shapley` in place of integrated gradients.

    The sum is corr(f(x), y) exactly, for any number of orders, where all samples have the same baselines.
    Cost: n_iter * baselines * (features + 1) predictions for each sample.

    Parameters
    ----------
    model, x, y, **options
        As of `attribute`.
    n_iter : int
        Random orders of the features for each baseline.

    Returns
    -------
    xarray.Dataset
        ``bsc``, ``bsc_gap``, ``bsc_gap_of_baselines``, ``correlation``; see `attribute`.

    Raises
    ------
    DataError, MethodError, ModelError
        As `attribute`.

    Source: Lelievre and Chen 2024 (arXiv:2404.13910); Sundararajan and Najmi 2020 (arXiv:1908.08474), section 3.
    """
    return attribute(model, x, y, "bsc", n_iter=n_iter, **options)


def baseline_shapley(model: Model, x: Any, *, n_iter: int = 2, **options: Unpack[Options]) -> xr.Dataset:
    """Baseline Shapley values of single samples, estimated from random orders of the features.

    Features are switched on from baseline to x in random order; each gets the mean difference that it
    makes. A walk telescopes, so the sum is f(x) - f(baseline) exactly for any number of orders.

    Parameters
    ----------
    model, **options
        As of `attribute`.
    x : array_like with a shape, or xarray.DataArray
        Samples (n, ...), whose attributions are kept in memory.
    n_iter : int
        Random orders of the features for each baseline.

    Returns
    -------
    xarray.Dataset
        ``attribution`` (n, ...) signed, in units of the output; ``prediction`` and ``completeness_gap`` (n,);
        all with a dimension ``output`` where several are explained.

    Raises
    ------
    DataError, MethodError, ModelError
        As `attribute`.

    Source: Sundararajan and Najmi 2020 (arXiv:1908.08474), section 3; Castro et al. 2009
    (doi:10.1016/j.cor.2008.04.004), the estimate from random orders.
    """
    options.pop("progress", None)
    if not hasattr(x, "shape"):
        raise DataError("x has no shape: baseline_shapley takes an array of samples; for a data set see bsc")
    job = prepare(model, x, None, {"bsc": {"n_iter": n_iter}}, **options)
    explain = shapley_values(job, "bsc")
    parts = [part for start, block, _ in job.blocks() for part in explain(start, block)]
    samples = read_samples(x, job.data.shape, job.data.grid, job.dtype)
    fields = [_of_samples(samples, [part[1:] for part in parts if part[0] == k]) for k in job.outputs]
    found = fields[0] if job.single else xr.concat(fields, dim=xr.IndexVariable("output", job.outputs))
    identity = job.identity("bsc") | {"method": "baseline_shapley"}
    found.attrs = {"identities": json.dumps({"baseline_shapley": identity}, sort_keys=True)}
    return found


def _of_samples(samples: Samples, parts: list[tuple[np.ndarray, ...]]) -> xr.Dataset:
    """Return the Shapley values of one output, of blocks of values, predictions and those at baselines."""
    values, prediction, at_baseline = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    gap = values.sum(axis=1) - (prediction - at_baseline)
    columns = {
        name: (samples.sample_dim, v) for name, v in (("prediction", prediction), ("completeness_gap", gap))
    }
    return xr.Dataset(samples.variables(values.reshape(samples.values.shape)) | columns)


def naive_correlation(
    x: Any,
    y: ArrayLike | None = None,
    *,
    convention: str | None = None,
    **options: Unpack[Options],
) -> xr.Dataset:
    """Pearson's correlation of each feature and the truth; no model is looked at.

    Parameters
    ----------
    x, y, **options
        As of `attribute`; y is (n,) or (n, outputs).
    convention : {"igc2025"}, optional
        Divides by the variance of the feature in place of its standard deviation.

    Returns
    -------
    xarray.Dataset
        ``naive_correlation``, NaN for a feature that is constant; see `attribute`.

    Raises
    ------
    DataError, MethodError
        As `attribute`.
    """
    return attribute(None, x, y, "naive_correlation", convention=convention, **options)


def naive_ttest(
    x: Any,
    y: ArrayLike | None = None,
    *,
    low: float,
    high: float,
    convention: str | None = None,
    **options: Unpack[Options],
) -> xr.Dataset:
    """Two-sided p-value of equal means of each feature at low and at high truth; no model is looked at.

    Student's test of independent groups of equal variance between samples with y <= low and y >= high.

    Parameters
    ----------
    x, y, **options
        As of `attribute`; y is (n,) or (n, outputs).
    low, high : float
        Bounds of the groups in units of y: 0.5 for both with one-hot truths; for standardised truths
        `NORMAL_DECILES` in the publication.
    convention : {"igc2025"}, optional
        Takes the groups' variances for their standard deviations.

    Returns
    -------
    xarray.Dataset
        ``naive_ttest``, NaN for a feature that is constant; see `attribute`.

    Raises
    ------
    DataError, MethodError
        As `attribute`.
    """
    return attribute(None, x, y, "naive_ttest", low=low, high=high, convention=convention, **options)


NORMAL_DECILES = (NormalDist().inv_cdf(0.1), NormalDist().inv_cdf(0.9))
"""Low and high tenth of a standard normal truth."""
