"""Networks of the publications, untrained and seeded."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from xairt.errors import ModelError, reason_of, suggest
from xairt.models.dense import DenseLayer, dense_layers

MAMALAKIS2022_UNITS = (512, 256, 128, 64, 32, 16)

SMERF_FILTERS = {"simple": ((32, 64, 64), 1), "complex": ((64, 128, 256, 64), 2)}
"""Filters of the convolutions, and the number of hidden dense layers."""

ALEXNET_CONVOLUTIONS = (
    (96, 11, 4, True),
    (256, 5, 1, True),
    (384, 3, 1, False),
    (384, 3, 1, False),
    (256, 3, 1, True),
)
"""Filters, side and stride of each convolution, and whether max pooling follows."""

ALEXNET_UNITS = (4096, 4096, 1000)
ALEXNET_DROPOUT = 0.4

VGG16_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Number of convolutions and their filters in each block."""

VGG16_UNITS = (1024, 512, 256)

IMAGE_SHAPE = (64, 64, 3)
"""Rows, columns and channels of the images of SMERF."""

GAIKWAD_LAYERS = (
    DenseLayer(8, l2=10.0, bias_l2=10.0),
    DenseLayer(8, l2=0.01, bias_l2=0.01),
    DenseLayer(2, "softmax", l2=0.01, bias_l2=0.01),
)
"""Layers of the classifier of Gaikwad et al. (XAIRT)."""

log = logging.getLogger(__name__)


def mamalakis2022(n_inputs: int, seed: int, units: Sequence[int] = MAMALAKIS2022_UNITS) -> tf.keras.Model:
    """Return the regression network of the SST benchmark, with its initial weights.

    Dense layers of 512, 256, 128, 64, 32 and 16 units with bias and ReLU, then one output without bias.
    Weights of the first layer are N(0, sd 1/D) with bias 0; all others, biases too, are He normal.

    Parameters
    ----------
    n_inputs : int
        Number D of ocean cells.
    seed : int
        Not negative; the same seed gives the same weights. Global random state is left alone.
    units : sequence of int
        Units of the hidden layers, from the input, in place of the paper's.

    Returns
    -------
    tensorflow.keras.Model
        (samples, D) -> (samples, 1), not compiled; 410,112 parameters for D = 458.

    Raises
    ------
    ModelError
        If ``n_inputs`` is not positive, ``seed`` is negative, or there is no hidden layer.

    References
    ----------
    Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7, and its program.
    """
    require_units(units)
    seeds = iter(layer_seeds(n_inputs, seed, 2 * len(units) + 1))
    he_normal, layers = tf.keras.initializers.HeNormal, tf.keras.layers
    narrow = tf.keras.initializers.RandomNormal(stddev=1.0 / n_inputs, seed=next(seeds))
    model = tf.keras.Sequential([layers.Input((n_inputs,))], name="mamalakis2022")
    model.add(layers.Dense(units[0], "relu", kernel_initializer=narrow))
    for count in units[1:]:
        kernel, bias = he_normal(seed=next(seeds)), he_normal(seed=next(seeds))
        model.add(layers.Dense(count, "relu", kernel_initializer=kernel, bias_initializer=bias))
    model.add(layers.Dense(1, use_bias=False, kernel_initializer=he_normal(seed=next(seeds))))
    return model


def linear(n_inputs: int, seed: int) -> tf.keras.Model:
    """Return the linear control model of the SST benchmark: one output, no bias, weights N(0, sd 1/D).

    Parameters
    ----------
    n_inputs : int
        Number D of ocean cells.
    seed : int
        Not negative; the same seed gives the same weights. Global random state is left alone.

    Returns
    -------
    tensorflow.keras.Model
        (samples, D) -> (samples, 1), not compiled.

    Raises
    ------
    ModelError
        If ``n_inputs`` is not positive or ``seed`` is negative.

    References
    ----------
    Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7.
    """
    (layer_seed,) = layer_seeds(n_inputs, seed, 1)
    narrow = tf.keras.initializers.RandomNormal(stddev=1.0 / n_inputs, seed=layer_seed)
    layers = [
        tf.keras.layers.Input((n_inputs,)),
        tf.keras.layers.Dense(1, use_bias=False, kernel_initializer=narrow),
    ]
    return tf.keras.Sequential(layers, name="linear")


