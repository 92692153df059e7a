"""From the moments of a data set to the attributions of its methods, with the gaps of their sums."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xairt.datasetwise.collecting import AT_BASELINE, PREDICTION, TRUTH, Key
from xairt.datasetwise.job import Job
from xairt.datasetwise.moments import Moments
from xairt.datasetwise.parameters import CONVENTIONS, INTEGRATED
from xairt.errors import DataError

LONG_NAMES = {
    "igc": "integrated gradient correlation",
    "igac": "integrated gradient auto-correlation",
    "ig_mean": "mean of integrated gradients",
    "ig_std": "standard deviation of integrated gradients",
    "naive_correlation": "correlation of the feature and the truth",
    "naive_ttest": "p-value of equal means of the feature at low and at high truth",
    "bsc": "baseline Shapley correlation",
}

_NO_SPREAD = 1e-12
"""A standard deviation of samples or truths below this share of the mean is rounding."""

_ROUNDINGS = 4
"""A standard deviation of predictions below so many roundings (eps of the dtype) of the mean is rounding."""


@dataclass(frozen=True, eq=False)
class Score:
    """What a method gives for one output.

    Attributes
    ----------
    values : numpy.ndarray
        (features,) float64.
    promised : float or None
        What they should sum to.
    from_baselines : float
        By how much they miss it because predictions at the baselines vary with the sample.
    """

    values: NDArray[np.float64]
    promised: float | None = None
    from_baselines: float = 0.0


def summarise(job: Job, found: Mapping[Key, Moments], n: int) -> xr.Dataset:
    """Return the result of all methods of a job from its moments of n samples.

    Raises
    ------
    DataError
        If a correlation or a test is not defined.
    """
    scores = {m: [_score(job, m, found, k) for k in job.outputs] for m in job.methods}
    result = {}
    for method, parts in scores.items():
        result[method] = job.data.restored(np.stack([s.values for s in parts]), job.outputs)
        result[method].attrs["long_name"] = LONG_NAMES[method]
        if parts[0].promised is not None:
            result |= _gaps(method, parts)
    correlations = _correlations(job, found, n)
    if correlations is not None:
        note = job.network.final_activation
        text = f"correlation of prediction{f' before the final {note}' if note else ''} and truth"
        result["correlation"] = xr.DataArray(correlations, dims="output", attrs={"long_name": text})
    dataset = xr.Dataset(result).assign_coords(output=job.outputs)
    identities = {m: job.identity(m) | {"n_samples": n} for m in job.methods}
    dataset.attrs = {"identities": json.dumps(identities, sort_keys=True), "n_samples": n}
    return dataset.isel(output=0) if job.single else dataset


def _gaps(method: str, parts: list[Score]) -> dict[str, xr.DataArray]:
    gaps = [s.values.sum() - s.promised for s in parts]
    found = {f"{method}_gap": (gaps, f"sum of {method} minus {_PROMISES[method]}")}
    if method != "ig_mean":
        text = f"part of {method}_gap that comes from baselines drawn for each sample"
        found[f"{method}_gap_of_baselines"] = ([s.from_baselines for s in parts], text)
    return {
        name: xr.DataArray(np.array(v), dims="output", attrs={"long_name": text})
        for name, (v, text) in found.items()
    }


_PROMISES = {
    "igc": "the correlation of prediction and truth",
    "igac": "1",
    "ig_mean": "mean prediction minus that at the baselines",
    "bsc": "the correlation of prediction and truth",
}


def _score(job: Job, method: str, found: Mapping[Key, Moments], k: int) -> Score:
    """Return the score of a method for output k (attribution.md: population moments)."""
    if method in INTEGRATED:
        return _INTEGRATED[method](job, found["ig", k], k)
    if method == "bsc":
        return _correlation_shares(job, found["bsc", k], k)
    if method == "naive_correlation":
        return Score(_naive_correlation(found["x", 0], k, job.convention))
    return Score(_naive_ttest(found, k, job.convention))


def _correlation_shares(job: Job, moments: Moments, k: int) -> Score:
    """Covariance of attribution and truth over both standard deviations."""
    products = moments.series_products
    scale = _of_prediction(job, moments, k) * _deviation(moments, TRUTH, f"the truth of output {k}")
    values, promised, lost = (
        v / scale
        for v in (moments.products[TRUTH], products[PREDICTION, TRUTH], products[AT_BASELINE, TRUTH])
    )
    return Score(values, float(promised), -float(lost))


def _variance_shares(job: Job, moments: Moments, k: int) -> Score:
    scale = _of_prediction(job, moments, k) ** 2
    lost = moments.series_products[AT_BASELINE, PREDICTION] / scale
    return Score(moments.products[PREDICTION] / scale, 1.0, -float(lost))


def _mean(job: Job, moments: Moments, k: int) -> Score:
    promised = moments.series_mean[PREDICTION] - moments.series_mean[AT_BASELINE]
    return Score(moments.mean, float(promised))


def _spread(job: Job, moments: Moments, k: int) -> Score:
    variance = moments.squares / moments.n
    return Score(variance if job.convention in CONVENTIONS["ig_std"] else np.sqrt(variance))


_INTEGRATED = {"igc": _correlation_shares, "igac": _variance_shares, "ig_mean": _mean, "ig_std": _spread}


def _of_prediction(job: Job, moments: Moments, k: int) -> float:
    return _deviation(moments, PREDICTION, f"the prediction of output {k}", _rounding(job))


def _rounding(job: Job) -> float:
    """Return the standard deviation of predictions, relative to their mean, that rounding alone may give."""
    return _ROUNDINGS * float(np.finfo(job.dtype).eps)


def _deviation(moments: Moments, series: int, name: str, smallest: float = _NO_SPREAD) -> float:
    """Return the root of a series' sum of squared deviations, which must exceed a share of its mean."""
    found = float(np.sqrt(moments.series_products[series, series]))
    if found <= smallest * abs(float(moments.series_mean[series])) * np.sqrt(moments.n):
        raise DataError(
            f"{name} is constant: its correlation is not defined; leave this output out, see outputs="
        )
    return found


