"""The canonical graph as plain layer descriptions that any Keras 2 can build."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from xairt.errors import UnsupportedLayerError
from xairt.models.graph.nodes import (
    Activation,
    Add,
    AveragePool,
    Concatenate,
    Convolution,
    Crop,
    Dense,
    DepthwiseConvolution,
    GlobalAverage,
    GlobalMax,
    Graph,
    Identity,
    Linear,
    MaxPool,
    Node,
    Permute,
    Reshape,
    Source,
    TransposedConvolution,
    Upsample,
    Weighted,
    ZeroPad,
)

Description = dict[str, Any]
PEER_ENGINES = "'innvestigate', 'deeplift' or 'shap'"

Layer = tuple[str, dict[str, Any], list[np.ndarray]]
"""Class, configuration and weights."""


def describe(graph: Graph) -> tuple[list[Description], list[np.ndarray]]:
    """Describe a graph of one input and one output as Keras layers with their weights.

    A ReLU that alone follows a linear layer becomes that layer's activation, as such networks are
    usually written. Batch normalisation comes folded and a final softmax or sigmoid is left out, as the
    graph has it.

    Parameters
    ----------
    graph : Graph
        The network.

    Returns
    -------
    layers : list of dict
        ``class``, ``config``, ``inputs`` (positions in this list), ``n_weights``, and the ``name`` that
        the layer has in the model.
    weights : list of numpy.ndarray
        float32, in the order of the layers.

    Raises
    ------
    UnsupportedLayerError
        If a node has no plain Keras layer, or the graph has several inputs or outputs.
    """
    if len(graph.sources) != 1 or len(graph.outputs) != 1:
        raise UnsupportedLayerError(
            f"engine {PEER_ENGINES} takes models of one input and one output: use engine='native'"
        )
    readers = [[j for j, n in enumerate(graph.nodes) if i in n.inputs] for i in range(len(graph.nodes))]
    layers: list[Description] = []
    weights: list[np.ndarray] = []
    place: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        if isinstance(node.op, Identity) or _merged(graph, readers, position):
            place[position] = place[node.inputs[0]]
            continue
        follower = readers[position]
        relu = len(follower) == 1 and _merged(graph, readers, follower[0])
        shape = graph.nodes[node.inputs[0]].shape if node.inputs else ()
        name, config, arrays = _layer(node, shape, "relu" if relu else "linear")
        inputs = [place[i] for i in node.inputs]
        layers.append(
            {
                "class": name,
                "config": config,
                "inputs": inputs,
                "n_weights": len(arrays),
                "name": node.name,
            }
        )
        weights.extend(np.asarray(array, np.float32) for array in arrays)
        place[position] = len(layers) - 1
    return layers, weights


def refuse_for_innvestigate(graph: Graph) -> None:
    """Refuse layers that Keras can build and iNNvestigate 2.1.2 does not explain, or not as it defines LRP.

    Raises
    ------
    UnsupportedLayerError
        If a layer reads one tensor twice, is a grouped or depthwise convolution, or an average of branches.
    """
    for node in graph.nodes:
        reason, op = "", node.op
        if len(set(node.inputs)) < len(node.inputs):
            reason = "reads one tensor twice, which iNNvestigate counts wrongly"
        elif isinstance(op, Add) and op.factor != 1:
            reason = "is an average, which iNNvestigate shares equally, whatever the branches' values"
        elif isinstance(op, Linear) and isinstance(op.map, DepthwiseConvolution):
            reason = "is a depthwise convolution, which iNNvestigate's LRP does not take"
        elif isinstance(op, Linear) and getattr(op.map, "groups", 1) > 1:
            reason = "is a convolution in groups, of which TensorFlow has no gradient on the CPU"
        if reason:
            raise UnsupportedLayerError(f"layer '{node.name}' {reason}: use engine='native'")


def _merged(graph: Graph, readers: list[list[int]], position: int) -> bool:
    """Return whether a node is a ReLU that is written into the weighted layer before it."""
    node = graph.nodes[position]
    if not (isinstance(node.op, Activation) and node.op.name == "relu"):
        return False
    before = node.inputs[0]
    op = graph.nodes[before].op
    weighted = isinstance(op, Linear) and isinstance(op.map, Weighted)
    return weighted and readers[before] == [position] and before not in graph.outputs


def _layer(node: Node, shape: tuple[int, ...], activation: str) -> Layer:
    """Return the Keras layer of a node whose input has the given shape."""
    op, axes = node.op, len(shape) - 1
    if isinstance(op, Linear):
        return _linear(node, op, shape, activation)
    if isinstance(op, Source):
        return "Input", {"shape": node.shape}, []
    if isinstance(op, Activation):
        return _activation(node, op)
    if isinstance(op, Reshape):
        flat = len(op.shape) == 1
        return ("Flatten", {}, []) if flat else ("Reshape", {"target_shape": op.shape}, [])
    if isinstance(op, Permute):
        return "Permute", {"dims": op.order}, []
    if isinstance(op, ZeroPad | Crop):
        name, key = ("ZeroPadding", "padding") if isinstance(op, ZeroPad) else ("Cropping", "cropping")
        return f"{name}{len(op.widths)}D", {key: op.widths if len(op.widths) > 1 else op.widths[0]}, []
    if isinstance(op, Upsample):
        return f"UpSampling{len(op.factors)}D", {"size": _size(op.factors)}, []
    if isinstance(op, MaxPool):
        return f"MaxPooling{axes}D", _pool(op), []
    if isinstance(op, GlobalMax) and not op.keepdims:
        return f"GlobalMaxPooling{axes}D", {}, []
    if isinstance(op, Add):
        return "Add" if op.factor == 1 else "Average", {}, []
    if isinstance(op, Concatenate):
        return "Concatenate", {"axis": op.axis}, []
    raise _refused(node)


def _activation(node: Node, op: Activation) -> Layer:
    if op.layer is not None:
        return op.layer.class_name, dict(op.layer.config), list(op.layer.weights)
    if op.name not in ("relu", "softmax") and getattr(tf.keras.activations, op.name, None) is not op.function:
        raise _refused(node)
    return "Activation", {"activation": op.name}, []


def _linear(node: Node, op: Linear, shape: tuple[int, ...], activation: str) -> Layer:
    arrays = [op.kernel] if op.bias is None else [op.kernel, op.bias]
    shared = {"use_bias": op.bias is not None, "activation": activation}
    axes = len(shape) - 1
    if isinstance(op.map, Dense):
        return "Dense", {"units": op.kernel.shape[-1], **shared}, arrays
    if isinstance(op.map, Convolution):
        groups = {"groups": op.map.groups} if op.map.groups > 1 else {}  # unknown to older Keras
        return f"Conv{axes}D", {"filters": op.kernel.shape[-1]} | groups | _convolution(op) | shared, arrays
    if isinstance(op.map, DepthwiseConvolution) and op.map.padding != "causal":
        sizes = {"depth_multiplier": op.kernel.shape[-1]}
        return f"DepthwiseConv{axes}D", sizes | _convolution(op) | shared, arrays
    if isinstance(op.map, TransposedConvolution):
        sizes = {"filters": op.kernel.shape[-2], "output_padding": _output_padding(op, shape)}
        return f"Conv{axes}DTranspose", sizes | _convolution(op) | shared, arrays
    if isinstance(op.map, AveragePool):
        return f"AveragePooling{axes}D", _pool(op.map), []
    if isinstance(op.map, GlobalAverage) and not op.map.keepdims:
        return f"GlobalAveragePooling{axes}D", {}, []
    raise _refused(node)


def _convolution(op: Linear) -> dict[str, Any]:
    """Return what all kinds of convolution are configured by."""
    settings = {"kernel_size": op.kernel.shape[:-2], "strides": op.map.strides, "padding": op.map.padding}
    return settings | {"dilation_rate": op.map.dilation}


def _output_padding(op: Linear, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the output padding that gives a transposed convolution its size, None where it is Keras' own."""
    same, padding, own = op.map.padding == "same", [], []
    rows = zip(op.map.space, shape, op.kernel.shape, op.map.strides, op.map.dilation, strict=False)
    for size, before, cells, stride, gap in rows:
        reach = gap * (cells - 1) + 1
        own.append(size == before * stride + (0 if same else max(reach - stride, 0)))
        padding.append(size - (before - 1) * stride - reach + 2 * (reach // 2 if same else 0))
    return None if all(own) else tuple(padding)


def _pool(op: AveragePool | MaxPool) -> dict[str, Any]:
    return {"pool_size": _size(op.window), "strides": _size(op.strides), "padding": op.padding}


def _size(values: tuple[int, ...]) -> int | tuple[int, ...]:
    """Return one number for 1-D layers, as Keras wants it."""
    return values if len(values) > 1 else values[0]


def _refused(node: Node) -> UnsupportedLayerError:
    kind = type(node.op.map if isinstance(node.op, Linear) else node.op).__name__
    return UnsupportedLayerError(
        f"layer '{node.name}' ({kind}) cannot be handed to engine {PEER_ENGINES}: use engine='native'"
    )
