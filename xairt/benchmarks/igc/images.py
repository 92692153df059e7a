"""Gaussian random fields with the spectrum of natural images, an endless stream of them for each seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.igc.masks import SIDE
from xairt.errors import DataError, suggest
from xairt.fields.checks import whole_number
from xairt.keys import generator_of, noise_keys

SLOPE = -1.2
"""Power of the frequency that the amplitude falls with."""

ZERO_FREQUENCY = 0.5
"""Frequency that stands for the zero one, in units of its neighbour's."""

PARTS = {"train": 1, "validation": 2}
"""Independent streams of images."""

BLOCK_IMAGES = 128
"""Images that `image_blocks` gives at once, counted from number 0."""

_COLUMNS = SIDE // 2 + 1


def gain() -> NDArray[np.float64]:
    """Return the standard deviation of each Fourier coefficient (orthonormal transform) of an image.

    Returns
    -------
    numpy.ndarray
        (64, 64), |f| ** -1.2 with f in the order of `numpy.fft.fftfreq`, its mean square 1. The zero frequency is
        taken for half of its neighbour's.

    References
    ----------
    Lelièvre and Chen (2024), arXiv:2404.13910.

    Examples
    --------
    >>> float(np.mean(gain() ** 2).round(12)), float((gain()[0, 0] / gain()[0, 1]).round(6)) == round(2**1.2, 6)
    (1.0, True)
    """
    frequency = np.fft.fftfreq(SIDE)
    size = np.hypot(frequency[:, np.newaxis], frequency)
    size[0, 0] = ZERO_FREQUENCY * size[0, 1]
    amplitude = size**SLOPE
    return amplitude / np.sqrt(np.mean(amplitude**2))


def images(n: int, *, start: int = 0, part: str = "validation", seed: int = 0) -> NDArray[np.float32]:
    """Return Gaussian random fields with a natural spectrum.

    White noise, complex in the frequencies, is multiplied with `gain` and transformed back (orthonormal); the
    real part is the image. Pixels are N(0, 1), and the field is periodic.

    Parameters
    ----------
    n : int
        Number of images, >= 1.
    start : int
        Number of the first image. An image depends on seed, part and its number alone, whatever else is asked for.
    part : {"train", "validation"}
        Two independent streams.
    seed : int
        From 0 to 2**31 - 1.

    Returns
    -------
    numpy.ndarray
        (n, 64, 64) float32; row 0 is the top, see `xairt.benchmarks.igc.masks`.

    Raises
    ------
    DataError
        If an argument is not valid, or a number would be 2**31 or more.

    Notes
    -----
    Drawn is the half of the spectrum that determines the real part: the same distribution at half the cost.

    References
    ----------
    Lelièvre and Chen (2024), arXiv:2404.13910.

    Examples
    --------
    >>> bool((images(5)[3] == images(1, start=3)[0]).all())
    True
    """
    fields = np.empty((_checked(n, start, part, seed)[0], SIDE, SIDE), dtype=np.float32)
    for rows, block in image_blocks(n, start=start, part=part, seed=seed):
        fields[rows] = block
    return fields


def image_blocks(
    n: int, *, start: int = 0, part: str = "validation", seed: int = 0
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Give the images of `images` block by block, for sets larger than memory.

    Parameters
    ----------
    n, start, part, seed
        As `images`.

    Yields
    ------
    rows : slice
        Positions of these images among the n.
    block : numpy.ndarray
        (at most `BLOCK_IMAGES`, 64, 64) float32.

    Raises
    ------
    DataError
        As `images`.
    """
    n, start = _checked(n, start, part, seed)
    return _blocks(n, start, part, seed)


def _checked(n: int, start: int, part: str, seed: int) -> tuple[int, int]:
    n, start = whole_number(n, "n"), whole_number(start, "start")
    if n < 1 or start < 0:
        raise DataError(f"n={n}, start={start}: out of range; give n >= 1 and start >= 0")
    stream_of(part)
    noise_keys(seed, [start + n - 1], 1)
    return n, start


def stream_of(part: str) -> int:
    """Return the number of a part's stream of random numbers; DataError if there is no such part."""
    if part not in PARTS:
        raise DataError(f"part {part!r} is unknown; give 'train' or 'validation'{suggest(part, PARTS)}")
    return PARTS[part]


def _blocks(n: int, start: int, part: str, seed: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    import scipy.fft

    amplitude = _half_gain()
    for first in range(start - start % BLOCK_IMAGES, start + n, BLOCK_IMAGES):
        numbers = np.arange(max(first, start), min(first + BLOCK_IMAGES, start + n))
        # Always a full block, an image at its own place in it: a transform of another shape may round differently.
        noise = np.zeros((BLOCK_IMAGES, SIDE, _COLUMNS, 2), dtype=np.float32)
        for key in noise_keys(seed, numbers, len(numbers)):
            draw = generator_of(key, stream_of(part))
            draw.standard_normal(dtype=np.float32, out=noise[key[1] - first])
        spectrum = noise.view(np.complex64)[..., 0] * amplitude
        fields = scipy.fft.irfft2(spectrum, s=(SIDE, SIDE), norm="ortho", overwrite_x=True)
        yield slice(numbers[0] - start, numbers[-1] + 1 - start), fields[numbers - first]


def _half_gain() -> NDArray[np.float32]:
    """Return the factors (64, 33) of noise whose real and imaginary parts are N(0, 1) each.

    A coefficient and the one of the opposite frequency are conjugates, so those of the inner columns are drawn once
    and scaled to the variance of one. Of the outer columns, which hold both, the transform takes the Hermitian part.
    """
    half = gain()[:, :_COLUMNS].copy()
    half[:, 1:-1] /= np.sqrt(2)
    return half.astype(np.float32)
