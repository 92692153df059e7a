"""The stages that make data, networks and attributions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xairt import fields, metrics
from xairt.benchmarks.sstanom.task import sst_task
from xairt.data.files import atomic_write, read_array
from xairt.grid import Grid
from xairt.progress import track
from xairt.runs import Case, CaseSettings, Explanation

if TYPE_CHECKING:
    import tensorflow as tf

    from xairt.training.loop import History

DATA, NETWORKS = "data.nc", "networks.csv"
NETWORK, LINEAR = "network", "linear"
MODELS = {NETWORK: "model.h5", LINEAR: "linear.h5"}
HISTORIES = {NETWORK: "history.csv", LINEAR: "linear_history.csv"}
LINEAR_METHOD = "input_t_gradient"
"""Method that explains the linear model exactly."""

_BLOCK = 8192
_PREDICTION_BATCH = 1024


def generate(case: Case) -> None:
    """Write maps, true contributions, true slopes and outputs, block by block.

    The file ``data.nc`` holds what `task.SSTTask.dataset` and `task.SSTTask.function_dataset` return.

    Parameters
    ----------
    case : Case
    """
    from xairt.data.streams import SampleWriter

    config = case.config
    task = sst_task(
        config.seed,
        config.n_breakpoints,
        config.source,
        config.source_file,
        variable=config.variable,
        step=config.step,
    )
    function = task.function_dataset()
    title = "Synthetic SST anomalies with the true contribution of every ocean cell"
    blocks = fields.gaussian_blocks(task.correlation, config.n_samples, config.seed)
    count = -(-config.n_samples // fields.gaussian.BLOCK_SAMPLES)
    with SampleWriter(case.write(DATA), title=title) as writer:
        for _, x in track(blocks, count, "generating", case.progress):
            writer.append(task.dataset(x).merge(function))


def train(case: Case) -> None:
    """Train the paper's network and the linear control model on the first maps, and test them on the last.

    Writes both networks with their histories, and ``networks.csv``: R2, mean squared error and mean absolute
    error on the n maps of the test set.

    Parameters
    ----------
    case : Case
    """
    from xairt.models.architectures import linear, mamalakis2022

    config, data = case.config, case.read(DATA)
    grid, n_train = grid_of(data), n_training(config)
    x, y = vectors(data, "x", grid, 0, config.n_samples), read_array(data, "y").values
    network = mamalakis2022(grid.n_valid, config.seed, config.hidden_units)
    plans = {
        NETWORK: (network, config.epochs, config.learning_rate),
        LINEAR: (linear(grid.n_valid, config.seed), config.linear_epochs, config.linear_learning_rate),
    }
    rows = []
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
        skill, n = skill_of(model, x[n_train:], y[n_train:]), len(y) - n_train
        row = {"label": NETWORK if label == NETWORK else f"{NETWORK}.{label}", "n": n}
        rows += [row | {"metric": name, "value": value} for name, value in skill.items()]
    with atomic_write(case.write(NETWORKS)) as path:
        pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")


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
