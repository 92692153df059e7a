"""SHAP: differences from a background set, shared over the features as Shapley values would be."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from pydantic import Field

from xairt.attribution import coalitions, deeplift
from xairt.attribution.blocks import Block, BlockMethod, Explained, Setting, chunks, weighted_sum
from xairt.attribution.gradients import slopes_behind, to_input
from xairt.attribution.groups import GroupedParameters, group_index
from xairt.attribution.parameters import Parameters
from xairt.errors import MethodError

GOLDEN_RATIO = (np.sqrt(5) - 1) / 2

MOST_PLAYERS = 5000
"""Most features or groups that Kernel SHAP shares a difference over."""

deep = deeplift.rescale
"""Deep SHAP (Lundberg and Lee 2017, arXiv:1705.07874, section 4.2): DeepLIFT's Rescale, mean over a set.

Attributions sum to f(x) - the mean of f over the background set.
"""


class GradientParameters(Parameters):
    """Parameters of expected gradients."""

    nsamples: int = Field(
        200, ge=1, le=100_000, description="draws of a baseline and a point on the way to it"
    )


class KernelParameters(GroupedParameters):
    """Parameters of Kernel SHAP."""

    nsamples: int = Field(
        2048, ge=2, le=1_000_000, description="number of coalitions; all 2^n - 2 give exact values"
    )
    coalition_seed: int = Field(
        0, ge=0, description="seed of the coalitions, which are the same for all samples"
    )


# --------------------------------------------------------------------------- expected gradients


def gradient(setting: Setting, parameters: GradientParameters) -> BlockMethod:
    """Expected gradients (Erion et al. 2021, doi:10.1038/s42256-021-00343-w, equation 4).

    The mean of (x - b) times the gradient at b + t (x - b), with b drawn from the background set and t
    uniform on [0, 1]. The draws of a sample are spread evenly over both from a random start, so that each
    is uniform and the mean without bias. The sum is f(x) - the mean of f over the background set but for
    the sampling error, which the completeness gap shows.
    """
    front, rest = setting.front_and_rest
    n, baselines = parameters.nsamples, tf.constant(setting.baseline, setting.dtype)
    starts = front(baselines)
    at_baselines = rest(*starts)

    def explain(block: Block) -> Explained:
        n_samples, shape = block.x.shape[0], block.x.shape[1:]
        table = chunks(n, max(1, setting.rows // n_samples))
        weights = tf.constant(np.where(table < 0, 0, 1 / n), setting.dtype)
        which, t = _draws(block.noise, np.maximum(table, 0), n, len(setting.baseline))
        end, indices, total = front(block.x), tf.repeat(block.indices, table.shape[1]), tf.zeros_like(block.x)
        for k in tf.range(len(table)):
            rows = tuple(_between(tf.gather(s, which[k]), e, t[k]) for s, e in zip(starts, end, strict=True))
            slopes = slopes_behind(setting, rows, indices)
            difference = block.x[:, None] - tf.gather(baselines, which[k])
            back = to_input(setting, tf.reshape(difference, (-1, *shape)), slopes)
            total += weighted_sum(weights[k], difference * tf.reshape(back, difference.shape))
        return Explained(total, promised=block.value - _expected(setting, at_baselines, block.indices))

    return explain


def noise_shape(parameters: GradientParameters, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the noise of expected gradients: where the draws of a sample start."""
    return (2,)


