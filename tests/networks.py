"""Small seeded networks for the tests."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

L = tf.keras.layers


def randomised(model: tf.keras.Model, seed: int = 0, bias: float = 0.3) -> tf.keras.Model:
    """Give a model random weights, biases and batch norm statistics."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            randomised(layer, seed + 1, bias)
            continue
        values = []
        for variable in layer.weights:
            shape, name = tuple(variable.shape), variable.name
            if "kernel" in name:
                values.append(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])))
            elif "variance" in name or "gamma" in name:
                values.append(rng.uniform(0.5, 1.5, shape))
            else:
                values.append(bias * rng.normal(size=shape))
        layer.set_weights(values)
    return model


def mlp(
    n_inputs: int = 7, n_outputs: int = 3, end: str | None = None, seed: int = 0, **options
) -> tf.keras.Model:
    layers = [
        L.Dense(11, "relu", **options),
        L.Dense(6, "relu", **options),
        L.Dense(n_outputs, end, **options),
    ]
    return randomised(tf.keras.Sequential([L.InputLayer(n_inputs), *layers]), seed)


def cnn(seed: int = 0, end: str | None = None) -> tf.keras.Model:
    layers = [
        L.Conv2D(4, 3, strides=(2, 1), padding="same", activation="relu"),
        L.MaxPooling2D(2, padding="same"),
        L.Conv2D(5, (2, 3), dilation_rate=(1, 2), activation="relu", padding="same"),
        L.AveragePooling2D((2, 1), strides=(1, 1), padding="same"),
        L.Flatten(),
        L.Dense(6, "relu"),
        L.Dense(3, end),
    ]
    return randomised(tf.keras.Sequential([L.InputLayer((9, 8, 2)), *layers]), seed)


def cnn_1d(seed: int = 0) -> tf.keras.Model:
    layers = [
        L.Conv1D(4, 3, activation="relu"),
        L.MaxPooling1D(2),
        L.Conv1D(3, 3, padding="same", activation="relu"),
        L.Conv1D(3, 2, padding="causal", dilation_rate=2, activation="relu"),
        L.AveragePooling1D(2),
        L.Flatten(),
        L.Dense(2),
    ]
    return randomised(tf.keras.Sequential([L.InputLayer((14, 2)), *layers]), seed)


def volume(seed: int = 0) -> tf.keras.Model:
    """3-D fields: convolution, pooling, padding, cropping and upsampling over three axes."""
    layers = [
        L.ZeroPadding3D((1, 0, 1)),
        L.Conv3D(4, 2, strides=(1, 2, 1), padding="same", activation="relu"),
        L.MaxPooling3D(2, padding="same"),
        L.SpatialDropout3D(0.5),
        L.Conv3D(3, 2, dilation_rate=(1, 1, 2), padding="same", activation="relu"),
        L.UpSampling3D((2, 1, 1)),
        L.Cropping3D(((1, 0), (0, 0), (0, 1))),
        L.AveragePooling3D((2, 1, 2), strides=1, padding="same"),
        L.Flatten(),
        L.Dense(3),
    ]
    return randomised(tf.keras.Sequential([L.InputLayer((4, 5, 4, 2)), *layers]), seed)


def separable(seed: int = 0) -> tf.keras.Model:
    """Depthwise and separable convolutions with batch normalization, as in MobileNet."""
    layers = [
        L.Conv2D(4, 3, strides=2, padding="same", use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.Conv2D(6, 1, groups=2, activation="relu"),
        L.SeparableConv2D(5, (2, 3), padding="same", activation="relu"),
        L.GlobalAveragePooling2D(),
        L.Dense(3),
    ]
    return randomised(tf.keras.Sequential([L.InputLayer((8, 7, 2)), *layers]), seed)


def decoder(seed: int = 0) -> tf.keras.Model:
    """From a vector to a field by transposed convolutions, and to two numbers."""
    layers = [
        L.Dense(12, "relu"),
        L.Reshape((3, 2, 2)),
        L.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu"),
        L.Conv2DTranspose(3, (3, 2), strides=(1, 2), output_padding=(0, 1), activation="relu"),
        L.AveragePooling2D(2),
        L.Flatten(),
        L.Dense(2),
    ]
    return randomised(tf.keras.Sequential([L.InputLayer(5), *layers]), seed)


def averaged(seed: int = 0) -> tf.keras.Model:
    """A sequence through depthwise, transposed and repeated branches that are averaged."""
    x = tf.keras.Input((8, 3), name="series")
    a = L.SeparableConv1D(4, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    b = L.Conv1D(4, 3, padding="same")(L.DepthwiseConv1D(3, padding="same", activation="relu")(x))
    c = L.RepeatVector(8)(L.Dense(4)(L.GlobalMaxPooling1D()(x)))
    d = L.Conv1DTranspose(3, 2, strides=2, activation="relu")(L.ReLU()(L.Average()([a, b, c])))
    return randomised(tf.keras.Model(x, L.Dense(2)(L.Flatten()(d))), seed)


def branched(seed: int = 0) -> tf.keras.Model:
    """A Functional model with a residual addition and a concatenation."""
    x = tf.keras.Input((6, 6, 2), name="field")
    a = L.Conv2D(4, 3, padding="same", activation="relu")(x)
    b = L.Conv2D(4, 3, padding="same")(a)
    c = L.ReLU()(L.Add()([a, b]))
    d = L.Concatenate()([L.GlobalAveragePooling2D()(c), L.GlobalMaxPooling2D()(c)])
    return randomised(tf.keras.Model(x, L.Dense(3, "softmax")(L.Dense(5, "relu")(d))), seed)


def samples(model: tf.keras.Model, n: int = 5, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *model.input_shape[1:])).astype(np.float32)
