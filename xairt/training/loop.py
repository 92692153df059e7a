"""Training loop of Keras models that runs each epoch as one compiled TensorFlow loop.

``model.fit`` returns to Python after every batch, which costs more than the batch itself for the small
networks and batches of climate studies; here Python is entered once per epoch.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, DivergedError, ModelError
from xairt.progress import bar
from xairt.training.history import Best, History, history_of
from xairt.training.memory import tensor_of

SGD_LEARNING_RATE = 0.02
VALIDATION_BATCH = 1024

Callback = Callable[[int, dict[str, float]], bool | None]
Loss = str | Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Schedule = Callable[[int], float]
Metrics = Mapping[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]
Perturb = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
Fresh = Callable[[int], tuple[ArrayLike, ArrayLike]]

_log = logging.getLogger(__name__)


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
    sample_weight: ArrayLike | None = None,
    metrics: Metrics | None = None,
    schedule: Schedule | None = None,
    keep_best: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    perturb: Perturb | None = None,
    fresh: Fresh | None = None,
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
        Finite inputs. Memory holds them once more, but for arrays made by `xairt.training.memory.empty`.
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
    sample_weight : (samples,), optional
        Factors >= 0 of the samples' losses in training; the mean is still over the number of samples, and the
        validation loss has no weights, both as in Keras.
    metrics : mapping of str to callable, optional
        Further columns of the history: functions of (targets, predictions) whose mean over samples is recorded,
        such as ``{"accuracy": tf.keras.metrics.categorical_accuracy}``, also as ``val_accuracy``. No weights.
    schedule : callable, optional
        From the epoch (from 1) to its learning rate, in place of the optimizer's own, see
        `xairt.training.step_decay`. A Keras LearningRateSchedule counts steps: give it to the optimizer.
    keep_best : bool
        End with the weights of the epoch of the smallest validation loss, which as in Keras includes the
        model's regularisation. Needs `validation`. They come back after an exception too.
    checkpoint : path, optional
        Keras HDF5 file (.h5) that holds those weights at any time, rewritten atomically. Needs `validation`.
    perturb : callable, optional
        From the inputs and targets of a step, and two int32 numbers of this step to seed
        ``tf.random.stateless_*`` with, to the inputs that it trains on, in their shape; compiled with the step. Loss
        and metrics are then those of the changed inputs, ``val_loss`` that of the given ones. See
        `xairt.training.pgd_perturbation`.
    fresh : callable, optional
        From the epoch (from 2) to the x and y that it trains on in place of the given ones, in their shapes: for
        data without end. x and y are those of epoch 1. ``seconds`` of the history do not count its time.
    seed : int
        Not negative; shuffles the samples, each epoch anew. Layers with noise of their own (dropout) are
        repeatable only if they carry a seed.
    progress : bool
        Show a progress bar on standard error, if it is a terminal.
    callback : callable, optional
        Called after each epoch with its number and record; training ends when it returns True, see
        `xairt.training.early_stopping`.

    Returns
    -------
    History
        Marked `interrupted` after Ctrl-C, which takes effect at the end of the running epoch.

    Raises
    ------
    DataError
        If shapes do not fit, data hold NaN or infinity, or a parameter is out of range.
    DivergedError
        If the loss or the validation loss becomes NaN or infinite.
    ModelError
        If the model has several inputs or outputs.

    References
    ----------
    Defaults: Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7.
    """
    for name, value, lowest in (("epochs", epochs, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if value < lowest:
            raise DataError(f"{name}={value}: out of range; give a whole number from {lowest}")
    best = Best(model, keep_best, checkpoint, validated=validation is not None)
    trainer = _Trainer(model, optimizer, loss, batch_size, seed, dict(metrics or {}), schedule, perturb)
    training_data = _tensors(model, x, y, "x")
    if sample_weight is not None:
        if fresh is not None:
            raise DataError("sample_weight: are those of one set of samples; leave them or fresh out")
        training_data += (trainer.weights(sample_weight, *training_data),)
    validation_data = None if validation is None else _tensors(model, *validation, "validation x")
    records, interrupted = _epochs(
        trainer,
        range(1, epochs + 1),
        _epoch_data(model, training_data, fresh),
        validation_data,
        best,
        callback,
        progress,
    )
    return history_of(records, trainer.columns(validation is not None), interrupted, best.epoch)


def _epoch_data(
    model: tf.keras.Model, first: tuple[tf.Tensor, ...], fresh: Fresh | None
) -> Callable[[int], tuple[tf.Tensor, ...]]:
    """Return the function from an epoch to the samples that it trains on."""

    def data(epoch: int) -> tuple[tf.Tensor, ...]:
        if fresh is None or epoch == 1:
            return first
        name = f"fresh({epoch}) x"
        given = _tensors(model, *fresh(epoch), name)
        for new, old in zip(given, first, strict=True):
            if new.shape != old.shape or new.dtype != old.dtype:
                raise DataError(
                    f"{name} and y: {new.shape} of {new.dtype.name} where the first epoch has {old.shape} of "
                    f"{old.dtype.name}; return the same"
                )
        return given

    return data


def _epochs(
    trainer: _Trainer,
    epochs: range,
    training: Callable[[int], tuple[tf.Tensor, ...]],
    validation: tuple[tf.Tensor, ...] | None,
    best: Best,
    callback: Callback | None,
    progress: bool,
) -> tuple[list[dict[str, float]], bool]:
    """Train until the epochs, the callback or the user end it; return the records, and whether it was the user."""
    records: list[dict[str, float]] = []
    interrupted = False
    try:
        with (
            _interrupt_at_epoch_end() as pressed,
            bar(len(epochs), "training", progress) as advance,
        ):
            for epoch in epochs:
                data = training(epoch)
                records.append(trainer.epoch(epoch, data, validation))
                best.see(records[-1])
                advance(_note(records[-1], len(data[0])))
                if callback is not None and callback(epoch, dict(records[-1])):
                    break
                if pressed.is_set():
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        interrupted = True
        _log.warning("training interrupted after %d of %d epochs", len(records), len(epochs))
    finally:
        best.restore()
    return records, interrupted


class _Trainer:
    """The compiled functions of one training."""

    def __init__(
        self,
        model: tf.keras.Model,
        optimizer: tf.keras.optimizers.Optimizer | str | None,
        loss: Loss,
        batch_size: int,
        seed: int,
        metrics: Metrics,
        schedule: Schedule | None,
        perturb: Perturb | None,
    ) -> None:
        self._model = model
        self._loss = tf.keras.losses.get(loss)
        self._optimizer = own_optimizer(optimizer)
        self._seed = seed
        self._metrics = metrics
        self._schedule = schedule
        self._perturb = perturb
        if schedule is not None:
            _require_epoch_schedule(schedule, self._optimizer)
        self._train = _compiled_pass(self._train_step, batch_size, 1 + len(metrics))
        self._validate = _compiled_pass(self._validation_step, VALIDATION_BATCH, 1 + len(metrics))

    def columns(self, validated: bool) -> list[str]:
        """Return the names of what an epoch records, in their order."""
        names = ["loss", *self._metrics]
        validation = [f"val_{name}" for name in names] if validated else []
        rate = [] if self._schedule is None else ["learning_rate"]
        return ["epoch", *names, *validation, *rate, "seconds"]

    def epoch(
        self,
        epoch: int,
        training: tuple[tf.Tensor, ...],
        validation: tuple[tf.Tensor, ...] | None,
    ) -> dict[str, float]:
        """Run one epoch and return its record."""
        started = time.perf_counter()
        if epoch == 1 and hasattr(self._optimizer, "build"):
            self._optimizer.build(self._model.trainable_variables)
        rate = [] if self._schedule is None else [self._set_rate(self._schedule, epoch)]
        order = np.random.default_rng([self._seed, epoch]).permutation(len(training[0]))
        values = self._train(tf.constant(order), *training).numpy().tolist()
        _require_converging(values[0], "loss", epoch)
        if validation is not None:
            in_order = tf.range(len(validation[0]), dtype=tf.int64)
            values += self._validate(in_order, *validation).numpy().tolist()
            _require_converging(values[1 + len(self._metrics)], "validation loss", epoch)
        row = [epoch, *values, *rate, time.perf_counter() - started]
        return dict(zip(self.columns(validation is not None), row, strict=True))

    def weights(self, given: ArrayLike, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Check the weights of the samples, and that the loss can be weighted."""
        weights = np.asarray(given)
        if weights.shape != (len(x),):
            raise DataError(
                f"sample_weight {weights.shape}: give one number for each of the {len(x)} samples"
            )
        _require_finite(weights, "sample_weight")
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

    def _train_step(self, x: tf.Tensor, *rest: tf.Tensor) -> list[tf.Tensor]:
        variables = self._model.trainable_variables
        if self._perturb is not None:
            x = tf.ensure_shape(self._perturb(x, rest[0], self._step_seed()), x.shape)
        with tf.GradientTape() as tape:
            values = self._values(True, x, *rest)
        pairs = zip(tape.gradient(values[0], variables), variables, strict=True)
        self._optimizer.apply_gradients([(gradient, v) for gradient, v in pairs if gradient is not None])
        return values

    def _step_seed(self) -> tf.Tensor:
        return tf.stack(
            [tf.constant(self._seed % 2**31, tf.int32), tf.cast(self._optimizer.iterations, tf.int32)]
        )

    def _validation_step(self, *batch: tf.Tensor) -> list[tf.Tensor]:
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


def _compiled_pass(
    step: Callable[..., list[tf.Tensor]], batch_size: int, n_values: int
) -> Callable[..., tf.Tensor]:
    """Compile a loop of `step` over all samples in a given order; it returns the means over samples."""

    @tf.function
    def run(order: tf.Tensor, *data: tf.Tensor) -> tf.Tensor:
        samples = order.shape[0]
        whole, rest = divmod(samples, batch_size)
        total = tf.zeros(n_values, tf.float64)
        for index in tf.range(whole):
            rows = tf.ensure_shape(order[index * batch_size : (index + 1) * batch_size], [batch_size])
            values = step(*[tf.gather(array, rows) for array in data])
            total += tf.stack([tf.cast(value, tf.float64) for value in values]) * batch_size
        if rest:
            rows = order[whole * batch_size :]
            values = step(*[tf.gather(array, rows) for array in data])
            total += tf.stack([tf.cast(value, tf.float64) for value in values]) * rest
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
    return tensor_of(inputs, dtype), tf.constant(targets, target_dtype)


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
