"""Training loop of Keras models that runs each epoch as one compiled TensorFlow loop.

``model.fit`` returns to Python after every batch, which costs more than the batch itself for the small
networks and batches of climate studies; here Python is entered once per epoch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, ModelError
from xairt.training.history import Best, History, history_of
from xairt.training.memory import tensor_of
from xairt.training.trainer import (
    Callback,
    Loss,
    Metrics,
    Pass,
    Perturb,
    Schedule,
    Trainer,
    require_finite,
    run_epochs,
)

VALIDATION_BATCH = 1024

Fresh = Callable[[int], tuple[ArrayLike, ArrayLike]]


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
    jit_compile: bool = False,
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
    jit_compile : bool
        Compile loss and gradients of a step by XLA, as in Keras: steps of large batches through small dense networks
        take about 0.6 of the time. Every size of a batch compiles anew, and dropout does not keep its seed.
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
    trainer = Trainer(model, optimizer, loss, seed, metrics, schedule, perturb, jit_compile)
    training_data = _tensors(model, x, y, "x")
    if sample_weight is not None:
        if fresh is not None:
            raise DataError("sample_weight: are those of one set of samples; leave them or fresh out")
        training_data += (trainer.weights(sample_weight, *training_data),)
    validate = None
    if validation is not None:
        validate = _validation_pass(trainer, _tensors(model, *validation, "validation x"))
    records, interrupted = run_epochs(
        trainer,
        range(1, epochs + 1),
        _training_passes(trainer, _epoch_data(model, training_data, fresh), batch_size, seed),
        validate,
        best,
        callback,
        progress,
    )
    return history_of(records, trainer.columns(validation is not None), interrupted, best.epoch)


def _training_passes(
    trainer: Trainer, data: Callable[[int], tuple[tf.Tensor, ...]], batch_size: int, seed: int
) -> Callable[[int], Pass]:
    """Return the function from an epoch to its pass over the samples, in an order of its own."""
    train = _compiled_pass(trainer.train_step, batch_size, trainer.n_values)

    def training(epoch: int) -> Pass:
        samples = data(epoch)

        def run() -> tuple[tf.Tensor, int]:
            return train(tf.constant(epoch_order(len(samples[0]), seed, epoch)), *samples), len(samples[0])

        return run

    return training


def epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch trains on n samples."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def _validation_pass(trainer: Trainer, data: tuple[tf.Tensor, ...]) -> Pass:
    validate = _compiled_pass(trainer.validation_step, VALIDATION_BATCH, trainer.n_values)
    in_order = tf.range(len(data[0]), dtype=tf.int64)
    return lambda: (validate(in_order, *data), len(data[0]))


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


def _tensors(model: tf.keras.Model, x: ArrayLike, y: ArrayLike, name: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Check data against the model and put them where the compiled loop finds them."""
    inputs, targets = np.asarray(x), np.asarray(y)
    target_name = name.replace("x", "y")
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets) or not len(inputs):
        shapes = f"{name} {inputs.shape} and {target_name} {targets.shape}"
        raise DataError(f"{shapes}: numbers of samples differ or are 0; give one target per sample")
    require_finite(inputs, name)
    require_finite(targets, target_name)
    require_single_input(model, inputs.shape, name)
    dtype = tf.as_dtype(model.dtype or "float32")
    output_shape = model(tf.constant(inputs[:1], dtype), training=False).shape.as_list()
    targets = fitting_targets(targets, output_shape[1:], target_name)
    target_dtype = dtype if targets.dtype.kind == "f" else None
    return tensor_of(inputs, dtype), tf.constant(targets, target_dtype)


def require_single_input(model: tf.keras.Model, shape: tuple[int | None, ...], name: str) -> None:
    """Raise an error unless a model has one input, which takes arrays of a shape, and one output."""
    if len(getattr(model, "inputs", None) or [0]) > 1 or len(getattr(model, "outputs", None) or [0]) > 1:
        raise ModelError(f"{model.name}: has several inputs or outputs; train it with model.fit")
    expected = getattr(model, "input_shape", None)
    if expected is not None and not _fits(shape[1:], expected[1:]):
        raise DataError(
            f"{name}: samples of shape {tuple(shape[1:])}, the model takes {tuple(expected[1:])}; reshape"
        )


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(e in (None, s) for s, e in zip(shape, expected, strict=True))


def fitting_targets(targets: NDArray[Any], output: list[int], name: str) -> NDArray[Any]:
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
