"""The steps of a training and the course of its epochs, whatever the samples come from."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, DivergedError
from xairt.progress import bar
from xairt.training.history import Best

SGD_LEARNING_RATE = 0.02

Callback = Callable[[int, dict[str, float]], bool | None]
Loss = str | Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Schedule = Callable[[int], float]
Metrics = Mapping[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]
Perturb = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
Pass = Callable[[], tuple[tf.Tensor, int]]
"""One pass over samples: it returns the means of loss and metrics over them, and their number."""

_log = logging.getLogger(__name__)


def run_epochs(
    trainer: Trainer,
    epochs: range,
    training: Callable[[int], Pass],
    validation: Pass | None,
    best: Best,
    callback: Callback | None,
    progress: bool,
) -> tuple[list[dict[str, float]], bool]:
    """Train until the epochs, the callback or the user end it.

    Parameters
    ----------
    trainer : Trainer
    epochs : range
        From 1.
    training : callable
        From the epoch to its pass; the time of the pass alone is recorded.
    validation : callable, optional
        The pass over validation data.
    best : Best
        Sees every record, and has its weights restored at the end, also after an exception.
    callback, progress
        As of `xairt.training.fit`.

    Returns
    -------
    records : list of dict
        One for each finished epoch.
    interrupted : bool
        Whether it was the user (Ctrl-C).
    """
    records: list[dict[str, float]] = []
    interrupted = False
    try:
        with (
            _interrupt_at_epoch_end() as pressed,
            bar(len(epochs), "training", progress) as advance,
        ):
            for epoch in epochs:
                record, samples = trainer.epoch(epoch, training(epoch), validation)
                records.append(record)
                best.see(record)
                advance(f"loss {record['loss']:.4g}  {samples / record['seconds']:,.0f} samples/s")
                if callback is not None and callback(epoch, dict(record)):
                    break
                if pressed.is_set():
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        interrupted = True
        _log.warning("training interrupted after %d of %d epochs", len(records), len(epochs))
    finally:
        best.restore()
    return records, interrupted


class Trainer:
    """One training: its optimizer, what a step computes, and what an epoch records.

    Parameters
    ----------
    model, optimizer, loss, seed, metrics, schedule, perturb, jit_compile
        As of `xairt.training.fit`.
    """

    def __init__(
        self,
        model: tf.keras.Model,
        optimizer: tf.keras.optimizers.Optimizer | str | None,
        loss: Loss,
        seed: int,
        metrics: Metrics | None,
        schedule: Schedule | None,
        perturb: Perturb | None = None,
        jit_compile: bool = False,
    ) -> None:
        self._model = model
        self._loss = tf.keras.losses.get(loss)
        self._optimizer = own_optimizer(optimizer)
        self._seed = seed
        self._metrics = dict(metrics or {})
        self._schedule = schedule
        self._perturb = perturb
        self._descent = tf.function(self._gradients, jit_compile=True) if jit_compile else self._gradients
        if schedule is not None:
            _require_epoch_schedule(schedule, self._optimizer)

    @property
    def n_values(self) -> int:
        """Number of values of a step: the loss, and the metrics."""
        return 1 + len(self._metrics)

    def columns(self, validated: bool) -> list[str]:
        """Return the names of what an epoch records, in their order."""
        names = ["loss", *self._metrics]
        validation = [f"val_{name}" for name in names] if validated else []
        rate = [] if self._schedule is None else ["learning_rate"]
        return ["epoch", *names, *validation, *rate, "seconds"]

    def epoch(self, epoch: int, train: Pass, validate: Pass | None) -> tuple[dict[str, float], int]:
        """Run one epoch; return its record, and the number of samples that it trained on."""
        started = time.perf_counter()
        if epoch == 1 and hasattr(self._optimizer, "build"):
            self._optimizer.build(self._model.trainable_variables)
        rate = [] if self._schedule is None else [self._set_rate(self._schedule, epoch)]
        means, samples = train()
        values = means.numpy().tolist()
        _require_converging(values[0], "loss", epoch)
        if validate is not None:
            values += validate()[0].numpy().tolist()
            _require_converging(values[self.n_values], "validation loss", epoch)
        row = [epoch, *values, *rate, time.perf_counter() - started]
        return dict(zip(self.columns(validate is not None), row, strict=True)), samples

    def weights(self, given: ArrayLike, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Check the weights of the samples, and that the loss can be weighted."""
        weights = np.asarray(given)
        if weights.shape != (len(x),):
            raise DataError(
                f"sample_weight {weights.shape}: give one number for each of the {len(x)} samples"
            )
        require_finite(weights, "sample_weight")
        if weights.min() < 0 or weights.max() <= 0:
            raise DataError("sample_weight: negative, or all 0; give factors >= 0")
        one = self._loss(y[:1], self._model(x[:1], training=False))
        if one.shape.rank == 0 and not isinstance(self._loss, tf.keras.losses.Loss):
            raise DataError("sample_weight: the loss gives one number for all samples; return one for each")
        return tf.constant(weights, x.dtype)

    def _set_rate(self, schedule: Schedule, epoch: int) -> float:
        given = schedule(epoch)
        try:
            rate = float(given)
        except (TypeError, ValueError):
            rate = np.nan
        if not 0 < rate < np.inf:
            raise DataError(f"schedule: learning rate {given} in epoch {epoch}; return a positive number")
        self._optimizer.learning_rate = rate
        return rate

    def _data_loss(self, y: tf.Tensor, prediction: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
        if weights is None:
            return tf.reduce_mean(self._loss(y, prediction))
        if isinstance(self._loss, tf.keras.losses.Loss):
            return tf.reduce_mean(self._loss(y, prediction, weights))
        values = self._loss(y, prediction)
        return tf.reduce_mean(tf.reshape(values, (tf.shape(weights)[0], -1)) * weights[:, tf.newaxis])

    def _values(
        self, training: bool, x: tf.Tensor, y: tf.Tensor, weights: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        """Return the loss with regularisation, and the means of the metrics."""
        prediction = self._model(x, training=training)
        loss = tf.add_n([self._data_loss(y, prediction, weights), *self._model.losses])
        return [loss, *(tf.reduce_mean(metric(y, prediction)) for metric in self._metrics.values())]

    def train_step(self, x: tf.Tensor, *rest: tf.Tensor) -> list[tf.Tensor]:
        """Change the weights by one batch (x, y and, where given, weights); return its loss and metrics."""
        variables = self._model.trainable_variables
        if self._perturb is not None:
            x = tf.ensure_shape(self._perturb(x, rest[0], self._step_seed()), x.shape)
        values, gradients = self._descent(x, *rest)
        pairs = zip(gradients, variables, strict=True)
        self._optimizer.apply_gradients([(gradient, v) for gradient, v in pairs if gradient is not None])
        return values

    def _gradients(self, *batch: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor | None]]:
        """Return loss and metrics of one batch, and the derivatives of the loss by the weights."""
        with tf.GradientTape() as tape:
            values = self._values(True, *batch)
        return values, tape.gradient(values[0], self._model.trainable_variables)

    def _step_seed(self) -> tf.Tensor:
        return tf.stack(
            [tf.constant(self._seed % 2**31, tf.int32), tf.cast(self._optimizer.iterations, tf.int32)]
        )

    def validation_step(self, *batch: tf.Tensor) -> list[tf.Tensor]:
        """Return loss and metrics of one batch."""
        return self._values(False, *batch)


def _require_converging(loss: float, name: str, epoch: int) -> None:
    if not np.isfinite(loss):
        raise DivergedError(
            f"training: {name} {loss} in epoch {epoch}; lower the learning rate or scale x and y"
        )


def _require_epoch_schedule(schedule: Schedule, optimizer: Any) -> None:
    by_steps = tf.keras.optimizers.schedules.LearningRateSchedule
    if isinstance(schedule, by_steps) or not callable(schedule):
        raise DataError(
            f"schedule {type(schedule).__name__}: no function of the epoch; give a Keras schedule, which counts "
            "steps, to the optimizer"
        )
    if isinstance(optimizer.get_config().get("learning_rate"), dict):
        raise DataError("schedule: the optimizer has a schedule of its own; give one of them")


def own_optimizer(optimizer: tf.keras.optimizers.Optimizer | str | None) -> Any:
    """Return an optimizer of our own; Keras's legacy classes make the faster step on a CPU."""
    if optimizer is None:
        return tf.keras.optimizers.legacy.SGD(SGD_LEARNING_RATE)
    if isinstance(optimizer, str):
        return tf.keras.optimizers.get(optimizer, use_legacy_optimizer=True)
    return type(optimizer).from_config(optimizer.get_config())


def require_finite(array: NDArray[Any], name: str) -> None:
    """Raise a DataError unless an array holds finite numbers."""
    if array.dtype.kind not in "iufb":
        raise DataError(f"{name}: holds {array.dtype}, not numbers; convert it")
    # Minimum and maximum are NaN if any value is, and need no second array.
    if array.dtype.kind == "f" and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise DataError(f"{name}: holds NaN or infinity; leave land out (Grid.to_vector) or fill gaps")


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
