"""Splits of a series into samples to train with, to validate with, and to test with.

Neighbouring samples of a climate series are alike, and samples made of running means share days. A shuffled
validation part therefore lies among its own neighbours of the training part, and its score tells how well
the network remembers them (Roberts et al. 2017, doi:10.1111/ecog.02881). `blocked` keeps a gap between the parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of samples in the series, each part in time order.

    Attributes
    ----------
    train, validation, test : numpy.ndarray
        (samples,) integers, disjoint; validation and test may be empty.
    """

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


def shuffled(n: int, validation: float = 0.2, *, n_test: int = 0, seed: int = 0) -> Split:
    """Split with validation samples drawn at random, as the publication does.

    The score of the validation part is inflated where neighbouring samples are alike: prefer `blocked`.

    Parameters
    ----------
    n : int
        Length of the series.
    validation : float
        Share, 0 to below 1, of the samples before the test part, rounded to whole samples.
    n_test : int
        Samples at the end of the series that are kept for the test.
    seed : int
        Not negative.

    Returns
    -------
    Split
        Every sample is in one part.

    Raises
    ------
    DataError
        If a number is out of range or nothing is left to train with.

    References
    ----------
    Gaikwad et al. (XAIRT): validation 0.2, the last 2161 of 11263 days for the test.

    Examples
    --------
    >>> split = shuffled(10, 0.25, n_test=2, seed=0)
    >>> split.validation, split.test
    (array([2, 4]), array([8, 9]))
    """
    _require(n, validation, n_test)
    if seed < 0:
        raise DataError(f"seed={seed}: out of range; give a whole number from 0")
    fitted = n - n_test
    n_validation = round(validation * fitted)
    order = np.random.default_rng(seed).permutation(fitted)
    return _split(np.sort(order[n_validation:]), np.sort(order[:n_validation]), n, n_test)


def blocked(n: int, validation: float = 0.2, *, n_test: int = 0, gap: int = 0, blocks: int = 1) -> Split:
    """Split with contiguous validation blocks and a gap on both sides of each: the recommended one.

    Parameters
    ----------
    n : int
        Length of the series.
    validation : float
        Share, 0 to below 1, of the samples that are neither test nor gap before it.
    n_test : int
        Samples at the end of the series that are kept for the test.
    gap : int
        Samples left out between two parts, see `gap_of`. Missing steps of the series only make it longer.
    blocks : int
        Into how many equal parts the series before the test is cut; the last of each is for validation.

    Returns
    -------
    Split
        Any two samples of different parts are more than `gap` steps apart; those in between are left out.

    Raises
    ------
    DataError
        If a number is out of range or nothing is left to train with.

    Examples
    --------
    >>> split = blocked(12, 0.25, n_test=3, gap=1)
    >>> split.train, split.validation, split.test
    (array([0, 1, 2, 3, 4]), array([6, 7]), array([ 9, 10, 11]))
    """
    _require(n, validation, n_test)
    if gap < 0 or blocks < 1:
        raise DataError(f"gap={gap}, blocks={blocks}: out of range; give gap >= 0 and blocks >= 1")
    fitted = max(n - n_test - (gap if n_test else 0), 0)
    parts = np.array_split(np.arange(fitted), blocks)
    held_out = [part[len(part) - round(validation * len(part)) :] for part in parts]
    if validation and not all(block.size for block in held_out):
        raise DataError(
            f"blocks={blocks}: some of them hold no validation sample; give fewer blocks, or a larger share"
        )
    free = np.ones(fitted, bool)
    for block in held_out:
        if block.size:
            free[max(block[0] - gap, 0) : block[-1] + gap + 1] = False
    return _split(np.flatnonzero(free), np.concatenate(held_out), n, n_test)


def gap_of(window: int, lag: int = 0) -> int:
    """Return the gap after which two samples share no step of the series.

    A sample is made of a running mean of x at t and one of the target at t + lag. The gap covers the steps of both
    windows of one sample against both of the other. What is alike beyond the windows, by autocorrelation of the
    field itself, asks for a longer gap.

    Parameters
    ----------
    window : int
        Length of the running mean in steps, 1 for none.
    lag : int
        Steps between x and the target, of either sign.

    Returns
    -------
    int
        window - 1 + abs(lag).

    Raises
    ------
    DataError
        If the window is not positive.

    Examples
    --------
    >>> gap_of(61, lag=180), gap_of(3, lag=-2)
    (240, 4)
    """
    if window < 1:
        raise DataError(f"window={window}: out of range; give 1 for no running mean, or more")
    return window - 1 + abs(lag)


def _require(n: int, validation: float, n_test: int) -> None:
    if not 0 <= validation < 1:
        raise DataError(f"validation={validation}: out of range; give a share from 0 to below 1")
    if n < 1 or not 0 <= n_test < n:
        raise DataError(f"n={n}, n_test={n_test}: out of range; give n >= 1 and n_test from 0 to below n")


def _split(train: NDArray[np.intp], validation: NDArray[np.intp], n: int, n_test: int) -> Split:
    if not train.size:
        raise DataError(
            f"split of {n} samples: none is left to train with; shorten the gap or the other parts"
        )
    return Split(train, validation, np.arange(n - n_test, n))
