"""Perturbation methods: what changes when a part of the input is replaced."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from pydantic import Field

from xairt.attribution.blocks import Block, BlockMethod, Explained, Setting, over_samples, samples_that_fit
from xairt.attribution.parameters import Parameters
from xairt.errors import MethodError


class OcclusionParameters(Parameters):
    """Parameters of occlusion."""

    patch: int | tuple[int, ...] = Field(
        1,
        description=(
            "edge of the patch in cells along each axis of a sample (rows and columns where a grid is known); "
            "one number leaves channels apart, a tuple gives every axis"
        ),
    )
    value: float = Field(0.0, allow_inf_nan=False, description="what the patch is replaced by")


def patch_corners(cells: np.ndarray, patch: tuple[int, ...]) -> np.ndarray:
    """Return the first corners of all patches that lie inside and cover at least one cell.

    Parameters
    ----------
    cells : numpy.ndarray
        Integer position of every feature, (axes, features).
    patch : tuple of int
        Edge lengths.

    Returns
    -------
    numpy.ndarray
        (patches, axes) int32, stride 1 along every axis.
    """
    size = cells.max(axis=1) + 1
    occupied = np.zeros(size, bool)
    occupied[tuple(cells)] = True
    windows = np.lib.stride_tricks.sliding_window_view(occupied, patch)
    return np.argwhere(windows.any(axis=tuple(range(-len(patch), 0)))).astype(np.int32)


def occlusion(setting: Setting, parameters: OcclusionParameters) -> BlockMethod:
    """f(x) - f(x with a patch replaced), each cell the mean over the patches that cover it.

    Patches stay inside the box around the valid cells, so that land around them changes nothing.

    Source: Zeiler and Fergus 2014 (arXiv 1311.2901, section 4.2); occlusion-1 of Ancona et al. 2018.
    """
    if parameters.patch not in (1, (1,)):
        setting.network.require_one_input("occlusion with a patch of several cells", "use patch=1")
    cells = setting.cells.reshape(len(setting.cells), -1)
    cells = cells - cells.min(axis=1, keepdims=True)
    patch = _edges(parameters.patch, cells.reshape(setting.cells.shape))
    corners = patch_corners(cells, patch)
    scalar = setting.scalar(setting.outputs)
    copies_that_fit = samples_that_fit(setting.network, setting.dtype)
    rows = tf.constant(cells.T, tf.int32)
    edges = tf.constant(patch, tf.int32)
    value = tf.constant(parameters.value, setting.dtype)

    def explain(block: Block) -> Explained:
        n_samples, shape = block.x.shape[0], block.x.shape[1:]
        at_once = min(max(1, copies_that_fit // n_samples), len(corners))
        flat = tf.reshape(block.x, (n_samples, 1, -1))
        repeated = tf.repeat(block.indices, at_once)
        padded = np.concatenate(
            [corners, np.full((-len(corners) % at_once, corners.shape[1]), -1 - max(patch))]
        )
        chunks = tf.constant(padded.reshape(-1, at_once, corners.shape[1]), tf.int32)
        total, count = tf.zeros_like(flat[:, 0]), tf.zeros_like(flat[:1, 0])
        for k in tf.range(chunks.shape[0]):
            offset = rows[None] - chunks[k][:, None]
            covered = tf.reduce_all((offset >= 0) & (offset < edges), axis=-1)
            changed = tf.where(covered[None], value, flat)
            result = scalar(tf.reshape(changed, (n_samples * at_once, *shape)), repeated)
            difference = over_samples(block.value, flat[:, 0]) - tf.reshape(result, (n_samples, at_once))
            mask = tf.cast(covered, setting.dtype)
            total += tf.matmul(difference, mask)
            count += tf.reduce_sum(mask, axis=0, keepdims=True)
        return Explained(tf.reshape(total / count, block.x.shape))

    return explain


def _edges(patch: int | tuple[int, ...], cells: np.ndarray) -> tuple[int, ...]:
    """Return the patch's edge along every axis that patches move over."""
    axes, sizes = len(cells), cells.reshape(len(cells), -1).max(axis=1) + 1
    if isinstance(patch, int):
        has_channels = axes >= 2 and cells.ndim - 1 == axes  # else rows and columns of a map
        spatial = axes - has_channels
        edges = (patch,) * spatial + (1,) * (axes - spatial)
    else:
        edges = tuple(patch)
    if len(edges) != axes:
        raise MethodError(
            f"occlusion: patch {patch} has {len(edges)} edges, but a sample has {axes} axes: give one per axis"
        )
    for edge, size in zip(edges, sizes, strict=True):
        if not 1 <= edge <= size:
            raise MethodError(
                f"occlusion: patch edge {edge} does not fit an axis of {size} cells: choose 1 to {size}"
            )
    return edges
