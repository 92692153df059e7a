"""The node kinds of the canonical graph, each defined once.

A network is a small directed graph of operations of five families:

============  ====================================================================================
`Linear`      a linear map of `maps` (dense, convolutions, average pooling, scale) with its weights
`Route`       every output copies at most one input (flatten, padding, max pooling, dropout, ...)
`Activation`  an elementwise function (softmax: over the last axis)
`Add`         the sum or the average of its inputs
`Concatenate` its inputs side by side
============  ====================================================================================

Each operation knows its forward computation in any floating dtype. The way back (what LRP and
the gradients need) is the vector-Jacobian product of that forward computation, see `pull_back`.
Arrays carry the sample axis first and channels last, as Keras does.
"""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from xairt.errors import ModelError
from xairt.models.graph.maps import (
    AnyConvolution,
    AveragePool,
    Convolution,
    Dense,
    DepthwiseConvolution,
    GlobalAverage,
    LinearMap,
    Scale,
    TransposedConvolution,
    Weighted,
    pool,
    pull_back,
    pull_back_each,
)

__all__ = [
    "Activation",
    "ActivationLayer",
    "Add",
    "AffineRoute",
    "AnyConvolution",
    "AveragePool",
    "Concatenate",
    "Convolution",
    "Crop",
    "Dense",
    "DepthwiseConvolution",
    "Evaluator",
    "GlobalAverage",
    "GlobalMax",
    "Graph",
    "Identity",
    "Linear",
    "LinearMap",
    "MaxPool",
    "Node",
    "Operation",
    "Permute",
    "Reshape",
    "Route",
    "Scale",
    "Slice",
    "Source",
    "TransposedConvolution",
    "Upsample",
    "Weighted",
    "ZeroPad",
    "pull_back",
    "pull_back_each",
]

NONNEGATIVE_ACTIVATIONS = ("relu", "sigmoid", "softmax", "softplus", "exponential", "hard_sigmoid", "relu6")


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear map with its weights: z = map(a, kernel) + bias.

    Attributes
    ----------
    map : LinearMap
        How the kernel is applied.
    kernel : numpy.ndarray
        Weights as stored in the model.
    bias : numpy.ndarray or None
        Added to the result, broadcasting against it.
    """

    map: LinearMap
    kernel: np.ndarray
    bias: np.ndarray | None = None


# --------------------------------------------------------------------------- routes


@dataclass(frozen=True)
class Identity:
    """Passes its input on (dropout, noise and folded layers at prediction time)."""

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """Return x."""
        return x


@dataclass(frozen=True)
class Reshape:
    """New shape (without the sample axis) for every sample; flatten is the shape (size,)."""

    shape: tuple[int, ...]

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """Return x (samples, ...) as (samples, *shape)."""
        return tf.reshape(x, (-1, *self.shape))


@dataclass(frozen=True)
class Slice:
    """Cuts the features `start` to `stop` (not included) out of a sample that is a vector."""

    start: int
    stop: int

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """Return x[:, start:stop]."""
        return x[:, self.start : self.stop]


@dataclass(frozen=True)
class Permute:
    """Axes of a sample in a new order; `order` counts from 1, as Keras does."""

    order: tuple[int, ...]

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """Return x with its sample axes permuted."""
        return tf.transpose(x, (0, *self.order))


@dataclass(frozen=True)
class ZeroPad:
    """Zeros around the axes between samples and channels: ((before, after), ...)."""

    widths: tuple[tuple[int, int], ...]

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """Return the padded x."""
        return tf.pad(x, ((0, 0), *self.widths, (0, 0)))


@dataclass(frozen=True)
class Crop:
    """Cuts cells off the axes between samples and channels: ((before, after), ...)."""

    widths: tuple[tuple[int, int], ...]

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """Return the cropped x."""
        cut = [
            slice(before, size - after)
            for (before, after), size in zip(self.widths, x.shape[1:-1], strict=True)
        ]
        return x[(slice(None), *cut, slice(None))]


@dataclass(frozen=True)
class Upsample:
    """Repeats cells (nearest neighbour) along the axes between samples and channels."""

    factors: tuple[int, ...]

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """Return the enlarged x."""
        for axis, factor in enumerate(self.factors, start=1):
            x = tf.repeat(x, factor, axis=axis)
        return x


@dataclass(frozen=True)
class MaxPool:
    """Largest value of each window; relevance goes to the winner."""

    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """Return the maxima of x (samples, *axes, channels)."""
        return pool(tf.nn.max_pool2d, x, self.window, self.strides, self.padding)


@dataclass(frozen=True)
class GlobalMax:
    """Largest value over all axes between samples and channels; ties share equally."""

    keepdims: bool = False

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """Return the maxima of x (samples, *axes, channels)."""
        return tf.reduce_max(x, axis=list(range(1, x.shape.rank - 1)), keepdims=self.keepdims)


AffineRoute = Identity | Reshape | Slice | Permute | ZeroPad | Crop | Upsample
Route = AffineRoute | MaxPool | GlobalMax


# --------------------------------------------------------------------------- the rest


@dataclass(frozen=True, eq=False)
class ActivationLayer:
    """A Keras layer that applies a function with parameters: class name, configuration and weights."""

    class_name: str
    config: Mapping[str, Any]
    weights: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Activation:
    """An elementwise function named as Keras names it.

    `name` is "relu" only for the plain function (no upper limit, no slope below 0).
    The linear activation is an `Identity`. `layer` names the Keras layer that applies the function where it
    has parameters, which the name does not tell.
    """

    name: str
    function: Callable[[tf.Tensor], tf.Tensor] = field(compare=False)
    layer: ActivationLayer | None = field(default=None, compare=False)

    def forward(self, x: tf.Tensor) -> tf.Tensor:
        """Return the activation of x."""
        return self.function(x)

    @property
    def is_custom(self) -> bool:
        """Whether the function is the user's own, which may do anything, run Python code for one."""
        return self.name.startswith("custom:") and self.layer is None

    @property
    def passes_relevance(self) -> bool:
        """Whether LRP hands relevance through unchanged."""
        return self.name == "relu"


