"""Samples of a formula: few variables that matter among many that do not."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.chaos_symbolic.formulas import Formula
from xairt.errors import DataError
from xairt.keys import generator_of, noise_keys

SPREAD = 0.33
"""Standard deviation of a variable before it is cut to -1..1."""

LABEL_NOISE = 0.01
"""Standard deviation of the noise on the targets."""

TEST_SHARE = 0.2

_VARIABLES, _NOISE_VARIABLES, _LABELS = 1, 2, 3  # streams of random numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a formula, the test set last.

    Attributes
    ----------
    formula : Formula
    x : numpy.ndarray
        (samples, columns) float32 in -1..1: the formula's letters, then the noise variables.
    y : numpy.ndarray
        (samples,) float64: what a network learns, with noise.
    clean : numpy.ndarray
        (samples,) float64: the values of the formula.
    n_test : int
        Samples of the test set.
    """

    formula: Formula
    x: NDArray[np.float32]
    y: NDArray[np.float64]
    clean: NDArray[np.float64]
    n_test: int

    def __len__(self) -> int:
        return len(self.x)

    @property
    def training(self) -> slice:
        """Rows to train with."""
        return slice(0, len(self) - self.n_test)

    @property
    def test(self) -> slice:
        """Rows of the test set."""
        return slice(len(self) - self.n_test, len(self))


def samples(
    formula: Formula,
    n: int,
    n_noise: int,
    seed: int,
    *,
    label_noise: float = LABEL_NOISE,
    test_share: float = TEST_SHARE,
) -> Samples:
    """Draw samples of a formula.

    Every column is clip(0.33 N(0, 1), -1, 1). The formula's variables are the same for any number of noise variables,
    and the first samples are the same for any number of samples.

    Parameters
    ----------
    formula : Formula
        A letter that it does not use is drawn as well, and logged.
    n : int
        Samples, test set included.
    n_noise : int
        Noise variables, >= 0.
    seed : int
        From 0 to 2**31 - 1.
    label_noise : float
        Standard deviation of the normal noise on y, in units of y.
    test_share : float
        Share of the samples that make the test set, the last ones: above 0 and below 1.

    Returns
    -------
    Samples

    Raises
    ------
    DataError
        If a number is out of range, training or test set would be empty, or the formula has no finite value at a
        sample.

    References
    ----------
    Shi et al. (2024), arXiv:2406.12150, section 3.1.

    Examples
    --------
    >>> made = samples(Formula("a+b", 2), 10, 3, seed=0)
    >>> made.x.shape, made.x[made.test].shape
    ((10, 5), (2, 5))
    """
    _check(n, n_noise, label_noise, test_share)
    (key,) = noise_keys(seed, None, 1)
    if formula.unused:
        log.warning(
            "formula '%s' does not use %s: drawn as relevant, with truth 0",
            formula.text,
            ", ".join(formula.unused),
        )
    counts = {_VARIABLES: formula.n_features, _NOISE_VARIABLES: n_noise}
    parts = [generator_of(key, stream).standard_normal((n, count)) for stream, count in counts.items()]
    x = np.clip(SPREAD * np.concatenate(parts, axis=1), -1, 1).astype(np.float32)
    clean = formula(x)
    y = clean + label_noise * generator_of(key, _LABELS).standard_normal(n)
    return Samples(formula, x, y, clean, round(test_share * n))


def _check(n: int, n_noise: int, label_noise: float, test_share: float) -> None:
    if n_noise < 0:
        raise DataError(f"n_noise={n_noise}: out of range; give 0 or more noise variables")
    if not 0 <= label_noise < np.inf:
        raise DataError(f"label_noise={label_noise}: out of range; give a standard deviation of 0 or more")
    if not 0 < test_share < 1 or not 0 < round(test_share * n) < n:
        raise DataError(
            f"{n} samples with test_share={test_share}: leave training or test set empty; give more samples, or a share "
            "between 0 and 1"
        )
