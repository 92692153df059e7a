"""The LRP methods: parameters, and the rules they put on each layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

import tensorflow as tf
from pydantic import BeforeValidator, Field, model_validator

from xairt.attribution import calls
from xairt.attribution.blocks import Block, BlockMethod, Explained, Setting
from xairt.attribution.lrp import rules
from xairt.attribution.lrp.assignment import assign
from xairt.attribution.lrp.engine import LAYER_LEDGER, RelevancePass, totals
from xairt.attribution.parameters import Parameters
from xairt.errors import MethodError

INNVESTIGATE_ZERO_GUARD = 1e-7

BIAS_ALIASES = {True: "canonical", False: "ignore"}

BiasChoice = Annotated[
    Literal["canonical", "innvestigate", "ignore"],
    BeforeValidator(lambda v: BIAS_ALIASES[v] if isinstance(v, bool) else v),
]


class InputRule(Parameters):
    """Rule of the layers that read the input: Flat, WSquare, or Bounded(low, high)."""

    name: Literal["Flat", "WSquare", "Bounded"]
    low: float = Field(-1.0, allow_inf_nan=False)
    high: float = Field(1.0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> InputRule:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must lie below high ({self.high})")
        return self

    def rule(self) -> rules.Rule:
        """Return the rule as data."""
        makers = {"Flat": rules.flat, "WSquare": rules.w_square}
        return rules.bounded(self.low, self.high) if self.name == "Bounded" else makers[self.name]()

    def __str__(self) -> str:
        low, high = (repr(v).removesuffix(".0") for v in (self.low, self.high))
        return f"Bounded(low={low}, high={high})" if self.name == "Bounded" else self.name


def _read_input_rule(value: Any) -> Any:
    if isinstance(value, str):
        name, parameters = calls.parse(value)
        return {"name": name, **parameters}
    return value


class LRPParameters(Parameters):
    """Parameters that every LRP method has."""

    input_layer_rule: Annotated[InputRule | None, BeforeValidator(_read_input_rule)] = Field(
        None,
        description="rule of the first layer: Flat, WSquare or Bounded(low=-1, high=1); None keeps the method's",
    )


class BiasParameters(LRPParameters):
    """Parameters of rules whose denominator may hold the bias."""

    bias: BiasChoice = Field(
        "canonical", description="canonical, innvestigate (the published program's) or ignore"
    )


class EpsilonParameters(BiasParameters):
    """Parameters of the epsilon rule."""

    epsilon: float = Field(1e-7, ge=0, allow_inf_nan=False, description="stabiliser added to |z|")


class AlphaBetaParameters(BiasParameters):
    """Parameters of the alpha-beta rule."""

    alpha: float = Field(1.0, ge=1, allow_inf_nan=False, description="share of the positive pot")
    beta: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="share of the negative pot; alpha - beta = 1"
    )

    @model_validator(mode="after")
    def _difference_is_one(self) -> AlphaBetaParameters:
        if abs(self.alpha - self.beta - 1) > 1e-6:
            raise ValueError(f"alpha - beta must be 1, got {self.alpha:g} - {self.beta:g}")
        return self


class GammaParameters(BiasParameters):
    """Parameters of the gamma rule."""

    gamma: float = Field(
        0.25, ge=0, allow_inf_nan=False, description="how much contributions of z's sign are raised"
    )


class DeepTaylorBoundedParameters(Parameters):
    """Parameters of bounded deep Taylor decomposition: the range of the inputs."""

    low: float = Field(-1.0, allow_inf_nan=False, description="lowest value that an input can have")
    high: float = Field(1.0, allow_inf_nan=False, description="highest value that an input can have")

    @model_validator(mode="after")
    def _ordered(self) -> DeepTaylorBoundedParameters:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must lie below high ({self.high})")
        return self


class PresetParameters(BiasParameters):
    """Parameters of the sequential presets."""

    epsilon: float = Field(0.1, ge=0, allow_inf_nan=False, description="stabiliser of the dense layers")


def z(p: BiasParameters) -> rules.Composite:
    """Return the z rule for every layer."""
    return rules.Composite(rules.z(p.bias), scale=rules.z())


def epsilon(p: EpsilonParameters) -> rules.Composite:
    """Return the epsilon rule for every layer."""
    return rules.Composite(rules.epsilon(p.epsilon, p.bias), scale=rules.epsilon(p.epsilon))


def alpha_beta(p: AlphaBetaParameters) -> rules.Composite:
    """Return the alpha-beta rule for every layer."""
    scale = rules.alpha_beta(p.alpha, p.beta)
    return rules.Composite(rules.alpha_beta(p.alpha, p.beta, p.bias), scale=scale)


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
    return rules.Composite(rules.gamma(p.gamma, p.bias), scale=rules.gamma(p.gamma))


def deep_taylor(p: Parameters) -> rules.Composite:
    """Return deep Taylor decomposition (Montavon et al. 2017) as iNNvestigate has it.

    z+ without bias in weighted layers, the bounded rule at the input if bounds are given, equal shares in
    average pooling.
    """
    first = rules.bounded(p.low, p.high) if isinstance(p, DeepTaylorBoundedParameters) else None
    return rules.Composite(rules.alpha_beta(1, 0, "ignore"), first=first, pooling=rules.flat())


def preset(
    alpha: float, beta: float, first: rules.Rule | None = None
) -> Callable[[PresetParameters], rules.Composite]:
    """Return a sequential preset: epsilon in dense layers, alpha-beta in convolutions."""
    return lambda p: rules.Composite(
        rules.epsilon(p.epsilon, p.bias),
        convolution=rules.alpha_beta(alpha, beta, p.bias),
        first=first,
        scale=rules.epsilon(p.epsilon),
    )


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
    return build


def with_ledger(
    setting: Setting,
    parameters: LRPParameters,
    composite: Callable[[Any], rules.Composite],
    start: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> Callable[[Block], tuple[Explained, list[tuple[str, dict[str, tf.Tensor]]]]]:
    """Return the function from a block to its explanation and the ledger of every layer."""
    graph = setting.network.require_graph()
    chosen = composite(parameters)
    input_rule = getattr(parameters, "input_layer_rule", None)
    if input_rule is not None:
        if not graph.first_layers:
            raise MethodError(
                f"model '{setting.network.name}' has no weighted layer that reads the input alone and directly: "
                "leave input_layer_rule out"
            )
        chosen = replace(chosen, first=input_rule.rule())
    evaluator = setting.network.evaluator(setting.dtype)
    guard = INNVESTIGATE_ZERO_GUARD if setting.convention == "innvestigate" else 0.0
    relevance_pass = RelevancePass(evaluator, assign(graph, chosen), guard)

    def explain(block: Block) -> tuple[Explained, list]:
        started = start_relevance(setting, block.outputs, block.indices, start)
        (relevance,), layers = relevance_pass(block.values, block.products, started)
        explained = start(block.value)
        kept = totals(layers, explained)
        return Explained(relevance, explained - sum(kept.values()), kept), layers

    return explain


def start_relevance(
    setting: Setting,
    outputs: tuple[tf.Tensor, ...],
    indices: tf.Tensor,
    start: Callable[[tf.Tensor], tf.Tensor],
) -> list[tf.Tensor]:
    """Return the relevance that starts at each output: output times derivative of the target.

    For an index that is the explained output alone; for a mean over a region it is the region's
    values divided by their number. `start` (identity, or ReLU) is applied to the target.
    """
    outputs = tuple(tf.identity(output) for output in outputs)  # two outputs may be one tensor
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(outputs)
        target = start(setting.target.select(outputs, indices))
    slopes = tape.gradient(target, outputs, unconnected_gradients="zero")
    return [output * slope for output, slope in zip(outputs, slopes, strict=True)]


__all__ = [
    "LAYER_LEDGER",
    "AlphaBetaParameters",
    "BiasParameters",
    "EpsilonParameters",
    "InputRule",
    "LRPParameters",
]