def smerf(kind: str, seed: int) -> tf.keras.Model:
    """Return a convolutional network of SMERF for images of 64 x 64 pixels and 3 channels.

    Convolutions of 3 x 3 with stride 2 and ReLU, without padding; then dense layers of 200 units with ReLU
    and two logits.

    Parameters
    ----------
    kind : {"simple", "complex"}
        "simple": 32, 64, 64 filters and one dense layer; "complex": 64, 128, 256, 64 filters and two.
    seed : int
        Not negative; the same seed gives the same weights (Glorot uniform, biases 0). Global random state
        is left alone.

    Returns
    -------
    tensorflow.keras.Model
        (samples, 64, 64, 3) -> (samples, 2), not compiled.

    Raises
    ------
    ModelError
        If ``kind`` is unknown or ``seed`` is negative.

    References
    ----------
    Kim, Plumb and Talwalkar (2022), arXiv:2105.06506.
    """
    if kind not in SMERF_FILTERS:
        raise ModelError(
            f"kind {kind!r} is unknown: give 'simple' or 'complex'{suggest(kind, SMERF_FILTERS)}"
        )
    filters, hidden = SMERF_FILTERS[kind]
    seeds = iter(layer_seeds(1, seed, len(filters) + hidden + 1))

    def glorot() -> tf.keras.initializers.Initializer:
        return tf.keras.initializers.GlorotUniform(seed=next(seeds))

    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input(IMAGE_SHAPE)], name=f"smerf_{kind}")
    for count in filters:
        model.add(layers.Conv2D(count, 3, strides=2, activation="relu", kernel_initializer=glorot()))
    model.add(layers.Flatten())
    for _ in range(hidden):
        model.add(layers.Dense(200, "relu", kernel_initializer=glorot()))
    model.add(layers.Dense(2, kernel_initializer=glorot()))
    return model


def alexnet(
    seed: int,
    units: Sequence[int] = ALEXNET_UNITS,
    n_classes: int = 2,
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
) -> tf.keras.Model:
    """Return AlexNet for images, as SMERF has it, with its initial weights.

    Convolutions of 11 x 11 with stride 4 (96 filters), 5 x 5 (256) and 3 x 3 (384, 384, 256), the first two and the
    last followed by max pooling of 2 x 2; dense layers of `units` with dropout 0.4; the logits. Padding is "same".
    Batch normalisation follows every convolution and dense layer, the last one too, then ReLU (not for the logits).

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same weights (Glorot uniform, biases 0) and dropout. Global random
        state is left alone.
    units : sequence of int
        Units of the hidden dense layers, in place of the paper's.
    n_classes : int
        Number of logits.
    image_shape : tuple of int
        Rows, columns and channels.

    Returns
    -------
    tensorflow.keras.Model
        (samples, *image_shape) -> (samples, n_classes), not compiled; by default 28.9 million parameters.

    Raises
    ------
    ModelError
        If ``seed`` is negative, or there is no hidden layer.

    References
    ----------
    Krizhevsky, Sutskever and Hinton (2012); Kim, Plumb and Talwalkar (2022), arXiv:2105.06506, and its program.
    """
    require_units(units)
    seeds = iter(layer_seeds(1, seed, len(ALEXNET_CONVOLUTIONS) + 2 * len(units) + 1))
    layers, glorot = tf.keras.layers, tf.keras.initializers.GlorotUniform
    model = tf.keras.Sequential([layers.Input(image_shape)], name="alexnet")
    for filters, side, stride, pooled in ALEXNET_CONVOLUTIONS:
        kernel = glorot(seed=next(seeds))
        model.add(layers.Conv2D(filters, side, strides=stride, padding="same", kernel_initializer=kernel))
        model.add(layers.BatchNormalization())
        model.add(layers.Activation("relu"))
        if pooled:
            model.add(layers.MaxPooling2D(2, padding="same"))
    model.add(layers.Flatten())
    for count in units:
        model.add(layers.Dense(count, kernel_initializer=glorot(seed=next(seeds))))
        model.add(layers.BatchNormalization())
        model.add(layers.Activation("relu"))
        model.add(layers.Dropout(ALEXNET_DROPOUT, seed=next(seeds)))
    model.add(layers.Dense(n_classes, kernel_initializer=glorot(seed=next(seeds))))
    model.add(layers.BatchNormalization())
    return model


