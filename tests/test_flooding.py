"""Flooding: reference activations by the smallest step, against bisection."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xairt.attribution.reference import flooded
from xairt.errors import DataError


def bisected(a: np.ndarray, v: np.ndarray, bias: float, y_ref: float) -> np.ndarray | None:
    """Return the reference activations of one sample by bisection between the places where an activation ends."""

    def excess(step: float) -> float:
        return float(np.maximum(a - step, 0) @ v) + bias - y_ref

    lowering, raising = [0.0, *sorted(set(a[a > 0]))], [0.0, -1e6]
    for ends in (lowering, raising) if excess(0) > 0 else (raising, lowering):
        for low, high in itertools.pairwise(ends):
            sign = np.sign(excess(low))
            if sign * np.sign(excess(high)) > 0:
                continue
            for _ in range(200):
                middle = (low + high) / 2
                low, high = (middle, high) if np.sign(excess(middle)) == sign else (low, middle)
            return np.maximum(a - high, 0)
    return None


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    units=st.integers(1, 12),
    bias=st.sampled_from([0.0, -0.7, 2.0]),
    y_ref=st.floats(-3, 3),
    ties=st.booleans(),
)
def test_flooding_is_what_bisection_finds(seed, units, bias, y_ref, ties):
    rng = np.random.default_rng(seed)
    a = np.maximum(rng.normal(size=units), 0)
    a = np.round(a, 1) if ties else a
    v = rng.normal(size=units)
    assume(abs(a @ v + bias - y_ref) > 1e-5 * (a @ abs(v) + abs(bias) + 1))
    expected = bisected(a, v, bias, y_ref)
    if expected is None:
        with pytest.raises(DataError, match="flooding reaches"):
            flooded(a[None], v, bias, y_ref)
    else:
        found = flooded(a[None], v, bias, y_ref)[0]
        np.testing.assert_allclose(found, expected, atol=1e-8 * max(1, expected.max()))
        assert found @ v + bias == pytest.approx(y_ref, abs=1e-9)


def test_flooding_lowers_all_by_one_step():
    a = np.array([[4.0, 1.0, 0.0, 2.5]])
    found = flooded(a, [1.0, 2.0, 1.0, 0.0], 0.5, 3.5)
    np.testing.assert_allclose(found, [[3.0, 0.0, 0.0, 1.5]])


def test_flooding_raises_all_by_one_step_also_those_at_zero():
    found = flooded([[4.0, 1.0, 0.0]], [1.0, 2.0, -1.0], 0.5, 8.5)
    np.testing.assert_allclose(found, [[5.0, 2.0, 1.0]])


def test_flooding_passes_a_rise_on_its_way():
    """The output is 1 at first, rises to 2 and falls to 0: it is 0.5 on the way down alone."""
    found = flooded([[3.0, 1.0]], [1.0, -2.0], 0.0, 0.5)
    np.testing.assert_allclose(found, [[0.5, 0.0]])


@pytest.mark.parametrize(
    ("weights", "y_ref", "expected"),
    [
        ([1.0, -2.0], 1.5, [2.5, 0.5]),  # f(x) = 1: raising lowers it, lowering by 0.5 raises it
        ([1.0, -2.0], 2.0, [2.0, 0.0]),  # the most that lowering gives
        ([-1.0, 2.0], -1.5, [2.5, 0.5]),  # the same with the other sign
        ([-1.0, -2.0], -6.5, [3.5, 1.5]),  # f(x) = -5: lowering raises it, raising lowers it
        ([1.0, -2.0], -4.0, [8.0, 6.0]),
    ],
)
def test_flooding_goes_the_other_way_where_the_first_does_not_reach(weights, y_ref, expected):
    np.testing.assert_allclose(flooded([[3.0, 1.0]], weights, 0.0, y_ref), [expected], atol=1e-12)


def test_weights_that_cancel_do_not_raise_the_output():
    """0.1 + 0.2 - 0.3 is 6e-17 in floating point: a step of 1e17 would be no reference."""
    with pytest.raises(DataError, match=r"flooding reaches 0 to 0\.5; choose"):
        flooded([[3.0, 1.0, 0.0]], [0.1, 0.2, -0.3], 0.0, 9.0)


def test_flooding_of_each_sample_has_its_own_reference():
    rng = np.random.default_rng(0)
    a, v = np.maximum(rng.normal(size=(20, 9)), 0), rng.uniform(0, 1, 9)
    y_ref = rng.uniform(0.01, 3, 20)
    one_by_one = [flooded(row[None], v, 0.0, value)[0] for row, value in zip(a, y_ref, strict=True)]
    np.testing.assert_allclose(flooded(a, v, 0.0, y_ref), one_by_one, atol=1e-12)


def test_flooding_keeps_the_shape_of_a_field():
    a = np.arange(12.0).reshape(2, 3, 2)
    found = flooded(a, np.ones((3, 2)), 0.0, 1.0)
    assert found.shape == a.shape
    np.testing.assert_allclose(found.sum((1, 2)), 1.0)


def test_the_bias_alone_is_reached_where_all_activations_are_zero():
    assert (flooded([[0.1, 0.7, 0.3]], [0.3, 0.1, 0.9], 0.2, 0.2) == 0).all()


def test_a_reference_that_is_the_output_changes_nothing():
    rng = np.random.default_rng(1)
    a, v = np.maximum(rng.normal(size=(50, 30)), 0), -rng.uniform(0, 1, 30)
    np.testing.assert_array_equal(flooded(a, v, 0.3, a @ v + 0.3), a)


@pytest.mark.parametrize(
    ("activations", "weights", "y_ref", "reached"),
    [
        ([3.0, 1.0], [1.0, 1.0], -0.5, "flooding reaches 0.5 to infinity"),
        ([4.0, 1.0], [1.0, -2.0], 4.0, "flooding reaches -infinity to 3.5"),
        ([4.0, 1.0], [1.0, -1.0], 9.0, "flooding reaches 0.5 to 3.5"),
        ([4.0, 1.0], [1.0, -1.0], 0.0, "flooding reaches 0.5 to 3.5"),
        ([3.0, 1.0], [-1.0, -1.0], 9.0, "flooding reaches -infinity to 0.5"),
    ],
)
def test_unreachable_references_are_named_with_what_is_reached(activations, weights, y_ref, reached):
    output = float(np.dot(activations, weights)) + 0.5
    with pytest.raises(DataError, match=f"of sample 1, .*1 of 2 samples.*{reached};.*use retrained"):
        flooded([activations] * 2, weights, 0.5, [output, y_ref])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 2.0]], [1.0], 0.0, 1.0), "for 1 weights"),
        (([[1.0, -2.0]], [1.0, 1.0], 0.0, 1.0), "none below 0"),
        (([[1.0, np.nan]], [1.0, 1.0], 0.0, 1.0), "activations holds 1 NaN"),
        (([[1.0, 2.0]], [1.0, 1.0], 0.0, [1.0, 2.0]), r"y_ref has shape \(2,\) for 1 samples"),
        (([[1.0, 2.0]], [1.0, 1.0], 0.0, np.inf), "y_ref holds 1 infinite value"),
    ],
)
def test_flooding_refuses_what_does_not_fit(arguments, message):
    with pytest.raises(DataError, match=message):
        flooded(*arguments)
