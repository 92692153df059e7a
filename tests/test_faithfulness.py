"""Faithfulness and monotonicity: written out in loops, on known answers, and, with sparseness, by Quantus."""

from __future__ import annotations

import itertools
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from xairt.errors import DataError
from xairt.metrics import (
    faithfulness_correlation,
    monotonicity_correlation,
    sparseness,
)
from xairt.metrics.faithfulness import MOST_ROWS, MOST_VALUES

CELLS = 12
WEIGHTS = np.linspace(-1.0, 2.0, CELLS) ** 3
NAN = float("nan")


@pytest.fixture(autouse=True)
def _no_warning(request):
    with warnings.catch_warnings():
        if "quantus" not in request.fixturenames:
            warnings.simplefilter("error")
        yield


def linear(rows):
    return rows.astype(np.float64) @ WEIGHTS


def curved(rows):
    """A function with interactions, far from 0."""
    rows = rows.astype(np.float64)
    return 3.0 + np.tanh(rows @ WEIGHTS) + rows[:, 0] * rows[:, 1] + 0.2 * (rows[:, 2:] ** 2).sum(axis=1)


def drawn(samples: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return samples without zeros, exact in float32, and attributions."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, CELLS)).astype(np.float32)
    return x, rng.standard_normal((samples, CELLS))


class Recorder:
    """A function that keeps the rows it is asked for."""

    def __init__(self, function):
        self.function, self.blocks = function, []

    def __call__(self, rows):
        self.blocks.append(rows.copy())
        return self.function(rows)

    def subsets(self, samples: int, runs: int) -> np.ndarray:
        """Return which cells were 0 in each run, (samples, runs, cells)."""
        rows = np.concatenate(self.blocks)[: samples * runs]
        return (rows == 0).reshape(samples, runs, CELLS)


# --------------------------------------------------------------------------------------- faithfulness


def naive_faithfulness(function, x, a, subsets, baseline=0.0):
    scores = []
    for i in range(len(x)):
        drops, sums = [], []
        for subset in subsets[i]:
            changed = x[i].copy()
            changed[subset] = baseline
            drops.append(float(function(x[i : i + 1])[0] - function(changed[None])[0]))
            sums.append(sum(a[i, j] for j in np.flatnonzero(subset)))
        scores.append(np.corrcoef(sums, drops)[0, 1])
    return np.array(scores)


def test_faithfulness_is_the_loop_over_runs():
    x, a = drawn(6)
    asked = Recorder(curved)
    found = faithfulness_correlation(asked, x, a, subset_size=4, n_runs=15, seed=3)
    subsets = asked.subsets(6, 15)
    assert (subsets.sum(axis=2) == 4).all()
    assert len({s.tobytes() for s in subsets.reshape(-1, CELLS)}) > 70  # of 90 draws out of 495 subsets
    np.testing.assert_allclose(found, naive_faithfulness(curved, x, a, subsets), rtol=1e-11)


def test_faithfulness_of_exact_contributions_is_one():
    x, _ = drawn(5)
    exact = x.astype(np.float64) * WEIGHTS
    np.testing.assert_allclose(faithfulness_correlation(linear, x, exact, subset_size=5), 1.0, rtol=1e-13)
    np.testing.assert_allclose(faithfulness_correlation(linear, x, -exact, subset_size=5), -1.0, rtol=1e-13)


def test_faithfulness_takes_a_baseline_for_each_cell():
    x, _ = drawn(4)
    start = np.linspace(-0.5, 1.0, CELLS).astype(np.float32)
    exact = (x.astype(np.float64) - start) * WEIGHTS
    np.testing.assert_allclose(
        faithfulness_correlation(linear, x, exact, subset_size=5, baseline=start), 1.0, rtol=1e-13
    )
    assert (faithfulness_correlation(linear, x, exact, subset_size=5) < 0.999).any()


def test_subsets_are_drawn_evenly():
    x, a = drawn(400)
    asked = Recorder(linear)
    faithfulness_correlation(asked, x, a, subset_size=3, n_runs=10)
    counts = asked.subsets(400, 10).sum(axis=(0, 1))
    assert scipy.stats.chisquare(counts).pvalue > 1e-3  # 12,000 draws over 12 cells
    assert counts.sum() == 400 * 10 * 3


def test_subsets_follow_from_seed_and_sample_index_alone():
    x, a = drawn(7)
    whole = faithfulness_correlation(curved, x, a, subset_size=4)
    parts = [
        faithfulness_correlation(
            curved, x[i : i + 2], a[i : i + 2], subset_size=4, sample_index=range(7)[i : i + 2]
        )
        for i in range(0, 7, 2)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    order = np.array([3, 0, 6])
    np.testing.assert_array_equal(
        faithfulness_correlation(curved, x[order], a[order], subset_size=4, sample_index=order), whole[order]
    )
    assert (faithfulness_correlation(curved, x, a, subset_size=4, seed=1) != whole).all()


def test_more_runs_begin_with_the_same_subsets():
    x, a = drawn(2)
    few, many = Recorder(linear), Recorder(linear)
    faithfulness_correlation(few, x, a, subset_size=4, n_runs=5)
    faithfulness_correlation(many, x, a, subset_size=4, n_runs=9)
    np.testing.assert_array_equal(few.subsets(2, 5), many.subsets(2, 9)[:, :5])


def test_subsets_leave_land_out():
    x, a = drawn(3)
    a[:, [2, 7]] = NAN
    a[1, 4] = NAN
    asked = Recorder(linear)
    land = x.copy()
    land[:, [2, 7]] = NAN

    def ocean(rows):
        return asked(np.where(np.isnan(rows), 1.0, rows))

    found = faithfulness_correlation(ocean, land, a, subset_size=4, n_runs=8)
    subsets = asked.subsets(3, 8)
    assert not subsets[np.broadcast_to(np.isnan(a)[:, None], subsets.shape)].any()
    seen = np.where(np.isnan(land), np.float32(1), land)
    np.testing.assert_allclose(found, naive_faithfulness(linear, seen, np.nan_to_num(a), subsets), rtol=1e-11)
    assert subsets[0, :, 4].any()


def test_faithfulness_without_a_ranking_is_nan():
    x, a = drawn(3)
    a[0], a[1] = 0.1, NAN
    found = faithfulness_correlation(linear, x, a, subset_size=4)
    np.testing.assert_array_equal(np.isnan(found), [True, True, False])
    assert np.isnan(faithfulness_correlation(lambda rows: np.full(len(rows), 0.3), x, a, subset_size=4)).all()


# --------------------------------------------------------------------------------------- monotonicity


def five_values(x) -> np.ndarray:
    mean, deviation = x.astype(np.float64).mean(), x.astype(np.float64).std()
    return np.array([mean + k * deviation for k in (-1, -0.5, 0, 0.5, 1)], np.float32)


def naive_monotonicity(function, x, a, values, correlate):
    """As the paper has it: cells in ascending |a|, squared changes weighted by 1/f^2 unless f is near 0."""
    scores = []
    for i in range(len(x)):
        f = float(function(x[i : i + 1])[0])
        weight = 1.0 if abs(f) < 1e-5 else 1 / abs(f)
        changes, sizes = [], []
        for j in np.argsort(np.abs(a[i])):
            squares = []
            for value in values:
                changed = x[i].copy()
                changed[j] = value
                squares.append((float(function(changed[None])[0]) - f) ** 2)
            changes.append(np.mean(squares) * weight**2)
            sizes.append(abs(a[i, j]))
        scores.append(correlate(sizes, changes).statistic)
    return np.array(scores)


@pytest.mark.parametrize("kind", ["spearman", "pearson"])
def test_monotonicity_is_the_loop_over_cells_and_values(kind):
    x, a = drawn(5)
    found = monotonicity_correlation(curved, x, a, correlation=kind)
    reference = scipy.stats.spearmanr if kind == "spearman" else scipy.stats.pearsonr
    np.testing.assert_allclose(
        found, naive_monotonicity(curved, x, a, five_values(x), reference), rtol=1e-11, atol=1e-13
    )


def test_prediction_of_nearly_zero_needs_no_threshold():
    x, a = drawn(3)

    def shifted(rows):
        return curved(rows) - curved(x)[0] + 1e-9

    assert abs(shifted(x)[0]) < 1e-8
    np.testing.assert_allclose(
        monotonicity_correlation(shifted, x, a),
        naive_monotonicity(shifted, x, a, five_values(x), scipy.stats.spearmanr),
        rtol=1e-11,
        atol=1e-13,
    )


def test_monotonicity_of_exact_contributions_is_one():
    x, _ = drawn(5)
    exact = x.astype(np.float64) * WEIGHTS
    np.testing.assert_allclose(
        monotonicity_correlation(linear, x, exact, replacements=[0.0]), 1.0, rtol=1e-14
    )
    np.testing.assert_allclose(
        monotonicity_correlation(linear, x, 1 / exact, replacements=[0.0]), -1.0, rtol=1e-14
    )
    assert (monotonicity_correlation(linear, x, exact) < 0.999).any()


def test_given_replacements_make_samples_independent():
    x, a = drawn(7)
    values = five_values(x)
    whole = monotonicity_correlation(curved, x, a)
    parts = [
        monotonicity_correlation(curved, x[i : i + 3], a[i : i + 3], replacements=values) for i in (0, 3, 6)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_monotonicity_leaves_land_out():
    x, a = drawn(4)
    ocean = np.delete(np.arange(CELLS), [2, 7])
    x[:, [2, 7]] = 9.0
    wanted = naive_monotonicity(
        lambda rows: curved(np.insert(rows, [2, 6], 9.0, axis=1)),
        x[:, ocean],
        a[:, ocean],
        five_values(x[:, ocean]),
        scipy.stats.spearmanr,
    )
    a[:, [2, 7]] = NAN
    np.testing.assert_allclose(monotonicity_correlation(curved, x, a), wanted, rtol=1e-11, atol=1e-13)


def test_cell_without_attribution_in_one_sample_is_left_out_there():
    x, a = drawn(2)
    values = five_values(x)
    a[0, 3] = NAN
    found = monotonicity_correlation(linear, x, a, replacements=values)
    kept = np.delete(np.arange(CELLS), 3)
    change = np.mean([(WEIGHTS * (v - x[0].astype(float))) ** 2 for v in values], axis=0)
    assert found[0] == pytest.approx(
        scipy.stats.spearmanr(np.abs(a[0, kept]), change[kept]).statistic, rel=1e-9
    )
    assert np.isfinite(found[1])


def test_monotonicity_without_a_ranking_is_nan():
    x, a = drawn(3)
    a[0], a[1] = [-0.1, 0.1] * (CELLS // 2), NAN
    np.testing.assert_array_equal(np.isnan(monotonicity_correlation(linear, x, a)), [True, True, False])
    assert np.isnan(monotonicity_correlation(lambda rows: np.zeros(len(rows)), x, a)).all()
    assert np.isnan(monotonicity_correlation(linear, x, np.full_like(a, NAN))).all()


# --------------------------------------------------------------------------------------- both of them

BOTH = pytest.mark.parametrize("score", [faithfulness_correlation, monotonicity_correlation])


@BOTH
def test_function_is_asked_for_blocks_of_one_size(score):
    cells = 3000
    x = np.random.default_rng(0).standard_normal((2, cells)).astype(np.float32)
    asked = Recorder(lambda rows: rows[:, :5].sum(axis=1))
    score(asked, x, np.cos(x))
    assert {block.shape for block in asked.blocks} == {(MOST_VALUES // cells, cells)}
    assert {block.dtype for block in asked.blocks} == {np.dtype(np.float32)}
    narrow = Recorder(lambda rows: rows[:, 0])
    score(narrow, x[:, :60], np.cos(x[:, :60]))
    assert {block.shape for block in narrow.blocks} == {(MOST_ROWS, 60)}


def test_many_samples_are_scored_in_groups(monkeypatch):
    x, a = drawn(9)
    values = five_values(x)
    whole = faithfulness_correlation(curved, x, a, subset_size=4), monotonicity_correlation(curved, x, a)
    monkeypatch.setattr("xairt.metrics.faithfulness._GROUP_VALUES", 2 * CELLS * 5)
    np.testing.assert_array_equal(faithfulness_correlation(curved, x, a, subset_size=4), whole[0])
    np.testing.assert_array_equal(monotonicity_correlation(curved, x, a, replacements=values), whole[1])


@BOTH
def test_input_is_left_alone_and_nothing_gives_nothing(score):
    x, a = drawn(60)
    x, a = np.tile(x, 5), np.tile(a, 5)
    kept = x.copy(), a.copy()

    def greedy(rows):
        result = rows[:, 0].copy()
        rows[:] = 0
        return result

    score(greedy, x, a)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(a, kept[1])
    assert score(greedy, x[:0], a[:0]).shape == (0,)


@BOTH
def test_what_does_not_fit_is_refused(score):
    x, a = np.tile(drawn(3)[0], 5), np.tile(drawn(3)[1], 5)
    with pytest.raises(
        DataError, match=r"x \(3, 60\) and attribution \(2, 60\): shapes do not fit; give both"
    ):
        score(curved, x, a[:2])
    with pytest.raises(DataError, match=r"x \(60,\) and attribution \(60,\): shapes do not fit"):
        score(curved, x[0], a[0])
    with pytest.raises(DataError, match=r"predict: gave shape \(2048, 1\) for 2048 rows; return one number"):
        score(lambda rows: rows[:, :1], x, a)
    with pytest.raises(DataError, match="predict: gave NaN or infinite numbers; check the network"):
        score(lambda rows: rows[:, 0] * NAN, x, a)
    with pytest.raises(DataError, match="x: NaN or infinite in a cell that has an attribution; leave"):
        score(curved, np.where(x > 1, np.nan, x), a)
    with pytest.raises(DataError, match="attribution: infinite; give finite numbers"):
        score(curved, x, np.where(a > 1, np.inf, a))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"subset_size": 12}, "subset_size=12: out of range for samples of 11 cells; give 1 to 10"),
        ({"subset_size": 11}, "subset_size=11: out of range for samples of 11 cells; give 1 to 10"),
        ({"subset_size": 0}, "subset_size=0: out of range for samples of 11 cells; give 1 to 10"),
        ({"n_runs": 1}, "n_runs=1: too few for a correlation; give 2 or more"),
        (
            {"baseline": NAN},
            "baseline of shape .*: not usable; give one finite number, or one for each of the 12",
        ),
        ({"baseline": [0.0, 1.0]}, r"baseline of shape \(2,\): not usable"),
        ({"seed": -1}, "seed -1 is not usable: give an integer from 0"),
        ({"sample_index": [1]}, "sample_index must hold one integer for each of the 2 samples"),
    ],
)
def test_parameters_of_faithfulness_are_checked(parameters, message):
    x, a = drawn(2)
    a[1, 0] = NAN
    with pytest.raises(DataError, match=message):
        faithfulness_correlation(curved, x, a, **{"subset_size": 4, **parameters})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"replacements": []}, r"replacements \[\]: not usable; give a list of one or more finite numbers"),
        ({"replacements": [0.0, NAN]}, r"replacements \[0.0, nan\]: not usable"),
        ({"correlation": "spearmann"}, "correlation 'spearmann' is unknown: give .* did you mean 'spearman'"),
    ],
)
def test_parameters_of_monotonicity_are_checked(parameters, message):
    with pytest.raises(DataError, match=message):
        monotonicity_correlation(curved, *drawn(2), **parameters)