def vgg16(
    seed: int, weights: str | os.PathLike[str] | None = None, units: Sequence[int] = VGG16_UNITS
) -> tf.keras.Model:
    """Return VGG16 for images of 64 x 64 pixels and 3 channels, as SMERF has it: a frozen base and a new end.

    The 13 convolutions of `tf.keras.applications.VGG16` do not train; the mean over the image of each of their
    last 512 filters goes into dense layers of `units` with ReLU, and two logits. Pixels enter as they are, 0 .. 1,
    without the base's own preprocessing, as in the publication.

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same weights (Glorot uniform, biases 0). Global random state is left
        alone.
    weights : path, optional
        HDF5 file of the base, such as Keras's ``vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5`` (ImageNet).
        None: the base is random and stays so, which is logged; nothing is downloaded.
    units : sequence of int
        Units of the hidden dense layers, in place of the paper's.

    Returns
    -------
    tensorflow.keras.Model
        (samples, 64, 64, 3) -> (samples, 2), not compiled; 15.9 million parameters, 1.2 million of which train. Its
        name is "vgg16", or "vgg16_random_base".

    Raises
    ------
    ModelError
        If ``seed`` is negative, there is no hidden layer, or the file is missing or not of this base.

    References
    ----------
    Simonyan and Zisserman (2015), arXiv:1409.1556; Kim, Plumb and Talwalkar (2022), arXiv:2105.06506, and its
    program.
    """
    require_units(units)
    seeds = iter(layer_seeds(1, seed, sum(count for count, _ in VGG16_BLOCKS) + len(units) + 1))
    layers, glorot = tf.keras.layers, tf.keras.initializers.GlorotUniform
    name = "vgg16_random_base" if weights is None else "vgg16"
    model = tf.keras.Sequential([layers.Input(IMAGE_SHAPE), *_vgg16_base(seeds)], name=name)
    if weights is None:
        log.warning(
            "vgg16: no weights given, so the frozen base is random; give weights=PATH of ImageNet weights"
        )
    else:
        load_base(tf.keras.Model(model.inputs, model.outputs), weights, "VGG16")
    for layer in model.layers:
        layer.trainable = False
    model.add(layers.GlobalAveragePooling2D())
    for count in units:
        model.add(layers.Dense(count, "relu", kernel_initializer=glorot(seed=next(seeds))))
    model.add(layers.Dense(2, kernel_initializer=glorot(seed=next(seeds))))
    return model


def _vgg16_base(seeds: Iterator[int]) -> Iterator[tf.keras.layers.Layer]:
    """Yield the convolutions and poolings of VGG16, with the names that its weight files have."""
    layers, glorot = tf.keras.layers, tf.keras.initializers.GlorotUniform
    for block, (count, filters) in enumerate(VGG16_BLOCKS, start=1):
        for place in range(1, count + 1):
            kernel, name = glorot(seed=next(seeds)), f"block{block}_conv{place}"
            yield layers.Conv2D(
                filters, 3, padding="same", activation="relu", kernel_initializer=kernel, name=name
            )
        yield layers.MaxPooling2D(2, name=f"block{block}_pool")


