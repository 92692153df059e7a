"""The linear maps of the canonical graph, each a function of an input and a kernel that is linear in both.

Rules put parts of a kernel (its positive part, its square, ones) in the kernel's place, so a map must not
look at what stands in it. Where TensorFlow has no float64 operation on the CPU, or none with a gradient
(grouped convolutions, 3-D pooling, depthwise convolutions of unequal strides), the map is put together from
operations that have both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

FORMATS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
"""TensorFlow's name of the layout by number of axes; without it gradients of eager 3-D convolutions fail."""


def pull_back(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """Return the vector-Jacobian product of `function` at `x` with `upstream`, shaped like `x`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x, output_gradients=upstream)


def pull_back_each(
    function: Callable[..., tf.Tensor], inputs: Sequence[tf.Tensor], upstream: tf.Tensor
) -> list[tf.Tensor]:
    """Return the vector-Jacobian product for each of several inputs; one tensor may be several of them."""
    inputs = [tf.identity(value) for value in inputs]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        y = function(*inputs)
    return tape.gradient(y, inputs, output_gradients=upstream, unconnected_gradients="zero")


def pool(
    pool2d: Callable, x: tf.Tensor, window: tuple[int, ...], strides: tuple[int, ...], padding: str
) -> tf.Tensor:
    """Pool over 1 to 3 axes by a 2-D operation.

    tf.nn.pool refuses gaps between windows, and has no float64 gradients in 1-D and no float64 operation in
    3-D. Three axes are pooled two at first and one after: that is exact for maxima and, as every window of
    a plane has as many cells, for means too.

    Parameters
    ----------
    pool2d : callable
        tf.nn.avg_pool2d or tf.nn.max_pool2d.
    x : tf.Tensor
        (samples, *axes, channels).
    window, strides : tuple of int
        One number per axis.
    padding : str
        "valid" or "same".
    """
    padding = padding.upper()
    if len(window) == 1:
        return pool2d(x[:, :, None, :], (*window, 1), (*strides, 1), padding)[:, :, 0, :]
    if len(window) == 2:
        return pool2d(x, window, strides, padding)
    planes = pool2d(tf.reshape(x, (-1, *x.shape[2:])), window[1:], strides[1:], padding)
    rows, columns, channels = planes.shape[1:]
    lines = tf.reshape(planes, (-1, x.shape[1], rows * columns, channels))
    pooled = pool2d(lines, (window[0], 1), (strides[0], 1), padding)
    return tf.reshape(pooled, (-1, pooled.shape[1], rows, columns, channels))


def _padded(
    x: tf.Tensor, window: tuple[int, ...], strides: tuple[int, ...], dilation: tuple[int, ...], padding: str
) -> tf.Tensor:
    """Return x with the zeros around it that `padding` asks for, so that windows need no other."""
    widths = []
    for size, cells, stride, gap in zip(x.shape[1:-1], window, strides, dilation, strict=True):
        reach = gap * (cells - 1) + 1
        if padding == "causal":
            widths.append((reach - 1, 0))
            continue
        total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0) if padding == "same" else 0
        widths.append((total // 2, total - total // 2))
    return tf.pad(x, ((0, 0), *widths, (0, 0))) if any(map(any, widths)) else x


def _with_gaps(kernel: tf.Tensor, dilation: tuple[int, ...]) -> tf.Tensor:
    """Return the kernel (*window, channels, channels) with zeros between its cells as `dilation` asks for."""
    for axis, gap in enumerate(dilation):
        if gap == 1:
            continue
        cells = tf.split(kernel, kernel.shape[axis], axis)
        zeros = [tf.zeros_like(cells[0])] * (gap - 1)
        kernel = tf.concat([cells[0], *(part for cell in cells[1:] for part in (*zeros, cell))], axis)
    return kernel


@dataclass(frozen=True)
class Dense:
    """Product with a kernel (inputs, outputs) over the last axis."""

    def __call__(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Apply the map to x (..., inputs)."""
        return tf.matmul(x, kernel) if x.shape.rank == 2 else tf.tensordot(x, kernel, axes=1)


@dataclass(frozen=True)
class Convolution:
    """Convolution over 1 to 3 axes with a kernel (*window, channels in / groups, channels out).

    With several groups the channels in and out are cut into as many equal parts, and each part of the
    output sees its part of the input alone.
    """

    strides: tuple[int, ...]
    padding: str
    dilation: tuple[int, ...]
    groups: int = 1

    def __call__(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Apply the map to x (samples, *axes, channels in)."""
        padding, layout = self.padding.upper(), FORMATS[len(self.strides)]
        # a compiled 3-D convolution forgets its own padding where zeros are padded just before it
        if self.padding == "causal" or len(self.strides) == 3:
            x = _padded(x, kernel.shape[:-2], self.strides, self.dilation, self.padding)
            padding = "VALID"
        if self.groups == 1:
            return tf.nn.convolution(x, kernel, self.strides, padding, layout, self.dilation)
        parts = zip(tf.split(x, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1), strict=True)
        results = [tf.nn.convolution(a, w, self.strides, padding, layout, self.dilation) for a, w in parts]
        return tf.concat(results, axis=-1)


@dataclass(frozen=True)
class DepthwiseConvolution:
    """Convolution of every channel on its own, over 1 or 2 axes, with a kernel (*window, channels, multiplier).

    Channel c of the input gives the channels c * multiplier to (c + 1) * multiplier - 1 of the output.
    """

    strides: tuple[int, ...]
    padding: str
    dilation: tuple[int, ...]

    def __call__(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Apply the map to x (samples, *axes, channels)."""
        x = _padded(x, kernel.shape[:-2], self.strides, self.dilation, self.padding)
        step = math.gcd(*self.strides)  # TensorFlow knows equal strides only: what is too much is cut out
        if len(self.strides) == 1:
            strides, dilation = (1, step, step, 1), (1, *self.dilation)
            return tf.nn.depthwise_conv2d(x[:, None], kernel[None], strides, "VALID", dilations=dilation)[
                :, 0
            ]
        dense = tf.nn.depthwise_conv2d(x, kernel, (1, step, step, 1), "VALID", dilations=self.dilation)
        rows, columns = (stride // step for stride in self.strides)
        return dense if rows == columns else dense[:, ::rows, ::columns]


@dataclass(frozen=True)
class TransposedConvolution:
    """Transpose of the convolution over 1 to 3 axes with the same kernel (*window, channels out, channels in).

    `space` holds the sizes of the output's axes, which strides alone leave open.
    """

    strides: tuple[int, ...]
    padding: str
    dilation: tuple[int, ...]
    space: tuple[int, ...]

    def __call__(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Apply the map to x (samples, *axes, channels in)."""
        kernel = _with_gaps(kernel, self.dilation)  # TensorFlow transposes no dilated convolution in float64
        padding, layout = self.padding.upper(), FORMATS[len(self.strides)]
        samples = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
        shape = (samples, *self.space, kernel.shape[-2])

        # TensorFlow's own gradient takes that of the kernel along, which corrupts memory where strides
        # are larger than the window
        @tf.custom_gradient
        def transposed(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            result = tf.nn.conv_transpose(values, kernel, shape, self.strides, padding, layout)
            return result, lambda back: tf.nn.convolution(back, kernel, self.strides, padding, layout)

        return transposed(x)


@dataclass(frozen=True)
class AveragePool:
    """Mean over windows, scaled by a kernel of one number (1, so that rules may transform it)."""

    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    def __call__(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Apply the map to x (samples, *axes, channels)."""
        return pool(tf.nn.avg_pool2d, x, self.window, self.strides, self.padding) * kernel


@dataclass(frozen=True)
class GlobalAverage:
    """Mean over all axes between samples and channels, scaled by a kernel of one number."""

    keepdims: bool = False

    def __call__(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Apply the map to x (samples, *axes, channels)."""
        return tf.reduce_mean(x, axis=list(range(1, x.shape.rank - 1)), keepdims=self.keepdims) * kernel


@dataclass(frozen=True)
class Scale:
    """Elementwise product with a kernel that broadcasts against a sample (an unfolded batch norm)."""

    def __call__(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Apply the map to x."""
        return x * kernel


AnyConvolution = Convolution | DepthwiseConvolution | TransposedConvolution
"""What counts as a convolution layer for rules and class activation maps."""

Weighted = Dense | AnyConvolution
"""The layers with weights of their own: what input rules and presets speak of."""

LinearMap = Weighted | AveragePool | GlobalAverage | Scale
