"""Settings, cases and presets of the benchmarks of covariance strength."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from xairt.benchmarks.sst_settings import SSTSettings
from xairt.runs import MethodNames, Sweep, setting

PAPER_METHODS = ("gradient", "input_t_gradient", "shap.kernel(nsamples=10000)")
"""Methods of Krell et al. (2025); SHAP with 10,000 coalitions against a baseline of zeros."""

FURTHER_METHODS = ("integrated_gradients", "lrp.z", "occlusion")
CONTROLS = ("random",)
METHODS = (*PAPER_METHODS, *FURTHER_METHODS, *CONTROLS)

PATCH_SIZES = tuple(range(1, 9))
"""Edges of the patches that data are made for, in cells."""

Strength = Annotated[float, Field(ge=0, le=1)]
SampleCount = Annotated[int, Field(ge=20)]

_STRENGTH = "strength w of the covariance (1 - w) C + w 1, 0 to 1; one case for each"
_UNIFORM = "correlation between any two cells, 0 to 1; one case for each"
_SAMPLES = "samples drawn, test set included, at least 20; one case for each"


class StrengthSettings(SSTSettings):
    """Settings that both benchmarks have; sizes of networks and training are those of Mamalakis et al. (2022)."""

    convention: Literal["krell2025"] | None = setting(
        "generate",
        None,
        description="'krell2025' flips the sign of contributions of negative values, as that program does",
    )
    n_networks: int = setting(
        "train", 6, description="networks trained on each data set, from different seeds", ge=2, le=100
    )
    learning_rate: float = setting(
        "train",
        0.02,
        description="step of gradient descent; a training that diverges is begun anew with half of it",
        gt=0,
        le=10,
    )
    n_explained: int = setting(
        "explain",
        100,
        description="samples explained of the training set, its first, and of the test set, its last",
        ge=2,
    )
    methods: MethodNames = setting(
        "explain",
        METHODS,
        description="methods, with parameters where not the defaults, as of xairt.explainer",
    )
    patch_sizes: Sweep[Annotated[int, Field(ge=1, le=PATCH_SIZES[-1])]] = setting(
        "explain", PATCH_SIZES, description="edges of the superpixels in cells"
    )
    minimum_r2: float | None = setting(
        "score",
        0.8,
        description="mean R2 on the test set below which the networks of a case are reported as inaccurate",
        le=1,
    )
    shown_sample: int = setting(
        "figures", 0, description="explained test sample whose attributions are drawn, counted from 0", ge=0
    )
    shown_methods: tuple[str, ...] = setting(
        "figures",
        ("input_t_gradient", "shap.kernel"),
        description="methods, by their names without parameters, whose attributions are drawn",
        min_length=1,
    )


class GlobalCovSettings(StrengthSettings):
    """Settings of ``globalcov``; the defaults are the paper's but for strengths, sizes and coalitions."""

    strength: Sweep[Strength] = setting("generate", (0.1, 0.3, 0.5, 0.7, 0.9), description=_STRENGTH)
    n_samples: Sweep[SampleCount] = setting("generate", (100_000,), description=_SAMPLES)


class UniCovSettings(StrengthSettings):
    """Settings of ``unicov``; the defaults are the paper's but for strengths and coalitions."""

    strength: Sweep[Strength] = setting("generate", (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), description=_UNIFORM)
    n_samples: Sweep[SampleCount] = setting("generate", (10_000,), description=_SAMPLES)
    rows: int = setting(
        "generate",
        20,
        description="rows of the raster, which has as many columns as the cells of C fill",
        ge=1,
    )
    n_networks: int = setting(
        "train", 4, description="networks trained on each data set, from different seeds", ge=2, le=100
    )


_FASTER_METHODS = tuple(m.replace("10000", "4000") for m in METHODS)
_QUICK: dict[str, Any] = {
    "n_samples": (8_000,),
    "n_networks": 3,
    "epochs": 15,
    "n_explained": 25,
    "methods": tuple(m.replace("10000", "1500") for m in METHODS),
    "patch_sizes": (1, 4),
    "minimum_r2": 0.5,
    "dpi": 100,
}
_STANDARD: dict[str, Any] = {"methods": _FASTER_METHODS, "patch_sizes": (1, 2, 4, 8), "n_networks": 4}

GLOBALCOV_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {**_QUICK, "strength": (0.1, 0.9)},
    "standard": _STANDARD,
    "paper": {
        "source": "correlation",
        "strength": tuple(k / 10 for k in range(1, 10)),
        "n_samples": (1_000, 10_000, 100_000, 1_000_000),
        "minimum_r2": None,
    },
}
UNICOV_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {**_QUICK, "strength": (0.1, 0.9)},
    "standard": _STANDARD,
    "paper": {"source": "correlation", "strength": tuple(k / 10 for k in range(11)), "minimum_r2": None},
}


def cases(settings: GlobalCovSettings | UniCovSettings) -> dict[str, dict[str, Any]]:
    """Return one case for each number of samples and each strength, from few to many and weak to strong.

    Examples
    --------
    >>> list(cases(UniCovSettings(strength=(0.5, 0.0), n_samples=100)))
    ['w0-n100', 'w0.5-n100']
    """
    return {
        f"w{strength:.15g}-n{n}": {"strength": strength, "n_samples": n}
        for n in sorted(settings.n_samples)
        for strength in sorted(settings.strength)
    }