def _draws(noise: tf.Tensor, numbers: np.ndarray, n: int, n_baselines: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the baseline (chunks, b, c) int32 and the place on the way (chunks, b, c) of all draws.

    Draws go around the set once, from a random start; those of one baseline are equally far apart on the
    way from it, from a start that is random too.
    """
    first = (1 + tf.math.erf(noise / np.sqrt(2))) / 2  # uniform on [0, 1]
    around = tf.constant(numbers / n, noise.dtype)[:, None] + first[None, :, :1]
    place = n_baselines * (around - tf.floor(around))
    which = tf.minimum(tf.floor(place), n_baselines - 1)
    t = first[None, :, 1:] + place - which + GOLDEN_RATIO * which
    return tf.cast(which, tf.int32), t - tf.floor(t)


def _between(start: tf.Tensor, end: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
    """Return points t (b, c) on the lines from start (b, c, ...) to end (b, ...), as (b * c, ...)."""
    t = tf.reshape(t, (*t.shape, *[1] * (end.shape.rank - 1)))
    return tf.reshape(start + t * (end[:, None] - start), (-1, *end.shape[1:]))


def _expected(setting: Setting, at_baselines: tuple[tf.Tensor, ...], indices: tf.Tensor) -> tf.Tensor:
    """Return the mean over the baselines of the explained scalar of each sample (b,)."""
    n_samples, n_baselines = indices.shape[0], len(setting.baseline)
    outputs = tuple(tf.repeat(v[None], n_samples, axis=0) for v in at_baselines)
    flat = tuple(tf.reshape(v, (-1, *v.shape[2:])) for v in outputs)
    chosen = setting.target.select(flat, tf.repeat(indices, n_baselines))
    return tf.reduce_mean(tf.reshape(chosen, (n_samples, n_baselines)), axis=1)


# --------------------------------------------------------------------------- Kernel SHAP


def kernel(setting: Setting, parameters: KernelParameters) -> BlockMethod:
    """Kernel SHAP (Lundberg and Lee 2017, arXiv:1705.07874, theorem 2): Shapley values by regression.

    Features outside a coalition take their values of the baseline; a background set makes the mean over
    the set, at as many times the cost. All samples share the coalitions, so the regression is solved
    once. A group's value is shared equally over its features. Attributions sum to f(x) - mean f(baseline).
    """
    front, rest = setting.front_and_rest
    index = group_index(parameters.groups, setting.network.input_shape)
    half, matrix, share = _solved(setting, parameters, int(index.max()) + 1)
    baselines = tf.constant(setting.baseline, setting.dtype)
    starts = front(baselines)
    at_baselines = rest(*starts)
    sizes = tf.constant(np.bincount(index)[index], setting.dtype)

    def explain(block: Block) -> Explained:
        n_samples = block.x.shape[0]
        end = front(block.x)
        whole = block.value - _expected(setting, at_baselines, block.indices)
        total = whole[:, None] * share
        table = _even_chunks(len(half), setting.rows // (n_samples * len(baselines)))
        for k in tf.range(len(table)):
            numbers = tf.constant(table)[k]
            chosen = tf.maximum(numbers, 0)
            present = tf.gather(tf.gather(half, chosen), index, axis=1)
            inside = front(_mixed(block.x, baselines, present))
            weights = tf.where((numbers >= 0)[:, None], tf.gather(matrix, chosen), 0)
            total += tf.matmul(_effects(setting, block.indices, inside, starts, end), weights)
        return Explained(tf.reshape(tf.gather(total, index, axis=1) / sizes, block.x.shape), whole)

    return explain


def kernel_evaluations(parameters: KernelParameters, setting: Setting) -> int:
    """Return the number of samples that Kernel SHAP makes of one."""
    return parameters.nsamples * len(setting.baseline)


def _solved(
    setting: Setting, parameters: KernelParameters, players: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return coalitions (pairs, players), and of the regression the matrix (pairs, players) and share."""
    if players > MOST_PLAYERS:
        raise MethodError(
            f"shap.kernel: {players} features are too many to share a difference over (at most {MOST_PLAYERS}): "
            "give groups of features, or use shap.gradient"
        )
    drawn = coalitions.draw(players, parameters.nsamples, parameters.coalition_seed)
    matrix, share = coalitions.regression(drawn)
    dtype = setting.dtype
    return tf.constant(drawn.half), tf.constant(matrix.T, dtype), tf.constant(share, dtype)


def _even_chunks(n: int, limit: int) -> np.ndarray:
    """Return `chunks` of about equal size, so that little of the last one is padding."""
    return chunks(n, -(-n // -(-n // max(1, limit))))


def _mixed(x: tf.Tensor, baselines: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Return x (b, ...) where features are present (c, features), each baseline (m, ...) elsewhere.

    Rows run over samples, coalitions and baselines: (b * c * m, ...).
    """
    present = tf.reshape(present, (1, -1, 1, *x.shape[1:]))
    return tf.reshape(tf.where(present, x[:, None, None], baselines), (-1, *x.shape[1:]))


def _effects(
    setting: Setting,
    indices: tf.Tensor,
    inside: tuple[tf.Tensor, ...],
    starts: tuple[tf.Tensor, ...],
    end: tuple[tf.Tensor, ...],
) -> tf.Tensor:
    """Return f of coalitions less f of their complements, the mean over the baselines, (b, c).

    The front is affine: at a coalition and at its complement it adds up to that at x and at the baseline.
    """
    _, rest = setting.front_and_rest
    n_samples, n_baselines = indices.shape[0], len(setting.baseline)
    outside = []
    for v, s, e in zip(inside, starts, end, strict=True):
        wide = tf.reshape(v, (n_samples, -1, *s.shape))
        outside.append(tf.reshape(e[:, None, None] + s - wide, v.shape))
    repeated = tf.repeat(indices, inside[0].shape[0] // n_samples)
    difference = setting.target.select(rest(*inside), repeated) - setting.target.select(
        rest(*outside), repeated
    )
    return tf.reduce_mean(tf.reshape(difference, (n_samples, -1, n_baselines)), axis=2)
