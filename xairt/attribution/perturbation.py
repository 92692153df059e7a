"""Perturbation methods: what changes when a part of the input is replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from pydantic import Field, model_validator

from xairt.attribution.blocks import Block, BlockMethod, Explained, Setting, chunks, over_samples
from xairt.attribution.groups import GroupedParameters, group_index
from xairt.errors import MethodError

LARGEST_FRONT = 4_000_000
"""Most numbers of a matrix that holds what each feature adds to the end of the affine front."""


class FeatureAblationParameters(GroupedParameters):
    """Parameters of feature ablation."""

    value: float = Field(0.0, allow_inf_nan=False, description="what the features are replaced by")


class OcclusionParameters(GroupedParameters):
    """Parameters of occlusion."""

    patch: int | tuple[int, ...] = Field(
        1,
        description=(
            "edge of the patch in cells along each axis of a sample (rows and columns where a grid is known); "
            "one number leaves channels apart, a tuple gives every axis"
        ),
    )
    value: float = Field(0.0, allow_inf_nan=False, description="what the patch is replaced by")

    @model_validator(mode="after")
    def _patch_or_groups(self) -> OcclusionParameters:
        if self.groups is not None and self.patch != 1:
            raise ValueError("groups take the place of patches: leave patch out")
        return self


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of a sample that are replaced one after the other.

    Attributes
    ----------
    count : int
        How many there are.
    covered : callable
        From the numbers of parts (c,) to whether they cover each feature (c, features).
    single : bool
        Whether the parts are the features one by one, in their order.
    """

    count: int
    covered: Callable[[tf.Tensor], tf.Tensor]
    single: bool


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


def patches(setting: Setting, patch: int | tuple[int, ...]) -> Parts:
    """Return the patches that move over a sample inside the box around its valid cells.

    Raises
    ------
    MethodError
        If the patch has not one edge per axis, or does not fit an axis.
    """
    if patch not in (1, (1,)):
        setting.network.require_one_input("occlusion with a patch of several cells", "use patch=1")
    cells = setting.cells.reshape(len(setting.cells), -1)
    cells = cells - cells.min(axis=1, keepdims=True)
    edges = _edges(patch, cells.reshape(setting.cells.shape))
    corners = patch_corners(cells, edges)

    def covered(numbers: tf.Tensor) -> tf.Tensor:
        offset = cells.T[None].astype(np.int32) - tf.gather(tf.constant(corners), numbers)[:, None]
        return tf.reduce_all((offset >= 0) & (offset < tf.constant(edges)), axis=-1)

    return Parts(len(corners), covered, single=max(edges) == 1)


def grouped(parameters: GroupedParameters, input_shape: tuple[int, ...]) -> Parts:
    """Return the groups of features, in the order of their labels; each feature by itself without groups."""
    index = group_index(parameters.groups, input_shape)
    return Parts(
        int(index.max()) + 1,
        lambda numbers: tf.constant(index)[None] == numbers[:, None],
        single=len(np.unique(index)) == len(index) and bool((np.diff(index) > 0).all()),
    )


def _parts(setting: Setting, parameters: OcclusionParameters) -> Parts:
    if parameters.groups is not None:
        return grouped(parameters, setting.network.input_shape)
    return patches(setting, parameters.patch)


def occlusion(setting: Setting, parameters: OcclusionParameters) -> BlockMethod:
    """f(x) - f(x with a patch replaced), each cell the mean over the patches that cover it.

    Patches stay inside the box around the valid cells, so that land around them changes nothing. With
    groups it is feature ablation.

    Source: Zeiler and Fergus 2014 (arXiv 1311.2901, section 4.2); occlusion-1 of Ancona et al. 2018.
    """
    return _differences(setting, _parts(setting, parameters), parameters.value)


def occlusion_evaluations(parameters: OcclusionParameters, setting: Setting) -> int:
    """Return the number of changed samples for each sample."""
    return _parts(setting, parameters).count


def feature_ablation(setting: Setting, parameters: FeatureAblationParameters) -> BlockMethod:
    """f(x) - f(x with a group of features replaced); every feature gets the difference of its whole group.

    Source: occlusion-1 of Ancona et al. 2018 (arXiv 1711.06104, section 2); groups as in captum.
    """
    return _differences(setting, grouped(parameters, setting.network.input_shape), parameters.value)


