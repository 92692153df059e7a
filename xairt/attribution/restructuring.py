"""A ReLU network written as three that add up to f(x) - y_ref, see `xairt.attribution.reference`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from xairt.attribution import batching, inputs, recent, several_inputs
from xairt.attribution.blocks import block_sizes, compiled, rows_at_once, with_largest
from xairt.attribution.explainer import GridLike, identified
from xairt.attribution.network import Network
from xairt.attribution.parameters import as_array
from xairt.errors import DataError, UnsupportedLayerError
from xairt.models.graph.nodes import (
    Activation,
    AveragePool,
    Dense,
    GlobalAverage,
    Graph,
    Identity,
    Linear,
    Node,
    Permute,
    Reshape,
    pull_back,
)

NEAR = 1e-6
"""A reference so close to f(x), relative to the sum of the sizes of f's terms, counts as f(x).

References often are predictions that Keras computed, in float32.
"""

SIGNS = ((1, 1), (-1, 1), (-1, -1))
"""Signs of last hidden layer and output in relu(z - a_ref) + relu(-z) - relu(a_ref - z)."""


# --------------------------------------------------------------------------- flooding


def flooded(activations: ArrayLike, weights: ArrayLike, bias: float, y_ref: ArrayLike) -> NDArray[np.float64]:
    """Return the reference activations of "flooding" (Letzgus et al. 2022, arXiv:2112.11407).

    All activations of a sample are lowered by one step, clipped at 0, or raised by one step where the output
    lies below the reference, until the output is the reference. On the way down the output is linear
    between two neighbouring activations, so that the smallest step follows from their order.

    With output weights of both signs that direction may lead away from the reference. Where it does not reach
    it, the smallest step in the other direction that does is taken, which goes beyond the publication.

    Parameters
    ----------
    activations : array_like
        (samples, ...) of the last hidden layer, not negative.
    weights : array_like
        (...) of the output unit.
    bias : float
        Of the output unit.
    y_ref : array_like
        Reference, in units of the output: one number, or one per sample (samples,). Where it differs from
        the output by no more than 1e-6 of the sum of |terms| of the output, activations are returned as they are.

    Returns
    -------
    numpy.ndarray
        (samples, ...) float64, not negative: its product with the weights, plus bias, is y_ref.

    Raises
    ------
    DataError
        If shapes do not fit, a value is not finite, or a reference is reached in neither direction: lowering
        ends where all activations are 0, and raising moves the output one way only, by the sum of the weights.
        The message tells the range that is reached.

    Examples
    --------
    >>> flooded([[3.0, 1.0]], [1.0, 1.0], 0.0, 1.5)
    array([[1.5, 0. ]])
    >>> flooded([[3.0, 1.0]], [1.0, 1.0], 0.0, 5.0)
    array([[3.5, 1.5]])

    Raising would lower this output of 1, lowering raises it at first:

    >>> flooded([[3.0, 1.0]], [1.0, -2.0], 0.0, 1.5)
    array([[2.5, 0.5]])
    """
    given = inputs.finite(activations, "float64", "activations", "give finite numbers")
    shape, a = given.shape, given.reshape(len(given), -1)
    v = inputs.finite(weights, "float64", "weights", "give finite numbers").ravel()
    if a.shape[1] != v.size or (a < 0).any():
        raise DataError(
            f"activations of shape {shape} for {v.size} weights: give as many for each sample, none below 0"
        )
    target = references(y_ref, len(a)) - bias
    sums = (a * v).sum(axis=1)  # a product of matrices may round by the number of samples
    near = NEAR * ((a * np.abs(v)).sum(axis=1) + abs(bias))
    down, reached = _step_down(a, v, target, sums > target)
    slope = v.sum() if abs(v.sum()) > NEAR * np.abs(v).sum() else 0.0
    up = np.divide(sums - target, slope, out=np.full(len(a), np.nan), where=(target - sums) * slope > 0)
    first, other = np.where(sums > target, (down, up), (up, down))
    step = np.where(np.isnan(first), other, first)
    step[np.abs(sums - target) <= near] = 0.0
    _check_reached(step, target + bias, sums + bias, reached + bias, slope)
    return np.maximum(a - step[:, None], 0.0).reshape(shape)


def _step_down(
    a: NDArray[np.float64], v: NDArray[np.float64], target: NDArray[np.float64], above: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smallest step down to the target (n,), NaN where there is none, and the range on the way (2, n).

    The sum is looked for below the target where it lies above at first, else above it.
    """
    n, units = a.shape
    order = np.argsort(-a, axis=1, kind="stable")
    levels = np.concatenate([np.take_along_axis(a, order, axis=1), np.zeros((n, 1))], axis=1)
    slopes = np.cumsum(v[order], axis=1)  # of the sum between two levels, as the water falls
    rises = (levels[:, :-1] - levels[:, 1:]) * slopes
    sums = np.concatenate([np.zeros((n, 1)), np.cumsum(rises, axis=1)], axis=1)
    sign = np.where(above, 1.0, -1.0)
    beyond = (sums[:, :-1] - target[:, None]) * sign[:, None] <= 0
    place = units - 1 - np.argmax(beyond[:, ::-1], axis=1)
    rows = np.arange(n)
    missing, slope = sign * (target - sums[rows, place]), sign * slopes[rows, place]
    back = np.divide(missing, slope, out=np.zeros(n), where=slope > 0)
    step = levels[rows, place] - np.clip(back, 0.0, levels[rows, place] - levels[rows, place + 1])
    return np.where(beyond.any(axis=1), step, np.nan), np.stack([sums.min(axis=1), sums.max(axis=1)])