@dataclass(frozen=True)
class Add:
    """Sum of all inputs times `factor`, which is 1 / (number of inputs) for their average."""

    factor: float = 1.0

    def forward(self, *values: tf.Tensor) -> tf.Tensor:
        """Return the sum times the factor."""
        total = functools.reduce(operator.add, values)
        return total if self.factor == 1 else total * self.factor


@dataclass(frozen=True)
class Concatenate:
    """All inputs side by side along `axis` (counted with the sample axis)."""

    axis: int

    def forward(self, *values: tf.Tensor) -> tf.Tensor:
        """Return the concatenation."""
        return tf.concat(values, axis=self.axis)


@dataclass(frozen=True)
class Source:
    """An input of the network."""


Operation = Source | Linear | Route | Activation | Add | Concatenate


@dataclass(frozen=True, eq=False)
class Node:
    """One operation of the graph.

    Attributes
    ----------
    name : str
        Name of the Keras layer it comes from; nested models give "outer/inner".
    op : Operation
        What it computes.
    inputs : tuple of int
        Positions of its inputs among the graph's nodes.
    shape : tuple of int
        Shape of its output without the sample axis.
    nonnegative : bool
        True where the output cannot be negative, whatever the input.
    """

    name: str
    op: Operation
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    nonnegative: bool = False


