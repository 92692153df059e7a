"""The figures of a run: maps, distributions of scores, learning curve, known functions of cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xairt import fields
from xairt.benchmarks.sstanom.map_figures import (
    LEAST_OF_COMPOSITES,
    attribution_maps,
    composites,
    n_explained,
    sample_maps,
    slope_maps,
)
from xairt.benchmarks.sstanom.scoring import CORRELATIONS
from xairt.benchmarks.sstanom.stages import DATA, NETWORK, grid_of, variables_of
from xairt.data.files import read_array, read_attributes, read_dataset
from xairt.errors import DataError
from xairt.runs import Case, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER_LIMITS, PAPER_BINS = (-0.5, 1.0), 50
"""Axis and bins of the paper's histograms."""

_TITLES = {
    "contribution": "Pearson's r with the contribution",
    "slope": "Pearson's r with the slope",
    "positive part": "Pearson's r with the positive part of the contribution",
    "magnitude": "Pearson's r with the magnitude of the contribution",
}

SHOWN_ANOMALIES = (-3.0, 3.0)


def figures(run: Run, output: Path) -> None:
    """Draw the figures of a run over all cases that were scored.

    Writes ``maps-<case>.png`` (true contribution and attributions of shown samples), ``composites-<case>.png``
    (where enough samples were explained), ``histograms.png`` (Pearson's r of every sample),
    ``learning-curve.png`` (mean r and R2 by number of samples), ``samples.png``, ``slopes.png`` and, where
    the breakpoints are known, ``cell-functions.png``, these of the first case.

    Parameters
    ----------
    run : Run
    output : Path
        Folder of the figures.
    """
    from xairt.plots.style import save_figure

    scores = run.scores
    scored = set(scores["case"])
    cases = {name: case for name, case in run.cases.items() if name in scored}
    if not cases:
        return
    first = next(iter(cases.values()))
    drawn: dict[str, Callable[[], Figure]] = {}
    for name, case in cases.items():
        drawn[f"maps-{name}"] = partial(attribution_maps, case)
        if n_explained(case) >= LEAST_OF_COMPOSITES:
            drawn[f"composites-{name}"] = partial(composites, case)
    drawn["histograms"] = partial(score_histograms, cases)
    sizes = {name: case.config.n_samples for name, case in cases.items()}
    drawn["learning-curve"] = partial(learning_curve, scores, sizes)
    drawn["samples"] = partial(sample_maps, first)
    drawn["slopes"] = partial(slope_maps, first)
    if known_function(first.read(DATA)) is not None:
        drawn["cell-functions"] = partial(cell_functions, first)
    for name, draw in drawn.items():
        save_figure(draw(), output / f"{name}.png", run.config.dpi)


def score_histograms(cases: Mapping[str, Case]) -> Figure:
    """Draw the distribution of Pearson's r over samples, for every method and truth, a line for each case.

    Parameters
    ----------
    cases : mapping
        Scored cases by name.

    Returns
    -------
    matplotlib.figure.Figure
        Bins and axis as in the paper; lower values are counted in the first bin.
    """
    from xairt.plots.distributions import histograms

    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, case in cases.items():
        stored = read_dataset(case.read(CORRELATIONS))
        for i, metric in enumerate(stored["metric"].values.astype(str)):
            measure, _, truth = metric.partition(".")
            if measure == "pearson":
                title = f"{stored['label'].values[i]} - {truth.replace('_', ' ')}"
                panels.setdefault(title, {})[name] = stored["score"].values[i]
    return histograms(panels, limits=PAPER_LIMITS, bins=PAPER_BINS, xlabel="Pearson's r with the truth")


