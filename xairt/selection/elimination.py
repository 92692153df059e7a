"""Recursive feature elimination with network attribution (RFEwNA)."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from xairt import training
from xairt.attribution.explainer import Explainer, explainer
from xairt.attribution.inputs import array_sha256
from xairt.attribution.parameters import as_array
from xairt.errors import DataError, ModelError, suggest
from xairt.models.perceptrons import mlp
from xairt.progress import track
from xairt.selection.features import Features, checked_features
from xairt.selection.results import Round, Selection, mean_absolute_error, ranked
from xairt.selection.schedule import FRACTION, feature_counts
from xairt.training.splits import Split

EPOCHS, LEARNING_RATE = 1000, 1e-3

PREDICTED_ROWS = 8192
"""Samples that are predicted at once."""

STOPS = ("count", "error")

Builder = Callable[[int, int], tf.keras.Model]
"""From the number of inputs and a seed to a new model (samples, inputs) -> (samples, 1)."""

FIT_OPTIONS = ("batch_size", "optimizer", "loss", "schedule", "jit_compile")
"""Options of `xairt.training.fit` that a user may set."""


class Fitted(NamedTuple):
    """A trained model of some features, its predictions and the seconds that its training took."""

    model: tf.keras.Model
    selection: NDArray[np.float64]
    test: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True, eq=False)
class _Job:
    """What all rounds of an elimination share."""

    data: Features
    builder: Builder
    seed: int
    fit: Mapping[str, Any]
    method: str
    baseline: NDArray[np.float64] | float | None
    trained: MutableMapping[Any, Fitted]
    identity: tuple[Any, ...]


def eliminate(
    builder: Builder | None,
    x: Any,
    y: ArrayLike,
    *,
    method: str = "saliency",
    stop: Literal["count", "error"] = "count",
    n_features: int | Sequence[int] | None = None,
    fraction: float = FRACTION,
    split: Split | None = None,
    seed: int = 0,
    baseline: ArrayLike | None = None,
    epochs: int = EPOCHS,
    trained: MutableMapping[Any, Any] | None = None,
    progress: bool = False,
    **fit_options: Any,
) -> Selection:
    """Select features by training networks on fewer and fewer of them.

    Each round trains a new network on the training part and ranks its features by the mean magnitude of their
    attribution on the selection part; the last of the ranking are dropped, of equally relevant ones the last
    columns. The test part is predicted in the end of a round, and decides nothing.

    Parameters
    ----------
    builder : callable or None
        ``builder(n_inputs, seed)`` returns a new model (samples, n_inputs) -> (samples, 1), compiled or not.
        None: `xairt.models.perceptrons.mlp`, three layers of 100 units with GELU.
    x : (samples, features) array, pandas.DataFrame or xarray.DataArray
        Finite numbers, as the network shall get them: nothing is standardised, see `Scaling`. Names of columns, or
        labels of the second dimension, are kept. x and y are left as they are.
    y : (samples,) or (samples, 1)
        Target.
    method : str
        Attribution method with its parameters, as of `xairt.explainer`.
    stop : {"count", "error"}
        "count": after the round of `n_features`. "error": when the error on the selection part is larger than in the
        round before, whose features are then selected; at the latest after the round of `n_features`.
    n_features : int or sequence of int, optional
        Features of the last round, or the counts of all rounds, from large to small. Needed by "count"; 1 by default
        of "error".
    fraction : float
        Share of the features that each round drops, see `feature_counts`.
    split : Split, optional
        Parts of the samples; its validation part ranks. By default `three_parts`.
    seed : int
        Of initial weights, the same in every round, and of methods that draw noise, anew in each. Results are
        repeatable.
    baseline : number or (features,), optional
        Of methods that have one; by default 0, which is the mean of standardised features. ``feature_ablation`` puts
        its parameter ``value`` in the place of a feature, 0 by default.
    epochs : int
        Of each training, see `xairt.training.fit`.
    trained : dict, optional
        Networks by data, features, seed and options, read and filled: give the same dict to eliminations by several
        methods, so that networks of the same features (those of all features, at least) are trained once.
    progress : bool
        Show a bar of the rounds on a terminal.
    **fit_options
        ``batch_size`` (by default the whole training part), ``optimizer`` (by default Adam with learning rate 1e-3),
        ``loss`` (by default "mse"), ``schedule`` and ``jit_compile`` of `xairt.training.fit`.

    Returns
    -------
    Selection

    Raises
    ------
    DataError
        If the data, the split or a number cannot be used.
    ModelError
        If the builder makes no such model.
    MethodError, UnsupportedLayerError
        If the method, or a parameter of it, is unknown or does not apply to the model; before any training.
    DivergedError
        If a training does not converge.
    KeyboardInterrupt
        If the user stopped a training.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150. The published program ranks on the test part.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> x = random.normal(size=(200, 5))
    >>> found = eliminate(None, x, x[:, 1] - x[:, 3], n_features=2, epochs=40)
    >>> found.selected, [len(one.positions) for one in found.rounds]
    (('x1', 'x3'), [5, 3, 2])
    """
    data = checked_features(x, y, split)
    counts = _counts(stop, len(data.names), n_features, fraction)
    fit = {"epochs": epochs} | _checked_options(fit_options)
    builder = builder or mlp
    arrays = (data.x, data.y, data.split.train, data.split.validation, data.split.test)
    identity = (builder, int(seed), *map(array_sha256, arrays), _described(fit))
    checked = _checked_baseline(baseline, len(data.names))
    job = _Job(data, builder, seed, fit, method, checked, {} if trained is None else trained, identity)
    _require_applicable(job, counts[-1])
    return _eliminated(job, counts, stop, progress)


def _eliminated(job: _Job, counts: Sequence[int], stop: str, progress: bool) -> Selection:
    """Carry out the rounds."""
    rounds: list[Round] = []
    models: list[tf.keras.Model] = []
    positions = np.arange(counts[0])
    for number, _ in enumerate(track(counts, len(counts), f"selecting by {job.method}", progress)):
        one, model = _round(job, positions)
        grew = bool(rounds) and one.selection_mae > rounds[-1].selection_mae
        rounds.append(one)
        models = [*models[-1:], model]  # an earlier one is not wanted any more
        if stop == "error" and grew:
            return Selection(job.method, job.data.names, tuple(rounds), number - 1, models[0])
        if number + 1 < len(counts):
            positions = np.sort(ranked(one)[: counts[number + 1]])
    return Selection(job.method, job.data.names, tuple(rounds), len(rounds) - 1, models[-1])


def _round(job: _Job, positions: NDArray[np.intp]) -> tuple[Round, tf.keras.Model]:
    data = job.data
    fitted = _fitted(job, positions)
    started = time.perf_counter()
    rows = data.part(data.split.validation, positions)
    found = _explainer(job, fitted.model, positions)(
        rows, seed=_seed_of(job.seed, len(positions)), quiet=True
    )
    relevance = np.abs(found["attribution"].values.astype(np.float64)).mean(axis=0)
    if not np.isfinite(relevance).all():
        raise DataError(f"{job.method}: attribution is not finite in the round of {len(positions)} features")
    seconds = fitted.seconds + time.perf_counter() - started
    errors = [
        mean_absolute_error(data.y[data.split.validation], fitted.selection),
        mean_absolute_error(data.y[data.split.test], fitted.test),
    ]
    return Round(positions, relevance, *errors, fitted.test, seconds), fitted.model


def _seed_of(seed: int, n_features: int) -> int:
    """Return the seed of a round's noise: with one for all rounds, a column would be drawn high in each of them."""
    return int(np.random.default_rng([seed, n_features]).integers(2**31))


