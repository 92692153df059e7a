"""Samples cut into blocks of one size, with what keys their noise and what probes their rounding."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from xairt.errors import DataError

Cut = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Samples, target indices and noise keys of a block, and how many of its rows are no padding."""

PROBED = 16
"""Largest number of samples that are explained a second time with their last digit changed."""


def length(n: int, sizes: tuple[int, int]) -> int:
    """Return the samples per block for n samples: small blocks where a large one would be mostly padding.

    Examples
    --------
    >>> length(20, (64, 4096)), length(1024, (64, 4096)), length(3, (8, 8))
    (64, 4096, 8)
    """
    few, many = sizes
    return many if 4 * n >= many else few


def probed(n: int, sizes: tuple[int, int]) -> int:
    """Return how many of n samples are probed: what fits the spare rows of the last block.

    Where that block is full, one more small block is computed.

    Examples
    --------
    >>> probed(5, (8, 8)), probed(8, (8, 8)), probed(100, (64, 4096)), probed(8192, (64, 4096))
    (3, 8, 16, 16)
    """
    return min(n, PROBED, -n % length(n, sizes) or sizes[0])


def n_blocks(n: int, sizes: tuple[int, int], n_probes: int = 0) -> int:
    """Return the number of blocks that `blocks` cuts n samples into."""
    size = length(n, sizes)
    return -(-n // size) + (n_probes > 0 and n % size == 0)


def noise_keys(seed: int, sample_index: Sequence[int] | None, n: int) -> np.ndarray:
    """Return (n, 2) int32 of seed and sample index, which key each sample's noise.

    Raises
    ------
    DataError
        If the seed is no integer from 0 to 2**31 - 1, or there is not one such index for each sample.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise DataError(f"seed {seed!r} is not usable: give an integer from 0 to 2**31 - 1")
    index = np.arange(n) if sample_index is None else np.asarray(sample_index)
    if index.shape != (n,) or index.dtype.kind not in "iu":
        raise DataError(
            f"sample_index must hold one integer for each of the {n} samples, from 0 to 2**31 - 1, "
            f"got shape {index.shape} of {index.dtype}"
        )
    wrong = index[(index < 0) | (index >= 2**31)]
    if wrong.size:
        raise DataError(f"sample_index {wrong[0]} is out of range: give integers from 0 to 2**31 - 1")
    return np.stack([np.full(n, int(seed)), index], axis=1).astype(np.int32)


def blocks(
    values: np.ndarray, indices: np.ndarray, keys: np.ndarray, sizes: tuple[int, int], n_probes: int = 0
) -> Iterator[Cut]:
    """Cut samples into blocks of one size, see `length`.

    Parameters
    ----------
    values : numpy.ndarray
        (n, ...) samples.
    indices, keys : numpy.ndarray
        (n,) target indices and (n, 2) noise keys.
    sizes : tuple of int
        Samples in a small and in a large block; the last block is padded with copies of its last sample.
    n_probes : int
        That many samples, from the first on, follow once more after the last, see `last_digit_changed`:
        in the spare rows of the last block, or else in a small block of their own.

    Yields
    ------
    x, indices, keys : numpy.ndarray
        Of one block.
    used : int
        How many of its rows are no padding.
    """
    n, size = len(values), length(len(values), sizes)
    spare = n % size > 0
    yield from _cut(values, indices, keys, range(0, n + n_probes * spare, size))
    if n_probes and not spare:
        yield from _cut(values, indices, keys, range(n, n + n_probes, sizes[0]))


def _cut(values: np.ndarray, indices: np.ndarray, keys: np.ndarray, places: range) -> Iterator[Cut]:
    """Yield blocks that start at `places`; a place from n on is that of a probe."""
    n, size, total = len(values), places.step, places.stop
    for start in places:
        if start + size <= n:
            rows = slice(start, start + size)
            yield values[rows], indices[rows], keys[rows], size
            continue
        place = np.minimum(np.arange(start, start + size), total - 1)
        rows = np.where(place < n, place, place - n)
        x, again = values[rows], place >= n
        x[again] = last_digit_changed(x[again])
        yield x, indices[rows], keys[rows], min(size, total - start)


def in_order(function: Callable[[Any], Any], items: Iterable[Any], threads: int) -> Iterator[Any]:
    """Yield function(item) for every item in order, so many of them computed at a time, ahead of their use.

    Examples
    --------
    >>> list(in_order(str.upper, "abc", threads=2))
    ['A', 'B', 'C']
    """
    pool, waiting = ThreadPoolExecutor(threads), deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
