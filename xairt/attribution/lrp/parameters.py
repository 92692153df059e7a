"""Checked parameters of the LRP rules, and of the methods that put one rule on every layer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from xairt.attribution import calls
from xairt.attribution.lrp import rules
from xairt.attribution.parameters import Parameters

BIAS_ALIASES = {True: "canonical", False: "ignore"}

BiasChoice = Annotated[
    Literal["canonical", "innvestigate", "ignore"],
    BeforeValidator(lambda v: BIAS_ALIASES[v] if isinstance(v, bool) else v),
]


class Bounds(Parameters):
    """The range of the inputs."""

    low: float = Field(-1.0, allow_inf_nan=False, description="lowest value that an input can have")
    high: float = Field(1.0, allow_inf_nan=False, description="highest value that an input can have")

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must lie below high ({self.high})")
        return self


class InputRule(Bounds):
    """Rule of the layers that read the input: Flat, WSquare, or Bounded(low, high)."""

    name: Literal["Flat", "WSquare", "Bounded"]

    def rule(self) -> rules.Rule:
        """Return the rule as data."""
        makers = {"Flat": rules.flat, "WSquare": rules.w_square}
        return rules.bounded(self.low, self.high) if self.name == "Bounded" else makers[self.name]()

    def __str__(self) -> str:
        return str(self.rule()).replace("bounded", self.name) if self.name == "Bounded" else self.name


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


class ZRule(Parameters):
    """Parameters of rules whose denominator may hold the bias."""

    bias: BiasChoice = Field(
        "canonical", description="canonical, innvestigate (the published program's) or ignore"
    )


class EpsilonRule(ZRule):
    """Parameters of the epsilon rule."""

    epsilon: float = Field(1e-7, ge=0, allow_inf_nan=False, description="stabiliser added to |z|")


class AlphaBetaRule(ZRule):
    """Parameters of the alpha-beta rule."""

    alpha: float = Field(1.0, ge=1, allow_inf_nan=False, description="share of the positive pot")
    beta: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="share of the negative pot; alpha - beta = 1"
    )

    @model_validator(mode="after")
    def _difference_is_one(self) -> AlphaBetaRule:
        if abs(self.alpha - self.beta - 1) > 1e-6:
            raise ValueError(f"alpha - beta must be 1, got {self.alpha:g} - {self.beta:g}")
        return self


class GammaRule(ZRule):
    """Parameters of the gamma rule."""

    gamma: float = Field(
        0.25, ge=0, allow_inf_nan=False, description="how much contributions of z's sign are raised"
    )


class BiasParameters(ZRule, LRPParameters):
    """Parameters of methods whose rule knows a bias and nothing else."""


class EpsilonParameters(EpsilonRule, LRPParameters):
    """Parameters of the epsilon rule in every layer."""


class AlphaBetaParameters(AlphaBetaRule, LRPParameters):
    """Parameters of the alpha-beta rule in every layer."""


class GammaParameters(GammaRule, LRPParameters):
    """Parameters of the gamma rule in every layer."""


class PresetParameters(BiasParameters):
    """Parameters of the sequential presets."""

    epsilon: float = Field(0.1, ge=0, allow_inf_nan=False, description="stabiliser of the dense layers")
