"""Training of classifiers on files that are read while it runs, and their accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xairt.benchmarks.chaos_media.metadata import Samples
from xairt.benchmarks.chaos_media.variants import PARTS
from xairt.data.files import atomic_write
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

Load = Callable[[Samples], NDArray[np.float32]]
"""From samples to their array (n, ...)."""

_BLOCK = 32


def train_case(case: Case, model: tf.keras.Model, parts: Sequence[Samples], load: Load, read: Reader) -> None:
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
    load : callable
        Reads samples, and says what is wrong with a file.
    read : callable
        The same as a TensorFlow function from the name of one file.

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the training: half a training must not pass for a whole one.
    DataError
        If a file is damaged or of another shape.
    DivergedError
        If the loss becomes NaN or infinite.
    """
    from xairt.models.saving import save_model

    _fitted(case, model, parts, read).to_csv(case.write(HISTORY))
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
        Rows of a table of scores: ``accuracy.<part>``, ``accuracy_top5.<part>``. An output as large as the right
        one comes before it.

    Examples
    --------
    >>> [row["value"] for row in accuracy_rows([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]], [0, 2], "test")]
    [0.5, 1.0]
    """
    values, right = np.asarray(outputs), np.asarray(label)
    own = np.take_along_axis(values, right[:, None], axis=1)
    before = (values >= own).sum(axis=1) - 1
    found = {"accuracy": before < 1, f"accuracy_top{TOP}": before < TOP}
    return [
        {
            "label": NETWORK,
            "metric": f"{metric}.{part}",
            "statistic": "value",
            "value": float(hits.mean()),
            "n": len(right),
        }
        for metric, hits in found.items()
    ]


def network_rows(case: Case) -> list[dict[str, Any]]:
    """Return the accuracies that `train_case` wrote, as rows of a table of scores."""
    table = pd.read_csv(case.read(NETWORKS), float_precision="round_trip")
    return table.assign(method=NETWORK).to_dict("records")


def _fitted(case: Case, model: tf.keras.Model, parts: Sequence[Samples], read: Reader) -> History:
    import tensorflow as tf

    from xairt import training

    config = case.config
    train, test = parts
    history = training.fit_dataset(
        model,
        training.shuffled_file_batches(train.paths, train.label, read, config.batch_size, config.seed),
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


def _outputs(
    model: tf.keras.Model, samples: Samples, load: Load, progress: bool
) -> Iterator[NDArray[np.float32]]:
    starts = range(0, len(samples), _BLOCK)
    for start in track(starts, len(starts), "predicting", progress):
        yield np.asarray(model.predict_on_batch(load(samples[start : start + _BLOCK])))
