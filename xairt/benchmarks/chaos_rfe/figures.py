"""The figures of a run: the error on the way to few features, and what was selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xairt.benchmarks.chaos_rfe.scoring import rounds_of
from xairt.benchmarks.chaos_rfe.settings import PUBLISHED, TABLE
from xairt.runs import Case, Run
from xairt.runs.scores import NETWORK, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAR_PANEL = (8.0, 2.6)
_BARS = 0.8  # share of the distance between groups that their bars take

_WORDS = {"mae": "mean absolute error", "precision": "precision", "recall": "recall"}


def figures(run: Run, output: Path) -> None:
    """Draw ``error-by-features.png`` and ``selected.png``.

    Parameters
    ----------
    run : Run
        Cases that were not scored are left out.
    output : Path
        Folder of the figures.
    """
    from xairt.plots.style import save_figure

    scored = set(run.scores["case"])
    found = {name: case for name, case in run.cases.items() if name in scored}
    if not found:
        return
    save_figure(error_curves(found, run.config.controls), output / "error-by-features.png", run.config.dpi)
    formulas = {name: formula_in(case) for name, case in found.items()}
    save_figure(score_bars(run.scores, formulas, PUBLISHED), output / "selected.png", run.config.dpi)


def formula_in(case: Case) -> int | str:
    """Return the number of a case's formula, its text, or "table"."""
    return TABLE if case.config.table is not None else case.config.formula


def error_curves(cases: Mapping[str, Case], controls: Sequence[str] = ()) -> Figure:
    """Draw the error on the test part by number of features, a panel for each formula and a line for each method.

    Parameters
    ----------
    cases : mapping
        Scored cases by name; the mean over the seeds of a formula is drawn, bars reach from the smallest to the largest.
    controls : sequence of str
        Labels to draw dashed.

    Returns
    -------
    matplotlib.figure.Figure
        The number of features on a logarithmic axis.
    """
    from xairt.plots.distributions import Curve, curves

    tables = [rounds_of(case).assign(formula=str(formula_in(case))) for case in cases.values()]
    rounds = pd.concat(tables)
    names = short_names(rounds["label"].unique())
    panels: dict[str, dict[str, Curve]] = {}
    for (formula, label), own in rounds.groupby(["formula", "label"], sort=False):
        errors = own.groupby("n_features")["test_mae"].agg(["mean", "min", "max"])
        title = formula if formula == TABLE else f"formula {formula}"
        lines = panels.setdefault(title, {})
        lines[names[label]] = Curve(errors.index, errors["mean"], errors["min"], errors["max"])
    return curves(
        panels, xlabel="features", ylabel="MAE of the test part", logarithmic=True, dashed=list(controls)
    )


def score_bars(
    scores: pd.DataFrame,
    formulas: Mapping[str, int | str],
    published: Mapping[tuple[str, str], Mapping[int, float]],
) -> Figure:
    """Draw error and precision of every method and control, with the published values.

    Parameters
    ----------
    scores : pandas.DataFrame
        Scores of a run.
    formulas : mapping
        Case -> formula; the mean over the cases of a formula is drawn.
    published : mapping
        Metric and label -> formula -> value, drawn as a black stroke at the bar.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each of MAE, precision and recall that there is; recall only where it is not
        the precision.
    """
    from xairt.plots.distributions import panels_for
    from xairt.plots.style import LABEL_SIZE

    rows = scores[scores["label"] != NETWORK].assign(formula=scores["case"].map(formulas))
    names = short_names(rows["label"].unique())
    means = rows.groupby(["metric", "formula", "label"], sort=False)["value"].mean()
    tables = {metric: means[metric].unstack("label")[list(names)] for metric in _WORDS if metric in means}
    if "recall" in tables and tables["recall"].equals(tables["precision"]):
        del tables["recall"]
    figure, axes = panels_for([_WORDS[metric] for metric in tables], 1, _BAR_PANEL)
    for ax, (metric, table) in zip(axes, tables.items(), strict=True):
        _draw_bars(
            ax, table.rename(columns=names), {label: published.get((metric, label), {}) for label in names}
        )
        ax.set_ylim(0, None if metric == "mae" else 1)
    handles, words = axes[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=4, fontsize=LABEL_SIZE)
    return figure


def _draw_bars(ax: Axes, table: pd.DataFrame, published: Mapping[str, Mapping[int, float]]) -> None:
    """Draw a group of bars for each formula; the columns of the table are in the order of `published`."""
    from xairt.plots.style import LABEL_SIZE

    width = _BARS / len(table.columns)
    groups = np.arange(len(table))
    for number, (name, values) in enumerate(zip(table.columns, published.values(), strict=True)):
        places = groups + (number - (len(table.columns) - 1) / 2) * width
        ax.bar(places, table[name], 0.95 * width, label=name, color=f"C{number}")
        known = np.array([values.get(formula, np.nan) for formula in table.index])
        if np.isfinite(known).any():
            ax.hlines(known, places - width / 2, places + width / 2, color="black", linewidth=1.4)
    if any(published.values()):
        ax.hlines([], 0, 0, color="black", linewidth=1.4, label="published")
    titles = [name if name == TABLE else f"formula {name}" for name in table.index]
    ax.set_xticks(groups, titles, fontsize=LABEL_SIZE)