def learning_curve(scores: pd.DataFrame, sizes: Mapping[str, int]) -> Figure:
    """Draw mean Pearson's r of every method, a panel for each truth, and R2 of the network, by number of samples.

    Parameters
    ----------
    scores : pandas.DataFrame
        Scores of a run.
    sizes : mapping
        Case -> number of samples.

    Returns
    -------
    matplotlib.figure.Figure
        Bars reach from the 5th to the 95th percentile of the samples.
    """
    from xairt.plots.distributions import Curve, curves

    panels: dict[str, dict[str, Curve]] = {}
    rows = scores[scores["metric"].str.startswith("pearson.")]
    for (label, metric), group in rows.groupby(["label", "metric"], sort=False):
        table = group.pivot(index="case", columns="statistic", values="value").loc[
            lambda t: _by_size(t, sizes)
        ]
        x = [sizes[case] for case in table.index]
        truth = metric.partition(".")[2].replace("_", " ")
        lines = panels.setdefault(_TITLES.get(truth, truth), {})
        lines[label] = Curve(x, table["mean"], table["p05"], table["p95"])
    network = scores[(scores["label"] == NETWORK) & (scores["metric"] == "r2")].set_index("case")["value"]
    network = network.loc[_by_size(network, sizes)]
    panels["Skill on the test set"] = {"R2 of the network": Curve([sizes[n] for n in network.index], network)}
    return curves(
        panels, xlabel="number of samples, test set included", ylabel="mean r, or R2", logarithmic=True
    )


def cell_functions(case: Case) -> Figure:
    """Draw the known functions of the shown cells: contribution by anomaly, breakpoints marked.

    Parameters
    ----------
    case : Case
        With data.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If the breakpoints are not known.
    """
    from xairt.plots.distributions import panels_for
    from xairt.plots.style import LABEL_SIZE, TICK_SIZE

    data = case.read(DATA)
    grid, function = grid_of(data), known_function(data)
    if function is None:
        raise DataError(f"{data}: the breakpoints are not known; draw another figure")
    offset = float(read_array(data, "offset")) if "offset" in variables_of(data) else 0.0
    cells = list(dict.fromkeys(grid.nearest(*place) for place in case.config.shown_cells))
    figure, axes = panels_for(["lat {:g}, lon {:g}".format(*grid.cell(cell)) for cell in cells])
    anomaly = np.linspace(*SHOWN_ANOMALIES, 601)
    lines = function.contribution(np.repeat(anomaly[:, np.newaxis], grid.n_valid, axis=1)) + offset
    for ax, cell in zip(axes, cells, strict=True):
        marks = function.breakpoints[cell]
        marks = marks[(marks >= anomaly[0]) & (marks <= anomaly[-1])]
        ax.plot(anomaly, lines[:, cell], linewidth=1.2)
        ax.plot(marks, np.interp(marks, anomaly, lines[:, cell]), "o", markersize=3, color="black")
        ax.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        ax.set_xlabel("standardised SST anomaly", fontsize=LABEL_SIZE)
        ax.set_ylabel("contribution", fontsize=LABEL_SIZE)
        ax.yaxis.get_offset_text().set_fontsize(TICK_SIZE)
    return figure


def known_function(data: Path) -> fields.PiecewiseLinear | None:
    """Return the known function of the ocean cells that a file of data holds.

    Parameters
    ----------
    data : Path
        What `stages.generate` wrote.

    Returns
    -------
    fields.PiecewiseLinear or None
        Its slopes are divided by the number of cells; None where the archive does not tell the breakpoints. The
        variable ``offset`` of the file is not part of it.
    """
    grid, stored = grid_of(data), read_array(data, "piece_slopes")
    slopes = stored.values[..., grid.mask].T
    breakpoints = np.empty((grid.n_valid, 0))
    if slopes.shape[1] > 1:
        if "breakpoints" not in variables_of(data):
            return None
        breakpoints = read_array(data, "breakpoints").values[..., grid.mask].T
    convention = read_attributes(data).get("truth_convention")
    return fields.PiecewiseLinear(breakpoints, slopes, divide=False, convention=convention)


def _by_size(table: pd.DataFrame | pd.Series, sizes: Mapping[str, int]) -> list[str]:
    return sorted((case for case in table.index if case in sizes), key=sizes.__getitem__)
