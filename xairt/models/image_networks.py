"""Networks that tell which of a few pictures lies somewhere in a large image, from pixels to logits.

All layers are Keras's own, so that a saved network loads anywhere. `IMAGE_NETWORKS` names them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from xairt.errors import ModelError, suggest
from xairt.models.architectures import alexnet, load_base, require_units
from xairt.models.seeding import seeded

IMAGE_SHAPE = (224, 224, 3)
"""Rows, columns and channels of the images."""

N_CLASSES = 10

APPLICATIONS = {
    "resnet50": "ResNet50",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "densenet121": "DenseNet121",
    "mobilenet": "MobileNet",
}
"""Networks of `tf.keras.applications`, by our name."""

VGG_UNITS = (4096, 4096)

SMALL_FILTERS = (32, 64, 128)

MOMENTUM = 0.9
"""Of the moving statistics of batch normalisation, as PyTorch has it (there called 0.1): few steps make an epoch."""

INCEPTIONS = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Filters of the inception modules between poolings: 1 x 1; 3 x 3 reduced, 3 x 3; 5 x 5 reduced, 5 x 5; pooled."""

_VIT_EPSILON = 1e-6
_VIT_DEVIATION = 0.02


def application(
    name: str,
    seed: int,
    n_classes: int = N_CLASSES,
    *,
    weights: str | os.PathLike[str] | None = None,
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    units: Sequence[int] = VGG_UNITS,
) -> tf.keras.Model:
    """Return a network of `tf.keras.applications` with a head of logits.

    The head of VGG16 and VGG19 flattens and has two dense layers of 4096 units with ReLU, that of the others takes
    the mean over the image; then one linear layer. All of it trains. Pixels enter as they are, without the
    preprocessing of the application.

    Parameters
    ----------
    name : str
        One of `APPLICATIONS`.
    seed : int
        Not negative; the same seed gives the same weights. Global random state is left alone.
    n_classes : int
        Number of logits, >= 1.
    weights : path, optional
        Keras's HDF5 file of the network without top, such as
        ``resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5``. None: all weights are random; nothing is
        downloaded.
    image_shape : tuple of int
        Rows, columns and channels; rows and columns >= 32.
    units : sequence of int
        Units of the hidden dense layers of VGG.

    Returns
    -------
    tensorflow.keras.Model
        (samples, *image_shape) -> (samples, n_classes), not compiled. For images of 224 x 224 pixels and 10 classes
        it has, in millions of parameters: resnet50 23.6, vgg16 134.3, vgg19 139.6, densenet121 7.0, mobilenet 3.2.

    Raises
    ------
    ModelError
        If the name is unknown, a number is out of range, or the file is missing or of another network.

    References
    ----------
    He et al. (2016), arXiv:1512.03385; Simonyan and Zisserman (2015), arXiv:1409.1556; Huang et al. (2017),
    arXiv:1608.06993; Howard et al. (2017), arXiv:1704.04861.
    """
    if name not in APPLICATIONS:
        raise ModelError(
            f"application {name!r} is unknown: give {', '.join(APPLICATIONS)}{suggest(name, APPLICATIONS)}"
        )
    _require_classes(n_classes)
    if min(image_shape[:2]) < 32:
        raise ModelError(f"image_shape={image_shape}: too small; give 32 rows and columns or more")
    layers, flat = tf.keras.layers, name.startswith("vgg")
    if flat:
        require_units(units)

    def build() -> tf.keras.Model:
        make = getattr(tf.keras.applications, APPLICATIONS[name])
        base = make(include_top=False, weights=None, input_shape=image_shape)
        x = (layers.Flatten() if flat else layers.GlobalAveragePooling2D())(base.output)
        for count in units if flat else ():
            x = layers.Dense(count, "relu")(x)
        return tf.keras.Model(base.input, layers.Dense(n_classes)(x), name=name)

    model = seeded(build, seed)
    if weights is not None:
        head = 2 + len(units if flat else ())
        load_base(tf.keras.Model(model.input, model.layers[-1 - head].output), weights, APPLICATIONS[name])
    return model


