"""Saving of Keras models."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from xairt.data.files import atomic_write


def save_model(model: tf.keras.Model, path: str | os.PathLike[str]) -> Path:
    """Write a model as Keras HDF5, without optimizer state, atomically.

    Parameters
    ----------
    model : tf.keras.Model
        The network; not changed.
    path : path
        File ending in .h5.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    with atomic_write(path) as temporary, warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore", UserWarning)  # Keras calls HDF5 legacy; it is the archives' format
        model.save(temporary, save_format="h5", include_optimizer=False)
    return Path(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back TensorFlow's warning that a model without metrics has none."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
