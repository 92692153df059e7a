"""The figures of a run: scores of every formula, and against each setting that was swept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xairt.benchmarks.chaos_symbolic.scoring import PRECISION, UNIFORMITY, averages
from xairt.benchmarks.chaos_symbolic.settings import IG_OF_PRECISION, IG_OF_UNIFORMITY, SWEPT
from xairt.data.files import atomic_write
from xairt.runs import Run
from xairt.runs.scores import NETWORK, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AVERAGES = "averages.csv"

PUBLISHED = {
    (NETWORK, "prediction_score"): 0.823,
    (IG_OF_UNIFORMITY, f"{UNIFORMITY}.integral20"): 0.563,
    ("feature_ablation", f"{UNIFORMITY}.intercept"): 0.490,
    ("saliency", f"{UNIFORMITY}.derivative"): 0.419,
    ("saliency", PRECISION): 0.822,
    (IG_OF_PRECISION, PRECISION): 0.719,
    (IG_OF_UNIFORMITY, PRECISION): 0.719,
    ("deeplift.rescale", PRECISION): 0.690,
    ("feature_ablation", PRECISION): 0.665,
}
"""Published averages over formulas by label and metric, at the defaults (Shi et al. 2024, arXiv:2406.12150)."""

XLABELS = {
    "n_noise": "noise variables",
    "n_samples": "samples, test set included",
    "label_noise": "standard deviation of the noise on y",
    "network": "network",
    "depth": "hidden layers",
    "width": "units of a hidden layer",
    "dropout": "dropout",
    "optimizer": "optimizer",
}

_LOGARITHMIC = ("n_samples", "width")
_PREDICTION = ("prediction_score", "r2")


def figures(run: Run, output: Path) -> None:
    """Draw the figures of a run, and write ``averages.csv``, see `scoring.averages`.

    ``uniformity-by-formula.png``, ``precision-by-formula.png`` and ``prediction-by-formula.png`` show the first
    combination of swept settings; ``sweep-<setting>.png`` the averages against each setting of several values, others
    at their first value.

    Parameters
    ----------
    run : Run
        Cases that were not scored are left out.
    output : Path
        Folder of the figures.
    """
    from xairt.plots.style import save_figure

    cases = run.benchmark.case_table(run.config)
    table = averages(run.scores, cases)
    with atomic_write(output / AVERAGES) as path:
        table.to_csv(path, index=False, lineterminator="\n")
    first = {name: getattr(run.config, name)[0] for name in SWEPT if name != "seed"}
    scores = _of_combination(run.scores, cases, first)
    groups = {"uniformity": (UNIFORMITY,), "precision": (PRECISION,), "prediction": _PREDICTION}
    for name, kinds in groups.items():
        rows = scores[scores["metric"].map(lambda metric, kinds=kinds: metric.partition(".")[0] in kinds)]
        if len(rows):
            drawn = formula_bars(rows, _is_published(run.config))
            save_figure(drawn, output / f"{name}-by-formula.png", run.config.dpi)
    for name in first:
        if len(getattr(run.config, name)) > 1:
            others = {key: value for key, value in first.items() if key != name}
            drawn = sweep_curves(table[_equal(table, others)], name)
            save_figure(drawn, output / f"sweep-{name}.png", run.config.dpi)


def formula_bars(rows: pd.DataFrame, published: bool = True) -> Figure:
    """Draw mean scores as bars by formula, a panel for each label and metric.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns ``formula, label, metric, value``: text of the formula's number or name, and its mean score.
    published : bool
        Whether the published average is drawn where there is one.

    Returns
    -------
    matplotlib.figure.Figure
        The line is the average over formulas, the dashed one that of the publication.
    """
    from xairt.plots.distributions import panels_for
    from xairt.plots.style import LABEL_SIZE

    short = short_names(dict.fromkeys(rows["label"]))
    groups = list(rows.groupby(["label", "metric"], sort=False))
    titles = [_title(short[label], metric) for (label, metric), _ in groups]
    formulas = list(dict.fromkeys(rows["formula"]))
    figure, axes = panels_for(titles, 3, (3.2, 1.8))
    lines = {}
    for ax, ((label, metric), group) in zip(axes, groups, strict=True):
        values = group.groupby("formula")["value"].mean().reindex(formulas)
        _bars(ax, values, PUBLISHED.get((label, metric)) if published else None)
        lines |= {line.get_label(): line for line in ax.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=2, fontsize=LABEL_SIZE)
    return figure


def sweep_curves(table: pd.DataFrame, name: str) -> Figure:
    """Draw averages against a swept setting: panels for uniformity, functional precision and the network.

    Parameters
    ----------
    table : pandas.DataFrame
        As of `scoring.averages`, other settings alike.
    name : str
        The setting.

    Returns
    -------
    matplotlib.figure.Figure
        Bars are one standard deviation over seeds to each side, where there are several.
    """
    from xairt.plots.distributions import Curve, curves

    values = list(dict.fromkeys(table[name]))
    words = None if all(isinstance(value, int | float) for value in values) else [str(v) for v in values]
    places = {value: value if words is None else place for place, value in enumerate(values)}
    short = short_names(dict.fromkeys(table["label"]))
    panels: dict[str, dict[str, Curve]] = {}
    for (label, metric), group in table.groupby(["label", "metric"], sort=False):
        title = _panel_of(metric)
        if title is None:
            continue
        rows = group.assign(place=group[name].map(places)).sort_values("place")
        several = rows["n_seeds"].max() > 1
        low, high = (rows["value"] - rows["sd"], rows["value"] + rows["sd"]) if several else (None, None)
        line = metric if label == NETWORK else f"{short[label]} {metric.partition('.')[2]}".strip()
        panels.setdefault(title, {})[line] = Curve(rows["place"], rows["value"], low, high)
    return curves(
        panels,
        xlabel=XLABELS[name],
        ylabel="average over formulas",
        logarithmic=name in _LOGARITHMIC,
        names=words,
    )


def _panel_of(metric: str) -> str | None:
    kind = metric.partition(".")[0]
    titles = {UNIFORMITY: "Uniformity", PRECISION: "Functional precision"}
    return titles.get(kind, "Network" if kind in _PREDICTION else None)


def _title(label: str, metric: str) -> str:
    kind, _, truth = metric.partition(".")
    if label == NETWORK:
        return kind.replace("_", " ")
    return f"{label}\nand {truth}" if truth else label


def _bars(ax: Axes, values: pd.Series, published: float | None) -> None:
    from xairt.plots.style import LABEL_SIZE, TICK_SIZE

    ax.bar(np.arange(len(values)), values, color="tab:blue", alpha=0.6)
    ax.axhline(values.mean(), color="tab:blue", linewidth=1.0, label="average over formulas")
    if published is not None:
        ax.axhline(published, color="black", linewidth=1.0, linestyle="--", label="published average")
    ax.set_xticks(range(len(values)), values.index, fontsize=TICK_SIZE)
    ax.set_ylim(min(0.0, float(np.nanmin(values))), 1)
    ax.set_xlabel("formula", fontsize=LABEL_SIZE)
    ax.set_ylabel("mean score", fontsize=LABEL_SIZE)


def _of_combination(
    scores: pd.DataFrame, cases: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Any]
) -> pd.DataFrame:
    """Return the mean scores of cases with chosen settings, with a column ``formula``."""
    names = {
        case: case.partition(".")[0].removeprefix("f")
        for case, own in cases.items()
        if all(own[key] == value for key, value in chosen.items())
    }
    rows = scores[scores["statistic"].isin(("mean", "value")) & scores["case"].isin(list(names))]
    return rows.assign(formula=rows["case"].map(names))


def _equal(table: pd.DataFrame, values: Mapping[str, Any]) -> pd.Series:
    return pd.Series(
        np.logical_and.reduce([table[key] == value for key, value in values.items()]), index=table.index
    )


def _is_published(config: Any) -> bool:
    """Whether the sizes, noise and training of the first combination are those of the published averages."""
    defaults: Sequence[str] = (
        *(name for name in SWEPT if name != "seed"),
        "epochs",
        "learning_rate",
        "batch_size",
    )
    fields = type(config).model_fields
    alike = all(
        (value[:1] if isinstance(value, tuple) else value) == fields[name].default
        for name in defaults
        for value in [getattr(config, name)]
    )
    return alike and set(config.formula) == set(range(15))
