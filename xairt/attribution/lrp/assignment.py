"""Which rule serves which layer of a network."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from xairt.attribution.lrp.rules import Choice, Composite, Rule, with_canonical_bias, z
from xairt.errors import MethodError, UnsupportedLayerError
from xairt.models.graph.nodes import (
    Activation,
    Add,
    AnyConvolution,
    AveragePool,
    Dense,
    GlobalAverage,
    GlobalMax,
    Graph,
    Linear,
    MaxPool,
    Node,
)
from xairt.models.support import ANY_MODEL

if TYPE_CHECKING:
    import pandas as pd

POOLING = z("ignore")
"""Rule of average pooling where no choice gives it another one: in proportion to the inputs."""

WEIGHTED = ("dense", "convolution")
"""Kinds of layers that a position counts."""

SHOWN_LAYERS = 20

POOLING_HINT = "; entries for average pooling need layer='pooling'"
MAX_POOLING_HINT = (
    "; layer='pooling' means average pooling: in max pooling the winner takes all, without a rule"
)


def kind(node: Node) -> str:
    """Return the kind of a linear node: dense, convolution, pooling or batch_normalization."""
    if isinstance(node.op.map, AveragePool | GlobalAverage):
        return "pooling"
    if isinstance(node.op.map, AnyConvolution):
        return "convolution"
    return "dense" if isinstance(node.op.map, Dense) else "batch_normalization"


def assign(graph: Graph, composite: Composite, first_layers: tuple[int, ...]) -> dict[int, Rule]:
    """Return the rule of every linear node by its position.

    Parameters
    ----------
    graph : Graph
        The network.
    composite : Composite
        The rules and which layers they are for.
    first_layers : tuple of int
        Positions of the layers that count as first ones, such as `Graph.first_layers`.

    Raises
    ------
    UnsupportedLayerError
        If an activation on the way is neither ReLU nor linear.
    MethodError
        If no layer fulfils a choice of the user's, or one that does not read the input would get the
        bounded rule.
    """
    _check_activations(graph)
    kinds = {i: kind(node) for i, node in enumerate(graph.nodes) if isinstance(node.op, Linear)}
    first, last = set(first_layers), _last_layers(graph, kinds)
    served = [_serves(choice, graph, kinds, first, last) for choice in composite.choices]
    assigned = {}
    for position in kinds:
        choice = next(
            (c for c, found in zip(composite.choices, served, strict=True) if position in found), None
        )
        rule = _rule(kinds[position], choice, composite.default)
        if rule.name == "bounded" and position not in first:
            raise MethodError(
                f"layer '{graph.nodes[position].name}' does not read the input, and the bounded rule is for layers "
                "that do: give it with layer='first'"
            )
        assigned[position] = rule
    return assigned


def layer_rules(graph: Graph, composite: Composite, first_layers: tuple[int, ...]) -> pd.DataFrame:
    """Return which layer gets which rule, from the input to the output.

    Columns: layer (name), kind, shape (of its output, without the sample axis), rule (with parameters).
    Besides the layers that a rule serves, max pooling and additions are listed, whose rules are fixed.
    Parameters as of `assign`.

    Raises
    ------
    UnsupportedLayerError, MethodError
        As `assign`.
    """
    import pandas as pd

    rules, rows = assign(graph, composite, first_layers), []
    for position, node in enumerate(graph.nodes):
        if position in rules:
            rows.append((node.name, kind(node), node.shape, str(rules[position])))
        elif isinstance(node.op, MaxPool | GlobalMax):
            rows.append((node.name, "max_pooling", node.shape, "winner takes all"))
        elif isinstance(node.op, Add):
            rows.append((node.name, "add", node.shape, "z over branches"))
    return pd.DataFrame(rows, columns=["layer", "kind", "shape", "rule"])


def _check_activations(graph: Graph) -> None:
    for node in graph.nodes:
        if isinstance(node.op, Activation) and not node.op.passes_relevance:
            raise UnsupportedLayerError(
                f"layer '{node.name}' has the activation '{node.op.name.removeprefix('custom:')}': LRP passes "
                f"relevance through ReLU and linear only (softmax and sigmoid at the model's end); {ANY_MODEL} do work"
            )


def _last_layers(graph: Graph, kinds: dict[int, str]) -> set[int]:
    """Return the positions of the weighted layers that no other weighted layer depends on."""
    weighted = {i for i, name in kinds.items() if name in WEIGHTED}
    read: set[int] = set()
    for position in reversed(range(len(graph.nodes))):
        if position in weighted or position in read:
            read.update(graph.nodes[position].inputs)
    return weighted - read


def _serves(choice: Choice, graph: Graph, kinds: dict[int, str], first: set[int], last: set[int]) -> set[int]:
    """Return the positions of the layers that fulfil all conditions of a choice."""
    if choice.layer is None:
        found = {i for i, name in kinds.items() if name != "pooling"}
    else:
        places = {"first": first, "last": last}
        found = places.get(choice.layer, {i for i, name in kinds.items() if name == choice.layer})
    if choice.name is not None:
        found = {i for i in found if fnmatchcase(graph.nodes[i].name, choice.name)}
    if choice.index is not None:
        found &= _counted([i for i, name in kinds.items() if name in WEIGHTED], choice)
    if choice.origin and not found:
        layers = [f"{name} '{graph.nodes[i].name}'" for i, name in kinds.items()]
        hint = ""
        if choice.layer is None and "pooling" in kinds.values():
            hint = POOLING_HINT
        elif choice.layer == "pooling" and any(isinstance(n.op, MaxPool | GlobalMax) for n in graph.nodes):
            hint = MAX_POOLING_HINT
        more = f" and {len(layers) - SHOWN_LAYERS} more" if len(layers) > SHOWN_LAYERS else ""
        raise MethodError(
            f"{choice.origin} is for no layer of the model: it has {', '.join(layers[:SHOWN_LAYERS])}{more}{hint}"
        )
    return found


def _counted(weighted: list[int], choice: Choice) -> set[int]:
    """Return the weighted layers at the places that a choice names; a range may reach beyond the last one."""
    if isinstance(choice.index, slice):
        return set(weighted[choice.index])
    places = (choice.index,) if isinstance(choice.index, int) else choice.index
    count = len(weighted)
    missing = [place for place in places if not -count <= place < count]
    if missing:
        raise MethodError(
            f"{choice.origin}: the model has {count} dense and convolution layers, and none at {missing[0]}: "
            f"choose {-count} to {count - 1}"
        )
    return {weighted[place] for place in places}


def _rule(kind_of_layer: str, choice: Choice | None, default: Rule) -> Rule:
    if choice is None and kind_of_layer == "pooling":
        return POOLING
    rule = default if choice is None else choice.rule
    asked_for = choice is not None and choice.layer == "batch_normalization"
    return with_canonical_bias(rule) if kind_of_layer == "batch_normalization" and not asked_for else rule
