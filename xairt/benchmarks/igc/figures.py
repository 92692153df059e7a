"""The figures of a run: the maps of every method beside the mask that made the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.igc.experiments import experiment_of
from xairt.benchmarks.igc.masks import pixel_centres
from xairt.benchmarks.igc.scoring import scored_map, stored_maps
from xairt.benchmarks.igc.stages import DATA
from xairt.data.files import read_array
from xairt.runs import Case, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUANTILE, HEADROOM = 0.99, 1.25
"""The colours of a map end at 1.25 times the 99 % quantile of its magnitudes."""

TITLES = {
    "igc": "IGC",
    "igac": "IGaC",
    "ig_mean": "IG mean",
    "ig_std": "IG SD",
    "naive_correlation": "naive\ncorrelation",
    "naive_ttest": "naive t-test\n" + r"$-\log_{10} p$",
    "bsc": "BSC",
}

_EXTENT = (-0.5, 0.5, -0.5, 0.5)
"""Left, right, bottom and top of an image in units of its side."""


class Panel(NamedTuple):
    """A map (64, 64) and its title."""

    title: str
    values: NDArray[np.float64]


def figures(run: Run, output: Path) -> None:
    """Draw ``maps-<model>.png`` for each model: a row for each experiment, with the mask first.

    Parameters
    ----------
    run : Run
        Cases that were not scored are left out.
    output : Path
        Folder of the figures.
    """
    from xairt.plots.style import save_figure

    scored = set(run.scores["case"])
    cases = [case for name, case in run.cases.items() if name in scored]
    for model in dict.fromkeys(case.config.model for case in cases):
        alike = [case for case in cases if case.config.model == model]
        save_figure(map_rows(alike), output / f"maps-{model}.png", run.config.dpi)


def map_rows(cases: Sequence[Case]) -> Figure:
    """Draw the mask and the maps of all methods, a row for each case.

    Parameters
    ----------
    cases : sequence of Case
        Scored cases of the same methods.

    Returns
    -------
    matplotlib.figure.Figure
        y points upwards. Every map has colours of its own, symmetric about 0, see `colour_limit`; grey lines are the
        borders of the mask's regions.
    """
    from xairt.plots.style import LABEL_SIZE, TICK_SIZE, new_figure

    rows = [panels_of(case) for case in cases]
    figure = new_figure()
    figure.set_size_inches(0.3 + 1.15 * len(rows[0]), 0.25 + 1.5 * len(rows))
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for number, (case, panels, line) in enumerate(zip(cases, rows, axes, strict=True)):
        experiment = experiment_of(case.config.experiment)
        regions = experiment.mask.region_pixels() if experiment.mask.regions else ()
        for panel, ax in zip(panels, line, strict=True):
            _draw(ax, panel, regions)
            if number == 0:
                ax.set_title(panel.title, fontsize=LABEL_SIZE)
        line[0].set_ylabel(f"{experiment.name}\n{experiment.statistic}", fontsize=TICK_SIZE)
    return figure


def panels_of(case: Case) -> list[Panel]:
    """Return the mask and the maps of a scored case, as `scored_map` has them."""
    maps = stored_maps(case)
    found = [Panel(TITLES[name], scored_map(name, maps[name].values)) for name in case.config.methods]
    return [Panel("mask", read_array(case.read(DATA), "mask").values), *found]


def colour_limit(values: NDArray[np.float64]) -> float:
    """Return the largest magnitude that a map's colours tell apart; 1 where all values are 0.

    Examples
    --------
    >>> colour_limit(np.array([-2.0, 2.0])), colour_limit(np.zeros(3))
    (2.5, 1.0)
    """
    magnitude = np.abs(values[np.isfinite(values)])
    if not magnitude.any():
        return 1.0
    return float(HEADROOM * (np.quantile(magnitude, QUANTILE) or magnitude.max()))


def _draw(ax: Axes, panel: Panel, regions: Sequence[NDArray[np.bool_]]) -> None:
    from matplotlib.ticker import MaxNLocator

    from xairt.plots.colours import DIVERGING, bar_exponent
    from xairt.plots.style import TICK_SIZE

    limit = colour_limit(panel.values)
    exponent = bar_exponent(limit)
    shown = panel.values / 10.0**exponent
    limit /= 10.0**exponent
    drawn = ax.imshow(shown, cmap=DIVERGING, vmin=-limit, vmax=limit, extent=_EXTENT, interpolation="nearest")
    for region in regions:
        ax.contour(*pixel_centres(), region, levels=[0.5], colors="0.35", linewidths=0.4)
    ax.set(xticks=[], yticks=[])
    bar = ax.figure.colorbar(drawn, ax=ax, orientation="horizontal", shrink=0.9, pad=0.03, aspect=14)
    bar.locator = MaxNLocator(nbins=2, symmetric=True)
    bar.update_ticks()
    bar.ax.tick_params(labelsize=TICK_SIZE - 1, length=2, pad=1)
    bar.outline.set_linewidth(0.4)
    if exponent:
        bar.ax.set_xlabel(f"$\\times 10^{{{exponent}}}$", fontsize=TICK_SIZE - 1, labelpad=0)
