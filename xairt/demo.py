"""The demonstration: train on synthetic SST of known truth, explain, draw maps, compare, summarise."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
import xarray as xr

from xairt import fields, metrics
from xairt.attribution.explainer import attribute
from xairt.benchmarks.sstanom.stages import skill_of, train_network
from xairt.benchmarks.sstanom.task import SSTTask, analytic_task
from xairt.data.files import atomic_write, write_dataset
from xairt.demo_page import write_page
from xairt.errors import DataError
from xairt.models.architectures import mamalakis2022
from xairt.models.loading import load_model
from xairt.plots import maps

ARCHIVED_NETWORK = "mamalakis2022-sst"
METHODS = (
    "input_t_gradient",
    "integrated_gradients",
    "lrp.z",
    "lrp.epsilon(epsilon=0.01)",
    "lrp.alpha_1_beta_0",
    "lrp.alpha_2_beta_1",
    "lrp.w_square",
    "occlusion",
    "smoothgrad",
    "gradient",
    "saliency",
    "random",
)
DRAWN = ("lrp.z", "lrp.alpha_1_beta_0", "integrated_gradients", "gradient")
ARCHIVED_METHODS = (
    "lrp.z",
    "lrp.epsilon(epsilon=0.01)",
    "lrp.alpha_1_beta_0",
    "lrp.alpha_2_beta_1",
    "lrp.w_square",
)

MAPS_CAPTION = (
    "Known contribution of each ocean cell and four attributions of the same prediction; "
    "colour scale per panel, r over ocean cells."
)

Echo = Callable[[str], object]


@dataclass(frozen=True)
class Size:
    """How much the demonstration computes."""

    n_train: int
    n_test: int
    epochs: int
    n_explained: int


FULL = Size(n_train=50_000, n_test=5_000, epochs=24, n_explained=500)
QUICK = Size(n_train=2_000, n_test=500, epochs=3, n_explained=20)


@dataclass(frozen=True, eq=False)
class Task:
    """Synthetic SST maps with the known contribution of every cell.

    Attributes
    ----------
    sst : SSTTask
        Ocean cells and the known function.
    x : numpy.ndarray
        (samples, cells) standardised anomalies.
    y : numpy.ndarray
        (samples,) outputs of the known function.
    """

    sst: SSTTask
    x: np.ndarray
    y: np.ndarray


def make_task(size: Size, seed: int) -> Task:
    """Draw maps from the analytic SST correlation and evaluate a random piecewise-linear function."""
    sst = analytic_task(seed)
    x = fields.sample_gaussian(sst.correlation, size.n_train + size.n_test, seed)
    return Task(sst, x, sst.function.output(x))


def run(
    output: Path,
    *,
    seed: int = 0,
    quick: bool = False,
    progress: bool = False,
    echo: Echo = lambda text: None,
) -> Path:
    """Run the demonstration and write everything into a folder.

    Parameters
    ----------
    output : Path
        Folder; files of an earlier demonstration in it are replaced.
    seed : int
        Of data, initial weights, training order and noise.
    quick : bool
        A few seconds of training; for tests.
    progress : bool
        Show progress bars on a terminal.
    echo : callable
        Receives one line per step.

    Returns
    -------
    Path
        The summary page.
    """
    started = time.perf_counter()
    output, size = Path(output), QUICK if quick else FULL
    _check_folder(output)
    task = make_task(size, seed)
    n_cells, n_maps = task.sst.grid.n_valid, len(task.x)
    echo(f"data: {n_maps:,} synthetic SST maps of {n_cells} ocean cells, truth known for each cell")
    model, network = _train(task, size, seed, progress, output, echo)
    result, truth, slopes = _explain(model, task, size, seed, progress, output)
    scores = _scores(result, truth, slopes)
    _write_table(scores, output / "correlations.csv")
    echo(scores.to_string(float_format="{:.2f}".format))
    maps(result, truth, samples=(0, 1), methods=list(DRAWN), share="panel", save=output / "maps.png")
    figures = [("maps.png", MAPS_CAPTION), *_archived(output, seed, echo)]
    facts = {
        "synthetic maps": f"{size.n_train:,} for training, {size.n_test:,} for testing, {n_cells} ocean cells",
        "network": network,
        "explained": f"{size.n_explained} test maps",
        "seed": str(seed),
        "seconds": f"{time.perf_counter() - started:.0f}",
    }
    page = write_page(output / "summary.html", facts, scores, figures, json.loads(result.attrs["identities"]))
    echo(f"summary: {page} ({facts['seconds']} s)")
    return page


def _check_folder(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise DataError(f"{output}: is a file; name a folder for the demonstration")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{output}: cannot be made ({error.strerror}); name another folder") from None
    if not os.access(output, os.W_OK):
        raise DataError(f"{output}: cannot be written; name another folder")


def _train(
    task: Task, size: Size, seed: int, progress: bool, output: Path, echo: Echo
) -> tuple[tf.keras.Model, str]:
    """Train the paper's network on the first maps, write model and history; return it and its description."""
    model = mamalakis2022(task.sst.grid.n_valid, seed)
    history = train_network(
        model,
        task.x,
        task.y,
        size.n_train,
        output / "model.h5",
        output / "history.csv",
        epochs=size.epochs,
        seed=seed,
        progress=progress,
    )
    skill = skill_of(model, task.x[size.n_train :], task.y[size.n_train :])["r2"]
    trained = f"{len(history)} epochs in {sum(history['seconds']):.0f} s, R2 {skill:.3f} on {size.n_test:,} test maps"
    echo(f"network: {trained}")
    return model, f"mamalakis2022, {model.count_params():,} parameters, {trained}"


