"""Explainers: one method bound to one model, compiled once and reused."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import xarray as xr

from xairt._version import __version__
from xairt.attribution import batching, inputs, recent, result, several_inputs, status
from xairt.attribution.blocks import Setting, rows_at_once
from xairt.attribution.engines import PEERS
from xairt.attribution.groups import with_sample_groups
from xairt.attribution.lrp.methods import rules_of
from xairt.attribution.native import NativeEngine
from xairt.attribution.registry import MethodCall, resolve
from xairt.attribution.targets import Target, TargetLike
from xairt.errors import MethodError, ModelError, suggest
from xairt.grid import Grid
from xairt.keys import noise_keys
from xairt.models.loading import fingerprint
from xairt.progress import track

if TYPE_CHECKING:
    import pandas as pd

ENGINES = ("native", *PEERS)
DTYPES = ("float32", "float64")
CACHED_EXPLAINERS = 32

GridLike = Grid | Mapping[str, Grid] | None
"""A grid, or with several inputs a grid by input name."""


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
        grid: GridLike,
        python: str | None,
        model_sha256: str,
    ) -> None:
        self.call, self.dtype, self._engine_name, self._python = call, dtype, engine, python
        self.network = recent.network(model, model_sha256)
        if engine != "native":
            self.network.require_one_input(f"engine '{engine}'", "use engine='native'")
        self.target = Target.of(target, self.network)
        if self.network.packed:
            grid = several_inputs.grids_of(grid, self.network)
            baseline = several_inputs.named_baseline(baseline, self.network)
        elif grid is not None and len(self.network.input_shape) == 1:
            inputs.check_grid(grid, self.network.input_shape)
        self.grid, self._given_baseline, self.batch_size = grid, baseline, batch_size
        self._engine = self._engine_grid = None
        is_map = several_inputs.holds_labelled_map(baseline) or self._groups_are_a_map()
        self._needs_grid = is_map or (call.method.uses_cells and not self.network.packed)
        if not is_map or (grid is not None and not self.network.packed):
            self._bind(grid)
        self._identity = self._described() | {"model_sha256": model_sha256, "xairt": __version__}

    def _described(self) -> dict[str, Any]:
        """Return what was asked for, as the identity of a result tells it."""
        call, baseline = self.call, self._given_baseline
        return {
            "method": call.method.name,
            "parameters": call.parameters.model_dump(mode="json"),
            "form": call.form,
            "target": self.target.description,
            "baseline": inputs.describe_baseline(baseline) if call.method.baseline else None,
            "engine": self._engine_name,
            "convention": call.convention,
            "dtype": self.dtype,
        }

    @property
    def label(self) -> str:
        """Short name of the method, as the user wrote it."""
        return self.call.label

    @property
    def block_size(self) -> int:
        """Largest number of samples computed at once; it depends on network, method and dtype alone."""
        return self._engine.sizes[-1]

    def _groups_are_a_map(self) -> bool:
        groups = getattr(self.call.parameters, "groups", None)
        return groups is not None and len(groups.shape) == 2 and len(self.network.input_shape) == 1

    def _bind(self, grid: Grid | several_inputs.Grids | None) -> None:
        """Make the engine; patches that move over maps, and maps as baseline or groups, need one per grid."""
        if self._engine is not None and (not self._needs_grid or grid == self._engine_grid):
            return
        if self.network.packed:
            baseline = several_inputs.read_packed_baseline(
                self._given_baseline, self.network, grid, self.dtype
            )
        else:
            baseline = inputs.read_baseline(self._given_baseline, self.network.input_shape, grid, self.dtype)
        cells = _cells(self.network.input_shape, None if self.network.packed else grid)
        rows = rows_at_once(self.network, self.dtype)
        setting = Setting(self.network, self.target, baseline, self.dtype, cells, self.call.convention, rows)
        parameters = with_sample_groups(
            self.call.parameters, self.network.input_shape, None if self.network.packed else grid
        )
        call = replace(self.call, parameters=parameters)
        if self._engine_name == "native":
            self._engine = NativeEngine(setting, call, self.batch_size)
        else:
            interpreter = {} if self._python is None else {"python": self._python}
            self._engine = PEERS[self._engine_name].make(setting, call, self.batch_size, **interpreter)
        self._engine_grid = grid

    def _samples(self, x: Any) -> inputs.Samples | several_inputs.PackedSamples:
        """Read samples and make the engine ready for them."""
        read = several_inputs.read_packed if self.network.packed else inputs.read_samples
        model = self.network if self.network.packed else self.network.input_shape
        samples = read(x, model, self.grid, self.dtype)
        self._bind(samples.grid)
        return samples

    def __call__(
        self,
        x: Any,
        *,
        seed: int = 0,
        progress: bool = False,
        sample_index: Sequence[int] | None = None,
        quiet: bool = False,
    ) -> xr.Dataset:
        """Explain samples.

        Parameters
        ----------
        x : array_like or xarray.DataArray; with several inputs a dict, sequence or xarray.Dataset
            (n, *input shape); or maps (n, lat, lon) with NaN on land, with a grid or lat/lon coordinates.
            For a model of several inputs such an array for each: by input name, or in the model's order.
        seed : int
            Of the noise; each sample's noise depends on (seed, sample index) alone.
        progress : bool
            Show a progress bar on a terminal.
        sample_index : sequence of int, optional
            Index of each sample that keys its noise; 0 ... n-1 by default. Give it when x is a part
            of a larger array.
        quiet : bool
            Keep the status report out of the log.

        Returns
        -------
        xarray.Dataset
            ``attribution`` shaped like x (with several inputs ``attribution_<input name>`` for each),
            ``prediction``, ``target``, ``completeness_gap`` and ``status`` (n,), and for LRP the ledger
            totals.

            ``status`` is 0 (ok) where |gap| is at most 0.1 % of what the sum is measured against, 1 (warn)
            up to 10 %, 2 (fail) beyond or where a value is not finite, 3 where nothing else is promised. It is
            measured against |f| for LRP, and else against |promised sum|, such as |f(x) - f(baseline)| for
            integrated gradients; where that is below 1e-6 of its largest in this call, against that
            largest. The attribute ``status_report`` (JSON, by method) holds the worst status, the reason
            and the numbers of samples; it warns too where float32 is too coarse, see `xairt.attribution.status`.

        Raises
        ------
        DataError
            If x does not fit the model or holds values that are not finite.
        """
        samples = self._samples(x)
        n = len(samples.values)
        probes = batching.probed(n, self._engine.sizes) if self._is_probed else 0
        n_blocks = batching.n_blocks(n, self._engine.sizes, probes)
        blocks = self._blocks(samples.values, noise_keys(seed, sample_index, n), probes)
        everything = batching.joined(track(blocks, n_blocks, self.label, progress), n + probes)
        computed = {name: values[:n] for name, values in everything.items()}
        sensitivity = batching.sensitivity(everything, n) if probes else None
        identity = self._identity | {"seed": int(seed)}
        note = self.network.final_activation
        found = result.to_dataset(computed, samples, self.label, identity, note, sensitivity)
        if not quiet:
            status.tell(found.attrs)
        return found

    @property
    def _is_probed(self) -> bool:
        """Whether rounding is measured: LRP alone divides by numbers that may come close to 0."""
        divides = hasattr(self.call.method.build, "with_ledger")
        return divides and self._engine_name == "native" and self.dtype == "float32"

    def _blocks(self, values: np.ndarray, keys: np.ndarray, probes: int) -> Iterator[dict[str, np.ndarray]]:
        """Explain block after block, without the rows of padding."""
        indices = self.target.per_sample(len(values))
        cuts = batching.blocks(values, indices, keys, self._engine.sizes, probes)
        if self._engine.threads > 1 and len(values) > self._engine.sizes[0]:
            return batching.in_order(self._block, cuts, self._engine.threads)
        return map(self._block, cuts)

    def _block(self, cut: batching.Cut) -> dict[str, np.ndarray]:
        *block, used = cut
        return {name: v[:used] for name, v in self._engine(*block).items()}

    def rules(self) -> pd.DataFrame:
        """Return which layer gets which LRP rule, from the input to the output.

        Returns
        -------
        pandas.DataFrame
            layer (name), kind, shape (of its output), rule (with parameters).

        Raises
        ------
        MethodError
            If the method puts no rules on layers.
        """
        return rules_of(
            self.network, self.label, self.call.method.build, self.call.parameters, self.call.convention
        )

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
        values = self._samples(x).values
        indices, keys = self.target.per_sample(len(values)), noise_keys(0, None, len(values))
        parts = [
            (self._engine.layers(block, chosen), used)
            for block, chosen, key, used in batching.blocks(values, indices, keys, self._engine.sizes)
        ]
        first, _ = parts[0]

        def column(entry: str) -> np.ndarray:
            blocks = [[layer[entry][:used] for _, layer in layers] for layers, used in parts]
            return np.concatenate(blocks, axis=1)

        stacked = {entry: (("layer", "sample"), column(entry)) for entry in first[0][1]}
        return xr.Dataset(stacked, coords={"layer": [name for name, _ in first]})


def _cells(input_shape: tuple[int, ...], grid: Grid | None) -> np.ndarray:
    """Return the position of every feature along the axes that patches move over."""
    if grid is not None and len(input_shape) == 1:
        return np.argwhere(grid.mask).T.reshape(2, *input_shape)
    return np.indices(input_shape)


def explainer(
    model: tf.keras.Model,
    method: str,
    *,
    target: TargetLike = None,
    baseline: Any = None,
    engine: str | None = None,
    dtype: str = "float32",
    batch_size: int | None = None,
    grid: GridLike = None,
    convention: str | None = None,
    python: str | None = None,
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
        over the set). With several inputs one of these for each: a dict by input name, or a sequence.
    engine : {"native", "innvestigate", "deeplift", "shap", "lime"}, optional
        What computes the attribution: xairt itself, or another package; by default xairt itself where it
        has the method, else the package that has.
    dtype : {"float32", "float64"}
        Precision of the native engine.
    batch_size : int, optional
        Samples computed at once; by default as many as fit the memory of a block.
    grid : Grid, optional
        Valid cells of maps, where the model takes vectors of them. Attributions then come as maps. With
        several inputs a dict by input name, or one Grid for every input of as many values.
    convention : str, optional
        Registered convention to reproduce a publication with.
    python : str, optional
        Interpreter that runs another engine's package; by default the one that XAIRT_LEGACY_PYTHON names,
        or this one.
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
    engine = resolve(method, params).method.engines[0] if engine is None else engine
    if convention is None and engine in resolve(method, params).method.conventions:
        convention = engine  # that package follows its own convention, and the identity says so
    call = resolve(method, params, convention)
    check_choices(call, baseline, engine, dtype, batch_size, python)
    return Explainer(
        model,
        call,
        target=target,
        baseline=baseline,
        engine=engine,
        dtype=dtype,
        batch_size=batch_size,
        grid=grid,
        python=python,
        model_sha256=identified(model),
    )


def identified(model: tf.keras.Model) -> str:
    """Return the hash of a Keras model's weights and configuration; `ModelError` if it is none."""
    if not isinstance(model, tf.keras.Model):
        raise ModelError(
            f"{type(model).__name__} is not a Keras model: give a tf.keras.Model, e.g. xairt.load_model(path)"
        )
    return fingerprint(model)


