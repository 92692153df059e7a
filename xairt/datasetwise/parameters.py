"""Parameters of the dataset-wise methods, and which of them a method has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from xairt.attribution.gradients import IntegratedGradientsParameters
from xairt.attribution.parameters import Parameters
from xairt.conventions import IGC2025

Method = Literal["igc", "igac", "ig_mean", "ig_std", "naive_correlation", "naive_ttest", "bsc"]


class ShapleyParameters(Parameters):
    """Parameters of baseline Shapley values."""

    n_iter: int = Field(2, ge=1, le=100_000, description="random orders of the features for each baseline")


class TTestParameters(Parameters):
    """Parameters of the t-test between samples of a low and of a high truth."""

    low: float = Field(allow_inf_nan=False, description="largest truth of the low group, in units of y")
    high: float = Field(allow_inf_nan=False, description="smallest truth of the high group, in units of y")

    @model_validator(mode="after")
    def _in_order(self) -> TTestParameters:
        if self.low > self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}: low must not exceed high")
        return self


PARAMETERS: dict[str, type[Parameters]] = {
    "igc": IntegratedGradientsParameters,
    "igac": IntegratedGradientsParameters,
    "ig_mean": IntegratedGradientsParameters,
    "ig_std": IntegratedGradientsParameters,
    "naive_correlation": Parameters,
    "naive_ttest": TTestParameters,
    "bsc": ShapleyParameters,
}
"""Every method's parameters."""

INTEGRATED = frozenset({"igc", "igac", "ig_mean", "ig_std"})
"""Methods that share one computation of integrated gradients."""

NAIVE = frozenset({"naive_correlation", "naive_ttest"})
"""Methods that look at samples and truths alone and take no model."""

WITH_TRUTH = frozenset({"igc", "bsc", *NAIVE})
"""Methods that need the truth."""

CONVENTIONS = dict.fromkeys(("ig_std", "naive_correlation", "naive_ttest"), (IGC2025.name,))
"""Registered conventions of the methods that have one."""
