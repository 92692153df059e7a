"""A fully connected classifier of fields: network, training and scores."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, ModelError
from xairt.metrics.classification import classification_scores
from xairt.models.architectures import GAIKWAD_LAYERS, dense_network
from xairt.models.dense import DenseLayer, dense_layers
from xairt.training.history import History
from xairt.training.loop import fit
from xairt.training.samples import (
    ClassWeight,
    checked_split,
    class_weights,
    known_classes,
    read_vectors,
    require_class_weight,
    taken,
)
from xairt.training.splits import Split
from xairt.training.trainer import Callback, Loss, Schedule

SGD_LEARNING_RATE = 0.01
MOMENTUM = 0.9
_PREDICTION_BATCH = 1024


class TrainFullyConnectedNN:
    """Train a fully connected network to tell classes from fields.

    The defaults are those of the publication but for the class weights ("inverse_frequency" there) and the schedule
    (``step_decay(0.01, every=50)`` there).

    Parameters
    ----------
    layers : sequence of DenseLayer or mappings
        From the input to the output, which is a softmax of one unit per class.
    n_inputs : int, optional
        Number of cells; by default that of the samples.
    loss : str or callable
        Of one-hot targets, as of `xairt.training.fit`.
    optimizer : Keras optimizer or its name, optional
        By default SGD with learning rate 0.01 and Nesterov momentum 0.9.
    schedule : callable, optional
        From the epoch (from 1) to its learning rate.
    epochs, batch_size : int
        As of `xairt.training.fit`.
    class_weight : {"balanced", "inverse_frequency"}, mapping or None
        See `class_weights`.
    keep_best : bool
        End with the weights of the smallest validation loss (with regularisation, as in Keras), where the split
        has a validation part; else with the last ones.
    seed : int
        Not negative; of the initial weights and the order of samples.

    Attributes
    ----------
    model : tensorflow.keras.Model
        (samples, cells) -> (samples, classes) probabilities; after `fit`.
    history : History
        With accuracy and loss of each epoch, and ``best_epoch``; after `fit`.

    Raises
    ------
    ModelError
        If layers do not make a classifier; the message names layer and field.
    DataError
        If `class_weight` is none.

    References
    ----------
    Gaikwad et al. (XAIRT).

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
    >>> labels = x[:, 0] > 0
    >>> trainer = TrainFullyConnectedNN([{"size": 4}, {"size": 2, "activation": "softmax"}], epochs=20, batch_size=32)
    >>> trainer.fit(x[:200], labels[:200]).scores(x[200:], labels[200:])["accuracy"] > 0.9
    True
    """

    def __init__(
        self,
        layers: Sequence[DenseLayer | Mapping[str, Any]] = GAIKWAD_LAYERS,
        n_inputs: int | None = None,
        *,
        loss: Loss = "categorical_crossentropy",
        optimizer: tf.keras.optimizers.Optimizer | str | None = None,
        schedule: Schedule | None = None,
        epochs: int = 500,
        batch_size: int = 128,
        class_weight: ClassWeight = "balanced",
        keep_best: bool = True,
        seed: int = 0,
    ) -> None:
        self.layers = _classifying(dense_layers(layers))
        self.n_classes = int(self.layers[-1].size)
        require_class_weight(class_weight, self.n_classes)
        if isinstance(loss, str) and loss.startswith("sparse_"):
            raise DataError(f"loss '{loss}': targets are one-hot; give '{loss.removeprefix('sparse_')}'")
        self.n_inputs, self.loss, self.optimizer, self.schedule = n_inputs, loss, optimizer, schedule
        self.epochs, self.batch_size, self.class_weight = epochs, batch_size, class_weight
        self.keep_best, self.seed = keep_best, seed
        self._result: tuple[tf.keras.Model, History] | None = None

    def fit(
        self,
        x: Any,
        labels: ArrayLike,
        split: Split | None = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        callback: Callback | None = None,
        progress: bool = False,
    ) -> TrainFullyConnectedNN:
        """Train a new network; an earlier one is forgotten.

        Parameters
        ----------
        x : (samples, cells), or (sample, lat, lon) DataArray with NaN on land
        labels : (samples,)
            Classes 0 .. n_classes - 1.
        split : Split, optional
            Which samples to train and to validate with, see `xairt.training.blocked`; its test part is not looked at.
            By default all samples are trained with, and none validates.
        checkpoint, callback, progress
            As of `xairt.training.fit`.

        Returns
        -------
        TrainFullyConnectedNN
            Itself.

        Raises
        ------
        DataError
            If samples, labels and split do not fit, hold NaN, or the training part lacks a class.
        DivergedError
            If the loss becomes NaN or infinite.
        """
        vectors, self._grid = read_vectors(x)
        values = np.asarray(vectors)
        if self.n_inputs not in (None, values.shape[1]):
            raise DataError(
                f"x: {values.shape[1]} cells, n_inputs={self.n_inputs}; give samples of as many cells"
            )
        split = checked_split(split, len(values))
        classes = known_classes(labels, len(values), self.n_classes, split.train)
        weights = class_weights(classes[split.train], self.class_weight, self.n_classes)
        targets = np.eye(self.n_classes, dtype=np.float32)[classes]
        validation = (values[split.validation], targets[split.validation]) if split.validation.size else None
        model = dense_network(values.shape[1], self.layers, self.seed)
        history = fit(
            model,
            taken(values, split.train),
            targets[split.train],
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=self._own_optimizer(),
            loss=self.loss,
            validation=validation,
            sample_weight=None if weights is None else weights[classes[split.train]],
            metrics={"accuracy": tf.keras.metrics.categorical_accuracy},
            schedule=self.schedule,
            keep_best=self.keep_best and validation is not None,
            checkpoint=checkpoint,
            seed=self.seed,
            progress=progress,
            callback=callback,
        )
        self._result = model, history
        return self

    @property
    def model(self) -> tf.keras.Model:
        """The trained network; DataError before `fit`."""
        return self._trained()[0]

    @property
    def history(self) -> History:
        """What the training recorded; DataError before `fit`."""
        return self._trained()[1]

    def probabilities(self, x: Any) -> NDArray[np.float32]:
        """Return the probability of each class (samples, classes); DataError if x is not like in `fit`."""
        model = self.model
        values = np.asarray(read_vectors(x, self._grid)[0])
        if values.shape[1] != model.input_shape[1]:
            raise DataError(
                f"x: {values.shape[1]} cells, the network takes {model.input_shape[1]}; give those of fit"
            )
        starts = range(0, len(values), _PREDICTION_BATCH)
        parts = [model(values[i : i + _PREDICTION_BATCH], training=False).numpy() for i in starts]
        return np.concatenate(parts)

    def predict(self, x: Any) -> NDArray[np.int64]:
        """Return the most probable class (samples,); DataError if x is not like in `fit`."""
        return self.probabilities(x).argmax(axis=1)

    def scores(self, x: Any, labels: ArrayLike, persistence: ArrayLike | None = None) -> dict[str, float]:
        """Return the scores of samples in time order beside class frequency and persistence.

        Parameters
        ----------
        x, labels
            As of `fit`.
        persistence : (samples,), optional
            Class at the date of the input, which persistence predicts.

        Returns
        -------
        dict
            As of `xairt.metrics.classification.classification_scores`.

        Raises
        ------
        DataError
            If samples are not like in `fit`, or labels do not fit.
        """
        return classification_scores(
            labels,
            self.predict(x),
            persistence=persistence,
            n_classes=self.n_classes,
        )

    def _trained(self) -> tuple[tf.keras.Model, History]:
        if self._result is None:
            raise DataError("TrainFullyConnectedNN: not trained yet; call fit(x, labels) first")
        return self._result

    def _own_optimizer(self) -> tf.keras.optimizers.Optimizer | str:
        if self.optimizer is not None:
            return self.optimizer
        return tf.keras.optimizers.legacy.SGD(SGD_LEARNING_RATE, MOMENTUM, nesterov=True)


def _classifying(layers: tuple[DenseLayer, ...]) -> tuple[DenseLayer, ...]:
    """Return layers whose last one is a softmax of two units or more."""
    last = layers[-1]
    if last.activation != "softmax":
        raise ModelError(
            f"layer {len(layers)}: activation = {last.activation!r} of the output; give 'softmax', for probabilities"
        )
    if last.size < 2:
        raise ModelError(
            f"layer {len(layers)}: size = {last.size} of the output; give one unit for each class"
        )
    return layers
