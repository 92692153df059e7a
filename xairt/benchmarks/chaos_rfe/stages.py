"""The stages that make samples, and select features by networks and by estimators of scikit-learn."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xairt.data.files import atomic_write, read_dataset, write_dataset
from xairt.errors import DataError, suggest
from xairt.runs import Case
from xairt.runs.contract import file_name
from xairt.runs.scores import NETWORK
from xairt.training.splits import Split

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from xairt.selection import Selection

DATA, ROUNDS, PREDICTIONS = "data.nc", "rounds.csv", "predictions.nc"

PARTS = ("train", "selection", "test")

SCIKIT_LEARN = "scikit-learn"
"""Engine of the controls."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Data:
    """The samples of a case.

    Attributes
    ----------
    names : tuple of str
        Of the features.
    x : (samples, features) float32
        Of a table standardised.
    y : (samples,) float64
        In units of the target, with noise.
    clean : (samples,) float64 or None
        Without noise, where the function is known.
    relevant : tuple of str
        Features that matter; empty where that is not known.
    split : Split
        Its validation part is the selection part.
    mean, sd : float
        By which the networks' targets are standardised: 0 and 1 for a formula.
    """

    names: tuple[str, ...]
    x: NDArray[np.float32]
    y: NDArray[np.float64]
    clean: NDArray[np.float64] | None
    relevant: tuple[str, ...]
    split: Split
    mean: float = 0.0
    sd: float = 1.0


def model_file(label: str) -> str:
    """Return the file of the network that a method ended with, relative to the folder of the case."""
    return f"models/{file_name(label)}.h5"


def generate(case: Case) -> None:
    """Write the samples of a case.

    ``data.nc`` holds ``x`` (sample, feature), ``y`` (sample), ``part`` (sample; 0 train, 1 selection, 2 test), ``mean``
    and ``sd`` of the target in the training part (0 and 1 for a formula), and where it is known ``clean`` (sample), y
    without noise, and ``relevant`` (feature). Features of a table are standardised by the training part alone.

    Parameters
    ----------
    case : Case

    Raises
    ------
    DataError
        If there is no such formula, or the table cannot be used.
    """
    made = _of_formula(case) if case.config.table is None else _of_table(case)
    write_dataset(_dataset(made), case.write(DATA), title="Samples for feature selection")


def _parts(case: Case, n: int) -> Split:
    from xairt.selection import three_parts

    config = case.config
    return three_parts(n, config.selection_share, config.test_share, seed=config.split_seed)


def _of_formula(case: Case) -> Data:
    from xairt.benchmarks.chaos_symbolic.data import samples
    from xairt.benchmarks.chaos_symbolic.formulas import formula_of

    config = case.config
    formula = formula_of(config.formula)
    made = samples(formula, config.n_samples, config.n_noise, config.seed, label_noise=config.label_noise)
    relevant = tuple(formula.letters)
    names = (*relevant, *(f"noise{number}" for number in range(1, config.n_noise + 1)))
    return Data(names, made.x, made.y, made.clean, relevant, _parts(case, len(made.y)))


def _of_table(case: Case) -> Data:
    from xairt.selection import Scaling, read_table

    config = case.config
    table = read_table(config.table, config.target)
    for name in config.relevant:
        if name not in table.names:
            raise DataError(
                f"{config.table}: no feature '{name}'{suggest(name, table.names)}; mend relevant="
            )
    split = _parts(case, len(table.y))
    x = Scaling.of(table.x[split.train]).apply(table.x).astype(np.float32)
    scaling = Scaling.of(table.y[split.train])
    return Data(table.names, x, table.y, None, config.relevant, split, float(scaling.mean), float(scaling.sd))


def _dataset(data: Data) -> xr.Dataset:
    import xarray as xr

    part = np.zeros(len(data.y), np.int8)
    part[data.split.validation], part[data.split.test] = 1, 2
    flags = {"flag_values": np.arange(3, dtype=np.int8), "flag_meanings": " ".join(PARTS)}
    variables: dict[str, Any] = {
        "x": (("sample", "feature"), data.x, {"long_name": "features", "units": "1"}),
        "y": ("sample", data.y, {"long_name": "target"}),
        "part": ("sample", part, {"long_name": "part of the samples", **flags}),
        "mean": data.mean,
        "sd": data.sd,
    }
    if data.clean is not None:
        variables["clean"] = ("sample", data.clean, {"long_name": "target without noise"})
    if data.relevant:
        matters = np.isin(data.names, data.relevant).astype(np.int8)
        variables["relevant"] = ("feature", matters, {"long_name": "whether the feature matters"})
    return xr.Dataset(variables, {"feature": list(data.names)})