def load_base(base: tf.keras.Model, weights: str | os.PathLike[str], name: str) -> None:
    """Give the layers below a network's head the weights of a Keras HDF5 file without top.

    Raises
    ------
    ModelError
        If the file is missing or not of this base, whose name the message tells.
    """
    path = Path(weights)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give the HDF5 file of {name}'s weights without top")
    if path.suffix not in (".h5", ".hdf5"):
        raise ModelError(f"{path}: no Keras HDF5 file; let its name end in .h5")
    try:
        base.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path}: not the weights of {name} without top ({reason_of(error)}); give that HDF5 file"
        ) from error


def require_units(units: Sequence[int]) -> None:
    """Raise a ModelError unless there is a hidden layer, and each has a unit."""
    if not units or min(units) < 1:
        raise ModelError(f"units={tuple(units)}: give at least one hidden layer of one unit or more")


def dense_network(
    n_inputs: int, layers: Sequence[DenseLayer | Mapping[str, Any]], seed: int, name: str = "dense"
) -> tf.keras.Model:
    """Return a fully connected network with its initial weights; weights and biases are He normal.

    Parameters
    ----------
    n_inputs : int
        Number D of inputs.
    layers : sequence of DenseLayer or mappings
        From the input to the output.
    seed : int
        Not negative; the same seed gives the same weights. Global random state is left alone.
    name : str
        Of the model.

    Returns
    -------
    tensorflow.keras.Model
        (samples, D) -> (samples, size of the last layer), not compiled.

    Raises
    ------
    ModelError
        If ``n_inputs`` is not positive, ``seed`` is negative, or as `dense_layers`.
    """
    known = dense_layers(layers)
    seeds = iter(layer_seeds(n_inputs, seed, 2 * len(known)))
    he_normal, keras = tf.keras.initializers.HeNormal, tf.keras
    model = keras.Sequential([keras.layers.Input((n_inputs,))], name=name)
    for layer in known:
        dense = keras.layers.Dense(
            int(layer.size),
            layer.activation,
            layer.use_bias,
            kernel_initializer=he_normal(seed=next(seeds)),
            bias_initializer=he_normal(seed=next(seeds)),
            kernel_regularizer=_regulariser(layer.l1, layer.l2),
            bias_regularizer=_regulariser(layer.bias_l1, layer.bias_l2),
            kernel_constraint=layer.constraint,
            bias_constraint=layer.bias_constraint,
        )
        model.add(dense)
    return model


def gaikwad(n_inputs: int, seed: int) -> tf.keras.Model:
    """Return the classifier of regional SST anomalies: D -> 8 -> 8 -> 2, ReLU and softmax.

    Weights and biases are He normal; both have L2 regularisation, 10 in the first layer and 0.01 in the others.

    Parameters
    ----------
    n_inputs : int
        Number D of ocean cells.
    seed : int
        Not negative; the same seed gives the same weights. Global random state is left alone.

    Returns
    -------
    tensorflow.keras.Model
        (samples, D) -> (samples, 2) probabilities of a negative and a positive anomaly, not compiled.

    Raises
    ------
    ModelError
        If ``n_inputs`` is not positive or ``seed`` is negative.

    References
    ----------
    Gaikwad et al. (XAIRT), with 31,811 ocean cells of the LLC90 grid.
    """
    return dense_network(n_inputs, GAIKWAD_LAYERS, seed, "gaikwad")


def _regulariser(l1: float, l2: float) -> tf.keras.regularizers.Regularizer | None:
    return tf.keras.regularizers.L1L2(l1, l2) if l1 or l2 else None


def layer_seeds(n_inputs: int, seed: int, count: int) -> list[int]:
    """Return a seed for each weight array; equal seeds would repeat values between layers."""
    if n_inputs < 1 or seed < 0:
        raise ModelError(f"n_inputs={n_inputs}, seed={seed}: out of range; give n_inputs >= 1 and seed >= 0")
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(count, np.uint32) >> 1]
