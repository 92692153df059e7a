"""Random numbers and places of objects, keyed by seed, set, features and number of the image alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.benchmarks.smerf.rules import PARTS, feature_codes
from xairt.errors import DataError, suggest
from xairt.keys import noise_keys

SIDE = 64
"""Rows and columns of an image."""

PATCH_SIDE, SWITCH_SIDE = 10, 4
"""Rows and columns of the boxes."""

FIXED_SWITCH = (58, 58)
"""Row and column of a switch at its fixed place (feature 1)."""

N_CORNERS = 54
"""A random corner of a box lies in row and column 0 to 53."""

CHARACTER_OFFSET, CHARACTER_SPAN = 6, 36
"""The origin of a character is 6 + int(36 u), u uniform."""

SQUARED_DISTANCE = {"patch-character": 300, "switch-character": 400, "patch-switch": 300}
"""Corners of two boxes, or of a box and int(36 u) of a character, are farther apart (pixels squared)."""

STATE_WORDS = 4
"""The first words of an image's stream, which its background is made from."""

_CHARACTER_WORDS, _WORDS_PER_ATTEMPT, _FIRST_ATTEMPTS = 2, 4, 16
FIRST_WORDS = STATE_WORDS + _CHARACTER_WORDS + _WORDS_PER_ATTEMPT * _FIRST_ATTEMPTS
"""Words that are enough for most images."""

PATCH, CHARACTER, SWITCH = range(3)


def image_keys(seed: int, part: str, features: ArrayLike, numbers: ArrayLike) -> NDArray[np.uint64]:
    """Return the key of each image's random numbers.

    Parameters
    ----------
    seed : int
        From 0 to 2**31 - 1.
    part : {"train", "test"}
    features : (n, 3), whole numbers
        Of the objects that places are found for, see `Features`.
    numbers : (n,), whole numbers
        Of the image among those with these features, from 0 to 2**31 - 1.

    Returns
    -------
    numpy.ndarray
        (n, 2) uint64, no two alike.

    Raises
    ------
    DataError
        If an argument is not valid.

    Examples
    --------
    >>> image_keys(7, "test", [(0, 0, 2)], [5]).tolist() == [[7, 5 + (2 << 32) + (1 << 40)]]
    True
    """
    if part not in PARTS:
        raise DataError(f"part {part!r} is unknown; give 'train' or 'test'{suggest(part, PARTS)}")
    codes = feature_codes(features)
    keys = noise_keys(seed, numbers, len(codes)).astype(np.uint64)
    keys[:, 1] += (codes.astype(np.uint64) << np.uint64(32)) + np.uint64(PARTS.index(part) << 40)
    return keys


def random_words(keys: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """Return the first ``count`` words of each key's stream.

    Parameters
    ----------
    keys : (n, 2) uint64
    count : int

    Returns
    -------
    numpy.ndarray
        (n, count) uint64, the raw output of Philox 4x64 with that key.

    References
    ----------
    Salmon, Moraes, Dror and Shaw (2011), doi:10.1145/2063384.2063405.
    """
    generator = np.random.Philox(key=0)
    fresh = generator.state
    # A state of lists is set more than twice as fast as one of arrays.
    fresh["buffer"], fresh["state"]["counter"] = fresh["buffer"].tolist(), fresh["state"]["counter"].tolist()
    words = np.empty((len(keys), count), dtype=np.uint64)
    for row, key in zip(words, keys.tolist(), strict=True):
        fresh["state"]["key"] = key
        # The same object for all is faster than one generator for each by a factor of four.
        generator.state = fresh
        row[:] = generator.random_raw(count)
    return words


def place(
    keys: NDArray[np.uint64], features: NDArray[np.integer], words: NDArray[np.uint64]
) -> NDArray[np.int16]:
    """Return where the objects of each image lie, so that they keep their distances.

    The character is placed first, then the patch, then the switch; each of the boxes is drawn again until it
    is far enough from what is there (`SQUARED_DISTANCE`).

    Parameters
    ----------
    keys : (n, 2) uint64
    features : (n, 3), whole numbers
    words : (n, at least `FIRST_WORDS`) uint64
        The beginning of `random_words` of the keys.

    Returns
    -------
    numpy.ndarray
        (n, 3, 2) int16: row and column of the corner of patch and switch, and of the origin of the character;
        -1 for absent objects.
    """
    has_patch, has_character = features[:, PATCH] > 0, features[:, CHARACTER] > 0
    first_attempt = STATE_WORDS + _CHARACTER_WORDS
    character = uniform_below(words[:, STATE_WORDS:first_attempt], CHARACTER_SPAN)
    attempts = (words.shape[1] - first_attempt) // _WORDS_PER_ATTEMPT
    corners = uniform_below(words[:, first_attempt:], N_CORNERS).reshape(-1, attempts, 2, 2)
    fixed = features[:, SWITCH] == 1
    patch, patch_found = _first_apart(
        corners[:, :, 0],
        (has_character, character, SQUARED_DISTANCE["patch-character"]),
        (fixed, np.broadcast_to(FIXED_SWITCH, character.shape), SQUARED_DISTANCE["patch-switch"]),
    )
    switch, switch_found = _first_apart(
        corners[:, :, 1],
        (has_character, character, SQUARED_DISTANCE["switch-character"]),
        (has_patch, patch, SQUARED_DISTANCE["patch-switch"]),
    )
    switch[fixed] = FIXED_SWITCH
    places = np.stack([patch, character + CHARACTER_OFFSET, switch], axis=1).astype(np.int16)
    places[features == 0] = -1
    again = (has_patch & ~patch_found) | ((features[:, SWITCH] == 2) & ~switch_found)
    if again.any():
        longer = random_words(keys[again], first_attempt + 4 * _WORDS_PER_ATTEMPT * attempts)
        places[again] = place(keys[again], features[again], longer)
    return places


def _first_apart(
    corners: NDArray[np.int64], *others: tuple[NDArray[np.bool_], NDArray[np.int64], int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the first of the corners (n, attempts, 2) that is far from all others that are there, if any."""
    apart = np.ones(corners.shape[:2], dtype=bool)
    for present, at, squared in others:
        square = (corners - at[:, None]) ** 2
        apart &= ~present[:, None] | (square[..., 0] + square[..., 1] > squared)
    return corners[np.arange(len(corners)), apart.argmax(axis=1)], apart.any(axis=1)


def uniform_below(words: NDArray[np.uint64], limit: int) -> NDArray[np.int64]:
    """Return int(limit u) of words, with u in [0, 1) of the 53 highest bits of each.

    Examples
    --------
    >>> uniform_below(np.array([0, 2**63, 2**64 - 1], np.uint64), 54)
    array([ 0, 27, 53])
    """
    return ((words >> np.uint64(11)) * (2.0**-53 * limit)).astype(np.int64)
