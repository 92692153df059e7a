"""The figures of a run: agreement with the truth and between networks by strength of covariance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xairt import metrics
from xairt.benchmarks.varicov.layout import Layout
from xairt.benchmarks.varicov.scoring import (
    PAIRWISE,
    Scores,
    attribution_of,
    explained_samples,
    mean_over_networks,
    stored_scores,
)
from xairt.benchmarks.varicov.stages import (
    DATA,
    PARTS,
    TEST,
    attributions,
    patch_sizes,
    takes_groups,
)
from xairt.runs import Case, Run
from xairt.runs.scores import NETWORK, short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_NETWORKS = 2
STRENGTH = "covariance strength"
MEASURES = {
    "faithfulness": "faithfulness correlation",
    "monotonicity": "monotonicity correlation",
    "sparseness": "sparseness (Gini index)",
}

Panels = dict[str, dict[str, dict[str, NDArray[np.float64]]]]
"""Title of a panel -> series -> category -> scores of samples, as `xairt.plots.violins` takes them."""


def figures(run: Run, output: Path) -> None:
    """Draw the figures of a run over all cases that were scored.

    Writes ``skill.png`` (R2 of the networks by strength) and for each number of samples n
    ``truth-n<n>.png`` (correlation with the truth), ``networks-n<n>.png`` (correlation between networks),
    ``patches-n<n>.png`` (the same by size of superpixels), ``measures-n<n>.png`` (faithfulness, monotonicity and
    sparseness) and ``maps-n<n>.png`` (truth and attributions of two networks at the weakest and the strongest
    covariance).

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
    drawn = {"skill": skill(scores, cases)}
    for n in sorted({case.config.n_samples for case in cases.values()}):
        of_size = [case for case in cases.values() if case.config.n_samples == n]
        samples = {_strength(case): stored_scores(case) for case in of_size}
        methods = of_size[0].config.methods
        drawn[f"truth-n{n}"] = truth_violins(samples, methods)
        drawn[f"networks-n{n}"] = network_violins(samples, methods)
        drawn[f"measures-n{n}"] = measure_violins(samples, methods)
        sizes = [size for size in patch_sizes(of_size[0].config) if size > 1]
        if sizes:
            drawn[f"patches-n{n}"] = patch_violins(samples, methods, sizes)
        drawn[f"maps-n{n}"] = attribution_pictures([of_size[0], of_size[-1]] if len(of_size) > 1 else of_size)
    for name, figure in drawn.items():
        save_figure(figure, output / f"{name}.png", run.config.dpi)


def skill(scores: pd.DataFrame, cases: Mapping[str, Case]) -> Figure:
    """Draw R2 of the networks by strength, a line for each number of samples; bars are the range of networks.

    Parameters
    ----------
    scores : pandas.DataFrame
        Scores of a run.
    cases : mapping
        Scored cases by name.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from xairt.plots.distributions import Curve, curves

    rows = scores[(scores["metric"] == "r2") & scores["label"].str.startswith(f"{NETWORK}.")]
    lines: dict[str, Curve] = {}
    for n in sorted({case.config.n_samples for case in cases.values()}):
        names = [name for name, case in cases.items() if case.config.n_samples == n]
        values = [rows.loc[rows["case"] == name, "value"] for name in names]
        lines[f"{n:,} samples"] = Curve(
            [cases[name].config.strength for name in names],
            [v.mean() for v in values],
            [v.min() for v in values],
            [v.max() for v in values],
        )
    return curves({"Skill on the test set": lines}, xlabel=STRENGTH, ylabel="R2, mean and range of networks")


def truth_violins(samples: Mapping[str, Scores], methods: Sequence[str]) -> Figure:
    """Draw Pearson's r with the truth by strength, a panel for each method and truth.

    Parameters
    ----------
    samples : mapping
        Strength as text -> what `scoring.stored_scores` returned.
    methods : sequence of str
        Methods in their order.

    Returns
    -------
    matplotlib.figure.Figure
        Each violin is the distribution over samples of the mean over networks.
    """
    from xairt.plots.distributions import violins

    titles, panels = short_names(methods), Panels()
    for method in methods:
        truths = dict.fromkeys(
            metric.split(".")[1]
            for found in samples.values()
            for label, metric in found
            if label == method and metric.startswith("pearson.")
        )
        for truth in truths:
            title = f"{titles[method]} - {truth.replace('_', ' ')}"
            panels[title] = _by_part(samples, method, f"pearson.{truth}")
    return violins(panels, xlabel=STRENGTH, ylabel="Pearson's r with the truth", limits=(-1, 1))


def network_violins(samples: Mapping[str, Scores], methods: Sequence[str]) -> Figure:
    """Draw the correlation between networks by strength, a panel for each method; see `truth_violins`."""
    from xairt.plots.distributions import violins

    titles = short_names(methods)
    panels = {titles[method]: _by_part(samples, method, PAIRWISE) for method in methods}
    return violins(panels, xlabel=STRENGTH, ylabel="mean r between networks", limits=(-1, 1))


def measure_violins(samples: Mapping[str, Scores], methods: Sequence[str]) -> Figure:
    """Draw faithfulness, monotonicity and sparseness by strength on the test set, a row for each.

    Parameters
    ----------
    samples, methods
        As of `truth_violins`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from xairt.plots.distributions import violins

    titles = short_names(methods)
    panels = {
        words: {
            strength: {titles[m]: mean_over_networks(found[m, f"{measure}.{TEST}"]) for m in methods}
            for strength, found in samples.items()
        }
        for measure, words in MEASURES.items()
    }
    return violins(
        panels, xlabel="", ylabel="score", ordered=True, legend=STRENGTH, columns=1, size=(8.0, 2.4)
    )


