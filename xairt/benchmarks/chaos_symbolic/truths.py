"""What the variables of a formula contribute to its value, in the sense of each kind of method."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt import conventions
from xairt.benchmarks.chaos_symbolic.formulas import Formula

PUBLISHED_STEPS = 20
"""Increments of the published integral."""

FIRST_NODES, MOST_NODES = 32, 512
"""Nodes of the quadrature, doubled until the integrals sum to f(x) - f(0)."""

COMPLETE = 1e-10
"""Gap of that sum at which the doubling ends, relative to the largest value of 1 and more."""

log = logging.getLogger(__name__)


def intercept(formula: Formula, x: ArrayLike) -> NDArray[np.float64]:
    """Return f(x) - f(x with one variable 0), for each variable: what ablation of the formula would find.

    Parameters
    ----------
    formula : Formula
    x : (samples, columns)
        The letters first; further columns are ignored.

    Returns
    -------
    numpy.ndarray
        (samples, letters) float64.

    Raises
    ------
    DataError
        If the formula has no finite value somewhere.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150.
    """
    values = _letters(formula, x)
    at_x = formula(values)
    return _by_letter(formula, lambda k: at_x - formula(_with(values, k, 0.0)))


def derivative(formula: Formula, x: ArrayLike) -> NDArray[np.float64]:
    """Return the partial derivatives at x, as `Formula.derivative`: what a gradient estimates."""
    return formula.derivative(x)


def integral(formula: Formula, x: ArrayLike, *, convention: str | None = None) -> NDArray[np.float64]:
    """Return the integrated gradients of the formula from 0 to x.

    Of letter k it is x_k times the integral of df/dx_k (s x) over s from 0 to 1, by Gauss-Legendre quadrature with as many
    nodes (32 to 512) as make the letters sum to f(x) - f(0) within 1e-10. Where a kink or a pole prevents that, the
    gap is logged.

    Parameters
    ----------
    formula, x
        As of `intercept`.
    convention : {"chaosmining2024"}, optional
        The published sum of 20 steps in place of the integral: at point t of 20 of the line from 0, letter k alone
        moves on to point t + 1.

    Returns
    -------
    numpy.ndarray
        (samples, letters) float64.

    Raises
    ------
    DataError
        If value or derivative of the formula are not finite somewhere on the line.
    MethodError
        If the convention is another one.

    References
    ----------
    Sundararajan, Taly and Yan (2017), arXiv:1703.01365, eq. 1; Shi et al. (2024), arXiv:2406.12150.
    """
    values = _letters(formula, x)
    if conventions.check(convention, (conventions.CHAOSMINING2024.name,)):
        return _increments(formula, values)
    at_x, at_0 = formula(values), formula(np.zeros_like(values[:1]))
    tolerance = COMPLETE * max(1.0, float(np.abs(at_x - at_0).max(initial=0.0)))
    nodes = FIRST_NODES
    while True:
        found = _quadrature(formula, values, nodes)
        gap = float(np.abs(found.sum(axis=1) - (at_x - at_0)).max(initial=0.0))
        if gap <= tolerance:
            return found
        if nodes >= MOST_NODES:
            break
        nodes *= 2
    log.warning(
        "formula '%s': integrals of %d nodes miss f(x) - f(0) by up to %.2g, as at a kink or near a pole",
        formula.text,
        nodes,
        gap,
    )
    return found


def integral20(formula: Formula, x: ArrayLike) -> NDArray[np.float64]:
    """Return `integral` under the convention chaosmining2024."""
    return integral(formula, x, convention=conventions.CHAOSMINING2024.name)


def magnitude(formula: Formula, x: ArrayLike) -> NDArray[np.float64]:
    """Return the magnitudes of the partial derivatives: what the absolute value of a gradient estimates."""
    return np.abs(formula.derivative(x))


TRUTHS = {f.__name__: f for f in (intercept, derivative, magnitude, integral, integral20)}
"""Every truth by its name: functions of a formula and x (samples, columns)."""


def truth(name: str, formula: Formula, x: ArrayLike) -> NDArray[np.float64]:
    """Return a truth for all columns of x, 0 for the noise variables.

    Parameters
    ----------
    name : str
        One of `TRUTHS`.
    formula, x
        As of `intercept`.

    Returns
    -------
    numpy.ndarray
        (samples, columns) float64.
    """
    found = TRUTHS[name](formula, x)
    return np.pad(found, ((0, 0), (0, np.shape(x)[1] - found.shape[1])))


def _letters(formula: Formula, x: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(x, np.float64)[:, : formula.n_features]


def _with(x: NDArray[np.float64], k: int, value: NDArray[np.float64] | float) -> NDArray[np.float64]:
    changed = x.copy()
    changed[:, k] = value
    return changed


def _by_letter(formula: Formula, column) -> NDArray[np.float64]:
    return np.stack([column(k) for k in range(formula.n_features)], axis=1)


def _quadrature(formula: Formula, x: NDArray[np.float64], nodes: int) -> NDArray[np.float64]:
    places, weights = np.polynomial.legendre.leggauss(nodes)
    total = np.zeros_like(x)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        total += weight * formula.derivative(place * x)
    return x * total


def _increments(formula: Formula, x: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros_like(x)
    for step in range(PUBLISHED_STEPS):
        here, there = step / PUBLISHED_STEPS * x, (step + 1) / PUBLISHED_STEPS * x
        at = formula(here)
        total += _by_letter(formula, lambda k: formula(_with(here, k, there[:, k])) - at)  # noqa: B023
    return total
