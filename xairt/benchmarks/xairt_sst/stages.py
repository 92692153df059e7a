"""The stages that train networks and name their attributions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xairt.benchmarks.xairt_sst.generation import DATA, n_tested
from xairt.benchmarks.xairt_sst.settings import PARTS, SHUFFLED
from xairt.data.files import atomic_write, read_array, write_dataset
from xairt.metrics.classification import BASELINES
from xairt.runs import Case, CaseSettings, Explanation

if TYPE_CHECKING:
    import tensorflow as tf
    import xarray as xr

    from xairt.training import Split, TrainFullyConnectedNN, TrainLR

SCORES, PREDICTIONS = "networks.csv", "predictions.nc"
NETWORK, LINEAR = "network", "linear"
MODELS = {NETWORK: "model.h5", LINEAR: "linear.h5"}
LINEAR_METHOD = "input_t_gradient"
"""Method that explains the linear model exactly: coefficient times anomaly."""


def train(case: Case) -> None:
    """Train the network and the linear control model, and tell their skill on each part of the samples.

    Persistence is a baseline where the lag is positive: elsewhere it knows the answer.

    Writes both as Keras models, ``history.csv``, ``predictions.nc`` (the class that each predicts for every
    sample, and the part that the sample belongs to) and ``networks.csv``.

    Parameters
    ----------
    case : Case

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the training.
    DataError
        If the training part lacks a class.
    """
    from xairt.models.saving import save_model

    data = case.read(DATA)
    x = read_array(data, "x")
    labels = read_array(data, "label").values
    now = read_array(data, "now").values if case.config.lag > 0 else None
    split = split_of(case.config, len(labels))
    network = _network(case.config).fit(x, labels, split, progress=case.progress)
    if network.history.interrupted:
        raise KeyboardInterrupt
    linear = _linear().fit(x, labels, split)
    save_model(network.model, case.write(MODELS[NETWORK]))
    save_model(_as_network(linear), case.write(MODELS[LINEAR]))
    network.history.to_csv(case.write("history.csv"))
    trained = {NETWORK: network, LINEAR: linear}
    rows = [row for name, model in trained.items() for row in _skill_rows(name, model, x, labels, now, split)]
    with atomic_write(case.write(SCORES)) as path:
        pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")
    predicted = {name: model.predict(x) for name, model in trained.items()}
    write_dataset(_predictions(predicted, split), case.write(PREDICTIONS), title="Predicted classes")


def split_of(config: CaseSettings, n: int) -> Split:
    """Return which samples train, validate and test.

    The blocked split leaves out as many samples between its parts as share dates with both.
    """
    from xairt import training

    n_test = n_tested(config, n)
    if config.split == SHUFFLED:
        return training.shuffled(n, config.validation_share, n_test=n_test, seed=config.seed)
    gap = training.gap_of(config.running_mean, config.lag)
    return training.blocked(n, config.validation_share, n_test=n_test, gap=gap)


def explain(case: Case) -> list[Explanation]:
    """Return the attributions of a case, of all its samples, each for its own larger output.

    Parameters
    ----------
    case : Case

    Returns
    -------
    list of Explanation
        Every method on the network, and the exact one on the linear model. An input rule ``Bounded`` without
        numbers gets those of the setting `input_bounds`, or the range of the data.
    """
    config = case.config
    bounds = config.input_bounds or _range_of(case.read(DATA))
    shared = {"samples": DATA, "seed": config.seed}
    found = [
        Explanation(bounded(method, bounds), label=method, model=MODELS[NETWORK], **shared)
        for method in config.methods
    ]
    label = f"{LINEAR}.{LINEAR_METHOD}"
    return [*found, Explanation(LINEAR_METHOD, label=label, model=MODELS[LINEAR], **shared)]


def bounded(method: str, bounds: tuple[float, float]) -> str:
    """Return a method with the numbers of its input rule, where that is Bounded and says none.

    Examples
    --------
    >>> bounded("lrp.z(input_layer_rule=Bounded)", (-3.0, 2.5))
    'lrp.z(input_layer_rule="Bounded(low=-3, high=2.5)", bias="canonical")'
    >>> bounded("gradient", (-3.0, 2.5))
    'gradient'
    """
    from xairt.attribution.registry import resolve

    rule = getattr(resolve(method).parameters, "input_layer_rule", None)
    if rule is None or rule.name != "Bounded" or {"low", "high"} & rule.model_fields_set:
        return method
    low, high = bounds
    return resolve(method).form.replace(str(rule), f"Bounded(low={low:.9g}, high={high:.9g})")


def _range_of(data: Path) -> tuple[float, float]:
    """Return the smallest and the largest anomaly, rounded outwards to a thousandth."""
    x = read_array(data, "x").values
    return float(np.floor(1e3 * np.nanmin(x)) / 1e3), float(np.ceil(1e3 * np.nanmax(x)) / 1e3)


def _network(config: CaseSettings) -> TrainFullyConnectedNN:
    """Return the publication's classifier."""
    import tensorflow as tf

    from xairt import training

    sizes = config.hidden_units
    penalties = [config.l2_first] + [config.l2] * len(sizes)
    activations = ["relu"] * len(sizes) + ["softmax"]
    layers = [
        {"size": size, "activation": activation, "l2": penalty, "bias_l2": penalty}
        for size, activation, penalty in zip((*sizes, 2), activations, penalties, strict=True)
    ]
    return training.TrainFullyConnectedNN(
        layers,
        optimizer=tf.keras.optimizers.legacy.SGD(config.learning_rate, momentum=0.9, nesterov=True),
        schedule=training.step_decay(config.learning_rate, every=config.halved_every),
        epochs=config.epochs,
        batch_size=config.batch_size,
        class_weight="inverse_frequency",
        seed=config.seed,
    )