def check_choices(
    call: MethodCall, baseline: Any, engine: str, dtype: str, batch_size: int | None, python: str | None
) -> None:
    """Raise `MethodError` if an engine, baseline, dtype, block size or interpreter does not go with a method."""
    if engine not in ENGINES:
        raise MethodError(
            f"unknown engine '{engine}': use {', '.join(ENGINES[:-1])} or {ENGINES[-1]}{suggest(engine, ENGINES)}"
        )
    if engine not in call.method.engines:
        raise MethodError(f"{call.label} has no engine '{engine}': use engine='{call.method.engines[0]}'")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise MethodError(f"unknown dtype '{dtype}': use {' or '.join(DTYPES)}")
    if dtype != "float32" and engine != "native":
        raise MethodError(
            f"engine '{engine}' computes in float32 only: use engine='native' for dtype='{dtype}'"
        )
    if python is not None and (engine == "native" or not PEERS[engine].has_worker):
        raise MethodError(
            f"python= names the interpreter of another engine: leave it out with engine='{engine}'"
        )
    if baseline is not None and not call.method.baseline:
        raise MethodError(f"{call.label} uses no baseline: leave it out")
    _check_range(call, dtype)
    is_count = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if batch_size is not None and (not is_count or batch_size < 1):
        raise MethodError(f"batch_size {batch_size!r} is not usable: give a positive integer")
    if python is not None and not isinstance(python, str | os.PathLike):
        raise MethodError(f"python {python!r} is not usable: give the path of an interpreter")


