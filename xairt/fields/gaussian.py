"""Gaussian random fields with a given covariance, drawn in blocks that do not depend on their number."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from xairt.errors import DataError
from xairt.fields.checks import whole_number
from xairt.fields.correlation import symmetric_matrix

BLOCK_SAMPLES = 1024
"""Samples per block; part of what a seed means, so a change alters every drawn field."""
LARGEST_NEGATIVE_SHARE = 1e-6
"""A negative eigenvalue beyond this share of the largest is no rounding, of float32 either: no covariance has it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Factor:
    """Square root of a covariance matrix.

    Parameters
    ----------
    matrix : numpy.ndarray
        (n, n) float64; ``matrix @ matrix.T`` is the covariance without its clipped part.
    clipped_count : int
        Number of eigenvalues that were negative or indistinguishable from 0, and were set to 0.
    clipped_sum : float
        Sum of these eigenvalues, in units of the covariance (signed).
    """

    matrix: NDArray[np.float64]
    clipped_count: int
    clipped_sum: float


def factorise(covariance: ArrayLike) -> Factor:
    """Factorise a covariance matrix that may be singular, and say what was clipped.

    The factor is the symmetric square root, which is unique, from the eigendecomposition. Eigenvalues below
    n times the machine precision times the largest are set to 0. Each row is then scaled so that the diagonal
    of ``matrix @ matrix.T`` equals the given variances.

    Parameters
    ----------
    covariance : (n, n), symmetric

    Returns
    -------
    Factor

    Raises
    ------
    DataError
        If the matrix is not square, finite and symmetric, or not positive semidefinite: it has an eigenvalue below
        -1e-6 times the largest.
    """
    matrix = symmetric_matrix(covariance)
    values, vectors = np.linalg.eigh(matrix)
    trace = float(np.trace(matrix))
    _refuse_negative(values)
    clipped = values <= len(values) * np.finfo(np.float64).eps * values[-1]
    root = (vectors * np.sqrt(np.where(clipped, 0.0, values))) @ vectors.T
    kept = np.sqrt(np.sum(root**2, axis=1))
    wanted = np.sqrt(np.clip(np.diag(matrix), 0.0, None))
    root *= np.divide(wanted, kept, out=np.zeros_like(kept), where=kept > 0)[:, np.newaxis]
    factor = Factor(root, int(clipped.sum()), float(values[clipped].sum()))
    if factor.clipped_count:
        _log.info(
            "covariance of %d cells: clipped %d eigenvalues, sum %.3g of trace %.3g",
            len(values),
            factor.clipped_count,
            factor.clipped_sum,
            trace,
        )
    return factor


def check_semidefinite(covariance: ArrayLike) -> NDArray[np.float64]:
    """Return a covariance matrix as float64 after checking that `factorise` can take it.

    Parameters
    ----------
    covariance : (n, n), symmetric

    Returns
    -------
    numpy.ndarray
        (n, n) float64.

    Raises
    ------
    DataError
        As `factorise`.
    """
    matrix = symmetric_matrix(covariance)
    _refuse_negative(np.linalg.eigvalsh(matrix))
    return matrix


def _refuse_negative(eigenvalues: NDArray[np.float64]) -> None:
    smallest, largest = eigenvalues[0], eigenvalues[-1]
    if not largest > 0 or smallest < -LARGEST_NEGATIVE_SHARE * largest:
        raise DataError(
            f"covariance: not positive semidefinite (eigenvalues from {smallest:.3g} to {largest:.3g}); estimate it "
            "from gap-free data"
        )


def gaussian_blocks(
    covariance: ArrayLike | Factor, n: int, seed: int, *, dtype: DTypeLike = np.float32, stream: int = 0
) -> Iterator[tuple[slice, NDArray[np.floating]]]:
    """Draw samples of N(0, covariance) block by block, for arrays larger than memory.

    Parameters
    ----------
    covariance : (cells, cells) or Factor
    n : int
        Number of samples, >= 0.
    seed : int
        Not negative. A block depends on (seed, stream, its index) alone, so the first samples do not depend
        on ``n``.
    dtype : floating type of the samples; they are computed in float64.
    stream : int
        Separates independent draws with one seed, for example samples (0) and the truth (1).

    Yields
    ------
    rows : slice
        Positions of these samples among the ``n``.
    samples : numpy.ndarray
        (at most `BLOCK_SAMPLES`, cells), in units of the square root of the covariance.

    Raises
    ------
    DataError
        If ``n`` or ``seed`` is negative or no whole number, the type holds no fractions, or the matrix is refused by `factorise`.
    """
    given = {"n": n, "seed": seed, "stream": stream}
    n, seed, stream = (whole_number(number, name) for name, number in given.items())
    if np.dtype(dtype).kind != "f":
        raise DataError(f"dtype={np.dtype(dtype)}: would cut off the samples; give float32 or float64")
    if n < 0 or seed < 0 or stream < 0:
        raise DataError(
            f"n={n}, seed={seed}, stream={stream}: must not be negative; give whole numbers from 0"
        )
    factor = covariance if isinstance(covariance, Factor) else factorise(covariance)
    for index, start in enumerate(range(0, n, BLOCK_SAMPLES)):
        generator = np.random.default_rng([seed, stream, index])
        # Always a full block: a product of another shape may round differently.
        noise = generator.standard_normal((BLOCK_SAMPLES, len(factor.matrix)))
        rows = slice(start, min(start + BLOCK_SAMPLES, n))
        yield rows, (noise @ factor.matrix.T)[: rows.stop - start].astype(dtype)


def sample_gaussian(
    covariance: ArrayLike | Factor, n: int, seed: int, dtype: DTypeLike = np.float32, *, stream: int = 0
) -> NDArray[np.floating]:
    """Draw ``n`` independent samples of N(0, covariance).

    Parameters
    ----------
    covariance, n, seed, dtype, stream
        As `gaussian_blocks`.

    Returns
    -------
    numpy.ndarray
        (n, cells); the first k rows are those of ``sample_gaussian(covariance, k, seed)``.

    Raises
    ------
    DataError
        As `gaussian_blocks`.

    Examples
    --------
    >>> sample_gaussian([[1.0, 0.5], [0.5, 1.0]], 3, seed=0).shape
    (3, 2)
    """
    factor = covariance if isinstance(covariance, Factor) else factorise(covariance)
    samples = np.empty((max(whole_number(n, "n"), 0), len(factor.matrix)), dtype=dtype)
    for rows, block in gaussian_blocks(factor, n, seed, dtype=dtype, stream=stream):
        samples[rows] = block
    return samples
