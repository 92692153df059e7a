"""Relevance by lag: a row of maps for each lag, a column for each class, on the globe."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import cartopy.crs as ccrs
import numpy as np
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.grid import Grid
from xairt.plots.colours import ColourScale, bar_exponent, colour_bar_label, colour_scale
from xairt.plots.maps import map as draw_map
from xairt.plots.projections import GLOBAL_CENTRE, resolve_projection
from xairt.plots.style import (
    CHARACTERS_PER_INCH,
    LABEL_SIZE,
    TICK_SIZE,
    TITLE_SIZE,
    new_figure,
    save_figure,
    wrap_label,
)

LAG_DIM, CLASS_DIM = "lag", "class"
MOST_LAGS = 9
MARK_COLOUR = "#1b7837"
"""Dark green, which neither end of the diverging colours has."""

ShareLags = Literal["row", "all"]

_COMPOSITE = "mean"
_MAP_WIDTH, _ROW_GAP, _TITLE_HEIGHT, _LINE_HEIGHT = 3.3, 0.12, 0.24, 0.165  # inches
_NAME_WIDTH, _BAR_WIDTH, _BAR_HEIGHT, _LONGEST_BAR = 0.75, 0.8, 0.65, 4.0  # inches
_SHORTEST_LABEL = 20
_BARS_PER_INCH = 8.0  # how thin a colour bar is
_TEXT_GAP, _LINE_SPACING = 4.0, 1.25  # points; lines
_UPRIGHT_CHARACTERS = 125.0  # characters times their size in points that stand in an inch
_SIDE_POINTS = 32
_CORRELATION = "lag correlation"


class _Column(NamedTuple):
    """Maps of all lags under one title; columns of one kind share their colours."""

    title: str
    maps: xr.DataArray
    counts: NDArray[np.int64] | None
    kind: str


def relevance_by_lag(
    relevance: xr.Dataset | xr.DataArray,
    *,
    share: ShareLags,
    lag_correlation: xr.Dataset | xr.DataArray | None = None,
    skill: Mapping[str, ArrayLike] | None = None,
    target_place: tuple[float, float] | None = None,
    target_box: tuple[float, float, float, float] | None = None,
    lag_units: str | None = None,
    grid: Grid | None = None,
    projection: str | ccrs.Projection = "Robinson",
    central_longitude: float | None = GLOBAL_CENTRE,
    extent: tuple[float, float, float, float] | None = None,
    robust: float | None = None,
    title: str | None = None,
    save: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw composites of relevance, rows of lags and columns of classes.

    Parameters
    ----------
    relevance
        Composites (lag, class, lat, lon): a DataArray, or a Dataset with the variable ``mean`` as
        `xairt.metrics.class_composites` gives for each lag; its ``count`` is then told above each map. NaN
        is drawn as land, a class without samples as "no data". One to nine lags, drawn in this order.
    share
        What has one colour scale: the maps of each "row" (patterns of each lag are seen, however weak), or
        "all" (lags can be compared). There is no default. Scales are diverging about zero.
    lag_correlation
        Correlation of the field with the target (lag, lat, lon), or the Dataset that
        `xairt.metrics.lag_correlation` gives, drawn in a column beside with one scale of its own.
    skill
        Numbers (lag,) told beside the lags, such as ``{"accuracy": [...], "class frequency": [...]}``; NaN is
        left out.
    target_place
        (lat, lon) of the target in degrees, marked with a star.
    target_box
        (south, north, west, east) of the target in degrees, eastward from west to east, outlined.
    lag_units
        "months" or "days". None: the attribute ``units`` of the coordinate ``lag``.
    grid
        Grid of composites that are vectors (lag, class, cell).
    projection, central_longitude, extent, robust
        As in `xairt.plots.map`, but for the central longitude: 180 degrees, the Pacific in one piece.
    title
        Title of the figure.
    save
        File to write the figure to, atomically; the suffix names the format.

    Returns
    -------
    matplotlib.figure.Figure
        Axes of maps come row by row, then the colour bars.

    Raises
    ------
    DataError
        If a dimension, the units of the lag or `share` is missing or unknown, there are more than nine lags,
        other arrays do not have the same lags, a place is not on the globe, and as in `xairt.plots.map`.
    """
    if share not in ("row", "all"):
        raise DataError(f"share={share!r} is unknown; use 'row' or 'all'")
    columns, lags = _columns(relevance, lag_correlation)
    names = _row_names(lags, lag_units, skill)
    mark = _outline(target_place, target_box)
    figure = new_figure()
    axes = _map_axes(figure, columns, len(lags), projection, central_longitude)
    scales = _scales(columns, len(lags), share, robust)
    for (row, column), ax in np.ndenumerate(axes):
        panel, scale = columns[column].maps.isel({LAG_DIM: row}), scales[row][column]
        limits = {"vlim": (scale.vmin, scale.vmax), "colorbar": False}
        draw_map(panel, grid=grid, ax=ax, extent=extent, title=_heading(columns[column], row), **limits)
        if mark is not None:
            _draw_mark(ax, *mark)
    _name_rows(axes[:, 0], names)
    _draw_bars(figure, axes, columns, scales, share, robust)
    _set_size(figure, axes, share, title, _text_height(names))
    if save is not None:
        save_figure(figure, save)
    return figure


