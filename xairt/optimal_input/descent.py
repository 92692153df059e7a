"""Search for the input that makes a network predict what is asked for, in one compiled loop."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
import xarray as xr
from numpy.typing import NDArray

from xairt._version import __version__
from xairt.attribution.inputs import Samples, describe_baseline
from xairt.attribution.network import Network
from xairt.attribution.parameters import one_line
from xairt.attribution.recent import network as converted
from xairt.errors import DataError, DivergedError
from xairt.models.loading import fingerprint
from xairt.optimal_input.layout import AnyGrid
from xairt.optimal_input.objective import Goal, Objective
from xairt.optimal_input.regularisers import Regulariser, Space
from xairt.optimal_input.starts import START_DIM, Limits, labelled, one_field, read_starts
from xairt.progress import bar
from xairt.training.trainer import own_optimizer

log = logging.getLogger(__name__)

STEP = 0.9999
"""Learning rate of the plain gradient descent of the publication."""

RECORDS = 200
"""Most records of a history but for the start; the search comes back to Python that often."""

DTYPES = ("float32", "float64")

LONG_NAMES = {
    "optimal_input": "optimal input",
    "starting_input": "start of the search",
    "spread": "standard deviation of the optimal input over the starts",
    "loss": "loss of the prediction",
    "penalty": "sum of the weighted regularisers",
    "prediction": "output that the loss looks at",
    "probability": "probability of the target",
}


def optimal_input(
    model: tf.keras.Model,
    target: Any = None,
    *,
    value: Any = None,
    loss: str | None = None,
    start: Any = "zeros",
    n_starts: int | None = None,
    optimizer: tf.keras.optimizers.Optimizer | str | None = None,
    learning_rate: float | None = None,
    iterations: int = 10_000,
    regularisers: Iterable[Regulariser] = (),
    bounds: tuple[Any, Any] | None = None,
    mask: Any = None,
    grid: AnyGrid | None = None,
    seed: int = 0,
    dtype: str = "float32",
    tolerance: float | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Search for the input that minimises the loss of the prediction plus the regularisers.

    All starts are descended at once in one compiled loop, each for itself. The model is not trained:
    weights and state stay as they are.

    Parameters
    ----------
    model : tf.keras.Model
        A network of one input.
    target : int, sequence of int, or callable, optional
        Index of the output (class) that the loss looks at; one for each start; or a function from the outputs
        to one number per start. May be left out where there is one output.
    value : float or sequence of float, optional
        What a regression output is to reach, or the probability that a sigmoid is to reach (1 by default);
        one for all, or one for each start. Outputs are taken before a final softmax or sigmoid.
    loss : {"crossentropy", "squared_error", "maximise", "minimise"}, optional
        Cross-entropy, from the logits, is the default where the model ends in softmax or sigmoid; else the
        squared distance from `value`. The last two take the output itself, which has no optimum where the
        network is linear: give bounds or a regulariser.
    start : {"zeros", "random"}, number or array_like
        Where to begin: zeros; standard normal numbers, keyed by seed and number of the start; one input or
        several (starts, *input_shape); or maps, with a grid or lat and lon coordinates. See `mean_of_correct`.
    n_starts : int, optional
        Number of random starts; else as many as start, target or value hold.
    optimizer : Keras optimizer or its name, optional
        Plain gradient descent by default. Of an object the settings are used, not the state. One that clips
        the norm of the gradient does so for all starts together.
    learning_rate : float, optional
        Step of the default (0.9999) or of an optimizer given by name (Keras's own).
    iterations : int
        Steps, >= 1.
    regularisers : sequence of Regulariser
        See `xairt.optimal_input`: L1, L2, TotalVariation, Laplacian, DistanceFromStart, Mahalanobis.
    bounds : (low, high), optional
        Numbers, or one input each; None for an open side. Every step is followed by the projection on them.
    mask : array_like of bool, optional
        One input or map, True where values may change; the others keep those of the start.
    grid : Grid or LLCGrid, optional
        Valid cells of maps; the result then comes as maps, and sphere-aware regularisers know the places. With an
        LLC grid it comes as (start, cell) with the places of the cells, and L1 and L2 may go by area.
    seed : int
        Of random starts, from 0 to 2**31 - 1.
    dtype : {"float32", "float64"}
        Precision; float64 for networks with a canonical graph.
    tolerance : float, optional
        End early once no start's objective falls by more than this part of its size between two records.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    xarray.Dataset
        ``optimal_input`` and ``starting_input`` (start, ...), ``loss``, ``penalty``, ``prediction`` (before a
        final softmax or sigmoid) and for cross-entropy ``probability`` (start,), the same with ``_history``
        (iteration, start) at up to 200 iterations, evenly spaced, and the last; for several starts with one
        goal ``spread``, the standard deviation over the starts. The attribute ``identities`` holds
        everything that the result depends on as JSON.

    Raises
    ------
    DataError
        If an argument does not fit the model or is out of range.
    DivergedError
        If the loss becomes NaN or infinite.
    MethodError
        If the model has several inputs.

    References
    ----------
    Toms, Barnes and Ebert-Uphoff (2020), doi:10.1029/2019MS002002, section 2.3; McGovern et al. (2019),
    doi:10.1175/BAMS-D-18-0195.1 (backward optimisation). Defaults: Gaikwad et al. (XAIRT).

    Examples
    --------
    >>> from xairt.models.architectures import linear
    >>> network = linear(2, seed=0)
    >>> network.set_weights([np.array([[1.0], [3.0]])])
    >>> found = optimal_input(network, value=10.0, learning_rate=0.01, iterations=100)
    >>> found.optimal_input.values.round(3).tolist(), float(found.prediction[0].round(3))
    ([[1.0, 3.0]], 10.0)
    """
    _check_numbers(iterations, n_starts, tolerance, dtype)
    sha256 = fingerprint(model)
    network = converted(model, sha256)
    network.require_one_input("optimal_input", "combine them in a model of one input")
    goal = Goal.of(network, target, value, loss)
    sizes = {"n_starts": n_starts or 1, "value": np.size(goal.value), "target": _size(goal.target.indices)}
    samples = read_starts(start, sizes, network, grid, dtype, seed)
    places = samples.grid or grid
    limits = Limits.of(bounds, mask, network.input_shape, places, dtype)
    samples = replace(samples, values=_inside(samples.values, limits, is_random=_named(start) == "random"))
    terms, space = _terms(regularisers), Space(network.input_shape, places, samples.values, dtype)
    objective = Objective(network.outputs(dtype), goal, [(term.weight, term.bind(space)) for term in terms])
    by_xla = network.compiles_by_xla and goal.target.kind != "callable"
    by_xla = by_xla and all(term.compiles_by_xla for term in terms)
    descent = _Descent(objective, space.start, _optimizer(optimizer, learning_rate), limits, by_xla)
    identity = goal.identity() | {
        "start": _named(start) or describe_baseline(start),
        "n_starts": len(space.start),
        "optimizer": descent.optimizer_settings(),
        "iterations": iterations,
        "tolerance": tolerance,
        "regularisers": [term.identity() for term in terms],
        "bounds": None if bounds is None else [describe_baseline(side) for side in bounds],
        "mask": describe_baseline(mask),
        "dtype": dtype,
        "seed": int(seed),
        "model_sha256": sha256,
        "xairt": __version__,
    }
    history = descent.run(iterations, tolerance, progress)
    found = descent.x.numpy()
    _tell_unmoved(space.start, found)
    return _dataset(found, history, samples, identity, network)


