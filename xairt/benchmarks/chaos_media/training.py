"""Training of classifiers on files that are read while it runs, and their accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xairt.benchmarks.chaos_media.metadata import Samples
from xairt.benchmarks.chaos_media.variants import PARTS, variant_of
from xairt.benchmarks.chaos_media.writing import check_files
from xairt.data.files import atomic_write
from xairt.metrics.classification import top_k_accuracy
from xairt.progress import track
from xairt.runs import Case
from xairt.runs.scores import NETWORK

if TYPE_CHECKING:
    import tensorflow as tf

    from xairt.training.history import History
    from xairt.training.streaming import Reader

MODEL, HISTORY, NETWORKS = "model.h5", "history.csv", "networks.csv"

TOP = 5
"""Largest outputs that the right class may be among, beside the largest alone."""

Redraw = Callable[["tf.Tensor", "tf.Tensor", "tf.Tensor"], "tf.Tensor"]
"""From a batch, the positions of its foregrounds and two int32 numbers to seed with, to the batch with other noise."""

Check = Callable[[Path], None]
"""Raises DataError for a file whose header tells that it is not what the network is trained on."""

Load = Callable[[Samples], NDArray[np.float32]]
"""From samples to their array (n, ...)."""

_BLOCK = 32


def train_case(
    case: Case,
    model: tf.keras.Model,
    parts: Sequence[Samples],
    check: Check,
    load: Load,
    read: Reader,
    redraw: Redraw,
) -> None:
    """Train the network of a case, and tell its accuracy.

    AdamW on softmax cross-entropy, with a learning rate that falls by cosines. The accuracy on the test samples is
    recorded after each epoch and chooses nothing: the network is that of the last epoch.

    Writes ``model.h5``, ``history.csv`` and ``networks.csv`` (``accuracy`` and ``accuracy_top5`` of both parts).

    Parameters
    ----------
    case : Case
        With the settings of `xairt.benchmarks.chaos_media.settings.MediaSettings`.
    model : tensorflow.keras.Model
        From samples to one output (logit) for each class; is trained.
    parts : (Samples, Samples)
        Training and test samples.
    check : callable
        Refuses a file by its header; all files are checked before the first epoch.
    load : callable
        Reads samples, and says what is wrong with a file.
    read : callable
        The same as a TensorFlow function from the name of one file.
    redraw : callable
        Draws the noise around foregrounds anew; used by the setting `fresh_noise` and a random background.

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the training: half a training must not pass for a whole one.
    DataError
        If a file is damaged or not what the network is trained on.
    DivergedError
        If the loss becomes NaN or infinite.
    """
    from xairt.models.saving import save_model

    check_files(parts, check, case.progress)
    _fitted(case, model, parts, read, redraw).to_csv(case.write(HISTORY))
    save_model(model, case.write(MODEL))
    rows = []
    for part, samples in zip(PARTS, parts, strict=True):
        outputs = np.concatenate(list(_outputs(model, samples, load, case.progress)))
        rows += accuracy_rows(outputs, samples.label, part)
    with atomic_write(case.write(NETWORKS)) as path:
        pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")


def accuracy_rows(outputs: ArrayLike, label: ArrayLike, part: str) -> list[dict[str, Any]]:
    """Return how often the right class has the largest output, and one of the five largest.

    Parameters
    ----------
    outputs : (n, classes)
    label : (n,) integers
    part : str
        Ends the names of the metrics.

    Returns
    -------
    list of dict
        Rows of a table of scores: ``accuracy.<part>``, ``accuracy_top5.<part>``, see
        `xairt.metrics.classification.top_k_accuracy`.

    Examples
    --------
    >>> [row["value"] for row in accuracy_rows([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], [0, 2], "test")]
    [0.5, 1.0]
    """
    found = {"accuracy": 1, f"accuracy_top{TOP}": TOP}
    return [
        {
            "label": NETWORK,
            "metric": f"{metric}.{part}",
            "statistic": "value",
            "value": top_k_accuracy(label, outputs, k),
            "n": len(np.asarray(label)),
        }
        for metric, k in found.items()
    ]


def network_rows(case: Case) -> list[dict[str, Any]]:
    """Return the accuracies that `train_case` wrote, as rows of a table of scores."""
    table = pd.read_csv(case.read(NETWORKS), float_precision="round_trip")
    return table.assign(method=NETWORK).to_dict("records")


def _fitted(
    case: Case, model: tf.keras.Model, parts: Sequence[Samples], read: Reader, redraw: Redraw
) -> History:
    import tensorflow as tf

    from xairt import training

    config = case.config
    train, test = parts
    batches = training.shuffled_file_batches(train.paths, train.label, read, config.batch_size, config.seed)
    if config.fresh_noise and not variant_of(config.variant).structural:
        batches = redrawn(batches, train.position, redraw, config.batch_size, config.seed)
    history = training.fit_dataset(
        model,
        batches,
        epochs=config.epochs,
        optimizer=tf.keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay),
        loss=training.class_loss(),
        validation=training.file_batches(test.paths, test.label, read, config.batch_size),
        metrics={"accuracy": tf.keras.metrics.sparse_categorical_accuracy},
        schedule=training.cosine_restarts(config.learning_rate, config.restart_epochs),
        seed=config.seed,
        progress=case.progress,
    )
    if history.interrupted:
        raise KeyboardInterrupt
    return history


def redrawn(
    batches: Callable[[int], tf.data.Dataset],
    position: NDArray[np.int64],
    redraw: Redraw,
    batch_size: int,
    seed: int,
) -> Callable[[int], tf.data.Dataset]:
    """Return batches whose noise is drawn anew in every epoch.

    Parameters
    ----------
    batches : callable
        From the epoch to its batches, as `xairt.training.shuffled_file_batches` gives them for this seed.
    position : (n,) or (n, 2) integers
        Of the foregrounds, in the order of the files.
    redraw : callable
        Changes a batch.
    batch_size, seed : int
        Of the batches; the seed keys the noise as well.

    Returns
    -------
    callable
        As `batches`.
    """
    import tensorflow as tf

    from xairt.training.loop import epoch_order

    def of_epoch(epoch: int) -> tf.data.Dataset:
        places = position[epoch_order(len(position), seed, epoch)].astype(np.int32)
        keys = np.random.default_rng([seed, epoch]).integers(2**31, size=(-(-len(places) // batch_size), 2))
        parts = (
            batches(epoch),
            tf.data.Dataset.from_tensor_slices(places).batch(batch_size),
            tf.data.Dataset.from_tensor_slices(keys.astype(np.int32)),
        )
        changed = tf.data.Dataset.zip(parts).map(
            lambda batch, place, key: (redraw(batch[0], place, key), batch[1]), tf.data.AUTOTUNE
        )
        return changed.prefetch(1)

    return of_epoch


def _outputs(
    model: tf.keras.Model, samples: Samples, load: Load, progress: bool
) -> Iterator[NDArray[np.float32]]:
    starts = range(0, len(samples), _BLOCK)
    for start in track(starts, len(starts), "predicting", progress):
        yield np.asarray(model.predict_on_batch(load(samples[start : start + _BLOCK])))
