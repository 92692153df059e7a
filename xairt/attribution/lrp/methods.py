"""The LRP methods: the rules they put on each layer, and the explanation of a block of samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from xairt.attribution.blocks import Block, BlockMethod, Explained, Setting
from xairt.attribution.lrp import rules
from xairt.attribution.lrp.assignment import assign, layer_rules
from xairt.attribution.lrp.composites import CompositeParameters
from xairt.attribution.lrp.engine import LAYER_LEDGER, RelevancePass, totals
from xairt.attribution.lrp.parameters import (
    AlphaBetaParameters,
    BiasChoice,
    BiasParameters,
    Bounds,
    EpsilonParameters,
    GammaParameters,
    InputRule,
    LRPParameters,
    PresetParameters,
)
from xairt.attribution.network import Network
from xairt.attribution.parameters import Parameters
from xairt.errors import MethodError

if TYPE_CHECKING:
    import pandas as pd

INNVESTIGATE_ZERO_GUARD = 1e-7


def z(p: BiasParameters) -> rules.Composite:
    """Return the z rule for every layer."""
    return rules.Composite(rules.z(p.bias))


def epsilon(p: EpsilonParameters) -> rules.Composite:
    """Return the epsilon rule for every layer."""
    return rules.Composite(rules.epsilon(p.epsilon, p.bias))


def alpha_beta(p: AlphaBetaParameters) -> rules.Composite:
    """Return the alpha-beta rule for every layer."""
    return rules.Composite(rules.alpha_beta(p.alpha, p.beta, p.bias))


def z_plus_fast(p: LRPParameters) -> rules.Composite:
    """Return the z+ rule for inputs that are never negative, for every layer."""
    return rules.Composite(rules.z_plus_fast())


def w_square(p: LRPParameters) -> rules.Composite:
    """Return the w-square rule for every layer."""
    return rules.Composite(rules.w_square())


def flat(p: LRPParameters) -> rules.Composite:
    """Return the flat rule for every layer."""
    return rules.Composite(rules.flat())


def gamma(p: GammaParameters) -> rules.Composite:
    """Return the gamma rule for every layer."""
    return rules.Composite(rules.gamma(p.gamma, p.bias))


def deep_taylor(p: Parameters) -> rules.Composite:
    """Return deep Taylor decomposition (Montavon et al. 2017) as iNNvestigate has it.

    z+ without bias in weighted layers, the bounded rule at the input if bounds are given, equal shares in
    average pooling.
    """
    z_plus = rules.alpha_beta(1, 0, "ignore")
    first = (rules.Choice(rules.bounded(p.low, p.high), layer="first"),) if isinstance(p, Bounds) else ()
    pooling = rules.Choice(rules.flat(), layer="pooling")
    return rules.Composite(z_plus, (*first, pooling, rules.Choice(z_plus, layer="batch_normalization")))


def preset(
    alpha: float, beta: float, first: rules.Rule | None = None
) -> Callable[[PresetParameters], rules.Composite]:
    """Return a sequential preset: epsilon in dense layers, alpha-beta in convolutions."""
    at_input = () if first is None else (rules.Choice(first, layer="first"),)

    def composite(p: PresetParameters) -> rules.Composite:
        convolution = rules.Choice(rules.alpha_beta(alpha, beta, p.bias), layer="convolution")
        return rules.Composite(rules.epsilon(p.epsilon, p.bias), (*at_input, convolution))

    return composite


def composite(p: CompositeParameters) -> rules.Composite:
    """Return the rules that the user gave."""
    return p.composite()


def method(
    composite: Callable[[Any], rules.Composite], start: Callable[[tf.Tensor], tf.Tensor] = tf.identity
) -> Callable[[Setting, LRPParameters], BlockMethod]:
    """Return the builder of an LRP method from the rules it puts on the layers.

    `start` is applied to the explained output: what relevance starts from.
    """

    def build(setting: Setting, parameters: LRPParameters) -> BlockMethod:
        explain = with_ledger(setting, parameters, composite, start)

        def explain_without_layers(block: Block) -> Explained:
            return explain(block)[0]

        return explain_without_layers

    build.with_ledger = lambda setting, parameters: with_ledger(setting, parameters, composite, start)
    build.rules = lambda network, parameters: assign(
        network.require_graph(), *chosen_rules(network, parameters, composite, None)
    )
    build.layer_rules = lambda network, parameters, convention: layer_rules(
        network.require_graph(), *chosen_rules(network, parameters, composite, convention)
    )
    return build


def chosen_rules(
    network: Network,
    parameters: Parameters,
    composite: Callable[[Any], rules.Composite],
    convention: str | None,
) -> tuple[rules.Composite, tuple[int, ...]]:
    """Return a method's rules, with the input layer's rule where the parameters name one, and the first layers.

    These are `Graph.first_layers`; under the convention innvestigate those that this package takes for first
    ones, but not in `lrp.composite`, which it lacks. Where it finds none, it drops the input layer's rule.

    Raises
    ------
    MethodError
        If the parameters name a rule of the input layer and, without the convention, no layer is one.
    """
    chosen, graph = composite(parameters), network.require_graph()
    follows = convention == "innvestigate" and not isinstance(parameters, CompositeParameters)
    first = graph.first_layers_of_innvestigate if follows else graph.first_layers
    input_rule = getattr(parameters, "input_layer_rule", None)
    if input_rule is None:
        return chosen, first
    if not first and not follows:
        raise MethodError(
            f"model '{network.name}' has no weighted layer that reads the input alone and directly: "
            "leave input_layer_rule out"
        )
    at_input = rules.Choice(input_rule.rule(), layer="first")
    return replace(chosen, choices=(at_input, *chosen.choices)), first


def rules_of(
    network: Network,
    method: str,
    build: Callable | None,
    parameters: Parameters,
    convention: str | None = None,
) -> pd.DataFrame:
    """Return which layer of a network gets which rule from a method.

    Parameters
    ----------
    network : Network
        The converted model.
    method : str
        What an error calls the method.
    build : callable or None
        The method's builder of its native block function.
    parameters : Parameters
        The method's parameters.
    convention : str, optional
        The convention that is followed.

    Returns
    -------
    pandas.DataFrame
        See `xairt.attribution.lrp.assignment.layer_rules`.

    Raises
    ------
    MethodError
        If the method puts no rules on layers, or its rules do not fit the network.
    UnsupportedLayerError
        If a layer prevents LRP.
    """
    table = getattr(build, "layer_rules", None)
    if table is None:
        raise MethodError(f"{method} puts no rules on layers: only the native lrp methods and deep_taylor do")
    return table(network, parameters, convention)


def with_ledger(
    setting: Setting,
    parameters: LRPParameters,
    composite: Callable[[Any], rules.Composite],
    start: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> Callable[[Block], tuple[Explained, list[tuple[str, dict[str, tf.Tensor]]]]]:
    """Return the function from a block to its explanation and the ledger of every layer.

    Relevance starts at each output as output times derivative of the target. For an index that is the explained
    output alone; for a mean over a region it is the region's values divided by their number. `start` (identity,
    or ReLU) is applied to the target.
    """
    graph = setting.network.require_graph()
    chosen, first = chosen_rules(setting.network, parameters, composite, setting.convention)
    evaluator = setting.network.evaluator(setting.dtype)
    guard = INNVESTIGATE_ZERO_GUARD if setting.convention == "innvestigate" else 0.0
    relevance_pass = RelevancePass(evaluator, assign(graph, chosen, first), guard)

    def explain(block: Block) -> tuple[Explained, list]:
        slopes = setting.target.slopes(block.outputs, block.indices, start)
        (relevance,), layers = relevance_pass(block.values, block.products, slopes)
        explained = start(block.value)
        kept = totals(layers, explained)
        return Explained(relevance, explained - sum(kept.values()), kept), layers

    return explain


__all__ = [
    "LAYER_LEDGER",
    "AlphaBetaParameters",
    "BiasChoice",
    "BiasParameters",
    "Bounds",
    "CompositeParameters",
    "EpsilonParameters",
    "GammaParameters",
    "InputRule",
    "LRPParameters",
    "PresetParameters",
]
