"""Figures of scores: their distribution over samples, and how they change from case to case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError
from xairt.plots.style import LABEL_SIZE, TICK_SIZE, TITLE_SIZE, new_figure, wrap_label

_PANEL_WIDTH, _PANEL_HEIGHT, _COLUMNS = 2.7, 2.0, 4
_TITLE_CHARACTERS = 32

_HANDLE_WIDTH, _CHARACTERS_PER_INCH = 0.6, 13  # of a legend's entries
_CATEGORY_CHARACTERS = 14
_VIOLIN_GROUP = 0.8  # share of the distance between categories that the violins of one take

_CURVES_PANEL = (8.0, 2.6)
_MARKERS = "os^vDPX*<>"

MOST_NAMED = 8
"""Values of a logarithmic axis that are all named."""


class Curve(NamedTuple):
    """One line of a diagram: values at x, and the range around each, where there is one."""

    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


def histograms(
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    limits: tuple[float, float],
    bins: int = 50,
    xlabel: str = "score",
) -> Figure:
    """Draw distributions, one panel for each method and one line for each case.

    Parameters
    ----------
    panels : mapping
        Title of a panel -> name of a line -> values (samples,). NaN is left out, and counted in the panel.
    limits : (float, float)
        Range of the axis; values beyond are counted in the outermost bins.
    bins : int
        Number of bins.
    xlabel : str
        What the values are.

    Returns
    -------
    matplotlib.figure.Figure
        Axes panel by panel.

    Raises
    ------
    DataError
        If there is no panel.
    """
    if not panels:
        raise DataError("histograms: nothing to draw; give one panel or more")
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    colours = dict(zip(names, _colours(len(names)), strict=True))
    figure, axes = panels_for(list(panels))
    edges = np.linspace(*limits, bins + 1)
    for ax, lines in zip(axes, panels.values(), strict=True):
        missing = []
        for name, values in lines.items():
            scores = np.asarray(values, np.float64)
            there = scores[np.isfinite(scores)]
            if there.size:
                weights = np.full(there.size, 1 / there.size)
                ax.hist(np.clip(there, *limits), edges, weights=weights, histtype="step", color=colours[name])
            if there.size < scores.size:
                missing.append(f"{name}: {scores.size - there.size} of {scores.size} missing")
        ax.text(0.03, 0.97, "\n".join(missing), fontsize=TICK_SIZE, va="top", transform=ax.transAxes)
        ax.set_xlim(*limits)
        ax.axvline(0, color="0.7", linewidth=0.6, zorder=0)
        ax.set_xlabel(xlabel, fontsize=LABEL_SIZE)
        ax.set_ylabel("share of samples", fontsize=LABEL_SIZE)
    _legend_below(figure, colours)
    return figure


def curves(
    panels: Mapping[str, Mapping[str, Curve]],
    *,
    xlabel: str,
    ylabel: str,
    logarithmic: bool = False,
    dashed: Sequence[str] = (),
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw how values change along x, with their range as a bar.

    Parameters
    ----------
    panels : mapping
        Title of a panel -> name of a line -> `Curve`. NaN leaves a gap. Panels stand one below the other.
    xlabel, ylabel : str
        Words of the axes.
    logarithmic : bool
        Whether x is drawn on a logarithmic axis.
    dashed : sequence of str
        Names of lines to set apart.
    names : sequence of str, optional
        Words for the values of x 0, 1, 2 ... in place of numbers.

    Returns
    -------
    matplotlib.figure.Figure
        Whole numbers alone on the x axis where all values of x are whole.

    Raises
    ------
    DataError
        If there is no line.
    """
    from matplotlib.ticker import MaxNLocator

    found = [curve for lines in panels.values() for curve in lines.values()]
    if not found:
        raise DataError("curves: nothing to draw; give one line or more")
    figure, axes = panels_for(list(panels), 1, _CURVES_PANEL)
    places = np.unique(np.concatenate([np.asarray(curve.x, np.float64) for curve in found]))
    for ax, lines in zip(axes, panels.values(), strict=True):
        _draw_curves(ax, lines, dashed, logarithmic)
        if logarithmic:
            _logarithmic(ax, places)
        elif names is not None:
            ax.set_xticks(range(len(names)), names)
        elif (places == np.round(places)).all():
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        ax.set_ylabel(ylabel, fontsize=LABEL_SIZE)
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=LABEL_SIZE, frameon=False)
    axes[-1].set_xlabel(xlabel, fontsize=LABEL_SIZE)
    return figure


def _draw_curves(ax: Axes, lines: Mapping[str, Curve], dashed: Sequence[str], logarithmic: bool) -> None:
    """Draw the lines of one panel; ranges stand beside each other, not on each other."""
    colours = _colours(len(lines))
    for i, (name, curve) in enumerate(lines.items()):
        x, y = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
        line = {"color": colours[i], "label": name, "linestyle": "--" if name in dashed else "-"}
        marker = {"marker": _MARKERS[i % len(_MARKERS)], "markersize": 4, "fillstyle": "none"}
        ax.plot(x, y, linewidth=1.0, **line, **marker)
        if curve.low is not None and curve.high is not None:
            step = i - (len(lines) - 1) / 2
            beside = x * 1.03**step if logarithmic else x + 0.006 * step * np.ptp(x)
            low, high = np.asarray(curve.low), np.asarray(curve.high)
            ax.vlines(beside, low, high, color=colours[i], linewidth=0.9, alpha=0.6)


