"""The stages that make data, networks and attributions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xairt import metrics
from xairt.benchmarks.sstanom.generation import PRETRAINED, datasets
from xairt.data import registry
from xairt.data.files import atomic_write, open_netcdf, read_array
from xairt.errors import DataError
from xairt.grid import Grid
from xairt.progress import track
from xairt.runs import Case, CaseSettings, Explanation

if TYPE_CHECKING:
    import tensorflow as tf

    from xairt.training.history import History

DATA, NETWORKS = "data.nc", "networks.csv"
NETWORK, LINEAR = "network", "linear"
MODELS = {NETWORK: "model.h5", LINEAR: "linear.h5"}
HISTORIES = {NETWORK: "history.csv", LINEAR: "linear_history.csv"}
ARCHIVED_NETWORK = "mamalakis2022-sst"
LINEAR_METHOD = "input_t_gradient"
"""Method that explains the linear model exactly."""

_BLOCK = 8192
_PREDICTION_BATCH = 1024


def generate(case: Case) -> None:
    """Write maps, true contributions, true slopes and outputs, block by block.

    The file ``data.nc`` holds what `generation.datasets` returns.

    Parameters
    ----------
    case : Case
    """
    from xairt.data.streams import SampleWriter

    blocks, count = datasets(case.config)
    title = "Synthetic SST anomalies with the true contribution of every ocean cell"
    with SampleWriter(case.write(DATA), title=title) as writer:
        for block in track(blocks, count, "generating", case.progress):
            writer.append(block)


def train(case: Case) -> None:
    """Train the paper's network and the linear control model on the first maps, and test them on the last.

    Writes both networks, the histories of those trained, and ``networks.csv``: R2, mean squared error and mean
    absolute error on the n maps of the test set. With the setting network=pretrained the archived network takes
    the place of a trained one.

    Parameters
    ----------
    case : Case

    Raises
    ------
    DataError
        If the archived network takes another number of cells.
    """
    from xairt.models.architectures import linear, mamalakis2022

    config, data = case.config, case.read(DATA)
    grid, n_train = grid_of(data), n_training(config)
    plans = {LINEAR: (linear(grid.n_valid, config.seed), config.linear_epochs, config.linear_learning_rate)}
    models = {}
    if config.network == PRETRAINED:
        models[NETWORK] = pretrained(grid.n_valid, case.write(MODELS[NETWORK]))
    else:
        network = mamalakis2022(grid.n_valid, config.seed, config.hidden_units)
        plans = {NETWORK: (network, config.epochs, config.learning_rate), **plans}
    x, y = vectors(data, "x", grid, 0, config.n_samples), read_array(data, "y").values
    for label, (model, epochs, learning_rate) in plans.items():
        train_network(
            model,
            x,
            y,
            n_train,
            case.write(MODELS[label]),
            case.write(HISTORIES[label]),
            epochs=epochs,
            seed=config.seed,
            learning_rate=learning_rate,
            batch_size=config.batch_size,
            progress=case.progress,
        )
        models[label] = model
    rows = [
        row for label, model in models.items() for row in _skill_rows(label, model, x[n_train:], y[n_train:])
    ]
    with atomic_write(case.write(NETWORKS)) as path:
        pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")


def pretrained(n_cells: int, path: Path) -> tf.keras.Model:
    """Copy the archived network of the paper, and load it.

    Parameters
    ----------
    n_cells : int
        Cells of the maps.
    path : Path
        File to write.

    Returns
    -------
    tf.keras.Model

    Raises
    ------
    DataError
        If the network takes another number of cells, or is not here and cannot be downloaded.
    """
    from xairt.models.loading import load_model

    file = registry.path(ARCHIVED_NETWORK)
    model = load_model(file)
    if model.input_shape[-1] != n_cells:
        raise DataError(
            f"{ARCHIVED_NETWORK}: takes {model.input_shape[-1]} cells, the maps have {n_cells}; use "
            "source=archive, or source=correlation with the COBE-SST2 matrix"
        )
    with atomic_write(path) as temporary:
        shutil.copyfile(file, temporary)
    return model


def _skill_rows(
    label: str, model: tf.keras.Model, x: NDArray[np.floating], y: NDArray[np.floating]
) -> list[dict[str, Any]]:
    row = {"label": NETWORK if label == NETWORK else f"{NETWORK}.{label}", "n": len(y)}
    return [row | {"metric": name, "value": value} for name, value in skill_of(model, x, y).items()]


def train_network(
    model: tf.keras.Model,
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    n_train: int,
    model_file: Path,
    history_file: Path,
    *,
    epochs: int,
    seed: int,
    learning_rate: float = 0.02,
    batch_size: int = 32,
    progress: bool = False,
) -> History:
    """Train a network by plain gradient descent on the first samples, validate on the others, and write it.

    Parameters
    ----------
    model : tf.keras.Model
        Its weights change.
    x, y : numpy.ndarray
        (samples, cells) and (samples,).
    n_train : int
        Number of samples to train with.
    model_file, history_file : Path
        Files to write.
    epochs, seed, batch_size, progress
        As of `xairt.training.fit`.
    learning_rate : float
        Step of gradient descent.

    Returns
    -------
    History

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the training: half a training must not pass for a whole one. Nothing is written.
    """
    import tensorflow as tf

    from xairt import training
    from xairt.models.saving import save_model

    history = training.fit(
        model,
        x[:n_train],
        y[:n_train],
        epochs=epochs,
        batch_size=batch_size,
        optimizer=tf.keras.optimizers.legacy.SGD(learning_rate),
        validation=(x[n_train:], y[n_train:]),
        seed=seed,
        progress=progress,
    )
    if history.interrupted:
        raise KeyboardInterrupt
    save_model(model, model_file)
    history.to_csv(history_file)
    return history


def skill_of(model: tf.keras.Model, x: NDArray[np.floating], y: NDArray[np.floating]) -> dict[str, float]:
    """Return how well a network predicts.

    Parameters
    ----------
    model : tf.keras.Model
    x, y : numpy.ndarray
        (samples, cells) and (samples,).

    Returns
    -------
    dict
        ``r2``, ``mse`` (units of y squared) and ``mae`` (units of y).
    """
    prediction = model.predict(x, batch_size=_PREDICTION_BATCH, verbose=0)[:, 0]
    error = prediction.astype(np.float64) - y
    return {
        "r2": metrics.r2(y, prediction),
        "mse": float(np.mean(error**2)),
        "mae": float(np.mean(np.abs(error))),
    }


def explain(case: Case) -> list[Explanation]:
    """Return the attributions of a case: every method on the network, and the exact one on the linear model.

    Parameters
    ----------
    case : Case

    Returns
    -------
    list of Explanation
        Of the first maps of the test set.
    """
    config = case.config
    first = n_training(config)
    shared: dict[str, Any] = {
        "samples": DATA,
        "first": first,
        "last": min(first + config.n_explained, config.n_samples),
        "seed": config.seed,
    }
    of_linear = Explanation(LINEAR_METHOD, model=MODELS[LINEAR], label=f"{LINEAR}.{LINEAR_METHOD}", **shared)
    return [*(Explanation(method, model=MODELS[NETWORK], **shared) for method in config.methods), of_linear]


def n_training(config: CaseSettings) -> int:
    """Return the number of maps to train with; the test set has one at least."""
    return config.n_samples - max(1, round(config.test_share * config.n_samples))


def grid_of(data: Path) -> Grid:
    """Return the ocean cells of a file of maps."""
    return Grid.from_dataarray(read_array(data, "x", select={"sample": slice(0, 1)}))


def variables_of(data: Path) -> frozenset[str]:
    """Return the names of the variables of a file of maps; the archive may leave some of them out."""
    with open_netcdf(data) as dataset:
        return frozenset(map(str, dataset.variables))


def vectors(path: Path, variable: str, grid: Grid, first: int, last: int) -> NDArray[np.floating]:
    """Read maps as vectors of ocean cells, block by block.

    Parameters
    ----------
    path : Path
        File with the variable (sample, lat, lon).
    variable : str
    grid : Grid
        Its grid.
    first, last : int
        Range of samples, last excluded; at least one.

    Returns
    -------
    numpy.ndarray
        (samples, cells) in the stored precision. NaN in ocean cells is kept.
    """
    from xairt.data.streams import sample_blocks

    found = None
    for i, block in enumerate(sample_blocks(path, variable, first, last, _BLOCK)):
        if found is None:
            found = np.empty((last - first, grid.n_valid), block.dtype)
        found[i * _BLOCK : i * _BLOCK + len(block)] = block.values[..., grid.mask]
    return found
