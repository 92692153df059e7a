"""What the scores share: plain arrays by axis, DataArrays by the names of their dimensions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError


def is_dataarray(array: Any) -> bool:
    """Recognise a DataArray without importing xarray: who has one has imported it."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(array, xarray.DataArray)


def dimensions(dim: str | Sequence[str] | None, known: Iterable[Any]) -> list[str]:
    """Return the dimensions that a score of DataArrays reduces.

    Raises
    ------
    DataError
        If none is given, or one of them is not known.

    Examples
    --------
    >>> dimensions("cell", ("sample", "cell"))
    ['cell']
    """
    dims = [dim] if isinstance(dim, str) else list(dim or ())
    if not dims or not set(dims) <= set(known):
        asked = f"dim={dim}: no such dimension" if dims else "dim: missing"
        raise DataError(f"{asked}; give some of {', '.join(sorted(map(str, known)))}")
    return dims


def refuse_names(dim: str | Sequence[str] | None) -> None:
    """Raise a DataError if dimension names are given for a plain array."""
    if dim is not None:
        raise DataError(f"dim={dim}: plain arrays have no dimension names; use axis=")


def axes_to_one(array: NDArray[np.float64], axis: int | tuple[int, ...]) -> NDArray[np.float64]:
    """Move the axes to reduce to the end and join them."""
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(array, axes, last)
    kept = moved.shape[: array.ndim - len(axes)]
    return moved.reshape(*kept, int(np.prod(moved.shape[len(kept) :])))
