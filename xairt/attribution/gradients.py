"""The gradient family: gradient, saliency, input times gradient, integrated gradients, smoothgrad."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf
from pydantic import Field, model_validator

from xairt.attribution.blocks import Block, BlockMethod, Explained, Setting, chunks, weighted_sum
from xairt.attribution.parameters import Parameters

Quadrature = Literal["trapezoid", "midpoint", "gauss_legendre", "innvestigate"]


MOST_GAUSS_LEGENDRE = 1000
"""Points of the Gauss-Legendre rule: it is exact for polynomials of twice the degree, and finding n takes n^2 numbers."""


class IntegratedGradientsParameters(Parameters):
    """Parameters of integrated gradients."""

    steps: int = Field(64, ge=2, le=100_000, description="number of points on the path")
    quadrature: Quadrature = Field("trapezoid", description="rule of the integral along the path")

    @model_validator(mode="after")
    def _few_enough(self) -> IntegratedGradientsParameters:
        if self.quadrature == "gauss_legendre" and self.steps > MOST_GAUSS_LEGENDRE:
            raise ValueError(f"steps is {self.steps}: gauss_legendre takes at most {MOST_GAUSS_LEGENDRE}")
        return self


class SmoothGradParameters(Parameters):
    """Parameters of smoothgrad."""

    augment_by_n: int = Field(64, ge=1, le=100_000, description="number of noisy copies of each sample")
    noise_scale: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="standard deviation of the noise, in units of x"
    )
    square: bool = Field(
        False, description="whether the mean is of squared gradients (Hooker et al. 2019, arXiv:1806.10758)"
    )


def gradient(setting: Setting, parameters: Parameters) -> BlockMethod:
    """Derivative of the explained output (Simonyan et al. 2014, arXiv 1312.6034), signed."""
    return lambda block: Explained(block.gradient())


def saliency(setting: Setting, parameters: Parameters) -> BlockMethod:
    """Absolute derivative of the explained output (Simonyan et al. 2014, section 3)."""
    return lambda block: Explained(tf.abs(block.gradient()))


def input_t_gradient(setting: Setting, parameters: Parameters) -> BlockMethod:
    """Input times gradient (Shrikumar et al. 2016, arXiv 1605.01713)."""
    return lambda block: Explained(block.x * block.gradient())


def path_points(steps: int, quadrature: Quadrature) -> tuple[np.ndarray, np.ndarray]:
    """Return points on [0, 1] and weights that sum to 1.

    Parameters
    ----------
    steps : int
        Number of points.
    quadrature : str
        "trapezoid" on linspace(0, 1, steps); "midpoint"; "gauss_legendre"; "innvestigate", a left
        Riemann sum on k/steps, k = 0 ... steps-1.

    Returns
    -------
    points, weights : numpy.ndarray
        Each (steps,), float64.

    Examples
    --------
    >>> path_points(3, "trapezoid")
    (array([0. , 0.5, 1. ]), array([0.25, 0.5 , 0.25]))
    """
    if quadrature == "gauss_legendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        points, weights = (points + 1) / 2, weights / 2
    elif quadrature == "trapezoid":
        points, weights = np.linspace(0, 1, steps), np.full(steps, 1.0 / (steps - 1))
        weights[[0, -1]] /= 2
    else:
        offset = 0.5 if quadrature == "midpoint" else 0.0
        points, weights = (np.arange(steps) + offset) / steps, np.full(steps, 1.0 / steps)
    weights[steps // 2] += 1 - math.fsum(weights)  # rounding alone keeps 49 weights of 1/49 from adding to 1
    return points, weights


def mean_gradient(
    setting: Setting,
    indices: tf.Tensor,
    cuts: Callable[[tf.Tensor], tuple[tf.Tensor, ...]],
    weights: np.ndarray,
    of: Callable[[tuple[tf.Tensor, ...]], tuple[tf.Tensor, ...]] = tuple,
) -> tuple[tf.Tensor, ...]:
    """Return weighted sums of the gradient behind the network's affine front over many points per sample.

    Parameters
    ----------
    setting : Setting
        The network and the target.
    indices : tf.Tensor
        Index of the explained output of each sample (b,).
    cuts : callable
        From the numbers of c groups of points to the tensors where the front ends, each
        (b, c * points of a group, ...).
    weights : numpy.ndarray
        Weight of every point (groups, points of a group).
    of : callable
        From the gradients (b * points, ...), samples first, to what is summed; by default themselves.

    Returns
    -------
    tuple of tf.Tensor
        One (b, ...) for each tensor where the front ends, or that `of` gives; see `to_input` for the way to the
        input.
    """
    n_samples = indices.shape[0]
    groups, size = weights.shape
    table = chunks(groups, max(1, setting.rows // (n_samples * size)))
    weighted = np.where(table[..., None] < 0, 0, weights[table])
    parts = tf.constant(weighted.reshape(len(table), -1), setting.dtype)
    numbers = tf.constant(np.maximum(table, 0))
    repeated = tf.repeat(indices, parts.shape[1])
    alike = of(_rows(cuts(numbers[0])))  # of the shapes alone, which TensorFlow leaves uncomputed
    total = tuple(tf.zeros((n_samples, *v.shape[1:]), setting.dtype) for v in alike)
    for k in tf.range(len(table)):
        slopes = of(slopes_behind(setting, _rows(cuts(numbers[k])), repeated))
        by_sample = (tf.reshape(s, (n_samples, -1, *s.shape[1:])) for s in slopes)
        total = tuple(t + weighted_sum(parts[k], s) for t, s in zip(total, by_sample, strict=True))
    return total


def _rows(cut: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
    """Return tensors (b, points, ...) as (b * points, ...)."""
    return tuple(tf.reshape(v, (-1, *v.shape[2:])) for v in cut)


def slopes_behind(setting: Setting, cut: tuple[tf.Tensor, ...], indices: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Return the derivative of the explained scalar by the tensors (rows, ...) where the affine front ends."""
    _, rest = setting.front_and_rest
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(cut)
        value = setting.target.select(rest(*cut), indices)
    return tape.gradient(value, cut, unconnected_gradients="zero")


