"""Whether the network's output changes where an attribution says that it depends on the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.errors import DataError, suggest
from xairt.keys import generator_of, noise_keys
from xairt.metrics.correlation import pearson, spearman

Predict = Callable[[NDArray[np.float32]], ArrayLike]
"""Maps inputs (n, cells) to one output each, (n,); see `xairt.models.prediction.predictor`."""

MOST_ROWS, MOST_VALUES = 2048, 2**20
"""Largest number of inputs, and of their cells, that are handed to `predict` at once."""

SUBSETS = 1
"""Stream of the random subsets, apart from the noise of attribution methods with the same seed."""

_GROUP_VALUES = 2**21
_STEPS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_CORRELATIONS = {"spearman": spearman, "pearson": pearson}


def faithfulness_correlation(
    predict: Predict,
    x: ArrayLike,
    attribution: ArrayLike,
    *,
    baseline: ArrayLike = 0.0,
    subset_size: int = 50,
    n_runs: int = 30,
    seed: int = 0,
    sample_index: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """Return how well sums of attributions foretell the drop of the output without those cells.

    For each sample `n_runs` random subsets S of `subset_size` cells are set to the baseline; the score is
    Pearson's correlation over the runs,

        corr_S(sum of a_i over i in S, f(x) - f(x with S at the baseline)).

    f(x) is the same in all runs and left out: a constant does not change a correlation.

    Parameters
    ----------
    predict : callable
        Maps (n, cells) float32 to (n,). It is always handed the same number of rows, at most `MOST_ROWS`.
    x : (samples, cells)
        Inputs; never changed. May be NaN where the attribution is.
    attribution : (samples, cells)
        In units of the output, signed. NaN cells (land) are in no subset.
    baseline : float or (cells,)
        In units of x.
    subset_size : int
        Cells set to the baseline in each run; fewer than each sample has.
    n_runs : int
        Subsets of each sample, >= 2. The first ones do not depend on how many there are.
    seed : int
        Subsets depend on the seed and the sample's index alone, so that a sample's score does not depend on
        which others are scored with it.
    sample_index : sequence of int, optional
        Index of each sample; None counts them from 0.

    Returns
    -------
    (samples,) float64
        -1 .. 1, 1 is best. NaN where the attribution or the output is constant over the runs (an attribution
        of equal cells, a network that ignores them) and where the whole attribution is NaN.

    Raises
    ------
    DataError
        If shapes, `subset_size`, `n_runs`, `baseline`, `seed` or `sample_index` do not fit, x or the
        attribution is not finite in a cell that is scored, or `predict` does not return one finite number
        for each row.

    References
    ----------
    Bhatt, Weller and Moura (2020), arXiv:2005.00631, faithfulness (mu_F).

    Examples
    --------
    >>> weights, x = np.arange(1.0, 9.0), np.ones((2, 8))
    >>> faithfulness_correlation(lambda rows: rows @ weights, x, x * weights, subset_size=3).round(9)
    array([1., 1.])
    """
    x, a = _pair(x, attribution)
    keys = noise_keys(seed, sample_index, len(x))
    _require_subsets(a, subset_size, n_runs)
    filling = _baseline(baseline, x.shape[1])
    scores = np.empty(len(x))
    for rows in _groups(len(x), n_runs * subset_size):
        subsets = _subsets(keys[rows], ~np.isnan(a[rows]), subset_size, n_runs)
        left = _without(predict, x[rows], subsets, filling)
        sums = np.take_along_axis(a[rows][:, None, :], subsets, axis=2).sum(axis=2)
        scores[rows] = pearson(sums, -left)
    return scores


def monotonicity_correlation(
    predict: Predict,
    x: ArrayLike,
    attribution: ArrayLike,
    *,
    replacements: Sequence[float] | None = None,
    correlation: Literal["spearman", "pearson"] = "spearman",
) -> NDArray[np.float64]:
    """Return how well the absolute attribution of a cell foretells how much the output depends on that cell.

    For each cell i alone x_i is replaced by each of a few values; the score is the correlation over the cells,

        corr_i(|a_i|, 1/f(x)^2 mean over values v of (f(x with x_i = v) - f(x))^2).

    The weight 1/f(x)^2 is one factor for all cells of a sample and left out, as it changes no correlation: a
    prediction near 0 needs no threshold (Quantus and Krell et al. weight by 1 where |f(x)| < 1e-5, to the
    same effect). Nor does the order of the cells matter.

    Parameters
    ----------
    predict, x, attribution
        As `faithfulness_correlation`; a NaN attribution leaves the cell out.
    replacements : sequence of float, optional
        Values that a cell takes, in units of x. None: mean - SD, mean - SD/2, mean, mean + SD/2, mean + SD of
        x over all samples and cells with an attribution, the same for all (Krell et al. 2025). Give the
        values of the whole set where it is scored in parts.
    correlation : {"spearman", "pearson"}
        Rank correlation as in the paper and in Quantus; Pearson's as in the program of Krell et al. (2025).

    Returns
    -------
    (samples,) float64
        -1 .. 1, 1 is best. NaN where the absolute attribution or the change is the same in all cells, and
        where the whole attribution is NaN.

    Raises
    ------
    DataError
        If shapes do not fit, there is no replacement or one is not finite, the correlation is unknown, x or
        the attribution is not finite in a cell that is scored, or `predict` does not return one finite number
        for each row.

    References
    ----------
    Nguyen and Martinez (2020), arXiv:2007.07584, monotonicity; Krell et al. (2025), repository
    ekrell/geoscience-attribution-benchmarks, src/models/xai_evaluate.py.

    Examples
    --------
    >>> weights, x = np.arange(1.0, 9.0), np.ones((2, 8))
    >>> monotonicity_correlation(lambda rows: rows @ weights, x, -x * weights, replacements=[0.0])
    array([1., 1.])
    """
    if correlation not in _CORRELATIONS:
        raise DataError(
            f"correlation {correlation!r} is unknown: give 'spearman' or 'pearson'"
            f"{suggest(correlation, _CORRELATIONS)}"
        )
    x, a = _pair(x, attribution)
    values = _replacements(x[~np.isnan(a)], replacements)
    cells = np.flatnonzero(~np.isnan(a).all(axis=0))
    scores = np.full(len(x), np.nan)
    for rows in _groups(len(x), max(1, len(cells) * len(values))):
        change = _changes(predict, x[rows], cells, values)
        scores[rows] = _CORRELATIONS[correlation](np.abs(a[rows][:, cells]), change)
    return scores


def _pair(x: ArrayLike, attribution: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    x, a = np.asarray(x, np.float32), np.asarray(attribution, np.float64)
    if x.ndim != 2 or x.shape != a.shape or not x.shape[1]:
        raise DataError(
            f"x {x.shape} and attribution {a.shape}: shapes do not fit; give both as (samples, cells)"
        )
    if np.isinf(a).any():
        raise DataError("attribution: infinite; give finite numbers, NaN where there is no cell")
    if not np.isfinite(x[~np.isnan(a)]).all():
        raise DataError("x: NaN or infinite in a cell that has an attribution; leave such cells out of both")
    return x, a


def _require_subsets(a: NDArray[np.float64], subset_size: int, n_runs: int) -> None:
    counts = np.sum(~np.isnan(a), axis=1)
    fewest = int(np.min(counts, where=counts > 0, initial=a.shape[1]))
    if not 1 <= subset_size < fewest:
        raise DataError(
            f"subset_size={subset_size}: out of range for samples of {fewest} cells; give 1 to {fewest - 1}"
        )
    if n_runs < 2:
        raise DataError(f"n_runs={n_runs}: too few for a correlation; give 2 or more, for example 30")


def _baseline(baseline: ArrayLike, n_cells: int) -> NDArray[np.float32]:
    values = np.asarray(baseline, np.float32)
    if values.shape not in ((), (n_cells,)) or not np.isfinite(values).all():
        raise DataError(
            f"baseline of shape {values.shape}: not usable; give one finite number, or one for each of the "
            f"{n_cells} cells"
        )
    return np.broadcast_to(values, (n_cells,))


def _replacements(x: NDArray[np.float32], values: Sequence[float] | None) -> NDArray[np.float32]:
    """Return the values that cells take; x are those of all cells that count."""
    if values is None:
        cells = x.astype(np.float64)
        mean, deviation = (cells.mean(), cells.std()) if cells.size else (0.0, 0.0)
        return (mean + deviation * np.array(_STEPS)).astype(np.float32)
    given = np.asarray(values, np.float32)
    if given.ndim != 1 or not given.size or not np.isfinite(given).all():
        raise DataError(f"replacements {values!r}: not usable; give a list of one or more finite numbers")
    return given


def _groups(n: int, values_per_sample: int) -> Iterator[slice]:
    """Cut samples into groups whose outputs and subsets fit in memory."""
    size = max(1, _GROUP_VALUES // values_per_sample)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _subsets(
    keys: NDArray[np.int32], valid: NDArray[np.bool_], subset_size: int, n_runs: int
) -> NDArray[np.int64]:
    """Return the cells of each subset, (samples, runs, subset_size).

    In rising order, so that subsets of the same values have the very same sum.
    """
    drawn = np.empty((len(keys), n_runs, subset_size), np.int64)
    for place, key, has_cell in zip(drawn, keys, valid, strict=True):
        cells = np.flatnonzero(has_cell if has_cell.any() else ~has_cell)
        rows = np.broadcast_to(cells, (n_runs, len(cells)))
        place[:] = generator_of(key, SUBSETS).permuted(rows, axis=1)[:, :subset_size]
    return np.sort(drawn, axis=2)


def _without(
    predict: Predict, x: NDArray[np.float32], subsets: NDArray[np.int64], baseline: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the outputs (samples, runs) without the cells of each subset."""
    samples, runs, _ = subsets.shape

    def inputs(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        sample, run = np.divmod(rows, runs)
        changed, cells = x[sample], subsets[sample, run]
        np.put_along_axis(changed, cells, baseline[cells], axis=1)
        return changed

    return _outputs(predict, samples * runs, x.shape[1], inputs).reshape(samples, runs)


def _changes(
    predict: Predict, x: NDArray[np.float32], cells: NDArray[np.int64], values: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the mean squared change of the output by each cell, (samples, cells)."""

    def inputs(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        sample, cell, value = np.unravel_index(rows, shape)
        changed = x[sample]
        changed[np.arange(len(rows)), cells[cell]] = values[value]
        return changed

    shape = (len(x), len(cells), len(values))
    output = _outputs(predict, len(x), x.shape[1], lambda rows: x[rows])
    replaced = _outputs(predict, int(np.prod(shape)), x.shape[1], inputs).reshape(shape)
    return np.mean((replaced - output[:, None, None]) ** 2, axis=2)


def _outputs(
    predict: Predict,
    n: int,
    n_cells: int,
    inputs: Callable[[NDArray[np.int64]], NDArray[np.float32]],
) -> NDArray[np.float64]:
    """Return the outputs of n inputs, made and predicted in blocks of one size, the last one padded."""
    size = max(1, min(MOST_ROWS, MOST_VALUES // n_cells))
    outputs = np.empty(n)
    for start in range(0, n, size):
        rows = np.arange(start, min(start + size, n))
        found = np.asarray(predict(inputs(np.resize(rows, size))), np.float64)
        if found.shape != (size,):
            raise DataError(
                f"predict: gave shape {found.shape} for {size} rows; return one number for each row, ({size},)"
            )
        outputs[rows] = found[: len(rows)]
    if not np.isfinite(outputs).all():
        raise DataError("predict: gave NaN or infinite numbers; check the network and that x has its units")
    return outputs
