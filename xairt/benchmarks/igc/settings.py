"""Settings of ``xairt run igc``, its cases and presets."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, model_validator

from xairt.benchmarks.igc.experiments import EXPERIMENTS
from xairt.errors import suggest
from xairt.runs import RunConfig, Sweep, setting

ALL = "all"
"""Name of the published experiments together."""

FUNCTION = "function"
"""The model that is the statistic itself."""

Label = Literal["igc", "igac", "ig_mean", "ig_std", "naive_correlation", "naive_ttest", "bsc"]
"""The methods of `xairt.datasetwise`, in the order of figures; said here, since to import these takes seconds."""

N_IMAGES = {FUNCTION: 100_000}
"""Published numbers of attributed images that are not `N_IMAGES_NETWORK`, by model."""

N_IMAGES_NETWORK = 10_000

STEPS = {FUNCTION: 512}
"""Published steps of integrated gradients that are not `STEPS_NETWORK`, by model."""

STEPS_NETWORK = 64

FEWEST_OF_TTEST = {False: math.ceil(4 * NormalDist().inv_cdf(0.9) ** 2), True: 4}
"""Fewest images of which two are in each group of the t-test, by whether the truth is categorical: standardised
truths of which two are below -1.28 and two above 1.28 have a variance of at least 4 * 1.28^2 / n, which must be 1."""

BSC_SHARE = 0.1
"""Published share of the images that bsc is computed on."""


def _known_experiments(names: tuple[str, ...]) -> tuple[str, ...]:
    if names == (ALL,):
        return tuple("ABCD")
    if ALL in names:
        raise ValueError(f"experiment '{ALL}' stands alone: give '{ALL}', or names of experiments")
    for name in names:
        if name not in EXPERIMENTS:
            known = ", ".join(EXPERIMENTS)
            raise ValueError(
                f"experiment '{name}' is unknown{suggest(name, EXPERIMENTS)}: give some of {known}, or '{ALL}'"
            )
    return names


class IGCSettings(RunConfig):
    """Settings of ``igc``; the defaults are those of the publication."""

    experiment: Annotated[Sweep[str], AfterValidator(_known_experiments)] = setting(
        "generate", ("A",), description="names of experiments, or all (A, B, C, D); one case each"
    )
    model: Sweep[Literal["function", "convnext", "mlp"]] = setting(
        "generate",
        (FUNCTION,),
        description="what is explained: the statistic itself, or a network that learns it; one case each",
    )
    n_images: int | None = setting(
        "generate",
        None,
        description="images that are attributed, which also validate a network; null: 100,000 for function, else "
        "10,000",
        ge=2,
        le=10_000_000,
    )
    seed: int = setting(
        "generate",
        0,
        description="of images, initial weights, order of samples, baselines and random orders",
        ge=0,
        lt=2**31,
    )
    n_train: int = setting("train", 100_000, description="training images of an epoch, each epoch anew", ge=2)
    epochs: int = setting("train", 50, description="epochs of training", ge=1, le=20_000)
    batch_size: int = setting("train", 64, description="images per training step", ge=1)
    learning_rate: float = setting("train", 5e-5, description="of AdamW, at first", gt=0, le=1)
    weight_decay: float = setting("train", 0.01, description="of AdamW, times the learning rate", ge=0)
    patience: int = setting(
        "train", 4, description="epochs without a better validation loss before the rate is lowered", ge=1
    )
    rate_factor: float = setting("train", 0.9, description="that the rate is lowered by", gt=0, lt=1)
    minimum_rate: float = setting("train", 1e-6, description="smallest learning rate", ge=0)
    methods: Sweep[Label] = setting(
        "score", get_args(Label), description="methods, as of xairt.datasetwise.attribute"
    )
    steps: int | None = setting(
        "score",
        None,
        description="points of the trapezoidal rule of integrated gradients; null: 512 for function, else 64",
        ge=2,
        le=100_000,
    )
    n_drawn: int = setting(
        "score", 8, description="images that are drawn as baselines of each image", ge=1, le=4096
    )
    n_iter: int = setting(
        "score", 2, description="random orders of the pixels for each baseline of bsc", ge=1, le=1000
    )
    bsc_images: int | None = setting(
        "score", None, description="images, the first ones, of bsc; null: a tenth of n_images", ge=2
    )
    minimum_correlation: float | None = setting(
        "figures",
        0.5,
        description="correlation of prediction and truth below which a model is reported; null: none",
        ge=-1,
        le=1,
    )
    dpi: int = setting("figures", 200, description="resolution of the figures, dots per inch", ge=30, le=1200)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.minimum_rate > self.learning_rate:
            raise ValueError(
                f"minimum_rate {self.minimum_rate:g} exceeds learning_rate {self.learning_rate:g}"
            )
        for model in self.model:
            n_images = n_images_of(self, model)
            fewest = n_images
            if "bsc" in self.methods:
                fewest = bsc_images_of(self, model)
                if fewest > n_images:
                    raise ValueError(f"bsc_images {fewest} exceed n_images {n_images}")
            if self.n_drawn > fewest:
                raise ValueError(f"n_drawn {self.n_drawn} baselines cannot be drawn from {fewest} images")
            if "naive_ttest" in self.methods:
                _require_groups(self, n_images)
        return self


def _require_groups(settings: IGCSettings, n_images: int) -> None:
    for name in settings.experiment:
        if n_images < (fewest := FEWEST_OF_TTEST[EXPERIMENTS[name].categorical]):
            raise ValueError(
                f"n_images {n_images} make no two groups of the t-test of experiment {name}: give {fewest} or more, "
                "or leave naive_ttest out of methods"
            )


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "n_images": 1000,
        "steps": 64,
        "n_train": 5000,
        "epochs": 10,
        "learning_rate": 1e-3,
        "methods": get_args(Label)[:-1],
        "dpi": 100,
    },
    "standard": {
        "n_images": 10_000,
        "n_train": 20_000,
        "epochs": 20,
        "learning_rate": 1e-3,
        "bsc_images": 200,
    },
    "paper": {},
}


def cases(settings: IGCSettings) -> dict[str, dict[str, Any]]:
    """Return one case for each experiment and model.

    Examples
    --------
    >>> found = cases(IGCSettings(experiment=("A", "D"), model=("function", "mlp")))
    >>> list(found)
    ['A.function', 'A.mlp', 'D.function', 'D.mlp']
    >>> found["D.mlp"]["n_images"], found["D.mlp"]["steps"], found["D.mlp"]["bsc_images"]
    (10000, 64, 1000)
    """
    return {
        f"{experiment}.{model}": {
            "experiment": experiment,
            "model": model,
            "n_images": n_images_of(settings, model),
            "steps": settings.steps or STEPS.get(model, STEPS_NETWORK),
            "bsc_images": bsc_images_of(settings, model),
        }
        for experiment in settings.experiment
        for model in settings.model
    }


def n_images_of(settings: IGCSettings, model: str) -> int:
    """Return how many images of a model are attributed."""
    return settings.n_images or N_IMAGES.get(model, N_IMAGES_NETWORK)


def bsc_images_of(settings: IGCSettings, model: str) -> int:
    """Return how many images of a model bsc is computed on, 2 at least."""
    return settings.bsc_images or max(2, round(BSC_SHARE * n_images_of(settings, model)))
