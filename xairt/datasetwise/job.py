"""A question to a data set made ready: model, samples, baselines and compiled functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
import tensorflow as tf

from xairt._version import __version__
from xairt.attribution import recent
from xairt.attribution.blocks import Setting, compiled
from xairt.attribution.explainer import DTYPES, identified
from xairt.attribution.functions import TFFunction, network_of_function
from xairt.attribution.network import Network
from xairt.attribution.parameters import Parameters, as_array, one_line
from xairt.attribution.targets import Target, code_digest
from xairt.conventions import check
from xairt.datasetwise import kernels
from xairt.datasetwise.baselines import Baselines, read_baselines
from xairt.datasetwise.parameters import CONVENTIONS, NAIVE, PARAMETERS
from xairt.datasetwise.reading import Data, feature_shape, opened, read_data, rebatched
from xairt.errors import DataError, MethodError, ModelError, suggest
from xairt.grid import Grid
from xairt.keys import noise_keys

NAIVE_ROWS = 1024
"""Samples at once where no model is computed."""

Outputs = None | int | Sequence[int]
"""All outputs, one of them, or several."""


class Options(TypedDict, total=False):
    """Options that all methods share; see `xairt.datasetwise.attribute`."""

    outputs: Outputs
    baseline: Any
    grid: Grid | None
    dtype: str
    batch_size: int | None
    seed: int
    progress: bool


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that the computation of some methods on a data set needs.

    Attributes
    ----------
    methods : dict
        Parameters of each method, by name.
    network : Network or None
        The model; None where all methods are naive.
    data : Data
        Samples and truths.
    outputs : list of int
        The outputs that are explained.
    single : bool
        Whether the result is of one output and has no dimension of them.
    baselines : Baselines or None
        None where all methods are naive.
    dtype, convention : str
        Precision of the model, and the convention that those methods follow that have it.
    seed : int
        Of drawn baselines and of random orders.
    batch_size : int or None
        Samples at once; None chooses by the model.
    model_sha256 : str or None
        What identifies the model.
    """

    methods: dict[str, Parameters]
    network: Network | None
    data: Data
    outputs: list[int]
    single: bool
    baselines: Baselines | None
    dtype: str
    convention: str | None
    seed: int
    batch_size: int | None
    model_sha256: str | None

    @cached_property
    def setting(self) -> Setting:
        """The model as the gradient methods take it."""
        network = self.network
        network.outputs(self.dtype)  # weights become tensors here, outside of compiled functions
        cells = np.indices(network.input_shape)
        rows = kernels.rows_that_fit(network, self.dtype)
        target = Target.of(0, network)
        return Setting(network, target, self.baselines.pool[:1], self.dtype, cells, None, rows)

    @cached_property
    def block_size(self) -> int:
        """Samples computed at once."""
        if self.network is None:
            return self.batch_size or NAIVE_ROWS
        found = self.batch_size or kernels.samples_per_block(self.setting, self.baselines.per_sample)
        return min(found, self.data.n or found)

    def blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        """Read the samples: index of the first, samples and truths of each block."""
        return rebatched(self.data.parts(), self.block_size)

    def compile(self, function: Any, *specs: tf.TensorSpec) -> Any:
        """Return a kernel compiled for blocks of this job; `specs` are of what follows samples and baselines."""
        shape, drawn = self.data.shape, self.baselines
        groups = 1 if drawn.drawn is None else self.block_size
        x = tf.TensorSpec((self.block_size, *shape), self.dtype)
        starts = tf.TensorSpec((groups, drawn.per_sample, *shape), self.dtype)
        return compiled(function, x, starts, *specs, jit=self.setting.compiles_by_xla)

    def identity(self, method: str) -> dict[str, Any]:
        """Return everything that the result of a method depends on besides the data."""
        follows = self.convention in CONVENTIONS.get(method, ())
        found = {
            "method": method,
            "parameters": self.methods[method].model_dump(mode="json"),
            "outputs": self.outputs,
            "convention": self.convention if follows else None,
            "xairt": __version__,
            "numpy": np.__version__,
        }
        if method in NAIVE:
            return found
        return found | {
            "baseline": self.baselines.description,
            "engine": "native",
            "dtype": self.dtype,
            "seed": self.seed,
            "model_sha256": self.model_sha256,
            "tensorflow": tf.__version__,
        }


