"""A Keras model as the explainers see it: a differentiable function to the explained outputs."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import tensorflow as tf

from xairt.errors import MethodError, ModelError
from xairt.models.graph import Evaluator, Graph, convert
from xairt.models.graph.convert import FINAL_ACTIVATIONS
from xairt.models.graph.nodes import Activation, Dense, Linear, Scale
from xairt.models.graph.packing import Shape, pack, spans, unpack

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
        Shape of one sample; with several inputs (total,), all their features as one vector.
    input_names : tuple of str
        Name of each input layer, in the model's order.
    input_shapes : tuple of tuple of int
        Shape of each input without the sample axis.
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
    parts : tuple of callable or None
        Where there is no graph, its affine front and the rest, if they are known.
    evaluators : dict
        The graph with weights of each dtype used so far.
    """

    name: str
    input_shape: tuple[int, ...]
    input_names: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    final_activation: str | None
    graph: Graph | None
    obstacle: ModelError | None
    keras_outputs: Outputs | None
    parts: tuple[Front, Rest] | None = None
    evaluators: dict[str, Evaluator] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, model: tf.keras.Model) -> Network:
        """Convert a model; where that is impossible keep the reason and let Keras compute."""
        try:
            graph, obstacle = convert(model), None
        except ModelError as error:
            graph, obstacle = None, error
        if graph is not None:
            names = tuple(graph.nodes[i].name for i in graph.sources)
            inputs = tuple(graph.nodes[i].shape for i in graph.sources)
            graph, outputs = (pack(graph) if len(names) > 1 else graph), None
            removed = graph.final_activations[0]
            shapes = tuple(graph.nodes[i].shape for i in graph.outputs)
        else:
            names, inputs = zip(*_inputs(model), strict=True)
            outputs, removed = _logit_model(model, inputs)
            shapes = _output_shapes(model, inputs)
        if removed:
            log.info("model '%s' ends in %s: explained at its logit", model.name, removed)
        packed = inputs[0] if len(inputs) == 1 else (list(spans(inputs))[-1][1],)
        return cls(model.name, packed, names, inputs, shapes, removed, graph, obstacle, outputs)

    @property
    def packed(self) -> bool:
        """Whether several inputs stand in one vector."""
        return len(self.input_names) > 1

    def require_one_input(self, what: str, remedy: str) -> None:
        """Raise `MethodError` if the model has several inputs, which `what` cannot explain."""
        if self.packed:
            raise MethodError(
                f"{what} takes models of one input, but model '{self.name}' has {len(self.input_names)} "
                f"({', '.join(self.input_names)}): {remedy}"
            )

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

        Where there is no canonical graph, nor known parts, the front hands the samples on.
        """
        if self.graph is None:
            outputs = self.outputs(dtype)
            return self.parts or (lambda x: (x,), outputs)
        evaluator = self.evaluator(dtype)
        return evaluator.front, evaluator.rest

    @property
    def compiles_by_xla(self) -> bool:
        """Whether XLA can compute the network, and does so faster than TensorFlow's own kernels.

        So it does for dense layers of some size. Convolutions are slower there, and small networks are
        not worth the longer compilation. Functions of the user may run Python code, which XLA cannot compile.
        """
        linear = [node.op for node in self.graph.nodes if isinstance(node.op, Linear)] if self.graph else []
        if sum(op.kernel.size for op in linear) < XLA_WEIGHTS:
            return False
        custom = any(isinstance(node.op, Activation) and node.op.is_custom for node in self.graph.nodes)
        return not custom and all(isinstance(op.map, Dense | Scale) for op in linear)

    def require_graph(self) -> Graph:
        """Return the canonical graph, or raise the reason why there is none."""
        if self.graph is None:
            raise self.obstacle
        return self.graph


def input_names(model: tf.keras.Model) -> tuple[str, ...]:
    """Return the names of a model's inputs, in its order: its input layers, or a dict's keys."""
    return tuple(name for name, _ in _inputs(model))


def _inputs(model: tf.keras.Model) -> list[tuple[str, Shape]]:
    """Return name and shape of each input, whether the model has a layer graph or not."""
    if _layered(model):
        found = [(t.node.layer.name, t.shape) for t in model.inputs]
    else:
        specs = tf.nest.flatten(_structure(model))
        names = [spec.name for spec in specs]
        if None in names or len(set(names)) < len(names):
            names = [f"input_{i}" for i in range(1, len(specs) + 1)]
        found = [(name, spec.shape) for name, spec in zip(names, specs, strict=True)]
    if not found:
        raise ModelError(f"model '{model.name}' has never seen an input: call it once with samples")
    if any(None in tuple(shape)[1:] for _, shape in found):
        raise ModelError(
            f"model '{model.name}' takes inputs of shape {' and '.join(str(tuple(s)) for _, s in found)}: "
            "only models whose inputs have a known size can be explained; fix the size"
        )
    return [(name, tuple(shape)[1:]) for name, shape in found]


def _layered(model: tf.keras.Model) -> bool:
    return getattr(model, "_is_graph_network", False)


def _structure(model: tf.keras.Model):
    """Return the inputs (list, dict, ...) that a model of its own class was called with."""
    specs = model.save_spec()
    return specs[0][0] if specs else ()


def _output_shapes(model: tf.keras.Model, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
    if _layered(model):
        outputs = model.outputs
    else:
        zeros = [tf.zeros((1, *shape)) for shape in inputs]
        outputs = tf.nest.flatten(_called(model, zeros))
    return tuple(tuple(output.shape)[1:] for output in outputs)


def _called(model: tf.keras.Model, inputs: list[tf.Tensor]):
    """Return the model's outputs; a model of its own class gets its inputs in the structure it knows."""
    if len(inputs) == 1:
        return model(inputs[0], training=False)
    given = inputs if _layered(model) else tf.nest.pack_sequence_as(_structure(model), inputs)
    return model(given, training=False)


def _logit_model(model: tf.keras.Model, inputs: tuple[Shape, ...]) -> tuple[Outputs, str | None]:
    """Return the function to the logits of an unconverted model, and the activation taken off.

    Only the last layer of a Sequential or Functional model of one output can be taken apart; the
    model itself is not changed. Anything else is explained at its output as it stands.
    """

    def parts(x: tf.Tensor) -> list[tf.Tensor]:
        return [x] if len(inputs) == 1 else unpack(x, inputs)

    known_end = _layered(model) and len(model.outputs) == 1
    call = model.outputs[0].node if known_end else None
    name = _final_activation(call.layer) if known_end else None
    if name is None:
        return lambda x: tuple(tf.nest.flatten(_called(model, parts(x)))), None
    before = tf.keras.Model(model.inputs, call.keras_inputs[0])
    if isinstance(call.layer, tf.keras.layers.Activation | tf.keras.layers.Softmax):
        return lambda x: (_called(before, parts(x)),), name
    linear = copy.copy(
        call.layer
    )  # shares the weights; an assignment by Keras would count references in both
    object.__setattr__(linear, "activation", tf.keras.activations.linear)
    return lambda x: (linear.call(_called(before, parts(x))),), name


def _final_activation(layer: tf.keras.layers.Layer) -> str | None:
    """Return "softmax" or "sigmoid" where a layer of Keras applies it to its result as the last step."""
    if isinstance(layer, tf.keras.layers.Softmax):
        return "softmax" if layer.axis == -1 else None
    if type(layer).__name__ not in ACTIVATED_LAST or not type(layer).__module__.startswith("keras."):
        return None
    return next((n for n in FINAL_ACTIVATIONS if layer.activation is getattr(tf.keras.activations, n)), None)
