"""The stage that scores: skill, relevance by class, and where relevance and optimal inputs lie."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from xairt import metrics
from xairt.benchmarks.xairt_sst.generation import DATA, PLANTED, grid_of
from xairt.benchmarks.xairt_sst.stages import (
    LINEAR,
    MODELS,
    NETWORK,
    PREDICTIONS,
    SCORES,
    explain,
)
from xairt.data.files import read_array, read_dataset, write_dataset
from xairt.errors import DataError
from xairt.fields import region
from xairt.metrics.classification import baselines_not_beaten
from xairt.runs import Case

if TYPE_CHECKING:
    import xarray as xr

    from xairt.grid import Grid
    from xairt.llc import LLCGrid

COMPOSITES = "composites.nc"
LAG_CORRELATION, OPTIMAL_INPUT = "lag_correlation", "optimal_input"
SOURCE_REGION = "source region"

log = logging.getLogger(__name__)


def score(case: Case) -> pd.DataFrame:
    """Score the networks, the composites of every attribution, and the optimal inputs.

    Writes ``composites.nc``: for each label and class the mean relevance of the correctly classified samples, its
    standard deviation, the number of samples and of maps of zeros, and how often a cell's relevance is above
    the percentile; the lag correlation of every cell; and the optimal input of each class with its probability.

    Parameters
    ----------
    case : Case

    Returns
    -------
    pandas.DataFrame
        Of networks accuracy, F1 and baselines on each part. Of attributions and optimal inputs, for each class
        ``.negative`` and ``.positive``: ``lag_correlation``, the pattern correlation of their magnitude with that
        of the lag correlation (cells that speak for either class have positive relevance); ``samples`` and
        ``zero_maps``, their numbers; with a planted field ``source_share``, the share of their magnitude in the source region,
        and ``source_maximum``, 1 where their largest magnitude lies there; with a sensitivity ``sensitivity`` and
        ``sensitivity_magnitude``, the pattern correlations with it.
    """
    _tell_skill(case)
    samples, grid = read_dataset(case.read(DATA)), grid_of(case.read(DATA))
    correlation = metrics.lag_correlation(samples["x"], samples["y"])
    found = _composites(case, samples, grid)
    maps = {str(label): found["mean"].sel(label=label, drop=True) for label in found["label"].values}
    maps[LAG_CORRELATION] = correlation["correlation"]
    dataset = found.assign({f"lag_{name}": values for name, values in correlation.items()})
    rows = pd.read_csv(case.read(SCORES)).assign(statistic="value").to_dict("records")
    if case.config.optimal_iterations:
        optimal = optimal_inputs(case, samples, grid)
        maps[OPTIMAL_INPUT] = optimal[OPTIMAL_INPUT]
        dataset = dataset.assign(optimal)
        rows += _class_rows(OPTIMAL_INPUT, "probability", optimal["probability"])
    write_dataset(dataset, case.write(COMPOSITES), title="Composites of relevance by class")
    for label, values in maps.items():
        rows += _map_rows(case, label, values, correlation["correlation"], grid)
    for label in found["label"].values:
        rows += _class_rows(str(label), "zero_maps", found["zero_maps"].sel(label=label))
        rows += _class_rows(str(label), "samples", found["count"].sel(label=label))
    methods = {e.name: e.method for e in explain(case)}
    return pd.DataFrame(rows).assign(method=lambda table: [methods.get(n, n) for n in table["label"]])


def _tell_skill(case: Case) -> None:
    """Say plainly where the network is not above class frequency or persistence."""
    table = pd.read_csv(case.read(SCORES))
    own = table[table["label"] == NETWORK].set_index("metric")["value"]
    test = {name.removesuffix(".test"): value for name, value in own.items() if name.endswith(".test")}
    missed = baselines_not_beaten(test)
    if missed:
        log.warning(
            "case %s: accuracy %.2f on the test set is not significantly above %s: attributions tell what a network "
            "without proven skill looks at",
            *(case.name, test["accuracy"], " and ".join(_baseline_words(test, name) for name in missed)),
        )


def _baseline_words(scores: Mapping[str, float], name: str) -> str:
    p = scores[f"p_{name}"]
    known = f"p = {p:.2g}" if np.isfinite(p) else "too few independent samples for a test"
    return f"{name.replace('_', ' ')} {scores[name]:.2f} ({known})"


def _composites(case: Case, samples: xr.Dataset, grid: Grid | LLCGrid) -> xr.Dataset:
    """Return the composites of all attributions along dimension `label`."""
    import xarray as xr

    predictions, cells = read_dataset(case.read(PREDICTIONS)), cell_dimensions(samples["x"])
    part = case.config.composite_of
    chosen = np.flatnonzero((predictions["part"].values == part) | (part == "all"))
    labels = samples["label"].values[chosen]
    found = {}
    for explanation in explain(case):
        relevance = read_array(case.read(explanation.file), "attribution").isel(sample=chosen)
        model = LINEAR if explanation.model == MODELS[LINEAR] else NETWORK
        composite = metrics.class_composites(
            relevance, predictions[model].values[chosen], labels, cells, by=None
        )
        weights = as_map(grid.area_weights, samples["x"], grid)
        frequency = metrics.frequency_above_percentile(
            relevance, case.config.percentile, cells, magnitude=True, weights=weights
        )
        found[explanation.name] = composite.assign(frequency=frequency)
    joined = xr.concat(found.values(), "label", combine_attrs="drop_conflicts").assign_coords(
        label=list(found)
    )
    return joined.assign_attrs(composite_of=part, percentile=case.config.percentile)


def optimal_inputs(case: Case, samples: xr.Dataset, grid: Grid | LLCGrid) -> xr.Dataset:
    """Return the optimal input of each class.

    Parameters
    ----------
    case : Case
        With its network.
    samples : xarray.Dataset
        As of `generation.samples`.
    grid : Grid or LLCGrid
        Its cells.

    Returns
    -------
    xarray.Dataset
        ``optimal_input`` (class, lat, lon) or (class, cell), K, and ``probability`` (class,), what the network
        gives for it. The descent begins at the mean of the correctly classified samples of the class, as in the
        publication, or at zeros where there is none.
    """
    import xarray as xr

    import xairt
    from xairt.metrics.relevance import CLASSES

    model = xairt.load_model(case.read(MODELS[NETWORK]))
    x, labels = as_vectors(samples["x"], grid), samples["label"].values
    starts = np.stack([_start(model, x, labels, number) for number in range(len(CLASSES))])
    found = xairt.optimal_input(
        model,
        target=list(range(len(CLASSES))),
        start=starts,
        iterations=case.config.optimal_iterations,
        progress=case.progress,
    )
    maps = as_map(found["optimal_input"].values, samples["x"], grid, "class").assign_attrs(units="K")
    probability = (
        "class",
        found["probability"].values,
        {"long_name": "probability of the class", "units": "1"},
    )
    return xr.Dataset({OPTIMAL_INPUT: maps, "probability": probability}, {"class": list(CLASSES)})


def cell_dimensions(x: xr.DataArray) -> list[str]:
    """Return the dimensions of the cells of samples."""
    return [str(dim) for dim in x.dims if dim != "sample"]


def as_vectors(x: xr.DataArray, grid: Grid | LLCGrid) -> np.ndarray:
    """Return samples as vectors (samples, cells)."""
    return x.values if "cell" in x.dims else grid.to_vector(x).values


def as_map(values: np.ndarray, x: xr.DataArray, grid: Grid | LLCGrid, dim: str | None = None) -> xr.DataArray:
    """Return vectors (cells,), or (dim, cells), labelled as the samples are: maps, or cells of an LLC grid."""
    import xarray as xr

    dims = () if dim is None else (dim,)
    if "cell" in x.dims:
        coords = {name: c for name, c in x.coords.items() if c.dims == ("cell",)}
        return xr.DataArray(values, coords, (*dims, "cell"))
    return grid.to_map(xr.DataArray(values, dims=(*dims, "cell")))


def _start(model: Any, x: np.ndarray, labels: np.ndarray, number: int) -> np.ndarray:
    from xairt.optimal_input import mean_of_correct

    try:
        return mean_of_correct(model, x, labels, number).values
    except DataError:
        log.warning("class %d: no sample is classified correctly; its optimal input starts at zeros", number)
        return np.zeros(x.shape[1], x.dtype)


def _map_rows(
    case: Case, label: str, values: xr.DataArray, correlation: xr.DataArray, grid: Grid | LLCGrid
) -> list[dict[str, Any]]:
    """Return the scores of the maps of one label, with or without classes."""
    config = case.config
    rows = []
    if label != LAG_CORRELATION:
        pattern = metrics.pattern_correlation(values, correlation, grid=grid)
        rows += _class_rows(label, LAG_CORRELATION, pattern["magnitude_correlation"])
    if config.source == PLANTED:
        regions = {SOURCE_REGION: config.source_box}
        shares = metrics.regional_shares(values, regions, grid=grid, area_weighted=False)
        rows += _class_rows(label, "source_share", shares["magnitude"].isel(region=0, drop=True))
        inside = region(grid, lat=config.source_box[:2], lon=config.source_box[2:])
        magnitudes = np.abs(metrics.patterns.cells_of(values, grid))
        largest = magnitudes.fillna(-1).argmax("cell")
        there = largest.copy(data=inside[largest.values]).where(magnitudes.notnull().all("cell"))
        rows += _class_rows(label, "source_maximum", there)
    if config.sensitivity_file is not None:
        pattern = metrics.compare_with_sensitivity(
            values, config.sensitivity_file, grid=grid, variable=config.sensitivity_variable
        )
        rows += _class_rows(label, "sensitivity", pattern["correlation"])
        rows += _class_rows(label, "sensitivity_magnitude", pattern["magnitude_correlation"])
    return rows


def _class_rows(label: str, metric: str, values: xr.DataArray) -> list[dict[str, Any]]:
    """Return one row for each class, or one where there are none."""
    row = {"label": label, "statistic": "value"}
    if "class" not in values.dims:
        return [row | {"metric": metric, "value": float(values)}]
    named = zip(values["class"].values, values.values, strict=True)
    return [row | {"metric": f"{metric}.{name}", "value": float(value)} for name, value in named]
