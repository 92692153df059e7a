"""Functions whose attribution is known: a continuous piecewise-linear function of each cell, summed.

Source: Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7, section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from xairt import conventions
from xairt.errors import DataError
from xairt.fields.checks import real_numbers, whole_number
from xairt.fields.correlation import symmetric_matrix, to_correlation
from xairt.fields.gaussian import sample_gaussian

TRUTH_STREAM = 1
"""Random stream of the drawn function, apart from that of the samples (0) with the same seed."""
LEAST_WEIGHT = 1e-6
"""A function whose cells all have smaller weights is 0 for all that is computed with it."""
_BLOCK_VALUES = 1 << 15


@dataclass(frozen=True, eq=False)
class PiecewiseLinear:
    """Additive function of n cells: each cell's contribution is piecewise linear, continuous, 0 at 0.

    Parameters
    ----------
    breakpoints : numpy.ndarray
        (n, K), each row ascending, in units of x. The drawn functions have 0 among them; K may be 0 (linear).
    slopes : numpy.ndarray
        (n, K + 1), from left to right, not divided by the number of cells.
    divide : bool
        Divide contributions, slopes and output by n, as the paper does (y is then a mean over cells).
    convention : None or "krell2025"
        None: the contribution is the integral of the slope from 0 to x, so a positive slope gives x < 0 a
        negative contribution. "krell2025": the sign is flipped where x < 0.

    Raises
    ------
    DataError
        If shapes do not fit, values are not finite, or breakpoints do not ascend.
    MethodError
        If the convention is unknown.

    Examples
    --------
    >>> f = PiecewiseLinear(np.array([[0.0, 1.0]]), np.array([[1.0, 2.0, 5.0]]), divide=False)
    >>> f.contribution(np.array([[-1.0], [1.0], [2.0]]))
    array([[-1.],
           [ 2.],
           [ 7.]])
    """

    breakpoints: NDArray[np.float64]
    slopes: NDArray[np.float64]
    divide: bool = True
    convention: str | None = None

    def __post_init__(self) -> None:
        conventions.check(self.convention, (conventions.KRELL2025.name,))
        breakpoints = np.array(self.breakpoints, dtype=np.float64)
        slopes = np.array(self.slopes, dtype=np.float64)
        if breakpoints.ndim != 2 or slopes.shape != (len(breakpoints), breakpoints.shape[1] + 1):
            raise DataError(
                f"breakpoints {breakpoints.shape} and slopes {slopes.shape}: shapes do not fit; "
                "give (n, K) and (n, K + 1)"
            )
        if not (np.isfinite(breakpoints).all() and np.isfinite(slopes).all()):
            raise DataError("breakpoints and slopes: hold NaN or infinity; give finite numbers")
        if (np.diff(breakpoints, axis=1) < 0).any():
            raise DataError("breakpoints: not ascending; sort each row")
        for name, array in (("breakpoints", breakpoints), ("slopes", slopes)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def n_cells(self) -> int:
        """Number of cells n."""
        return len(self.slopes)

    @cached_property
    def scaled_slopes(self) -> NDArray[np.float64]:
        """Slopes (n, K + 1) of the contributions, divided by n where these are."""
        scaled = np.ascontiguousarray(self.slopes / self._divisor)
        scaled.setflags(write=False)
        return scaled

    def contribution(self, x: ArrayLike) -> NDArray[np.floating]:
        """Return each cell's contribution to the output.

        Parameters
        ----------
        x : (..., n)

        Returns
        -------
        numpy.ndarray
            (..., n) in the precision of x, computed in float64; NaN where x is NaN or masked.

        Raises
        ------
        DataError
            If x does not have n cells, or holds no real numbers.
        """
        values = self._checked(x)
        result = np.empty_like(values)
        for rows in _row_blocks(values):
            result[rows] = self._integrals(values[rows].astype(np.float64))
        return result.reshape(np.shape(x))

    def slope_at(self, x: ArrayLike) -> NDArray[np.floating]:
        """Return the derivative of each cell's contribution: the slope of the piece that x lies in.

        Parameters
        ----------
        x : (..., n)
            A value on a breakpoint belongs to the piece on its right.

        Returns
        -------
        numpy.ndarray
            (..., n) in the precision of x; NaN where x is NaN.

        Raises
        ------
        DataError
            If x does not have n cells, or holds no real numbers.
        """
        values = self._checked(x)
        result = np.empty_like(values)
        slopes = self.scaled_slopes.astype(values.dtype).ravel()
        for rows in _row_blocks(values):
            block, found = values[rows].astype(np.float64), result[rows]
            np.take(slopes, self._piece(block), out=found, mode="clip")
            if self.convention:
                np.negative(found, out=found, where=block < 0)
            found[np.isnan(block)] = np.nan
        return result.reshape(np.shape(x))

    def output(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return the function's value: the sum of the contributions.

        Parameters
        ----------
        x : (..., n)

        Returns
        -------
        numpy.ndarray
            (...), float64.

        Raises
        ------
        DataError
            If x does not have n cells, or holds no real numbers.
        """
        values = self._checked(x)
        result = np.empty(len(values))
        for rows in _row_blocks(values):
            result[rows] = self._integrals(values[rows].astype(np.float64)).sum(axis=1)
        return result.reshape(np.shape(x)[:-1])

    def contribution_and_output(self, x: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
        """Return `contribution` and `output` in the time of one of them.

        Parameters
        ----------
        x : (..., n)

        Returns
        -------
        contribution : numpy.ndarray
            (..., n) in the precision of x.
        output : numpy.ndarray
            (...), float64.

        Raises
        ------
        DataError
            If x does not have n cells, or holds no real numbers.
        """
        values = self._checked(x)
        result, total = np.empty_like(values), np.empty(len(values))
        for rows in _row_blocks(values):
            integrals = self._integrals(values[rows].astype(np.float64))
            result[rows], total[rows] = integrals, integrals.sum(axis=1)
        return result.reshape(np.shape(x)), total.reshape(np.shape(x)[:-1])

    @property
    def _divisor(self) -> int:
        return self.n_cells if self.divide else 1

    def _checked(self, x: ArrayLike) -> NDArray[np.floating]:
        """Return x as (samples, n) floating numbers."""
        values = real_numbers(x, "x")
        if values.ndim == 0 or values.shape[-1] != self.n_cells:
            raise DataError(
                f"x: shape {values.shape} does not end in {self.n_cells} cells; give (..., cells)"
            )
        return values.reshape(-1, self.n_cells)

    def _piece(self, x: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return where in the flattened slopes (n, K + 1) the piece of each value stands."""
        piece = np.zeros(x.shape, np.uint16)
        for edge in self._edges:
            piece += x >= edge
        return piece + np.arange(self.n_cells) * self.slopes.shape[1]

    @cached_property
    def _edges(self) -> NDArray[np.float64]:
        return np.ascontiguousarray(self.breakpoints.T)

    @cached_property
    def _intercepts(self) -> NDArray[np.float64]:
        """Return what each piece's line is at 0, (n, K + 1): exactly 0 for the pieces that 0 belongs to."""
        bends = -np.diff(self.scaled_slopes, axis=1) * self.breakpoints
        right = np.cumsum(np.where(self.breakpoints > 0, bends, 0.0), axis=1)
        left = np.cumsum(np.where(self.breakpoints < 0, bends, 0.0)[:, ::-1], axis=1)[:, ::-1]
        found = np.zeros(self.slopes.shape)
        found[:, 1:] += right
        found[:, :-1] -= left
        return found

    def _integrals(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return slope times x plus intercept of the piece that x lies in, the integral of the slope from 0."""
        piece = self._piece(x)
        total = np.take(self.scaled_slopes, piece) * x
        total += np.take(self._intercepts, piece)
        if self.convention:
            np.negative(total, out=total, where=x < 0)
        return total


def draw(
    covariance: ArrayLike,
    seed: int,
    n_breakpoints: int = 5,
    *,
    samples: ArrayLike | None = None,
    cell_weights: ArrayLike | None = None,
    divide: bool = True,
    convention: str | None = None,
) -> PiecewiseLinear:
    """Draw a random function whose slopes and breakpoints vary smoothly over the cells.

    For each piece the slopes of all cells are one draw of N(0, S), S the correlation. One breakpoint is 0;
    each other one is a draw of N(0, S), turned into a probability by the normal distribution function and
    into a value by the cell's quantiles. With the population's quantiles that value is the draw itself.

    Parameters
    ----------
    covariance : (n, n)
        Covariance or correlation of the cells; the correlation is used.
    seed : int
        Not negative. Independent of samples drawn with the same seed.
    n_breakpoints : int
        K >= 0, 0 included among them; 0 gives a linear function.
    samples : (N, n), optional
        Take the quantiles of these samples (ECDF, linear between and beyond its steps) instead of the normal
        population's.
    cell_weights : (n,), optional
        Weights 0 .. 1 that damp or remove cells: factors on their slopes.
    divide : bool
        As `PiecewiseLinear`.
    convention : None or "krell2025"
        As `PiecewiseLinear`; "krell2025" also uses the covariance as given in place of the correlation.

    Returns
    -------
    PiecewiseLinear

    Raises
    ------
    DataError
        If a parameter is out of range or a shape does not fit.
    MethodError
        If the convention is unknown.
    """
    conventions.check(convention, (conventions.KRELL2025.name,))
    n_breakpoints = whole_number(n_breakpoints, "n_breakpoints", "0 for a linear function, or more")
    if n_breakpoints < 0:
        raise DataError(f"n_breakpoints={n_breakpoints}: must not be negative; give 0 for a linear function")
    matrix = symmetric_matrix(covariance) if convention else to_correlation(covariance)
    n_drawn = max(n_breakpoints - 1, 0)
    fields = sample_gaussian(matrix, n_breakpoints + 1 + n_drawn, seed, np.float64, stream=TRUTH_STREAM).T
    slopes, normals = np.split(fields, [n_breakpoints + 1], axis=1)
    if samples is None:
        breakpoints = normals * np.sqrt(np.diag(matrix))[:, np.newaxis]
    else:
        breakpoints = _empirical_quantiles(_fitting_samples(samples, len(matrix)), ndtr(normals))
    if n_breakpoints:
        breakpoints = np.sort(np.insert(breakpoints, 0, 0.0, axis=1), axis=1)
    if cell_weights is not None:
        slopes = slopes * _fitting_weights(cell_weights, len(matrix))[:, np.newaxis]
    return PiecewiseLinear(breakpoints, slopes, divide, convention)


def _row_blocks(values: NDArray[np.floating]) -> Iterator[slice]:
    """Cut the samples into blocks that stay in the processor's cache."""
    rows = max(1, _BLOCK_VALUES // max(1, values.shape[1]))
    for start in range(0, len(values), rows):
        yield slice(start, start + rows)


def _fitting_samples(samples: ArrayLike, n_cells: int) -> NDArray[np.float64]:
    values = real_numbers(samples, "samples").astype(np.float64, copy=False)
    if values.ndim != 2 or values.shape[1] != n_cells or len(values) < 2:
        raise DataError(f"samples: shape {values.shape}; give at least 2 samples of {n_cells} cells")
    if np.isnan(values).any():
        raise DataError("samples: hold NaN; leave the cells without data out")
    return values


def _fitting_weights(weights: ArrayLike, n_cells: int) -> NDArray[np.float64]:
    values = real_numbers(weights, "cell_weights").astype(np.float64, copy=False)
    if values.shape != (n_cells,):
        raise DataError(f"cell_weights: shape {values.shape}; give one weight for each of {n_cells} cells")
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError("cell_weights: outside 0 .. 1; give the share of each cell that is kept")
    if not (values > LEAST_WEIGHT).any():
        raise DataError("cell_weights: no cell is kept, the function would be 0; keep one at least")
    return values


def _empirical_quantiles(
    samples: NDArray[np.float64], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Invert each cell's ECDF (i / N at the i-th smallest value), linear between and beyond its steps.

    ``samples`` (N, n), ``probabilities`` (n, k) -> (n, k).
    """
    ordered = np.sort(samples, axis=0).T
    count = ordered.shape[1]
    position = probabilities * count - 1
    lower = np.clip(np.floor(position), 0, count - 2).astype(np.intp)
    left = np.take_along_axis(ordered, lower, axis=1)
    right = np.take_along_axis(ordered, lower + 1, axis=1)
    return left + (position - lower) * (right - left)
