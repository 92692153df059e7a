"""One pass over the data: the moments of all that the methods need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xairt.attribution.batching import in_order
from xairt.datasetwise import kernels
from xairt.datasetwise.differentiable import require_gradient
from xairt.datasetwise.job import Job
from xairt.datasetwise.moments import Moments
from xairt.datasetwise.parameters import INTEGRATED
from xairt.errors import DataError
from xairt.progress import bar

Key = tuple[str, int]
"""What was measured ("ig", "bsc", "x", "low" or "high") and for which output (of "x" for all: 0)."""

PREDICTION, AT_BASELINE, TRUTH = 0, 1, 2
"""Place of each series beside the attributions."""

THREADS = 2

BlockMoments = Callable[[tuple[int, np.ndarray, np.ndarray | None]], tuple[int, dict[Key, Moments]]]


def collect(job: Job, progress: bool) -> tuple[dict[Key, Moments], int]:
    """Return the moments of the whole data set, computed block by block, and the number of samples.

    Beside attributions stand prediction, mean prediction at the baselines, and truth if there is one; beside
    the samples the truths of all outputs.

    Raises
    ------
    DataError
        If there are fewer than two samples, or a prediction is not finite.
    ModelError
        If integrated gradients are asked of a model without a gradient.
    """
    measure = _measure(job)
    found: dict[Key, Moments] = {}
    n = 0
    blocks = None if job.data.n is None else -(-job.data.n // job.block_size)
    with bar(blocks, ", ".join(job.methods), progress) as advance:
        for size, part in in_order(measure, job.blocks(), THREADS):
            n += size
            for key, moments in part.items():
                found[key] = found[key].merged(moments) if key in found else moments
            advance(_note(found) if progress else "")
    if n < 2:
        raise DataError(f"x holds {n} sample: give 2 or more, a data set has moments")
    return found, n


def _note(found: Mapping[Key, Moments]) -> str:
    """Return the correlation so far with its standard error, and how far the sum of IGC or BSC is from it."""
    moments = next((m for (kind, _), m in found.items() if kind in ("ig", "bsc")), None)
    if moments is None or len(moments.series_mean) <= TRUTH or moments.n < 3:
        return ""
    products = moments.series_products
    scale = np.sqrt(products[PREDICTION, PREDICTION] * products[TRUTH, TRUTH])
    if not scale > 0:
        return ""
    r = products[PREDICTION, TRUTH] / scale
    gap = moments.products[TRUTH].sum() / scale - r
    return f"correlation {r:.3f} ± {(1 - r**2) / np.sqrt(moments.n - 1):.3f}, gap of its sum {gap:.1e}"


def _measure(job: Job) -> BlockMoments:
    """Return the function from a block of samples to its size and moments; several threads may call it."""
    parts = []
    if set(job.methods) & INTEGRATED:
        parts.append(_of_integrated_gradients(job))
    if "bsc" in job.methods:
        parts.append(_of_shapley(job))
    if "naive_correlation" in job.methods:
        parts.append(lambda start, x, y: {("x", 0): Moments.of(x, y)})
    if "naive_ttest" in job.methods:
        parts.append(_of_groups(job))

    def measure(block: tuple[int, np.ndarray, np.ndarray | None]) -> tuple[int, dict[Key, Moments]]:
        return len(block[1]), {key: moments for part in parts for key, moments in part(*block).items()}

    return measure


def _of_integrated_gradients(job: Job) -> Callable[..., dict[Key, Moments]]:
    require_gradient(job)
    parameters = next(p for name, p in job.methods.items() if name in INTEGRATED)
    ends = job.compile(kernels.ends(job.setting))
    integrated = job.compile(kernels.integrated(job.setting, parameters), tf.TensorSpec((), tf.int32))

    def measure(start: int, x: np.ndarray, y: np.ndarray | None) -> dict[Key, Moments]:
        samples, baselines, _ = padded(job, start, x)
        predictions, at_baselines = (
            np.broadcast_to(v, (len(samples), v.shape[1])) for v in ends(samples, baselines)
        )
        check_finite(predictions[: len(x)], start)
        found = {}
        for k in job.outputs:
            values = integrated(samples, baselines, tf.constant(k)).numpy()[: len(x)]
            series = _series(predictions[: len(x), k], at_baselines[: len(x), k], y, k)
            found["ig", k] = Moments.of(values, series)
        return found

    return measure


def _of_shapley(job: Job) -> Callable[..., dict[Key, Moments]]:
    explain = shapley_values(job, "bsc")

    def measure(start: int, x: np.ndarray, y: np.ndarray | None) -> dict[Key, Moments]:
        found = {}
        for k, values, prediction, at_baseline in explain(start, x):
            found["bsc", k] = Moments.of(values, _series(prediction, at_baseline, y, k))
        return found

    return measure


def shapley_values(
    job: Job, method: str
) -> Callable[[int, np.ndarray], Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]]:
    """Return the function from a block to baseline Shapley values.

    It maps the index of the first sample and samples (b, ...) to each output's index, values (b, features),
    predictions (b,) and mean predictions at the baselines (b,), all float64.
    """
    walks = job.methods[method].n_iter * job.baselines.per_sample
    n_features = int(np.prod(job.data.shape))
    ranks_spec = tf.TensorSpec((job.block_size, walks, n_features), tf.int32)
    walked = job.compile(kernels.walked(job.setting), ranks_spec, tf.TensorSpec((), tf.int32))

    def explain(start: int, x: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        samples, baselines, indices = padded(job, start, x)
        ranks = kernels.random_ranks(job.seed, indices, walks, n_features)
        for k in job.outputs:
            along = walked(samples, baselines, ranks, tf.constant(k)).numpy()[: len(x)].astype(np.float64)
            check_finite(along, start)
            yield k, kernels.shapley(along, ranks[: len(x)]), along[..., -1].mean(1), along[..., 0].mean(1)

    return explain


def _of_groups(job: Job) -> Callable[..., dict[Key, Moments]]:
    low, high = job.methods["naive_ttest"].low, job.methods["naive_ttest"].high

    def measure(start: int, x: np.ndarray, y: np.ndarray) -> dict[Key, Moments]:
        found = {}
        for k in job.outputs:
            for name, members in (("low", y[:, k] <= low), ("high", y[:, k] >= high)):
                if members.any():
                    found[name, k] = Moments.of(x[members], np.empty((int(members.sum()), 0)))
        return found

    return measure


def padded(job: Job, start: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return samples filled up to a whole block with copies of the last, their baselines, and their indices."""
    places = np.arange(job.block_size)
    samples = x if len(x) == job.block_size else x[np.minimum(places, len(x) - 1)]
    return samples, job.baselines.rows(start + places), start + places


def check_finite(predictions: np.ndarray, start: int) -> None:
    """Raise `DataError` if a prediction (b, ...) is not finite; `start` is the index of the first sample."""
    bad = np.flatnonzero(~np.isfinite(predictions).reshape(len(predictions), -1).all(axis=1))
    if bad.size:
        raise DataError(
            f"the model's prediction of sample {start + int(bad[0])} is not finite: leave the sample out or mend the model"
        )


def _series(prediction: Any, at_baseline: Any, y: np.ndarray | None, k: int) -> np.ndarray:
    truth = () if y is None else (y[:, k],)
    return np.stack([prediction, at_baseline, *truth], axis=1).astype(np.float64)
