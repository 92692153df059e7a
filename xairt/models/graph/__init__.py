"""The canonical graph: a Keras network as typed nodes that every rule-based method consumes."""

from xairt.models.graph.convert import convert
from xairt.models.graph.nodes import Evaluator, Graph, Node, pull_back

__all__ = ["Evaluator", "Graph", "Node", "convert", "pull_back"]
