"""Coalitions of players and the weighted regression that turns their values into Shapley values."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from xairt.errors import MethodError


@dataclass(frozen=True, eq=False)
class Coalitions:
    """Coalitions in pairs: each of `half` and its complement, of equal weight.

    Attributes
    ----------
    half : numpy.ndarray
        (pairs, players) booleans, True for a player that takes part.
    weights : numpy.ndarray
        Weight in the regression of each of both coalitions of a pair (pairs,).
    """

    half: np.ndarray
    weights: np.ndarray


def draw(players: int, number: int, seed: int) -> Coalitions:
    """Return coalitions for Kernel SHAP.

    All coalitions of the smallest and largest sizes as long as the number suffices for what their share
    of the kernel's weight would draw of them, as the shap package does; then coalitions of sizes drawn by
    the kernel's weight (Lundberg and Lee 2017, arXiv:1705.07874, theorem 2), each with its complement.

    Parameters
    ----------
    players : int
        Features or groups.
    number : int
        Largest number of coalitions, the empty and the full one not counted.
    seed : int
        Of the draw.

    Examples
    --------
    >>> draw(3, 6, seed=0).half
    array([[ True, False, False],
           [False,  True, False],
           [False, False,  True]])
    """
    sizes = np.arange(1, players // 2 + 1)
    share = (players - 1) / (sizes * (players - sizes)) * np.where(2 * sizes == players, 1, 2)
    share = share / share.sum() if len(sizes) else share
    half, weights, left = [], [], number
    for k, size in enumerate(sizes):
        subsets = comb(players, int(size)) * (1 if 2 * size == players else 2)
        if left * share[k] / share[k:].sum() < subsets * (1 - 1e-8):
            drawn, counts = _drawn(players, sizes[k:], share[k:], left // 2, np.random.default_rng(seed))
            half.append(drawn)
            weights.append(counts / counts.sum() * share[k:].sum() / 2)
            break
        left -= subsets
        half.append(_all_of_size(players, int(size)))
        weights.append(np.full(len(half[-1]), share[k] / subsets))
    if not half:  # a single player: all and none, which say nothing
        return Coalitions(np.ones((1, 1), bool), np.zeros(1))
    return Coalitions(np.concatenate(half), np.concatenate(weights))


def _all_of_size(players: int, size: int) -> np.ndarray:
    """Return all coalitions of a size; of those of half the players one of each pair of complements."""
    chosen = combinations(range(players), size)
    if 2 * size == players:
        chosen = (c for c in chosen if c[0] == 0)
    members = np.array(list(chosen))
    masks = np.zeros((len(members), players), bool)
    np.put_along_axis(masks, members, True, axis=1)
    return masks


def _drawn(
    players: int, sizes: np.ndarray, share: np.ndarray, pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return different coalitions (at most `pairs`) and how often each was drawn."""
    draws = 4 * pairs
    size = rng.choice(sizes, draws, p=share / share.sum())
    place = rng.permuted(np.broadcast_to(np.arange(players, dtype=np.int16), (draws, players)), axis=1)
    masks = place < size[:, None]
    swap = (2 * size == players) & ~masks[:, 0]
    masks[swap] = ~masks[swap]
    _, first, number = np.unique(np.packbits(masks, axis=1), axis=0, return_index=True, return_inverse=True)
    kept = np.sort(first)[:pairs]
    until = kept[-1] + 1 if len(kept) else 0
    counts = np.bincount(number.reshape(-1)[:until], minlength=len(first))
    return masks[kept], counts[number.reshape(-1)[kept]].astype(float)


def regression(coalitions: Coalitions) -> tuple[np.ndarray, np.ndarray]:
    """Solve the weighted least squares of Kernel SHAP once for all samples.

    Values v of the coalitions S and of their complements, and the whole difference v(all) - v(none),
    give Shapley values as matrix @ (v(S) - v(complement of S)) + share * (v(all) - v(none)). They sum to
    the whole difference; where all coalitions are there they are exact (Lundberg and Lee 2017, theorem 2).

    Returns
    -------
    matrix : numpy.ndarray
        (players, pairs) float64; its columns sum to 0.
    share : numpy.ndarray
        (players,) float64; sums to 1.

    Raises
    ------
    MethodError
        If the coalitions do not determine the players' values.
    """
    pairs, players = coalitions.half.shape
    member = coalitions.half.mean(axis=1, keepdims=True)
    centred = coalitions.half - member  # the sum of all values is given: what is sought lies across
    values, vectors = np.linalg.eigh(centred.T @ (coalitions.weights[:, None] * centred))
    sound = values > 1e-9 * values.max(initial=0)
    if sound.sum() < players - 1:
        raise MethodError(
            f"shap.kernel: {2 * pairs} coalitions do not determine the values of {players} players: raise nsamples to "
            f"{4 * players} or more, or give fewer groups"
        )
    inverse = (vectors[:, sound] / values[sound]) @ vectors[:, sound].T
    matrix = inverse @ (coalitions.weights[:, None] * centred).T
    return matrix / 2, 1 / players + matrix @ (0.5 - member[:, 0])
