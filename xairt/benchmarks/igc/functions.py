"""Statistics of images as differentiable TensorFlow functions: true models to explain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from xairt.benchmarks.igc.experiments import Experiment, experiment_of
from xairt.benchmarks.igc.masks import SIDE
from xairt.benchmarks.igc.statistics import Scaling, region_indices
from xairt.errors import DataError

BETA = 100.0
"""Sharpness of the softmax that stands for the largest score."""

FunctionModel = Callable[[tf.Tensor], tf.Tensor]
"""From images (n, 64, 64, 1) to (n,) or (n, outputs)."""


def function_model(experiment: str | Experiment, scaling: Scaling | None = None) -> FunctionModel:
    """Return the statistic of an experiment as a differentiable function, without what is random about it.

    No pair is dropped and no inner region changes its place. Categorical statistics are softmax(100 scores). Where a
    region is constant its standard deviation, and where it is all 0 its similarity, is 0 with gradient 0.

    Parameters
    ----------
    experiment : str or Experiment
    scaling : Scaling, optional
        Of the validation set, for a scalar statistic; by default it is not standardised.

    Returns
    -------
    callable
        From images (n, 64, 64, 1), or (n, 64, 64), to (n,); (n, classes) for categorical statistics. In the
        precision of the images.

    Raises
    ------
    DataError
        If the experiment is unknown, or a scaling is given for a categorical statistic.

    References
    ----------
    Lelièvre and Chen (2024), arXiv:2404.13910.

    Examples
    --------
    >>> function_model("B")(tf.ones((2, 64, 64, 1))).numpy().round(4)
    array([1., 1.], dtype=float32)
    """
    chosen = experiment_of(experiment)
    if scaling is not None and chosen.categorical:
        raise DataError(f"experiment {chosen.name}: classes are not standardised; leave scaling out")
    scores = _scores_of(chosen)

    def model(images: tf.Tensor) -> tf.Tensor:
        images = tf.convert_to_tensor(images)
        found = scores(tf.reshape(images, (-1, SIDE * SIDE)))
        if chosen.categorical:
            return tf.nn.softmax(BETA * found, axis=1)
        largest = tf.reduce_max(found, axis=1)
        return largest if scaling is None else (largest - scaling.mean) / scaling.sd

    return model


def _scores_of(experiment: Experiment) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function from pixels (n, 4096) to scores (n, scores)."""
    kind = experiment.rule.scores
    if kind in ("weighted sum", "mean"):
        weights = _linear_weights(experiment)
        return lambda pixels: tf.matmul(pixels, tf.constant(weights, pixels.dtype))
    indices = region_indices(experiment)
    by_kind = {
        "sd": lambda regions: [_deviation(region) for region in regions],
        "reference": lambda regions: [_cosine(regions[0], other) for other in regions[1:]],
        "pairs": _pairs,
        "patches": _patches,
    }
    compare = by_kind[kind]
    return lambda pixels: tf.stack(compare([tf.gather(pixels, index, axis=1) for index in indices]), axis=1)


def _linear_weights(experiment: Experiment) -> NDArray[np.float64]:
    """Return the weights (4096, scores) of scores that are linear in the pixels."""
    if experiment.mask.gaussians:
        return experiment.mask.weights().reshape(-1, 1)
    regions = experiment.mask.region_pixels()
    return (regions / regions.sum(axis=(1, 2), keepdims=True)).reshape(len(regions), -1).T


def _pairs(regions: list[tf.Tensor]) -> list[tf.Tensor]:
    half = len(regions) // 2
    return [_cosine(a, b) for a, b in zip(regions[:half], regions[half:], strict=True)]


def _patches(regions: list[tf.Tensor]) -> list[tf.Tensor]:
    half = len(regions) // 2
    whole = [tf.concat(pair, axis=1) for pair in zip(regions[:half], regions[half:], strict=True)]
    return [_cosine(whole[0], other) for other in whole[1:]]


def _cosine(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    norms = _root(tf.reduce_sum(a**2, axis=1)) * _root(tf.reduce_sum(b**2, axis=1))
    return tf.math.divide_no_nan(tf.reduce_sum(a * b, axis=1), norms)


def _deviation(region: tf.Tensor) -> tf.Tensor:
    centred = region - tf.reduce_mean(region, axis=1, keepdims=True)
    return _root(tf.reduce_mean(centred**2, axis=1))


def _root(values: tf.Tensor) -> tf.Tensor:
    """Return the square root, whose gradient at 0 is 0 here and not infinite."""
    positive = values > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, values, tf.ones_like(values))), 0.0)
