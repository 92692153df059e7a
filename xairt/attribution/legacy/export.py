"""The canonical graph as plain layer descriptions that any Keras 2 can build."""

from __future__ import annotations

from typing import Any

import numpy as np

from xairt.errors import UnsupportedLayerError
from xairt.models.graph.nodes import (
    Activation,
    Add,
    AveragePool,
    Concatenate,
    Convolution,
    Crop,
    Dense,
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
    Upsample,
    ZeroPad,
)

Description = dict[str, Any]
PEER_ENGINES = "'innvestigate', 'deeplift' or 'shap'"


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
        axes = len(graph.nodes[node.inputs[0]].shape) - 1 if node.inputs else 0
        name, config, arrays = _layer(node, axes, "relu" if relu else "linear")
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


def _merged(graph: Graph, readers: list[list[int]], position: int) -> bool:
    """Return whether a node is a ReLU that is written into the weighted layer before it."""
    node = graph.nodes[position]
    if not (isinstance(node.op, Activation) and node.op.name == "relu"):
        return False
    before = node.inputs[0]
    op = graph.nodes[before].op
    weighted = isinstance(op, Linear) and isinstance(op.map, Dense | Convolution)
    return weighted and readers[before] == [position] and before not in graph.outputs


def _layer(node: Node, axes: int, activation: str) -> tuple[str, dict[str, Any], list[np.ndarray]]:
    """Return class, config and weights of a node whose input has `axes` axes before the channels."""
    op = node.op
    if isinstance(op, Linear):
        return _linear(node, op, axes, activation)
    if isinstance(op, Source):
        return "Input", {"shape": node.shape}, []
    if isinstance(op, Activation):
        _refuse_custom(node, op)
        return "Activation", {"activation": op.name}, []
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
        return "Add", {}, []
    if isinstance(op, Concatenate):
        return "Concatenate", {"axis": op.axis}, []
    raise _refused(node)


def _linear(
    node: Node, op: Linear, axes: int, activation: str
) -> tuple[str, dict[str, Any], list[np.ndarray]]:
    arrays = [op.kernel] if op.bias is None else [op.kernel, op.bias]
    shared = {"use_bias": op.bias is not None, "activation": activation}
    if isinstance(op.map, Dense):
        return "Dense", {"units": op.kernel.shape[-1], **shared}, arrays
    if isinstance(op.map, Convolution):
        window = op.kernel.shape[:-2]
        config = {
            "filters": op.kernel.shape[-1],
            "kernel_size": window,
            "strides": op.map.strides,
            "padding": op.map.padding,
            "dilation_rate": op.map.dilation,
        }
        return f"Conv{len(window)}D", config | shared, arrays
    if isinstance(op.map, AveragePool):
        return f"AveragePooling{axes}D", _pool(op.map), []
    if isinstance(op.map, GlobalAverage) and not op.map.keepdims:
        return f"GlobalAveragePooling{axes}D", {}, []
    raise _refused(node)


def _pool(op: AveragePool | MaxPool) -> dict[str, Any]:
    return {"pool_size": _size(op.window), "strides": _size(op.strides), "padding": op.padding}


def _size(values: tuple[int, ...]) -> int | tuple[int, ...]:
    """Return one number for 1-D layers, as Keras wants it."""
    return values if len(values) > 1 else values[0]


def _refuse_custom(node: Node, op: Activation) -> None:
    if op.name.startswith("custom:"):
        raise _refused(node)


def _refused(node: Node) -> UnsupportedLayerError:
    kind = type(node.op.map if isinstance(node.op, Linear) else node.op).__name__
    return UnsupportedLayerError(
        f"layer '{node.name}' ({kind}) cannot be handed to engine {PEER_ENGINES}: use engine='native'"
    )
