"""Samples cut into blocks of one size, with what probes their rounding."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Cut = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Samples, target indices and noise keys of a block, and how many of its rows are no padding."""

PROBED = 16
"""Largest number of samples that are explained a second time with their last digit changed."""


def plan(n: int, sizes: Sequence[int]) -> list[int]:
    """Return the sizes of the blocks that n samples are cut into, the largest first.

    The rest that fills no block goes into smaller ones, unless it fills more than half of one.

    Parameters
    ----------
    n : int
        Number of samples.
    sizes : sequence of int
        Sizes that a block may have, in rising order.

    Examples
    --------
    >>> plan(3, (64, 512, 4096)), plan(5000, (64, 512, 4096)), plan(20, (8,))
    ([64], [4096, 512, 512], [8, 8, 8])
    """
    found = []
    for i, size in reversed(list(enumerate(sizes))):
        whole, n = divmod(n, size)
        if n and (i == 0 or 2 * n > size):
            whole, n = whole + 1, 0
        found += [size] * whole
    return found


def probed(n: int, sizes: Sequence[int]) -> int:
    """Return how many of n samples are probed: what fits the spare rows of the last block.

    Where that block is full, one more small block is computed.

    Examples
    --------
    >>> probed(5, (8,)), probed(8, (8,)), probed(100, (64, 4096)), probed(8192, (64, 4096))
    (3, 8, 16, 16)
    """
    return min(n, PROBED, sum(plan(n, sizes)) - n or sizes[0])


def n_blocks(n: int, sizes: Sequence[int], n_probes: int = 0) -> int:
    """Return the number of blocks that `blocks` cuts n samples into."""
    return len(_plan_with_probes(n, sizes, n_probes))


def _plan_with_probes(n: int, sizes: Sequence[int], n_probes: int) -> list[int]:
    found = plan(n, sizes)
    return found if n + n_probes <= sum(found) else [*found, sizes[0]]


def blocks(
    values: np.ndarray, indices: np.ndarray, keys: np.ndarray, sizes: Sequence[int], n_probes: int = 0
) -> Iterator[Cut]:
    """Cut samples into blocks, see `plan`.

    Parameters
    ----------
    values : numpy.ndarray
        (n, ...) samples.
    indices, keys : numpy.ndarray
        (n,) target indices and (n, 2) noise keys.
    sizes : sequence of int
        Sizes that a block may have, in rising order; the last block is padded with copies of its last sample.
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
    n, start = len(values), 0
    for size in _plan_with_probes(n, sizes, n_probes):
        stop = start + size
        if stop <= n:
            yield values[start:stop], indices[start:stop], keys[start:stop], size
        else:
            place = np.minimum(np.arange(start, stop), n + n_probes - 1)
            again = place >= n
            rows = np.where(again, place - n, place)
            x = values[rows]
            x[again] = last_digit_changed(x[again])
            yield x, indices[rows], keys[rows], min(size, n + n_probes - start)
        start = stop


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


def joined(parts: Iterable[dict[str, np.ndarray]], n: int) -> dict[str, np.ndarray]:
    """Join arrays along their first axis, each part copied as soon as it comes.

    Parameters
    ----------
    parts : iterable of dict
        Arrays by name, of the same names in every part; n rows in all.
    n : int
        Number of rows.

    Examples
    --------
    >>> joined([{"a": np.array([1, 2])}, {"a": np.array([3])}], 3)
    {'a': array([1, 2, 3])}
    """
    whole, start = {}, 0
    for part in parts:
        for name, rows in part.items():
            if name not in whole:
                whole[name] = np.empty((n, *rows.shape[1:]), rows.dtype)
            whole[name][start : start + len(rows)] = rows
        start += len(rows)
    return whole


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
