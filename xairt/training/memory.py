"""Arrays that TensorFlow uses where they are, so that large training data are in memory once."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64
"""Bytes at whose multiples TensorFlow wants tensors to begin; arrays of numpy do by chance alone."""


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray:
    """Return an array to be filled, that `xairt.training.fit` trains with without a copy of its own.

    Parameters
    ----------
    shape : tuple of int
    dtype : data type
        The model's, else there is a copy all the same.

    Returns
    -------
    numpy.ndarray
        As of `numpy.empty`, beginning at a multiple of `ALIGNMENT` bytes.

    Examples
    --------
    >>> empty((3, 2)).shape, empty((3, 2)).ctypes.data % ALIGNMENT
    ((3, 2), 0)
    """
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.empty(count + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + count].view(dtype).reshape(shape)


def tensor_of(array: NDArray, dtype: tf.DType | None = None) -> tf.Tensor:
    """Return a tensor of an array: its own memory where TensorFlow can use that, else a copy.

    Parameters
    ----------
    array : numpy.ndarray
        Not to be changed while the tensor is in use.
    dtype : tensorflow.DType, optional
        The array's by default.

    Returns
    -------
    tensorflow.Tensor
    """
    flags = array.flags
    alike = dtype is None or dtype == array.dtype
    if alike and array.size and flags.c_contiguous and flags.writeable and not array.ctypes.data % ALIGNMENT:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array, dtype)
