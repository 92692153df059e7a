"""Networks of tables of variables: a plain multilayer perceptron with GELU, and one with skip connections."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from xairt.errors import ModelError
from xairt.models.architectures import layer_seeds, require_units

DEPTH, WIDTH = 3, 100
"""Hidden layers and their units as published."""


def mlp(
    n_inputs: int, seed: int, *, depth: int = DEPTH, width: int = WIDTH, dropout: float = 0.0
) -> tf.keras.Model:
    """Return a multilayer perceptron with GELU, for a regression.

    Weights and biases are uniform within +-1/sqrt(inputs of the layer), as those of PyTorch's linear layers.

    Parameters
    ----------
    n_inputs : int
        Columns of x.
    seed : int
        Not negative; the same seed gives the same weights and dropout. Global random state is left alone.
    depth, width : int
        Hidden layers, and units of each.
    dropout : float
        Share of the units of each hidden layer that a training step leaves out, >= 0 and below 1.

    Returns
    -------
    tensorflow.keras.Model
        (samples, n_inputs) -> (samples, 1), not compiled.

    Raises
    ------
    ModelError
        If a number is out of range.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, and its program.
    """
    seeds = _seeds(n_inputs, seed, depth, width, dropout)
    x = inputs = tf.keras.layers.Input((n_inputs,))
    for _ in range(depth):
        x = _dense(x, width, seeds, "gelu")
        x = _dropout(x, dropout, next(seeds))
    return tf.keras.Model(inputs, _dense(x, 1, seeds), name="mlp")


def residual_mlp(
    n_inputs: int, seed: int, *, depth: int = DEPTH, width: int = WIDTH, dropout: float = 0.0
) -> tf.keras.Model:
    """Return a perceptron whose hidden layers after the first one are blocks with a skip connection.

    A block adds to its input what layer normalisation, GELU and a dense layer make of it; the output is a dense
    layer of the last block's normalised input after GELU.

    Parameters
    ----------
    n_inputs, seed, depth, width, dropout
        As of `mlp`; one of the `depth` hidden layers stands before the blocks.

    Returns
    -------
    tensorflow.keras.Model
        (samples, n_inputs) -> (samples, 1), not compiled.

    Raises
    ------
    ModelError
        If a number is out of range.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, and its program; He et al. (2016), arXiv:1603.05027, for the order.
    """
    seeds = _seeds(n_inputs, seed, depth, width, dropout)
    layers = tf.keras.layers
    inputs = layers.Input((n_inputs,))
    x = _dense(inputs, width, seeds)
    for _ in range(depth - 1):
        branch = _dense(_normalised(x), width, seeds)
        x = layers.Add()([x, _dropout(branch, dropout, next(seeds))])
    return tf.keras.Model(inputs, _dense(_normalised(x), 1, seeds), name="residual_mlp")


def _seeds(n_inputs: int, seed: int, depth: int, width: int, dropout: float):
    require_units([width] * depth)
    if not 0 <= dropout < 1:
        raise ModelError(f"dropout={dropout}: out of range; give a share from 0 to below 1")
    return iter(layer_seeds(n_inputs, seed, 3 * depth + 2))


def _dense(x: tf.Tensor, units: int, seeds, activation: str | None = None) -> tf.Tensor:
    limit = 1 / np.sqrt(x.shape[-1])
    kernel, bias = (
        tf.keras.initializers.RandomUniform(-limit, limit, seed=next(seeds)) for _ in ("kernel", "bias")
    )
    return tf.keras.layers.Dense(units, activation, kernel_initializer=kernel, bias_initializer=bias)(x)


def _normalised(x: tf.Tensor) -> tf.Tensor:
    return tf.keras.layers.Activation("gelu")(tf.keras.layers.LayerNormalization(epsilon=1e-5)(x))


def _dropout(x: tf.Tensor, share: float, seed: int) -> tf.Tensor:
    return tf.keras.layers.Dropout(share, seed=seed)(x) if share else x
