"""Samples cut into blocks of one size, with what keys their noise and what probes their rounding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xairt.errors import DataError

PROBED = 16
"""Largest number of samples that are explained a second time with their last digit changed."""


def probed(n: int, size: int) -> int:
    """Return how many of n samples are probed: what fits the spare rows of the last block of `size`.

    Where that block is full, one more is computed.

    Examples
    --------
    >>> probed(5, 8), probed(8, 8), probed(100, 128)
    (3, 8, 16)
    """
    return min(n, PROBED, -n % size or size)


def noise_keys(seed: int, sample_index: Sequence[int] | None, n: int) -> np.ndarray:
    """Return (n, 2) int32 of seed and sample index, which key each sample's noise.

    Raises
    ------
    DataError
        If the seed is no integer from 0 to 2**31 - 1, or there is not one index for each sample.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise DataError(f"seed {seed!r} is not usable: give an integer from 0 to 2**31 - 1")
    index = np.arange(n) if sample_index is None else np.asarray(sample_index)
    if index.shape != (n,) or index.dtype.kind not in "iu":
        raise DataError(
            f"sample_index must hold one integer for each of the {n} samples, got shape {index.shape}"
        )
    return np.stack([np.full(n, int(seed)), index], axis=1).astype(np.int32)


def blocks(
    values: np.ndarray, indices: np.ndarray, keys: np.ndarray, size: int, n_probes: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
    """Cut samples into blocks of one size.

    Parameters
    ----------
    values : numpy.ndarray
        (n, ...) samples.
    indices, keys : numpy.ndarray
        (n,) target indices and (n, 2) noise keys.
    size : int
        Samples per block; the last block is padded with copies of its last sample.
    n_probes : int
        That many samples, from the first on, follow once more after the last, see `last_digit_changed`.

    Yields
    ------
    x, indices, keys : numpy.ndarray
        Of one block.
    used : int
        How many of its rows are no padding.
    """
    n = len(values)
    total = n + n_probes
    for start in range(0, total, size):
        place = np.minimum(np.arange(start, start + size), total - 1)
        rows = np.where(place < n, place, place - n)
        x, again = values[rows], place >= n
        x[again] = last_digit_changed(x[again])
        yield x, indices[rows], keys[rows], min(size, total - start)


def last_digit_changed(x: np.ndarray) -> np.ndarray:
    """Return x (n, ...) with every number moved to a neighbour in its precision, up or down at random.

    The directions are the same for every sample and in every call.
    """
    up = np.random.default_rng(0).random(x.shape[1:]) < 0.5
    infinity = np.array(np.inf, x.dtype)
    return np.nextafter(x, np.where(up, infinity, -infinity))


def sensitivity(computed: dict[str, Any], n: int) -> float:
    """Return how far the attribution moves when the last digit of the samples does.

    Parameters
    ----------
    computed : dict
        ``attribution`` and ``target`` of n samples and then of the probes of the first of them.
    n : int
        Number of samples.

    Returns
    -------
    float
        Largest change relative to the largest attribution among the probed samples; 0 where that is 0,
        NaN where no probe explains the output that its sample does or a value is not finite.
    """
    attribution, target = computed["attribution"], computed["target"]
    m = len(attribution) - n
    same = target[:m] == target[n:]
    before, after = attribution[:m][same].astype(np.float64), attribution[n:][same].astype(np.float64)
    largest = np.abs(before).max(initial=0.0)
    if not same.any() or not (np.isfinite(before).all() and np.isfinite(after).all()):
        return float("nan")
    return float(np.abs(after - before).max() / largest) if largest else 0.0
