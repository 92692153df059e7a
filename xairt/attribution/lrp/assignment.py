"""Which rule serves which layer of a network."""

from __future__ import annotations

from xairt.attribution.lrp.rules import Composite, Rule
from xairt.errors import UnsupportedLayerError
from xairt.models.graph.nodes import (
    Activation,
    AnyConvolution,
    AveragePool,
    GlobalAverage,
    Graph,
    Linear,
    Scale,
)


def assign(graph: Graph, composite: Composite) -> dict[int, Rule]:
    """Return the rule of every linear node by its position.

    Raises
    ------
    UnsupportedLayerError
        If an activation on the way is neither ReLU nor linear.
    """
    for node in graph.nodes:
        if isinstance(node.op, Activation) and not node.op.passes_relevance:
            raise UnsupportedLayerError(
                f"layer '{node.name}' has the activation '{node.op.name.removeprefix('custom:')}': LRP passes "
                "relevance through ReLU and linear only (softmax and sigmoid at the model's end); gradient, "
                "saliency, input_t_gradient, integrated_gradients, smoothgrad and occlusion do work"
            )
    first = set(graph.first_layers) if composite.first is not None else set()
    assigned = {}
    for position, node in enumerate(graph.nodes):
        if not isinstance(node.op, Linear):
            continue
        if isinstance(node.op.map, AveragePool | GlobalAverage):
            assigned[position] = composite.pooling
        elif position in first:
            assigned[position] = composite.first
        elif composite.scale is not None and isinstance(node.op.map, Scale):
            assigned[position] = composite.scale
        elif composite.convolution is not None and isinstance(node.op.map, AnyConvolution):
            assigned[position] = composite.convolution
        else:
            assigned[position] = composite.default
    return assigned