def lag_name(lag: float, units: str) -> str:
    """Return a lag in words; positive where the target is later than the field (prediction).

    Examples
    --------
    >>> lag_name(3, "months"), lag_name(-1, "months"), lag_name(0, "days")
    ('lag +3 months', 'lag -1 month', 'lag 0')
    """
    if lag == 0:
        return "lag 0"
    return f"lag {lag:+g} {units[:-1] if abs(lag) == 1 and units.endswith('s') else units}"


def _columns(relevance: Any, lag_correlation: Any) -> tuple[list[_Column], xr.DataArray]:
    """Return the columns of maps, and the coordinate of the lags."""
    counts = None
    if isinstance(relevance, xr.Dataset):
        if _COMPOSITE not in relevance:
            raise DataError(
                f"relevance: Dataset without variable '{_COMPOSITE}'; give one of class_composites"
            )
        counts = relevance.get("count")
        relevance = relevance[_COMPOSITE]
    _require_lags(relevance, "relevance", (LAG_DIM, CLASS_DIM))
    lags = relevance[LAG_DIM]
    if not 1 <= lags.size <= MOST_LAGS:
        raise DataError(f"relevance: {lags.size} lags; select 1 to {MOST_LAGS} of them for one figure")
    found = []
    for i, name in enumerate(relevance[CLASS_DIM].values):
        number = None if counts is None else counts.transpose(LAG_DIM, CLASS_DIM).values[:, i]
        found.append(_Column(str(name), relevance.isel({CLASS_DIM: i}, drop=True), number, "relevance"))
    if lag_correlation is not None:
        found.append(_Column(_CORRELATION, _correlation_maps(lag_correlation, lags), None, _CORRELATION))
    return found, lags


def _correlation_maps(given: Any, lags: xr.DataArray) -> xr.DataArray:
    if isinstance(given, xr.Dataset):
        if "correlation" not in given:
            raise DataError("lag_correlation: Dataset without variable 'correlation'; give its maps")
        given = given["correlation"]
    _require_lags(given, "lag_correlation", (LAG_DIM,))
    if not np.array_equal(given[LAG_DIM].values, lags.values):
        raise DataError(
            "lag_correlation: has other lags than the relevance; select the same ones in one order"
        )
    return given


def _require_lags(array: Any, name: str, dims: Sequence[str]) -> None:
    if not isinstance(array, xr.DataArray):
        raise DataError(
            f"{name}: {type(array).__name__}, no DataArray; label its dimensions {', '.join(dims)}"
        )
    for dim in dims:
        if dim not in array.dims or dim not in array.coords:
            raise DataError(f"{name}: no dimension '{dim}' with a coordinate; concatenate the maps along it")


def _row_names(
    lags: xr.DataArray, units: str | None, skill: Mapping[str, ArrayLike] | None
) -> list[tuple[str, str]]:
    """Return the name of each lag, and its skill."""
    units = units or lags.attrs.get("units")
    if not units:
        raise DataError("lag: without units; give lag_units='months' or 'days'")
    words: list[list[str]] = [[] for _ in range(lags.size)]
    for name, values in (skill or {}).items():
        numbers = np.asarray(values, np.float64)
        if numbers.shape != (lags.size,):
            raise DataError(
                f"skill '{name}' {numbers.shape}: does not fit {lags.size} lags; give one for each"
            )
        for row, number in zip(words, numbers, strict=True):
            if np.isfinite(number):
                row.append(f"{name} {number:.2f}")
    return [
        (lag_name(float(lag), str(units)), "\n".join(row))
        for lag, row in zip(lags.values, words, strict=True)
    ]


