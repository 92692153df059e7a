"""A Keras model as the explainers see it: a differentiable function to the explained outputs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import tensorflow as tf

from xairt.errors import ModelError
from xairt.models.graph import Evaluator, Graph, convert
from xairt.models.graph.convert import FINAL_ACTIVATIONS
from xairt.models.graph.nodes import Dense, Linear, Scale

log = logging.getLogger(__name__)

ACTIVATED_LAST = (
    *("Activation", "Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv3D"),
    *("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    *("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
)
"""Layers that apply their activation to their result; that of a recurrent layer works inside it."""

XLA_WEIGHTS = 20_000
"""Weights of a network of dense layers from which on XLA is worth its compilation."""

Outputs = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]
"""A function from samples (n, ...) to the network's outputs, with logits for a final softmax or sigmoid."""

Front = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]
"""The affine part of a network that reads the samples (n, ...), to the tensors where it ends."""

Rest = Callable[..., tuple[tf.Tensor, ...]]
"""What follows the front: from its tensors to the outputs."""


@dataclass(frozen=True, eq=False)
class Network:
    """One model, converted if it can be.

    Attributes
    ----------
    name : str
        Name of the Keras model.
    input_shape : tuple of int
        Shape of one sample.
    output_shapes : tuple of tuple of int
        Shape of each output without the sample axis.
    final_activation : str or None
        The softmax or sigmoid taken off the first output.
    graph : Graph or None
        The canonical graph; None where the model has none.
    obstacle : ModelError or None
        Why there is no graph.
    keras_outputs : callable or None
        Where there is no graph, the same function computed by Keras in float32.
    evaluators : dict
        The graph with weights of each dtype used so far.
    """

    name: str
    input_shape: tuple[int, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    final_activation: str | None
    graph: Graph | None
    obstacle: ModelError | None
    keras_outputs: Outputs | None
    evaluators: dict[str, Evaluator] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, model: tf.keras.Model) -> Network:
        """Convert a model; where that is impossible keep the reason and let Keras compute."""
        try:
            graph, obstacle = convert(model), None
        except ModelError as error:
            graph, obstacle = None, error
        if graph is not None:
            input_shape, outputs = graph.input_shape, None
            removed = graph.final_activations[0]
            shapes = tuple(graph.nodes[i].shape for i in graph.outputs)
        else:
            input_shape, shapes = _shapes(model)
            outputs, removed = _logit_model(model)
        if removed:
            log.info("model '%s' ends in %s: explained at its logit", model.name, removed)
        return cls(model.name, input_shape, shapes, removed, graph, obstacle, outputs)

    def evaluator(self, dtype: str) -> Evaluator:
        """Return the canonical graph with weights of the given dtype; `ModelError` where there is none."""
        if dtype not in self.evaluators:
            self.evaluators[dtype] = Evaluator(self.require_graph(), dtype)
        return self.evaluators[dtype]

    def outputs(self, dtype: str = "float32") -> Outputs:
        """Return the function to the outputs in the given dtype ("float64" needs the canonical graph)."""
        if self.graph is not None:
            return self.evaluator(dtype)
        if dtype != "float32":
            raise ModelError(f"dtype='{dtype}' needs the canonical graph, but {self.obstacle}")
        return self.keras_outputs

    def split(self, dtype: str = "float32") -> tuple[Front, Rest]:
        """Return the affine front of the network and the rest: outputs(x) = rest(*front(x)).

        Where there is no canonical graph the front hands the samples on.
        """
        if self.graph is None:
            return lambda x: (x,), self.outputs(dtype)
        evaluator = self.evaluator(dtype)
        return evaluator.front, evaluator.rest

    @property
    def compiles_by_xla(self) -> bool:
        """Whether XLA computes the network faster than TensorFlow's own kernels.

        So it does for dense layers of some size. Convolutions are slower there, and small networks are
        not worth the longer compilation.
        """
        linear = [node.op for node in self.graph.nodes if isinstance(node.op, Linear)] if self.graph else []
        weights = sum(op.kernel.size for op in linear)
        return weights >= XLA_WEIGHTS and all(isinstance(op.map, Dense | Scale) for op in linear)

    def require_graph(self) -> Graph:
        """Return the canonical graph, or raise the reason why there is none."""
        if self.graph is None:
            raise self.obstacle
        return self.graph


def _shapes(model: tf.keras.Model) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Return the shapes of one sample and of its outputs for a model without a canonical graph."""
    layered = getattr(model, "_is_graph_network", False)
    spec = model.inputs if layered else tf.nest.flatten((model.save_spec() or [()])[0])
    if not spec:
        raise ModelError(f"model '{model.name}' has never seen an input: call it once with samples")
    shape = tuple(spec[0].shape)[1:]
    if len(spec) > 1 or None in shape:
        raise ModelError(
            f"model '{model.name}' takes inputs of shape {' and '.join(str(tuple(s.shape)) for s in spec)}: "
            "only models of one input of known size can be explained; fix the size, or wrap the model in a "
            "Functional model of one input"
        )
    outputs = model.outputs if layered else tf.nest.flatten(model(tf.zeros((1, *shape)), training=False))
    return shape, tuple(tuple(output.shape)[1:] for output in outputs)


def _logit_model(model: tf.keras.Model) -> tuple[Outputs, str | None]:
    """Return the function to the logits of an unconverted model, and the activation taken off.

    Only the last layer of a Sequential or Functional model of one output can be taken apart; the
    model itself is not changed. Anything else is explained at its output as it stands.
    """
    known_end = getattr(model, "_is_graph_network", False) and len(model.outputs) == 1
    call = model.outputs[0].node if known_end else None
    name = _final_activation(call.layer) if known_end else None
    if name is None:
        return lambda x: tuple(tf.nest.flatten(model(x, training=False))), None
    before = tf.keras.Model(model.inputs, call.keras_inputs[0])
    if isinstance(call.layer, tf.keras.layers.Activation | tf.keras.layers.Softmax):
        return lambda x: (before(x, training=False),), name
    linear = copy.copy(
        call.layer
    )  # shares the weights; an assignment by Keras would count references in both
    object.__setattr__(linear, "activation", tf.keras.activations.linear)
    return lambda x: (linear.call(before(x, training=False)),), name


def _final_activation(layer: tf.keras.layers.Layer) -> str | None:
    """Return "softmax" or "sigmoid" where a layer of Keras applies it to its result as the last step."""
    if isinstance(layer, tf.keras.layers.Softmax):
        return "softmax" if layer.axis == -1 else None
    if type(layer).__name__ not in ACTIVATED_LAST or not type(layer).__module__.startswith("keras."):
        return None
    return next((n for n in FINAL_ACTIVATIONS if layer.activation is getattr(tf.keras.activations, n)), None)