def googlenet(
    seed: int, n_classes: int = N_CLASSES, *, image_shape: tuple[int, int, int] = IMAGE_SHAPE
) -> tf.keras.Model:
    """Return a network of nine inception modules like GoogLeNet, batch normalisation after every convolution.

    Without the auxiliary outputs, local response normalisation and dropout of the publication.

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same weights (Glorot uniform). Global random state is left alone.
    n_classes : int
        Number of logits, >= 1.
    image_shape : tuple of int
        Rows, columns and channels.

    Returns
    -------
    tensorflow.keras.Model
        (samples, *image_shape) -> (samples, n_classes), not compiled; 6.0 million parameters.

    Raises
    ------
    ModelError
        If a number is out of range.

    References
    ----------
    Szegedy et al. (2015), arXiv:1409.4842, table 1; Ioffe and Szegedy (2015), arXiv:1502.03167.
    """
    _require_classes(n_classes)
    layers = tf.keras.layers

    def build() -> tf.keras.Model:
        inputs = layers.Input(image_shape)
        x = layers.MaxPooling2D(3, 2, padding="same")(_convolved(inputs, 64, 7, 2))
        x = _convolved(_convolved(x, 64, 1), 192, 3)
        for modules in INCEPTIONS:
            x = layers.MaxPooling2D(3, 2, padding="same")(x)
            for filters in modules:
                x = _inception(x, filters)
        x = layers.GlobalAveragePooling2D()(x)
        return tf.keras.Model(inputs, layers.Dense(n_classes)(x), name="googlenet")

    return seeded(build, seed)


def _convolved(x: tf.Tensor, filters: int, side: int, stride: int = 1) -> tf.Tensor:
    """Return a convolution without bias, batch normalisation, ReLU."""
    layers = tf.keras.layers
    x = layers.Conv2D(filters, side, strides=stride, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))


def _inception(x: tf.Tensor, filters: tuple[int, ...]) -> tf.Tensor:
    """Return the branches of one module side by side; filters as `INCEPTIONS` has them."""
    one, three_reduced, three, five_reduced, five, pooled = filters
    branches = [
        _convolved(x, one, 1),
        _convolved(_convolved(x, three_reduced, 1), three, 3),
        _convolved(_convolved(x, five_reduced, 1), five, 5),
        _convolved(tf.keras.layers.MaxPooling2D(3, 1, padding="same")(x), pooled, 1),
    ]
    return tf.keras.layers.Concatenate()(branches)


def vit(
    seed: int,
    n_classes: int = N_CLASSES,
    *,
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    patch: int = 16,
    depth: int = 12,
    heads: int = 12,
    width: int = 768,
) -> tf.keras.Model:
    """Return a vision transformer, ViT-B/16 by default, without dropout.

    Square patches become tokens by one linear map, whose bias differs from token to token: it is the embedding of
    the position. A token without pixels stands before them, from which the logits are read.

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same weights. Global random state is left alone.
    n_classes : int
        Number of logits, >= 1.
    image_shape : tuple of int
        Rows, columns and channels.
    patch : int
        Rows and columns of a patch; divides those of the image.
    depth : int
        Layers, >= 1.
    heads : int
        Of attention; divides `width`.
    width : int
        Of a token.

    Returns
    -------
    tensorflow.keras.Model
        (samples, *image_shape) -> (samples, n_classes), not compiled; by default 85.8 million parameters.

    Raises
    ------
    ModelError
        If a number is out of range or does not divide what it has to.

    References
    ----------
    Dosovitskiy et al. (2021), arXiv:2010.11929, equations 1 to 4.
    """
    _require_classes(n_classes)
    rows, columns, channels = image_shape
    if min(patch, depth, heads, width) < 1 or rows % patch or columns % patch or width % heads:
        raise ModelError(
            f"vit(patch={patch}, depth={depth}, heads={heads}, width={width}): give positive numbers, a patch that "
            f"divides {rows} and {columns}, and heads that divide the width"
        )
    down, across, layers = rows // patch, columns // patch, tf.keras.layers
    tokens = 1 + down * across

    def build() -> tf.keras.Model:
        inputs = layers.Input(image_shape)
        x = layers.Reshape((down, patch, across, patch, channels))(inputs)
        x = layers.Reshape((tokens - 1, patch * patch * channels))(layers.Permute((1, 3, 2, 4, 5))(x))
        deviation = tf.keras.initializers.RandomNormal(stddev=_VIT_DEVIATION)
        x = layers.EinsumDense("bnp,pd->bnd", (tokens, width), bias_axes="nd", bias_initializer=deviation)(
            layers.ZeroPadding1D((1, 0))(x)
        )
        for _ in range(depth):
            x = _encoded(x, heads, width)
        x = layers.Flatten()(layers.Cropping1D((0, tokens - 1))(_normalised(x)))
        return tf.keras.Model(inputs, layers.Dense(n_classes)(x), name="vit")

    return seeded(build, seed)


