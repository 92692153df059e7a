"""Several inputs as one vector: input 1's features, then input 2's, and so on.

A packed network has one input like any other, so that every method, baseline, noise and ledger works on it
unchanged; slices hand each part to the layers that read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from xairt.models.graph.nodes import Graph, Node, Reshape, Slice, Source

PACKED = "packed inputs"
"""Name of the node that holds the vector."""

Shape = tuple[int, ...]


def spans(shapes: Sequence[Shape]) -> Iterator[tuple[int, int]]:
    """Yield where each input's features begin and end (not included) in the vector.

    Examples
    --------
    >>> list(spans([(3,), (2, 4)]))
    [(0, 3), (3, 11)]
    """
    start = 0
    for shape in shapes:
        stop = start + int(np.prod(shape))
        yield start, stop
        start = stop


def pack(graph: Graph) -> Graph:
    """Return the same network with one input: the vector of all inputs' features.

    Parameters
    ----------
    graph : Graph
        Of one or more inputs.

    Returns
    -------
    Graph
        One source of shape (total,); for every source of `graph` a slice of it, and a reshape where that
        source is no vector. All other nodes, outputs and final activations are kept, in their order.
    """
    shapes = [graph.nodes[i].shape for i in graph.sources]
    parts = list(spans(shapes))
    nodes = [Node(PACKED, Source(), (), (parts[-1][1],))]
    place: dict[int, int] = {}
    for position, shape, (start, stop) in zip(graph.sources, shapes, parts, strict=True):
        name = graph.nodes[position].name
        nodes.append(Node(name, Slice(start, stop), (0,), (stop - start,)))
        if len(shape) != 1:
            nodes.append(Node(name, Reshape(shape), (len(nodes) - 1,), shape))
        place[position] = len(nodes) - 1
    for position, node in enumerate(graph.nodes):
        if position not in place:
            place[position] = len(nodes)
            nodes.append(replace(node, inputs=tuple(place[i] for i in node.inputs)))
    outputs = tuple(place[i] for i in graph.outputs)
    return Graph(tuple(nodes), (0,), outputs, graph.final_activations)


def unpack(x: tf.Tensor, shapes: Sequence[Shape]) -> list[tf.Tensor]:
    """Return each input (samples, *shape) of packed samples (samples, total)."""
    parts = zip(shapes, spans(shapes), strict=True)
    return [tf.reshape(x[:, start:stop], (-1, *shape)) for shape, (start, stop) in parts]