def _heading(column: _Column, row: int) -> str:
    count = "" if column.counts is None else f"n = {column.counts[row]}"
    return ", ".join(filter(None, (column.title if row == 0 else "", count)))


def _scales(
    columns: Sequence[_Column], n_lags: int, share: ShareLags, robust: float | None
) -> list[list[ColourScale]]:
    """Return the colours of each map, (lags, columns)."""
    found: list[list[ColourScale]] = []
    for row in range(n_lags):
        by_kind = {}
        for kind in {c.kind for c in columns}:
            members = [c.maps for c in columns if c.kind == kind]
            by_row = share == "row" and kind != _CORRELATION
            values = [m.isel({LAG_DIM: row}).values if by_row else m.values for m in members]
            by_kind[kind] = colour_scale(values, robust=robust, signed=True)
        found.append([by_kind[c.kind] for c in columns])
    return found


def _map_axes(
    figure: Figure,
    columns: Sequence[_Column],
    n_lags: int,
    projection: str | ccrs.Projection,
    central_longitude: float | None,
) -> NDArray[Any]:
    globe = np.array([0.0, 360.0])
    found = resolve_projection(projection, central_longitude, globe)
    shape = (n_lags, len(columns))
    return figure.subplots(*shape, squeeze=False, subplot_kw={"projection": found, "anchor": "N"})


