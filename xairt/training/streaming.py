"""Training on samples that are read while it runs, so that images and sounds need not fit in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from xairt.errors import DataError, reason_of
from xairt.training.history import Best, History, history_of
from xairt.training.loop import epoch_order, fitting_targets, require_single_input
from xairt.training.trainer import Callback, Loss, Metrics, Pass, Schedule, Trainer, run_epochs

Batches = tf.data.Dataset | Callable[[int], tf.data.Dataset]
"""Batches (x, y) of one pass; or a function from the epoch (from 1) to them."""

Reader = Callable[[tf.Tensor], tf.Tensor]
"""TensorFlow function from the name of a file to one sample."""

_NOT_FINITE = "x holds NaN or infinity"


def fit_dataset(
    model: tf.keras.Model,
    training: Batches,
    *,
    epochs: int,
    optimizer: tf.keras.optimizers.Optimizer | str | None = None,
    loss: Loss = "mse",
    validation: tf.data.Dataset | None = None,
    metrics: Metrics | None = None,
    schedule: Schedule | None = None,
    keep_best: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool = False,
    callback: Callback | None = None,
) -> History:
    """Train a model as `xairt.training.fit` does, on batches that a dataset reads while it runs.

    Parameters
    ----------
    model : tensorflow.keras.Model
        Of one input and one output; its weights change, its compile state does not.
    training : tensorflow.data.Dataset, or callable
        Batches (x, y) of known sample shape; one pass is one epoch, with all batches in the order of the dataset.
        A callable gives the dataset of each epoch (from 1), see `shuffled_file_batches`; a dataset that shuffles
        should carry a seed, and goes on with its own random numbers when it is used once more.
    epochs : int
        Passes, >= 1.
    optimizer, loss, metrics, schedule, keep_best, checkpoint, seed, progress, callback
        As of `xairt.training.fit`; there is nothing to shuffle here for the seed.
    validation : tensorflow.data.Dataset, optional
        Batches (x, y) whose loss is recorded after each epoch.

    Returns
    -------
    History
        As of `xairt.training.fit`; with the same batches the numbers are the same. ``seconds`` count the reading.

    Raises
    ------
    DataError
        If shapes do not fit, a dataset is empty, endless or fails, x holds NaN or infinity, or a parameter is out of
        range. Batches before the one that fails have been trained on.
    DivergedError
        If the loss or the validation loss becomes NaN or infinite.
    ModelError
        If the model has several inputs or outputs.
    """
    for name, value, lowest in (("epochs", epochs, 1), ("seed", seed, 0)):
        if value < lowest:
            raise DataError(f"{name}={value}: out of range; give a whole number from {lowest}")
    best = Best(model, keep_best, checkpoint, validated=validation is not None)
    trainer = Trainer(model, optimizer, loss, seed, metrics, schedule)
    train = _streamed_pass(model, trainer.train_step, trainer.n_values)
    first = training(1) if callable(training) else training

    def of_epoch(epoch: int) -> Pass:
        given = first if epoch == 1 or not callable(training) else training(epoch)
        return _pass(train, _checked(model, given, "dataset"), f"dataset in epoch {epoch}")

    of_epoch(1)
    validate = None
    if validation is not None:
        evaluate = _streamed_pass(model, trainer.validation_step, trainer.n_values)
        validate = _pass(evaluate, _checked(model, validation, "validation"), "validation")
    records, interrupted = run_epochs(
        trainer, range(1, epochs + 1), of_epoch, validate, best, callback, progress
    )
    return history_of(records, trainer.columns(validation is not None), interrupted, best.epoch)


def _streamed_pass(
    model: tf.keras.Model, step: Callable[..., list[tf.Tensor]], n_values: int
) -> Callable[[tf.data.Iterator], tuple[tf.Tensor, tf.Tensor]]:
    """Compile a loop of `step` over batches; it returns the sums over samples and their number."""
    dtype = tf.as_dtype(model.dtype or "float32")

    @tf.function
    def run(batches: tf.data.Iterator) -> tuple[tf.Tensor, tf.Tensor]:
        total, count = tf.zeros(n_values, tf.float64), tf.zeros([], tf.int64)
        for x, y in batches:
            x = tf.debugging.check_numerics(tf.cast(x, dtype), _NOT_FINITE)
            samples = tf.shape(x, tf.int64)[0]
            values = step(x, _shaped(model, y, dtype))
            total += tf.stack([tf.cast(value, tf.float64) for value in values]) * tf.cast(samples, tf.float64)
            count += samples
        return total, count

    return run


def _shaped(model: tf.keras.Model, y: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Return targets (samples,) as (samples, 1) for such an output, and real ones in the model's precision."""
    if y.dtype.is_floating:
        y = tf.cast(y, dtype)
        if y.shape.rank + 1 == len(model.output_shape):
            return y[..., tf.newaxis]
    return y


def _pass(
    run: Callable[[tf.data.Iterator], tuple[tf.Tensor, tf.Tensor]], dataset: tf.data.Dataset, name: str
) -> Pass:
    def one_pass() -> tuple[tf.Tensor, int]:
        try:
            total, count = run(iter(dataset))
        except tf.errors.ResourceExhaustedError:
            raise
        except tf.errors.OpError as error:
            if _NOT_FINITE in error.message:
                raise DataError(f"{name}: {_NOT_FINITE}; leave such samples out or fill gaps") from None
            raise DataError(f"{name}: fails ({reason_of(error, 200)}); check its files and labels") from error
        if not int(count):
            raise DataError(f"{name}: gives no sample; let it have one batch or more")
        return total / tf.cast(count, tf.float64), int(count)

    return one_pass


