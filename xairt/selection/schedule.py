"""How many features are left after each round of an elimination."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral

from xairt.errors import DataError

FRACTION = 0.5
"""Published share of the features that each round drops."""

_DIGITS = 9
"""Decimals to which the number of dropped features is rounded before its fraction is cut off: 0.29 x 100 is 29."""


def feature_counts(n_features: int, n_left: int | Sequence[int] = 1, fraction: float = FRACTION) -> list[int]:
    """Return the number of features of every round, from all of them to the last.

    Each round drops the whole part of `fraction` times its features, at least one; the last round leaves exactly as
    many as asked for.

    Parameters
    ----------
    n_features : int
        All features, >= 1.
    n_left : int or sequence of int
        Features of the last round; or the counts themselves, from large to small.
    fraction : float
        Share that each round drops, between 0 and 1; not used where the counts are given.

    Returns
    -------
    list of int
        Begins with ``n_features``.

    Raises
    ------
    DataError
        If a number is out of range, or given counts do not fall.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150: 156, 78, 39, 20, 10, 6 of a function of six variables with 150 further ones.

    Examples
    --------
    >>> feature_counts(156, 6)
    [156, 78, 39, 20, 10, 6]
    >>> feature_counts(20, [10, 3])
    [20, 10, 3]
    """
    if not 0 < fraction < 1:
        raise DataError(f"fraction={fraction}: out of range; give a share between 0 and 1")
    given = isinstance(n_left, Iterable)
    wanted = list(n_left) if given else [n_left]
    for count in wanted:
        if isinstance(count, bool) or not isinstance(count, Integral) or not 1 <= count <= n_features:
            raise DataError(f"n_features={count!r}: out of range; give a whole number from 1 to {n_features}")
    if not wanted or sorted(set(wanted), reverse=True) != wanted:
        raise DataError(f"n_features={wanted}: does not fall; give counts from large to small, each once")
    if given:
        return [n_features, *(int(count) for count in wanted if count < n_features)]
    counts = [n_features]
    while counts[-1] > wanted[0]:
        dropped = max(1, math.floor(round(counts[-1] * fraction, _DIGITS)))
        counts.append(max(int(wanted[0]), counts[-1] - dropped))
    return counts
