"""DeepLIFT: the difference of the output from its value at a baseline, passed back to the inputs.

Every node has a multiplier, contribution per difference from the baseline, so that multipliers times
differences sum to f(x) - f(baseline) at every cut through the network. RevealCancel keeps two of them, for
the positive and for the negative part of a difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from xairt.attribution.blocks import BLOCK_BYTES, Block, BlockMethod, Explained, Setting, chunks, weighted_sum
from xairt.attribution.parameters import Parameters
from xairt.attribution.targets import Target
from xairt.errors import MethodError, UnsupportedLayerError
from xairt.models.graph.nodes import (
    Activation,
    Add,
    AffineRoute,
    Concatenate,
    Evaluator,
    GlobalMax,
    Graph,
    Linear,
    MaxPool,
    Source,
    pull_back,
    pull_back_each,
)

NONLINEAR = Activation | MaxPool | GlobalMax

WORKS = "integrated_gradients, occlusion and shap.kernel do work"

Pair = tuple[tf.Tensor, tf.Tensor]
"""Multipliers of the positive and of the negative part of a difference; one tensor twice where they agree."""


# --------------------------------------------------------------------------- mean slopes


def mean_slope(op: Activation, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Return (g(end) - g(start)) / (end - start), and the derivative g' where both are equal.

    A quotient of small differences loses digits, so the mean derivative between both (Gauss, two points)
    takes its place wherever it explains g(end) - g(start) to rounding; for smooth functions that is so
    for steps below about 0.3 (float32). At a corner of g the derivative is TensorFlow's: 0 for the ReLU.

    Parameters
    ----------
    op : Activation
        An elementwise function g.
    start, end : tf.Tensor
        Of equal shape.
    """
    step = end - start
    at_start, at_end = op.forward(start), op.forward(end)
    rise = at_end - at_start
    quotient = tf.math.divide_no_nan(rise, step)
    if op.name == "relu":  # differences of its values keep the digits of the step
        return tf.where(step == 0, tf.cast(end > 0, end.dtype), quotient)
    middle, reach = (start + end) / 2, step / np.sqrt(12)
    derivative = (_derivative(op, middle - reach) + _derivative(op, middle + reach)) / 2
    sizes = 8 * (tf.abs(at_start) + tf.abs(at_end)) + tf.abs(start) + tf.abs(end)
    rounding = np.finfo(step.dtype.as_numpy_dtype).eps * sizes
    return tf.where(tf.abs(derivative * step - rise) <= rounding, derivative, quotient)


def _derivative(op: Activation, x: tf.Tensor) -> tf.Tensor:
    return pull_back(op.forward, x, tf.ones_like(x))


# --------------------------------------------------------------------------- max pooling


