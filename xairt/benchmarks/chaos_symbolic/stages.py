"""The stages that draw samples, train networks and name their attributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xairt import metrics
from xairt.benchmarks.chaos_symbolic import truths
from xairt.benchmarks.chaos_symbolic.data import Samples, samples
from xairt.benchmarks.chaos_symbolic.formulas import formula_of
from xairt.data.files import atomic_write, write_dataset
from xairt.runs import Case, CaseSettings, Explanation
from xairt.runs.methods import usable_methods
from xairt.runs.scores import NETWORK

if TYPE_CHECKING:
    import tensorflow as tf
    import xarray as xr

    from xairt.training.history import History

DATA, TRUTHS, MODEL, HISTORY, NETWORKS = "data.nc", "truths.nc", "model.h5", "history.csv", "networks.csv"

_OPTIMIZERS = {"adam": "Adam", "nadam": "Nadam", "rmsprop": "RMSprop", "adagrad": "Adagrad", "sgd": "SGD"}
"""Names of Keras's legacy classes, which make the faster steps."""

_PREDICTION_BATCH = 4096


def generate(case: Case) -> None:
    """Write the samples of a case, and the truths about its test set.

    ``data.nc`` holds ``x`` (sample, variable) float32, ``y`` and the noise-free ``clean`` (sample); ``truths.nc`` each of
    `truths.TRUTHS` (sample, variable) of the test set.

    Parameters
    ----------
    case : Case

    Raises
    ------
    DataError
        If the formula, or its derivative, has no finite value at a sample.
    """
    made = samples_of(case.config)
    write_dataset(_dataset(made), case.write(DATA), title=f"Samples of {made.formula.text}")
    import xarray as xr

    x = made.x[made.test]
    known = xr.Dataset(
        {
            name: (("sample", "variable"), truths.truth(name, made.formula, x), {"units": "1"})
            for name in truths.TRUTHS
        },
        {"variable": variable_names(made)},
    )
    write_dataset(known, case.write(TRUTHS), title=f"Truths about the test samples of {made.formula.text}")


def samples_of(config: CaseSettings) -> Samples:
    """Return the samples of a case."""
    return samples(
        formula_of(config.formula),
        config.n_samples,
        config.n_noise,
        config.seed,
        label_noise=config.label_noise,
        test_share=config.test_share,
    )


def variable_names(made: Samples) -> list[str]:
    """Return the names of the columns of x: the letters, then noise1, noise2 ..."""
    n_noise = made.x.shape[1] - made.formula.n_features
    return [*made.formula.letters, *(f"noise{k}" for k in range(1, n_noise + 1))]


def _dataset(made: Samples) -> xr.Dataset:
    import xarray as xr

    def text(name: str) -> dict[str, str]:
        return {"long_name": name, "units": "1"}

    return xr.Dataset(
        {
            "x": (("sample", "variable"), made.x, text("variables")),
            "y": ("sample", made.y, text("value of the formula with noise")),
            "clean": ("sample", made.clean, text("value of the formula")),
        },
        {"variable": variable_names(made)},
        {"formula": made.formula.text, "n_relevant": made.formula.n_features, "n_test": made.n_test},
    )


def train(case: Case) -> None:
    """Train the network of a case; write ``model.h5``, ``history.csv`` and its skill, ``networks.csv``.

    Parameters
    ----------
    case : Case

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the training: half a training must not pass for a whole one.
    DivergedError
        If the loss became infinite.
    """
    from xairt.models.saving import save_model

    made = samples_of(case.config)
    model = network_of(case.config, made.x.shape[1])
    _fitted(case, model, made).to_csv(case.write(HISTORY))
    save_model(model, case.write(MODEL))
    rows = skill_rows(model, made.x[made.test], made.clean[made.test])
    with atomic_write(case.write(NETWORKS)) as path:
        pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")


def network_of(config: CaseSettings, n_inputs: int) -> tf.keras.Model:
    """Return the untrained network of a case."""
    from xairt.models import perceptrons

    make = getattr(perceptrons, config.network)
    return make(n_inputs, config.seed, depth=config.depth, width=config.width, dropout=config.dropout)


def optimizer_of(config: CaseSettings) -> Any:
    """Return the Keras optimizer of a case."""
    import tensorflow as tf

    if config.optimizer == "adamw":
        return tf.keras.optimizers.AdamW(config.learning_rate)
    return getattr(tf.keras.optimizers.legacy, _OPTIMIZERS[config.optimizer])(config.learning_rate)


def _fitted(case: Case, model: tf.keras.Model, made: Samples) -> History:
    from xairt import training

    config, rows = case.config, made.training
    history = training.fit(
        *(model, made.x[rows], made.y[rows]),
        epochs=config.epochs,
        batch_size=config.batch_size or rows.stop,
        optimizer=optimizer_of(config),
        jit_compile=config.dropout == 0,  # XLA would not keep the seed of dropout
        seed=config.seed,
        progress=case.progress,
    )
    if history.interrupted:
        raise KeyboardInterrupt
    return history


def skill_rows(
    model: tf.keras.Model, x: NDArray[np.floating], clean: NDArray[np.floating]
) -> list[dict[str, Any]]:
    """Return rows of scores of a network against the noise-free values (samples,): agreement, error, R2."""
    prediction = model.predict(x, batch_size=_PREDICTION_BATCH, verbose=0)[:, 0].astype(np.float64)
    found = {
        "prediction_score": float(metrics.prediction_score(prediction, clean).mean()),
        "mae": float(np.abs(prediction - clean).mean()),
        "r2": float(metrics.r2(clean, prediction)),
    }
    return [{"label": NETWORK, "metric": name, "value": value, "n": len(x)} for name, value in found.items()]


def explain(case: Case) -> list[Explanation]:
    """Return the attributions of a case, of the first test samples, with baseline 0.

    Methods that cannot explain its network, such as DeepLIFT one with layer normalisation, are left out with a
    warning that tells why.

    Parameters
    ----------
    case : Case

    Returns
    -------
    list of Explanation
    """
    config = case.config
    first, last = explained(config)
    shared = {"samples": DATA, "first": first, "last": last, "model": MODEL, "seed": config.seed}
    return [Explanation(method, **shared) for method in usable_methods(case.read(MODEL), config.methods)]


def explained(config: CaseSettings) -> tuple[int, int]:
    """Return the range of the samples that are explained, last excluded."""
    n_test = round(config.test_share * config.n_samples)
    first = config.n_samples - n_test
    return first, first + min(config.n_explained or n_test, n_test)