def _outline(place: Any, box: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return longitudes and latitudes of the target: one place, or the border of a box."""
    if place is not None and box is not None:
        raise DataError("target_place and target_box both mark the target; give one of them")
    if place is None and box is None:
        return None
    given = _degrees(place if box is None else box)
    lats = given[:1] if box is None else given[:2]
    if given.shape != (2 if box is None else 4,) or not (
        np.isfinite(given).all() and (np.abs(lats) <= 90).all()
    ):
        form = "target_place (lat, lon)" if box is None else "target_box (south, north, west, east)"
        told = reprlib.repr(place if box is None else box)
        raise DataError(f"{form}: {told} is not on the globe; give degrees north and east")
    if box is None:
        return given[1:], given[:1]
    south, north, west, east = given
    east = west + np.mod(east - west, 360.0)
    corners = np.array([[west, south], [east, south], [east, north], [west, north], [west, south]])
    steps = np.linspace(0, 1, _SIDE_POINTS)[:, None]
    sides = [a + steps * (b - a) for a, b in pairwise(corners)]
    lon, lat = np.concatenate(sides).T
    return lon, lat


def _degrees(given: Any) -> NDArray[np.float64]:
    """Return numbers (n,); NaN (1,) for what holds none."""
    try:
        return np.atleast_1d(np.asarray(given, np.float64))
    except (TypeError, ValueError):
        return np.full(1, np.nan)


def _draw_mark(ax: GeoAxes, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> None:
    style = {"transform": ccrs.PlateCarree(), "zorder": 6}
    if lon.size == 1:
        ax.scatter(lon, lat, s=70, marker="*", color=MARK_COLOUR, edgecolors="white", linewidths=0.5, **style)
    else:
        ax.plot(lon, lat, color=MARK_COLOUR, linewidth=1.3, **style)


def _name_rows(axes: Sequence[GeoAxes], names: Sequence[tuple[str, str]]) -> None:
    """Write lag and skill upright beside the first map of each row, the lags below each other."""
    beside = {"xycoords": "axes fraction", "textcoords": "offset points", "rotation": 90}
    beside |= {"ha": "right", "va": "center", "ma": "center"}
    lines = max(skill.count("\n") + 1 if skill else 0 for _, skill in names)
    for ax, (name, skill) in zip(axes, names, strict=True):
        if skill:
            ax.annotate(skill, (0, 0.5), (-_TEXT_GAP, 0), fontsize=TICK_SIZE, **beside)
        left = _TEXT_GAP * (2 if lines else 1) + lines * TICK_SIZE * _LINE_SPACING
        ax.annotate(name, (0, 0.5), (-left, 0), fontsize=TITLE_SIZE, **beside)


def _draw_bars(
    figure: Figure,
    axes: NDArray[Any],
    columns: Sequence[_Column],
    scales: Sequence[Sequence[ColourScale]],
    share: ShareLags,
    robust: float | None,
) -> None:
    """Draw one colour bar for each scale: all below the maps, or all beside them, so that rows stay level."""
    own = [i for i, c in enumerate(columns) if c.kind != _CORRELATION]
    side = "bottom" if share == "all" else "right"
    for row in range(len(axes) if share == "row" else 1):
        group = axes[row, own] if share == "row" else axes[:, own].ravel()
        length = _map_height(axes) if share == "row" else _MAP_WIDTH * len(own)
        _bar(figure, group, scales[row][0], columns[0].maps, side, length, robust)
    if len(own) < len(columns):
        maps = columns[-1].maps.assign_attrs(long_name="correlation", units="1")
        length = _map_height(axes) * len(axes) if share == "row" else _MAP_WIDTH
        _bar(figure, axes[:, -1], scales[0][-1], maps, side, length, robust)


def _bar(
    figure: Figure,
    axes: Sequence[GeoAxes],
    scale: ColourScale,
    maps: xr.DataArray,
    side: Literal["right", "bottom"],
    length: float,
    robust: float | None,
) -> None:
    """Draw the colour bar of some maps; `length` is the space beside or below them in inches."""
    exponent = bar_exponent(scale.vmax)
    quantity = str(maps.attrs.get("long_name") or "relevance")
    label = colour_bar_label(quantity, maps.attrs.get("units"), None, robust, exponent)
    shrink = min(0.9, _LONGEST_BAR / length)
    bar = figure.colorbar(
        ScalarMappable(Normalize(scale.vmin, scale.vmax), scale.cmap),
        ax=list(axes),
        location=side,
        shrink=shrink,
        aspect=_BARS_PER_INCH * shrink * length,
        pad=0.02,
        extend=scale.extend,
    )
    size = LABEL_SIZE if length > _MAP_WIDTH / 2 else TICK_SIZE
    fitting = int((length + _ROW_GAP) * CHARACTERS_PER_INCH * TITLE_SIZE / size)
    bar.set_label(wrap_label(label, max(_SHORTEST_LABEL, fitting)), fontsize=size)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    bar.locator = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
    bar.formatter = FuncFormatter(lambda value, place: f"{value / 10.0**exponent:.4g}")
    bar.update_ticks()


def _map_height(axes: NDArray[Any]) -> float:
    (x0, x1), (y0, y1) = axes[0, 0].get_xlim(), axes[0, 0].get_ylim()
    return _MAP_WIDTH * (y1 - y0) / (x1 - x0)


def _text_height(names: Sequence[tuple[str, str]]) -> float:
    """Return the inches that the longest of the upright words beside the rows take."""
    lines = [
        (line, size)
        for row in names
        for text, size in zip(row, (TITLE_SIZE, TICK_SIZE), strict=True)
        for line in text.split("\n")
    ]
    return max(len(line) * size for line, size in lines) / _UPRIGHT_CHARACTERS


def _set_size(
    figure: Figure, axes: NDArray[Any], share: ShareLags, title: str | None, least_row: float
) -> None:
    """Fit the figure to its maps and the words beside each row, so that little is left blank."""
    rows, columns = axes.shape
    own = [_map_height(axes) + _TITLE_HEIGHT * any(ax.get_title() for ax in row) for row in axes]
    height = sum(max(needed, least_row) + _ROW_GAP for needed in own)
    width = _NAME_WIDTH + columns * _MAP_WIDTH
    bars = len(figure.axes) - axes.size
    if share == "all":
        height += _BAR_HEIGHT
    else:
        width += _BAR_WIDTH * (2 if bars > rows else 1)
    if title:
        words = wrap_label(title, int(width * CHARACTERS_PER_INCH))
        figure.suptitle(words, fontsize=TITLE_SIZE + 1)
        height += _TITLE_HEIGHT + _LINE_HEIGHT * words.count("\n")
    figure.set_size_inches(width, height)
