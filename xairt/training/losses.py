"""Losses of classifiers whose output is one number per class."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from xairt.conventions import check

SampleLoss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""From class numbers (n,) and outputs (n, classes) to one loss per sample (n,)."""


def class_loss(convention: str | None = None) -> SampleLoss:
    """Return the loss of a network that ends in logits.

    Parameters
    ----------
    convention : {None, "smerf2022"}
        None: softmax cross-entropy, -log softmax(outputs)[label]. "smerf2022": the outputs are taken for
        probabilities and cut to 1e-7 .. 1 - 1e-7, and the binary cross-entropy is averaged over them; an output
        outside of 0 .. 1 has no gradient then, so that a network can stop learning where it starts.

    Returns
    -------
    callable
        From class numbers (n,) and outputs (n, classes) to losses (n,), in nats; for ``loss`` of
        `xairt.training.fit`, `pgd` and `pgd_perturbation`.

    Raises
    ------
    MethodError
        If the convention is another one.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506, and its program (``binary_crossentropy`` after a linear layer).

    Examples
    --------
    >>> class_loss()([1, 0], [[0.0, 0.0], [20.0, 0.0]]).numpy().round(4)
    array([0.6931, 0.    ], dtype=float32)
    >>> class_loss("smerf2022")([1, 0], [[0.5, 0.5], [2.0, 0.5]]).numpy().round(4)
    array([0.6931, 0.3466], dtype=float32)
    """
    return _cross_entropy if check(convention, ("smerf2022",)) is None else _outputs_as_probabilities


def _cross_entropy(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(_numbers(labels), tf.convert_to_tensor(outputs))


def _outputs_as_probabilities(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    outputs = tf.convert_to_tensor(outputs)
    wanted = tf.one_hot(_numbers(labels), outputs.shape[-1], dtype=outputs.dtype)
    return tf.keras.losses.binary_crossentropy(wanted, outputs)


def _numbers(labels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reshape(tf.convert_to_tensor(labels), [-1]), tf.int32)


def negative_log_likelihood(targets: tf.Tensor, log_probabilities: tf.Tensor) -> tf.Tensor:
    """Return the negative log-likelihood of one-hot targets, for a network that ends in log-softmax.

    Parameters
    ----------
    targets, log_probabilities : (n, classes)

    Returns
    -------
    tensorflow.Tensor
        (n,), in nats.

    Examples
    --------
    >>> negative_log_likelihood([[0.0, 1.0]], [[-2.0, -0.5]]).numpy()
    array([0.5], dtype=float32)
    """
    return -tf.reduce_sum(tf.multiply(targets, log_probabilities), axis=-1)
