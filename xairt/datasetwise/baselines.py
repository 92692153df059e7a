"""Baselines of whole data sets: the same for all samples, or drawn for each from the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xairt.attribution import inputs
from xairt.attribution.parameters import one_line
from xairt.datasetwise.reading import Data
from xairt.errors import MethodError
from xairt.keys import generator_of

POOL = 4096
"""Most samples of the data that baselines are drawn from."""

_POOL_STREAM = 1


@dataclass(frozen=True, eq=False)
class Drawn:
    """Baselines drawn for each sample: the attribution is the mean over them (expected gradients).

    Each sample draws `n` different ones by (seed, index of the sample) alone, whatever the size of blocks.

    Parameters
    ----------
    n : int
        Number of baselines of each sample.
    of : array_like, optional
        Samples to draw from (m, ...), in the form of x. By default the data themselves; where they are more
        than 4096, that many of them, themselves drawn with the seed, so that data larger than memory are
        not read at random places. Data that come as an iterable of blocks need it.

    Source: Erion et al. 2021 (arXiv:1906.10670), eq. 4; n = 8 in Lelievre and Chen 2024 (arXiv:2404.13910).

    Raises
    ------
    MethodError
        If n is no whole number above 0.
    """

    n: int = 8
    of: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.n, int | np.integer) or isinstance(self.n, bool) or self.n < 1:
            raise MethodError(f"Drawn: n = {one_line(self.n)}: give a whole number of baselines from 1")


@dataclass(frozen=True, eq=False)
class Baselines:
    """Baselines ready to be handed out to samples.

    Attributes
    ----------
    pool : numpy.ndarray
        (m, *input_shape).
    drawn : int or None
        How many of the pool each sample draws; None gives all of them to every sample.
    seed : int
        Of the draws.
    description : object
        What goes into the identity of a result.
    """

    pool: NDArray[Any]
    drawn: int | None
    seed: int
    description: Any

    @property
    def per_sample(self) -> int:
        """Number of baselines of each sample."""
        return self.drawn or len(self.pool)

    def rows(self, indices: NDArray[np.integer]) -> NDArray[Any]:
        """Return the baselines (b, per_sample, ...) of the samples of these indices; (1, ...) if all share them."""
        if self.drawn is None:
            return self.pool[None]
        chosen = [
            generator_of((self.seed, index)).choice(len(self.pool), self.drawn, replace=False)
            for index in indices.tolist()
        ]
        return self.pool[np.stack(chosen)]


def read_baselines(baseline: Any, data: Data, seed: int) -> Baselines:
    """Read baselines: None (zeros), a number, one sample, a set, or `Drawn`.

    Raises
    ------
    DataError
        If they do not fit the samples.
    MethodError
        If a sample would draw more of them than there are, or from an iterable of blocks.
    """
    if not isinstance(baseline, Drawn):
        pool = inputs.read_baseline(baseline, data.shape, data.grid, data.dtype)
        return Baselines(pool, None, seed, inputs.describe_baseline(baseline))
    if baseline.of is not None:
        pool = inputs.read_samples(baseline.of, data.shape, data.grid, data.dtype, "Drawn(of=)").values
    elif data.n is None:
        raise MethodError("Drawn: x comes in blocks: give the samples to draw from, Drawn(n, of=array)")
    else:
        pool = data.rows(_pool_rows(data.n, seed))
    if baseline.n > len(pool):
        raise MethodError(
            f"Drawn: n = {baseline.n} of {len(pool)} samples: give a smaller n, or more samples"
        )
    described = {"drawn": int(baseline.n), "of": "data", "pool": len(pool)}
    if baseline.of is not None:
        described["of"] = inputs.array_sha256(baseline.of if isinstance(baseline.of, xr.DataArray) else pool)
    return Baselines(pool, int(baseline.n), seed, described)


def _pool_rows(n: int, seed: int) -> NDArray[np.integer]:
    if n <= POOL:
        return np.arange(n)
    return np.sort(np.random.default_rng([_POOL_STREAM, seed]).choice(n, POOL, replace=False))
