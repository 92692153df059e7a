"""The benchmark on so few images that a method is not defined: refused before, or NaN for this method alone."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from xairt import runs
from xairt.benchmarks.igc import IGC
from xairt.benchmarks.igc.figures import map_rows
from xairt.benchmarks.igc.scoring import stored_maps
from xairt.benchmarks.igc.stages import truth_of
from xairt.errors import MethodError

SMALL = {"steps": 8, "n_drawn": 2, "n_iter": 1, "dpi": 40}


def executed(folder, **given) -> runs.Run:
    outcome = runs.execute(IGC, IGC.configured({**SMALL, **given}, "quick"), folder)
    assert outcome.failed == []
    return runs.Run.open(folder, IGC)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_images": 6}, r"n_images 6 make no two groups of the t-test of experiment A: give 7 or more"),
        ({"n_images": 6, "experiment": ["D", "B"]}, r"of the t-test of experiment B: give 7 or more"),
        ({"n_images": 3, "experiment": "D"}, r"of the t-test of experiment D: give 4 or more"),
        ({"experiment": ["all", "A"]}, r"experiment 'all' stands alone: give 'all', or names"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given, message):
    with pytest.raises(MethodError, match=message) as caught:
        IGC.configured({**SMALL, **given}, "quick")
    assert "\n" not in str(caught.value)


def test_as_few_images_as_can_make_two_groups_are_taken():
    fewest = [-1.3, -1.3, 0, 0, 0, 1.3, 1.3]
    truth = (np.array(fewest) - np.mean(fewest)) / np.std(fewest)
    assert (truth <= -1.2816).sum() == 2
    assert IGC.configured({**SMALL, "n_images": 7}, "quick").n_images == 7
    assert IGC.configured({**SMALL, "n_images": 6, "methods": ["igc"]}, "quick").n_images == 6


def test_a_method_without_groups_is_nan_and_the_others_are_kept(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        run = executed(tmp_path / "run", n_images=12)
    case = run.cases["A.function"]
    truth, _ = truth_of(case)
    assert min((truth <= -1.2816).sum(), (truth >= 1.2816).sum()) < 2
    assert "A.function: naive_ttest is NaN: its groups have" in caplog.text
    maps = stored_maps(case)
    assert np.isnan(maps["naive_ttest"]).all()
    assert np.isfinite(maps["igc"]).all()
    scores = run.scores.set_index(["label", "metric"])["value"]
    assert np.isnan(scores["naive_ttest", "mask_correlation"])
    assert np.isfinite(scores["igc", "mask_correlation"])
    assert len(map_rows([case]).axes) == 2 * 7


def test_shapley_correlation_of_a_constant_truth_is_nan(tmp_path, caplog):
    given = {
        "experiment": "D",
        "n_images": 40,
        "bsc_images": 2,
        "seed": 1,
        "methods": ["naive_correlation", "bsc"],
    }
    with caplog.at_level(logging.WARNING):
        run = executed(tmp_path / "run", **given)
    case = run.cases["D.function"]
    assert np.ptp(truth_of(case)[0][:2, 0]) == 0
    assert "D.function: bsc is NaN: the truth of its 2 images is constant" in caplog.text
    found = stored_maps(case)
    assert np.isnan(found["bsc"]).all()
    assert np.isfinite(found["naive_correlation"]).all()
    metrics = run.scores.query("label == 'bsc'")
    assert set(metrics["metric"]) == set(run.scores.query("label == 'naive_correlation'")["metric"])
    assert metrics["value"].isna().all()