# -------------------------------------------------------------------------------------------- Quantus


@pytest.fixture
def quantus():
    return pytest.importorskip("quantus", reason="the extra [quantus] is not installed")


def as_quantus(function) -> SimpleNamespace:
    """Return a function as the model that Quantus asks, with a single class."""
    return SimpleNamespace(
        shape_input=lambda x, shape, **_: x.reshape(len(x), -1), predict=lambda x: function(x)[:, None]
    )


def batch(function, x, a) -> dict:
    return {
        "model": as_quantus(function),
        "x_batch": x[:, None],
        "y_batch": np.zeros(len(x), int),
        "a_batch": a[:, None].copy(),
    }


def test_quantus_has_the_same_sparseness(quantus):
    a = drawn(8)[1] ** 3
    theirs = quantus.Sparseness(disable_warnings=True)
    size = np.abs(a) * 1e9  # beside which the 1e-7 that Quantus adds to each cell vanishes
    np.testing.assert_allclose(
        theirs.evaluate_batch(x_batch=a, a_batch=size.copy()), sparseness(a), rtol=1e-13
    )


def test_quantus_has_the_same_faithfulness_on_the_same_subsets(quantus, monkeypatch):
    x, a = drawn(8)
    asked = Recorder(curved)
    ours = faithfulness_correlation(asked, x, a, subset_size=4, n_runs=30)
    by_run = iter(asked.subsets(8, 30).swapaxes(0, 1).reshape(-1, CELLS))
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: np.flatnonzero(next(by_run)))
    theirs = quantus.FaithfulnessCorrelation(
        nr_runs=30, subset_size=4, perturb_baseline=0.0, return_aggregate=False, disable_warnings=True
    )
    np.testing.assert_allclose(theirs.evaluate_batch(**batch(curved, x, a)), ours, rtol=1e-11)
    assert next(by_run, None) is None


