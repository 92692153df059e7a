"""What an optimal input is penalised for: its size, its roughness on the sphere, its distance from what is known.

A regulariser is a frozen dataclass with a weight; bound to a `Space` it becomes a function from inputs
(starts, *input_shape) to one penalty for each start.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from xairt.attribution.inputs import describe_baseline
from xairt.errors import DataError
from xairt.grid import Grid
from xairt.llc import LLCGrid
from xairt.optimal_input import sphere
from xairt.optimal_input.layout import AnyGrid, read_reference, read_samples

Penalty = Callable[[tf.Tensor], tf.Tensor]
"""From inputs (starts, *input_shape) to one number for each (starts,)."""

VARIANCE_OF_MODES = 0.9
"""Part of the variance of samples that the modes of `Mahalanobis` hold by default."""

LEAST_VARIANCE = 1e-10
"""A mode with less variance than this part of the largest has none."""


@dataclass(frozen=True, eq=False)
class Space:
    """Where the inputs live.

    Attributes
    ----------
    input_shape : tuple of int
        Shape of one input of the model.
    grid : Grid, LLCGrid or None
        Places of the input's values.
    start : numpy.ndarray
        (starts, *input_shape), where the descent begins.
    dtype : str
        "float32" or "float64".
    """

    input_shape: tuple[int, ...]
    grid: AnyGrid | None
    start: NDArray[Any]
    dtype: str

    def constant(self, values: Any) -> tf.Tensor:
        """Return values as a tensor of the inputs' type."""
        return tf.constant(np.asarray(values), self.dtype)

    def flat(self, x: tf.Tensor) -> tf.Tensor:
        """Return inputs as (starts, features)."""
        return tf.reshape(x, (len(self.start), -1))

    @cached_property
    def _positions(self) -> NDArray[np.intp]:
        """Positions of the valid cells along the axis of all places."""
        if self.input_shape == (self.grid.n_valid,):
            return np.arange(self.grid.n_valid)
        return np.flatnonzero(self.grid.mask)

    def on_cells(self, x: tf.Tensor) -> tf.Tensor:
        """Return inputs as (starts, valid cells, channels)."""
        whole = self.input_shape == (self.grid.n_valid,) or self.grid.mask.all()
        places = self.grid.n_valid if whole else self.grid.mask.size
        values = tf.reshape(x, (len(self.start), places, -1))
        return values if whole else tf.gather(values, self._positions, axis=1)

    def area_weights(self) -> tf.Tensor:
        """Return the area of each valid cell as (cells, 1), with mean 1."""
        return self.constant(self.grid.area_weights[:, None])

    def require_grid(self, what: str) -> AnyGrid:
        """Return the grid, or raise `DataError` where there is none that places the inputs on the globe."""
        if self.grid is None:
            raise DataError(f"{what} needs the places of the inputs: give grid= (--grid FILE)")
        vectors = self.input_shape == (self.grid.n_valid,)
        if not vectors and (len(self.input_shape) > 3 or self.input_shape[:2] != self.grid.shape):
            raise DataError(
                f"{what}: the model takes inputs of shape {self.input_shape}, the grid has {self.grid.n_valid} valid "
                f"cells of {self.grid.shape}: give the grid that the model was trained with"
            )
        return self.grid

    def require_neighbours(self, what: str) -> Grid:
        """Return the regular grid; `DataError` as of `require_grid`, or where it is an LLC grid."""
        grid = self.require_grid(what)
        if isinstance(grid, LLCGrid):
            raise DataError(
                f"{what} knows the neighbours of regular grids only, not those of LLC tiles: use L2 or Mahalanobis, "
                "or a model of fields on a regular grid (LLCGrid.to_regular)"
            )
        return grid


