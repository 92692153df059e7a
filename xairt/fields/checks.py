"""Checks of arguments that several modules have."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError


def whole_number(number: Any, name: str, wanted: str = "a whole number") -> int:
    """Return a whole number; DataError for anything else, 2.0 too.

    Examples
    --------
    >>> whole_number(np.int64(3), "n")
    3
    """
    try:
        return operator.index(number)
    except TypeError:
        raise DataError(f"{name}={number!r}: is no whole number; give {wanted}") from None


def real_numbers(values: ArrayLike, name: str) -> NDArray[np.floating]:
    """Return floats in their precision, other numbers as float64, masked ones as NaN; DataError for others.

    Examples
    --------
    >>> real_numbers(np.ma.masked_greater([1.0, 9.0], 5), "x")
    array([ 1., nan])
    """
    given = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if given.dtype.kind not in "fiub":
        raise DataError(f"{name}: holds {given.dtype}, no real numbers; convert it")
    found = given if given.dtype.kind == "f" else given.astype(np.float64)
    return found.filled(np.nan) if isinstance(found, np.ma.MaskedArray) else found
