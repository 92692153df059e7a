"""Settings of ``xairt run smerf``, its cases and presets."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, model_validator

from xairt.benchmarks.smerf.placing import SIDE
from xairt.benchmarks.smerf.rules import SETTINGS, setting_of
from xairt.errors import DataError
from xairt.runs import MethodNames, RunConfig, Sweep
from xairt.runs import setting as option  # one of the settings is called setting

ALL = "all"
"""Name of the seven published settings together."""

SIMPLE, COMPLEX, PUBLISHED = "simple", "complex", "published"
PLAIN, ADVERSARIAL = "plain", "adversarial"

SIMPLE_REASONING = ("simple-fr", "simple-nr")
"""Settings whose label follows from one object, whatever else there is."""

CONTROLS = ("random", "edge(size=5, direction='x')", "input")

METHODS = (
    "gradient",
    "smoothgrad(augment_by_n=64, noise_scale=0.1, square=True)",
    "deconvnet",
    "guided_backprop",
    "deep_taylor.bounded(low=0, high=1)",
    "input_t_gradient",
    "integrated_gradients(steps=64)",
    "lrp.z",
    "lrp.epsilon(epsilon=1)",
    "lrp.sequential_preset_a_flat(epsilon=1)",
    "lrp.sequential_preset_b_flat(epsilon=1)",
    "deeplift.reveal_cancel",
    "deeplift.rescale",
    "grad_cam",
    "shap.deep",
    *CONTROLS,
)
"""Methods with the parameters of the publication, and the controls."""

QUICK_METHODS = (
    "gradient",
    "guided_backprop",
    "integrated_gradients(steps=16)",
    "lrp.epsilon(epsilon=1)",
    "grad_cam",
    "shap.deep",
    *CONTROLS,
)

LEARNING_RATES = {"simple-fr": 1e-4}
"""Published learning rates that are not `LEARNING_RATE`."""

LEARNING_RATE = 1e-5

MINIMUM_ACCURACIES = {SIMPLE: 0.98, COMPLEX: 0.95}
NATURAL_MINIMUM_ACCURACIES = {SIMPLE: 0.95, COMPLEX: 0.90}


def _known_settings(names: tuple[str, ...]) -> tuple[str, ...]:
    if names == (ALL,):
        return tuple(name for name, known in SETTINGS.items() if known.published_id is not None)
    for name in names:
        try:
            setting_of(name)
        except DataError as error:
            alone = f"; '{ALL}' stands alone" if name == ALL else f" ('{ALL}': the seven published)"
            raise ValueError(f"{error}{alone}") from None
    return names


class SMERFSettings(RunConfig):
    """Settings of ``smerf``; the defaults are those of the publication."""

    setting: Annotated[Sweep[str], AfterValidator(_known_settings)] = option(
        "generate",
        ("simple-fr",),
        description="names of settings, or all (the seven published); one case each",
    )
    background: Sweep[Literal["black", "white", "noise", "natural"]] = option(
        "generate", ("black",), description="what objects are drawn on; one case each"
    )
    natural_folder: str | None = option(
        "generate", None, description="folder of natural images; null: squares of two photographs"
    )
    tight_boxes: bool = option(
        "generate", True, description="whether a character's box is its ink, or has blank rows, as published"
    )
    n_explained: int = option("generate", 20, description="test images explained in each bucket", ge=1)
    n_backgrounds: int = option(
        "generate", 1000, description="training images that shap.deep compares with, of all buckets", ge=1
    )
    seed: int = option(
        "generate", 1, description="seed of images, initial weights, shuffling and noise", ge=0, lt=2**31
    )
    network: Sweep[Literal["published", "simple", "complex", "alexnet", "vgg16"]] = option(
        "train",
        (PUBLISHED,),
        description="network; published: simple for simple settings, else complex; one case each",
    )
    training: Sweep[Literal["plain", "adversarial"]] = option(
        "train",
        (PLAIN,),
        description="plain, or on from there with adversarial (PGD) samples; one case each",
    )
    vgg16_weights: str | None = option(
        "train", None, description="HDF5 file with the weights of vgg16's base; null: they are random"
    )
    n_train: int | None = option(
        "train", None, description="training images in each bucket; null: the setting's", ge=2
    )
    n_tested: int | None = option(
        "train", None, description="test images in each bucket for the accuracy; null: the setting's", ge=1
    )
    validation_share: float = option(
        "train", 0.1, description="share of the training images that validates instead", gt=0, le=0.5
    )
    epochs: int = option("train", 150, description="passes over the training images at most", ge=1)
    batch_size: int = option("train", 128, description="images per training step", ge=1)
    learning_rate: float | None = option(
        "train", None, description="of Adam; null: 1e-4 for simple-fr, else 1e-5", gt=0, le=1
    )
    stop_loss: float = option("train", 0.005, description="training loss at which training ends", gt=0)
    adversarial_epochs: int = option("train", 50, description="passes with adversarial samples at most", ge=1)
    epsilon: float = option(
        "train", 0.3, description="largest change of a pixel in adversarial samples", gt=0
    )
    attack_step: float = option("train", 0.1, description="change of a pixel per step of PGD", gt=0)
    attack_iterations: int = option("train", 10, description="steps of PGD", ge=1)
    convention: Literal["smerf2022"] | None = option(
        "train", None, description="smerf2022: the published loss; null: softmax cross-entropy"
    )
    methods: MethodNames = option(
        "explain",
        METHODS,
        description="methods, with parameters where not the defaults, as of xairt.explainer",
    )
    reduction: Literal["absolute_sum", "maximum", "heat_map", "min_max", "published"] = option(
        "score",
        "absolute_sum",
        description="of channels to one plane; published: heat_map for relevance, min_max for SHAP, else maximum",
    )
    blur: int = option(
        "score", 7, description="side of the box blur before scoring, pixels, odd", ge=1, le=SIDE
    )
    minimum_accuracy: float | None = option(
        "score",
        None,
        description="accuracy on training and validation part below which a network is reported; null: "
        "0.98 simple, 0.95 complex, natural background 0.95 and 0.90",
        ge=0,
        le=1,
    )
    added_images: int = option(
        "score", 20, description="images whose objects are added one by one; 0: no such test", ge=0
    )
    added_methods: MethodNames = option(
        "score",
        ("integrated_gradients(steps=64)", "grad_cam"),
        description="methods that explain these, with baseline 0 where they need one",
    )
    shown_image: int = option(
        "figures", 0, description="image of each bucket that is drawn, counted from 0", ge=0
    )
    dpi: int = option("figures", 150, description="resolution of the figures, dots per inch", ge=30, le=1200)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.blur % 2 == 0:
            raise ValueError(f"blur {self.blur} must be odd, to be centred on a pixel")
        if self.natural_folder is not None and self.background != ("natural",):
            raise ValueError("natural_folder is read for background 'natural' alone; set background=natural")
        if self.vgg16_weights is not None and "vgg16" not in self.network:
            raise ValueError("vgg16_weights are those of network vgg16; set network=vgg16")
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "n_explained": 5,
        "n_backgrounds": 20,
        "n_train": 200,
        "n_tested": 50,
        "epochs": 10,
        "learning_rate": 1e-3,
        "adversarial_epochs": 2,
        "methods": QUICK_METHODS,
        "added_images": 5,
        "added_methods": ("integrated_gradients(steps=16)",),
        "dpi": 100,
    },
    "standard": {
        "n_backgrounds": 100,
        "n_train": 2000,
        "epochs": 20,
        "learning_rate": 5e-4,
        "adversarial_epochs": 5,
    },
    "paper": {},
}


def cases(settings: SMERFSettings) -> dict[str, dict[str, Any]]:
    """Return one case for each setting, background, kind of training and network.

    Examples
    --------
    >>> found = cases(SMERFSettings(setting=("simple-fr", "complex-cr1")))
    >>> list(found)
    ['simple-fr.black.plain.simple', 'complex-cr1.black.plain.complex']
    >>> found["complex-cr1.black.plain.complex"]["minimum_accuracy"]
    0.95
    """
    return {
        f"{own['setting']}.{own['background']}.{own['training']}.{own['network']}": own
        for name in settings.setting
        for background in settings.background
        for training in settings.training
        for network in settings.network
        for own in [_own(settings, name, background, training, network)]
    }


def reasoning_of(name: str) -> str:
    """Return "simple" where one object decides, else "complex".

    Examples
    --------
    >>> reasoning_of("simple-nr"), reasoning_of("complex-fr")
    ('simple', 'complex')
    """
    return SIMPLE if name in SIMPLE_REASONING else COMPLEX


def _own(settings: SMERFSettings, name: str, background: str, training: str, network: str) -> dict[str, Any]:
    """Return the settings of a case, with the published numbers in place of those left open."""
    minima = NATURAL_MINIMUM_ACCURACIES if background == "natural" else MINIMUM_ACCURACIES
    reasoning, minimum = reasoning_of(name), settings.minimum_accuracy
    return {
        "setting": name,
        "background": background,
        "training": training,
        "network": reasoning if network == PUBLISHED else network,
        "learning_rate": settings.learning_rate or LEARNING_RATES.get(name, LEARNING_RATE),
        "minimum_accuracy": minima[reasoning] if minimum is None else minimum,
    }