def _check_range(call: MethodCall, dtype: str) -> None:
    """Raise `MethodError` if a parameter is a number that the precision does not have."""
    for name, value in call.parameters.numbers():
        if np.isfinite(value) and abs(value) > np.finfo(dtype).max:
            raise MethodError(
                f"{call.label}: {name} = {value} is beyond the range of {dtype}: give a smaller number"
            )


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
    grid: GridLike = None,
    convention: str | None = None,
    python: str | None = None,
    seed: int = 0,
    progress: bool = False,
    sample_index: Sequence[int] | None = None,
    **params: Any,
) -> xr.Dataset:
    """Explain samples with one method or several; recent explainers are kept and reused.

    Parameters
    ----------
    model, target, engine, dtype, batch_size, grid, python, params
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
    shared = {
        **{"target": target, "engine": engine, "dtype": dtype, "batch_size": batch_size},
        **{"grid": grid, "python": python},
    }
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
    if not isinstance(method, Sequence | np.ndarray):
        raise MethodError(f"method {method!r} is not a name: give one or several, see `xairt methods`")
    names = list(method)
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
    chosen = ((name, recent.hashable(value)) for name, value in sorted(options.items()))
    call = resolve(method, params, options["convention"])  # a parameter may name a file: what it holds counts
    # the object counts too: an explainer without a canonical graph computes with it, whatever becomes of it
    key = (identified(model), weakref.ref(model), call.method.name, call.label, call.parameters, *chosen)
    return recent.kept(_recent, CACHED_EXPLAINERS, key, lambda: explainer(model, method, **options, **params))