def violins(
    panels: Mapping[str, Mapping[str, Mapping[str, ArrayLike]]],
    *,
    xlabel: str,
    ylabel: str,
    limits: tuple[float, float] | None = None,
    ordered: bool = False,
    legend: str | None = None,
    columns: int = 3,
    size: tuple[float, float] = (3.4, 2.2),
) -> Figure:
    """Draw distributions side by side as violins, one panel for each method.

    Parameters
    ----------
    panels : mapping
        Title of a panel -> name of a series (one colour) -> category on the x axis -> values (samples,). NaN is
        left out; where nothing else is there, no violin is drawn.
    xlabel, ylabel : str
        Words of the axes.
    limits : (float, float), optional
        Range of the y axis.
    ordered : bool
        Whether the series are steps from low to high: their colours then are, too.
    legend : str, optional
        What the names of the series are.
    columns : int
        Panels in a row.
    size : (float, float)
        Width and height of a panel in inches.

    Returns
    -------
    matplotlib.figure.Figure
        Axes panel by panel. In each violin the dot is the median, the stroke reaches from the 5th to the 95th
        percentile.

    Raises
    ------
    DataError
        If there is no panel.
    """
    if not panels:
        raise DataError("violins: nothing to draw; give one panel or more")
    series = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    categories = list(
        dict.fromkeys(c for lines in panels.values() for values in lines.values() for c in values)
    )
    palette = _steps(len(series)) if ordered else _colours(len(series))
    colours = dict(zip(series, palette, strict=True))
    figure, axes = panels_for(list(panels), columns, size)
    width = _VIOLIN_GROUP / len(series)
    for ax, lines in zip(axes, panels.values(), strict=True):
        for name, values in lines.items():
            shift = (series.index(name) - (len(series) - 1) / 2) * width
            for category, scores in values.items():
                _violin(ax, scores, categories.index(category) + shift, 0.9 * width, colours[name])
        ax.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        ax.set_xticks(range(len(categories)), [wrap_label(name, _CATEGORY_CHARACTERS) for name in categories])
        ax.set_xlim(-0.6, len(categories) - 0.4)
        ax.set_ylim(limits)
        ax.set_xlabel(xlabel, fontsize=LABEL_SIZE)
        ax.set_ylabel(ylabel, fontsize=LABEL_SIZE)
    if len(series) > 1:
        _legend_below(figure, colours, legend)
    return figure


def _violin(
    ax: Axes, values: ArrayLike, place: float, width: float, colour: tuple[float, float, float]
) -> None:
    """Draw one distribution, if there is any."""
    scores = np.asarray(values, np.float64)
    scores = scores[np.isfinite(scores)]
    if not scores.size:
        return
    parts = ax.violinplot(scores, [place], widths=width, showextrema=False)
    for body in parts["bodies"]:
        body.set(facecolor=colour, edgecolor=colour, linewidth=0.5, alpha=0.45)
    low, middle, high = np.quantile(scores, [0.05, 0.5, 0.95])
    ax.vlines(place, low, high, color=colour, linewidth=0.8)
    ax.plot(place, middle, "o", color=colour, markersize=2.5)


def _legend_below(
    figure: Figure, colours: Mapping[str, tuple[float, float, float]], title: str | None = None
) -> None:
    """Name the colours of lines or violins below all panels, in as many rows as it takes."""
    widest = _HANDLE_WIDTH + max(map(len, colours), default=0) / _CHARACTERS_PER_INCH
    rows = -(-len(colours) // max(1, int(figure.get_figwidth() / widest)))
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=-(-len(handles) // rows),
        fontsize=LABEL_SIZE,
        title=title,
        title_fontsize=LABEL_SIZE,
    )


def _logarithmic(ax: Axes, x: NDArray[np.float64]) -> None:
    """Make x logarithmic, and name its values where they are few."""
    ax.set_xscale("log")
    if len(x) <= MOST_NAMED:
        ax.set_xticks(x, [f"{value:,.10g}" for value in x])
        ax.set_xticks([], minor=True)


def panels_for(
    titles: Sequence[str], columns: int = _COLUMNS, size: tuple[float, float] = (_PANEL_WIDTH, _PANEL_HEIGHT)
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one small panel for each title, `columns` in a row, of a size in inches."""
    columns = min(len(titles), columns)
    rows = -(-len(titles) // columns)
    width, height = size
    figure = new_figure()
    figure.set_size_inches(max(4.0, width * columns), height * rows + 0.4)
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(len(titles))]
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(wrap_label(title, round(_TITLE_CHARACTERS * width / _PANEL_WIDTH)), fontsize=TITLE_SIZE)
        ax.tick_params(labelsize=TICK_SIZE)
    return figure, axes


def _steps(count: int) -> list[tuple[float, float, float]]:
    """Return colours from dark to light, evenly spaced for the eye."""
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, count))
    return [tuple(colour[:3]) for colour in colours]


def _colours(count: int) -> list[tuple[float, float, float]]:
    """Return colours that can be told apart, also by most who see few colours."""
    few, many = matplotlib.colormaps["tab10"].colors, matplotlib.colormaps["tab20"].colors
    palette = few if count <= len(few) else many
    return [palette[i % len(palette)] for i in range(count)]
