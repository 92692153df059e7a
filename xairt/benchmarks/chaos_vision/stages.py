"""The stages that write images, train networks and name their attributions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.chaos_media.metadata import Samples
from xairt.benchmarks.chaos_media.stages import FOLDER, explanations, first_samples, write_explained
from xairt.benchmarks.chaos_media.training import train_case
from xairt.benchmarks.chaos_vision.backgrounds import IMAGE_SIDE
from xairt.benchmarks.chaos_vision.foregrounds import N_CLASSES, SIDE
from xairt.benchmarks.chaos_vision.images import (
    IMAGE,
    image_dataset,
    image_parts,
    load_images,
    require_image,
    write_images,
)
from xairt.data.files import atomic_write
from xairt.runs import Case, Explanation

if TYPE_CHECKING:
    import tensorflow as tf

PATCHES = "patches.npy"


def generate(case: Case) -> None:
    """Write training and test images, those that are explained, and the patches of feature ablation.

    ``data/train`` and ``data/test`` hold PNG files and ``metadata.csv``, unless the setting `folder` names a data set
    that is there; ``data.nc`` what `image_dataset` gives of the
    first test images; ``patches.npy`` (224, 224, 3) the number of each feature's patch, row by row.

    Parameters
    ----------
    case : Case
    """
    config = case.config
    if config.folder is None:
        write_images(
            case.write(FOLDER),
            config.variant,
            config.n_train,
            config.n_test,
            seed=config.seed,
            foregrounds_of=config.foregrounds,
            backgrounds_of=config.backgrounds,
            progress=case.progress,
        )
    write_explained(case, parts_of(case, case.write)[1], image_dataset, "Images with a foreground in a box")
    with atomic_write(case.write(PATCHES)) as path:
        np.save(path, patch_numbers(config.patch))


def patch_numbers(side: int) -> NDArray[np.int32]:
    """Return the number of each feature's square patch, (224, 224, 3); those at the right and below may be cut.

    Examples
    --------
    >>> patch_numbers(32).max(), patch_numbers(32)[40, 8].tolist()
    (48, [7, 7, 7])
    """
    place = np.arange(IMAGE_SIDE) // side
    number = place[:, None] * (place[-1] + 1) + place
    return np.repeat(number[:, :, None], 3, axis=2).astype(np.int32)


def train(case: Case) -> None:
    """Train the network; writes what `xairt.benchmarks.chaos_media.training.train_case` does.

    Parameters
    ----------
    case : Case
    """
    from xairt.training.streaming import read_png

    parts = parts_of(case, case.read)
    read = read_png((IMAGE_SIDE, IMAGE_SIDE, 3))
    train_case(case, network_of(case), parts, require_image, load_images, read, with_other_noise)


def with_other_noise(images: tf.Tensor, corner: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return images whose pixels outside of the foreground are noise, uniform in the 256 levels from -1 to 1.

    Parameters
    ----------
    images : (n, 224, 224, 3)
    corner : (n, 2) integers
        Row and column of the upper left pixel of the foreground.
    seed : (2,) int32
    """
    import tensorflow as tf

    levels = tf.random.stateless_uniform(tf.shape(images), seed, 0, 256, tf.int32)
    place = tf.range(IMAGE_SIDE) - corner[..., tf.newaxis]  # (n, axis, pixel)
    within = (place >= 0) & (place < SIDE)
    inside = within[:, 0, :, tf.newaxis, tf.newaxis] & within[:, 1, tf.newaxis, :, tf.newaxis]
    return tf.where(inside, images, tf.cast(levels, tf.float32) / 127.5 - 1.0)


def parts_of(case: Case, place: Callable[[str], Path]) -> tuple[Samples, Samples]:
    """Return the training and the test images of a case: the first of its data set.

    Parameters
    ----------
    case : Case
    place : callable
        ``case.read``, or ``case.write`` in the stage that writes them.

    Raises
    ------
    DataError
        As `xairt.benchmarks.chaos_vision.images.image_parts`.
    """
    return first_samples(case, image_parts(case.config.folder or place(FOLDER)))


def network_of(case: Case) -> tf.keras.Model:
    """Return the untrained network of a case."""
    from xairt.models.image_networks import IMAGE_NETWORKS

    return IMAGE_NETWORKS[case.config.network](case.config.seed, N_CLASSES)


def explain(case: Case) -> list[Explanation]:
    """Return the attributions of a case, each for the class that the network predicts, with baseline 0 (mid-grey).

    Methods that cannot explain the network are left out with a warning.

    Parameters
    ----------
    case : Case

    Returns
    -------
    list of Explanation
    """
    return explanations(case, IMAGE, PATCHES)
