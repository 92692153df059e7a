"""Settings of ``xairt run chaos_rfe``, its cases and presets, and the published values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from xairt.benchmarks.chaos_symbolic.settings import Formulas, formula_name, with_formulas_of_file
from xairt.runs import MethodNames, RunConfig, Sweep, setting

FORMULAS = (10, 11, 12, 13, 14)
"""Formulas of the publication's table, counted from 0."""

METHODS = (
    "saliency",
    'integrated_gradients(steps=50, quadrature="gauss_legendre")',
    "deeplift.rescale",
    "feature_ablation",
    "random",
    "input",
)

Control = Literal["linear_regression", "decision_tree", "linear_svr"]
"""Estimators of `xairt.selection.ESTIMATORS`."""

PUBLISHED: dict[tuple[str, str], dict[int, float]] = {
    ("mae", "saliency"): dict(zip(FORMULAS, (0.0096, 0.0123, 0.0158, 0.0163, 0.0153), strict=True)),
    ("mae", "linear_regression"): dict(zip(FORMULAS, (0.087, 0.100, 0.062, 0.054, 0.107), strict=True)),
    ("precision", "saliency"): dict(zip(FORMULAS, (1.0, 1.0, 0.88, 0.67, 0.80), strict=True)),
}
"""Published values by metric and method, then by formula (Shi et al. 2024, arXiv:2406.12150)."""

TABLE = "table"
"""Begin of the names of cases of a table."""


class ChaosRfeSettings(RunConfig):
    """Settings of ``chaos_rfe``; the defaults are those of the publication, but for the parts of the samples."""

    formula: Formulas = setting(
        "generate",
        FORMULAS,
        description="numbers of published formulas, 0 to 14, or all; or one's own as count,formula: '2,a+b**2'",
    )
    formulas_file: str | None = setting(
        "generate",
        None,
        description="CSV with the columns count,formula, whose formulas take the place of the setting formula",
    )
    table: str | None = setting("generate", None, description="CSV file of numbers in place of formulas")
    target: str | None = setting("generate", None, description="column of the table to predict")
    relevant: tuple[str, ...] = setting(
        "generate", (), description="columns of the table that are known to matter, for precision and recall"
    )
    seed: Sweep[Annotated[int, Field(ge=0, lt=2**31)]] = setting(
        "generate", (0,), description="of samples, initial weights and methods; one case each"
    )
    split_seed: int = setting("generate", 42, description="of the parts of the samples", ge=0)
    n_samples: int = setting("generate", 10_000, description="samples of a formula", ge=10, le=10_000_000)
    n_noise: int = setting("generate", 150, description="variables that do not matter", ge=0, le=100_000)
    label_noise: float = setting("generate", 0.01, description="standard deviation of the noise on y", ge=0)
    selection_share: float = setting(
        "generate", 0.1, description="share of the samples that ranks the features", gt=0, lt=1
    )
    test_share: float = setting(
        "generate", 0.2, description="share of the samples that nothing depends on", gt=0, lt=1
    )
    methods: MethodNames = setting("train", METHODS, description="attribution methods that rank the features")
    controls: tuple[Control, ...] = setting(
        "train",
        ("linear_regression", "decision_tree", "linear_svr"),
        description="estimators of scikit-learn with their own elimination",
    )
    stop: Literal["count", "error"] = setting(
        "train", "count", description="end of an elimination: a number of features, or an error that grows"
    )
    n_features: int | None = setting(
        "train", None, description="features of the last round; null: as many as matter (stop error: 1)", ge=1
    )
    fraction: float = setting(
        "train", 0.5, description="share of the features that a round drops", gt=0, lt=1
    )
    network: Literal["mlp", "residual_mlp"] = setting("train", "mlp", description="network of every round")
    depth: int = setting("train", 3, description="hidden layers", ge=1, le=100)
    width: int = setting("train", 100, description="units of each", ge=1, le=10_000)
    epochs: int = setting("train", 1000, description="of each training", ge=1, le=100_000)
    batch_size: int | None = setting(
        "train", None, description="samples of a training step; null: all of the training part", ge=1
    )
    learning_rate: float = setting("train", 1e-3, description="of Adam", gt=0, le=1)
    minimum_r2: float | None = setting(
        "figures",
        0.5,
        description="R2 of the network of all features below which a case is reported; null: none",
        le=1,
    )
    dpi: int = setting("figures", 200, description="resolution of the figures, dots per inch", ge=30, le=1200)

    @model_validator(mode="before")
    @classmethod
    def _of_file(cls, given: Any) -> Any:
        both = isinstance(given, Mapping) and {"table", "formulas_file"} <= {k for k, v in given.items() if v}
        if both:
            raise ValueError("table and formulas_file: give one of them")
        return with_formulas_of_file(given)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.table is None) != (self.target is None):
            raise ValueError("table and target go together; give both, or none")
        if self.table is None and self.relevant:
            raise ValueError("relevant names columns of a table; give table and target too")
        unknown = self.table is not None and not self.relevant
        if unknown and self.stop == "count" and self.n_features is None:
            raise ValueError("how many columns matter is not known: give n_features, relevant, or stop=error")
        if self.selection_share + self.test_share >= 1:
            raise ValueError(
                f"selection_share {self.selection_share:g} and test_share {self.test_share:g} leave nothing to train"
            )
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "formula": (10,),
        "n_samples": 2000,
        "n_noise": 20,
        "epochs": 300,
        "methods": ("saliency", "deeplift.rescale", "feature_ablation", "random"),
        "dpi": 100,
    },
    "standard": {"epochs": 500, "methods": METHODS[:-1]},
    "paper": {},
}


def cases(settings: ChaosRfeSettings) -> dict[str, dict[str, Any]]:
    """Return one case for each formula, or for the table, and seed.

    Examples
    --------
    >>> list(cases(ChaosRfeSettings(formula=(10, 12), seed=(0, 1))))
    ['f10', 'f10.seed1', 'f12', 'f12.seed1']
    >>> list(cases(ChaosRfeSettings(table="ice.csv", target="extent", stop="error")))
    ['table']
    """
    if settings.table is not None:
        return {f"{TABLE}{_suffix(seed)}": {"seed": seed} for seed in settings.seed}
    return {
        f"{formula_name(place, formula)}{_suffix(seed)}": {"formula": formula, "seed": seed}
        for place, formula in enumerate(settings.formula)
        for seed in settings.seed
    }


def _suffix(seed: int) -> str:
    return f".seed{seed}" if seed else ""