def _check_reached(
    step: NDArray[np.float64],
    y_ref: NDArray[np.float64],
    prediction: NDArray[np.float64],
    lowered: NDArray[np.float64],
    slope: float,
) -> None:
    """Raise `DataError` if flooding reaches the reference of a sample by no step (NaN).

    On the way down (2, n) is the range of the output; raising moves it without end where the slope is not 0.
    """
    missed = np.flatnonzero(np.isnan(step))
    if len(missed):
        i = missed[0]
        low = "-infinity" if slope < 0 else f"{lowered[0, i]:.6g}"
        high = "infinity" if slope > 0 else f"{lowered[1, i]:.6g}"
        raise DataError(
            f"y_ref {y_ref[i]:.6g} of sample {i}, where f(x) = {prediction[i]:.6g} ({len(missed)} of {len(step)} "
            f"samples): flooding reaches {low} to {high}; choose a reference in this range, or use retrained"
        )


def references(y_ref: ArrayLike, n: int) -> NDArray[np.float64]:
    """Return the reference of each of n samples (n,); `DataError` if there is none, or one is not finite."""
    values = inputs.finite(as_array(y_ref, "y_ref", "float64"), "float64", "y_ref", "give finite numbers")
    if values.shape not in ((), (n,)):
        raise DataError(
            f"y_ref has shape {values.shape} for {n} samples: give one number, or one per sample ({n},)"
        )
    return np.broadcast_to(values, n)


# --------------------------------------------------------------------------- the three networks


@dataclass(frozen=True, eq=False)
class Head:
    """The end of a network: from its last hidden layer to its only output unit.

    Attributes
    ----------
    linear, relu, output : int
        Positions in the graph of the last hidden layer, of its ReLU, and of the output unit.
    weights : numpy.ndarray
        Output weights v, float64, shaped like the last hidden layer.
    bias : float
        Of the output unit: f(x) = v.a + bias.
    """

    linear: int
    relu: int
    output: int
    weights: NDArray[np.float64]
    bias: float

    @classmethod
    def of(cls, network: Network) -> Head:
        """Find the end of a network.

        Raises
        ------
        UnsupportedLayerError
            If the output is anything but one linear dense unit that reads a ReLU of a linear layer; flattening
            and average pooling may lie between them.
        """
        graph = network.require_graph()
        output = graph.outputs[0]
        node = graph.nodes[output]
        if len(graph.outputs) > 1 or any(graph.final_activations):
            raise _refused(node, f"ends in {next(filter(None, graph.final_activations), 'several outputs')}")
        if not isinstance(node.op, Linear) or not isinstance(node.op.map, Dense) or node.shape != (1,):
            raise _refused(node, "is no single dense unit")
        relu = node.inputs[0]
        while _keeps_units(graph.nodes[relu]):
            relu = graph.nodes[relu].inputs[0]
        if not isinstance(graph.nodes[relu].op, Activation) or graph.nodes[relu].op.name != "relu":
            raise _refused(graph.nodes[relu], "lies before the output and is no ReLU")
        linear = graph.nodes[relu].inputs[0]
        while isinstance(graph.nodes[linear].op, Identity):
            linear = graph.nodes[linear].inputs[0]
        if not isinstance(graph.nodes[linear].op, Linear):
            raise _refused(graph.nodes[linear], "lies before the last ReLU and is not linear")
        bias = 0.0 if node.op.bias is None else float(node.op.bias[0])
        return cls(linear, relu, output, _output_weights(graph, relu, output), bias)


