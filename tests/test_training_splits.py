"""Splits of a series: parts, gaps, and what shuffling does to the validation score."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xairt.errors import DataError
from xairt.training import Split, TrainLR, blocked, gap_of, shuffled

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def test_example_of_the_page_runs(capsys):
    code, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["scores"]["accuracy"] > names["scores"]["class_frequency"]
    assert "not better than" in capsys.readouterr().out
    share = names["relevance"].sum("cell") + names["relevance"].attrs["decision_at_reference"]
    np.testing.assert_allclose(share, names["linear"].decision(names["x"]), rtol=1e-6, atol=1e-6)


def parts(split: Split) -> list[np.ndarray]:
    return [split.train, split.validation, split.test]


def test_shuffled_split_of_the_publication():
    split = shuffled(11263, 0.2, n_test=2161, seed=0)
    assert [len(part) for part in parts(split)] == [7282, 1820, 2161]
    np.testing.assert_array_equal(split.test, np.arange(9102, 11263))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts(split))), np.arange(11263))
    same, other = shuffled(11263, 0.2, n_test=2161, seed=0), shuffled(11263, 0.2, n_test=2161, seed=1)
    np.testing.assert_array_equal(split.validation, same.validation)
    assert not np.array_equal(split.validation, other.validation)
    assert (np.diff(split.validation) > 0).all()
    assert (np.diff(split.validation) == 1).mean() < 0.3


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(30, 300),
    validation=st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    test_share=st.sampled_from([0.0, 0.1, 0.3]),
    gap=st.integers(0, 4),
    blocks=st.integers(1, 2),
)
def test_blocked_parts_keep_their_distance_and_lose_nothing_else(n, validation, test_share, gap, blocks):
    split = blocked(n, validation, n_test=round(test_share * n), gap=gap, blocks=blocks)
    used = np.concatenate(parts(split))
    assert len(np.unique(used)) == len(used)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        distance = np.abs(np.subtract.outer(parts(split)[one], parts(split)[other]))
        assert distance.min(initial=n) > gap
    for left_out in np.setdiff1d(np.arange(n), used):
        held_out = np.concatenate([split.validation, split.test])
        assert np.abs(held_out - left_out).min() <= gap
    np.testing.assert_array_equal(split.test, np.arange(n - round(test_share * n), n))


def test_blocks_of_validation_lie_at_the_end_of_equal_parts():
    split = blocked(100, 0.2, gap=2, blocks=2)
    np.testing.assert_array_equal(split.validation, [*range(40, 50), *range(90, 100)])
    np.testing.assert_array_equal(split.train, [*range(38), *range(52, 88)])
    assert blocked(50, 0.0, n_test=10).validation.size == 0


def test_gap_keeps_the_windows_of_two_samples_apart():
    window, lag = 5, 3
    reach = window // 2
    gap = gap_of(window, lag)
    for apart in (gap, gap + 1):
        one = set(range(-reach, reach + 1)) | set(range(lag - reach, lag + reach + 1))
        other = {day + apart for day in one}
        assert bool(one & other) == (apart == gap)


def no_skill(seed):
    """Fields and labels of 1000 steps made of independent AR(1) series: any skill is none."""
    noise = np.random.default_rng(seed).standard_normal((1500, 41))
    series = np.zeros_like(noise)
    for t in range(1, 1500):
        series[t] = 0.98 * series[t - 1] + noise[t]
    return series[500:, 1:], series[500:, 0] > np.median(series[500:, 0])


def test_shuffled_validation_calls_memory_a_skill():
    splits = {"shuffled": shuffled(1000), "blocked": blocked(1000, gap=20, blocks=2)}
    found = {name: [] for name in splits}
    for seed in range(4):
        x, labels = no_skill(seed)
        for name, split in splits.items():
            rows = split.validation
            scores = TrainLR().fit(x, labels, split).scores(x[rows], labels[rows])
            found[name].append(scores["accuracy"])
    assert np.mean(found["shuffled"]) > 0.75
    assert np.mean(found["blocked"]) < 0.55


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: shuffled(10, 1.0), r"validation=1\.0: out of range"),
        (lambda: blocked(10, -0.1), r"validation=-0\.1: out of range"),
        (lambda: shuffled(10, n_test=10), "n=10, n_test=10: out of range"),
        (lambda: blocked(0), "n=0, n_test=0: out of range"),
        (lambda: shuffled(10, seed=-1), "seed=-1: out of range"),
        (lambda: blocked(10, gap=-1), "gap=-1, blocks=1: out of range"),
        (lambda: blocked(10, blocks=0), "gap=0, blocks=0: out of range"),
        (lambda: blocked(20, 0.1, blocks=10), "blocks=10: some of them hold no validation sample"),
        (lambda: blocked(10, 0.5, gap=9), "split of 10 samples: none is left to train with"),
        (lambda: blocked(10, 0.2, n_test=5, gap=5), "hold no validation sample"),
        (lambda: shuffled(1, 0.9), "none is left to train with"),
        (lambda: gap_of(0), "window=0: out of range"),
    ],
)
def test_splits_out_of_range_are_refused(make, reason):
    with pytest.raises(DataError, match=reason):
        make()