def _explain(
    model: tf.keras.Model, task: Task, size: Size, seed: int, progress: bool, output: Path
) -> tuple[xr.Dataset, xr.DataArray, xr.DataArray]:
    """Explain test maps; return attributions, true contributions and true slopes as maps."""
    x = task.x[size.n_train : size.n_train + size.n_explained]
    result = attribute(model, x, METHODS, grid=task.sst.grid, seed=seed, progress=progress)
    truths = task.sst.dataset(x).rename({"truth": "contribution", "x": "sst_anomaly"})
    truths = truths.assign_coords(sample=result["sample"])
    write_dataset(result, output / "attributions.nc", title="Attributions of the demonstration network")
    write_dataset(
        truths, output / "truth.nc", title="Synthetic SST anomalies with the true contribution of every cell"
    )
    return result, truths["contribution"], truths["slope"]


def _scores(result: xr.Dataset, truth: xr.DataArray, slopes: xr.DataArray) -> pd.DataFrame:
    """Return mean and spread over samples of Pearson's r, per method, with what each is compared with."""
    comparisons = [(name, name, "contribution") for name in METHODS] + [("gradient", "gradient ", "slope")]
    rows = []
    for method, label, against in comparisons:
        reference = truth if against == "contribution" else slopes
        r = metrics.pearson(result["attribution"].sel({"method": method}), reference, dim=("lat", "lon"))
        quantiles = r.quantile([0.05, 0.95]).values
        rows.append((label.strip(), against, float(r.mean()), *map(float, quantiles)))
    table = pd.DataFrame(rows, columns=["method", "compared with true", "mean r", "5%", "95%"])
    return table.sort_values("mean r", ascending=False).set_index("method")


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with atomic_write(path) as temporary:
        table.to_csv(temporary)


def _archived(output: Path, seed: int, echo: Echo) -> list[tuple[str, str]]:
    """Explain the archived network on maps of the COBE correlation, where both files are on this machine."""
    from xairt.data import registry

    try:
        path = registry.path(ARCHIVED_NETWORK, download=False)
        correlation, grid = fields.cobe_correlation(fields.NETWORK_EXCLUDES, download=False)
    except DataError as error:
        echo(f"archived network: left out ({error})")
        return []
    model = load_model(path)
    x = fields.sample_gaussian(correlation, 2, seed, stream=1)
    result = attribute(model, x, ARCHIVED_METHODS, grid=grid)
    title = "Archived SST network (Keras 2.2.4) on maps of the COBE correlation; cells 405 and 457 left out: an approximation"
    write_dataset(result, output / "archived_attributions.nc", title=title)
    maps(result, samples=(0, 1), share="panel", title=title, save=output / "archived_maps.png")
    echo("archived network: explained, see archived_maps.png")
    return [("archived_maps.png", f"{title}. LRP variants, colour scale per panel.")]
