"""Training loop of Keras models that runs each epoch as one compiled TensorFlow loop.

``model.fit`` returns to Python after every batch, which costs more than the batch itself for the small
networks and batches of climate studies; here Python is entered once per epoch.
"""

from __future__ import annotations

import csv
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from xairt.data.files import atomic_write
from xairt.errors import DataError, DivergedError, ModelError
from xairt.progress import bar

SGD_LEARNING_RATE = 0.02
VALIDATION_BATCH = 1024

Callback = Callable[[int, dict[str, float]], bool | None]
Loss = str | Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class History:
    """What a training recorded after each epoch.

    Parameters
    ----------
    columns : dict of str to numpy.ndarray
        ``epoch`` (from 1), ``loss`` (mean over the epoch's samples, while the weights change), ``val_loss``
        (at the epoch's end, where validation data were given), ``seconds``; (epochs,) each.
    interrupted : bool
        Whether the user stopped the training (Ctrl-C); the model then holds the weights of the last epoch.
    """

    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.columns["epoch"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write one line per epoch, atomically.

        Parameters
        ----------
        path : file to write or replace

        Returns
        -------
        pathlib.Path

        Raises
        ------
        DataError
            If the file cannot be written.
        """
        target = Path(path)
        with atomic_write(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(self.columns)
            writer.writerows(zip(*(column.tolist() for column in self.columns.values()), strict=True))
        return target


def fit(
    model: tf.keras.Model,
    x: ArrayLike,
    y: ArrayLike,
    *,
    epochs: int,
    batch_size: int = 32,
    optimizer: tf.keras.optimizers.Optimizer | str | None = None,
    loss: Loss = "mse",
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    seed: int = 0,
    progress: bool = False,
    callback: Callback | None = None,
) -> History:
    """Train a model of one input and one output; its weights change, its compile state does not.

    Parameters
    ----------
    model : tensorflow.keras.Model
        Compiled or not.
    x : (samples, ...)
        Finite inputs.
    y : (samples, ...)
        Finite targets in the shape of the model's output; (samples,) does for an output of (samples, 1), and
        class numbers for a sparse loss.
    epochs : int
        Passes over the data, >= 1.
    batch_size : int
        Samples per step, >= 1; the last step of an epoch takes what is left.
    optimizer : Keras optimizer or its name, optional
        SGD with learning rate 0.02 by default. Of an optimizer object the settings are used, not the state,
        and it is left as it is. Names and ``tf.keras.optimizers.legacy`` objects give the fastest steps.
    loss : str or callable
        A Keras loss, or a function of (targets, predictions) whose mean is minimised, with the model's
        regularisation added.
    validation : (x, y), optional
        Data whose loss is recorded after each epoch.
    seed : int
        Not negative; shuffles the samples, each epoch anew. Layers with noise of their own (dropout) are
        repeatable only if they carry a seed.
    progress : bool
        Show a progress bar on standard error, if it is a terminal.
    callback : callable, optional
        Called after each epoch with its number and record; training ends when it returns True.

    Returns
    -------
    History
        Marked `interrupted` after Ctrl-C, which takes effect at the end of the running epoch.

    Raises
    ------
    DataError
        If shapes do not fit, data hold NaN or infinity, or a parameter is out of range.
    DivergedError
        If the loss becomes NaN or infinite.
    ModelError
        If the model has several inputs or outputs.

    References
    ----------
    Defaults: Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7.
    """
    for name, value, lowest in (("epochs", epochs, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if value < lowest:
            raise DataError(f"{name}={value}: out of range; give a whole number from {lowest}")
    trainer = _Trainer(model, optimizer, loss, batch_size, seed)
    training_data = _tensors(model, x, y, "x")
    validation_data = None if validation is None else _tensors(model, *validation, "validation x")
    records: list[dict[str, float]] = []
    interrupted = False
    try:
        with (
            _interrupt_at_epoch_end() as pressed,
            bar(epochs, "training", progress) as advance,
        ):
            for epoch in range(1, epochs + 1):
                records.append(trainer.epoch(epoch, training_data, validation_data))
                advance(_note(records[-1], len(training_data[0])))
                if callback is not None and callback(epoch, dict(records[-1])):
                    break
                if pressed.is_set():
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        interrupted = True
        _log.warning("training interrupted after %d of %d epochs", len(records), epochs)
    return _history(records, validation is not None, interrupted)


class _Trainer:
    """The compiled functions of one training."""

    def __init__(
        self,
        model: tf.keras.Model,
        optimizer: tf.keras.optimizers.Optimizer | str | None,
        loss: Loss,
        batch_size: int,
        seed: int,
    ) -> None:
        self._model = model
        self._loss = tf.keras.losses.get(loss)
        self._optimizer = own_optimizer(optimizer)
        self._seed = seed
        self._train = _compiled_pass(self._train_step, batch_size)
        self._validate = _compiled_pass(self._validation_step, VALIDATION_BATCH)

    def epoch(
        self,
        epoch: int,
        training: tuple[tf.Tensor, tf.Tensor],
        validation: tuple[tf.Tensor, tf.Tensor] | None,
    ) -> dict[str, float]:
        """Run one epoch and return its record."""
        started = time.perf_counter()
        if epoch == 1 and hasattr(self._optimizer, "build"):
            self._optimizer.build(self._model.trainable_variables)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(training[0]))
        record = {"epoch": epoch, "loss": float(self._train(*training, tf.constant(order)))}
        if not np.isfinite(record["loss"]):
            raise DivergedError(
                f"training: loss {record['loss']} in epoch {epoch}; lower the learning rate or scale x and y"
            )
        if validation is not None:
            in_order = tf.range(len(validation[0]), dtype=tf.int64)
            record["val_loss"] = float(self._validate(*validation, in_order))
        record["seconds"] = time.perf_counter() - started
        return record

    def _total_loss(self, x: tf.Tensor, y: tf.Tensor, training: bool) -> tf.Tensor:
        value = tf.reduce_mean(self._loss(y, self._model(x, training=training)))
        return tf.add_n([value, *self._model.losses])

    def _train_step(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            value = self._total_loss(x, y, training=True)
        pairs = zip(tape.gradient(value, variables), variables, strict=True)
        self._optimizer.apply_gradients([(gradient, v) for gradient, v in pairs if gradient is not None])
        return value

    def _validation_step(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return self._total_loss(x, y, training=False)


def _compiled_pass(
    step: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], batch_size: int
) -> Callable[..., tf.Tensor]:
    """Compile a loop of `step` over all samples in a given order; it returns the mean over samples."""

    @tf.function
    def run(x: tf.Tensor, y: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
        samples = order.shape[0]
        whole, rest = divmod(samples, batch_size)
        total = tf.constant(0.0, tf.float64)
        for index in tf.range(whole):
            rows = tf.ensure_shape(order[index * batch_size : (index + 1) * batch_size], [batch_size])
            value = step(tf.gather(x, rows), tf.gather(y, rows))
            total += tf.cast(value, tf.float64) * batch_size
        if rest:
            rows = order[whole * batch_size :]
            total += tf.cast(step(tf.gather(x, rows), tf.gather(y, rows)), tf.float64) * rest
        return total / samples

    return run


def own_optimizer(optimizer: tf.keras.optimizers.Optimizer | str | None) -> Any:
    """Return an optimizer of our own; Keras's legacy classes make the faster step on a CPU."""
    if optimizer is None:
        return tf.keras.optimizers.legacy.SGD(SGD_LEARNING_RATE)
    if isinstance(optimizer, str):
        return tf.keras.optimizers.get(optimizer, use_legacy_optimizer=True)
    return type(optimizer).from_config(optimizer.get_config())


def _tensors(model: tf.keras.Model, x: ArrayLike, y: ArrayLike, name: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Check data against the model and put them where the compiled loop finds them."""
    inputs, targets = np.asarray(x), np.asarray(y)
    target_name = name.replace("x", "y")
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets) or not len(inputs):
        shapes = f"{name} {inputs.shape} and {target_name} {targets.shape}"
        raise DataError(f"{shapes}: numbers of samples differ or are 0; give one target per sample")
    _require_finite(inputs, name)
    _require_finite(targets, target_name)
    _require_single_input(model, inputs, name)
    dtype = tf.as_dtype(model.dtype or "float32")
    output_shape = model(tf.constant(inputs[:1], dtype), training=False).shape.as_list()
    targets = _fitting_targets(targets, output_shape[1:], target_name)
    target_dtype = dtype if targets.dtype.kind == "f" else None
    return tf.constant(inputs, dtype), tf.constant(targets, target_dtype)


def _require_single_input(model: tf.keras.Model, inputs: NDArray[Any], name: str) -> None:
    if len(getattr(model, "inputs", None) or [0]) > 1 or len(getattr(model, "outputs", None) or [0]) > 1:
        raise ModelError(f"{model.name}: has several inputs or outputs; train it with model.fit")
    expected = getattr(model, "input_shape", None)
    if expected is not None and not _fits(inputs.shape[1:], expected[1:]):
        raise DataError(
            f"{name}: samples of shape {inputs.shape[1:]}, the model takes {tuple(expected[1:])}; reshape"
        )


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(e in (None, s) for s, e in zip(shape, expected, strict=True))


def _fitting_targets(targets: NDArray[Any], output: list[int], name: str) -> NDArray[Any]:
    """Return targets in the output's shape; (samples,) against (samples, 1) would broadcast to a square."""
    shape = list(targets.shape[1:])
    if shape == output:
        return targets
    if output and output[-1] == 1 and shape == output[:-1]:
        return targets[..., np.newaxis]
    if targets.dtype.kind in "iu" and output and shape in (output[:-1], [*output[:-1], 1]):
        return targets
    raise DataError(
        f"{name}: samples of shape {tuple(shape)}, the model gives {tuple(output)}; reshape the targets"
    )


def _require_finite(array: NDArray[Any], name: str) -> None:
    if array.dtype.kind not in "iufb":
        raise DataError(f"{name}: holds {array.dtype}, not numbers; convert it")
    # Minimum and maximum are NaN if any value is, and need no second array.
    if array.dtype.kind == "f" and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise DataError(f"{name}: holds NaN or infinity; leave land out (Grid.to_vector) or fill gaps")


def _note(record: dict[str, float], samples: int) -> str:
    return f"loss {record['loss']:.4g}  {samples / record['seconds']:,.0f} samples/s"


def _history(records: list[dict[str, float]], validated: bool, interrupted: bool) -> History:
    names = ["epoch", "loss", *(["val_loss"] if validated else []), "seconds"]
    columns = {name: np.array([record[name] for record in records], dtype=np.float64) for name in names}
    columns["epoch"] = columns["epoch"].astype(np.int64)
    return History(columns, interrupted)


@contextmanager
def _interrupt_at_epoch_end() -> Iterator[threading.Event]:
    """Note Ctrl-C instead of raising at once, so that weights and history stay those of whole epochs.

    Another handler than Python's own, or another thread than the main one, is left alone.
    """
    pressed = threading.Event()
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield pressed
        return
    signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
