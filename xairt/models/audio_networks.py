"""Networks that tell which word one of several channels of sound holds, from waveforms to logits.

All begin with the same convolution and pooling over time, and end with the largest value over time. All layers are
Keras's own, so that a saved network loads anywhere. `AUDIO_NETWORKS` names them.

References
----------
Shi et al. (2024), arXiv:2406.12150, ChaosMining; Dai et al. (2017), arXiv:1610.00087 (convolutions of waveforms).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from xairt.errors import ModelError
from xairt.models.seeding import seeded

SOUND_SHAPE = (16_000, 10)
"""Samples in time (1 s at 16 kHz) and channels."""

WIDTH = 60
STEM_KERNEL, STEM_STRIDE, POOL = 80, 16, 4
TCN_FILTERS = (60, 120, 120)

MOMENTUM = 0.9
"""Of the moving statistics of batch normalisation, as PyTorch has it (there called 0.1): few steps make an epoch."""

Head = Callable[[tf.Tensor], tf.Tensor]


def rnn(
    seed: int,
    n_classes: int,
    *,
    sound_shape: tuple[int, int] = SOUND_SHAPE,
    width: int = WIDTH,
    depth: int = 3,
) -> tf.keras.Model:
    """Return a network of simple recurrent layers (tanh) that start from zeros.

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same weights. Global random state is left alone.
    n_classes : int
        Number of logits, >= 1.
    sound_shape : tuple of int
        Samples in time and channels.
    width : int
        Units of each layer, and filters of the first convolution.
    depth : int
        Layers.

    Returns
    -------
    tensorflow.keras.Model
        (samples, *sound_shape) -> (samples, n_classes), not compiled.

    Raises
    ------
    ModelError
        If a number is out of range, or the sound is too short.
    """
    return _recurrent("rnn", tf.keras.layers.SimpleRNN, seed, n_classes, sound_shape, width, depth)


def lstm(
    seed: int,
    n_classes: int,
    *,
    sound_shape: tuple[int, int] = SOUND_SHAPE,
    width: int = WIDTH,
    depth: int = 3,
) -> tf.keras.Model:
    """Return a network of LSTM layers that start from zeros; see `rnn`.

    References
    ----------
    Hochreiter and Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735.
    """
    return _recurrent("lstm", tf.keras.layers.LSTM, seed, n_classes, sound_shape, width, depth)


def _recurrent(
    name: str,
    layer: type[tf.keras.layers.Layer],
    seed: int,
    n_classes: int,
    sound_shape: tuple[int, int],
    width: int,
    depth: int,
) -> tf.keras.Model:
    def middle(x: tf.Tensor) -> tf.Tensor:
        for _ in range(depth):
            x = layer(width, return_sequences=True)(x)
        return x

    return _network(name, middle, seed, n_classes, sound_shape, width, depth)


def tcn(
    seed: int,
    n_classes: int,
    *,
    sound_shape: tuple[int, int] = SOUND_SHAPE,
    width: int = WIDTH,
    filters: Sequence[int] = TCN_FILTERS,
) -> tf.keras.Model:
    """Return a temporal convolutional network: blocks of a convolution over 3 steps, normalisation, ReLU, pooling.

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same weights. Global random state is left alone.
    n_classes : int
        Number of logits, >= 1.
    sound_shape : tuple of int
        Samples in time and channels.
    width : int
        Filters of the first convolution.
    filters : sequence of int
        Of the blocks after it.

    Returns
    -------
    tensorflow.keras.Model
        (samples, *sound_shape) -> (samples, n_classes), not compiled.

    Raises
    ------
    ModelError
        If a number is out of range, or the sound is too short.
    """

    def middle(x: tf.Tensor) -> tf.Tensor:
        for count in filters:
            x = _block(x, count, 3)
        return x

    return _network("tcn", middle, seed, n_classes, sound_shape, width, *filters)


def transformer(
    seed: int,
    n_classes: int,
    *,
    sound_shape: tuple[int, int] = SOUND_SHAPE,
    width: int = WIDTH,
    depth: int = 3,
    heads: int = 6,
) -> tf.keras.Model:
    """Return a network of attention between the times of one sound, without an embedding of the time.

    Each layer adds the attention, then two dense layers (four times the width, ReLU), and normalises after each.

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same weights. Global random state is left alone.
    n_classes : int
        Number of logits, >= 1.
    sound_shape : tuple of int
        Samples in time and channels.
    width : int
        Of a time step.
    depth : int
        Layers.
    heads : int
        Of attention; divides `width`.

    Returns
    -------
    tensorflow.keras.Model
        (samples, *sound_shape) -> (samples, n_classes), not compiled.

    Raises
    ------
    ModelError
        If a number is out of range, heads do not divide the width, or the sound is too short.

    References
    ----------
    Vaswani et al. (2017), arXiv:1706.03762, section 3.1.
    """
    if heads < 1 or width % heads:
        raise ModelError(f"heads={heads}: do not divide width={width}; give a divisor")
    layers = tf.keras.layers

    def middle(x: tf.Tensor) -> tf.Tensor:
        for _ in range(depth):
            attended = layers.MultiHeadAttention(heads, width // heads)(x, x)
            x = layers.LayerNormalization()(layers.Add()([x, attended]))
            dense = layers.Dense(width)(layers.Dense(4 * width, "relu")(x))
            x = layers.LayerNormalization()(layers.Add()([x, dense]))
        return x

    return _network("transformer", middle, seed, n_classes, sound_shape, width, depth)


def _network(
    name: str,
    middle: Head,
    seed: int,
    n_classes: int,
    sound_shape: tuple[int, int],
    width: int,
    *counts: int,
) -> tf.keras.Model:
    """Return what all networks share around what tells them apart."""
    if min(n_classes, width, *sound_shape, *counts) < 1:
        raise ModelError(f"{name}: sizes out of range; give positive numbers")
    layers = tf.keras.layers

    def build() -> tf.keras.Model:
        inputs = layers.Input(sound_shape)
        x = layers.GlobalMaxPooling1D()(middle(_block(inputs, width, STEM_KERNEL, STEM_STRIDE)))
        return tf.keras.Model(inputs, layers.Dense(n_classes)(x), name=name)

    try:
        return seeded(build, seed)
    except ValueError as error:
        raise ModelError(
            f"{name}: {sound_shape[0]} samples in time are too few; give a longer sound"
        ) from error


def _block(x: tf.Tensor, filters: int, kernel: int, stride: int = 1) -> tf.Tensor:
    """Return a convolution over time, batch normalisation, ReLU and max pooling."""
    layers = tf.keras.layers
    x = layers.BatchNormalization(momentum=MOMENTUM)(layers.Conv1D(filters, kernel, strides=stride)(x))
    return layers.MaxPooling1D(POOL)(layers.ReLU()(x))


AUDIO_NETWORKS: dict[str, Callable[..., tf.keras.Model]] = {
    "rnn": rnn,
    "lstm": lstm,
    "tcn": tcn,
    "transformer": transformer,
}
"""Functions (seed, n_classes, sound_shape=...) -> network, by name."""