def windows(op: MaxPool | GlobalMax, x: tf.Tensor, fill: float) -> tf.Tensor:
    """Return what each maximum is taken of, as (samples, cells of a window, *output shape).

    Cells of a window that lie outside are `fill`.
    """
    if isinstance(op, GlobalMax):
        flat = tf.reshape(x, (x.shape[0], -1, x.shape[-1]))
        return (
            tf.reshape(flat, (*flat.shape[:2], *[1] * (x.shape.rank - 2), x.shape[-1]))
            if op.keepdims
            else flat
        )
    counts, widths = [], []
    for size, edge, stride in zip(x.shape[1:-1], op.window, op.strides, strict=True):
        same = op.padding == "same"
        count = -(-size // stride) if same else (size - edge) // stride + 1
        missing = max((count - 1) * stride + edge - size, 0) if same else 0
        counts.append(count)
        widths.append((missing // 2, missing - missing // 2))
    padded = tf.pad(x, ((0, 0), *widths, (0, 0)), constant_values=tf.cast(fill, x.dtype))
    cells = []
    for corner in np.ndindex(*op.window):
        cut = [
            slice(first, first + (count - 1) * stride + 1, stride)
            for first, count, stride in zip(corner, counts, op.strides, strict=True)
        ]
        cells.append(padded[(slice(None), *cut, slice(None))])
    return tf.stack(cells, axis=1)


def max_pool_back(
    op: MaxPool | GlobalMax, x: tf.Tensor, baseline: tf.Tensor, arriving: tf.Tensor
) -> tf.Tensor:
    """Return the multipliers of the inputs of a maximum.

    A maximum that rises above its baseline gives the whole rise to the cell that is the largest in x, one
    that falls gives the fall to the cell that was the largest in the baseline (among equals to the one
    that is the largest in x). The winner's own difference is at least as large and has the same sign, so
    its multiplier lies between 0 and 1 times the arriving one, and the difference is explained exactly.

    Parameters
    ----------
    op : MaxPool or GlobalMax
        The pooling.
    x, baseline : tf.Tensor
        Its inputs (samples, ...).
    arriving : tf.Tensor
        Multiplier of its output.
    """
    lowest = x.dtype.min
    now, before = windows(op, x, lowest), windows(op, baseline, lowest)
    top_now, top_before = (tf.reduce_max(v, axis=1, keepdims=True) for v in (now, before))
    held = tf.where(before == top_before, now, lowest)
    winner = tf.argmax(tf.where(top_now >= top_before, now, held), axis=1)
    step, own = top_now - top_before, now - before
    factor = tf.where(own == step, tf.ones_like(own), tf.math.divide_no_nan(tf.zeros_like(own) + step, own))
    share = tf.one_hot(winner, now.shape[1], axis=1, dtype=x.dtype) * factor * arriving[:, None]
    return pull_back(lambda v: windows(op, v, 0), x, share)


# --------------------------------------------------------------------------- the way back


@dataclass(eq=False)
class DifferencePass:
    """DeepLIFT through one network.

    Parameters
    ----------
    evaluator : Evaluator
        The network and its dtype.
    reveal_cancel : bool
        RevealCancel in place of Rescale at the activations.
    published_pooling : bool
        Max pooling passes its multiplier to the largest cell of x unchanged, as the deeplift package does.
    """

    evaluator: Evaluator
    reveal_cancel: bool
    published_pooling: bool
    sizes: dict[int, tf.Tensor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.sizes = {}
        linear = (i for i, node in enumerate(self.graph.nodes) if isinstance(node.op, Linear))
        for i in linear if self.reveal_cancel else ():
            shared = self.evaluator.derived
            if shared.get((i, "|w|")) is None:
                shared[i, "|w|"] = tf.abs(self.evaluator.kernels[i])
            self.sizes[i] = shared[i, "|w|"]

    @property
    def graph(self) -> Graph:
        """The network."""
        return self.evaluator.graph

    def needed(self) -> set[int]:
        """Return the positions of the nodes whose values the way back looks at."""
        found = set(self.graph.sources)
        for position, node in enumerate(self.graph.nodes):
            looked_at = Linear | NONLINEAR if self.reveal_cancel else NONLINEAR
            if isinstance(node.op, looked_at):
                found.update((position, *node.inputs))
        return found

    def __call__(
        self, now: dict[int, tf.Tensor], before: dict[int, tf.Tensor], start: list[tf.Tensor]
    ) -> tf.Tensor:
        """Return the contributions of the inputs.

        Parameters
        ----------
        now, before : dict
            Values of the `needed` nodes at x and at the baseline, (rows, ...) each.
        start : list of tf.Tensor
            Multiplier of each output.

        Returns
        -------
        tf.Tensor
            (rows, *input shape): multipliers times differences.
        """
        splits = self._splits(now, before) if self.reveal_cancel else {}
        arriving: dict[int, Pair] = {}
        for position, multiplier in zip(self.graph.outputs, start, strict=True):
            _credit(arriving, position, (multiplier, multiplier))
        for position in reversed(range(len(self.graph.nodes))):
            node = self.graph.nodes[position]
            if position in arriving and not isinstance(node.op, Source):
                pairs = self._back(position, now, before, splits, arriving.pop(position))
                for source, pair in zip(node.inputs, pairs, strict=True):
                    _credit(arriving, source, pair)
        (source,) = self.graph.sources
        difference = now[source] - before[source]
        if source not in arriving:
            return tf.zeros_like(difference)
        plus, minus = arriving[source]
        return difference * (plus if plus is minus else tf.where(difference > 0, plus, minus))

    def _back(
        self,
        position: int,
        now: dict[int, tf.Tensor],
        before: dict[int, tf.Tensor],
        splits: dict[int, Pair],
        pair: Pair,
    ) -> list[Pair]:
        """Return the multipliers of a node's inputs."""
        node = self.graph.nodes[position]
        plus, minus = pair
        if isinstance(node.op, Activation):
            (i,) = node.inputs
            return [self._activation(node.op, now[i], before[i], splits.get(i), pair)]
        if isinstance(node.op, MaxPool | GlobalMax):
            (i,) = node.inputs
            if plus is not minus:
                plus = tf.where(now[position] >= before[position], plus, minus)
            if self.published_pooling:
                return [_twice(pull_back(node.op.forward, now[i], plus))]
            return [_twice(max_pool_back(node.op, now[i], before[i], plus))]
        if not isinstance(node.op, Linear):
            zeros = [self._zeros(i, plus) for i in node.inputs]
            back = pull_back_each(node.op.forward, zeros, plus)
            other = back if plus is minus else pull_back_each(node.op.forward, zeros, minus)
            return list(zip(back, other, strict=True))
        kernel, (i,) = self.evaluator.kernels[position], node.inputs
        if plus is minus:
            return [_twice(self._linear(position, kernel, plus))]
        mean = self._linear(position, kernel, (plus + minus) / 2)
        apart = self._linear(position, self.sizes[position], (plus - minus) / 2)
        return [_twice(mean + tf.sign(now[i] - before[i]) * apart)]

    def _activation(
        self, op: Activation, end: tf.Tensor, start: tf.Tensor, split: Pair | None, pair: Pair
    ) -> Pair:
        """Return the multipliers of an activation's input: mean slopes, of which RevealCancel takes two."""
        if split is None:
            slope = mean_slope(op, start, end)
            return _twice(pair[0] * slope) if pair[0] is pair[1] else (pair[0] * slope, pair[1] * slope)
        up, down = split
        rising = (mean_slope(op, start, start + up) + mean_slope(op, start + down, end)) / 2
        falling = (mean_slope(op, start, start + down) + mean_slope(op, start + up, end)) / 2
        return pair[0] * rising, pair[1] * falling

    def _linear(self, position: int, kernel: tf.Tensor, arriving: tf.Tensor) -> tf.Tensor:
        """Return the transposed linear map of a node with a kernel applied to `arriving`."""
        node = self.graph.nodes[position]
        x = self._zeros(node.inputs[0], arriving)
        return pull_back(lambda v: node.op.map(v, kernel), x, arriving)

    def _zeros(self, position: int, like: tf.Tensor) -> tf.Tensor:
        """Return zeros in place of a node's value, which its transposed linear map does not depend on."""
        return tf.zeros((like.shape[0], *self.graph.nodes[position].shape), like.dtype)

    def _splits(self, now: dict[int, tf.Tensor], before: dict[int, tf.Tensor]) -> dict[int, Pair]:
        """Return the positive and negative part of the difference of every node that an activation reads."""
        nodes, splits = self.graph.nodes, {}
        wanted: set[int] = set()
        for position in reversed(range(len(nodes))):
            op = nodes[position].op
            passes_on = position in wanted and isinstance(op, AffineRoute | Add | Concatenate)
            if passes_on or isinstance(op, Activation):
                wanted.update(nodes[position].inputs)
        for position in sorted(wanted):
            splits[position] = self._split(position, now, before, splits)
        return splits

    def _split(
        self,
        position: int,
        now: dict[int, tf.Tensor],
        before: dict[int, tf.Tensor],
        splits: dict[int, Pair],
    ) -> Pair:
        node = self.graph.nodes[position]
        if isinstance(node.op, AffineRoute | Add | Concatenate):
            parts = [splits[i] for i in node.inputs]
            up, down = (node.op.forward(*side) for side in zip(*parts, strict=True))
            return up, down
        difference = now[position] - before[position]
        if isinstance(node.op, Linear):
            # contributions w d of one sign each: their sum is known, and so is that of their sizes |w| |d|
            (i,) = node.inputs
            sizes = node.op.map(tf.abs(now[i] - before[i]), self.sizes[position])
            return tf.nn.relu(difference + sizes) / 2, tf.minimum(difference - sizes, 0) / 2
        if isinstance(node.op, Activation):
            (i,) = node.inputs
            rising, falling = self._activation(
                node.op, now[i], before[i], splits[i], _twice(tf.ones_like(difference))
            )
            return rising * splits[i][0], falling * splits[i][1]
        return tf.nn.relu(difference), tf.minimum(difference, 0)


def _twice(multiplier: tf.Tensor) -> Pair:
    return multiplier, multiplier


def _credit(arriving: dict[int, Pair], position: int, pair: Pair) -> None:
    if position not in arriving:
        arriving[position] = pair
        return
    (plus, minus), (more, less) = arriving[position], pair
    total = plus + more
    arriving[position] = (total, total if plus is minus and more is less else minus + less)


# --------------------------------------------------------------------------- methods


def _method(reveal_cancel: bool) -> Callable[[Setting, Parameters], BlockMethod]:
    def build(setting: Setting, parameters: Parameters) -> BlockMethod:
        require_rules(setting.network.require_graph())
        require_affine(setting.target, setting.network.output_shapes, setting.dtype)
        evaluator = setting.network.evaluator(setting.dtype)
        return _over_baselines(
            setting, DifferencePass(evaluator, reveal_cancel, setting.convention == "deeplift")
        )

    return build


def _over_baselines(setting: Setting, back: DifferencePass) -> BlockMethod:
    """Return the mean over all baselines."""
    outputs, n_baselines = back.graph.outputs, len(setting.baseline)
    needed = sorted(back.needed().union(outputs))
    at_baselines = _values_at_baselines(setting, back.evaluator, needed)

    def explain(block: Block) -> Explained:
        n_samples = block.x.shape[0]
        table = chunks(n_baselines, max(1, setting.rows // n_samples))
        weights = tf.constant(np.where(table < 0, 0, 1 / n_baselines), setting.dtype)
        numbers, at_once = tf.constant(np.maximum(table, 0)), table.shape[1]
        indices = tf.repeat(block.indices, at_once)
        now = {i: tf.repeat(block.values[i], at_once, axis=0) for i in needed}
        start = setting.target.slopes(tuple(now[i] for i in outputs), indices)
        total, expected = tf.zeros_like(block.x), tf.zeros((n_samples,), setting.dtype)
        for k in tf.range(len(table)):
            before = {i: _tiled(v, n_samples) for i, v in at_baselines(numbers[k]).items()}
            each = tf.reshape(back(now, before, start), (n_samples, at_once, *block.x.shape[1:]))
            total += weighted_sum(weights[k], each)
            reference = setting.target.select(tuple(before[i] for i in outputs), indices)
            expected += tf.linalg.matvec(tf.reshape(reference, (n_samples, at_once)), weights[k])
        return Explained(total, promised=block.value - expected)

    return explain


def _values_at_baselines(
    setting: Setting, evaluator: Evaluator, needed: list[int]
) -> Callable[[tf.Tensor], dict[int, tf.Tensor]]:
    """Return the function from numbers of baselines (c,) to the values (c, ...) of the needed nodes there.

    They are computed once, or where they would take too much memory whenever they are needed.
    """
    baselines = tf.constant(setting.baseline, setting.dtype)
    numbers = sum(int(np.prod(node.shape)) for node in evaluator.graph.nodes)
    if numbers * baselines.dtype.size * len(setting.baseline) > BLOCK_BYTES:

        def computed(chosen: tf.Tensor) -> dict[int, tf.Tensor]:
            values, _ = evaluator.forward(tf.gather(baselines, chosen))
            return {i: values[i] for i in needed}

        return computed
    values, _ = evaluator.forward(baselines)
    kept = {i: values[i] for i in needed}
    return lambda chosen: {i: tf.gather(v, chosen) for i, v in kept.items()}


def _tiled(values: tf.Tensor, n_samples: int) -> tf.Tensor:
    """Return values (c, ...) once for each sample, (n_samples * c, ...)."""
    return tf.reshape(tf.repeat(values[None], n_samples, axis=0), (-1, *values.shape[1:]))


def require_affine(target: Target, shapes: tuple[tuple[int, ...], ...], dtype: str) -> None:
    """Raise `MethodError` if a callable target is not an affine function of the outputs."""
    if target.kind != "callable":
        return
    rng, n = np.random.default_rng(0), 1 + max((size for shape in shapes for size in shape), default=1)
    one, two = ([rng.normal(size=(n, *shape)) for shape in shapes] for _ in range(2))
    nothing = [np.zeros_like(v) for v in one]
    sums = [a + b for a, b in zip(one, two, strict=True)]

    def value(outputs: list[np.ndarray]) -> np.ndarray:
        return target.select(tuple(tf.constant(v, dtype) for v in outputs), tf.zeros(n, tf.int32)).numpy()

    parts = [value(v) for v in (sums, nothing, one, two)]
    excess = np.abs(parts[0] + parts[1] - parts[2] - parts[3]).max()
    if not excess <= 1e-4 * max(np.abs(v).max() for v in parts):
        raise MethodError(
            "the callable target is not linear in the outputs: DeepLIFT starts from outputs and their sums; "
            f"give an index or a linear function ({WORKS} with any)"
        )


def require_rules(graph: Graph) -> None:
    """Raise `UnsupportedLayerError` if a layer has no exact rule: softmax, and whatever is not elementwise."""
    known = Source | Linear | AffineRoute | MaxPool | GlobalMax | Activation | Add | Concatenate
    for node in graph.nodes:
        if not isinstance(node.op, known):
            raise UnsupportedLayerError(
                f"layer '{node.name}' ({type(node.op).__name__}) has no DeepLIFT rule: {WORKS}"
            )
        if isinstance(node.op, Activation) and not _elementwise(node.op, node.shape):
            name = node.op.name.removeprefix("custom:")
            raise UnsupportedLayerError(
                f"layer '{node.name}' has the activation '{name}' inside the network, which mixes units: "
                f"DeepLIFT has no exact rule for it; {WORKS}"
            )


def _elementwise(op: Activation, shape: tuple[int, ...]) -> bool:
    """Return whether every value of the function depends on one argument alone."""
    rng = np.random.default_rng(0)
    one, two = (rng.normal(size=(2, *shape)).astype(np.float32) for _ in range(2))
    chosen = rng.integers(0, 2, one.shape, dtype=np.int8).astype(bool)
    mixed, first, second = (
        op.forward(tf.constant(v)).numpy() for v in (np.where(chosen, one, two), one, two)
    )
    return mixed.shape == one.shape and np.allclose(
        mixed, np.where(chosen, first, second), rtol=1e-5, atol=1e-6, equal_nan=True
    )


rescale = _method(reveal_cancel=False)
"""Rescale (Shrikumar et al. 2017, arXiv:1704.02685, section 3.5.2): multipliers are mean slopes.

Attributions sum to f(x) - f(baseline); with a set of baselines they are the mean over the set.
"""

reveal_cancel = _method(reveal_cancel=True)
"""RevealCancel (Shrikumar et al. 2017, section 3.5.3): the parts of a difference that raise and that lower a
pre-activation have multipliers of their own, the mean of their effects in both orders.

Attributions sum to f(x) - f(baseline); with a set of baselines they are the mean over the set.
"""
