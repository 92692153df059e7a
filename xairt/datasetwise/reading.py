"""Samples and truths of a data set, read block by block."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xairt.attribution import inputs
from xairt.attribution.inputs import Samples
from xairt.attribution.parameters import as_array, one_line
from xairt.errors import DataError
from xairt.grid import Grid
from xairt.metrics.samples import per_sample

OUTPUT = "output"
"""Dimension of results that counts the outputs of the model."""

HEAD = 4
"""First samples that a model is tried with."""

READ_BYTES = 64 * 2**20
"""Samples read at once."""

Block = tuple[NDArray[Any], NDArray[np.float64] | None]
"""Samples (b, *input_shape) and truths (b, outputs), if there are any."""


@dataclass(frozen=True, eq=False)
class Data:
    """A data set that is read in blocks.

    Attributes
    ----------
    shape : tuple of int
        Shape of one sample as the model sees it.
    dtype : str
        Floating type of the samples.
    template : Samples
        The first sample, which knows dimensions and coordinates.
    n : int or None
        Number of samples; None for an iterable of blocks.
    n_truths : int
        Number of truths of each sample; 0 without any.
    parts : callable
        Starts the reading: returns an iterator of `Block`.
    head : callable
        Returns the first `HEAD` samples, or as many as the data, or their first block, have.
    rows : callable
        Returns the samples of sorted indices; of an iterable of blocks it cannot be asked.
    """

    shape: tuple[int, ...]
    dtype: str
    template: Samples
    n: int | None
    n_truths: int
    parts: Callable[[], Iterator[Block]]
    head: Callable[[], NDArray[Any]]
    rows: Callable[[NDArray[np.integer]], NDArray[Any]] | None = None

    @property
    def grid(self) -> Grid | None:
        """The grid whose valid cells the samples are."""
        return self.template.grid

    def restored(self, values: NDArray[np.float64], outputs: list[int]) -> xr.DataArray:
        """Return fields of every output (outputs, *input_shape) with the dimensions of x, NaN on land."""
        old, name = self.template.sample_dim, OUTPUT
        kept = {
            k: v for k, v in self.template.coords.items() if k != old and old not in getattr(v, "dims", ())
        }
        renamed = {
            field: found and tuple(name if d == old else d for d in found)
            for field, found in (("dims", self.template.dims), ("map_dims", self.template.map_dims))
        }
        template = replace(self.template, coords=kept | {name: outputs}, **renamed)
        return template.restore(values.reshape(-1, *self.shape)).transpose(name, ...)


def feature_shape(x: Any, grid: Grid | None) -> tuple[int, ...]:
    """Return the shape of a sample where no network says it: that of x, or the valid cells of maps.

    Parameters
    ----------
    x : array_like with a shape, or xarray.DataArray
        Samples; maps with lat and lon that hold NaN in the first sample are vectors of their valid cells.
    grid : Grid, optional
        Valid cells of maps.
    """
    if grid is not None:
        inputs.check_grid(grid, (getattr(grid, "n_valid", 0),))
        return (grid.n_valid,)
    if inputs.is_labelled_map(x) and x.ndim == 3:
        first = x.isel({inputs.sample_dimension(x): slice(0, 1)})
        if first.dtype.kind == "f" and bool(first.isnull().any()):
            return (Grid.from_dataarray(first).n_valid,)
    return tuple(x.shape[1:])


def opened(x: Any, y: Any) -> tuple[Any, Iterator[tuple[Any, Any]] | None]:
    """Return samples to look at, and where x is an iterable of blocks the iterator over all of them.

    Raises
    ------
    DataError
        If x is neither an array nor an iterable of pairs (x, y), or is empty.
    """
    if isinstance(x, xr.Dataset):
        raise DataError(
            f"x is a Dataset of {', '.join(map(str, x.data_vars)) or 'nothing'}: give one of its variables"
        )
    if hasattr(x, "shape"):
        return x, None
    if not isinstance(x, Iterable):
        raise DataError(f"x {one_line(x)} holds no samples: give an array, or an iterable of blocks (x, y)")
    pairs = iter(x)
    first = next(pairs, None)
    if first is None:
        raise DataError("x is an iterable without blocks: give pairs (x, y); a generator can be used once")
    if not isinstance(first, tuple) or len(first) != 2 or not hasattr(first[0], "shape"):
        raise DataError(
            "x is no array and its items are no pairs of arrays (x, y): give numpy.asarray(x), or pairs"
        )
    if y is not None:
        raise DataError("x is an iterable of blocks: give the truth in its pairs (x, y), and no y")
    return first[0], itertools.chain([first], pairs)


def read_data(
    x: Any,
    y: Any,
    pairs: Iterator[tuple[Any, Any]] | None,
    shape: tuple[int, ...],
    n_outputs: int | None,
    grid: Grid | None,
    dtype: str,
) -> Data:
    """Open a data set for models of samples of a shape.

    Parameters
    ----------
    x, pairs
        As `opened` returned them.
    y : array_like or None
        Truth, see `truth_rows`.
    shape : tuple of int
        Of one sample as the model sees it.
    n_outputs : int or None
        Number of the model's outputs; None takes that of the truth.
    grid : Grid, optional
        Valid cells of maps; inferred from the first sample where lat and lon allow it.
    dtype : str
        Floating type of the samples.

    Raises
    ------
    DataError
        If samples and truths do not fit each other or the model, or are not finite.
    """
    _require_free_name(x)
    dim = _sample_dim(x, shape)
    first = inputs.read_samples(_rows(x, dim, slice(0, 1)), shape, grid, dtype)
    grid = first.grid if grid is None else grid

    def values(part: Any) -> NDArray[Any]:
        return inputs.read_samples(part, shape, grid, dtype).values

    def head_rows() -> NDArray[Any]:
        return values(_rows(x, dim, slice(0, HEAD)))

    if pairs is not None:
        blocks = _of_pairs(pairs, values, n_outputs)
        head = next(blocks)
        n_truths = 0 if head[1] is None else head[1].shape[1]
        return Data(shape, dtype, first, None, n_truths, lambda: itertools.chain([head], blocks), head_rows)
    n = x.sizes[dim] if isinstance(x, xr.DataArray) else x.shape[0]
    if y is not None and isinstance(x, xr.DataArray):
        y = per_sample(y, x, dim, "y")
    truths = None if y is None else truth_rows(y, n, n_outputs)

    def parts() -> Iterator[Block]:
        for rows in _slices(x, n, dim):
            yield values(_rows(x, dim, rows)), None if truths is None else truths[rows]

    n_truths = 0 if truths is None else truths.shape[1]
    return Data(shape, dtype, first, n, n_truths, parts, head_rows, lambda rows: values(_rows(x, dim, rows)))


def _of_pairs(
    pairs: Iterable[tuple[Any, Any]], values: Callable[[Any], NDArray[Any]], n_outputs: int | None
) -> Iterator[Block]:
    for x, y in pairs:
        samples = values(x)
        yield samples, None if y is None else truth_rows(y, len(samples), n_outputs)


def _require_free_name(x: Any) -> None:
    if isinstance(x, xr.DataArray) and OUTPUT in x.dims:
        raise DataError(
            f"x has a dimension '{OUTPUT}', which results have for the outputs of the model: rename it"
        )


def _sample_dim(x: Any, shape: tuple[int, ...]) -> str | None:
    if not isinstance(x, xr.DataArray):
        return None
    if not x.dims:
        raise DataError("x is a single number: give samples (n, ...)")
    is_direct = tuple(x.shape[1:]) == shape
    return x.dims[0] if is_direct else inputs.sample_dimension(x)


def _rows(x: Any, dim: str | None, rows: slice | NDArray[np.integer]) -> Any:
    if dim is not None:
        return x.isel({dim: rows})
    return x[rows] if x.shape else x


def _slices(x: Any, n: int, dim: str | None) -> Iterator[slice]:
    """Yield ranges of samples to be read at once: whole chunks where the array has them."""
    at_once = max(1, READ_BYTES // max(1, int(np.prod(x.shape)) // n * 4))
    chunks = x.chunks[x.get_axis_num(dim) if dim else 0] if getattr(x, "chunks", None) else ()
    edges = np.cumsum(chunks) if len(np.shape(chunks)) == 1 and np.size(chunks) > 1 else np.array([n])
    start = 0
    while start < n:
        ends = edges[(edges > start) & (edges <= start + at_once)]
        stop = int(ends[-1]) if len(ends) else min(start + at_once, n)
        yield slice(start, stop)
        start = stop


def truth_rows(y: Any, n: int, n_outputs: int | None) -> NDArray[np.float64]:
    """Return truths (n, outputs) float64.

    Parameters
    ----------
    y : array_like
        (n, outputs), numbers or one-hot; (n,) for one output; or (n,) class numbers of several outputs.
    n : int
        Number of samples.
    n_outputs : int or None
        Number of the model's outputs; None takes that of y.

    Raises
    ------
    DataError
        If the shape does not fit, a class number is none, or a value is not finite.

    Examples
    --------
    >>> truth_rows([1, 0], 2, n_outputs=3)
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    values = inputs.finite(as_array(y, "y", "float64"), "float64", "y", "fill or leave out these samples")
    if values.ndim < 1 or len(values) != n:
        raise DataError(f"y of shape {values.shape} does not fit {n} samples: give one truth for each")
    if values.ndim == 1 and (n_outputs or 1) > 1:
        return _one_hot(values, n_outputs)
    rows = values.reshape(n, -1) if values.ndim == 1 else values
    if rows.ndim != 2 or rows.shape[1] != (n_outputs or rows.shape[1]):
        raise DataError(
            f"y of shape {values.shape} does not fit {n_outputs or 'the'} outputs: give (samples, outputs) or class numbers"
        )
    return rows