def _fitted(job: _Job, positions: NDArray[np.intp]) -> Fitted:
    """Return the network of some features, trained unless it is there already."""
    key = (*job.identity, *positions.tolist())
    if key in job.trained:
        return job.trained[key]
    started = time.perf_counter()
    data, model = job.data, _built(job, len(positions))
    rows = data.split.train
    adam = tf.keras.optimizers.legacy.Adam(LEARNING_RATE)
    options = {"batch_size": len(rows), "optimizer": adam} | dict(job.fit)
    history = training.fit(model, data.part(rows, positions), data.y[rows], seed=job.seed, **options)
    if history.interrupted:
        raise KeyboardInterrupt
    seconds = time.perf_counter() - started
    outputs = [
        _predicted(model, data.part(part, positions)) for part in (data.split.validation, data.split.test)
    ]
    job.trained[key] = Fitted(model, *outputs, seconds)
    return job.trained[key]


def _predicted(model: tf.keras.Model, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Predict without compiling, which takes longer than to predict once."""
    starts = range(0, len(x), PREDICTED_ROWS)
    parts = [model(x[start : start + PREDICTED_ROWS], training=False).numpy()[:, 0] for start in starts]
    return np.concatenate([np.zeros(0), *parts])


def _built(job: _Job, n_inputs: int) -> tf.keras.Model:
    model = job.builder(n_inputs, job.seed)
    if not isinstance(model, tf.keras.Model):
        raise ModelError(
            f"builder({n_inputs}, {job.seed}): returned a {type(model).__name__}; return a tf.keras.Model"
        )
    shapes = [tuple(tensor.shape) for tensor in (*(model.inputs or ()), *(model.outputs or ()))]
    if shapes != [(None, n_inputs), (None, 1)]:
        raise ModelError(
            f"builder({n_inputs}, {job.seed}): its model has inputs and outputs of shapes {shapes}; return one from "
            f"(samples, {n_inputs}) to (samples, 1)"
        )
    return model


def _explainer(job: _Job, model: tf.keras.Model, positions: NDArray[np.intp]) -> Explainer:
    whole = job.baseline
    return explainer(model, job.method, baseline=whole[positions] if np.ndim(whole) else whole)


def _require_applicable(job: _Job, smallest: int) -> None:
    """Raise before any training if the builder or the method fails with all features, or with the fewest."""
    for count in dict.fromkeys((len(job.data.names), smallest)):
        _explainer(job, _built(job, count), np.arange(count))


def _counts(stop: str, total: int, n_features: int | Sequence[int] | None, fraction: float) -> list[int]:
    if stop not in STOPS:
        raise DataError(f"stop '{stop}': unknown{suggest(stop, STOPS)}; give {' or '.join(STOPS)}")
    if n_features is None and stop == "count":
        raise DataError("n_features: missing; say how many features stop='count' shall leave")
    return feature_counts(total, 1 if n_features is None else n_features, fraction)


def _checked_baseline(baseline: ArrayLike | None, total: int) -> NDArray[np.float64] | float | None:
    if baseline is None:
        return None
    values = as_array(baseline, "baseline", "float64")
    if values.shape not in ((), (total,)) or not np.isfinite(values).all():
        raise DataError(
            f"baseline of shape {values.shape}: give a finite number, or one for each of the {total} features"
        )
    return values if values.ndim else float(values)


def _checked_options(given: Mapping[str, Any]) -> dict[str, Any]:
    known = list(inspect.signature(eliminate).parameters)[3:-1] + list(FIT_OPTIONS)
    for name in given:
        if name not in FIT_OPTIONS:
            raise DataError(f"eliminate: no option '{name}'{suggest(name, known)}; it has {', '.join(known)}")
    return dict(given)


def _described(options: Mapping[str, Any]) -> str:
    """Return options as text; two optimizers of the same settings are the same."""
    told = {
        name: option.get_config() if hasattr(option, "get_config") else option
        for name, option in options.items()
    }
    return repr(sorted(told.items()))