def _naive_correlation(moments: Moments, k: int, convention: str | None) -> NDArray[np.float64]:
    """Pearson's correlation; NaN for a feature that is constant."""
    scale = _deviation(moments, k, f"the truth of output {k}")
    spread = np.sqrt(moments.squares)
    constant = spread <= _NO_SPREAD * np.abs(moments.mean) * np.sqrt(moments.n)
    by = spread**2 / np.sqrt(moments.n) if convention in CONVENTIONS["naive_correlation"] else spread
    return np.divide(moments.products[k], by * scale, out=np.full_like(by, np.nan), where=~constant)


def _naive_ttest(found: Mapping[Key, Moments], k: int, convention: str | None) -> NDArray[np.float64]:
    """Student's two-sided test of two independent groups of equal variance; NaN for a constant feature."""
    from scipy.stats import ttest_ind_from_stats

    columns = []
    for name in ("low", "high"):
        moments = found.get((name, k))
        if moments is None or moments.n < 2:
            n = 0 if moments is None else moments.n
            raise DataError(
                f"naive_ttest: {n} samples of output {k} have a {name} truth: give other low and high"
            )
        variance = moments.squares / (moments.n - 1)
        spread = variance if convention in CONVENTIONS["naive_ttest"] else np.sqrt(variance)
        columns += [moments.mean, spread, moments.n]
    with np.errstate(invalid="ignore", divide="ignore"):
        return ttest_ind_from_stats(*columns).pvalue


def _correlations(job: Job, found: Mapping[Key, Moments], n: int) -> NDArray[np.float64] | None:
    """Return the correlation of prediction and truth of each output, where both were looked at; else None.

    NaN where one of them is constant.
    """
    kind = next((name for name in ("ig", "bsc") if (name, job.outputs[0]) in found), None)
    if kind is None or not job.data.n_truths:
        return None
    moments = [found[kind, k] for k in job.outputs]
    products = np.stack([m.series_products for m in moments])
    spread = np.sqrt(products[:, (PREDICTION, TRUTH), (PREDICTION, TRUTH)])
    size = np.sqrt(n) * np.abs([m.series_mean[[PREDICTION, TRUTH]] for m in moments])
    varies = (spread > size * (_rounding(job), _NO_SPREAD)).all(axis=1)
    scale = spread.prod(axis=1)
    return np.divide(products[:, PREDICTION, TRUTH], scale, out=np.full_like(scale, np.nan), where=varies)
