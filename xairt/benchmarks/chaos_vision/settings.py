"""Settings of ``xairt run chaos_vision``, its cases and presets."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from xairt.benchmarks.chaos_media.settings import MediaSettings, media_cases
from xairt.benchmarks.chaos_media.variants import VARIANTS, variant_of
from xairt.benchmarks.chaos_vision.foregrounds import DIGITS
from xairt.runs import MethodNames, Sweep, setting

CONTROLS = ("random", "edge", "input")

METHODS = (
    "saliency",
    "integrated_gradients(steps=20)",
    "deeplift.rescale",
    "feature_ablation",
    *CONTROLS,
)
"""The published methods, and the controls."""


class VisionSettings(MediaSettings):
    """Settings of ``chaos_vision``."""

    foregrounds: str = setting(
        "generate",
        DIGITS,
        description="what lies on the background: digits, cifar10 (Keras downloads it), or an npz file",
    )
    backgrounds: str | None = setting(
        "generate", None, description="folder of photographs for SB..; null: crops of two photographs"
    )
    folder: str | None = setting(
        "generate", None, description="data set to read (train/ and test/ or val/) in place of writing one"
    )
    patch: int = setting(
        "generate", 32, description="side of the patches of feature_ablation, pixels", ge=4, le=112
    )
    network: Sweep[
        Literal[
            *("small_cnn", "alexnet", "resnet50", "vgg16", "vgg19", "densenet121", "mobilenet", "googlenet"),
            "vit",
        ]
    ] = setting("train", ("small_cnn",), description="network; one case each")
    methods: MethodNames = setting(
        "explain",
        METHODS,
        description="methods, with parameters where not the defaults, as of xairt.explainer",
    )
    sigma: float = setting(
        "score", 6.0, description="standard deviation of the blur before scoring, pixels", ge=0, le=32
    )
    shown_images: int = setting("figures", 4, description="explained images that are drawn", ge=1, le=20)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.n_explained > self.n_test:
            raise ValueError(f"n_explained {self.n_explained} is more than n_test {self.n_test}; lower it")
        if self.backgrounds is not None and not any(variant_of(name).structural for name in self.variant):
            raise ValueError("backgrounds are photographs, which SBFP and SBRP show; set variant=SBFP")
        if self.folder is not None and len(self.variant) > 1:
            raise ValueError("folder is a data set of one variant; name it alone")
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "n_train": 400,
        "n_test": 100,
        "n_explained": 10,
        "epochs": 8,
        "batch_size": 32,
        "restart_epochs": 8,
        "fresh_noise": True,
        "dpi": 100,
    },
    "standard": {"batch_size": 32, "fresh_noise": True},
    "paper": {
        "foregrounds": "cifar10",
        "variant": tuple(VARIANTS),
        "network": ("alexnet", "googlenet", "resnet50", "vgg16", "densenet121", "mobilenet", "vit"),
        "n_train": 50_000,
        "n_test": 10_000,
        "n_explained": 1000,
        "epochs": 90,
    },
}
"""``quick`` and ``standard`` draw the noise of training anew: of few images a network remembers the noise of the files."""


def cases(settings: VisionSettings) -> dict[str, dict[str, Any]]:
    """Return one case for each variant, network and seed.

    Examples
    --------
    >>> list(cases(VisionSettings(variant=("RBFP", "SBRP"))))
    ['RBFP.small_cnn.seed0', 'SBRP.small_cnn.seed0']
    """
    return {
        name: own | {"backgrounds": settings.backgrounds if variant_of(own["variant"]).structural else None}
        for name, own in media_cases(settings, settings.network)
    }
