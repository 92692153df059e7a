"""Settings of ``xairt run chaos_audio``, its cases and presets."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import model_validator

from xairt.benchmarks.chaos_audio.words import SYNTHETIC
from xairt.benchmarks.chaos_media.settings import MediaSettings, media_cases
from xairt.benchmarks.chaos_media.variants import VARIANTS, variant_of
from xairt.runs import MethodNames, Sweep, setting

CONTROLS = ("random", "input")

METHODS = (
    "saliency",
    "integrated_gradients(steps=10)",
    "deeplift.rescale",
    "feature_ablation",
    *CONTROLS,
)
"""The published methods, and the controls."""


class AudioSettings(MediaSettings):
    """Settings of ``chaos_audio``."""

    words: str = setting(
        "generate",
        SYNTHETIC,
        description="what is spoken: synthetic, a folder of WAV files by label, or of label_speaker_take.wav",
    )
    split: Literal["take", "speaker"] = setting(
        "generate",
        "take",
        description="test words are others' (speaker), or other takes of the same speakers",
    )
    recordings: str | None = setting(
        "generate", None, description="folder of WAV files for SB..; null: synthetic calls"
    )
    folder: str | None = setting(
        "generate", None, description="data set to read (train/ and test/) in place of writing one"
    )
    network: Sweep[Literal["rnn", "lstm", "tcn", "transformer"]] = setting(
        "train", ("tcn",), description="network; one case each"
    )
    learning_rate: float = setting("train", 1e-3, description="of AdamW at every restart", gt=0, le=1)
    methods: MethodNames = setting(
        "explain",
        METHODS,
        description="methods, with parameters where not the defaults, as of xairt.explainer",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.n_explained > self.n_test:
            raise ValueError(f"n_explained {self.n_explained} is more than n_test {self.n_test}; lower it")
        if self.recordings is not None and not any(variant_of(name).structural for name in self.variant):
            raise ValueError("recordings are heard in SBFP and SBRP; set variant=SBFP")
        if self.folder is not None and len(self.variant) > 1:
            raise ValueError("folder is a data set of one variant; name it alone")
        return self


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "n_train": 600,
        "n_test": 100,
        "n_explained": 20,
        "epochs": 10,
        "batch_size": 32,
        "restart_epochs": 10,
        "learning_rate": 2e-3,
        "fresh_noise": True,
        "dpi": 100,
    },
    "standard": {
        "n_train": 1000,
        "epochs": 40,
        "batch_size": 32,
        "restart_epochs": 40,
        "learning_rate": 2e-3,
        "fresh_noise": True,
    },
    "paper": {
        "variant": tuple(VARIANTS),
        "network": ("rnn", "lstm", "tcn", "transformer"),
        "n_train": 84_843,
        "n_test": 11_005,
        "n_explained": 1000,
        "learning_rate": 1e-4,
    },
}
"""``paper`` has the sizes of Speech Commands v0.02 (35 words), whose folder the setting `words` names; ``quick`` and
``standard`` draw the noise of training anew: of few sounds a network remembers the noise of the files."""


def cases(settings: AudioSettings) -> dict[str, dict[str, Any]]:
    """Return one case for each variant, network and seed.

    Examples
    --------
    >>> list(cases(AudioSettings(network=("tcn", "rnn"))))
    ['RBFP.tcn.seed0', 'RBFP.rnn.seed0']
    """
    return {
        name: own | {"recordings": settings.recordings if variant_of(own["variant"]).structural else None}
        for name, own in media_cases(settings, settings.network)
    }
