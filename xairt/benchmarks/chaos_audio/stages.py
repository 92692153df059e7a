"""The stages that write sounds, train networks and name their attributions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.chaos_audio.sounds import (
    N_CHANNELS,
    NOISE,
    load_sounds,
    require_sound,
    sound_dataset,
    sound_parts,
    write_sounds,
)
from xairt.benchmarks.chaos_audio.wav import RATE
from xairt.benchmarks.chaos_media.metadata import Samples
from xairt.benchmarks.chaos_media.stages import FOLDER, explanations, first_samples, write_explained
from xairt.benchmarks.chaos_media.training import train_case
from xairt.data.files import atomic_write
from xairt.runs import Case, Explanation

if TYPE_CHECKING:
    import tensorflow as tf

CHANNELS = "channels.npy"


def generate(case: Case) -> None:
    """Write training and test sounds, those that are explained, and the channels of feature ablation.

    ``data/train`` and ``data/test`` hold WAV files and ``metadata.csv``, unless the setting `folder` names a data set
    that is there; ``data.nc`` what `sound_dataset` gives of the first test sounds; ``channels.npy`` (16000, 10) the
    channel of each feature.

    Parameters
    ----------
    case : Case
    """
    config = case.config
    if config.folder is None:
        write_sounds(
            case.write(FOLDER),
            config.variant,
            config.n_train,
            config.n_test,
            seed=config.seed,
            words_of=config.words,
            split=config.split,
            recordings_of=config.recordings,
            progress=case.progress,
        )
    write_explained(case, parts_of(case, case.write)[1], sound_dataset, "Sounds with a word in one channel")
    with atomic_write(case.write(CHANNELS)) as path, open(path, "wb") as file:
        np.save(file, channel_numbers())


def channel_numbers() -> NDArray[np.int32]:
    """Return the channel of each feature, (16000, 10)."""
    return np.tile(np.arange(N_CHANNELS, dtype=np.int32), (RATE, 1))


def train(case: Case) -> None:
    """Train the network; writes what `xairt.benchmarks.chaos_media.training.train_case` does.

    Parameters
    ----------
    case : Case
    """
    from xairt.training.streaming import read_wav

    parts = parts_of(case, case.read)
    network = network_of(case, len(parts[0].classes))
    read = read_wav((RATE, N_CHANNELS), RATE)
    train_case(case, network, parts, require_sound, load_sounds, read, with_other_noise)


def with_other_noise(sounds: tf.Tensor, channel: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return sounds whose channels without the word are noise, normal with sd 0.25, cut at -1 and 1.

    Parameters
    ----------
    sounds : (n, 16000, 10)
    channel : (n,) integers
        Of the word.
    seed : (2,) int32
    """
    import tensorflow as tf

    noise = tf.clip_by_value(tf.random.stateless_normal(tf.shape(sounds), seed, stddev=NOISE), -1, 1)
    own = tf.one_hot(channel, N_CHANNELS, on_value=True, off_value=False, dtype=tf.bool)
    return tf.where(own[:, tf.newaxis], sounds, noise)


def parts_of(case: Case, place: Callable[[str], Path]) -> tuple[Samples, Samples]:
    """Return the training and the test sounds of a case: the first of its data set.

    Parameters
    ----------
    case : Case
    place : callable
        ``case.read``, or ``case.write`` in the stage that writes them.

    Raises
    ------
    DataError
        As `xairt.benchmarks.chaos_audio.sounds.sound_parts`.
    """
    return first_samples(case, sound_parts(case.config.folder or place(FOLDER)))


def network_of(case: Case, n_classes: int) -> tf.keras.Model:
    """Return the untrained network of a case, with an output for each label."""
    from xairt.models.audio_networks import AUDIO_NETWORKS

    return AUDIO_NETWORKS[case.config.network](case.config.seed, n_classes, sound_shape=(RATE, N_CHANNELS))


def explain(case: Case) -> list[Explanation]:
    """Return the attributions of a case, each for the class that the network predicts, with baseline 0 (silence).

    Methods that cannot explain the network are left out with a warning.

    Parameters
    ----------
    case : Case

    Returns
    -------
    list of Explanation
    """
    return explanations(case, "x", CHANNELS)
