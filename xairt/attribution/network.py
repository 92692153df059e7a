"""A Keras model as the explainers see it: a differentiable function to the explained outputs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import tensorflow as tf

from xairt.errors import ModelError
from xairt.models.graph import Evaluator, Graph, convert

log = logging.getLogger(__name__)

Outputs = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]
"""A function from samples (n, ...) to the network's outputs, with logits for a final softmax or sigmoid."""


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
    keras_outputs : callable
        The same function computed by Keras, in float32.
    evaluators : dict
        The graph with weights of each dtype used so far.
    """

    name: str
    input_shape: tuple[int, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    final_activation: str | None
    graph: Graph | None
    obstacle: ModelError | None
    keras_outputs: Outputs
    evaluators: dict[str, Evaluator] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, model: tf.keras.Model) -> Network:
        """Convert a model; where that is impossible keep the reason and let Keras compute."""
        try:
            graph, obstacle = convert(model), None
        except ModelError as error:
            graph, obstacle = None, error
        outputs, removed = _logit_model(model)
        if graph is not None:
            input_shape = graph.input_shape
            removed = graph.final_activations[0]
            shapes = tuple(graph.nodes[i].shape for i in graph.outputs)
        else:
            input_shape, shapes = _shapes(model)
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

    def require_graph(self) -> Graph:
        """Return the canonical graph, or raise the reason why there is none."""
        if self.graph is None:
            raise self.obstacle
        return self.graph


def _shapes(model: tf.keras.Model) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    shape = model.input_shape if model.built else None
    if not isinstance(shape, tuple) or None in shape[1:]:
        raise ModelError(
            f"model '{model.name}' takes inputs of shape {shape}: only models of one input of known size can be "
            "explained; fix the size, or wrap the model in a Functional model of one input"
        )
    outputs = model.output_shape if isinstance(model.output_shape, list) else [model.output_shape]
    return shape[1:], tuple(tuple(s[1:]) for s in outputs)


def _logit_model(model: tf.keras.Model) -> tuple[Outputs, str | None]:
    """Return the function to the logits of an unconverted model, and the activation taken off.

    Only the last layer of a Sequential or Functional model of one output can be taken apart; the
    model itself is not changed. Anything else is explained at its output as it stands.
    """
    layer = model.layers[-1] if getattr(model, "layers", None) else None
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", None)
    if isinstance(layer, tf.keras.layers.Softmax):
        name = "softmax"
    known_end = getattr(model, "_is_graph_network", False) and len(model.outputs) == 1
    if name not in ("softmax", "sigmoid") or not known_end or model.outputs[0] is not layer.output:
        return lambda x: tuple(tf.nest.flatten(model(x, training=False))), None
    before = tf.keras.Model(model.inputs, layer.input)
    if isinstance(layer, tf.keras.layers.Activation | tf.keras.layers.Softmax):
        return lambda x: (before(x, training=False),), name
    linear = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    linear.build(layer.input_shape)
    linear.set_weights(layer.get_weights())
    return lambda x: (linear(before(x, training=False)),), name