def _named(start: Any) -> str | None:
    return start if isinstance(start, str) else None


def _check_numbers(iterations: int, n_starts: int | None, tolerance: float | None, dtype: str) -> None:
    for name, number in (("iterations", iterations), ("n_starts", 1 if n_starts is None else n_starts)):
        if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < 1:
            raise DataError(f"{name}={one_line(number)}: out of range; give a whole number from 1")
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise DataError(f"tolerance={tolerance!r}: out of range; give a positive number, or None")
    if dtype not in DTYPES:
        raise DataError(f"dtype {one_line(dtype)} is unknown; choose {' or '.join(DTYPES)}")


def _terms(regularisers: Iterable[Regulariser]) -> tuple[Regulariser, ...]:
    remedy = "give a list such as [xairt.optimal_input.L2(0.01)]"
    if isinstance(regularisers, Regulariser | str) or not isinstance(regularisers, Iterable):
        raise DataError(f"regularisers {one_line(regularisers)}: no list of them; {remedy}")
    terms = tuple(regularisers)
    for term in terms:
        if not isinstance(term, Regulariser):
            raise DataError(f"regularisers: {one_line(term)} is none; {remedy}")
    return terms


def _size(array: NDArray[Any] | None) -> int:
    return 1 if array is None else array.size


def _inside(values: NDArray[Any], limits: Limits, is_random: bool) -> NDArray[Any]:
    """Return the starts; random ones are moved into the bounds, given ones have to lie there."""
    clipped = limits.clipped(values)
    if not is_random and (outside := int((clipped != values).sum())):
        raise DataError(f"start: {outside} value(s) lie outside of the bounds; move them inside")
    return clipped


