"""Where the search for an optimal input begins, and where it may go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xairt.attribution.inputs import Samples, is_labelled_map
from xairt.attribution.network import Network
from xairt.attribution.parameters import as_array, one_line
from xairt.errors import DataError, suggest
from xairt.keys import generator_of, noise_keys
from xairt.optimal_input.layout import AnyGrid, read_reference, read_samples

NAMED_STARTS = ("zeros", "random")
RANDOM_START = 1
"""Stream of the random numbers of a start."""

START_DIM = "start"
ROWS_AT_ONCE = 1024

Project = Callable[[tf.Tensor], tf.Tensor]
"""From inputs to the nearest allowed ones."""


def read_starts(
    start: Any, sizes: Mapping[str, int], network: Network, grid: AnyGrid | None, dtype: str, seed: int
) -> Samples:
    """Return the starts (starts, *input_shape) with the layout that results shall have.

    Parameters
    ----------
    start : str or array_like
        "zeros", "random" (standard normal, keyed by seed and number of the start), a number, one input or
        several, as arrays or maps.
    sizes : mapping
        Number of starts that others ask for, by the name of who does.
    network, grid, dtype, seed
        As of `optimal_input`.

    Raises
    ------
    DataError
        If the start is unknown or does not fit the model, or the numbers of starts differ.
    """
    shape = network.input_shape
    keys = noise_keys(seed, None, 1)
    if isinstance(start, str):
        if start not in NAMED_STARTS:
            raise DataError(
                f"start {one_line(start)} is unknown: give {' or '.join(NAMED_STARTS)}, or arrays"
                f"{suggest(start, NAMED_STARTS)}"
            )
        given: Any = np.zeros((1, *shape))
    else:
        given = _with_sample_axis(start, shape, grid)
    read = read_samples(given, shape, grid, dtype, "start")
    n = _common_size({**sizes, "start": len(read.values)})
    values = np.repeat(read.values, n, axis=0) if len(read.values) == 1 else read.values
    if isinstance(start, str) and start == "random":
        keys = noise_keys(seed, None, n)
        values = np.stack([generator_of(key, RANDOM_START).standard_normal(shape) for key in keys])
    elif n > 1 and len(read.values) == 1 and set(sizes.values()) - {sizes.get("n_starts", 1)} <= {1}:
        raise DataError(f"n_starts={n}: all starts are alike; give start='random', or several inputs")
    coords = {
        name: values
        for name, values in read.coords.items()
        if name != read.sample_dim and read.sample_dim not in getattr(values, "dims", ())
    }
    return replace(read, values=np.ascontiguousarray(values, dtype), coords=coords)


def _with_sample_axis(start: Any, shape: tuple[int, ...], grid: AnyGrid | None) -> Any:
    """Return one input as several, where it is one."""
    if isinstance(start, xr.Dataset):
        raise DataError(f"start is a Dataset of {', '.join(map(str, start))}: give one of its variables")
    array = start if isinstance(start, xr.DataArray) else as_array(start, "start")
    if array.ndim == 0:
        return np.full((1, *shape), as_array(array, "start", "float64"))
    labelled = len(shape) == 1 and array.ndim == 2 and is_labelled_map(array)
    plain = len(shape) == 1 and grid is not None and array.shape == grid.shape
    if array.shape == shape or labelled or (plain and array.shape[1:] != shape):
        return array.expand_dims(START_DIM) if isinstance(array, xr.DataArray) else array[None]
    return array


def _common_size(sizes: Mapping[str, int]) -> int:
    several = {name: size for name, size in sizes.items() if size != 1}
    if len(set(several.values())) > 1:
        told = ", ".join(f"{size} by {name}" for name, size in several.items())
        raise DataError(f"numbers of starts differ: {told}; give one number, or 1")
    return next(iter(several.values()), 1)


def labelled(samples: Samples, values: NDArray[Any]) -> xr.DataArray:
    """Return (starts, *input_shape) with the dimension `start` and the user's other dimensions, NaN on land."""
    array = samples.restore(values)
    if samples.sample_dim != START_DIM:
        array = array.rename({samples.sample_dim: START_DIM})
    return array.assign_coords({START_DIM: np.arange(len(values))})


def one_field(samples: Samples, values: NDArray[Any]) -> xr.DataArray:
    """Return (*input_shape) like `labelled`, without the dimension of the starts."""
    return labelled(samples, values[None]).isel({START_DIM: 0}, drop=True)