def prepare(
    model: tf.keras.Model | TFFunction | None,
    x: Any,
    y: Any,
    methods: dict[str, dict[str, Any]],
    *,
    outputs: Outputs = None,
    baseline: Any = None,
    grid: Grid | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
    seed: int = 0,
    convention: str | None = None,
) -> Job:
    """Check what is asked for, and make it ready.

    Parameters
    ----------
    model, x, y, outputs, baseline, grid, dtype, batch_size, seed, convention
        As of `xairt.datasetwise.attribute`.
    methods : dict
        The given parameters of each method, by name.

    Raises
    ------
    DataError, MethodError, ModelError, UnsupportedLayerError
        As `xairt.datasetwise.attribute`.
    """
    chosen = {name: _checked_parameters(name, given) for name, given in methods.items()}
    _check_options(tuple(chosen), model, dtype, batch_size, convention)
    noise_keys(seed, None, 0)
    looked_at, pairs = opened(x, y)
    network, sha256 = (None, None) if set(chosen) <= NAIVE else network_of(model, looked_at, grid)
    n_outputs = None if network is None else int(np.prod(_output_shape(network), dtype=int))
    shape = feature_shape(looked_at, grid) if network is None else network.input_shape
    data = read_data(looked_at, y, pairs, shape, n_outputs, grid, dtype)
    numbers, single = _outputs_of(outputs, data.n_truths if network is None else n_outputs)
    baselines = None if network is None else read_baselines(baseline, data, int(seed))
    return Job(
        *(chosen, network, data, numbers, single, baselines),
        *(dtype, convention, int(seed), batch_size, sha256),
    )


def _checked_parameters(method: str, given: dict[str, Any]) -> Parameters:
    """Return the parameters of a method; `MethodError` where one without a default is not given."""
    needed = {n: field for n, field in PARAMETERS[method].model_fields.items() if field.is_required()}
    if missing := [name for name in needed if name not in given]:
        asked = ", ".join(f"{name}= ({needed[name].description})" for name in missing)
        raise MethodError(f"{method}: parameters {' and '.join(missing)} are missing: give {asked}")
    return PARAMETERS[method].checked(method, given)


def network_of(model: tf.keras.Model | TFFunction | None, x: Any, grid: Grid | None) -> tuple[Network, str]:
    """Return a model or a TensorFlow function as a network of one input, and what identifies it.

    Raises
    ------
    ModelError
        If it is neither.
    MethodError
        If it has several inputs.
    """
    if callable(model) and not isinstance(model, tf.keras.Model):
        name = getattr(model, "__qualname__", type(model).__name__)
        return network_of_function(model, feature_shape(x, grid)), f"function {name} {code_digest(model)}"
    if not isinstance(model, tf.keras.Model):
        raise ModelError(
            f"{type(model).__name__} is no model: give a tf.keras.Model or a TensorFlow function of (n, ...)"
        )
    sha256 = identified(model)
    network = recent.network(model, sha256)
    network.require_one_input("xairt.datasetwise", "wrap it into a function of one array")
    return network, sha256


def _check_options(
    methods: tuple[str, ...], model: Any, dtype: str, batch_size: int | None, convention: str | None
) -> None:
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise MethodError(f"unknown dtype '{dtype}': use {' or '.join(DTYPES)}")
    is_count = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if batch_size is not None and (not is_count or batch_size < 1):
        raise MethodError(f"batch_size {batch_size!r} is not usable: give a positive integer")
    check(convention, tuple(dict.fromkeys(c for m in methods for c in CONVENTIONS.get(m, ()))))
    if model is None and (needing := [m for m in methods if m not in NAIVE]):
        raise ModelError(f"{', '.join(needing)}: no model: give a tf.keras.Model or a TensorFlow function")


def check_methods(methods: str | Sequence[str]) -> tuple[str, ...]:
    """Return names of methods, each once.

    Raises
    ------
    MethodError
        If none is given, or one is no name, unknown or given twice.
    """
    names = (methods,) if isinstance(methods, str) or not isinstance(methods, Iterable) else tuple(methods)
    if not all(isinstance(name, str) for name in names):
        raise MethodError(f"methods {one_line(methods)} are no names: give some of {', '.join(PARAMETERS)}")
    if not names:
        raise MethodError(f"no method given: name some of {', '.join(PARAMETERS)}")
    for name in names:
        if name not in PARAMETERS:
            raise MethodError(
                f"unknown dataset-wise method '{name}': use {', '.join(PARAMETERS)}{suggest(name, PARAMETERS)}"
            )
    if len(set(names)) < len(names):
        raise MethodError(f"methods {one_line(names)} name one twice: name each once")
    return names


def _output_shape(network: Network) -> tuple[int, ...]:
    if len(network.output_shapes) > 1 or len(network.output_shapes[0]) > 1:
        shapes = " and ".join(map(str, network.output_shapes))
        raise ModelError(
            f"model '{network.name}' has outputs of shape {shapes}: wrap it into a function that gives (samples, outputs)"
        )
    return network.output_shapes[0]


def _outputs_of(outputs: Outputs, n: int) -> tuple[list[int], bool]:
    """Return the explained outputs, and whether the result is of one alone."""
    if outputs is None:
        return list(range(n)), n == 1
    numbers = as_array(outputs, "outputs")
    if numbers.dtype.kind not in "iu" or numbers.ndim > 1 or not numbers.size:
        raise DataError(f"outputs {one_line(outputs)}: give the index of an output, or several indices")
    found = numbers.reshape(-1).tolist()
    for index in found:
        if not 0 <= index < n:
            raise DataError(f"outputs: {index} is out of range: there are {n} output(s), 0 to {n - 1}")
    if len(set(found)) < len(found):
        raise DataError(f"outputs {one_line(outputs)} name one twice: name each once")
    return found, numbers.ndim == 0
