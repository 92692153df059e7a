"""Settings, cases and presets of the SST anomaly benchmark."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from xairt.benchmarks.sst_settings import SSTSettings
from xairt.runs import MethodNames, Sweep, setting

PAPER_METHODS = (
    "gradient",
    "smoothgrad",
    "input_t_gradient",
    "integrated_gradients",
    "lrp.z",
    "lrp.alpha_1_beta_0",
    "deep_taylor",
    "occlusion",
)
"""Methods of Mamalakis et al. (2022)."""

FURTHER_METHODS = ("deeplift.rescale", "shap.deep")
CONTROLS = ("random", "input")
METHODS = (*PAPER_METHODS, *FURTHER_METHODS, *CONTROLS)

PROGRAM_OF_THE_PAPER = (
    'lrp.alpha_1_beta_0(bias="innvestigate")',
    'integrated_gradients(quadrature="innvestigate")',
)
"""Methods as the paper's program computes them, where that differs from their definition."""

OF_THE_TRUTH = ("n_breakpoints", "quantiles", "convention", "kept_around", "noise", "remove_median")
"""Settings of a drawn function."""

OF_A_FIELD = ("variable", "step", "missing_above")
"""Settings of a netCDF source."""

Place = tuple[Annotated[float, Field(ge=-90, le=90)], Annotated[float, Field(ge=-360, le=360)]]


class SSTAnomalySettings(SSTSettings):
    """Settings of the SST anomaly benchmark; the defaults are the paper's but for the number of samples."""

    n_samples: Sweep[Annotated[int, Field(ge=20)]] = setting(
        "generate", (100_000,), description="maps drawn, test set included, at least 20; one case for each"
    )
    source: Literal["analytic", "correlation", "netcdf", "archive"] = setting(
        "generate",
        "analytic",
        description="where the correlation of the maps comes from: an analytic function, a matrix file (.npz), the "
        "anomalies of a field (netCDF); or archive: maps and truth of the paper (synth_exm_data .nc or .mat)",
    )
    first_sample: int = setting(
        "generate", 0, description="first map taken from the archive, counted from 0", ge=0
    )
    network: Literal["train", "pretrained"] = setting(
        "generate",
        "train",
        description="train a network, or take the archived one of the paper (458 cells: source archive, or the "
        "COBE-SST2 matrix without two cells, an approximation)",
    )
    quantiles: Literal["population", "empirical"] = setting(
        "generate",
        "population",
        description="breakpoints are quantiles of the normal distribution, or of the maps (at most 100,000)",
    )
    convention: Literal["krell2025"] | None = setting(
        "generate", None, description="krell2025: contributions of negative anomalies have their sign flipped"
    )
    kept_around: tuple[Place, ...] = setting(
        "generate",
        (),
        description="(latitude, longitude) in degrees; far from them cells contribute nothing; by default all do",
    )
    bump_width: float = setting(
        "generate", 2000.0, description="standard deviation of these Gaussian bumps, km", gt=0, le=20000
    )
    noise: float = setting(
        "generate",
        0.0,
        description="Gaussian noise on the output, share of its standard deviation",
        ge=0,
        le=10,
    )
    remove_median: bool = setting(
        "generate",
        False,
        description="subtract the median of the output, a share of it from each contribution",
    )
    learning_rate: float = setting("train", 0.02, description="step of gradient descent", gt=0, le=10)
    linear_epochs: int = setting(
        "train", 10, description="passes over the training maps of the linear control model", ge=1
    )
    linear_learning_rate: float = setting(
        "train", 0.001, description="step of gradient descent of the linear control model", gt=0, le=10
    )
    n_explained: int = setting(
        "explain", 1000, description="maps explained, the first of the test set; at most all of it", ge=1
    )
    methods: MethodNames = setting(
        "explain",
        METHODS,
        description="methods, with parameters where not the defaults, as of xairt.explainer",
    )
    minimum_r2: float = setting(
        "score", 0.9, description="R2 on the test set below which the network is reported as inaccurate", le=1
    )
    shown_samples: tuple[Annotated[int, Field(ge=0)], ...] = setting(
        "figures", (0, 1), description="explained maps that are drawn, counted from 0", min_length=1
    )
    shown_methods: Sweep[str] = setting(
        "figures",
        ("lrp.z", "lrp.alpha_1_beta_0", "integrated_gradients", "gradient"),
        description="methods whose maps are drawn; where none of them is explained, the first four that are",
    )
    shown_cells: tuple[Place, ...] = setting(
        "figures",
        ((0, 210), (0, 150), (40, 170), (40, 330), (0, 60), (-50, 20)),
        description="(latitude, longitude) in degrees; the known functions of the nearest cells are drawn",
        min_length=1,
    )

    @model_validator(mode="after")
    def _fitting_source(self) -> Self:
        if self.network == "pretrained" and self.source in ("analytic", "netcdf"):
            raise ValueError(
                f"source '{self.source}' has other cells than the pretrained network; set source=archive"
            )
        fixed = [
            name
            for name in (*OF_THE_TRUTH, *OF_A_FIELD)
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.source == "archive" and fixed:
            raise ValueError(
                f"source 'archive' has maps and a truth of its own; leave out {', '.join(fixed)}"
            )
        if self.source != "archive" and self.first_sample:
            raise ValueError("first_sample counts maps of the archive; set source=archive")
        return self


PRESET_SETTINGS: dict[str, dict[str, Any]] = {
    "quick": {
        "n_samples": (2_000, 40_000),
        "epochs": 15,
        "n_explained": 100,
        "dpi": 100,
    },
    "standard": {},
    "paper": {
        "source": "correlation",
        "n_samples": (1_000_000,),
        "n_explained": 100_000,
        "methods": (*METHODS, *PROGRAM_OF_THE_PAPER),
    },
}


def cases(settings: SSTAnomalySettings) -> dict[str, dict[str, int]]:
    """Return one case for each number of samples, from few to many.

    Examples
    --------
    >>> cases(SSTAnomalySettings(n_samples=(100, 50)))
    {'n50': {'n_samples': 50}, 'n100': {'n_samples': 100}}
    """
    return {f"n{n}": {"n_samples": n} for n in sorted(settings.n_samples)}
