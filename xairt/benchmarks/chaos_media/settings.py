"""Settings that the image and the sound tasks have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Annotated, Any

from pydantic import Field

from xairt.benchmarks.chaos_media.variants import VariantName
from xairt.runs import RunConfig, Sweep, setting

Seed = Annotated[int, Field(ge=0, lt=2**31)]


class MediaSettings(RunConfig):
    """What images and sounds share; each adds its sources, networks and methods."""

    variant: Sweep[VariantName] = setting(
        "generate",
        ("RBFP",),
        description="RB or SB: random or structural background; FP or RP: fixed or random position; one case each",
    )
    n_train: int = setting("generate", 2000, description="samples to train with", ge=1)
    n_test: int = setting("generate", 500, description="samples that measure the accuracy", ge=1)
    n_explained: int = setting("generate", 100, description="of these, how many are explained", ge=1)
    seed: Sweep[Seed] = setting(
        "generate", (0,), description="seed of samples, initial weights, order and noise; one case each"
    )
    epochs: int = setting("train", 30, description="passes over the training samples", ge=1)
    batch_size: int = setting("train", 128, description="samples per training step", ge=1)
    learning_rate: float = setting("train", 1e-3, description="of AdamW at every restart", gt=0, le=1)
    weight_decay: float = setting("train", 0.01, description="of AdamW, times the learning rate", ge=0, le=1)
    restart_epochs: int = setting(
        "train",
        30,
        description="epochs in which the learning rate falls to 0 by a cosine, then it restarts",
        ge=1,
    )
    fresh_noise: bool = setting(
        "train",
        False,
        description="whether RB.. trains on noise drawn anew in every epoch, not on that of the files (published)",
    )
    minimum_accuracy: float = setting(
        "score",
        0.3,
        description="accuracy on the test samples below which a network is reported; chance gives 0.1",
        ge=0,
        le=1,
    )
    dpi: int = setting("figures", 150, description="resolution of the figures, dots per inch", ge=30, le=1200)


def media_cases(settings: MediaSettings, networks: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give name and settings of each case: every variant, network and seed.

    Parameters
    ----------
    settings : MediaSettings
    networks : iterable of str
        Values of the setting ``network``.

    Examples
    --------
    >>> next(media_cases(MediaSettings(), ["small_cnn"]))
    ('RBFP.small_cnn.seed0', {'variant': 'RBFP', 'network': 'small_cnn', 'seed': 0})
    """
    for variant, network, seed in product(settings.variant, networks, settings.seed):
        yield f"{variant}.{network}.seed{seed}", {"variant": variant, "network": network, "seed": seed}
