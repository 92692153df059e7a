"""Figures of scores: what is drawn are the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from xairt.errors import DataError
from xairt.plots import Curve, curves, histograms, violins


def heights(ax, line: int = 0) -> np.ndarray:
    """Return the height of every bin of a stepped histogram."""
    return ax.patches[line].get_xy()[1:-1:2, 1]


def test_a_histogram_shows_shares_and_counts_what_is_beyond_or_missing():
    values = [-2.0, -0.9, 0.1, 0.1, 5.0, np.nan]
    ax = histograms({"lrp.z": {"n10": values}}, limits=(-1, 1), bins=4).axes[0]
    np.testing.assert_allclose(heights(ax), [0.4, 0, 0.4, 0.2])
    assert ax.get_xlim() == (-1, 1)
    assert ax.texts[0].get_text() == "n10: 1 of 6 missing"


def test_a_panel_without_any_value_says_so():
    axes = histograms({"a": {"n10": [np.nan, np.nan]}, "b": {"n10": [0.0]}}, limits=(-1, 1)).axes
    assert axes[0].texts[0].get_text() == "n10: 2 of 2 missing"
    assert not axes[0].patches
    assert axes[1].texts[0].get_text() == ""


def test_a_case_has_one_colour_in_all_panels():
    panels = {"a": {"n10": [0.1], "n20": [0.2]}, "b": {"n20": [0.3]}}
    first, second = histograms(panels, limits=(-1, 1)).axes
    assert first.patches[1].get_edgecolor() == second.patches[0].get_edgecolor()
    assert first.patches[0].get_edgecolor() != second.patches[0].get_edgecolor()


def test_curves_have_their_points_and_ranges():
    lines = {"r": Curve([10, 100], [0.1, 0.2], [0.0, 0.1], [0.3, 0.4]), "R2": Curve([10, 100], [0.5, np.nan])}
    ax, _ = curves({"a": lines, "b": lines}, xlabel="n", ylabel="r", logarithmic=True, dashed=["R2"]).axes
    drawn = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(drawn["r"].get_data(), [[10, 100], [0.1, 0.2]])
    (ranges,) = ax.collections
    np.testing.assert_array_equal([s[:, 1] for s in ranges.get_segments()], [[0.0, 0.3], [0.1, 0.4]])
    assert (drawn["R2"].get_linestyle(), drawn["r"].get_linestyle()) == ("--", "-")
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10", "100"]


def test_curves_have_whole_numbers_or_words_on_the_axis():
    line = {"r": Curve(np.arange(-2, 4), np.arange(6.0))}
    ax = curves({"a": line}, xlabel="lag", ylabel="r").axes[0]
    assert all(tick == round(tick) for tick in ax.get_xticks())
    halves = curves({"a": {"r": Curve(np.array([0.5, 1.5]), np.ones(2))}}, xlabel="w", ylabel="r").axes[0]
    assert any(tick != round(tick) for tick in halves.get_xticks())
    named = curves({"a": {"r": Curve(np.arange(2), np.ones(2))}}, xlabel="x", ylabel="r", names=["none", "A"])
    assert [label.get_text() for label in named.axes[0].get_xticklabels()] == ["none", "A"]


def test_violins_stand_by_category_and_series_with_median_and_percentiles():
    values = np.append(np.arange(101.0), np.nan)
    panels = {
        "gradient": {"train": {"0.1": values, "0.9": values + 5}, "test": {"0.9": [np.nan]}},
        "lrp.z": {"test": {"0.1": [3.0, 3.0]}},
    }
    first, second = violins(panels, xlabel="strength", ylabel="r", limits=(-10, 120)).axes
    assert [ax.get_title() for ax in (first, second)] == ["gradient", "lrp.z"]
    assert [tick.get_text() for tick in second.get_xticklabels()] == ["0.1", "0.9"]
    dots = [line.get_data() for line in first.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(np.ravel(dots), [-0.2, 50, 0.8, 55])
    ((x, y),) = [line.get_data() for line in second.lines if line.get_marker() == "o"]
    np.testing.assert_allclose([*x, *y], [0.2, 3])
    strokes = [s for c in first.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    np.testing.assert_allclose([s[:, 1] for s in strokes], [[5, 95], [10, 100]])
    assert (first.get_ylim(), first.get_xlabel(), first.get_ylabel()) == ((-10, 120), "strength", "r")


def test_violins_of_steps_go_from_dark_to_light():
    panels = {"a": {str(k): {"x": [0.0, 1.0]} for k in range(4)}}
    figure = violins(panels, xlabel="x", ylabel="y", ordered=True, columns=1, size=(8.0, 2.4))
    brightness = [sum(line.get_color()) for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert len(brightness) == 4
    assert brightness == sorted(brightness)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1", "2", "3"]
    assert figure.get_size_inches()[0] == 8


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: histograms({}, limits=(0, 1)), "histograms: nothing to draw"),
        (lambda: curves({}, xlabel="x", ylabel="y"), "curves: nothing to draw"),
        (lambda: violins({}, xlabel="x", ylabel="y"), "violins: nothing to draw"),
    ],
)
def test_nothing_to_draw_is_refused(draw, words):
    with pytest.raises(DataError, match=words):
        draw()
