"""Methods that look inside: gradients with a changed ReLU, and class activation maps."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from pydantic import Field

from xairt.attribution.blocks import Block, BlockMethod, Explained, Setting
from xairt.attribution.parameters import Parameters
from xairt.errors import MethodError, UnsupportedLayerError, suggest
from xairt.models.graph.nodes import Activation, AnyConvolution, Graph, Linear

Relu = Callable[[tf.Tensor], tf.Tensor]


@tf.custom_gradient
def deconvnet_relu(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """ReLU whose gradient passes what is positive of the arriving gradient (Zeiler and Fergus 2014)."""
    return tf.nn.relu(x), tf.nn.relu


@tf.custom_gradient
def guided_relu(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """ReLU whose gradient passes what is positive, where x is positive too (Springenberg et al. 2015)."""
    return tf.nn.relu(x), lambda upstream: tf.where(x > 0, tf.nn.relu(upstream), tf.zeros_like(x))


def _with_relu(relu: Relu) -> Callable[[Setting, Parameters], BlockMethod]:
    def build(setting: Setting, parameters: Parameters) -> BlockMethod:
        graph = setting.network.require_graph()
        _require_relu(graph)
        evaluator = setting.network.evaluator(setting.dtype)

        def explain(block: Block) -> Explained:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(block.x)
                values, _ = evaluator.forward(block.x, relu=relu)
                outputs = tuple(values[i] for i in graph.outputs)
                scalar = setting.target.select(outputs, block.indices)
            # iNNvestigate sends the output itself back, the papers send 1
            upstream = scalar if setting.convention == "innvestigate" else tf.ones_like(scalar)
            return Explained(tape.gradient(scalar, block.x, upstream, unconnected_gradients="zero"))

        return explain

    return build


deconvnet = _with_relu(deconvnet_relu)
"""Gradient with the ReLU of `deconvnet_relu`."""

guided_backprop = _with_relu(guided_relu)
"""Gradient with the ReLU of `guided_relu`."""


def _require_relu(graph: Graph) -> None:
    for node in graph.nodes:
        if isinstance(node.op, Activation) and node.op.name != "relu":
            raise UnsupportedLayerError(
                f"layer '{node.name}' has the activation '{node.op.name.removeprefix('custom:')}': deconvnet and "
                "guided_backprop change the gradient of ReLU only; gradient and smoothgrad do work"
            )


class GradCamParameters(Parameters):
    """Parameters of Grad-CAM."""

    layer: str | None = Field(None, description="name of the convolution layer; None takes the last one")


def grad_cam(setting: Setting, parameters: GradCamParameters) -> BlockMethod:
    """Class activation map of a convolution layer (Selvaraju et al. 2017, arXiv:1610.02391, eqs 1 and 2).

    The mean gradient of each channel weighs its activations; the positive part of their sum is resized
    bilinearly to the input and given to every channel alike.
    """
    setting.network.require_one_input("grad_cam", "use input_t_gradient")
    graph = setting.network.require_graph()
    position = _activation_position(graph, parameters.layer)
    shape = setting.network.input_shape
    if len(shape) != 3:
        raise MethodError(
            f"grad_cam: samples of shape {shape} have no rows and columns: use input_t_gradient"
        )

    def explain(block: Block) -> Explained:
        channels = block.values[position]
        weights = tf.reduce_mean(block.tape.gradient(block.value, channels), axis=(1, 2), keepdims=True)
        coarse = tf.nn.relu(tf.reduce_sum(weights * channels, axis=-1, keepdims=True))
        fine = tf.cast(tf.image.resize(coarse, shape[:2]), coarse.dtype)
        return Explained(tf.zeros_like(block.x) + fine)

    return explain


def _activation_position(graph: Graph, layer: str | None) -> int:
    """Return the position of a convolution layer's output, behind its activation."""
    found = [
        i
        for i, node in enumerate(graph.nodes)
        if isinstance(node.op, Linear) and isinstance(node.op.map, AnyConvolution) and len(node.shape) == 3
    ]
    if not found:
        raise MethodError("grad_cam: the model has no 2-D convolution: use input_t_gradient")
    names = [graph.nodes[i].name for i in found]
    if layer is not None and layer not in names:
        raise MethodError(
            f"grad_cam: '{layer}' is no convolution layer of the model: it has {', '.join(names)}{suggest(layer, names)}"
        )
    position = found[-1] if layer is None else found[names.index(layer)]
    followers = [
        i for i, n in enumerate(graph.nodes) if n.inputs == (position,) and isinstance(n.op, Activation)
    ]
    return followers[0] if followers else position