def test_quantus_has_the_same_faithfulness_on_subsets_of_its_own(quantus, monkeypatch):
    x, a = drawn(8)
    monkeypatch.setattr(np.random, "choice", np.random.RandomState(0).choice)
    theirs = quantus.FaithfulnessCorrelation(
        nr_runs=4000, subset_size=4, perturb_baseline=0.0, return_aggregate=False, disable_warnings=True
    )
    ours = faithfulness_correlation(curved, x, a, subset_size=4, n_runs=4000)
    # Each is off by a standard error of at most 1 / sqrt(4000) = 0.016.
    np.testing.assert_allclose(theirs.evaluate_batch(**batch(curved, x, a)), ours, atol=4 * 0.016 * 2**0.5)


@pytest.mark.parametrize("kind", ["spearman", "pearson"])
def test_quantus_has_the_same_monotonicity_on_the_same_replacements(quantus, kind):
    x, a = drawn(8)
    values = itertools.cycle(five_values(x))

    def replaced(arr, indices, **_):
        changed = arr.copy()
        np.put_along_axis(changed, indices, next(values), axis=1)
        return changed

    similarity = {
        "spearman": quantus.similarity_func.correlation_spearman,
        "pearson": quantus.similarity_func.correlation_pearson,
    }
    theirs = quantus.MonotonicityCorrelation(
        nr_samples=5, perturb_func=replaced, similarity_func=similarity[kind], disable_warnings=True
    )
    np.testing.assert_allclose(
        theirs.evaluate_batch(**batch(curved, x, np.abs(a))),
        monotonicity_correlation(curved, x, a, correlation=kind),
        rtol=1e-10,
        atol=1e-13,
    )