def _linear() -> TrainLR:
    from xairt import training

    return training.TrainLR(class_weight="balanced")


def _as_network(linear: TrainLR) -> tf.keras.Model:
    """Return a logistic regression as a network of two outputs, of the same probabilities."""
    from xairt.models.architectures import dense_network

    coefficients, intercept = linear.coefficients / 2, linear.intercept / 2
    model = dense_network(len(coefficients), [{"size": 2, "activation": "softmax"}], seed=0)
    model.set_weights([np.stack([-coefficients, coefficients], axis=1), np.array([-intercept, intercept])])
    return model


def _skill_rows(
    name: str,
    model: TrainFullyConnectedNN | TrainLR,
    x: xr.DataArray,
    labels: NDArray[np.integer],
    now: NDArray[np.integer] | None,
    split: Split,
) -> list[dict[str, Any]]:
    """Return the skill on each part, the lead over the baselines, and by how much validation overestimates."""
    label = NETWORK if name == NETWORK else f"{NETWORK}.{name}"
    found, accuracies = [], {}
    for part in PARTS:
        rows = getattr(split, part)
        scores = model.scores(x.isel(sample=rows), labels[rows], None if now is None else now[rows])
        n = int(scores.pop("n"))
        named = {f"{metric}.{part}": value for metric, value in scores.items()}
        accuracies[part] = scores["accuracy"]
        if part == PARTS[-1]:
            named["validation_minus_test"] = accuracies["validation"] - accuracies["test"]
            named["gain"] = scores["accuracy"] - max(scores[name] for name in BASELINES if name in scores)
        found += [{"label": label, "n": n, "metric": metric, "value": v} for metric, v in named.items()]
    return found


def _predictions(predicted: dict[str, NDArray[np.integer]], split: Split) -> xr.Dataset:
    import xarray as xr

    n = len(predicted[NETWORK])
    part = np.full(n, "none", dtype="<U10")
    for name in PARTS:
        part[getattr(split, name)] = name
    classes = {"long_name": "predicted class", "flag_values": np.array([0, 1], np.int8)}
    variables = {name: ("sample", values.astype(np.int8), classes) for name, values in predicted.items()}
    return xr.Dataset(variables | {"part": ("sample", part)})
