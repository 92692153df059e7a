"""Settings of ``xairt run chaos_symbolic``, its cases and presets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from xairt.benchmarks.chaos_symbolic.data import LABEL_NOISE, TEST_SHARE
from xairt.benchmarks.chaos_symbolic.formulas import FORMULAS, formula_of, read_formulas
from xairt.runs import MethodNames, RunConfig, Sweep, setting

ALL = "all"
"""Name of the published formulas together."""

IG_OF_UNIFORMITY = 'integrated_gradients(steps=20, quadrature="gauss_legendre")'
IG_OF_PRECISION = 'integrated_gradients(steps=10, quadrature="gauss_legendre")'
"""Integrated gradients as published with each score."""

CONTROLS = ("random", "input")
METHODS = (
    *("gradient", "saliency", IG_OF_UNIFORMITY),
    *("deeplift.rescale", "feature_ablation", *CONTROLS),
)

SWEPT = (
    *("n_noise", "n_samples", "label_noise", "network", "depth", "width", "dropout", "optimizer", "seed"),
)
"""Settings that make cases, beside the formula."""

_PREFIXES = {
    "n_noise": "noise",
    "n_samples": "n",
    "label_noise": "sd",
    "depth": "depth",
    "width": "width",
    "dropout": "drop",
    "seed": "seed",
}
"""What stands before a number in the name of a case."""

Optimizer = Literal["adam", "adamw", "nadam", "rmsprop", "adagrad", "sgd"]


def _known_formulas(entries: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if entries == (ALL,):
        return tuple(range(len(FORMULAS)))
    for entry in entries:
        formula_of(entry)
    return entries


Formulas = Annotated[Sweep[int | str], AfterValidator(_known_formulas)]
"""Type of a setting that names formulas: numbers of published ones, one's own as text, or `ALL`."""


def with_formulas_of_file(given: Any) -> Any:
    """Return raw settings with the formulas of ``formulas_file`` as ``formula``: these tell all that a case depends on.

    Raises
    ------
    DataError
        If the file cannot be read as formulas.
    """
    if not isinstance(given, Mapping) or given.get("formulas_file") is None:
        return given
    found = read_formulas(str(given["formulas_file"]))
    entries = [f"{formula.n_features},{formula.text}" for formula in found]
    return {**given, "formula": entries, "formulas_file": None}


def formula_name(place: int, entry: int | str) -> str:
    """Return the name of a formula in cases: its published number, or its place among one's own.

    Examples
    --------
    >>> formula_name(0, 8), formula_name(1, "2,a*b")
    ('f08', 'own1')
    """
    return f"f{entry:02d}" if isinstance(entry, int) else f"own{place}"


class SymbolicSettings(RunConfig):
    """Settings of ``chaos_symbolic``; the defaults are those of the publication."""

    formula: Formulas = setting(
        "generate",
        (ALL,),
        description="numbers of published formulas, 0 to 14, or all; or one's own as count,formula: '2,a+b**2'",
    )
    formulas_file: str | None = setting(
        "generate",
        None,
        description="CSV with the columns count,formula, whose formulas take the place of the setting formula",
    )
    n_noise: Sweep[Annotated[int, Field(ge=0, le=100_000)]] = setting(
        "generate", (100,), description="noise variables"
    )
    n_samples: Sweep[Annotated[int, Field(ge=10)]] = setting(
        "generate", (10_000,), description="samples, test set included"
    )
    label_noise: Sweep[Annotated[float, Field(ge=0)]] = setting(
        "generate", (LABEL_NOISE,), description="standard deviation of the noise on y, in units of y"
    )
    test_share: float = setting(
        "generate", TEST_SHARE, description="share of the samples that are the test set", gt=0, lt=1
    )
    seed: Sweep[Annotated[int, Field(ge=0, lt=2**31)]] = setting(
        "generate", (0,), description="of samples, initial weights, dropout and controls"
    )
    network: Sweep[Literal["mlp", "residual_mlp"]] = setting(
        "train",
        ("mlp",),
        description="plain perceptron, or one with skip connections and layer normalisation",
    )
    depth: Sweep[Annotated[int, Field(ge=1, le=100)]] = setting("train", (3,), description="hidden layers")
    width: Sweep[Annotated[int, Field(ge=1, le=10_000)]] = setting(
        "train", (100,), description="units of a hidden layer"
    )
    dropout: Sweep[Annotated[float, Field(ge=0, lt=1)]] = setting(
        "train", (0.0,), description="share of hidden units that a training step leaves out"
    )
    optimizer: Sweep[Optimizer] = setting("train", ("adam",), description="of the training")
    learning_rate: float = setting("train", 1e-3, description="of the optimizer", gt=0, le=10)
    epochs: int = setting("train", 1000, description="passes over the training samples", ge=1)
    batch_size: int | None = setting(
        "train", None, description="samples per training step; null: all of them", ge=1
    )
    n_explained: int | None = setting(
        "explain", None, description="samples explained, the first of the test set; null: all of it", ge=1
    )
    methods: MethodNames = setting(
        "explain",
        METHODS,
        description="methods, with parameters where not the defaults, as of xairt.explainer",
    )
    minimum_r2: float | None = setting(
        "score",
        0.5,
        description="R2 against noise-free y of the test set below which a network is reported; null: none",
        le=1,
    )
    dpi: int = setting("figures", 150, description="resolution of the figures, dots per inch", ge=30, le=1200)

    @model_validator(mode="before")
    @classmethod
    def _of_file(cls, given: Any) -> Any:
        return with_formulas_of_file(given)


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "formula": (1, 6, 8),
        "n_noise": (10,),
        "n_samples": (2000,),
        "epochs": 200,
        "learning_rate": 3e-3,
        "n_explained": 200,
        "dpi": 100,
    },
    "standard": {"n_explained": 500},
    "paper": {"methods": (*METHODS, IG_OF_PRECISION)},
}


def cases(settings: SymbolicSettings) -> dict[str, dict[str, Any]]:
    """Return one case for each formula and combination of swept settings.

    A name tells the formula and what differs from the publication's default.

    Examples
    --------
    >>> list(cases(SymbolicSettings(formula=(0, 8), n_noise=(100, 200), seed=(0, 1))))[:4]
    ['f00', 'f00.seed1', 'f00.noise200', 'f00.noise200.seed1']
    >>> list(cases(SymbolicSettings(formula="2,a*b", optimizer="sgd", dropout=0.1)))
    ['own0.drop0.1.sgd']
    """
    found = {}
    for place, entry in enumerate(settings.formula):
        name = formula_name(place, entry)
        for values in product(*(getattr(settings, key) for key in SWEPT)):
            own = dict(zip(SWEPT, values, strict=True))
            found[".".join([name, *_differences(own)])] = {"formula": entry, **own}
    return found


def _differences(own: Mapping[str, Any]) -> list[str]:
    """Return the parts of a case's name for settings that are not the defaults."""
    fields = SymbolicSettings.model_fields
    changed = {key: value for key, value in own.items() if (value,) != fields[key].default}
    return [
        value if isinstance(value, str) else f"{_PREFIXES[key]}{value:.12g}".replace("+", "")
        for key, value in changed.items()
    ]
