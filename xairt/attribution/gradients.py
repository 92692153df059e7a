"""The gradient family: gradient, saliency, input times gradient, integrated gradients, smoothgrad."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf
from pydantic import Field

from xairt.attribution.blocks import Block, BlockMethod, Explained, Setting, noise
from xairt.attribution.parameters import Parameters

Gradient = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Quadrature = Literal["trapezoid", "midpoint", "gauss_legendre", "innvestigate"]


class IntegratedGradientsParameters(Parameters):
    """Parameters of integrated gradients."""

    steps: int = Field(64, ge=2, le=100_000, description="number of points on the path")
    quadrature: Quadrature = Field("trapezoid", description="rule of the integral along the path")


class SmoothGradParameters(Parameters):
    """Parameters of smoothgrad."""

    augment_by_n: int = Field(64, ge=1, le=100_000, description="number of noisy copies of each sample")
    noise_scale: float = Field(1.0, ge=0, description="standard deviation of the noise, in units of x")


def gradient_of(setting: Setting) -> Gradient:
    """Return the function from (samples, target indices) to the gradient of the explained scalar."""
    scalar = setting.scalar(setting.outputs)

    def gradient(x: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = scalar(x, indices)
        return tape.gradient(value, x, unconnected_gradients="zero")

    return gradient


def gradient(setting: Setting, parameters: Parameters) -> BlockMethod:
    """Derivative of the explained output (Simonyan et al. 2014, arXiv 1312.6034), signed."""
    derivative = gradient_of(setting)
    return lambda block: Explained(derivative(block.x, block.indices))


def saliency(setting: Setting, parameters: Parameters) -> BlockMethod:
    """Absolute derivative of the explained output (Simonyan et al. 2014, section 3)."""
    derivative = gradient_of(setting)
    return lambda block: Explained(tf.abs(derivative(block.x, block.indices)))


def input_t_gradient(setting: Setting, parameters: Parameters) -> BlockMethod:
    """Input times gradient (Shrikumar et al. 2016, arXiv 1605.01713)."""
    derivative = gradient_of(setting)
    return lambda block: Explained(block.x * derivative(block.x, block.indices))


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


def integrated_gradients(setting: Setting, parameters: IntegratedGradientsParameters) -> BlockMethod:
    """Integral of the gradient along the line from the baseline (Sundararajan et al. 2017, eq. 1).

    The mean over the baselines where several are given.
    """
    derivative, scalar = gradient_of(setting), setting.scalar(setting.outputs)
    points, weights = (
        tf.constant(v, setting.dtype) for v in path_points(parameters.steps, parameters.quadrature)
    )
    baselines = tf.constant(setting.baseline, setting.dtype)

    def explain(block: Block) -> Explained:
        total, start = tf.zeros_like(block.x), tf.zeros(block.x.shape[:1], setting.dtype)
        for baseline in baselines:
            difference, mean = block.x - baseline, tf.zeros_like(block.x)
            for k in tf.range(parameters.steps):
                mean += weights[k] * derivative(baseline + points[k] * difference, block.indices)
            total += difference * mean
            start += scalar(tf.zeros_like(block.x) + baseline, block.indices)
        n = tf.cast(len(setting.baseline), setting.dtype)
        return Explained(total / n, promised=scalar(block.x, block.indices) - start / n)

    return explain


def smoothgrad(setting: Setting, parameters: SmoothGradParameters) -> BlockMethod:
    """Mean gradient over noisy copies of a sample (Smilkov et al. 2017, arXiv 1706.03825, eq. 1)."""
    derivative = gradient_of(setting)

    def explain(block: Block) -> Explained:
        n = parameters.augment_by_n
        deviations = noise(block.keys, (n, *block.x.shape[1:]), setting.dtype)
        total = tf.zeros_like(block.x)
        for k in tf.range(n):
            total += derivative(block.x + parameters.noise_scale * deviations[:, k], block.indices)
        return Explained(total / n)

    return explain