@dataclass(frozen=True, eq=False)
class Graph:
    """A Keras network as typed nodes in computing order.

    Attributes
    ----------
    nodes : tuple of Node
        Inputs first; every node stands after the nodes it reads.
    sources, outputs : tuple of int
        Positions of the network's inputs and of its outputs. A final softmax or sigmoid is not part
        of the graph: the output is its logit.
    final_activations : tuple of (str or None)
        For each output the name of the activation that was taken off.
    """

    nodes: tuple[Node, ...]
    sources: tuple[int, ...]
    outputs: tuple[int, ...]
    final_activations: tuple[str | None, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample of the only input; `ModelError` where there are several."""
        if len(self.sources) != 1:
            raise ModelError(
                f"the model has {len(self.sources)} inputs: only models of one input can be explained; "
                "concatenate the inputs into one, or explain a sub-model of one input"
            )
        return self.nodes[self.sources[0]].shape

    def multiply_adds(self, positions: Collection[int] | None = None) -> int:
        """Return how many multiplications and additions one sample takes in the layers with weights.

        Only the nodes at `positions` count where they are given. Weights that scale single numbers (batch
        normalisation) do not count; of transposed convolutions those at the border that are cut off do.
        """
        return sum(
            int(node.op.kernel.size) * int(np.prod(self._places(node), dtype=int))
            for position, node in enumerate(self.nodes)
            if isinstance(node.op, Linear) and node.op.kernel.ndim > 1
            if positions is None or position in positions
        )

    def _places(self, node: Node) -> tuple[int, ...]:
        """Return the shape of the places where a node's kernel is applied."""
        transposed = isinstance(node.op.map, TransposedConvolution)
        return (self.nodes[node.inputs[0]] if transposed else node).shape[:-1]

    @property
    def first_layers(self) -> tuple[int, ...]:
        """Positions of the dense and convolution layers that read nothing but the input.

        Routes, pooling, sums and unfolded batch normalisation may lie between.
        """
        return self._first_layers(lambda op: not isinstance(op, Activation))

    @property
    def first_layers_of_innvestigate(self) -> tuple[int, ...]:
        """Positions of the `first_layers` with nothing but reshaping and permuting between the input and them.

        These alone get the rule of the input layer in iNNvestigate (``is_input_layer`` of its checks).
        """
        return self._first_layers(lambda op: isinstance(op, Identity | Reshape | Slice | Permute))

    def _first_layers(self, may_lie_between: Callable[[Operation], bool]) -> tuple[int, ...]:
        reads_input = set(self.sources)
        found = []
        for position, node in enumerate(self.nodes):
            if not node.inputs or not reads_input.issuperset(node.inputs):
                continue
            weighted = isinstance(node.op, Linear) and isinstance(node.op.map, Weighted)
            if weighted:
                found.append(position)
            elif may_lie_between(node.op):
                reads_input.add(position)
        return tuple(found)

    @functools.cached_property
    def affine(self) -> frozenset[int]:
        """Positions of the nodes whose values are affine functions of the input."""
        found: set[int] = set()
        for position, node in enumerate(self.nodes):
            affine = isinstance(node.op, Source | Linear | AffineRoute | Add | Concatenate)
            if affine and found.issuperset(node.inputs):
                found.add(position)
        return frozenset(found)

    @functools.cached_property
    def cut(self) -> tuple[int, ...]:
        """Positions of the affine nodes that others, or nobody (outputs), read: where the front ends."""
        read = {i for p, node in enumerate(self.nodes) if p not in self.affine for i in node.inputs}
        return tuple(sorted(self.affine & (read | set(self.outputs))))


@dataclass(eq=False)
class Evaluator:
    """The graph with its weights as tensors of one dtype, ready to compute.

    Parameters
    ----------
    graph : Graph
        The network.
    dtype : str
        "float32" or "float64".
    derived : dict
        Tensors that methods have made of the weights (such as their positive parts), shared by all who
        use this evaluator.
    """

    graph: Graph
    dtype: str = "float32"
    kernels: dict[int, tf.Tensor] = field(init=False, repr=False)
    biases: dict[int, tf.Tensor] = field(init=False, repr=False)
    derived: dict[tuple, tf.Tensor | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        linear = {i: n.op for i, n in enumerate(self.graph.nodes) if isinstance(n.op, Linear)}
        self.kernels = {i: tf.constant(op.kernel, self.dtype) for i, op in linear.items()}
        self.biases = {i: tf.constant(op.bias, self.dtype) for i, op in linear.items() if op.bias is not None}

    def with_biases(self, biases: dict[int, tf.Tensor]) -> Evaluator:
        """Return the same network with other biases at some linear nodes, also one for each sample (samples, ...)."""
        other = copy.copy(self)
        other.biases = self.biases | biases
        return other

    def forward(
        self, *inputs: tf.Tensor, relu: Callable[[tf.Tensor], tf.Tensor] | None = None
    ) -> tuple[list[tf.Tensor], dict[int, tf.Tensor]]:
        """Compute all nodes.

        Parameters
        ----------
        *inputs : tf.Tensor
            One tensor (samples, ...) per input of the network, in the evaluator's dtype.
        relu : callable, optional
            Takes the place of the ReLU; for methods that change its gradient.

        Returns
        -------
        values : list of tf.Tensor
            The output of every node.
        products : dict
            For linear nodes the product with the kernel, before the bias is added.
        """
        values: list[tf.Tensor] = []
        products: dict[int, tf.Tensor] = {}
        given = dict(zip(self.graph.sources, inputs, strict=True))
        for position, node in enumerate(self.graph.nodes):
            if isinstance(node.op, Source):
                values.append(given[position])
                continue
            value, product = self._node(position, [values[i] for i in node.inputs], relu)
            values.append(value)
            if product is not None:
                products[position] = product
        return values, products

    def _node(
        self, position: int, arguments: list[tf.Tensor], relu: Callable[[tf.Tensor], tf.Tensor] | None = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Return a node's value, and for a linear node the product with its kernel."""
        op = self.graph.nodes[position].op
        if isinstance(op, Linear):
            product = op.map(arguments[0], self.kernels[position])
            return self._with_bias(position, product), product
        if relu is not None and isinstance(op, Activation) and op.name == "relu":
            return relu(arguments[0]), None
        return op.forward(*arguments), None

    def _with_bias(self, position: int, product: tf.Tensor) -> tf.Tensor:
        bias = self.biases.get(position)
        if bias is None:
            return product
        # TensorFlow computes a product, a bias for each channel and a ReLU in one kernel
        return tf.nn.bias_add(product, bias) if bias.shape.rank == 1 else product + bias

    def front(self, *inputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Compute the affine front of the network: the values at `Graph.cut`.

        What a method does along lines and sums of inputs can be done behind the front, once in place of
        once per point.
        """
        values = dict(zip(self.graph.sources, inputs, strict=True))
        for position in sorted(self.graph.affine - set(values)):
            values[position], _ = self._node(position, [values[i] for i in self.graph.nodes[position].inputs])
        return tuple(values[i] for i in self.graph.cut)

    def rest(self, *cut: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Compute the outputs from the values at `Graph.cut`: rest(*front(x)) is the network."""
        values = dict(zip(self.graph.cut, cut, strict=True))
        for position, node in enumerate(self.graph.nodes):
            if position not in self.graph.affine:
                values[position], _ = self._node(position, [values[i] for i in node.inputs])
        return tuple(values[i] for i in self.graph.outputs)

    def __call__(self, *inputs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Return the network's outputs (logits where a final softmax or sigmoid was taken off)."""
        return self.rest(*self.front(*inputs))