def patch_violins(samples: Mapping[str, Scores], methods: Sequence[str], sizes: Sequence[int]) -> Figure:
    """Draw the correlation between networks by size of superpixels on the test set, a colour for each strength.

    Parameters
    ----------
    samples, methods
        As of `truth_violins`.
    sizes : sequence of int
        Edges of the patches beyond one cell.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each method whose attributions of cells are summed over patches, and one for each that
        treats patches as one feature.
    """
    from xairt.plots.distributions import violins

    titles, panels = short_names(methods), Panels()
    for kind, words in (("patch", "patches as features"), ("summed", "cells summed")):
        for method in methods:
            if kind == "patch" and not takes_groups(method):
                continue
            names = {"1": f"{PAIRWISE}.{TEST}"} | {str(s): f"{PAIRWISE}.{kind}-{s}.{TEST}" for s in sizes}
            panels[f"{titles[method]} - {words}"] = {
                strength: {size: mean_over_networks(found[method, name]) for size, name in names.items()}
                for strength, found in samples.items()
            }
    return violins(
        panels,
        xlabel="edge of a patch, cells",
        ylabel="mean r between networks",
        limits=(-1, 1),
        ordered=True,
        legend=STRENGTH,
        columns=2,
        size=(5.0, 2.2),
    )


class Pictures(NamedTuple):
    """What is drawn of one case: vectors (cells,) of the truth and of each method and network."""

    case: Case
    layout: Layout
    truth: NDArray[np.floating]
    found: dict[str, NDArray[np.floating]]


def attribution_pictures(cases: Sequence[Case]) -> Figure:
    """Draw truth and attributions of the first networks for one test sample, a row for each case.

    Parameters
    ----------
    cases : sequence of Case
        With data and attributions, all of one layout.

    Returns
    -------
    matplotlib.figure.Figure
        Maps, or pictures of the raster; titles tell r with the truth. Pictures of a row share their colours.
    """
    rows = [_pictures(case) for case in cases]
    if rows[0].layout.grid is None:
        return _rasters(rows)
    return _maps(rows)


def _by_part(
    samples: Mapping[str, Scores], method: str, metric: str
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return the scores of samples by part of the data and by strength."""
    return {
        f"{part} samples": {
            strength: mean_over_networks(found[method, f"{metric}.{part}"])
            for strength, found in samples.items()
        }
        for part in reversed(PARTS)
    }


def _strength(case: Case) -> str:
    return f"{case.config.strength:g}"


def _pictures(case: Case) -> Pictures:
    """Read what is drawn of a case: a shown method that is not explained is left out, if others are."""
    config, layout = case.config, Layout.of_file(case.read(DATA))
    names = short_names(config.methods)
    ways = [way for way in attributions(config) if way.patch is None]
    shown = [way for way in ways if way.method.partition("(")[0] in config.shown_methods] or ways[:1]
    truth = explained_samples(case, layout).truth
    truth = truth[len(truth) // 2 :]
    position = min(config.shown_sample, len(truth) - 1)
    found = {
        f"{names[way.method]}, network {k + 1}": values[k, position]
        for way in shown
        for values in [attribution_of(case, way, layout, TEST)[:SHOWN_NETWORKS]]
        for k in range(len(values))
    }
    return Pictures(case, layout, truth[position], found)


def _maps(rows: Sequence[Pictures]) -> Figure:
    import xarray as xr

    from xairt.plots.maps import maps

    def labelled(vectors: Sequence[NDArray[np.floating]]) -> xr.DataArray:
        stacked = rows[0].layout.labelled(np.stack(vectors), "strength")
        return stacked.assign_coords(strength=[_strength(row.case) for row in rows])

    found = {name: labelled([row.found[name] for row in rows]) for name in rows[0].found}
    for values in found.values():
        values.attrs["long_name"] = "contribution"
    truth = labelled([row.truth for row in rows])
    truth.attrs["long_name"] = "contribution"
    return maps(found, truth, samples=range(len(rows)))


def _rasters(rows: Sequence[Pictures]) -> Figure:
    """Draw rasters as `_maps` draws maps."""
    from xairt.plots.colours import colour_scale
    from xairt.plots.style import LABEL_SIZE, TICK_SIZE, TITLE_SIZE, new_figure

    columns = 1 + len(rows[0].found)
    figure = new_figure()
    figure.set_size_inches(2.0 * columns + 0.6, 2.2 * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        pictures = [row.layout.raster(values) for values in (row.truth, *row.found.values())]
        titles = ["truth", *(f"{n}\nr = {metrics.pearson(v, row.truth):.2f}" for n, v in row.found.items())]
        scale = colour_scale(pictures, cmap=None, vlim=None, robust=None, signed=True)
        for ax, picture, title in zip(line, pictures, titles, strict=True):
            image = ax.imshow(picture, cmap=scale.cmap, vmin=scale.vmin, vmax=scale.vmax)
            ax.set_title(title, fontsize=TITLE_SIZE)
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(f"strength {_strength(row.case)}", fontsize=LABEL_SIZE)
        bar = figure.colorbar(image, ax=list(line), shrink=0.8, pad=0.02)
        bar.set_label("contribution", fontsize=LABEL_SIZE)
        bar.ax.tick_params(labelsize=TICK_SIZE)
    return figure
