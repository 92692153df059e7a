"""The stages that make images, train networks and name their attributions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xairt.benchmarks.smerf.images import BLOCK_IMAGES, Images, image_blocks, image_count, images
from xairt.benchmarks.smerf.placing import SIDE
from xairt.benchmarks.smerf.rules import setting_of
from xairt.benchmarks.smerf.settings import ADVERSARIAL
from xairt.data.files import atomic_write, write_dataset
from xairt.errors import DataError
from xairt.progress import track
from xairt.runs import Case, CaseSettings, Explanation
from xairt.runs.scores import NETWORK

if TYPE_CHECKING:
    import tensorflow as tf

    from xairt.training import Attack
    from xairt.training.history import History
    from xairt.training.trainer import Perturb

DATA, BACKGROUNDS, NETWORKS = "data.nc", "backgrounds.nc", "networks.csv"
MODEL, HISTORY, ADVERSARIAL_HISTORY = "model.h5", "history.csv", "adversarial_history.csv"
IMAGE = "image"
N_CLASSES = 2

OF_BACKGROUNDS = ("shap.deep", "shap.gradient")
"""Methods that compare an image with a set of training images; others compare with 0."""

_BATCH = 256


class Labelled(NamedTuple):
    """Images (n, 64, 64, 3), their classes (n,) and the indices of their buckets (n,)."""

    images: NDArray[np.float32]
    label: NDArray[np.int64]
    bucket: NDArray[np.int16]


def generate(case: Case) -> None:
    """Write the test images that are explained, and the training images that SHAP compares with.

    ``data.nc`` holds what `Images.to_dataset` gives, of the first test images of each bucket; ``backgrounds.nc``
    as many training images of each bucket as make `n_backgrounds`. Training images are not stored: their seed
    makes them again.

    Parameters
    ----------
    case : Case
    """
    from xairt.data.streams import SampleWriter

    config, look = case.config, look_of(case.config)
    blocks = image_blocks(config.setting, config.n_explained, **look)
    count = image_count(config.setting, config.n_explained)
    with SampleWriter(case.write(DATA), title="Images of SMERF with boxes and labels") as writer:
        for _, block in track(blocks, -(-count // BLOCK_IMAGES), "generating", case.progress):
            writer.append(block.to_dataset())
    write_dataset(
        _backgrounds(config).to_dataset()[[IMAGE]],
        case.write(BACKGROUNDS),
        title="Training images that others are compared with",
    )


def look_of(config: CaseSettings) -> dict[str, Any]:
    """Return seed, background and boxes of all images of a case, as `images` takes them."""
    return {
        "seed": config.seed,
        "background": config.background,
        "natural": config.natural_folder,
        "tight_boxes": config.tight_boxes,
    }


def _backgrounds(config: CaseSettings) -> Images:
    """Return training images, as many of each bucket; what is too many is left out evenly."""
    n_buckets = len(setting_of(config.setting).buckets)
    made = images(config.setting, -(-config.n_backgrounds // n_buckets), part="train", **look_of(config))
    return made[np.linspace(0, len(made) - 1, config.n_backgrounds).round().astype(int)]


def train(case: Case) -> None:
    """Train the network until its loss is small, and tell its accuracy on each part of the images.

    Training and validation part are images of part "train": the last ones of each bucket validate. Accuracy is
    that of the trained network. Adversarial training goes on from the trained plain network.

    Writes ``model.h5``, ``history.csv`` (and ``adversarial_history.csv``) and ``networks.csv``: accuracy on
    training and validation part, on the test images, and on the test images of each bucket.

    Parameters
    ----------
    case : Case

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the training.
    DataError
        If the setting has a class beyond the network's two, or a bucket has no image to train or validate with.
    """
    from xairt.models.saving import save_model
    from xairt.training import pgd, pgd_perturbation

    config = case.config
    model = network_of(config)  # reads weights: what is wrong with them is told before images are made
    fitted, held_out = training_images(config)
    _fitted(case, model, fitted, held_out, config.epochs).to_csv(case.write(HISTORY))
    rows = []
    if config.training == ADVERSARIAL:
        attack, loss = attack_of(config), _loss(config)
        perturb = pgd_perturbation(model, attack, loss=loss)
        history = _fitted(case, model, fitted, held_out, config.adversarial_epochs, perturb)
        history.to_csv(case.write(ADVERSARIAL_HISTORY))
        changed = pgd(model, held_out.images, held_out.label, attack, loss=loss, seed=config.seed)
        rows += _accuracy_rows(model, [held_out._replace(images=changed)], "adversarial")
    save_model(model, case.write(MODEL))
    rows = _accuracy_rows(model, [fitted], "train") + _accuracy_rows(model, [held_out], "validation") + rows
    buckets = [bucket.name for bucket in setting_of(config.setting).buckets]
    rows += _accuracy_rows(model, _test_images(config), "test", buckets)
    with atomic_write(case.write(NETWORKS)) as path:
        pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")


def training_images(config: CaseSettings) -> tuple[Labelled, Labelled]:
    """Return the images that the network learns from, and those that validate it.

    Parameters
    ----------
    config : CaseSettings
        Settings of stage train.

    Returns
    -------
    fitted, held_out : Labelled
        Of each bucket the last share validates, one image at least. Made block by block into their place: memory
        holds 48 kB for each image.

    Raises
    ------
    DataError
        If a class is beyond the network's two.
    """
    buckets = setting_of(config.setting).buckets
    most = max(bucket.label for bucket in buckets)
    if most >= N_CLASSES:
        raise DataError(
            f"setting '{config.setting}': has class {most}, networks tell 0 and 1; change its label"
        )
    counts = np.array([config.n_train or bucket.n_train for bucket in buckets])
    n_held_out = np.maximum(1, np.round(config.validation_share * counts).astype(int))
    parts = [_room(counts - n_held_out), _room(n_held_out)]
    filled = [0, 0]
    for _, block in image_blocks(config.setting, config.n_train, part="train", **look_of(config)):
        validates = block.number >= (counts - n_held_out)[block.bucket]
        for k, chosen in enumerate((~validates, validates)):
            some = block[chosen]
            rows = slice(filled[k], filled[k] + len(some))
            for room, values in zip(parts[k], (some.images, some.label, some.bucket), strict=True):
                room[rows] = values
            filled[k] += len(some)
    return parts[0], parts[1]


def _room(counts: NDArray[np.integer]) -> Labelled:
    from xairt.training import memory

    n = int(counts.sum())
    return Labelled(memory.empty((n, SIDE, SIDE, 3)), np.empty(n, np.int64), np.empty(n, np.int16))


def network_of(config: CaseSettings) -> tf.keras.Model:
    """Return the untrained network of a case."""
    from xairt.models import architectures

    if config.network == "alexnet":
        return architectures.alexnet(config.seed)
    if config.network == "vgg16":
        return architectures.vgg16(config.seed, config.vgg16_weights)
    return architectures.smerf(config.network, config.seed)


def attack_of(config: CaseSettings) -> Attack:
    """Return how adversarial samples of a case are made."""
    from xairt.training import Attack

    return Attack(config.epsilon, config.attack_step, config.attack_iterations)


def _loss(config: CaseSettings) -> Any:
    from xairt.training import class_loss

    return class_loss(config.convention)


def _fitted(
    case: Case,
    model: tf.keras.Model,
    fitted: Labelled,
    held_out: Labelled,
    epochs: int,
    perturb: Perturb | None = None,
) -> History:
    """Train a network; half a training must not pass for a whole one."""
    import tensorflow as tf

    from xairt import training

    config = case.config
    history = training.fit(
        model,
        fitted.images,
        fitted.label,
        epochs=epochs,
        batch_size=config.batch_size,
        optimizer=tf.keras.optimizers.legacy.Adam(config.learning_rate),
        loss=_loss(config),
        validation=(held_out.images, held_out.label),
        metrics={"accuracy": tf.keras.metrics.sparse_categorical_accuracy},
        perturb=perturb,
        seed=config.seed,
        progress=case.progress,
        callback=training.stop_at_loss(config.stop_loss),
    )
    if history.interrupted:
        raise KeyboardInterrupt
    return history


def _test_images(config: CaseSettings) -> Iterator[Labelled]:
    blocks = image_blocks(config.setting, config.n_tested, **look_of(config))
    return (Labelled(block.images, block.label, block.bucket) for _, block in blocks)


def _accuracy_rows(
    model: tf.keras.Model, parts: Iterable[Labelled], part: str, buckets: list[str] | None = None
) -> list[dict[str, Any]]:
    """Return the share of images whose largest output is their class, of all and of each named bucket."""
    right, bucket = [], []
    for labelled in parts:
        for start in range(0, len(labelled.label), _BATCH):
            rows = slice(start, start + _BATCH)
            outputs = np.asarray(model.predict_on_batch(labelled.images[rows]))
            right.append(outputs.argmax(axis=1) == labelled.label[rows])
        bucket.append(labelled.bucket)
    correct, members = np.concatenate(right), np.concatenate(bucket)
    row = {"label": NETWORK, "metric": f"accuracy.{part}"}
    rows = [row | {"bucket": "", "n": len(correct), "value": correct.mean()}]
    for index, name in enumerate(buckets or ()):
        own = correct[members == index]
        rows.append(row | {"bucket": name, "n": len(own), "value": own.mean()})
    return rows


def explain(case: Case) -> list[Explanation]:
    """Return the attributions of a case, of all its images, each for the class that the network predicts.

    Parameters
    ----------
    case : Case

    Returns
    -------
    list of Explanation
        Baselines are 0, but the images of ``backgrounds.nc`` for SHAP.
    """
    from xairt.attribution.registry import resolve

    shared = {"samples": DATA, "variable": IMAGE, "model": MODEL, "seed": case.config.seed}
    return [
        Explanation(
            method, baselines=BACKGROUNDS if resolve(method).method.name in OF_BACKGROUNDS else None, **shared
        )
        for method in case.config.methods
    ]
