"""Figures that image and sound tasks have in common: learning curves, and scores by method and case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xairt.benchmarks.chaos_media.training import HISTORY
from xairt.runs import Case
from xairt.runs.scores import short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINES = {"training samples": "accuracy", "test samples": "val_accuracy"}


def learning_curves(cases: Sequence[Case]) -> Figure:
    """Draw the accuracy by epoch, a panel for each case.

    Parameters
    ----------
    cases : sequence of Case
        Trained.

    Returns
    -------
    matplotlib.figure.Figure
        That of the training samples is of the changing network during the epoch, that of the test samples at its end.
    """
    from xairt.plots.distributions import Curve, curves

    panels = {}
    for case in cases:
        history = pd.read_csv(case.read(HISTORY))
        panels[case.name] = {
            name: Curve(history["epoch"], history[column]) for name, column in _LINES.items()
        }
    return curves(panels, xlabel="epoch", ylabel="accuracy", dashed=["training samples"])


def method_radar(scores: pd.DataFrame, metric: str, title: str, chance: float | None = None) -> Figure:
    """Draw the mean of a score: a spoke for each method, a line for each case.

    Parameters
    ----------
    scores : pandas.DataFrame
        Of a run.
    metric : str
        Score from 0 to 1.
    title : str
    chance : float, optional
        Score of an attribution that knows nothing.

    Returns
    -------
    matplotlib.figure.Figure
        The dashed circle is chance. A method that cannot explain a network leaves a gap in its line.
    """
    from xairt.plots.style import TICK_SIZE, new_figure

    own = scores[(scores["metric"] == metric) & (scores["statistic"] == "mean")]
    table = own.pivot(index="label", columns="case", values="value").reindex(own["label"].unique())
    names = short_names(table.index)
    angles = np.linspace(0, 2 * np.pi, len(table), endpoint=False)
    figure = new_figure()
    figure.set_size_inches(5.6, 4.8)
    ax = figure.add_subplot(projection="polar")
    around = np.append(angles, angles[:1])
    for case in own["case"].unique():
        ax.plot(around, np.append(table[case], table[case].iloc[:1]), marker="o", markersize=3, label=case)
    if chance is not None:
        circle = np.linspace(0, 2 * np.pi, 100)
        ax.plot(circle, np.full(100, chance), color="0.4", linestyle="--", linewidth=0.8, label="chance")
    ax.set_theta_zero_location("N")
    ax.set_theta_direction(-1)
    ax.set_xticks(angles, [names[label] for label in table.index], fontsize=TICK_SIZE)
    for text, side in zip(ax.get_xticklabels(), np.sin(angles), strict=True):
        text.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    ax.set_ylim(0, 1)
    ax.tick_params(axis="y", labelsize=TICK_SIZE - 1)
    ax.set_title(title, fontsize=TICK_SIZE + 1, pad=12)
    figure.legend(loc="outside lower center", ncols=3, fontsize=TICK_SIZE, frameon=False)
    return figure