@dataclass(frozen=True, eq=False)
class Regulariser(ABC):
    """A weighted penalty. A regulariser of your own is a frozen dataclass that defines `bind`.

    Parameters
    ----------
    weight : float
        Positive factor of the penalty, in units of the loss.

    Raises
    ------
    DataError
        If the weight is not positive and finite.
    """

    compiles_by_xla: ClassVar[bool] = True
    """Whether XLA makes the penalty faster; it does not where steps to neighbours follow upon each other."""

    weight: float

    def __post_init__(self) -> None:
        if not (isinstance(self.weight, int | float) and 0 < self.weight < math.inf):
            raise DataError(
                f"{type(self).__name__}: weight {self.weight!r} is no positive number; leave the regulariser out for 0"
            )

    @abstractmethod
    def bind(self, space: Space) -> Penalty:
        """Return the penalty, without its weight, of inputs of this space."""

    def identity(self) -> dict[str, Any]:
        """Return name and parameters; an array by its shape and hash."""
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = bool | int | float | str | None
        return {"regulariser": type(self).__name__} | {
            name: v if isinstance(v, plain) else describe_baseline(v) for name, v in given.items()
        }


def _sum(values: tf.Tensor) -> tf.Tensor:
    """Return the sum of each start's values (starts,)."""
    return tf.reduce_sum(values, axis=tuple(range(1, len(values.shape))))


