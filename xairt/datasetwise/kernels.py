"""What is computed for a block of samples: predictions, integrated gradients, values along random orders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from xairt.attribution.blocks import BLOCK_BYTES, Setting, chunks, rows_at_once
from xairt.attribution.functions import numbers_per_row
from xairt.attribution.gradients import (
    IntegratedGradientsParameters,
    between,
    mean_gradient,
    path_points,
    to_input,
)
from xairt.attribution.network import Network
from xairt.keys import generator_of

POINTS_AT_ONCE = 16
"""Points of each path that are computed at once, at least, where memory allows it."""

PAIR_BYTES = 16 * 2**20
"""Memory that the pairs of a sample and a baseline in a block may take."""

_ORDER_STREAM = 2

Ends = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Integrated = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
Walked = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def rows_that_fit(network: Network, dtype: str) -> int:
    """Return how many points of paths are computed at once: as many as the memory of a block holds."""
    rows = rows_at_once(network, dtype)
    if network.graph is not None:
        return rows
    return max(1, min(rows, BLOCK_BYTES // (8 * numbers_per_row(network))))


def samples_per_block(setting: Setting, baselines: int) -> int:
    """Return how many samples are computed at once with so many baselines each."""
    bytes_of_one = int(np.prod(setting.network.input_shape)) * np.dtype(setting.dtype).itemsize
    pairs = min(setting.rows // POINTS_AT_ONCE, PAIR_BYTES // bytes_of_one)
    return max(1, pairs // baselines)


def ends(setting: Setting) -> Ends:
    """Return the function to all outputs at samples, and to their means over the baselines.

    It maps samples (b, ...) and baselines (b or 1, m, ...) to (b, outputs) and (b or 1, outputs).
    """
    outputs = setting.outputs

    def compute(x: tf.Tensor, baselines: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        groups, m = baselines.shape[:2]
        at_baselines = outputs(tf.reshape(baselines, (-1, *x.shape[1:])))[0]
        by_group = tf.reshape(at_baselines, (groups, m, -1))
        return tf.reshape(outputs(x)[0], (x.shape[0], -1)), tf.reduce_mean(by_group, axis=1)

    return compute


def integrated(setting: Setting, parameters: IntegratedGradientsParameters) -> Integrated:
    """Return the function to integrated gradients, the mean over each sample's own baselines.

    It maps samples (b, ...), baselines (b or 1, m, ...) and the index of an output to (b, ...).
    Source: Sundararajan et al. 2017 (arXiv:1703.01365), eq. 1; Erion et al. 2021 (arXiv:1906.10670), eq. 4.
    """
    front, _ = setting.front_and_rest
    points, weights = path_points(parameters.steps, parameters.quadrature)
    points = tf.constant(points, setting.dtype)

    def compute(x: tf.Tensor, baselines: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        b, (groups, m) = x.shape[0], baselines.shape[:2]
        single = tf.reshape(baselines, (-1, *x.shape[1:]))
        starts = tuple(tf.repeat(v[None], b, axis=0) if groups < b else v for v in front(single))
        starts = tuple(tf.reshape(v, (b * m, *v.shape[2 if groups < b else 1 :])) for v in starts)
        stops = tuple(tf.repeat(v, m, axis=0) for v in front(x))

        def cuts(numbers: tf.Tensor) -> tuple[tf.Tensor, ...]:
            t = tf.gather(points, numbers)
            return tuple(between(s, e, t) for s, e in zip(starts, stops, strict=True))

        slopes = mean_gradient(setting, tf.fill((b * m,), output), cuts, weights[:, None])
        moves = tf.reshape(x[:, None] - baselines, (-1, *x.shape[1:]))
        found = moves * to_input(setting, tf.repeat(x, m, axis=0), slopes)
        return tf.reduce_mean(tf.reshape(found, (b, m, *x.shape[1:])), axis=1)

    return compute


def walked(setting: Setting) -> Walked:
    """Return the function to the output while features are switched from a baseline to the sample one by one.

    It maps samples (b, ...), baselines (b or 1, m, ...), ranks (b, m * iterations, features) of the features
    in random orders, and the index of an output, to values (b, m * iterations, features + 1).
    """
    front, rest = setting.front_and_rest

    def compute(x: tf.Tensor, baselines: tf.Tensor, ranks: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        b, walks, n_features = ranks.shape
        m = baselines.shape[1]
        starts = tf.broadcast_to(baselines, (b, *baselines.shape[1:]))
        low = tf.reshape(tf.repeat(starts, walks // m, axis=1), (b * walks, 1, n_features))
        high = tf.repeat(tf.reshape(x, (b, 1, n_features)), walks, axis=0)
        places = tf.reshape(ranks, (b * walks, 1, n_features))
        table = chunks(n_features + 1, max(1, setting.rows // (b * walks)))
        indices = tf.fill((b * walks * table.shape[1],), output)

        def values(on: tf.Tensor) -> tf.Tensor:
            rows = tf.where(places < on[None, :, None], high, low)
            found = setting.target.select(rest(*front(tf.reshape(rows, (-1, *x.shape[1:])))), indices)
            return tf.reshape(found, (b * walks, -1))

        spec = tf.TensorSpec((b * walks, table.shape[1]), setting.dtype)
        found = tf.map_fn(values, tf.constant(np.maximum(table, 0)), fn_output_signature=spec)
        whole = tf.reshape(tf.transpose(found, (1, 0, 2)), (b, walks, -1))
        return whole[..., : n_features + 1]

    return compute


def random_ranks(seed: int, indices: NDArray[np.integer], walks: int, n_features: int) -> NDArray[np.int32]:
    """Return when each feature is switched on, (samples, walks, features), keyed by (seed, sample index)."""
    order = np.arange(n_features, dtype=np.int32)
    return np.stack(
        [
            generator_of((seed, index), _ORDER_STREAM).permuted(np.tile(order, (walks, 1)), axis=1)
            for index in indices.tolist()
        ]
    )


def shapley(values: NDArray[np.floating], ranks: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the mean over walks of the difference that each feature made when it was switched on.

    Parameters
    ----------
    values : numpy.ndarray
        (samples, walks, features + 1), from `walked`.
    ranks : numpy.ndarray
        (samples, walks, features).

    Examples
    --------
    >>> shapley(np.array([[[0.0, 2.0, 3.0]]]), np.array([[[1, 0]]]))
    array([[1., 2.]])
    """
    differences = np.diff(values.astype(np.float64), axis=-1)
    return np.take_along_axis(differences, ranks, axis=-1).mean(axis=1)