def to_input(setting: Setting, x: tf.Tensor, slopes: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """Return gradients at the end of the affine front taken back to the input (b, ...)."""
    front, _ = setting.front_and_rest
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        cut = front(x)
    return tape.gradient(cut, x, output_gradients=slopes, unconnected_gradients="zero")


def integrated_gradients(setting: Setting, parameters: IntegratedGradientsParameters) -> BlockMethod:
    """Integral of the gradient along the line from the baseline (Sundararajan et al. 2017, eq. 1).

    The mean over the baselines where several are given. Along the line the affine front of the network is
    a line too, so it is computed at both ends only, and gradients are averaged behind it.
    """
    front, rest = setting.front_and_rest
    points, weights = path_points(parameters.steps, parameters.quadrature)
    points = tf.constant(points, setting.dtype)
    baselines = tf.constant(setting.baseline, setting.dtype)

    def explain(block: Block) -> Explained:
        end, starts = front(block.x), front(baselines)
        total, at_start = tf.zeros_like(block.x), tf.zeros(block.x.shape[:1], setting.dtype)
        for k in tf.range(len(setting.baseline)):
            start = tuple(v[k][None] for v in starts)

            def cuts(numbers, start=start):
                t = tf.gather(points, numbers)
                return tuple(between(s, e, t) for s, e in zip(start, end, strict=True))

            slopes = mean_gradient(setting, block.indices, cuts, weights[:, None])
            total += (block.x - baselines[k]) * to_input(setting, block.x, slopes)
            at_start += setting.target.select(rest(*map(_repeated(block), start)), block.indices)
        n = tf.cast(len(setting.baseline), setting.dtype)
        return Explained(total / n, promised=block.value - at_start / n)

    return explain


def between(start: tf.Tensor, end: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
    """Return points t (c,) on the lines from start (1, ...) to end (b, ...), as (b, c, ...)."""
    return start[:, None] + tf.reshape(t, (-1, *[1] * (end.shape.rank - 1))) * (end - start)[:, None]


def _repeated(block: Block) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda v: tf.repeat(v, block.x.shape[0], axis=0)


def smoothgrad(setting: Setting, parameters: SmoothGradParameters) -> BlockMethod:
    """Mean gradient, or squared gradient, over noisy copies of a sample (Smilkov et al. 2017, arXiv 1706.03825, eq. 1).

    Copies come in pairs of opposite noise: each is normal as it should be, and the pair's mean is closer to
    the expectation. The affine front of the network is computed once per pair.
    """
    front, _ = setting.front_and_rest
    n, scale = parameters.augment_by_n, parameters.noise_scale
    weights = np.full((_n_pairs(n), 2), 1 / n)
    weights[-1, 1] *= n % 2 == 0

    def explain(block: Block) -> Explained:
        at_x, origin, shape = front(block.x), front(tf.zeros_like(block.x[:1])), block.x.shape[1:]

        def cuts(numbers):
            deviations = tf.gather(block.noise, numbers, axis=1)
            moved = front(tf.reshape(deviations, (-1, *shape)))
            return tuple(_pairs(v, scale * (m - o)) for v, m, o in zip(at_x, moved, origin, strict=True))

        def squared(slopes):
            places = tf.repeat(block.x, slopes[0].shape[0] // block.x.shape[0], axis=0)
            return (to_input(setting, places, slopes) ** 2,)

        if parameters.square:
            return Explained(*mean_gradient(setting, block.indices, cuts, weights, squared))
        return Explained(to_input(setting, block.x, mean_gradient(setting, block.indices, cuts, weights)))

    return explain


def smoothgrad_noise(parameters: SmoothGradParameters, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the noise that smoothgrad draws for a sample: one draw for a pair of copies."""
    return (_n_pairs(parameters.augment_by_n), *shape)


def _n_pairs(n: int) -> int:
    return -(-n // 2)


def _pairs(value: tf.Tensor, move: tf.Tensor) -> tf.Tensor:
    """Return value (b, ...) plus and minus move (b * pairs, ...) as (b, 2 * pairs, ...)."""
    moves = tf.reshape(move, (value.shape[0], -1, 1, *value.shape[1:]))
    both = value[:, None, None] + tf.concat([moves, -moves], axis=2)
    return tf.reshape(both, (value.shape[0], -1, *value.shape[1:]))
