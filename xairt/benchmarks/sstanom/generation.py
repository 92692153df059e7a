"""Where maps and truth of a case come from: drawn with a correlation, or read from the archive; block by block."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xairt import fields
from xairt.benchmarks.sstanom import archive
from xairt.benchmarks.sstanom.task import SSTTask, function_dataset, sample_dataset, sst_task
from xairt.data.provenance import sha256_of
from xairt.fields.gaussian import BLOCK_SAMPLES
from xairt.runs import CaseSettings

if TYPE_CHECKING:
    import xarray as xr

PRETRAINED = "pretrained"
"""Value of the setting `network` for the archived one."""

EMPIRICAL_SAMPLES = 100_000
"""Most maps that empirical quantiles are taken of."""

NOISE_STREAM = 2
"""Random stream of the noise on the output, apart from those of samples and function."""

_ARCHIVE_BLOCK = 4096
_APPROXIMATION = (
    "cells 405 and 457 of the 460-cell matrix left out: an approximation of the archived network's cells, which "
    "are not published; the known function is not the one that it learned"
)

log = logging.getLogger(__name__)


def datasets(config: CaseSettings) -> tuple[Iterator[xr.Dataset], int]:
    """Return the maps of a case with their truth, and the known function with each block.

    Parameters
    ----------
    config : CaseSettings
        Settings of stage generate.

    Returns
    -------
    blocks : iterator of xarray.Dataset
        What `task.sample_dataset` and `task.function_dataset` return. ``slope`` and ``breakpoints`` are missing
        where the archive does not tell them; ``offset`` (the contribution of an anomaly of 0) is there where
        the median was removed. Attributes hold name and SHA-256 of the source's file.
    count : int
        Number of blocks.

    Raises
    ------
    DataError
        If the source cannot be read, see `xairt.fields.correlation_of` and `archive.opened`.
    """
    attributes = _origin(config)
    if config.source == "archive":
        blocks, size = archived(config), _ARCHIVE_BLOCK
    else:
        blocks, size = drawn(config), BLOCK_SAMPLES
    return (block.assign_attrs(attributes) for block in blocks), -(-config.n_samples // size)


def drawn(config: CaseSettings) -> Iterator[xr.Dataset]:
    """Draw maps with the correlation of the source, and evaluate a drawn function."""
    task = task_of(config)
    function, factor, n = task.function, fields.factorise(task.correlation), config.n_samples
    static = function_dataset(task.grid, function.scaled_slopes, function.breakpoints)
    median, deviation = 0.0, 0.0
    if config.remove_median or config.noise:
        y = np.concatenate([function.output(x) for _, x in fields.gaussian_blocks(factor, n, config.seed)])
        median = float(np.median(y)) if config.remove_median else 0.0
        deviation = config.noise * float(y.std())
    if config.remove_median:
        static["offset"] = ((), -median / function.n_cells, {"long_name": "contribution of an anomaly of 0"})
    if factor.clipped_count:
        static.attrs["clipped_eigenvalues"] = f"{factor.clipped_count}, sum {factor.clipped_sum:.3g}"
    if config.network == PRETRAINED:
        static.attrs["comment"] = _APPROXIMATION
    if config.convention:
        static.attrs["truth_convention"] = config.convention
    noise = fields.gaussian_blocks(np.eye(1), n, config.seed, dtype=np.float64, stream=NOISE_STREAM)
    for (_, x), (_, e) in zip(fields.gaussian_blocks(factor, n, config.seed), noise, strict=True):
        truth, y = function.contribution_and_output(x)
        truth -= np.asarray(median / function.n_cells, truth.dtype)
        y += deviation * e[:, 0] - median
        block = sample_dataset(task.grid, x, truth, y, function.slope_at(x))
        yield block.merge(static).assign_attrs(static.attrs)


def archived(config: CaseSettings) -> Iterator[xr.Dataset]:
    """Read maps, contributions and outputs of the archive, with slopes where breakpoints can be found."""
    first, last = config.first_sample, config.first_sample + config.n_samples
    with archive.opened(config.source_file) as source:
        function = source.function(first, last)
        known = None if function is None else function.breakpoints
        static = function_dataset(source.grid, source.slopes, known)
        for start in range(first, last, _ARCHIVE_BLOCK):
            end = min(start + _ARCHIVE_BLOCK, last)
            x = source.vectors(archive.MAPS, start, end).astype(np.float32)
            truth = source.vectors(archive.CONTRIBUTIONS, start, end).astype(np.float32)
            slope = None if function is None else function.slope_at(x)
            y = source.outputs(start, end)
            if start == first:
                _compare(y, truth, str(source.file))
            yield sample_dataset(source.grid, x, truth, y, slope).merge(static)


def _compare(y: NDArray[np.float64], truth: NDArray[np.floating], file: str) -> None:
    """Tell where outputs are not the sums of the contributions."""
    difference = np.abs(truth.sum(axis=1, dtype=np.float64) - y).max()
    if difference > 1e-3 * np.abs(y).max():
        log.warning(
            "%s: outputs differ from the sum of the contributions by up to %.3g; the truth does not add up",
            *(file, difference),
        )


def _origin(config: CaseSettings) -> dict[str, str]:
    """Return name and hash of the source's file, for the attributes of what is made of it."""
    if config.source == "analytic":
        return {}
    if config.source == "archive":
        file = archive.archive_file(config.source_file)
    else:
        file = fields.source_file(config.source, config.source_file)
    return {"source_file": file.name, "source_sha256": sha256_of(file)}


def task_of(config: CaseSettings) -> SSTTask:
    """Return the correlation of the source, and a function drawn with the settings of the truth."""
    correlation, grid = fields.correlation_of(
        config.source,
        config.source_file,
        variable=config.variable,
        step=config.step,
        missing_above=config.missing_above,
    )
    if config.network == PRETRAINED:
        log.warning("%s", _APPROXIMATION)
        correlation, grid = fields.without_cells(correlation, grid, fields.NETWORK_EXCLUDES)
    weights = None
    if config.kept_around:
        weights = fields.bump_weights(grid, config.kept_around, width_km=config.bump_width)
    return sst_task(
        correlation,
        grid,
        config.seed,
        config.n_breakpoints,
        samples=_samples(correlation, config),
        cell_weights=weights,
        convention=config.convention,
    )


def _samples(correlation: NDArray[np.float64], config: CaseSettings) -> NDArray[np.floating] | None:
    """Return the maps whose quantiles are taken, or None for those of the population."""
    if config.quantiles == "population":
        return None
    return fields.sample_gaussian(correlation, min(config.n_samples, EMPIRICAL_SAMPLES), config.seed)