def _normalised(x: tf.Tensor) -> tf.Tensor:
    return tf.keras.layers.LayerNormalization(epsilon=_VIT_EPSILON)(x)


def _encoded(x: tf.Tensor, heads: int, width: int) -> tf.Tensor:
    """Return tokens after attention and two dense layers, each added to what it gets."""
    layers = tf.keras.layers
    before = _normalised(x)
    x = layers.Add()([x, layers.MultiHeadAttention(heads, width // heads)(before, before)])
    wide = layers.Dense(4 * width, "gelu")(_normalised(x))
    return layers.Add()([x, layers.Dense(width)(wide)])


def small_cnn(
    seed: int,
    n_classes: int = N_CLASSES,
    *,
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    filters: Sequence[int] = SMALL_FILTERS,
) -> tf.keras.Model:
    """Return a small network that learns on a few cores: means of pixels, convolutions, global max pooling.

    The mean over squares of 4 x 4 pixels, which lowers noise; for each number of filters a convolution 3 x 3, batch
    normalisation, ReLU and max pooling of 2 x 2; the largest value of each filter over the image goes into the
    logits.

    Parameters
    ----------
    seed : int
        Not negative; the same seed gives the same weights (Glorot uniform). Global random state is left alone.
    n_classes : int
        Number of logits, >= 1.
    image_shape : tuple of int
        Rows, columns and channels.
    filters : sequence of int
        Of the convolutions.

    Returns
    -------
    tensorflow.keras.Model
        (samples, *image_shape) -> (samples, n_classes), not compiled.

    Raises
    ------
    ModelError
        If a number is out of range, or there is no convolution.
    """
    _require_classes(n_classes)
    if not filters or min(filters) < 1:
        raise ModelError(f"filters={tuple(filters)}: give at least one convolution of one filter or more")
    layers = tf.keras.layers

    def build() -> tf.keras.Model:
        inputs = layers.Input(image_shape)
        x = layers.AveragePooling2D(4)(inputs)
        for count in filters:
            x = layers.MaxPooling2D(2, padding="same")(_convolved(x, count, 3))
        x = layers.GlobalMaxPooling2D()(x)
        return tf.keras.Model(inputs, layers.Dense(n_classes)(x), name="small_cnn")

    return seeded(build, seed)


def _require_classes(n_classes: int) -> None:
    if n_classes < 1:
        raise ModelError(f"n_classes={n_classes}: out of range; give the number of labels")


def _alexnet(seed: int, n_classes: int = N_CLASSES, **sizes: Any) -> tf.keras.Model:
    return alexnet(seed, n_classes=n_classes, **{"image_shape": IMAGE_SHAPE, **sizes})


IMAGE_NETWORKS: dict[str, Callable[..., tf.keras.Model]] = {
    "small_cnn": small_cnn,
    "alexnet": _alexnet,
    **{name: partial(application, name) for name in APPLICATIONS},
    "googlenet": googlenet,
    "vit": vit,
}
"""Functions (seed, n_classes, image_shape=...) -> network, by name; those of `APPLICATIONS` take ``weights`` too."""
