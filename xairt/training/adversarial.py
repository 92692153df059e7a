"""Samples changed within small bounds so that a classifier errs, and training on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, ModelError
from xairt.keys import generator_of, noise_keys
from xairt.training.losses import SampleLoss, class_loss
from xairt.training.trainer import Perturb


@dataclass(frozen=True)
class Attack:
    """How far and by what steps projected gradient descent (PGD) changes a sample.

    Parameters
    ----------
    epsilon : float
        Largest change of any value of the sample, > 0, in its unit.
    step : float
        Change of each value per iteration, > 0.
    iterations : int
        Number of steps, >= 1.
    low, high : float
        Bounds of the samples' values.
    random_start : bool
        Start at uniform noise of -epsilon .. epsilon around the sample, cut to the bounds, or at the sample.

    Raises
    ------
    DataError
        If a number is out of range.

    References
    ----------
    Madry et al. (2018), arXiv:1706.06083; the defaults are those of Kim, Plumb and Talwalkar (2022),
    arXiv:2105.06506.
    """

    epsilon: float = 0.3
    step: float = 0.1
    iterations: int = 10
    low: float = 0.0
    high: float = 1.0
    random_start: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.epsilon < np.inf and 0 < self.step < np.inf) or self.iterations < 1:
            raise DataError(
                f"attack epsilon={self.epsilon}, step={self.step}, iterations={self.iterations}: out of range; "
                "give positive numbers"
            )
        if not -np.inf < self.low < self.high < np.inf:
            raise DataError(f"attack low={self.low}, high={self.high}: give finite bounds, low below high")


def pgd(
    model: tf.keras.Model,
    x: ArrayLike,
    labels: ArrayLike,
    attack: Attack | None = None,
    *,
    loss: SampleLoss | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Change samples so that the loss of a classifier rises (projected gradient descent, PGD).

    Each iteration moves every value by `step` along the sign of the loss's gradient, then back into the box of
    epsilon around the sample and into the bounds of the data.

    Parameters
    ----------
    model : tensorflow.keras.Model
        Classifier (samples, ...) -> (samples, classes), used as in prediction; left as it is.
    x : (samples, ...)
        Finite, within the bounds of the attack.
    labels : (samples,) integers
        True classes, from 0.
    attack : Attack, optional
        By default the publication's.
    loss : callable, optional
        Which loss rises, see `xairt.training.class_loss`; by default softmax cross-entropy of logits.
    batch_size : int
        Samples at once, >= 1. It changes the last digits only: the noise of a sample depends on the seed and its
        index alone.
    seed : int
        Not negative; of the random start.

    Returns
    -------
    (samples, ...) float32
        At most epsilon (within rounding) away from x, within the bounds.

    Raises
    ------
    DataError
        If samples or labels do not fit, or are out of range.
    ModelError
        If the model is no such classifier.

    References
    ----------
    Madry et al. (2018), arXiv:1706.06083, section 2.1.

    Examples
    --------
    >>> model = tf.keras.Sequential([tf.keras.layers.Input((1,)), tf.keras.layers.Dense(2, use_bias=False)])
    >>> model.set_weights([np.array([[-1.0, 1.0]])])
    >>> pgd(model, [[0.5], [0.9]], [1, 0]).round(6)  # class 1 for large values
    array([[0.2], [1. ]], dtype=float32)
    """
    attack = attack or Attack()
    images, classes = _checked(model, x, labels, attack)
    if batch_size < 1:
        raise DataError(f"batch_size={batch_size}: out of range; give a whole number from 1")
    keys = noise_keys(seed, None, len(images))
    ascend = tf.function(partial(_ascended, model, attack, loss or class_loss()), reduce_retracing=True)
    found = np.empty_like(images)
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        noise = _noise(keys[rows], images.shape[1:]) if attack.random_start else np.zeros_like(images[rows])
        found[rows] = ascend(*map(tf.constant, (images[rows], classes[rows], noise))).numpy()
    return found


