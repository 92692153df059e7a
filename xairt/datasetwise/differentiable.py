"""Whether a model has a gradient: without one, integrated gradients would be 0 without a word."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from xairt.datasetwise.job import Job
from xairt.errors import ModelError

TRIED = 4
"""Random samples that are tried where the first samples of the data have no gradient."""

_ALONG_A_PATH = np.linspace(0, 1, 9)
"""Places between a baseline and a sample that are tried: a saturated model has its gradient there."""


def require_gradient(job: Job) -> None:
    """Raise where the explained outputs change, but not through differentiable operations.

    Tried are the first samples of the data, and where their gradient is 0 also points of their paths from a
    baseline and random samples. A gradient of 0 in some samples is none to complain of.

    Raises
    ------
    ModelError
        If an output has no gradient, or one that is 0 in everything tried while the output varies.
    """
    for output in job.outputs:
        found = []
        for samples in _tried(job):
            values, gradient = _gradient(job, samples, output)
            if gradient is not None and gradient.any():
                break
            found.append((values, gradient is not None))
        else:
            _refuse_if_varying(job, output, found)


def _tried(job: Job) -> Iterator[NDArray[np.floating]]:
    """Yield samples (n, ...) to be tried, as many at once as fit."""
    head, rows = job.data.head(), job.setting.rows
    yield from np.split(head, range(rows, len(head), rows))
    start, t = job.baselines.pool[0], _ALONG_A_PATH.reshape(-1, *[1] * (head.ndim - 1))
    path = [start + t * (sample - start) for sample in head]
    random = np.random.default_rng(0).standard_normal((TRIED, *head.shape[1:]))
    more = np.concatenate([*path, random]).astype(job.dtype)
    yield from np.split(more, range(rows, len(more), rows))


def _gradient(
    job: Job, samples: NDArray[np.floating], output: int
) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
    """Return an output of samples (n,), and its gradient (n, ...), None where it depends on nothing."""
    x = tf.constant(samples)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        values = tf.reshape(job.setting.outputs(x)[0], (len(samples), -1))[:, output]
    gradient = tape.gradient(values, x)
    return values.numpy(), None if gradient is None else tf.convert_to_tensor(gradient).numpy()


def _refuse_if_varying(job: Job, output: int, found: list[tuple[NDArray[np.floating], bool]]) -> None:
    """Raise unless a gradient of 0 is right, since the output (values, and whether it has one) is constant."""
    values, connected = np.concatenate([v for v, _ in found]), any(c for _, c in found)
    if connected and not np.ptp(values) > 0:
        return
    reason = "the gradient is 0 everywhere" if connected else "there is no gradient"
    raise ModelError(
        f"{', '.join(job.methods)}: output {output} of '{job.network.name}': the outputs do not depend on the "
        f"samples through differentiable operations, {reason}; use method 'bsc' or baseline_shapley, which need none"
    )
