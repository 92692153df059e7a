"""The figures of a run: relevance by lag, skill by lag, optimal inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from xairt.benchmarks.xairt_sst.generation import DATA, grid_of
from xairt.benchmarks.xairt_sst.scoring import COMPOSITES, OPTIMAL_INPUT
from xairt.benchmarks.xairt_sst.stages import NETWORK
from xairt.data.files import read_array, read_dataset
from xairt.runs import Case, Run

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

MOST_ROWS = 9
BASELINE_NAMES = {"class_frequency": "class frequency", "persistence": "persistence"}


def figures(run: Run, output: Path) -> None:
    """Draw the figures of a run over all cases that were scored.

    Writes ``skill-by-lag.png`` (accuracy and F1 of the test set beside the baselines, a panel for each split) and
    for each split ``relevance-by-lag-<split>.png`` (with the lag correlation beside; one figure for each shown
    method where there are several) and ``optimal-input-<split>.png``.

    Parameters
    ----------
    run : Run
    output : Path
        Folder of the figures.
    """
    from xairt.plots.style import save_figure

    scored = set(run.scores["case"])
    cases = {name: case for name, case in run.cases.items() if name in scored}
    if not cases:
        return
    drawn: dict[str, Callable[[], Figure]] = {"skill-by-lag": partial(skill_by_lag, cases, run.scores)}
    for split, chosen in by_split(cases).items():
        for number, method in enumerate(run.config.shown_methods, start=1):
            suffix = f"-{number}" if len(run.config.shown_methods) > 1 else ""
            drawn[f"relevance-by-lag-{split}{suffix}"] = partial(relevance_maps, chosen, run.scores, method)
        if run.config.optimal_iterations:
            drawn[f"optimal-input-{split}"] = partial(optimal_maps, chosen, run.scores)
    for name, draw in drawn.items():
        save_figure(draw(), output / f"{name}.png", run.config.dpi)


def by_split(cases: Mapping[str, Case]) -> dict[str, list[Case]]:
    """Return the cases of each split, by rising lag, as many as a figure has rows."""
    found: dict[str, list[Case]] = {}
    for case in sorted(cases.values(), key=lambda case: case.config.lag):
        found.setdefault(case.config.split, []).append(case)
    return {split: _thinned(chosen) for split, chosen in found.items()}


def skill_by_lag(cases: Mapping[str, Case], scores: pd.DataFrame) -> Figure:
    """Draw accuracy and F1 on the test set by lag, beside class frequency and persistence.

    Parameters
    ----------
    cases : mapping
        Scored cases by name.
    scores : pandas.DataFrame
        Scores of a run.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each split.
    """
    from xairt.plots.distributions import Curve, curves

    lines = {
        "accuracy of the network": (NETWORK, "accuracy.test"),
        "its F1 of class negative": (NETWORK, "f1_class_0.test"),
        "its accuracy in validation": (NETWORK, "accuracy.validation"),
        "accuracy of the linear model": (f"{NETWORK}.linear", "accuracy.test"),
        **{name: (NETWORK, f"{metric}.test") for metric, name in BASELINE_NAMES.items()},
    }
    panels = {}
    for split in dict.fromkeys(case.config.split for case in cases.values()):
        chosen = sorted(
            (case for case in cases.values() if case.config.split == split), key=lambda case: case.config.lag
        )
        lags = [case.config.lag for case in chosen]
        panels[f"{split} split"] = {
            name: Curve(lags, [_value(scores, case, *what) for case in chosen])
            for name, what in lines.items()
        }
    units = _lag_units(next(iter(cases.values())))
    return curves(panels, xlabel=f"lag, {units}", ylabel="score", dashed=tuple(BASELINE_NAMES.values()))


def relevance_maps(cases: list[Case], scores: pd.DataFrame, method: str) -> Figure:
    """Draw the composites of a method by lag and class, with the lag correlation beside.

    Parameters
    ----------
    cases : list of Case
        Scored cases of one split, by rising lag.
    scores : pandas.DataFrame
        Scores of the run.
    method : str
        Label of the attributions.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import xarray as xr

    composites = [read_dataset(case.read(COMPOSITES)) for case in cases]
    lags = _lags(cases)
    chosen = [c[["mean", "count"]].sel(label=method, drop=True) for c in composites]
    relevance = xr.concat(chosen, lags, combine_attrs="drop_conflicts")
    correlation = xr.concat([c["lag_correlation"] for c in composites], lags, combine_attrs="drop_conflicts")
    return _by_lag(cases, scores, relevance, f"Relevance by {method}", correlation)


def optimal_maps(cases: list[Case], scores: pd.DataFrame) -> Figure:
    """Draw the optimal inputs by lag and class.

    Parameters
    ----------
    cases, scores
        As of `relevance_maps`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import xarray as xr

    found = [read_array(case.read(COMPOSITES), OPTIMAL_INPUT) for case in cases]
    maps = xr.concat(found, _lags(cases), combine_attrs="drop_conflicts")
    maps = maps.assign_attrs(long_name="optimal input", units="K")
    return _by_lag(cases, scores, maps, "Input that the network is surest of", None)


def _by_lag(
    cases: list[Case],
    scores: pd.DataFrame,
    maps: xr.DataArray | xr.Dataset,
    title: str,
    correlation: xr.DataArray | None,
) -> Figure:
    from xairt.plots.lags import relevance_by_lag

    config = cases[0].config
    place = config.target_place
    skill = {"accuracy": [_value(scores, case, NETWORK, "accuracy.test") for case in cases]} | {
        name: [_value(scores, case, NETWORK, f"{metric}.test") for case in cases]
        for metric, name in BASELINE_NAMES.items()
    }
    return relevance_by_lag(
        maps,
        share="row",
        lag_correlation=correlation,
        skill=skill,
        target_place=place,
        target_box=config.target_box if place is None else None,
        lag_units=_lag_units(cases[0]),
        grid=grid_of(cases[0].read(DATA)),
        title=f"{title}, {config.split} split",
    )


def _lags(cases: list[Case]) -> xr.DataArray:
    import xarray as xr

    return xr.DataArray([case.config.lag for case in cases], dims="lag", name="lag")


def _lag_units(case: Case) -> str:
    return str(read_array(case.read(DATA), "y").attrs["lag_units"])


def _thinned(cases: list[Case]) -> list[Case]:
    """Return at most as many cases as rows, evenly chosen."""
    if len(cases) <= MOST_ROWS:
        return cases
    return [cases[i] for i in np.linspace(0, len(cases) - 1, MOST_ROWS).round().astype(int)]


def _value(scores: pd.DataFrame, case: Case, label: str, metric: str) -> float:
    found = scores[(scores["case"] == case.name) & (scores["label"] == label) & (scores["metric"] == metric)]
    return float(found["value"].iloc[0]) if len(found) else float("nan")