def pgd_perturbation(
    model: tf.keras.Model, attack: Attack | None = None, *, loss: SampleLoss | None = None
) -> Perturb:
    """Return what changes the samples of a training step as `pgd` does, against the weights of that step.

    Parameters
    ----------
    model : tensorflow.keras.Model
        The classifier that is trained.
    attack : Attack, optional
        By default the publication's.
    loss : callable, optional
        Which loss the attack raises, that of the training; by default softmax cross-entropy of logits.

    Returns
    -------
    callable
        For ``perturb`` of `xairt.training.fit`; its targets are class numbers. A step costs about `iterations` + 1
        times as much as a plain one.

    Raises
    ------
    ModelError
        If the model is no classifier of class numbers.

    References
    ----------
    Madry et al. (2018), arXiv:1706.06083. Kim, Plumb and Talwalkar (2022) go on from the trained plain network, with
    all samples of each step changed.

    Examples
    --------
    >>> from xairt.training import fit
    >>> model = tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(2)])
    >>> x = np.random.default_rng(0).random((64, 2)).astype("float32")
    >>> perturb = pgd_perturbation(model, Attack(epsilon=0.1, step=0.05, iterations=3))
    >>> history = fit(model, x, (x[:, 0] > 0.5).astype(int), epochs=2, loss=class_loss(), perturb=perturb)
    """
    attack, loss = attack or Attack(), loss or class_loss()
    _require_classifier(model)

    def perturb(x: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        noise = tf.random.stateless_uniform(tf.shape(x), seed, -1.0, 1.0, x.dtype)
        return _ascended(model, attack, loss, x, labels, noise if attack.random_start else 0.0 * noise)

    return perturb


def _ascended(
    model: tf.keras.Model,
    attack: Attack,
    loss: SampleLoss,
    x: tf.Tensor,
    labels: tf.Tensor,
    noise: tf.Tensor,
) -> tf.Tensor:
    """Return samples after the attack; noise is -1 .. 1."""
    lowest = tf.maximum(x - attack.epsilon, attack.low)
    highest = tf.minimum(x + attack.epsilon, attack.high)
    changed = tf.clip_by_value(x + attack.epsilon * noise, lowest, highest)
    for _ in tf.range(attack.iterations):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(changed)
            total = tf.reduce_sum(loss(labels, model(changed, training=False)))
        uphill = tf.sign(tape.gradient(total, changed))
        changed = tf.clip_by_value(changed + attack.step * uphill, lowest, highest)
    return tf.stop_gradient(changed)


def _noise(keys: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return uniform noise of -1 .. 1 (n, *shape) that depends on each sample's key alone."""
    drawn = [generator_of(key).random(shape, dtype=np.float32) for key in keys.tolist()]
    return 2 * np.stack(drawn) - 1


def _require_classifier(model: tf.keras.Model) -> int:
    """Return the number of classes of a model."""
    one = len(model.inputs) == len(model.outputs) == 1
    if not one or model.outputs[0].shape.rank != 2 or (model.outputs[0].shape[1] or 0) < 2:
        raise ModelError(
            f"model '{model.name}': no classifier of one input and one number per class; give such a model"
        )
    return int(model.outputs[0].shape[1])


def _checked(
    model: tf.keras.Model, x: ArrayLike, labels: ArrayLike, attack: Attack
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    classes = _require_classifier(model)
    images, numbers = np.asarray(x), np.asarray(labels)
    wanted = model.inputs[0].shape
    if not wanted.is_compatible_with(images.shape) or not len(images) or images.dtype.kind not in "fiu":
        raise DataError(f"x {images.shape} of {images.dtype}: give real numbers (samples, {wanted[1:]})")
    if not (images.min() >= attack.low and images.max() <= attack.high):
        raise DataError(f"x: NaN or outside of {attack.low} .. {attack.high}, the bounds of the attack")
    if numbers.shape != (len(images),) or numbers.dtype.kind not in "iub":
        raise DataError(
            f"labels {numbers.shape} of {numbers.dtype}: give one class number for each of {len(images)} samples"
        )
    if numbers.min() < 0 or numbers.max() >= classes:
        raise DataError(f"labels: not in 0 .. {classes - 1}; give the classes of the model")
    return images.astype(np.float32), numbers.astype(np.int32)
