"""Scores of classes: F1, baselines, and the significance of a lead over them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score

from xairt.errors import DataError
from xairt.metrics.classification import (
    accuracy,
    baselines_not_beaten,
    class_numbers,
    classification_scores,
    effective_sample_size,
    f1,
    most_frequent_class,
    skill_p_value,
    top_k_accuracy,
)

RNG = np.random.default_rng(2)
LABELS = RNG.integers(0, 3, 200)
PREDICTED = np.where(RNG.random(200) < 0.6, LABELS, RNG.integers(0, 3, 200))

CLASS_FREQUENCY = ["class_frequency", "p_class_frequency", "n_effective_class_frequency"]


def ar1(n, phi, rng):
    series = np.zeros(n)
    for t in range(1, n):
        series[t] = phi * series[t - 1] + rng.standard_normal()
    return series


def test_accuracy_and_f1_are_those_of_scikit_learn():
    assert accuracy(LABELS, PREDICTED) == pytest.approx(accuracy_score(LABELS, PREDICTED))
    np.testing.assert_allclose(f1(LABELS, PREDICTED, 3), f1_score(LABELS, PREDICTED, average=None))
    scores = classification_scores(LABELS, PREDICTED, n_classes=3)
    assert scores["f1_macro"] == pytest.approx(f1_score(LABELS, PREDICTED, average="macro"))
    assert list(scores) == [
        "n",
        "accuracy",
        "f1_class_0",
        "f1_class_1",
        "f1_class_2",
        "f1_macro",
        *CLASS_FREQUENCY,
    ]


def test_f1_of_known_cases():
    assert f1([0, 0, 1, 1], [0, 0, 1, 1]).tolist() == [1.0, 1.0]
    assert f1([0, 0, 1, 1], [1, 1, 0, 0]).tolist() == [0.0, 0.0]
    assert f1([0, 0, 0, 1], [0, 0, 0, 0]).tolist() == [pytest.approx(6 / 7), 0.0]
    only_one = f1([1, 1], [1, 1])
    assert np.isnan(only_one[0])
    assert only_one[1] == 1.0


def test_baselines_are_the_most_frequent_class_and_the_class_at_the_input_date():
    labels, predicted = np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0])
    scores = classification_scores(labels, predicted, persistence=[1, 0, 1, 1])
    assert scores["class_frequency"] == 0.75
    assert scores["persistence"] == 0.5
    assert most_frequent_class([1, 0, 1]) == 1
    assert most_frequent_class([1, 0]) == 0


def test_effective_sample_size_is_that_of_the_variance_of_the_mean():
    rng = np.random.default_rng(0)
    series = [ar1(1000, 0.8, rng)[200:] for _ in range(400)]
    of_the_mean = np.mean([s.var() for s in series]) / np.var([s.mean() for s in series])
    found = np.mean([effective_sample_size(s) for s in series])
    assert found == pytest.approx(of_the_mean, rel=0.15)
    assert found == pytest.approx(800 * 0.2 / 1.8, rel=0.1)
    white = effective_sample_size(rng.standard_normal(2000))
    assert 1700 < white <= 2000


def test_the_effective_samples_behind_each_p_value_are_told():
    rng = np.random.default_rng(4)
    labels, predicted = ((ar1(400, 0.9, rng) > 0).astype(int) for _ in range(2))
    persistence = np.roll(labels, 5)
    scores = classification_scores(labels, predicted, persistence=persistence)
    baselines = {"class_frequency": np.full(400, most_frequent_class(labels)), "persistence": persistence}
    for name, baseline in baselines.items():
        lead = (predicted == labels).astype(float) - (baseline == labels)
        assert scores[f"n_effective_{name}"] == effective_sample_size(lead) < 200
        z = lead.mean() / (lead.std(ddof=1) / scores[f"n_effective_{name}"] ** 0.5)
        assert scores[f"p_{name}"] == student.sf(z, scores[f"n_effective_{name}"] - 1)
        assert scores[f"p_{name}"] == skill_p_value(labels, predicted, baseline)


def test_effective_samples_that_cannot_be_computed_are_nan():
    same = classification_scores(LABELS, PREDICTED, persistence=PREDICTED, n_classes=3)
    assert (same["p_persistence"], np.isnan(same["n_effective_persistence"])) == (1.0, True)
    assert np.isnan(classification_scores([0, 1], [0, 1])["n_effective_class_frequency"])
    few = classification_scores([0, 1, 0, 1, 1], [0, 1, 0, 0, 1])
    assert np.isnan(few["p_class_frequency"])
    assert 0 < few["n_effective_class_frequency"] <= 5


def test_chance_is_called_a_skill_as_often_as_the_level_says():
    """Labels and predictions are independent and autocorrelated; one in twenty may be called skilful."""
    rng = np.random.default_rng(1)
    cases = [
        [ar1(900, 0.9, rng)[100:] > 0, ar1(900, 0.9, rng)[100:] > 0, np.zeros(800, int)] for _ in range(200)
    ]
    p = np.array([skill_p_value(*case) for case in cases])
    assert 0.01 <= np.mean(p < 0.05) <= 0.1
    naive = [
        np.mean(a == b) - np.mean(a == c) > 1.645 * np.std((a == b) * 1.0 - (a == c)) / 800**0.5
        for a, b, c in cases
    ]
    assert np.mean(naive) > 0.15


def test_real_skill_is_found_and_none_is_not():
    rng = np.random.default_rng(3)
    labels = (ar1(800, 0.8, rng) > 0).astype(int)
    good = np.where(rng.random(800) < 0.8, labels, 1 - labels)
    persistence = np.roll(labels, 30)
    scores = classification_scores(labels, good, persistence=persistence)
    assert scores["p_class_frequency"] < 0.001
    assert baselines_not_beaten(scores) == []
    scores = classification_scores(labels, persistence, persistence=persistence)
    assert scores["p_persistence"] == 1.0
    assert "persistence" in baselines_not_beaten(scores)
    assert skill_p_value(labels, 1 - labels, labels) != 0
    assert np.isnan(skill_p_value(labels, labels, 1 - labels))
    assert baselines_not_beaten({"p_class_frequency": np.nan}) == ["class_frequency"]
    assert np.isnan(classification_scores([0, 1], [0, 1])["p_class_frequency"])


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0.0, np.nan], "labels: holds NaN or infinity"),
        ([0.5, 1.0], r"labels: 0\.5 is no class"),
        ([-1, 1], "labels: -1 is no class"),
        ([], r"labels \(0,\) of float64: give one class number"),
        ([[0, 1]], r"labels \(1, 2\) of int64"),
        (["a", "b"], r"labels \(2,\) of <U1"),
    ],
)
def test_what_is_no_class_is_refused(labels, reason):
    with pytest.raises(DataError, match=reason):
        class_numbers(labels)


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"labels \(3,\) and predicted \(2,\): numbers of samples differ"):
        accuracy([0, 1, 1], [0, 1])
    with pytest.raises(DataError, match=r"labels \(3,\) and baseline \(2,\)"):
        skill_p_value([0, 1, 1], [0, 1, 1], [0, 1])
    with pytest.raises(DataError, match="class 2: there are 2"):
        f1([0, 2], [0, 1])
    with pytest.raises(DataError, match="give at least 3 finite numbers"):
        effective_sample_size([1.0, 2.0])


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_k_accuracy_is_that_of_scikit_learn(k):
    random = np.random.default_rng(0)
    outputs, labels = random.normal(size=(60, 7)), np.arange(60) % 7
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)  # scikit-learn finds k of all classes meaningless
        expected = top_k_accuracy_score(labels, outputs, k=k)
    assert top_k_accuracy(labels, outputs, k) == pytest.approx(expected)
    assert top_k_accuracy(labels, outputs, 1) == accuracy(labels, outputs.argmax(axis=1))


def test_outputs_that_tell_nothing_have_no_hit():
    assert top_k_accuracy([0, 1, 2], np.zeros((3, 7)), 5) == 0


@pytest.mark.parametrize(
    ("labels", "outputs", "k", "message"),
    [
        ([0, 1], [[1.0, 2.0]], 1, r"outputs \(1, 2\): give \(samples, classes\)"),
        ([0, 2], [[1.0, 2.0]] * 2, 1, "class 2; outputs are those of 0 to 1"),
        ([0, 1], [[1.0, float("nan")]] * 2, 1, "outputs: hold NaN"),
        ([0, 1], [[1.0, 2.0]] * 2, 0, "k=0: out of range"),
    ],
)
def test_top_k_accuracy_of_what_it_cannot_judge(labels, outputs, k, message):
    with pytest.raises(DataError, match=message):
        top_k_accuracy(labels, outputs, k)