def _refused(node: Node, reason: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"layer '{node.name}' {reason}: restructuring takes networks of one linear output unit that reads a ReLU "
        "layer; for other ends in a linear unit use retrained"
    )


def _keeps_units(node: Node) -> bool:
    """Whether a node between the last ReLU and the output is a linear one without weights of its own."""
    pooling = isinstance(node.op, Linear) and isinstance(node.op.map, AveragePool | GlobalAverage)
    return pooling or isinstance(node.op, Identity | Reshape | Permute)


def _output_weights(graph: Graph, relu: int, output: int) -> NDArray[np.float64]:
    """Return the derivative of the output by the activations, which are read in a straight line."""

    def sums(value: tf.Tensor) -> tf.Tensor:
        for node in graph.nodes[relu + 1 : output + 1]:
            if isinstance(node.op, Linear):
                value = node.op.map(value, tf.constant(node.op.kernel, tf.float64))
            else:
                value = node.op.forward(value)
        return value

    start = tf.zeros((1, *graph.nodes[relu].shape), tf.float64)
    return pull_back(sums, start, tf.ones((1, 1), tf.float64)).numpy()[0]


def _three_networks(graph: Graph, head: Head) -> tuple[Graph, tuple[int, ...]]:
    """Return the graph of the three networks, and for each of its nodes the position it comes from.

    The last hidden layers of the first and the third have no bias here: it depends on the sample.
    """
    nodes, origin = list(graph.nodes[: head.linear]), list(range(head.linear))
    for number, (sign, output_sign) in enumerate(SIGNS):
        moved = len(nodes) - head.linear
        for position in range(head.linear, head.output + 1):
            node = graph.nodes[position]
            op, known = node.op, head.relu <= position < head.output
            if position == head.linear:
                fixed = op.bias is not None and number == 1
                op = replace(op, kernel=sign * op.kernel, bias=-op.bias if fixed else None)
            elif position == head.output:
                op = replace(op, kernel=output_sign * op.kernel, bias=None)
            read = tuple(i if i < head.linear else i + moved for i in node.inputs)
            nodes.append(replace(node, op=op, inputs=read, nonnegative=node.nonnegative and known))
            origin.append(position)
    length = head.output + 1 - head.linear
    outputs = tuple(head.linear + k * length - 1 for k in (1, 2, 3))
    return Graph(tuple(nodes), graph.sources, outputs, (None,) * 3), tuple(origin)