def _by_area(space: Space, by_area: bool, what: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the sum over the values, or over the cells weighted by area."""
    if not by_area:
        return lambda values: _sum(space.flat(values))
    space.require_grid(what)
    weights = space.area_weights()
    return lambda values: _sum(space.on_cells(values) * weights)


def _next_cell(near: sphere.Neighbours, way: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function from (starts, cells, channels) to the values of the next cells that way.

    Where there is none the cell's own value stands, to be given no weight. What is taken on the one way is
    given back on the opposite one: that slope is much faster than the scattering of a general `tf.gather`.
    """
    there, back = tf.constant(near.index[:, way]), tf.constant(near.index[:, sphere.opposite(way)])
    has_back = near.edge[:, sphere.opposite(way), None] > 0

    @tf.custom_gradient
    def next_cell(cells: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def slope(upstream: tf.Tensor) -> tf.Tensor:
            return tf.gather(upstream, back, axis=1) * tf.constant(has_back, upstream.dtype)

        return tf.gather(cells, there, axis=1), slope

    return next_cell


@dataclass(frozen=True, eq=False)
class L1(Regulariser):
    """Sum of the absolute values: few cells differ from 0.

    Parameters
    ----------
    weight : float
    by_area : bool
        Weight each cell by its area (mean 1 over the valid cells); needs a grid.
    """

    by_area: bool = False

    def bind(self, space: Space) -> Penalty:
        """Return sum |x|."""
        total = _by_area(space, self.by_area, "L1(by_area=True)")
        return lambda x: total(tf.abs(x))


@dataclass(frozen=True, eq=False)
class L2(Regulariser):
    """Sum of the squares; or, towards a norm, the square of the norm's distance from it.

    Parameters
    ----------
    weight : float
    norm : float, optional
        Penalise (|x| - norm)^2 with the Euclidean norm |x|, instead of |x|^2. In |x| = 0 the slope is 0.
    by_area : bool
        Weight each cell by its area (mean 1 over the valid cells); needs a grid.

    Raises
    ------
    DataError
        If the norm is negative or not finite.
    """

    norm: float | None = None
    by_area: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm is not None and not 0 <= self.norm < math.inf:
            raise DataError(f"L2: norm {self.norm!r} is out of range; give a number from 0 on")

    def bind(self, space: Space) -> Penalty:
        """Return sum x^2, or (|x| - norm)^2."""
        total = _by_area(space, self.by_area, "L2(by_area=True)")
        if self.norm is None:
            return lambda x: total(tf.square(x))
        tiny = np.finfo(space.dtype).tiny  # the slope of a root in 0 is infinite
        return lambda x: tf.square(tf.sqrt(tf.maximum(total(tf.square(x)), tiny)) - self.norm)


@dataclass(frozen=True, eq=False)
class TotalVariation(Regulariser):
    """Total variation on the unit sphere: sum over the edges between valid cells of edge length times |step|.

    Edges between rows are shortened by the cosine of their latitude; rows close over the date line where the
    grid goes around the globe; the coast is free. For a field that is constant in each cell this is exactly
    the integral of the gradient's size (the length of its contours times their steps).

    Parameters
    ----------
    weight : float
    smoothing : float
        Replace |d| by sqrt(d^2 + smoothing^2) - smoothing, which has a slope everywhere; in the inputs' units.

    Raises
    ------
    DataError
        If the smoothing is negative or not finite, or there is no regular grid.

    References
    ----------
    Rudin, Osher and Fatemi (1992), doi:10.1016/0167-2789(92)90242-F, equation 2.2a (on the plane).
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.smoothing < math.inf:
            raise DataError(
                f"TotalVariation: smoothing {self.smoothing!r} is out of range; give one from 0 on"
            )

    def bind(self, space: Space) -> Penalty:
        """Return the sum of edge length times |difference|."""
        near = sphere.neighbours(space.require_neighbours("TotalVariation"))
        pairs = [
            (_next_cell(near, way), space.constant(near.edge[:, way, None]))
            for way in (sphere.EAST, sphere.SOUTH)
        ]

        def size(d: tf.Tensor) -> tf.Tensor:
            s = self.smoothing
            return tf.sqrt(tf.square(d) + s**2) - s if s else tf.abs(d)

        def penalty(x: tf.Tensor) -> tf.Tensor:
            cells = space.on_cells(x)
            return tf.add_n([_sum(edge * size(next_cell(cells) - cells)) for next_cell, edge in pairs])

        return penalty


@dataclass(frozen=True, eq=False)
class Laplacian(Regulariser):
    """Roughness: sum over the cells of area times the squared difference from the mean of the neighbours.

    The mean weights each neighbour by edge length over distance, as the Laplacian of finite volumes does, so
    that the difference is that Laplacian divided by the sum of these weights: no cell near a pole makes
    the descent stiff. Areas have mean 1; land and date line as in `TotalVariation`; a cell without a
    neighbour adds nothing.

    Parameters
    ----------
    weight : float

    Raises
    ------
    DataError
        If there is no regular grid.
    """

    compiles_by_xla: ClassVar[bool] = False

    def bind(self, space: Space) -> Penalty:
        """Return sum area (x - mean of neighbours)^2."""
        near = sphere.neighbours(space.require_neighbours("Laplacian"))
        with np.errstate(invalid="ignore", divide="ignore"):
            strength = np.where(near.edge > 0, near.edge / near.distance, 0.0)
            share = np.nan_to_num(strength / strength.sum(axis=1, keepdims=True))
        ways = [(_next_cell(near, way), space.constant(share[:, way, None])) for way in range(4)]
        area = space.area_weights() * space.constant(share.any(axis=1)[:, None])

        def penalty(x: tf.Tensor) -> tf.Tensor:
            cells = space.on_cells(x)
            mean = tf.add_n([part * next_cell(cells) for next_cell, part in ways])
            return _sum(area * tf.square(cells - mean))

        return penalty


@dataclass(frozen=True, eq=False)
class DistanceFromStart(Regulariser):
    """Sum of the squared differences from the start: what has to change, and no more.

    Parameters
    ----------
    weight : float
    """

    def bind(self, space: Space) -> Penalty:
        """Return sum (x - start)^2."""
        start = space.constant(space.start)
        return lambda x: _sum(space.flat(tf.square(x - start)))


@dataclass(frozen=True, eq=False)
class Mahalanobis(Regulariser):
    """Squared Mahalanobis distance: inputs as plausible as the training's, by mean and covariance.

    A covariance is given, or estimated from samples as leading modes (EOFs) over noise of equal variance in
    all other directions (probabilistic principal components), since a few hundred maps leave the covariance of
    thousands of cells singular.

    Parameters
    ----------
    weight : float
    samples : array_like, optional
        (m, *input_shape), or maps with the grid: what mean and covariance are estimated from (division by m).
    modes : int, optional
        Number of leading modes of the samples; by default the fewest that hold 90 % of the variance.
    covariance : array_like, optional
        (features, features), symmetric and positive definite, instead of samples.
    mean : array_like, optional
        One input that goes with the covariance; 0 by default.

    Raises
    ------
    DataError
        If not exactly one of samples and covariance is given, shapes do not fit, or the covariance is singular.

    References
    ----------
    Tipping and Bishop (1999), doi:10.1111/1467-9868.00196, equations 7 and 8.
    """

    samples: Any = field(default=None, repr=False)
    modes: int | None = None
    covariance: Any = field(default=None, repr=False)
    mean: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.samples is None) == (self.covariance is None):
            raise DataError("Mahalanobis: give either samples= or covariance=")
        further, of = ("mean", "covariance") if self.covariance is None else ("modes", "samples")
        if getattr(self, further) is not None:
            raise DataError(f"Mahalanobis: {further}= goes with {of}=; leave it out")

    def bind(self, space: Space) -> Penalty:
        """Return (x - mean)^T C^-1 (x - mean)."""
        mean, modes, variances, remainder = (
            self._of_covariance(space) if self.samples is None else self._of_samples(space)
        )
        centre, basis = space.constant(mean), space.constant(modes)
        scales = space.constant(1 / variances)
        complete = modes.shape[0] == modes.shape[1]

        def penalty(x: tf.Tensor) -> tf.Tensor:
            d = space.flat(x) - centre
            scores = tf.matmul(d, basis)
            distance = _sum(tf.square(scores) * scales)
            if complete:
                return distance
            rest = d - tf.matmul(scores, basis, transpose_b=True)
            return distance + _sum(tf.square(rest)) / remainder

        return penalty

    def _of_covariance(self, space: Space) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], float]:
        n = math.prod(space.input_shape)
        covariance = np.asarray(self.covariance, np.float64)
        if covariance.shape != (n, n) or not np.allclose(covariance, covariance.T):
            raise DataError(
                f"Mahalanobis: covariance of shape {covariance.shape} is no finite symmetric ({n}, {n}); "
                "give that of the model's inputs"
            )
        mean = read_reference(self.mean, space.input_shape, space.grid, "float64", "mean")
        variances, modes = np.linalg.eigh(covariance)
        if variances[0] <= LEAST_VARIANCE * variances[-1]:
            raise DataError("Mahalanobis: covariance is singular; give samples= and modes= instead")
        return mean.reshape(len(mean), -1).mean(axis=0), modes, variances, 0.0

    def _of_samples(self, space: Space) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], float]:
        read = read_samples(self.samples, space.input_shape, space.grid, "float64", "samples of Mahalanobis")
        values = read.values.reshape(len(read.values), -1)
        mean = values.mean(axis=0)
        _, spread, rows = np.linalg.svd(values - mean, full_matrices=False)
        variances = spread**2 / len(values)
        rank, n = int((variances > LEAST_VARIANCE * variances[0]).sum()), values.shape[1]
        most = n if rank == n else rank - 1
        held = np.cumsum(variances) / variances.sum() if rank else np.zeros(1)
        count = int(np.searchsorted(held, VARIANCE_OF_MODES)) + 1 if self.modes is None else self.modes
        if self.modes is None:
            count = min(count, most)
        if not 1 <= count <= most:
            raise DataError(
                f"Mahalanobis: modes={count} of {len(values)} samples is out of range; give 1 to {most}"
                if most > 0
                else f"Mahalanobis: {len(values)} samples span {max(rank, 0)} direction(s); give more samples"
            )
        remainder = variances[count:].sum() / max(n - count, 1)
        return mean, rows[:count].T, variances[:count], float(remainder)
