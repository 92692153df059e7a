"""Colour limits, colour maps and the words on a colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray

from xairt.errors import DataError, suggest

DIVERGING = "RdBu_r"
SEQUENTIAL = "YlOrRd"
LAND = "0.8"
"""Light grey: land, and every other cell of the grid without a value."""
NO_DATA = "white"
"""Where the grid has no cells."""

Normalise = Literal["max", "sum"] | None


class ColourScale(NamedTuple):
    """Colour map, limits, and at which ends the data go beyond the limits (matplotlib's `extend`)."""

    cmap: matplotlib.colors.Colormap
    vmin: float
    vmax: float
    extend: str


def colour_scale(
    panels: Sequence[NDArray[Any]],
    *,
    cmap: Any = None,
    vlim: float | tuple[float, float] | None = None,
    robust: float | None = None,
    signed: bool = False,
) -> ColourScale:
    """Choose one colour scale for panels that are to be compared.

    Signed values get a diverging map symmetric about zero, non-negative values a sequential map from zero.
    Values that are all zero or all NaN get the limits 0 and 1.

    Parameters
    ----------
    panels
        Arrays of any shape; NaN is left out.
    cmap
        Colour map or its name, instead of the default one.
    vlim
        Largest magnitude shown, or (lowest, highest) value shown, in the units of the panels.
    robust
        Percentile (0 .. 100) of the magnitudes to take as the largest one shown; default the maximum.
    signed
        Take the values as signed though none of them is negative (others of the same quantity are).

    Raises
    ------
    DataError
        If limits are not finite and increasing, the percentile is out of range, both are given, or the colour
        map is unknown.
    """
    finite = np.concatenate([np.asarray(p, float)[np.isfinite(p)] for p in panels])
    low, high = _limits(finite, vlim, robust, signed or bool((finite < 0).any()))
    below, above = bool((finite < low).any()), bool((finite > high).any())
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return ColourScale(_colormap(cmap, DIVERGING if low < 0 else SEQUENTIAL), low, high, extend[below, above])


def _limits(
    finite: NDArray[np.float64],
    vlim: float | tuple[float, float] | None,
    robust: float | None,
    signed: bool,
) -> tuple[float, float]:
    if vlim is not None and robust is not None:
        raise DataError("vlim and robust both set the colour limits; give one of them")
    if vlim is None:
        vlim = _magnitude(finite, robust)
    try:
        if np.ndim(vlim) == 0:
            vlim = (-float(vlim) if signed else 0.0, vlim)
        low, high = (float(value) for value in vlim)
    except (TypeError, ValueError):
        raise DataError(f"vlim {vlim!r} is not a number or (lowest, highest)") from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise DataError(f"vlim {low:g} .. {high:g} is not an increasing finite range")
    return low, high


def _magnitude(finite: NDArray[np.float64], robust: float | None) -> float:
    if robust is not None and not 0 < robust <= 100:
        raise DataError(
            f"robust={robust!r} is not a percentile; give a number above 0 and up to 100, such as 99"
        )
    if not finite.size or not finite.any():
        return 1.0
    magnitude = np.abs(finite)
    limit = magnitude.max() if robust is None else np.percentile(magnitude, robust)
    return float(limit or magnitude.max())


def _colormap(cmap: Any, default: str) -> matplotlib.colors.Colormap:
    if isinstance(cmap, matplotlib.colors.Colormap):
        return cmap
    name = default if cmap is None else str(cmap)
    if name not in matplotlib.colormaps:
        raise DataError(f"colour map '{name}' is unknown{suggest(name, matplotlib.colormaps)}")
    return matplotlib.colormaps[name]


def normalised(values: NDArray[Any], how: Normalise) -> NDArray[Any]:
    """Return one map as it is (None), or divided by the largest ("max") or the sum of its magnitudes ("sum").

    Parameters
    ----------
    values
        One map of any shape; NaN stays NaN and does not count. A map of zeros stays zero.
    how
        The normalisation.

    Raises
    ------
    DataError
        If the normalisation is unknown.

    Examples
    --------
    >>> normalised(np.array([1.0, -4.0, np.nan]), "max")
    array([ 0.25, -1.  ,   nan])
    """
    if how is None:
        return values
    if how not in ("max", "sum"):
        raise DataError(f"normalise={how!r} is unknown; use None, 'max' or 'sum'")
    magnitude = np.abs(values[np.isfinite(values)])
    scale = (magnitude.max() if how == "max" else magnitude.sum()) if magnitude.size else 0.0
    return values / scale if scale else values


def bar_exponent(largest: float) -> int:
    """Return the power of ten that a colour bar's numbers are divided by; 0 where they are handy as they are.

    Examples
    --------
    >>> bar_exponent(0.5), bar_exponent(0.0042), bar_exponent(3e5)
    (0, -3, 5)
    """
    exponent = int(np.floor(np.log10(largest)))
    return 0 if -3 < exponent < 4 else exponent


def colour_bar_label(
    quantity: str, units: str | None, normalise: Normalise, robust: float | None, exponent: int = 0
) -> str:
    """Return what a colour bar shows: quantity, units, power of ten, normalisation and robust limits.

    Examples
    --------
    >>> colour_bar_label("relevance", "K", None, None)
    'relevance (K)'
    >>> colour_bar_label("relevance", "K", None, None, exponent=-3)
    'relevance ($10^{-3}$ K)'
    >>> colour_bar_label("relevance", "K", "max", 99)
    'relevance / max |relevance|, limits: 99th percentile'
    """
    name = quantity or "value"
    if normalise is not None:
        name, units = f"{name} / {normalise} |{name}|", None
    factors = [f"$10^{{{exponent}}}$"] if exponent else []
    if units and units != "1":
        factors.append(units)
    label = f"{name} ({' '.join(factors)})" if factors else name
    return f"{label}, limits: {_ordinal(robust)} percentile" if robust is not None else label


def _ordinal(number: float) -> str:
    text = f"{number:g}"
    if text.endswith(("11", "12", "13")):
        return f"{text}th"
    return text + {"1": "st", "2": "nd", "3": "rd"}.get(text[-1], "th")
