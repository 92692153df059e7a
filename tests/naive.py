"""LRP and forward passes written out in float64 numpy, independent of the package.

Every linear layer becomes an explicit matrix on flattened samples, made by loops over windows, or by what
Keras makes of each unit vector, so that each rule is its textbook formula on a dense layer.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass
class Matrix:
    """A linear layer: z = a @ weights + bias on flattened samples."""

    weights: np.ndarray
    bias: np.ndarray
    pooling: bool = False


@dataclass
class Max:
    """Max pooling: for every output the flat positions of its window."""

    windows: list[list[int]]


@dataclass
class Route:
    """Copies: every output is one input or nothing; relevance goes back the same way."""

    weights: np.ndarray


@dataclass
class Relu:
    """The ReLU."""


def window_starts(size: int, window: int, stride: int, padding: str, dilation: int = 1) -> list[int]:
    reach = dilation * (window - 1) + 1
    if padding == "valid":
        return list(range(0, size - reach + 1, stride))
    count = -(-size // stride)
    if padding == "causal":
        return [i * stride - (reach - 1) for i in range(count)]
    before = max((count - 1) * stride + reach - size, 0) // 2
    return [i * stride - before for i in range(count)]


def taps(shape, window, strides, padding, dilation=None):
    """Yield (output position, [(tap in window, input position), ...]) over the spatial axes."""
    dilation = dilation or (1,) * len(window)
    starts = [
        window_starts(*axis[:4], dilation=axis[4])
        for axis in zip(shape, window, strides, [padding] * len(window), dilation, strict=True)
    ]
    for out in itertools.product(*[range(len(s)) for s in starts]):
        inside = []
        for tap in itertools.product(*[range(w) for w in window]):
            place = tuple(starts[d][out[d]] + tap[d] * dilation[d] for d in range(len(window)))
            if all(0 <= p < size for p, size in zip(place, shape, strict=True)):
                inside.append((tap, place))
        yield out, inside, tuple(len(s) for s in starts)


def conv_matrix(layer, input_shape) -> Matrix:
    kernel = layer.kernel.numpy().astype(float)
    bias = layer.bias.numpy().astype(float) if layer.use_bias else np.zeros(kernel.shape[-1])
    *space, channels = input_shape
    rows = list(taps(space, layer.kernel_size, layer.strides, layer.padding, layer.dilation_rate))
    out_space, filters = rows[0][2], kernel.shape[-1]
    weights = np.zeros((*input_shape, *out_space, filters))
    parts = [
        [slice(g * n // layer.groups, (g + 1) * n // layer.groups) for n in (channels, filters)]
        for g in range(layer.groups)
    ]
    for out, inside, _ in rows:
        for (tap, place), (seen, given) in itertools.product(inside, parts):
            weights[(*place, seen, *out, given)] += kernel[tap][:, given]
    size = int(np.prod(input_shape))
    return Matrix(weights.reshape(size, -1), np.tile(bias, int(np.prod(out_space))))


def unit_matrix(layer, input_shape) -> np.ndarray:
    """Return the matrix of a layer that adds no bias, from what Keras gives for each unit vector."""
    size = int(np.prod(input_shape))
    return (
        layer(np.eye(size, dtype=np.float32).reshape(size, *input_shape))
        .numpy()
        .astype(float)
        .reshape(size, -1)
    )


def without_bias(kind, kernels, input_shape, **options):
    """Return a layer of a class with the given kernels, no bias and no activation."""
    made = kind(use_bias=False, **options)
    made.build((None, *input_shape))
    made.set_weights(kernels)
    return made


def from_unit_vectors(layer, input_shape) -> Matrix:
    """Return the matrix of any layer with one kernel: each entry is one weight, so float32 is exact."""
    config = layer.get_config()
    for key in ("name", "use_bias", "activation"):
        del config[key]
    count = 1 if layer.use_bias else 0
    kernels = layer.get_weights()[: len(layer.weights) - count]
    weights = unit_matrix(without_bias(type(layer), kernels, input_shape, **config), input_shape)
    return with_channel_bias(layer, weights)


def with_channel_bias(layer, weights) -> Matrix:
    bias = layer.bias.numpy().astype(float) if layer.use_bias else np.zeros(1)
    return Matrix(weights, np.tile(bias, weights.shape[1] // len(bias)))


def separable_matrices(layer, input_shape) -> list[Matrix]:
    """Return the depthwise and the pointwise convolution as two layers."""
    axes, weights = len(input_shape) - 1, layer.get_weights()
    kind = {1: tf.keras.layers.DepthwiseConv1D, 2: tf.keras.layers.DepthwiseConv2D}[axes]
    sizes = {key: getattr(layer, key) for key in ("kernel_size", "strides", "padding", "dilation_rate")}
    sizes["depth_multiplier"] = layer.depth_multiplier
    depthwise = without_bias(kind, weights[:1], input_shape, **sizes)
    first = unit_matrix(depthwise, input_shape)
    pointwise = weights[1].reshape(weights[1].shape[-2:]).astype(float)
    places = first.shape[1] // len(pointwise)
    return [
        Matrix(first, np.zeros(first.shape[1])),
        with_channel_bias(layer, np.kron(np.eye(places), pointwise)),
    ]


def as_tuple(value) -> tuple:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def pool_windows(layer, input_shape):
    *space, channels = input_shape
    for out, inside, out_space in taps(
        space, as_tuple(layer.pool_size), as_tuple(layer.strides), layer.padding
    ):
        for c in range(channels):
            yield (
                out,
                c,
                [int(np.ravel_multi_index((*place, c), input_shape)) for _, place in inside],
                out_space,
            )


def average_matrix(layer, input_shape) -> Matrix:
    columns = list(pool_windows(layer, input_shape))
    weights = np.zeros((int(np.prod(input_shape)), len(columns)))
    for j, (_, _, window, _) in enumerate(columns):
        weights[window, j] = 1 / len(window)
    return Matrix(weights, np.zeros(len(columns)), pooling=True)


def linear_layers(layer, shape) -> list[Matrix]:
    """Return a dense, convolution or average pooling layer as matrices."""
    kind = type(layer).__name__
    if kind == "Dense":
        bias = layer.bias.numpy() if layer.use_bias else np.zeros(layer.units)
        return [Matrix(layer.kernel.numpy().astype(float), bias.astype(float))]
    if kind.startswith("Separable"):
        return separable_matrices(layer, shape)
    if kind.startswith("GlobalAverage"):
        places = int(np.prod(shape[:-1]))
        return [Matrix(np.tile(np.eye(shape[-1]) / places, (places, 1)), np.zeros(shape[-1]), pooling=True)]
    if kind.startswith("Average"):
        return [average_matrix(layer, shape)]
    by_loops = kind in ("Conv1D", "Conv2D", "Conv3D")
    return [conv_matrix(layer, shape) if by_loops else from_unit_vectors(layer, shape)]


ROUTES = ("ZeroPadding", "Cropping", "UpSampling", "Permute", "RepeatVector")
PASSED = ("Flatten", "Activation", "Dropout")
LINEAR = ("Dense", "Conv", "Depthwise", "Separable", "Average", "GlobalAverage")


def read_layers(model) -> list:
    """Return the layers of a Sequential model of linear, pooling and copying layers; no final activation."""
    layers, shape = [], model.input_shape[1:]
    for layer in model.layers:
        kind = type(layer).__name__
        if kind.startswith(LINEAR):
            layers += linear_layers(layer, shape)
        elif kind.startswith("MaxPooling"):
            layers.append(Max([window for _, _, window, _ in pool_windows(layer, shape)]))
        elif kind.startswith("GlobalMax"):
            places = np.arange(int(np.prod(shape))).reshape(-1, shape[-1])
            layers.append(Max([list(column) for column in places.T]))
        elif kind.startswith(ROUTES):
            layers.append(Route(unit_matrix(layer, shape)))
        elif kind not in PASSED:
            raise ValueError(kind)
        if getattr(getattr(layer, "activation", None), "__name__", "") == "relu":
            layers.append(Relu())
        shape = layer.output_shape[1:]
    return layers


def forward(layers, x):
    """Return the input of every layer and the output at last, for one flattened sample."""
    values = [x]
    for layer in layers:
        a = values[-1]
        if isinstance(layer, Matrix):
            values.append(a @ layer.weights + layer.bias)
        elif isinstance(layer, Route):
            values.append(a @ layer.weights)
        elif isinstance(layer, Max):
            values.append(np.array([a[w].max() for w in layer.windows]))
        else:
            values.append(np.maximum(a, 0))
    return values


def divide(a, b):
    return np.divide(a, b, out=np.zeros_like(a + b), where=b != 0)


def dense_rule(rule, a, w, b, z, relevance):
    """Apply one rule of a dense layer; `rule` is a tuple (name, parameters...)."""
    name, *p = rule
    terms = a[:, None] * w
    if name == "z" or name == "epsilon":
        epsilon, bias = (0.0, p[0]) if name == "z" else p
        total = terms.sum(0) + (0 if bias == "ignore" else b)
        return terms @ divide(relevance, total + epsilon * np.where(total >= 0, 1, -1))
    if name == "alpha_beta":
        alpha, beta, bias = p
        plus, minus = np.maximum(terms, 0), np.minimum(terms, 0)
        b_plus = {"canonical": np.maximum(b, 0), "innvestigate": b, "ignore": 0 * b}[bias]
        b_minus = {"canonical": np.minimum(b, 0), "innvestigate": b, "ignore": 0 * b}[bias]
        return alpha * plus @ divide(relevance, plus.sum(0) + b_plus) - beta * minus @ divide(
            relevance, minus.sum(0) + b_minus
        )
    if name == "gamma":
        gamma, bias = p
        held = 0 * b if bias == "ignore" else b
        total = terms.sum(0) + held
        raised = np.where(total >= 0, np.maximum(terms, 0), np.minimum(terms, 0))
        raised_bias = np.where(total >= 0, np.maximum(held, 0), np.minimum(held, 0))
        return (terms + gamma * raised) @ divide(relevance, total + gamma * (raised.sum(0) + raised_bias))
    if name == "z_plus_fast":
        share = a[:, None] * np.maximum(w, 0)
    elif name == "w_square":
        share = w**2
    elif name == "flat":
        # windows that are cut off at the border count the inputs that exist
        share = np.broadcast_to((w != 0).astype(float), w.shape)
    elif name == "bounded":
        low, high = p
        share = terms - low * np.maximum(w, 0) - high * np.minimum(w, 0)
    return share @ divide(relevance, share.sum(0))


def lrp(layers, x, target, rule, first=None):
    """Return the relevance of one flattened sample."""
    values = forward(layers, x)
    relevance = np.zeros_like(values[-1])
    relevance[target] = values[-1][target]
    linear = [i for i, layer in enumerate(layers) if isinstance(layer, Matrix) and not layer.pooling]
    for i in reversed(range(len(layers))):
        layer, a = layers[i], values[i]
        if isinstance(layer, Max):
            back = np.zeros_like(a)
            for j, window in enumerate(layer.windows):
                back[window[int(np.argmax(a[window]))]] += relevance[j]
            relevance = back
        elif isinstance(layer, Route):
            relevance = layer.weights @ relevance
        elif isinstance(layer, Matrix):
            chosen = ("z", "ignore") if layer.pooling else first if (first and i == linear[0]) else rule
            relevance = dense_rule(chosen, a, layer.weights, layer.bias, values[i + 1], relevance)
    return relevance
