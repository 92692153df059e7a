"""Statistics of images as numbers: the truth y that a model predicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.benchmarks.igc.experiments import Experiment, experiment_of, n_scores
from xairt.benchmarks.igc.images import BLOCK_IMAGES, image_blocks, stream_of
from xairt.benchmarks.igc.masks import SIDE
from xairt.errors import DataError
from xairt.fields.checks import real_numbers
from xairt.keys import generator_of, noise_keys

_RULE_STREAM = 1
"""Separates the random numbers of the rule from those of the image."""


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation that a scalar statistic is standardised with.

    Attributes
    ----------
    mean, sd : float
        Of the validation set; sd is divided by the number of images.

    Examples
    --------
    >>> Scaling(1.0, 2.0).apply([1.0, 3.0])
    array([0., 1.])
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.mean) and 0 < self.sd < np.inf):
            raise DataError(
                f"scaling by mean {self.mean}, sd {self.sd}: out of range; give numbers that vary"
            )

    def apply(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return (values - mean) / sd."""
        return (np.asarray(values, dtype=np.float64) - self.mean) / self.sd


def scaling_of(y: ArrayLike) -> Scaling:
    """Return the scaling that gives these values mean 0 and standard deviation 1.

    Raises
    ------
    DataError
        If the values are all the same, not finite, or those of a categorical statistic.

    Examples
    --------
    >>> scaling_of([1.0, 3.0])
    Scaling(mean=2.0, sd=1.0)
    """
    values = np.asarray(y, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise DataError(f"y {values.shape}: give one number for each image; classes are not standardised")
    return Scaling(float(values.mean()), float(values.std()))


def samples(
    experiment: str | Experiment, n: int, *, start: int = 0, part: str = "validation", seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return images of the stream and their statistic.

    Parameters
    ----------
    experiment : str or Experiment
    n, start, part, seed
        As `xairt.benchmarks.igc.images.images`.

    Returns
    -------
    images : numpy.ndarray
        (n, 64, 64) float32.
    y : numpy.ndarray
        As `statistic`.

    Raises
    ------
    DataError
        If an argument is not valid.

    Examples
    --------
    >>> x, y = samples("D", 2)
    >>> x.shape, y.shape, y.sum(axis=1)
    ((2, 64, 64), (2, 4), array([1., 1.]))
    """
    blocks = list(sample_blocks(experiment, n, start=start, part=part, seed=seed))
    return np.concatenate([x for _, x, _ in blocks]), np.concatenate([y for _, _, y in blocks])


def sample_blocks(
    experiment: str | Experiment, n: int, *, start: int = 0, part: str = "validation", seed: int = 0
) -> Iterator[tuple[slice, NDArray[np.float32], NDArray[np.float64]]]:
    """Give the images and statistics of `samples` block by block, for sets larger than memory.

    Parameters
    ----------
    experiment, n, start, part, seed
        As `samples`.

    Yields
    ------
    rows : slice
        Positions of these images among the n.
    images, y : numpy.ndarray
        As `samples`.

    Raises
    ------
    DataError
        As `samples`.
    """
    chosen = experiment_of(experiment)
    blocks = image_blocks(n, start=start, part=part, seed=seed)
    return (
        (rows, x, statistic(x, chosen, start=start + rows.start, part=part, seed=seed)) for rows, x in blocks
    )


def statistic(
    images: ArrayLike,
    experiment: str | Experiment,
    *,
    start: int = 0,
    part: str = "validation",
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return the statistic of images, not standardised.

    Parameters
    ----------
    images : (n, 64, 64) or (n, 64, 64, 1)
    experiment : str or Experiment
    start : int
        Number of the first image, the next ones follow. What is random about the statistic depends on seed, part
        and the number of the image alone.
    part : {"train", "validation"}
    seed : int
        From 0 to 2**31 - 1.

    Returns
    -------
    numpy.ndarray
        (n,) float64; one-hot (n, classes) for categorical statistics.

    Raises
    ------
    DataError
        If the images have another shape or hold no finite numbers, or an argument is not valid.

    References
    ----------
    Lelièvre and Chen (2024), arXiv:2404.13910.

    Examples
    --------
    >>> statistic(np.ones((2, 64, 64)), "B")
    array([1., 1.])
    """
    chosen = experiment_of(experiment)
    pixels = _pixels(images)
    keys = noise_keys(seed, start + np.arange(len(pixels)), len(pixels))
    found = np.empty((len(pixels), n_scores(chosen)))
    for first in range(0, len(pixels), BLOCK_IMAGES):
        rows = slice(first, first + BLOCK_IMAGES)
        found[rows] = _scores(pixels[rows].astype(np.float64), chosen, keys[rows], stream_of(part))
    if chosen.categorical:
        return np.eye(chosen.n_outputs)[found.argmax(axis=1)]
    return found.max(axis=1)


def region_indices(experiment: Experiment) -> list[NDArray[np.intp]]:
    """Return the positions of each region's pixels in an image of 4096, row by row.

    The patches of ``argmax_sim_random`` come without their inner regions.
    """
    regions = experiment.mask.region_pixels().reshape(len(experiment.mask.regions), -1)
    if experiment.rule.scores == "patches":
        outer, inner = np.split(regions, 2)
        regions = np.concatenate([outer & ~inner, inner])
    return [np.flatnonzero(region) for region in regions]


def _pixels(images: ArrayLike) -> NDArray[np.floating]:
    values = real_numbers(images, "images")
    if values.shape[1:] not in ((SIDE, SIDE), (SIDE, SIDE, 1)) or not len(values):
        raise DataError(f"images {values.shape}: have another shape; give (n, {SIDE}, {SIDE})")
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise DataError("images: hold NaN or infinity; give finite numbers")
    return values.reshape(len(values), -1)


def _scores(
    pixels: NDArray[np.float64], experiment: Experiment, keys: NDArray[np.int32], stream: int
) -> NDArray[np.float64]:
    """Return the scores (n, scores) of pixels (n, 4096), with what is random drawn by the keys."""
    kind = experiment.rule.scores
    if kind == "weighted sum":
        return pixels @ experiment.mask.weights().reshape(-1, 1)
    regions = [pixels[:, index] for index in region_indices(experiment)]
    if kind in ("mean", "sd"):
        return np.stack([np.mean(r, axis=1) if kind == "mean" else np.std(r, axis=1) for r in regions], 1)
    if kind == "reference":
        return np.stack([_cosine(regions[0], other) for other in regions[1:]], axis=1)
    half = len(regions) // 2
    if kind == "pairs":
        alike = np.stack([_cosine(a, b) for a, b in zip(regions[:half], regions[half:], strict=True)], axis=1)
        return np.where(_dropped(experiment, keys, stream), 0.0, alike)
    patches, inner = np.stack(regions[:half]), np.stack(regions[half:])
    candidates = inner[1 + _order(experiment, keys, stream).T, np.arange(len(pixels))]
    reference = np.concatenate([patches[0], inner[0]], axis=1)
    whole = np.concatenate([patches[1:], candidates], axis=2)
    return np.stack([_cosine(reference, candidate) for candidate in whole], axis=1)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine similarity of rows, 0 where one of them is all 0."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide(np.sum(a * b, axis=1), norms, out=np.zeros(len(a)), where=norms > 0)


def _dropped(experiment: Experiment, keys: NDArray[np.int32], stream: int) -> NDArray[np.bool_]:
    """Return (n, pairs): which pairs count as 0."""
    pairs = n_scores(experiment)
    if not any(experiment.probabilities):
        return np.zeros((len(keys), pairs), dtype=bool)
    draws = [generator_of(key, stream, _RULE_STREAM).random(pairs) for key in keys]
    return np.stack(draws) < experiment.probabilities


def _order(experiment: Experiment, keys: NDArray[np.int32], stream: int) -> NDArray[np.intp]:
    """Return (n, candidates): which inner region, of those after the first, each candidate has."""
    count = n_scores(experiment)
    if not experiment.permuted:
        return np.tile(np.arange(count), (len(keys), 1))
    return np.stack([generator_of(key, stream, _RULE_STREAM).permutation(count) for key in keys])