@dataclass(frozen=True, eq=False)
class Restructured:
    """A network written as three that add up to f(x) - y_ref, with the samples it is written for.

    Attributes
    ----------
    network : Network
        The three networks, with the lower layers in common: one output each.
    origin : tuple of int
        Position in the model's graph of each node.
    head : Head
        The end of the model's graph.
    bias : numpy.ndarray or float
        Of the last hidden layer.
    values : numpy.ndarray
        Samples (n, *input shape).
    prediction, reference : numpy.ndarray
        f(x) and y_ref (n,), float64.
    activations, reference_activations : numpy.ndarray
        a and a_ref of the last hidden layer (n, *units), float64.
    dtype : str
        Precision of the network.
    """

    network: Network
    origin: tuple[int, ...]
    head: Head
    bias: NDArray[Any] | float
    values: NDArray[Any]
    prediction: NDArray[np.float64]
    reference: NDArray[np.float64]
    activations: NDArray[np.float64]
    reference_activations: NDArray[np.float64]
    dtype: str

    @property
    def differs(self) -> NDArray[np.bool_]:
        """Whether a sample's f(x) is another number than y_ref, (n,)."""
        changed = self.activations != self.reference_activations
        return changed.reshape(len(changed), -1).any(axis=1)

    def biases(self, reference_activations: tf.Tensor) -> dict[int, tf.Tensor]:
        """Return the biases (b, *units) of the last hidden layers of the first and the third network."""
        length = self.head.output + 1 - self.head.linear
        shifted = tf.constant(self.bias, self.dtype) - reference_activations
        return {self.head.linear: shifted, self.head.linear + 2 * length: -shifted}

    def outputs(self) -> NDArray[Any]:
        """Return the outputs of the three networks (n, 3); their sum is f(x) - y_ref."""
        evaluator = self.network.evaluator(self.dtype)

        def compute(x: tf.Tensor, a_ref: tf.Tensor, differs: tf.Tensor) -> dict[str, tf.Tensor]:
            values, _ = evaluator.with_biases(self.biases(a_ref)).forward(x)
            return {"outputs": tf.concat([values[i] for i in self.network.graph.outputs], axis=1)}

        parts = by_blocks(compute, self.rows(), sizes_of(self.network, self.dtype, None))
        return batching.joined(parts, len(self.values))["outputs"]

    def rows(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return what is computed with for each sample: x, a_ref, and 1 where f(x) differs from y_ref, else 0."""
        return (
            self.values,
            self.reference_activations.astype(self.dtype),
            self.differs.astype(self.dtype),
        )


def restructured(
    model: tf.keras.Model, x: Any, y_ref: ArrayLike, *, dtype: str = "float64", grid: GridLike = None
) -> Restructured:
    """Write a network as three ReLU networks whose sum is f(x) - y_ref (Letzgus et al. 2022, arXiv:2112.11407).

    Parameters
    ----------
    model : tf.keras.Model
        Whose output is one linear unit that reads a ReLU layer; it is not changed.
    x : array_like or xarray.DataArray
        Samples as for `xairt.attribute`.
    y_ref : array_like
        Reference in units of the output: one number, or one per sample (n,).
    dtype : {"float32", "float64"}
        Precision.
    grid : Grid, optional
        Valid cells of maps, as for `xairt.attribute`.

    Returns
    -------
    Restructured
        ``outputs()`` are those of the three networks.

    Raises
    ------
    UnsupportedLayerError
        If the model ends in another way; the message names the layer.
    DataError
        If samples or references do not fit, or flooding cannot reach a reference.
    """
    network = recent.network(model, identified(model))
    return with_reference(network, Head.of(network), read(x, network, grid, dtype).values, y_ref, dtype)


def with_reference(
    network: Network, head: Head, values: NDArray[Any], y_ref: ArrayLike, dtype: str
) -> Restructured:
    """Return a converted network restructured for samples that were read; see `restructured`."""
    reference = references(y_ref, len(values))
    evaluator = network.evaluator(dtype)

    def compute(x: tf.Tensor, *others: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"activations": evaluator.forward(x)[0][head.relu]}

    parts = by_blocks(compute, (values, reference, reference), sizes_of(network, dtype, None))
    activations = batching.joined(parts, len(values))["activations"]
    wide = activations.astype(np.float64)
    graph, origin = _three_networks(network.graph, head)
    bias = network.graph.nodes[head.linear].op.bias
    return Restructured(
        replace(network, graph=graph, output_shapes=((1,),) * 3, evaluators={}),
        origin,
        head,
        0.0 if bias is None else bias,
        values,
        (wide * head.weights).reshape(len(wide), -1).sum(axis=1) + head.bias,
        reference,
        wide,
        flooded(activations, head.weights, head.bias, reference),
        dtype,
    )


def read(
    x: Any, network: Network, grid: GridLike, dtype: str
) -> inputs.Samples | several_inputs.PackedSamples:
    """Return the samples of a network of one input or several; `DataError` if they do not fit it."""
    if network.packed:
        return several_inputs.read_packed(x, network, several_inputs.grids_of(grid, network), dtype)
    return inputs.read_samples(x, network.input_shape, grid, dtype)


def sizes_of(network: Network, dtype: str, batch_size: int | None) -> tuple[int, ...]:
    """Return the numbers of samples that a block may hold, up to the one asked for."""
    chosen = block_sizes(rows_at_once(network, dtype), 1, network.require_graph().multiply_adds())
    return chosen if batch_size is None else with_largest(chosen, batch_size)


def by_blocks(
    function: Callable[..., dict[str, tf.Tensor]],
    rows: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    sizes: tuple[int, ...],
    probes: int = 0,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Compute block after block, compiled for each size, without the rows of padding."""
    made = {}
    for *block, used in batching.blocks(*rows, sizes, probes):
        if len(block[0]) not in made:
            made[len(block[0])] = compiled(
                function, *(tf.TensorSpec(part.shape, part.dtype) for part in block)
            )
        results = made[len(block[0])](*map(tf.constant, block))
        yield {name: value.numpy()[:used] for name, value in results.items()}