@dataclass(frozen=True, eq=False)
class Limits:
    """What the search may change, and how far.

    Attributes
    ----------
    low, high : numpy.ndarray or None
        (*input_shape), the bounds; None where that side is open.
    free : numpy.ndarray or None
        (*input_shape) booleans, True where a value may change; None where all may.
    """

    low: NDArray[Any] | None
    high: NDArray[Any] | None
    free: NDArray[np.bool_] | None

    @classmethod
    def of(cls, bounds: Any, mask: Any, shape: tuple[int, ...], grid: AnyGrid | None, dtype: str) -> Limits:
        """Check bounds (low, high) and a mask of what may change.

        Raises
        ------
        DataError
            If they do not fit the model, low lies above high, or nothing may change.
        """
        if bounds is not None and (not isinstance(bounds, tuple | list) or len(bounds) != 2):
            raise DataError(f"bounds {one_line(bounds)}: give a pair (low, high), with None for an open side")
        sides = [
            None if b is None else _field(b, shape, grid, dtype, name)
            for b, name in zip(bounds or (None, None), ("lower bound", "upper bound"), strict=True)
        ]
        if None not in [None if s is None else 0 for s in sides] and (sides[0] > sides[1]).any():
            raise DataError("bounds: the lower lies above the upper; exchange them")
        free = None
        if mask is not None:
            values = _field(mask, shape, grid, "float64", "mask")
            if not np.isin(values, (0, 1)).all() or not values.any():
                raise DataError("mask: give booleans, True where the input may change, and at least one True")
            free = values == 1
        return cls(*sides, free)

    def clipped(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return inputs moved into the bounds."""
        x = x if self.low is None else np.maximum(x, self.low)
        return x if self.high is None else np.minimum(x, self.high)

    def projection(self, start: tf.Tensor) -> Project | None:
        """Return the function to the nearest allowed inputs; None where all are allowed."""
        if self.low is self.high is self.free is None:
            return None
        low, high, free = (
            None if side is None else tf.constant(side) for side in (self.low, self.high, self.free)
        )

        def project(x: tf.Tensor) -> tf.Tensor:
            x = x if low is None else tf.maximum(x, low)
            x = x if high is None else tf.minimum(x, high)
            return x if free is None else tf.where(free, x, start)

        return project


def _field(value: Any, shape: tuple[int, ...], grid: AnyGrid | None, dtype: str, name: str) -> NDArray[Any]:
    found = read_reference(value, shape, grid, dtype, name)
    if len(found) != 1:
        raise DataError(f"{name} holds {len(found)} inputs: give a number or one input")
    return found[0]


def mean_of_correct(
    model: tf.keras.Model, x: Any, labels: ArrayLike, target: int, *, grid: AnyGrid | None = None
) -> xr.DataArray:
    """Return the mean of the samples of a class that the model classifies correctly.

    The publication of the benchmark on regional SST starts its optimal inputs there.

    Parameters
    ----------
    model : tf.keras.Model
        A classifier: the class is its largest output, or, of one output before a sigmoid, 1 where positive.
    x : array_like or xarray.DataArray
        Samples (n, *input_shape), or maps with a grid.
    labels : (n,) integers
        The true class of each sample.
    target : int
        The class.
    grid : Grid or LLCGrid, optional
        Valid cells of maps.

    Returns
    -------
    xarray.DataArray
        One input, (lat, lon) with a grid, (cell) with an LLC grid; as `start` of `optimal_input`.

    Raises
    ------
    DataError
        If labels do not fit the samples, or no sample of the class is classified correctly.

    References
    ----------
    Gaikwad et al. (XAIRT), section on optimal input; Toms, Barnes and Ebert-Uphoff (2020),
    doi:10.1029/2019MS002002, section 2.3.
    """
    network = Network.of(model)
    network.require_one_input("mean_of_correct", "average its samples yourself")
    samples = read_samples(x, network.input_shape, grid, "float32")
    classes = as_array(labels, "labels")
    if classes.shape != (len(samples.values),) or classes.dtype.kind not in "iub":
        raise DataError(
            f"labels of shape {classes.shape} and {classes.dtype}: give one integer for each of the "
            f"{len(samples.values)} samples"
        )
    right = (_classes(network, samples.values) == target) & (classes == target)
    if not right.any():
        raise DataError(f"class {target}: no sample of it is classified correctly; give another start")
    bare = {k: v for k, v in samples.coords.items() if samples.sample_dim not in (k, *getattr(v, "dims", ()))}
    mean = samples.values[right].mean(axis=0, dtype=np.float64).astype(np.float32)
    return one_field(replace(samples, coords=bare), mean)


def _classes(network: Network, values: NDArray[Any]) -> NDArray[np.int64]:
    compiled = tf.function(network.outputs(), reduce_retracing=True)
    parts = [
        compiled(tf.constant(values[i : i + ROWS_AT_ONCE]))[0] for i in range(0, len(values), ROWS_AT_ONCE)
    ]
    logits = np.concatenate(parts).reshape(len(values), -1)
    return logits.argmax(axis=1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(np.int64)
