"""Attributions of a case, computed and written block by block."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import numpy as np

from xairt._version import __version__
from xairt.data.files import atomic_write, existing_file, read_array, read_dataset
from xairt.data.provenance import sha256_of
from xairt.data.streams import SampleWriter, sample_axis, sample_range
from xairt.errors import DataError, ModelError
from xairt.grid import Grid
from xairt.progress import bar
from xairt.runs.contract import Explanation

if TYPE_CHECKING:
    import tensorflow as tf
    import xarray as xr

    from xairt.attribution.explainer import Explainer
    from xairt.attribution.groups import Groups

PARTS = ".parts"
"""Folder of a case that holds the finished blocks of unfinished attributions."""

BLOCK_BYTES = 32 * 2**20
"""Memory that the samples of a block may take, and their attribution as much."""

MOST_CALLS = 16
"""Most of what an explainer computes at once that makes a block: a killed run loses no more."""

GRID_SAMPLES = 64
"""Maps, from the first explained one on, that a grid is inferred from."""

KEPT = 2
"""Models and explainers that a process keeps."""

_ABOUT = "about.json"

_models: OrderedDict[str, tf.keras.Model] = OrderedDict()
_explainers: OrderedDict[Bound, Explainer] = OrderedDict()


class Executor(Protocol):
    """Where blocks of samples are explained."""

    def map(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield task(item) for every item, in their order."""
        ...