def data_of(case: Case) -> Data:
    """Return the samples that `generate` wrote."""
    stored = read_dataset(case.read(DATA))
    names = tuple(stored["feature"].values.astype(str).tolist())
    parts = [np.flatnonzero(stored["part"].values == number) for number in range(3)]
    clean = stored["clean"].values if "clean" in stored else None
    matters = stored["relevant"].values if "relevant" in stored else np.zeros(len(names))
    relevant = tuple(name for name, one in zip(names, matters, strict=True) if one)
    values = [stored[name].values for name in ("x", "y")]
    return Data(names, *values, clean, relevant, Split(*parts), float(stored["mean"]), float(stored["sd"]))


def train(case: Case) -> None:
    """Select the features of a case by every method and control.

    Writes ``rounds.csv`` (a row for each label and round: ``label, engine, n_features, selection_mae, test_mae, seconds,
    chosen, ranking`` as a JSON list of names, the most relevant first; errors in units of the target),
    ``predictions.nc`` (predictions of the test part (label, sample) of the selected features, and of the network of
    all features as label "network"), and ``models/<method>.h5``, the network of the selected features.

    Parameters
    ----------
    case : Case

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the training: half a training must not pass for a whole one.
    """
    import pandas as pd

    from xairt.models.saving import save_model

    data, tables, predicted = data_of(case), [], {}
    for engine, selection in _selections(case, data):
        tables.append(_rounds(selection, engine, data.sd))
        if engine != SCIKIT_LEARN:
            predicted.setdefault(NETWORK, selection.rounds[0].test_prediction)
            save_model(selection.model, case.write(model_file(selection.method)))
        predicted[selection.method] = selection.rounds[selection.chosen].test_prediction
        log.info("case %s: %s selected %s", case.name, selection.method, ", ".join(selection.selected))
    with atomic_write(case.write(ROUNDS)) as unfinished:
        pd.concat(tables).to_csv(unfinished, index=False, lineterminator="\n")
    write_dataset(
        _predictions(data, predicted), case.write(PREDICTIONS), title="Predictions of the test part"
    )


def _selections(case: Case, data: Data) -> Iterator[tuple[str, Selection]]:
    """Yield the engine and the selection of each method and control; networks of the same features are trained once."""
    import tensorflow as tf

    from xairt.models import perceptrons
    from xairt.selection import eliminate, eliminate_by_sklearn

    config, y = case.config, (data.y - data.mean) / data.sd
    builder = partial(getattr(perceptrons, config.network), depth=config.depth, width=config.width)
    last = _last_count(case, data)
    common = {
        "split": data.split,
        "seed": config.seed,
        "fraction": config.fraction,
        "progress": case.progress,
    }
    options = {
        "epochs": config.epochs,
        "batch_size": config.batch_size or len(data.split.train),
        "optimizer": tf.keras.optimizers.legacy.Adam(config.learning_rate),
        "jit_compile": True,
    }
    frame, trained = _frame(data), {}
    for method in config.methods:
        chosen = {"method": method, "stop": config.stop, "n_features": last, "trained": trained}
        yield "native", eliminate(builder, frame, y, **chosen, **common, **options)
    for control in config.controls:
        yield SCIKIT_LEARN, eliminate_by_sklearn(control, frame, y, n_features=last, **common)


def _last_count(case: Case, data: Data) -> int:
    config = case.config
    if config.n_features is not None:
        return config.n_features
    return 1 if config.stop == "error" else len(data.relevant)


def _frame(data: Data) -> xr.DataArray:
    import xarray as xr

    return xr.DataArray(data.x, {"feature": list(data.names)}, ("sample", "feature"))


def _rounds(selection: Selection, engine: str, sd: float) -> pd.DataFrame:
    table = selection.table()
    table["ranking"] = table["ranking"].map(json.dumps)
    table[["selection_mae", "test_mae"]] *= sd
    table.insert(0, "engine", engine)
    table.insert(0, "label", selection.method)
    return table


def _predictions(data: Data, predicted: dict[str, NDArray[np.float64]]) -> xr.Dataset:
    import xarray as xr

    values = data.mean + data.sd * np.stack(list(predicted.values()))
    attributes = {"long_name": "prediction of the target"}
    coordinates = {"label": list(predicted), "sample": data.split.test}
    return xr.Dataset({"prediction": (("label", "sample"), values, attributes)}, coordinates)
