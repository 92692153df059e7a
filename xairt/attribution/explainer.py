"""Explainers: one method bound to one model, compiled once and reused."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
import xarray as xr

from xairt import conventions
from xairt._version import __version__
from xairt.attribution import inputs, result
from xairt.attribution.blocks import Setting, rows_at_once
from xairt.attribution.engines import PEERS
from xairt.attribution.groups import with_sample_groups
from xairt.attribution.native import NativeEngine
from xairt.attribution.network import Network
from xairt.attribution.registry import MethodCall, resolve
from xairt.attribution.targets import Target, TargetLike
from xairt.errors import DataError, MethodError, ModelError, suggest
from xairt.grid import Grid
from xairt.models.loading import fingerprint
from xairt.progress import track

ENGINES = ("native", *PEERS)
DTYPES = ("float32", "float64")
CACHED_EXPLAINERS = 8
CACHED_NETWORKS = 2


class Explainer:
    """A method bound to a model; call it with samples. Made by `explainer`.

    The explainer holds a copy of the model's weights from the moment it was made (a model without a
    canonical graph is used as it is).
    """

    def __init__(
        self,
        model: tf.keras.Model,
        call: MethodCall,
        *,
        target: TargetLike,
        baseline: Any,
        engine: str,
        dtype: str,
        batch_size: int | None,
        grid: Grid | None,
        model_sha256: str,
    ) -> None:
        self.call, self.dtype, self.grid, self._engine_name = call, dtype, grid, engine
        self.network = _network(model, model_sha256)
        self.target = Target.of(target, self.network)
        if grid is not None and len(self.network.input_shape) == 1:
            inputs.check_grid(grid, self.network.input_shape)
        self._given_baseline = baseline
        self.batch_size = batch_size
        self._engine = self._engine_grid = None
        needs_map = inputs.is_labelled_map(baseline) or self._groups_are_a_map()
        self._needs_grid = call.method.uses_cells or needs_map
        if grid is not None or not needs_map:
            self._bind(grid)
        self._identity = {
            "method": call.method.name,
            "parameters": call.parameters.model_dump(mode="json"),
            "form": call.form,
            "target": self.target.description,
            "baseline": inputs.describe_baseline(baseline) if call.method.baseline else None,
            "engine": engine,
            "convention": call.convention,
            "dtype": dtype,
            "model_sha256": model_sha256,
            "xairt": __version__,
        }

    @property
    def label(self) -> str:
        """Short name of the method, as the user wrote it."""
        return self.call.label

    def _groups_are_a_map(self) -> bool:
        groups = getattr(self.call.parameters, "groups", None)
        return groups is not None and len(groups.shape) == 2 and len(self.network.input_shape) == 1

    def _bind(self, grid: Grid | None) -> None:
        """Make the engine; patches that move over maps, and maps as baseline or groups, need one per grid."""
        if self._engine is not None and (not self._needs_grid or grid == self._engine_grid):
            return
        shape = self.network.input_shape
        baseline = inputs.read_baseline(self._given_baseline, shape, grid, self.dtype)
        cells = _cells(shape, grid)
        rows = rows_at_once(self.network, self.dtype)
        setting = Setting(self.network, self.target, baseline, self.dtype, cells, self.call.convention, rows)
        make = NativeEngine if self._engine_name == "native" else PEERS[self._engine_name].make
        call = replace(self.call, parameters=with_sample_groups(self.call.parameters, shape, grid))
        self._engine, self._engine_grid = make(setting, call, self.batch_size), grid

    def __call__(
        self, x: Any, *, seed: int = 0, progress: bool = False, sample_index: Sequence[int] | None = None
    ) -> xr.Dataset:
        """Explain samples.

        Parameters
        ----------
        x : array_like or xarray.DataArray
            (n, *input shape); or maps (n, lat, lon) with NaN on land, with a grid or lat/lon coordinates.
        seed : int
            Of the noise; each sample's noise depends on (seed, sample index) alone.
        progress : bool
            Show a progress bar on a terminal.
        sample_index : sequence of int, optional
            Index of each sample that keys its noise; 0 ... n-1 by default. Give it when x is a part
            of a larger array.

        Returns
        -------
        xarray.Dataset
            ``attribution`` shaped like x, ``prediction``, ``target`` and ``completeness_gap``
            (n,), and for LRP the ledger totals.

        Raises
        ------
        DataError
            If x does not fit the model or holds values that are not finite.
        """
        samples = inputs.read_samples(x, self.network.input_shape, self.grid, self.dtype)
        self._bind(samples.grid)
        parts = list(
            track(
                self._blocks(samples.values, seed, sample_index),
                self._n_blocks(samples),
                self.label,
                progress,
            )
        )
        computed = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        identity = self._identity | {"seed": int(seed)}
        return result.to_dataset(computed, samples, self.label, identity, self.network.final_activation)

    def _block(self, n: int) -> int:
        """Return the samples per block for n samples: small blocks where a large one would be mostly padding."""
        few, many = self._engine.sizes
        return many if 4 * n >= many else few

    def _n_blocks(self, samples: inputs.Samples) -> int:
        return -(-len(samples.values) // self._block(len(samples.values)))

    def _blocks(self, values: np.ndarray, seed: int, sample_index: Sequence[int] | None):
        """Explain block after block; the last one is padded with copies of its last sample."""
        for x, indices, keys, used in self._padded(values, seed, sample_index):
            yield {name: v[:used] for name, v in self._engine(x, indices, keys).items()}

    def _padded(self, values: np.ndarray, seed: int, sample_index: Sequence[int] | None):
        n = len(values)
        size = self._block(n)
        indices = self.target.per_sample(n)
        keys = np.stack([np.full(n, _int32(seed)), _sample_keys(sample_index, n)], axis=1).astype(np.int32)
        for start in range(0, n, size):
            whole = start + size <= n
            rows = slice(start, start + size) if whole else np.minimum(np.arange(start, start + size), n - 1)
            yield values[rows], indices[rows], keys[rows], min(size, n - start)

    def ledger(self, x: Any) -> xr.Dataset:
        """Return LRP's ledger of every layer.

        Parameters
        ----------
        x : array_like or xarray.DataArray
            Samples as for calling the explainer.

        Returns
        -------
        xarray.Dataset
            ``relevance_in``, ``relevance_out``, ``absorbed_by_bias``, ``lost_to_stabiliser`` and
            ``lost_to_empty_pot`` with dimensions (layer, sample), from the last layer to the first.
            Relevance in = out + absorbed + lost.

        Raises
        ------
        MethodError
            If the method is not LRP, or the engine is not native.
        """
        if self._engine_name != "native":
            raise MethodError(
                f"{self.label} with engine '{self._engine_name}' keeps no ledger: use engine='native'"
            )
        samples = inputs.read_samples(x, self.network.input_shape, self.grid, self.dtype)
        self._bind(samples.grid)
        parts = [
            (self._engine.layers(x, indices, keys), used)
            for x, indices, keys, used in self._padded(samples.values, 0, None)
        ]
        names = [name for name, _ in parts[0][0]]
        entries = parts[0][0][0][1]
        stacked = {
            entry: (
                ("layer", "sample"),
                np.concatenate(
                    [[layer[entry][:used] for _, layer in layers] for layers, used in parts], axis=1
                ),
            )
            for entry in entries
        }
        return xr.Dataset(stacked, coords={"layer": names})


_recent_networks: OrderedDict[str, Network] = OrderedDict()


def _network(model: tf.keras.Model, sha256: str) -> Network:
    """Convert a model, or return the conversion of the same weights and configuration made before.

    Only canonical graphs are shared: they are copies, while other networks compute with the live model.
    """
    if sha256 not in _recent_networks:
        network = Network.of(model)
        if network.graph is None:
            return network
        _recent_networks[sha256] = network
        if len(_recent_networks) > CACHED_NETWORKS:
            _recent_networks.popitem(last=False)
    _recent_networks.move_to_end(sha256)
    return _recent_networks[sha256]


def _cells(input_shape: tuple[int, ...], grid: Grid | None) -> np.ndarray:
    """Return the position of every feature along the axes that patches move over."""
    if grid is not None and len(input_shape) == 1:
        return np.argwhere(grid.mask).T.reshape(2, *input_shape)
    return np.indices(input_shape)


def _int32(seed: int) -> int:
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise DataError(f"seed {seed!r} is not usable: give an integer from 0 to 2**31 - 1")
    return int(seed)


def _sample_keys(sample_index: Sequence[int] | None, n: int) -> np.ndarray:
    if sample_index is None:
        return np.arange(n)
    keys = np.asarray(sample_index)
    if keys.shape != (n,) or keys.dtype.kind not in "iu":
        raise DataError(
            f"sample_index must hold one integer for each of the {n} samples, got shape {keys.shape}"
        )
    return keys


def explainer(
    model: tf.keras.Model,
    method: str,
    *,
    target: TargetLike = None,
    baseline: Any = None,
    engine: str | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
    grid: Grid | None = None,
    convention: str | None = None,
    **params: Any,
) -> Explainer:
    """Bind a method to a model; the result is compiled once and can be called with samples.

    Parameters
    ----------
    model : tf.keras.Model
        The network; it is not changed.
    method : str
        Name, alias or canonical form; see `methods`.
    target : None, int, sequence of int, or callable
        The explained scalar: the only output, else each sample's largest before a final softmax;
        an output's index; an index per sample; or a function from the outputs to one number per sample.
    baseline : None, number or array_like
        Reference of the methods that have one: zeros, a number, one sample, or a set (then the mean
        over the set).
    engine : {"native", "innvestigate", "lime"}, optional
        What computes the attribution; by default the native engine where it has the method, else the one that has.
    dtype : {"float32", "float64"}
        Precision of the native engine.
    batch_size : int, optional
        Samples computed at once; by default as many as fit the memory of a block.
    grid : Grid, optional
        Valid cells of maps, where the model takes vectors of them. Attributions then come as maps.
    convention : str, optional
        Registered convention to reproduce a publication with.
    **params
        The method's own parameters.

    Returns
    -------
    Explainer

    Raises
    ------
    MethodError
        If the method, a parameter, engine, convention or dtype is unknown, or a baseline is given to a
        method that uses none.
    UnsupportedLayerError
        If a layer prevents the method.
    DataError
        If target, baseline or grid do not fit the model.
    """
    engine = engine or resolve(method, params).method.engines[0]
    if (
        engine == conventions.INNVESTIGATE.name
        and convention is None
        and engine in resolve(method, params).method.conventions
    ):
        convention = engine  # that package follows its own convention, and the identity says so
    call = resolve(method, params, convention)
    _check_choices(call, baseline, engine, dtype, batch_size)
    return Explainer(
        model,
        call,
        target=target,
        baseline=baseline,
        engine=engine,
        dtype=dtype,
        batch_size=batch_size,
        grid=grid,
        model_sha256=_identified(model),
    )


def _identified(model: tf.keras.Model) -> str:
    if not isinstance(model, tf.keras.Model):
        raise ModelError(
            f"{type(model).__name__} is not a Keras model: give a tf.keras.Model, e.g. xairt.load_model(path)"
        )
    return fingerprint(model)


def _check_choices(call: MethodCall, baseline: Any, engine: str, dtype: str, batch_size: int | None) -> None:
    if engine not in ENGINES:
        raise MethodError(f"unknown engine '{engine}': use {' or '.join(ENGINES)}{suggest(engine, ENGINES)}")
    if engine not in call.method.engines:
        raise MethodError(f"{call.label} has no engine '{engine}': use engine='{call.method.engines[0]}'")
    if dtype not in DTYPES:
        raise MethodError(f"unknown dtype '{dtype}': use {' or '.join(DTYPES)}")
    if dtype != "float32" and engine != "native":
        raise MethodError(
            f"engine '{engine}' computes in float32 only: use engine='native' for dtype='{dtype}'"
        )
    if baseline is not None and not call.method.baseline:
        raise MethodError(f"{call.label} uses no baseline: leave it out")
    if batch_size is not None and (not isinstance(batch_size, int | np.integer) or batch_size < 1):
        raise MethodError(f"batch_size {batch_size!r} is not usable: give a positive integer")


_recent: OrderedDict[tuple, Explainer] = OrderedDict()


def attribute(
    model: tf.keras.Model,
    x: Any,
    method: str | Sequence[str],
    *,
    target: TargetLike = None,
    baseline: Any = None,
    engine: str | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
    grid: Grid | None = None,
    convention: str | None = None,
    seed: int = 0,
    progress: bool = False,
    sample_index: Sequence[int] | None = None,
    **params: Any,
) -> xr.Dataset:
    """Explain samples with one method or several; recent explainers are kept and reused.

    Parameters
    ----------
    model, target, engine, dtype, batch_size, grid, params
        As for `explainer`.
    x, seed, progress, sample_index
        As for calling an `Explainer`.
    method : str or sequence of str
        Several methods give a Dataset with a ``method`` dimension. Their own parameters then stand in
        their names: ``["gradient", "lrp.epsilon(epsilon=0.1)"]``.
    baseline, convention
        With several methods: for those that use a baseline, or have the convention.

    Returns
    -------
    xarray.Dataset
        See `Explainer`.

    Raises
    ------
    MethodError, UnsupportedLayerError, DataError
        As `explainer` and `Explainer`.
    """
    shared = {"target": target, "engine": engine, "dtype": dtype, "batch_size": batch_size, "grid": grid}
    calling = {"seed": seed, "progress": progress, "sample_index": sample_index}
    if isinstance(method, str):
        made = _recent_explainer(model, method, params, baseline=baseline, convention=convention, **shared)
        return made(x, **calling)
    if params:
        raise MethodError(
            f"parameter '{next(iter(params))}' with several methods: write it into the method, e.g. 'lrp.epsilon(epsilon=0.1)'"
        )
    names = _names(method)
    _check_used(names, baseline, convention)
    explainers = [
        _recent_explainer(model, name, {}, **_applicable(name, baseline, convention), **shared)
        for name in names
    ]
    return result.combine([e(x, **calling) for e in explainers])


def _names(method: Sequence[str]) -> list[str]:
    names = list(method) if isinstance(method, Sequence | np.ndarray) else []
    if not names:
        raise MethodError("no method given: name one or several, see `xairt methods`")
    return names


def _check_used(names: list[str], baseline: Any, convention: str | None) -> None:
    """Raise `MethodError` if a baseline or a convention is given that none of the methods has."""
    methods = [resolve(name).method for name in names]
    if baseline is not None and not any(m.baseline for m in methods):
        raise MethodError(f"{', '.join(names)}: no method here uses a baseline: leave it out")
    known = sorted({c for m in methods for c in m.conventions})
    if convention is not None and convention not in known:
        raise MethodError(
            f"{', '.join(names)}: no method here has the convention '{convention}': they have "
            f"{', '.join(known) or 'none'}{suggest(convention, known)}"
        )


def _applicable(name: str, baseline: Any, convention: str | None) -> dict[str, Any]:
    method = resolve(name).method
    return {
        "baseline": baseline if method.baseline else None,
        "convention": convention if convention in method.conventions else None,
    }


def _recent_explainer(
    model: tf.keras.Model, method: str, params: dict[str, Any], **options: Any
) -> Explainer:
    """Return a cached explainer of the same model (by weights and configuration) and options, or make one."""
    chosen = ((name, _hashable(value)) for name, value in sorted(options.items()))
    call = resolve(method, params, options["convention"])  # a parameter may name a file: what it holds counts
    # the object counts too: an explainer without a canonical graph computes with it, whatever becomes of it
    key = (_identified(model), weakref.ref(model), call.method.name, call.label, call.parameters, *chosen)
    if key in _recent:
        _recent.move_to_end(key)
        return _recent[key]
    made = explainer(model, method, **options, **params)
    _recent[key] = made
    if len(_recent) > CACHED_EXPLAINERS:
        _recent.popitem(last=False)
    return made


def _hashable(value: Any) -> Any:
    """Return what tells two values of an option apart."""
    if isinstance(value, str | int | float | bool | Grid | Callable | None):
        return type(value), value
    try:
        return (
            inputs.array_sha256(value)
            if isinstance(value, xr.DataArray | np.ndarray | Sequence)
            else repr(value)
        )
    except ValueError:  # rows of unequal length; refused when the explainer is made
        return repr(value)
