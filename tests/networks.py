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
