"""Maps of attributions: one map, or truth beside methods for several samples.

Cells are drawn with computed edges, split at the cut of the projection; land and other cells without a value
are light grey, what lies outside the grid is white. Signed values get a diverging colour map symmetric about
zero, non-negative ones a sequential map from zero. Coastlines come from the package, nothing is downloaded.
Figures do not belong to pyplot: none has to be closed, and no global setting changes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import cartopy.crs as ccrs
import numpy as np
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from xairt.data import natural_earth
from xairt.errors import DataError, suggest
from xairt.grid import Grid, latitude_edges, longitude_edges
from xairt.llc import LLCGrid
from xairt.metrics import pearson
from xairt.plots.colours import (
    LAND,
    NO_DATA,
    ColourScale,
    Normalise,
    bar_exponent,
    colour_bar_label,
    colour_scale,
    normalised,
)
from xairt.plots.inputs import as_maps, check_truth, labelled_maps, sample_name
from xairt.plots.projections import build_mesh, resolve_projection, set_limits
from xairt.plots.style import (
    CHARACTERS_PER_INCH,
    COAST_WIDTH,
    LABEL_SIZE,
    TICK_SIZE,
    TITLE_SIZE,
    new_figure,
    save_figure,
    wrap_label,
)

Share = Literal["row", "column", "all", "panel"]
Extent = tuple[float, float, float, float]

_TRUTH = "truth"
_SINGLE_WIDTH, _FIGURE_WIDTH = 6.4, 11.0
_TITLE_HEIGHT, _LINE_HEIGHT, _BAR_HEIGHT, _ROW_NAME_WIDTH = 0.4, 0.175, 0.6, 0.3
_LEAST_HEIGHT = 0.8  # inches: what upright words beside a flat map need


class _Panel(NamedTuple):
    """One map to draw, with the words and the colour group that belong to it."""

    row: int
    column: int
    values: NDArray[Any]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    title: str
    note: str
    quantity: str
    units: str | None
    signed: bool


class _Look(NamedTuple):
    """How every map of a figure is projected, outlined and coloured."""

    projection: str | ccrs.Projection
    central_longitude: float | None
    extent: Extent | None
    coastlines: bool
    cmap: Any
    vlim: float | tuple[float, float] | None
    robust: float | None
    normalise: Normalise

    def scale(self, panels: Sequence[_Panel]) -> ColourScale:
        signed = any(p.signed for p in panels)
        values = [p.values for p in panels]
        return colour_scale(values, cmap=self.cmap, vlim=self.vlim, robust=self.robust, signed=signed)


def map(
    da: Any,
    *,
    grid: Grid | LLCGrid | None = None,
    ax: GeoAxes | None = None,
    projection: str | ccrs.Projection = "Robinson",
    central_longitude: float | None = None,
    extent: Extent | None = None,
    cmap: Any = None,
    vlim: float | tuple[float, float] | None = None,
    robust: float | None = None,
    normalise: Normalise = None,
    units: str | None = None,
    title: str | None = None,
    colorbar: bool = True,
    coastlines: bool = True,
    save: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw one field on a map.

    The colour map is chosen by the sign of all samples of a method, so that its maps can be compared: for one
    field, by the sign of that field. A field without any value is marked "no data" and has no colour bar, one
    of zeros alone is marked "all zero".

    Parameters
    ----------
    da
        DataArray with latitude and longitude (dimensions of size 1 are dropped), or a vector (n_valid,) or a
        plain map (nlat, nlon) with `grid`. NaN is drawn as land, what lies outside the grid is white. Or a
        field of an LLC grid, drawn on half a degree: (cell,) with its coordinates, or anything with `grid`.
    grid
        Grid of values without coordinates.
    ax
        Cartopy axes to draw on; they bring their projection, and `projection` and `central_longitude` are not
        used. By default a new figure is made.
    projection
        Name of a cartopy projection or a projection.
    central_longitude
        Degrees east, -360 .. 360, for a projection given by name. None: 180 for a field around the globe, else its middle.
    extent
        (west, east, south, north) in degrees to show. None: the globe for a global field, else the field; on
        polar stereographic projections what lies poleward of 30 degrees.
    cmap
        Colour map or name. None: diverging for signed values, sequential for non-negative ones.
    vlim
        Largest magnitude of the colours, or (lowest, highest). None: the largest magnitude of the field.
    robust
        Percentile of the magnitudes that limits the colours instead, such as 99; named on the colour bar.
    normalise
        Divide the field by its largest magnitude ("max") or the sum of its magnitudes ("sum"); named on the
        colour bar.
    units
        Units for the colour bar. None: the attribute `units`.
    title
        Title of the map.
    colorbar, coastlines
        Whether to draw them.
    save
        File to write the figure to, atomically; the suffix names the format.

    Returns
    -------
    matplotlib.figure.Figure
        The figure with the map; its first axes hold the map if the figure is new.

    Raises
    ------
    DataError
        If the field has no coordinates or more dimensions, the projection or colour map is unknown, limits
        make no sense, `ax` is not a cartopy axes, or the file cannot be written.
    """
    maps = as_maps(da, grid)
    if maps.shape[0] != 1:
        raise DataError(
            f"field has {maps.shape[0]} maps along '{maps.dims[0]}'; select one with isel, or use maps()"
        )
    look = _Look(projection, central_longitude, extent, coastlines, cmap, vlim, robust, normalise)
    panel = _panel(maps, 0, (0, 0), title or "", look)
    panel = panel if units is None else panel._replace(units=units)
    if ax is not None and not isinstance(ax, GeoAxes):
        raise DataError(
            f"ax is {type(ax).__name__}, not a cartopy axes; make it with projection=cartopy.crs...."
        )
    scale, new = look.scale([panel]), ax is None
    if ax is None:
        ax = _axes(new_figure(), panel, look, (1, 1, 1))
    _draw(ax, panel, scale, look, _SINGLE_WIDTH)
    with_bar = colorbar and _has_data([panel])
    if with_bar:
        _colour_bar([ax], [panel], scale, look, "bottom", _SINGLE_WIDTH)
    if new:
        height = _SINGLE_WIDTH * _aspect(ax) + _title_height([ax]) + _BAR_HEIGHT * with_bar
        ax.figure.set_size_inches(_SINGLE_WIDTH, height)
    if save is not None:
        save_figure(ax.figure, save)
    return ax.figure


