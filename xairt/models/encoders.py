"""Networks of the IGC benchmark, from an image to one number or to the log-probabilities of classes.

All layers are Keras's own, so that a saved network loads anywhere: layer scale is a depthwise convolution of one
pixel without bias, stochastic depth a dropout of whole samples of a branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import tensorflow as tf

from xairt.errors import ModelError
from xairt.models.architectures import layer_seeds, require_units

CONVNEXT_WIDTHS = (16, 32, 64, 128, 256)
CONVNEXT_UNITS = (128, 16)
MLP_UNITS = (256, 128, 64, 32, 16)
DROPOUT = 0.25
STOCHASTIC_DEPTH = 0.5
LAYER_SCALE = 1e-6

IMAGE_SHAPE = (64, 64, 1)
"""Rows, columns and channels of the images of IGC."""

_EPSILON = 1e-6
_MOMENTUM = 0.9


def convnext(
    seed: int,
    outputs: int = 1,
    *,
    widths: Sequence[int] = CONVNEXT_WIDTHS,
    blocks: int = 3,
    units: Sequence[int] = CONVNEXT_UNITS,
    stochastic_depth: float = STOCHASTIC_DEPTH,
    dropout: float = DROPOUT,
) -> tf.keras.Model:
    """Return the ConvNeXt encoder of the IGC benchmark, with its initial weights.

    A stem (convolution 2 x 2 with stride 2, layer normalisation); at each width but the last `blocks` blocks, layer
    normalisation, and a convolution 2 x 2 with stride 2 to the next width. To its input a block adds: depthwise
    convolution 7 x 7, layer normalisation, four times the width with GELU, the width again, layer scale, stochastic
    depth. Then the layers of `mlp`.

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same weights and dropout. Convolutions are truncated normal with sd
        0.02, layer scales 1e-6. Global random state is left alone.
    outputs : int
        1: one linear output. More: log-softmax of so many classes.
    widths : sequence of int
        Of the stages, and of what is flattened, in place of the paper's.
    blocks : int
        Of each stage, >= 1.
    units : sequence of int
        Of the hidden dense layers.
    stochastic_depth : float
        Share of the samples, 0 to below 1, for which the last block is left out in training; it grows linearly from
        0 at the first block.
    dropout : float
        Share of the units, 0 to below 1.

    Returns
    -------
    tensorflow.keras.Model
        (samples, 64, 64, 1) -> (samples, outputs), not compiled.

    Raises
    ------
    ModelError
        If a number is out of range, or there is no stage or no hidden layer.

    References
    ----------
    Liu et al. (2022), arXiv:2201.03545; Huang et al. (2016), arXiv:1603.09382 (stochastic depth); Lelièvre and Chen
    (2024), arXiv:2404.13910.
    """
    _require(outputs, units, dropout)
    if len(widths) < 2 or min(widths) < 1 or blocks < 1 or not 0 <= stochastic_depth < 1:
        raise ModelError(
            f"widths={tuple(widths)}, blocks={blocks}, stochastic_depth={stochastic_depth}: out of range; give two "
            "widths or more, blocks >= 1 and a share from 0 to below 1"
        )
    last = (len(widths) - 1) * blocks - 1
    seeds = iter(layer_seeds(1, seed, 4 * (last + 1) + len(widths) + 2 * len(units) + 1))
    image = tf.keras.layers.Input(IMAGE_SHAPE)
    x = _normalised(_halved(image, widths[0], next(seeds)))
    for stage, width in enumerate(widths[1:]):
        for place in range(blocks):
            share = stochastic_depth * (stage * blocks + place) / max(last, 1)
            x = _block(x, share, seeds)
        x = _halved(_normalised(x), width, next(seeds))
    x = tf.keras.layers.Flatten()(x)
    return tf.keras.Model(image, _dense_end(x, outputs, units, dropout, seeds), name="convnext")


def mlp(
    seed: int, outputs: int = 1, *, units: Sequence[int] = MLP_UNITS, dropout: float = DROPOUT
) -> tf.keras.Model:
    """Return the multilayer perceptron of the IGC benchmark, with its initial weights.

    Dense layers without bias, each followed by batch normalisation, Mish and dropout; then a dense output.

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same weights (He normal, Glorot uniform for the output) and dropout.
        Global random state is left alone.
    outputs : int
        1: one linear output. More: log-softmax of so many classes.
    units : sequence of int
        Of the hidden layers, in place of the paper's.
    dropout : float
        Share of the units, 0 to below 1.

    Returns
    -------
    tensorflow.keras.Model
        (samples, 64, 64, 1) -> (samples, outputs), not compiled.

    Raises
    ------
    ModelError
        If a number is out of range, or there is no hidden layer.

    References
    ----------
    Misra (2019), arXiv:1908.08681 (Mish); Lelièvre and Chen (2024), arXiv:2404.13910.
    """
    _require(outputs, units, dropout)
    seeds = iter(layer_seeds(1, seed, 2 * len(units) + 1))
    image = tf.keras.layers.Input(IMAGE_SHAPE)
    x = tf.keras.layers.Flatten()(image)
    return tf.keras.Model(image, _dense_end(x, outputs, units, dropout, seeds), name="mlp")


def _require(outputs: int, units: Sequence[int], dropout: float) -> None:
    require_units(units)
    if outputs < 1 or not 0 <= dropout < 1:
        raise ModelError(
            f"outputs={outputs}, dropout={dropout}: out of range; give outputs >= 1 and a share from 0 to below 1"
        )


def _narrow(seed: int) -> tf.keras.initializers.Initializer:
    return tf.keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)


def _normalised(x: tf.Tensor) -> tf.Tensor:
    return tf.keras.layers.LayerNormalization(epsilon=_EPSILON)(x)


def _halved(x: tf.Tensor, width: int, seed: int) -> tf.Tensor:
    return tf.keras.layers.Conv2D(width, 2, strides=2, kernel_initializer=_narrow(seed))(x)


def _block(x: tf.Tensor, share: float, seeds: Iterator[int]) -> tf.Tensor:
    layers, width = tf.keras.layers, x.shape[-1]
    y = layers.DepthwiseConv2D(7, padding="same", depthwise_initializer=_narrow(next(seeds)))(x)
    y = layers.Conv2D(4 * width, 1, activation="gelu", kernel_initializer=_narrow(next(seeds)))(
        _normalised(y)
    )
    y = layers.Conv2D(width, 1, kernel_initializer=_narrow(next(seeds)))(y)
    scale = tf.keras.initializers.Constant(LAYER_SCALE)
    y = layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer=scale)(y)
    y = layers.Dropout(share, noise_shape=(None, 1, 1, 1), seed=next(seeds))(y)
    return layers.Add()([x, y])


def _dense_end(
    x: tf.Tensor, outputs: int, units: Sequence[int], dropout: float, seeds: Iterator[int]
) -> tf.Tensor:
    layers, initializers = tf.keras.layers, tf.keras.initializers
    for count in units:
        kernel = initializers.HeNormal(seed=next(seeds))
        x = layers.Dense(count, use_bias=False, kernel_initializer=kernel)(x)
        x = layers.BatchNormalization(momentum=_MOMENTUM, epsilon=_EPSILON)(x)
        x = layers.Activation("mish")(x)
        x = layers.Dropout(dropout, seed=next(seeds))(x)
    end = "linear" if outputs == 1 else "log_softmax"
    return layers.Dense(outputs, end, kernel_initializer=initializers.GlorotUniform(seed=next(seeds)))(x)