def feature_ablation_evaluations(parameters: FeatureAblationParameters, setting: Setting) -> int:
    """Return the number of changed samples for each sample."""
    return grouped(parameters, setting.network.input_shape).count


def _differences(setting: Setting, parts: Parts, value: float) -> BlockMethod:
    effects = _effects_on_cut(setting) if parts.single else None
    if effects is None:
        return _replace_parts(setting, parts, value)
    return _replace_singles(setting, effects, value)


def _replace_parts(setting: Setting, parts: Parts, value: float) -> BlockMethod:
    """Compute the network for every part replaced; every feature gets the mean over its parts."""
    front, rest = setting.front_and_rest
    new = tf.constant(value, setting.dtype)

    def explain(block: Block) -> Explained:
        n_samples, shape = block.x.shape[0], block.x.shape[1:]
        table = chunks(parts.count, max(1, setting.rows // n_samples))
        flat = tf.reshape(block.x, (n_samples, 1, -1))
        repeated = tf.repeat(block.indices, table.shape[1])
        total, count = tf.zeros_like(flat[:, 0]), tf.zeros_like(flat[:1, 0])
        for k in tf.range(len(table)):
            numbers = tf.constant(table)[k]
            covered = parts.covered(tf.maximum(numbers, 0)) & (numbers >= 0)[:, None]
            changed = tf.reshape(tf.where(covered[None], new, flat), (-1, *shape))
            result = setting.target.select(rest(*front(changed)), repeated)
            difference = over_samples(block.value, flat[:, 0]) - tf.reshape(result, (n_samples, -1))
            mask = tf.cast(covered, setting.dtype)
            total += tf.matmul(difference, mask)
            count += tf.reduce_sum(mask, axis=0, keepdims=True)
        return Explained(tf.reshape(total / count, block.x.shape))

    return explain


def _replace_singles(setting: Setting, effects: tf.Tensor, value: float) -> BlockMethod:
    """Compute what follows the affine front for every feature replaced: one feature moves its end by a row."""
    front, rest = setting.front_and_rest
    n_features = effects.shape[0]

    def explain(block: Block) -> Explained:
        n_samples = block.x.shape[0]
        n_chunks, at_once = chunks(n_features, max(1, setting.rows // n_samples)).shape
        spare = ((0, n_chunks * at_once - n_features), (0, 0))
        (cut,) = front(block.x)
        repeated = tf.repeat(block.indices, at_once)
        steps = tf.pad(tf.transpose(value - tf.reshape(block.x, (n_samples, -1))), spare)
        parts = (
            tf.reshape(steps, (n_chunks, at_once, n_samples)),
            tf.reshape(tf.pad(effects, spare), (n_chunks, at_once, -1)),
        )

        def difference(part: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            step, effect = part
            changed = tf.reshape(cut, (n_samples, 1, -1)) + tf.transpose(step)[..., None] * effect
            result = setting.target.select(rest(tf.reshape(changed, (-1, *cut.shape[1:]))), repeated)
            return block.value[:, None] - tf.reshape(result, (n_samples, -1))

        spec = tf.TensorSpec((n_samples, at_once), setting.dtype)
        rows = tf.map_fn(difference, parts, fn_output_signature=spec)
        whole = tf.reshape(tf.transpose(rows, (1, 0, 2)), (n_samples, -1))
        return Explained(tf.reshape(whole[:, :n_features], block.x.shape))

    return explain


def _effects_on_cut(setting: Setting) -> tf.Tensor | None:
    """Return what a feature's unit adds to the end of the front, (features, size of the end).

    None where the network has no canonical graph, the front ends in several tensors, or the matrix would
    be large.
    """
    graph = setting.network.graph
    if graph is None or len(graph.cut) != 1:
        return None
    n_features = int(np.prod(setting.network.input_shape))
    if n_features * int(np.prod(graph.nodes[graph.cut[0]].shape)) > LARGEST_FRONT:
        return None
    front, _ = setting.network.split("float64")
    shape = setting.network.input_shape
    (units,) = front(tf.reshape(tf.eye(n_features, dtype="float64"), (-1, *shape)))
    (origin,) = front(tf.zeros((1, *shape), "float64"))
    return tf.cast(tf.reshape(units - origin, (n_features, -1)), setting.dtype)


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