def maps(
    attributions: Any,
    truth: Any = None,
    *,
    samples: int | Sequence[int] = (0,),
    methods: str | Sequence[str] | None = None,
    grid: Grid | LLCGrid | None = None,
    projection: str | ccrs.Projection = "Robinson",
    central_longitude: float | None = None,
    extent: Extent | None = None,
    share: Share = "row",
    cmap: Any = None,
    vlim: float | tuple[float, float] | None = None,
    robust: float | None = None,
    normalise: Normalise = None,
    title: str | None = None,
    colorbar: bool = True,
    coastlines: bool = True,
    save: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draw truth beside the attributions of several methods, one row per sample.

    With a truth, the title of each method tells Pearson's r with it over the cells where both have values
    (unweighted). Fields of an LLC grid are drawn, and compared, on a regular grid of one degree.

    Colours of panels that share limits can be compared by eye, and one colour bar describes them all. The
    default is one scale per row: attributions of one sample share a quantity, and a method that gives more or
    less than the truth shows it. Panels whose attribute `units` differ never share a scale. Methods whose
    scales differ by nature (a gradient and a relevance) need `share="panel"`, or `normalise="max"`.
    The colour map is chosen by the sign of all samples of a method, drawn or not: diverging for all panels of
    a scale if any of their methods has a negative value.

    Parameters
    ----------
    attributions
        Result of `xairt.attribute` (Dataset with `attribution`, with or without a dimension `method`), a
        DataArray, a mapping of label to DataArray or vectors, or vectors (sample, n_valid) with `grid`.
    truth
        True attribution: a DataArray or vectors with the samples and the grid of `attributions`.
    samples
        Positions of the samples to draw; rows are named by the coordinate where there is one.
    methods
        Labels of the methods to draw, in this order. None: all.
    grid
        Grid of values without coordinates.
    projection, central_longitude, extent, cmap, robust, normalise, coastlines
        As in `map`; a normalisation divides each map by its own magnitude.
    share
        Panels with one colour scale: "row", "column", "all", or each "panel" its own.
    vlim
        Limits as in `map`, of all panels.
    title
        Title of the figure.
    colorbar
        Whether to draw the colour bars.
    save
        File to write the figure to, atomically; the suffix names the format.

    Returns
    -------
    matplotlib.figure.Figure
        Axes come row by row, then the colour bars.

    Raises
    ------
    DataError
        If a sample or a method does not exist, the truth has another shape, and as in `map`.
    """
    if share not in ("row", "column", "all", "panel"):
        raise DataError(f"share={share!r} is unknown; use 'row', 'column', 'all' or 'panel'")
    chosen = _chosen(labelled_maps(attributions, grid), methods)
    truth_maps = None if truth is None else as_maps(truth, grid)
    look = _Look(projection, central_longitude, extent, coastlines, cmap, vlim, robust, normalise)
    panels = _panels(chosen, truth_maps, samples, look)
    figure = _figure(panels, look, share, colorbar)
    first = next(iter(chosen.values()))
    names = [sample_name(first, i) for i in _positions(samples, first)]
    _name_rows(figure, names)
    if title:
        words = wrap_label(title, int(figure.get_figwidth() * CHARACTERS_PER_INCH))
        figure.suptitle(words, fontsize=TITLE_SIZE + 1)
        height = _TITLE_HEIGHT + _LINE_HEIGHT * words.count("\n")
        figure.set_figheight(figure.get_figheight() + height)
    if save is not None:
        save_figure(figure, save)
    return figure


def _figure(panels: Sequence[_Panel], look: _Look, share: Share, colorbar: bool) -> Figure:
    """Draw all panels and the colour bars of the groups that share limits."""
    rows, columns = panels[-1].row + 1, panels[-1].column + 1
    width = float(np.clip(_FIGURE_WIDTH / columns, 2.4, 4.5))
    figure = new_figure()
    axes = [_axes(figure, p, look, (rows, columns, p.row * columns + p.column + 1)) for p in panels]
    beside = below = 0
    for group in _groups(panels, share):
        members, group_axes = [panels[i] for i in group], [axes[i] for i in group]
        scale = look.scale(members)
        for ax, panel in zip(group_axes, members, strict=True):
            _draw(ax, panel, scale, look, width)
        in_row = share == "row" and len(group) == columns > 1
        if colorbar and not _has_data(members):
            for ax in group_axes:  # maps stay level with those that have a colour bar
                ax.set_anchor("NE" if in_row else "S")
        elif colorbar and in_row:
            _colour_bar(group_axes, members, scale, look, "right", width * _aspect(group_axes[0]))
            beside = 1
        elif colorbar:
            _colour_bar(group_axes, members, scale, look, "bottom", width * len({p.column for p in members}))
            below = rows if share in ("row", "panel") else 1
    height = max(_LEAST_HEIGHT, width * _aspect(axes[0])) + _title_height(axes)
    figure.set_size_inches(
        width * columns + _ROW_NAME_WIDTH + _BAR_HEIGHT * beside, height * rows + _BAR_HEIGHT * below
    )
    return figure


def _positions(samples: int | Sequence[int], maps: xr.DataArray) -> list[int]:
    positions = [int(i) for i in np.atleast_1d(samples)]
    if not positions:
        raise DataError("no sample to draw; give samples=(0,) or more")
    count = maps.shape[0]
    for position in positions:
        if not 0 <= position < count:
            raise DataError(
                f"sample {position} does not exist; the attributions hold samples 0 .. {count - 1}"
            )
    return positions


def _chosen(found: dict[str, xr.DataArray], methods: str | Sequence[str] | None) -> dict[str, xr.DataArray]:
    if methods is None:
        return found
    labels = [methods] if isinstance(methods, str) else list(methods)
    for label in labels:
        if label not in found:
            hint = suggest(str(label), found) or f"; there are {', '.join(found)}"
            raise DataError(f"method '{label}' is not among the attributions{hint}")
    if not labels:
        raise DataError("methods is empty; name one method or more, or leave it out")
    return {label: found[label] for label in labels}


def _panels(
    chosen: dict[str, xr.DataArray],
    truth: xr.DataArray | None,
    samples: int | Sequence[int],
    look: _Look,
) -> list[_Panel]:
    """Return the panels row by row: truth, then the methods."""
    panels = []
    positions = _positions(samples, min(chosen.values(), key=len))
    for label, maps in chosen.items():
        if truth is not None:
            check_truth(truth, maps, label)
    for row, i in enumerate(positions):
        if truth is not None:
            panels.append(_panel(truth, i, (row, 0), _TRUTH, look))
        for column, (label, maps) in enumerate(chosen.items(), start=truth is not None):
            panel = _panel(maps, i, (row, column), label, look)
            if truth is not None:
                notes = panel.note, _correlation(truth.values[i], maps.values[i])
                panel = panel._replace(note="\n".join(filter(None, notes)))
            panels.append(panel)
    return panels


def _panel(maps: xr.DataArray, i: int, place: tuple[int, int], title: str, look: _Look) -> _Panel:
    values = np.asarray(maps.values[i], np.float64)
    attrs, finite = maps.attrs, values[np.isfinite(values)]
    quantity = attrs.get("long_name") or attrs.get("standard_name") or maps.name or "attribution"
    return _Panel(
        *place,
        normalised(values, look.normalise),
        latitude_edges(maps["lat"].values),
        longitude_edges(maps["lon"].values),
        title,
        "all zero" if finite.size and not finite.any() else "",
        str(quantity),
        None if look.normalise or attrs.get("units") == "1" else attrs.get("units"),
        bool((maps.values < 0).any()),  # of all samples: one method, one kind of colour map
    )


def _correlation(truth: NDArray[Any], attribution: NDArray[Any]) -> str:
    if (np.isfinite(truth) & np.isfinite(attribution)).sum() < 2:
        return "r undefined (no data)"
    r = pearson(truth.ravel(), attribution.ravel())
    return "r undefined (constant map)" if np.isnan(r) else f"r = {r:.2f}"


def _groups(panels: Sequence[_Panel], share: Share) -> list[list[int]]:
    """Return which panels share colour limits; other units, or another quantity, are never mixed."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, p in enumerate(panels):
        place = {"row": (p.row,), "column": (p.column,), "all": (), "panel": (p.row, p.column)}[share]
        groups.setdefault((*place, p.units), []).append(i)
    return list(groups.values())


def _axes(figure: Figure, panel: _Panel, look: _Look, place: tuple[int, int, int]) -> GeoAxes:
    projection = resolve_projection(look.projection, look.central_longitude, panel.lon)
    return figure.add_subplot(*place, projection=projection, anchor="N")  # no slack between map and title


def _has_data(panels: Sequence[_Panel]) -> bool:
    return any(np.isfinite(p.values).any() for p in panels)


def _draw(ax: GeoAxes, panel: _Panel, scale: ColourScale, look: _Look, width: float) -> None:
    """Draw one map, with its outlines and title, on axes of `width` inches."""
    ax.set_facecolor(NO_DATA)
    missing = ~np.isfinite(panel.values)
    if missing.any():  # grey below the whole grid: no seam beside the cells with values
        _draw_cells(ax, panel, np.zeros(missing.shape), ColourScale(ListedColormap([LAND]), 0, 1, ""))
    if missing.all():
        place = {"transform": ax.transAxes, "ha": "center", "va": "center", "zorder": 5}
        ax.text(0.5, 0.5, "no data", fontsize=TITLE_SIZE, bbox={"fc": "white", "ec": "none"}, **place)
    _draw_cells(ax, panel, panel.values, scale)
    if look.coastlines:
        style = {"facecolor": "none", "edgecolor": "black", "linewidth": COAST_WIDTH}
        ax.add_geometries(natural_earth.coastlines(), ccrs.PlateCarree(), **style)
    set_limits(ax, panel.lat, panel.lon, look.extent)
    ax.spines["geo"].set_linewidth(2 * COAST_WIDTH)
    title = wrap_label(panel.title, int(width * CHARACTERS_PER_INCH))
    title = "\n".join(filter(None, (title, panel.note)))
    if title:
        ax.set_title(title, fontsize=TITLE_SIZE)


def _draw_cells(ax: GeoAxes, panel: _Panel, values: NDArray[Any], scale: ColourScale) -> None:
    mesh = build_mesh(values, panel.lat, panel.lon, ax.projection)
    ax.pcolormesh(
        mesh.lon,
        mesh.lat,
        np.ma.masked_invalid(mesh.values),
        transform=mesh.crs,
        cmap=scale.cmap,
        vmin=scale.vmin,
        vmax=scale.vmax,
        rasterized=True,
    )


def _title_height(axes: Sequence[GeoAxes]) -> float:
    """Return the inches that the tallest title of some maps needs."""
    lines = max(len(ax.get_title().splitlines()) for ax in axes)
    return _TITLE_HEIGHT + _LINE_HEIGHT * (lines - 1) if lines else 0.0


def _colour_bar(
    axes: Sequence[GeoAxes],
    panels: Sequence[_Panel],
    scale: ColourScale,
    look: _Look,
    side: Literal["right", "bottom"],
    length: float,
) -> None:
    """Draw the colour bar of axes that share a scale; `length` is the space beside or below in inches."""
    explained = [p for p in panels if p.title != _TRUTH] or panels
    quantities = list(dict.fromkeys(p.quantity for p in explained))
    quantity = quantities[0] if len(quantities) == 1 else "value"
    exponent = bar_exponent(max(abs(scale.vmin), abs(scale.vmax)))
    label = colour_bar_label(quantity, panels[0].units, look.normalise, look.robust, exponent)
    shrink = 0.9 if side == "right" else min(0.8, 4.0 / length)
    source = ScalarMappable(Normalize(scale.vmin, scale.vmax), scale.cmap)
    bar = axes[0].figure.colorbar(
        source,
        ax=list(axes),
        location=side,
        panchor=(1.0, 1.0) if side == "right" else (0.5, 0.0),
        shrink=shrink,
        aspect=max(12.0, 8.0 * shrink * length),
        pad=0.02 if side == "right" else 0.04,
        extend=scale.extend,
    )
    wrap = max(16, int(length * CHARACTERS_PER_INCH * TITLE_SIZE / LABEL_SIZE))
    bar.set_label(wrap_label(label, wrap), fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    bar.locator = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])
    if look.vlim is None and not any(np.nan_to_num(p.values).any() for p in panels):
        bar.locator = FixedLocator([0.0])  # the ends of the bar mean nothing for maps of zeros
    bar.formatter = FuncFormatter(lambda value, place: f"{value / 10.0**exponent:.4g}")
    bar.update_ticks()


def _aspect(ax: GeoAxes) -> float:
    """Height of the map by its width."""
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    return (y1 - y0) / (x1 - x0)


def _name_rows(figure: Figure, names: Sequence[str]) -> None:
    first = [ax for ax in figure.axes if isinstance(ax, GeoAxes) and ax.get_subplotspec().is_first_col()]
    for ax, name in zip(first, names, strict=True):
        place = {"transform": ax.transAxes, "rotation": 90, "ha": "right", "va": "center"}
        ax.text(-0.03, 0.5, name, fontsize=TITLE_SIZE, **place)