def _one_hot(values: NDArray[np.float64], n_outputs: int) -> NDArray[np.float64]:
    wrong = values[(values != np.floor(values)) | (values < 0) | (values >= n_outputs)]
    if wrong.size:
        raise DataError(
            f"y holds {wrong[0]:g}, no class number of {n_outputs} outputs: give 0 to {n_outputs - 1}, or (samples, outputs)"
        )
    return np.eye(n_outputs)[values.astype(int)]


def rebatched(
    parts: Iterable[Block], size: int
) -> Iterator[tuple[int, NDArray[Any], NDArray[np.float64] | None]]:
    """Cut blocks of any size into blocks of one size, the last one smaller.

    Yields
    ------
    start : int
        Index of the first sample.
    x, y
        As of `Block`.
    """
    start, waiting, held = 0, [], 0
    for x, y in parts:
        waiting.append((x, y))
        held += len(x)
        if held < size:
            continue
        x, y = _joined(waiting)
        whole = held - held % size
        for low in range(0, whole, size):
            yield start + low, x[low : low + size], None if y is None else y[low : low + size]
        start, held = start + whole, held - whole
        waiting = [(x[whole:], None if y is None else y[whole:])] if held else []
    if held:
        yield start, *_joined(waiting)


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    samples, truths = zip(*blocks, strict=True)
    missing = [y is None for y in truths]
    if any(missing) and not all(missing):
        raise DataError("y is missing in some blocks: give a truth in each pair (x, y), or in none")
    return np.concatenate(samples), None if missing[0] else np.concatenate(truths)