def _checked(model: tf.keras.Model, dataset: tf.data.Dataset, name: str) -> tf.data.Dataset:
    """Return a dataset that is known to end and to fit the model, as far as it can be known without reading."""
    spec = getattr(dataset, "element_spec", None)
    pair = isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(s, tf.TensorSpec) for s in spec)
    if not pair:
        raise DataError(
            f"{name}: gives no pairs of tensors (x, y); give a tf.data.Dataset of batches of them"
        )
    length = int(dataset.cardinality())
    if length == tf.data.INFINITE_CARDINALITY:
        raise DataError(f"{name}: never ends; cut it with dataset.take(batches of an epoch)")
    if not length:
        raise DataError(f"{name}: gives no sample; let it have one batch or more")
    shapes = [s.shape for s in spec]
    if any(shape.rank is None or not shape.rank or None in shape[1:] for shape in shapes):
        raise DataError(
            f"{name}: batches of unknown shape {shapes[0]}, {shapes[1]}; name it by tf.ensure_shape"
        )
    require_single_input(model, tuple(shapes[0]), f"{name} x")
    one = tf.zeros((1, *shapes[0][1:]), tf.as_dtype(model.dtype or "float32"))
    targets = np.empty((0, *shapes[1][1:]), spec[1].dtype.as_numpy_dtype)
    fitting_targets(targets, model(one, training=False).shape.as_list()[1:], f"{name} y")
    return dataset


def file_batches(
    files: Sequence[str | os.PathLike[str]], labels: ArrayLike, read: Reader, batch_size: int
) -> tf.data.Dataset:
    """Return batches of samples, one in each file, read in parallel and ahead of their use.

    Parameters
    ----------
    files : sequence of path
    labels : (files, ...)
    read : callable
        From the name of a file to its sample, as a TensorFlow function: `read_png`, `read_wav`, or one's own.
    batch_size : int
        Samples of each batch, >= 1; the last one has what is left.

    Returns
    -------
    tensorflow.data.Dataset
        (x, y) in the order of the files; whatever fails to be read is told when it is its turn.

    Raises
    ------
    DataError
        If there is no file, numbers of files and labels differ, or the batch size is out of range.
    """
    return _batches([os.fspath(file) for file in files], np.asarray(labels), read, batch_size)


def shuffled_file_batches(
    files: Sequence[str | os.PathLike[str]],
    labels: ArrayLike,
    read: Reader,
    batch_size: int,
    seed: int = 0,
) -> Callable[[int], tf.data.Dataset]:
    """Return the function from an epoch to the batches of `file_batches`, whose files it shuffles.

    Parameters
    ----------
    files, labels, read, batch_size
        As of `file_batches`.
    seed : int
        Not negative; the order follows from it and the epoch, and is the one of `xairt.training.fit`.

    Returns
    -------
    callable
        As ``training`` of `fit_dataset`.

    Raises
    ------
    DataError
        As `file_batches`.
    """
    names, values = np.array([os.fspath(file) for file in files]), np.asarray(labels)
    _batches(names, values, read, batch_size)

    def of_epoch(epoch: int) -> tf.data.Dataset:
        order = epoch_order(len(names), seed, epoch)
        return _batches(names[order], values[order], read, batch_size)

    return of_epoch


def _batches(names: Sequence[str], labels: np.ndarray, read: Reader, batch_size: int) -> tf.data.Dataset:
    if not len(names) or labels.shape[:1] != (len(names),):
        raise DataError(f"files ({len(names)},) and labels {labels.shape}: give one label for each file")
    if batch_size < 1:
        raise DataError(f"batch_size={batch_size}: out of range; give a whole number from 1")
    pairs = tf.data.Dataset.from_tensor_slices((tf.constant(list(names)), labels))
    samples = pairs.map(lambda name, label: (read(name), label), tf.data.AUTOTUNE, deterministic=True)
    return samples.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def read_png(shape: tuple[int, int, int]) -> Reader:
    """Return the function that reads a PNG file of a known shape, with levels 0 .. 255 scaled to -1 .. 1.

    Parameters
    ----------
    shape : tuple of int
        Rows, columns and channels; an image of another size, or with other channels, is an error when it
        is read.

    Returns
    -------
    callable
        From a file name to (rows, columns, channels) float32, level / 127.5 - 1.
    """

    def read(name: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_png(tf.io.read_file(name))
        return tf.ensure_shape(tf.cast(image, tf.float32) / 127.5 - 1.0, shape)

    return read


def read_wav(shape: tuple[int, int], rate: int) -> Reader:
    """Return the function that reads a WAV file of 16 bit of a known shape.

    Parameters
    ----------
    shape : tuple of int
        Samples in time and channels; a sound of another size is an error when it is read.
    rate : int
        Samples per second; another one is an error when it is read.

    Returns
    -------
    callable
        From a file name to (time, channel) float32 in -1 .. 1, the stored integers divided by 32768.
    """

    def read(name: tf.Tensor) -> tf.Tensor:
        sound, found = tf.audio.decode_wav(tf.io.read_file(name))
        message = f"a sound has not {rate} samples per second"
        with tf.control_dependencies([tf.debugging.assert_equal(found, rate, message)]):
            return tf.ensure_shape(sound, shape)

    return read