def _optimizer(optimizer: Any, learning_rate: float | None) -> Any:
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise DataError(f"learning_rate={learning_rate!r}: out of range; give a positive number")
    if optimizer is None:
        return tf.keras.optimizers.legacy.SGD(STEP if learning_rate is None else learning_rate)
    if not isinstance(optimizer, str):
        if learning_rate is not None:
            raise DataError("learning_rate: the optimizer has its own; give one of them")
        return own_optimizer(optimizer)
    try:
        made = own_optimizer(optimizer)
    except ValueError:
        raise DataError(
            f"optimizer {one_line(optimizer)} is unknown to Keras; e.g. adam, sgd, rmsprop"
        ) from None
    if learning_rate is not None:
        made.learning_rate = learning_rate
    return made


def _tell_unmoved(first: NDArray[Any], found: NDArray[Any]) -> None:
    """Warn of starts without a slope, such as zeros for ReLU units without bias."""
    still = np.flatnonzero([np.array_equal(a, b) for a, b in zip(first, found, strict=True)])
    if still.size:
        log.warning(
            "optimal_input: start %s has not moved: the loss has no slope there; give another, e.g. start='random'",
            ", ".join(map(str, still)),
        )


class _Descent:
    """The compiled functions of one search, and where it has come."""

    def __init__(
        self,
        objective: Objective,
        first: NDArray[Any],
        optimizer: Any,
        limits: Limits,
        by_xla: bool,
    ) -> None:
        self.x = tf.Variable(first)
        self._objective, self._optimizer = objective, optimizer
        self._project = limits.projection(tf.constant(first))
        if hasattr(optimizer, "build"):
            optimizer.build([self.x])
        self._advance = tf.function(self._steps, jit_compile=by_xla or None)
        self._columns = tf.function(lambda: objective.columns(self.x))

    def _steps(self, count: tf.Tensor) -> None:
        for _ in tf.range(count):
            with tf.GradientTape() as tape:
                total = self._objective.total(self.x)
            self._optimizer.apply_gradients([(tape.gradient(total, self.x), self.x)])
            if self._project is not None:
                self.x.assign(self._project(self.x))

    def optimizer_settings(self) -> dict[str, Any]:
        """Return name and parameters of the optimizer."""
        return json.loads(json.dumps(self._optimizer.get_config(), default=str))

    def run(self, iterations: int, tolerance: float | None, progress: bool) -> dict[str, NDArray[Any]]:
        """Descend; return the history, which begins at the start and ends at the last iteration."""
        every = math.ceil(iterations / RECORDS)
        records = [self._record(0)]
        with bar(math.ceil(iterations / every), "optimal input", progress) as advance:
            for done in range(0, iterations, every):
                count = min(every, iterations - done)
                self._advance(tf.constant(count))
                records.append(self._record(done + count))
                advance(f"loss {records[-1]['loss'].mean():.4g}")
                if tolerance is not None and _settled(*records[-2:], tolerance):
                    break
        return {name: np.stack([record[name] for record in records]) for name in records[0]}

    def _record(self, iteration: int) -> dict[str, Any]:
        record = {name: column.numpy() for name, column in self._columns().items()}
        if not np.isfinite(record["loss"] + record["penalty"]).all():
            remedy = "lower the learning rate, or give bounds or a regulariser" if iteration else "scale it"
            what = f"by iteration {iteration}" if iteration else "of the start"
            raise DivergedError(f"optimal_input: the loss {what} is not finite: {remedy}")
        return {"iteration": np.asarray(iteration)} | record


def _settled(before: dict[str, Any], after: dict[str, Any], tolerance: float) -> bool:
    old, new = (record["loss"] + record["penalty"] for record in (before, after))
    return bool((old - new <= tolerance * np.abs(old)).all())


def _dataset(
    values: NDArray[Any],
    history: dict[str, NDArray[Any]],
    samples: Samples,
    identity: dict[str, Any],
    network: Network,
) -> xr.Dataset:
    fields = {"optimal_input": labelled(samples, values), "starting_input": labelled(samples, samples.values)}
    if len(values) > 1 and all(np.ndim(identity[name]) == 0 for name in ("target", "value")):
        fields["spread"] = one_field(samples, values.std(axis=0))
    columns: dict[str, tuple[Sequence[str], NDArray[Any]]] = {}
    for name, series in history.items():
        if name != "iteration":
            columns[name] = (START_DIM,), series[-1]
            columns[f"{name}_history"] = ("iteration", START_DIM), series
    found = xr.Dataset(fields | columns, coords={"iteration": history["iteration"]})
    for name, variable in found.data_vars.items():
        known = LONG_NAMES[str(name).removesuffix("_history")]
        variable.attrs["long_name"] = known
        if network.final_activation and str(name).startswith("prediction"):
            variable.attrs["long_name"] += f", before the final {network.final_activation}"
    found.attrs = {
        "method": "optimal_input",
        "identities": json.dumps({"optimal_input": identity}, sort_keys=True),
    }
    return found