class Serial:
    """Explains blocks here, one after the other."""

    def map(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield task(item) for every item, in their order."""
        return map(task, items)


@dataclass(frozen=True)
class Bound:
    """What an explainer depends on; any process makes the same one of it.

    Attributes
    ----------
    model : pathlib.Path
        File or folder of the model.
    sha256 : str
        Hash of it, see `xairt.models.archive.Archive`.
    method, engine, convention, target, baseline, dtype
        As of `Explanation`.
    grid : Grid or None
        Of the samples, where they are maps and the model takes vectors.
    groups : Groups or None
        What the file of groups held when the attribution began.
    baselines : pathlib.Path or None
        File with a set of baselines, in place of `baseline`.
    baselines_sha256 : str
        Hash of it when the attribution began.
    """

    model: Path
    sha256: str
    method: str
    engine: str | None
    convention: str | None
    target: int | None
    baseline: float | tuple[float, ...] | None
    dtype: str
    grid: Grid | None = None
    groups: Groups | None = None
    baselines: Path | None = None
    baselines_sha256: str = ""


@dataclass(frozen=True)
class Block:
    """A block of samples to be explained.

    Attributes
    ----------
    bound : Bound
        By what.
    samples : pathlib.Path
        The netCDF file.
    variable, dim : str
        Its variable of samples, and their dimension.
    first, last : int
        Positions in the file, last excluded; they key the noise.
    seed : int
        Of the noise.
    folder : pathlib.Path
        Where the finished block is kept.
    """

    bound: Bound
    samples: Path
    variable: str
    dim: str
    first: int
    last: int
    seed: int
    folder: Path


def explain(
    explanation: Explanation,
    folder: Path,
    output: Path,
    inputs: str,
    executor: Executor,
    progress: bool = False,
) -> Mapping[str, Any]:
    """Compute one attribution of a case and write it as ``output / explanation.file``.

    Its samples are explained in blocks, whose size depends on network, method and dtype alone. Finished blocks
    stay in the case's folder until all are done, so that a killed run goes on at the next one. Values and
    attributes are those of one call of `xairt.explainer` on all samples, but for two marginal cases: a sample
    whose output or promised sum is below 1e-6 of the largest has its ``status`` judged against the largest of
    its block, not of all; and rounding is probed in every block, so that ``status_report`` may warn of float32
    where one call has not noticed.

    Parameters
    ----------
    explanation : Explanation
        What to compute.
    folder : Path
        Of the case: samples and model are there. Gets ``.parts``.
    output : Path
        Folder to write into.
    inputs : str
        Hash of everything that the attribution depends on; blocks of other inputs are not used.
    executor : Executor
        Where blocks are computed, in processes that see the same files.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    dict
        ``samples``, ``blocks``, ``blocks_reused`` (that a killed run had finished), ``seconds_per_sample``
        (sum over the processes), ``status`` (the worst) and ``reason``.

    Raises
    ------
    DataError
        If samples, groups or baselines cannot be read or do not fit the model, or `inputs` is no hash.
    ModelError
        If the model cannot be loaded, or its file changes meanwhile.
    MethodError, UnsupportedLayerError, EngineError
        As of `xairt.explainer`.
    """
    if not inputs.isalnum():
        raise DataError(
            f"inputs '{inputs}': cannot name a folder; give a hash as of xairt.runs.manifest.digest"
        )
    parts = folder.absolute() / PARTS / inputs[:16]
    blocks = _blocks(explanation, folder.absolute(), parts)
    _prepare(parts, {"file": explanation.file, "inputs": inputs, "xairt": __version__})
    finished = {block.first: path for block in blocks if (path := _finished(block))}
    missing = [block for block in blocks if block.first not in finished]
    title = f"Attribution by {explanation.name} to {explanation.variable} of {explanation.samples}"
    with (
        SampleWriter(output / explanation.file, title=title, dim=blocks[0].dim) as writer,
        bar(len(blocks), explanation.name, progress, done=len(finished)) as advance,
    ):
        computed = _counted(executor.map(explain_block, missing), advance)
        paths = (finished[block.first] if block.first in finished else next(computed) for block in blocks)
        seconds = _gather(paths, writer)
    shutil.rmtree(parts)
    with suppress(OSError):  # holds blocks of other attributions
        parts.parent.rmdir()
    report = json.loads(writer.attrs["status_report"])[writer.attrs["method"]]
    return {
        "samples": writer.n_samples,
        "blocks": len(blocks),
        "blocks_reused": len(finished),
        "seconds_per_sample": seconds / writer.n_samples,
        "status": report["status"],
        "reason": report["reason"],
    }


def _counted(items: Iterator[Path], advance: Callable[..., None]) -> Iterator[Path]:
    for item in items:
        advance()
        yield item


def _gather(paths: Iterator[Path], writer: SampleWriter) -> float:
    """Write finished blocks one after the other, with the attributes of a whole; return the seconds they took."""
    from xairt.attribution import result, status

    first, numbers, seconds = {}, [], 0.0
    for path in paths:
        part = read_dataset(path)
        first = first or part.attrs
        numbers.append(part.attrs["status_numbers"])
        seconds += float(part.attrs["seconds"])
        writer.append(part)
    # the provenance of what computed: this process may do no more than collect
    writer.attrs = result.merged_attributes(first, numbers) | {"provenance": first["provenance"]}
    status.tell(writer.attrs)
    return seconds


def explain_block(block: Block) -> Path:
    """Explain a block of samples and keep the result; any process can do it.

    Parameters
    ----------
    block : Block
        What to compute.

    Returns
    -------
    pathlib.Path
        netCDF file in the block's folder, named by range and SHA-256.

    Raises
    ------
    DataError, ModelError, MethodError, EngineError
        As of `explain`.
    """
    explainer, begun = _explainer(block.bound), time.perf_counter()
    x = read_array(block.samples, block.variable, select={block.dim: slice(block.first, block.last)})
    positions = range(block.first, block.last)
    try:
        result = explainer(x, seed=block.seed, sample_index=positions, quiet=True)
    except DataError as error:
        raise DataError(f"{block.samples.name} from sample {block.first} on: {error}") from None
    result.attrs["seconds"] = time.perf_counter() - begun
    return _store(result, block)


def _explainer(bound: Bound) -> Explainer:
    """Return the explainer, made once in each process."""
    from xairt.attribution import recent
    from xairt.attribution.explainer import explainer

    def make() -> Explainer:
        return explainer(
            _model(bound.model, bound.sha256),
            bound.method,
            target=bound.target,
            baseline=_baseline(bound),
            engine=bound.engine,
            dtype=bound.dtype,
            grid=bound.grid,
            convention=bound.convention,
            **({} if bound.groups is None else {"groups": bound.groups}),
        )

    return recent.kept(_explainers, KEPT, bound, make)


def _baseline(bound: Bound) -> Any:
    """Return the baseline, or the set of them that a file holds.

    Raises
    ------
    DataError
        If the file cannot be read, or is not the one of this hash.
    """
    if bound.baselines is None:
        return np.array(bound.baseline) if isinstance(bound.baseline, tuple) else bound.baseline
    found = read_array(bound.baselines)
    if sha256_of(bound.baselines) != bound.baselines_sha256:
        raise DataError(
            f"{bound.baselines}: changed while it was being explained with; run again to use it as it is now"
        )
    return found.values


def _model(path: Path, sha256: str) -> tf.keras.Model:
    """Return the model, loaded once in each process.

    Raises
    ------
    ModelError
        If the file is not the one of this hash.
    """
    from xairt.attribution import recent
    from xairt.models.loading import load_model, source_of

    def load() -> tf.keras.Model:
        if not path.exists():
            raise ModelError(
                f"{path}: not there on {platform.node()}; keep runs and models where all workers see them"
            )
        model = load_model(path)
        if source_of(model).sha256 != sha256:
            raise ModelError(
                f"{path}: changed while it was being explained; run again to explain it as it is now"
            )
        return model

    return recent.kept(_models, KEPT, sha256, load)


def _store(result: xr.Dataset, block: Block) -> Path:
    """Write a finished block under a name that tells whether it is whole."""
    name = f"{block.first}-{block.last}"
    written = block.folder / f"{name}-{uuid4().hex}.nc"
    with SampleWriter(
        written, title=f"Samples {name} of an attribution", dim=block.dim, compress=False
    ) as writer:
        writer.append(result)
    path = block.folder / f"{name}-{sha256_of(written)}.nc"
    os.replace(written, path)
    return path


def _finished(block: Block) -> Path | None:
    """Return the file of a block that was finished before; damaged files are removed."""
    for path in block.folder.glob(f"{block.first}-{block.last}-*.nc"):
        if path.stem.rpartition("-")[2] == sha256_of(path):
            return path
        path.unlink()
    return None


def _prepare(parts: Path, about: Mapping[str, str]) -> None:
    """Make the folder of finished blocks; blocks of the same attribution from other inputs are removed."""
    for folder in parts.parent.glob("*"):
        known = _about(folder)
        if known is None or (known != about and (folder == parts or known.get("file") == about["file"])):
            shutil.rmtree(folder)
    with atomic_write(parts / _ABOUT) as path:
        path.write_text(json.dumps(about), encoding="utf-8")


def _about(folder: Path) -> Any:
    """Return what the blocks in a folder are of, None if that cannot be told."""
    try:
        found = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _blocks(explanation: Explanation, folder: Path, parts: Path) -> list[Block]:
    """Return the blocks of an attribution; loads the model and makes the explainer to know their size."""
    from xairt.attribution.groups import read_groups
    from xairt.models.archive import locate, read_archive

    samples, variable = folder / explanation.samples, explanation.variable
    dim, n = sample_axis(samples, variable)
    first, last = sample_range(f"{samples}: {variable}", n, explanation.first, explanation.last)
    inside = folder / explanation.model
    model = inside if inside.exists() else locate(explanation.model).absolute()
    baselines = None if explanation.baselines is None else folder / explanation.baselines
    bound = Bound(
        model,
        read_archive(model).sha256,
        explanation.method,
        explanation.engine,
        explanation.convention,
        explanation.target,
        explanation.baseline,
        explanation.dtype,
        groups=None if explanation.groups is None else read_groups(folder / explanation.groups),
        baselines=baselines,
        baselines_sha256="" if baselines is None else sha256_of(existing_file(baselines)),
    )
    head = read_array(samples, variable, select={dim: slice(first, min(first + GRID_SAMPLES, last))})
    bound = replace(bound, grid=_grid(head, _model(model, bound.sha256)))
    size = block_size(_explainer(bound))
    return [
        Block(bound, samples, variable, dim, start, min(start + size, last), explanation.seed, parts)
        for start in range(first, last, size)
    ]


def _grid(samples: xr.DataArray, model: tf.keras.Model) -> Grid | None:
    """Return the grid of maps that a model of vectors explains, so that it is inferred once and not per block."""
    from xairt.attribution.inputs import is_labelled_map

    takes_vectors = isinstance(model.input_shape, tuple) and len(model.input_shape) == 2
    is_map = samples.ndim == 3 and is_labelled_map(samples)
    return Grid.from_dataarray(samples) if takes_vectors and is_map else None


def block_size(explainer: Explainer) -> int:
    """Return the number of samples of a block.

    A multiple of what the explainer computes at once, so that blocks are cut there as in one call: as many as
    `BLOCK_BYTES` and `MOST_CALLS` allow. It depends on network, method and dtype alone.

    Parameters
    ----------
    explainer : Explainer
        Bound to network and method.

    Returns
    -------
    int
    """
    at_once = explainer.block_size
    size = int(np.prod(explainer.network.input_shape)) * np.dtype(explainer.dtype).itemsize
    return at_once * max(1, min(MOST_CALLS, BLOCK_BYTES // (at_once * size)))
