"""Random numbers of a sample, keyed by a seed and the sample's index alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xairt.errors import DataError


def noise_keys(seed: int, sample_index: Sequence[int] | None, n: int) -> np.ndarray:
    """Return (n, 2) int32 of seed and sample index, which key each sample's noise.

    Parameters
    ----------
    seed : int
        From 0 to 2**31 - 1.
    sample_index : sequence of int, optional
        One for each sample; None counts them from 0.
    n : int
        Number of samples.

    Raises
    ------
    DataError
        If the seed is no integer from 0 to 2**31 - 1, or there is not one such index for each sample.

    Examples
    --------
    >>> noise_keys(7, [3, 4], 2).tolist()
    [[7, 3], [7, 4]]
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


def generator_of(key: Sequence[int], *stream: int) -> np.random.Generator:
    """Return the generator of a sample's random numbers.

    Parameters
    ----------
    key : sequence of int
        Seed and sample index, see `noise_keys`.
    *stream : int
        Positive numbers that separate independent draws with one key.

    Examples
    --------
    >>> bool(generator_of([0, 5]).random() == generator_of([0, 5]).random())
    True
    """
    entropy = [int(word) for word in (*key, *stream)]
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(entropy)))
