"""Breakpoints of a piecewise-linear function from its slopes and values, for archives that lack them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.fields.piecewise import PiecewiseLinear

_ROUNDING = 64 * float(np.finfo(np.float32).eps)
"""What a contribution may be off, as a share of the largest: roundings of float32, which archives pass through."""


def fit_breakpoints(x: ArrayLike, contribution: ArrayLike, slopes: ArrayLike) -> PiecewiseLinear:
    """Find the breakpoints of a function whose slopes and values at samples are known.

    The function is continuous, 0 at 0, and 0 is one of its breakpoints. So each piece is a line of known slope
    whose intercept follows from the piece before it and the first sample that leaves that piece; the breakpoint
    is where both lines meet, exact but for rounding. A piece too short to hold a sample shrinks to a point, and
    breakpoints beyond the samples are put at the outermost one: at the samples the function is the same.

    Parameters
    ----------
    x : (samples, n)
        Some thousand samples of each cell.
    contribution : (samples, n)
        Of each cell, to the precision of float32 at least.
    slopes : (n, K + 1)
        From left to right, in the units of the contribution.

    Returns
    -------
    PiecewiseLinear
        Of K breakpoints, not divided by n, which gives these contributions.

    Raises
    ------
    DataError
        If shapes do not fit, values are missing, or the contributions do not follow from the slopes.

    Examples
    --------
    >>> known = PiecewiseLinear(np.array([[-0.5, 0.0, 1.0]]), np.array([[1.0, 2.0, 3.0, -1.0]]), divide=False)
    >>> x = np.linspace(-2, 2, 100)[:, np.newaxis]
    >>> fit_breakpoints(x, known.contribution(x), known.slopes).breakpoints.round(9)
    array([[-0.5,  0. ,  1. ]])
    """
    values, given, weights = np.asarray(x), np.asarray(contribution), np.asarray(slopes, np.float64)
    if values.ndim != 2 or given.shape != values.shape or weights.shape[:1] != values.shape[1:]:
        raise DataError(
            f"x {values.shape}, contribution {given.shape}, slopes {weights.shape}: shapes do not fit; give "
            "(samples, n) twice and (n, K + 1)"
        )
    if not (np.isfinite(values).all() and np.isfinite(given).all() and np.isfinite(weights).all()):
        raise DataError("x, contribution and slopes: hold NaN or infinity; leave the cells without data out")
    values, given = values.astype(np.float64), given.astype(np.float64)
    scale = np.abs(values).max(axis=0) * np.abs(weights).max(axis=1)
    tolerance = _ROUNDING * np.maximum(scale, np.finfo(np.float64).tiny)
    breakpoints = np.empty((len(weights), weights.shape[1] - 1))
    for cell, row in enumerate(weights):
        breakpoints[cell] = _of_cell(values[:, cell], given[:, cell], row, tolerance[cell])
    function = PiecewiseLinear(breakpoints, weights, divide=False)
    off = (np.abs(function.contribution(values) - given) > 2 * tolerance).any(axis=0)
    if off.any():
        raise DataError(
            f"contribution: does not follow from the slopes in {off.sum()} of {len(off)} cells, the first of them "
            f"{int(off.argmax())}; give the slopes from left to right and contributions that are 0 at 0"
        )
    return function


def _of_cell(
    x: NDArray[np.float64], given: NDArray[np.float64], slopes: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """Return the breakpoints (K,) of one cell: the place of 0 among them is the one that fits best."""
    order = np.argsort(x)
    x, given = x[order], given[order]
    zero = int(np.searchsorted(x, 0.0))
    best, least = np.empty(0), np.inf
    for place in range(1, len(slopes)):
        right = _walk(x[zero:], given[zero:], slopes[place:], tolerance)
        left = _walk(-x[:zero][::-1], given[:zero][::-1], -slopes[:place][::-1], tolerance)
        found = np.concatenate([-left[::-1], [0.0], right])
        fitted = PiecewiseLinear(found[np.newaxis], slopes[np.newaxis], divide=False)
        miss = float(np.abs(fitted.contribution(x[:, np.newaxis])[:, 0] - given).max())
        if miss < least:
            best, least = found, miss
        if least <= tolerance:
            break
    return best


def _walk(
    x: NDArray[np.float64], given: NDArray[np.float64], slopes: NDArray[np.float64], tolerance: float
) -> NDArray[np.float64]:
    """Return the breakpoints between pieces that follow each other from 0 on, x ascending and not negative."""
    found = np.full(len(slopes) - 1, x[-1] if len(x) else 0.0)
    piece, intercept, at = 0, 0.0, 0
    while piece < len(slopes) - 1:
        left = np.abs(given[at:] - slopes[piece] * x[at:] - intercept) > tolerance
        if not left.any():
            break
        at += int(left.argmax())
        before = x[at - 1] if at else 0.0
        for following in range(piece + 1, len(slopes)):
            bend = slopes[piece] - slopes[following]
            meeting = (given[at] - slopes[following] * x[at] - intercept) / bend if bend else np.inf
            margin = 2 * tolerance / abs(bend) if bend else 0.0
            if before - margin <= meeting <= x[at] + margin or following == len(slopes) - 1:
                break
        earlier = found[piece - 1] if piece else 0.0
        meeting = float(np.clip(np.nan_to_num(meeting), earlier, x[at]))
        found[piece:following] = meeting
        intercept += bend * meeting
        piece = following
    return found
