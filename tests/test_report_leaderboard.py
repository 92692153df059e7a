"""Leaderboards and scores by case: what is averaged, what stands beside it, and what is said where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import report_runs as toy

from xairt.runs import Run
from xairt.runs.report import content
from xairt.runs.report.entries import with_entries
from xairt.runs.report.facts import Facts, read
from xairt.runs.report.findings import findings
from xairt.runs.report.leaderboard import leaderboard, summaries
from xairt.runs.report.tables import MISSING, Table
from xairt.runs.scores import COLUMNS


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Run:
    """Return a run in which nothing is wrong but a score that cannot be computed."""
    return toy.make(tmp_path_factory.mktemp("report") / "sound")


def column(table: Table, name: str) -> dict[str, str]:
    at = [c.name for c in table.columns].index(name)
    return {row.cells[0].text: row.cells[at].text for row in table.rows}


def test_leaderboard_gives_mean_and_spread_over_cases(sound):
    facts = read(sound, "sound")
    (table, _) = content.leaderboards([facts])
    values = toy.SKILL["lrp.z"] + 0.02 * np.log10([1, 4])
    assert column(table, "mean")["lrp.z"] == f"{values.mean():.3f}"
    assert column(table, "sd over cases")["lrp.z"] == f"{values.std(ddof=1):.5f}"
    assert column(table, "p05")["lrp.z"] == f"{values.mean() - 0.2:.3f}"
    assert column(table, "n")["lrp.z"] == "5,000"
    best, *_, last = [row.cells[0].text for row in table.rows]
    assert (best, last) == ("lrp.z", "edge")
    drawing = table.rows[0].cells[2].drawing
    assert len(drawing.dots) == 2
    assert drawing.reach[0] < drawing.dots[0] < drawing.centre < drawing.dots[1] < drawing.reach[1]


def test_what_is_missing_is_said_and_never_zero(sound):
    (table, _) = content.leaderboards([read(sound, "sound")])
    cells = {name: column(table, name)["deep_taylor"] for name in ("mean", "sd over cases", "p05", "cases")}
    assert cells == {"mean": "0.550", "sd over cases": "one case", "p05": MISSING, "cases": "1 of 2"}
    absent = next(row for row in table.rows if row.cells[0].text == "edge")
    assert absent.mark == "control"
    assert {cell.text for cell in absent.cells[1:]} == {MISSING, "0 of 2"}
    scores = content.case_scores(read(sound, "sound"))
    row = next(r for r in scores.rows if [c.text for c in r.cells[:2]] == ["deep_taylor", "n1000"])
    assert [cell.text for cell in row.cells[2:]] == [MISSING, MISSING]


def test_controls_are_marked_by_label_or_method(sound):
    table = sound.scores.assign(method=lambda t: t["label"].replace("gradient", "edge(width=2)"))
    board = leaderboard("pearson", {"run": table}, ["random", "edge"], {"run": 2})
    assert [r.cells[0].text for r in board.rows if r.mark] == [
        "random",
        "gradient",
    ]  # edge has a row by its method


def test_the_values_of_several_runs_are_adjacent_and_the_rest_grouped_by_run(sound, tmp_path):
    other = toy.make(tmp_path / "other", n_samples=[1000], r2=0.97)
    both = [read(sound, "sound"), read(other, "other")]
    board, _ = content.leaderboards(both)
    width = (len(board.columns) - 5) // 2
    assert board.groups == (("", 1), ("mean", 2), ("spread", 2), ("sound", width), ("other", width))
    assert [c.name for c in board.columns[:5]] == ["method", "sound", "other", "sound", "other"]
    assert [i for i, c in enumerate(board.columns) if c.first] == [1, 3, 5, 5 + width]
    assert all(len(row.cells) == len(board.columns) for row in board.rows)
    first = next(row for row in board.rows if row.cells[0].text == "lrp.z")
    assert [cell.text for cell in first.cells[1:3]] == ["0.826", "0.820"]
    assert [len(cell.drawing.dots) for cell in first.cells[3:5]] == [2, 1]
    rows = [[cell.text for cell in row.cells] for row in content.differing_settings(both).rows]
    assert rows == [["n_samples", "[1000, 4000]", "[1000]"], ["r2", "0.95", "0.97"]]


@pytest.mark.parametrize("kept", ["no column told", "no row"])
def test_a_run_without_a_metric_is_not_computed_beside_another(sound, kept):
    empty = sound.scores.iloc[:0] if kept == "no row" else pd.DataFrame(columns=list(COLUMNS))
    board = leaderboard("pearson", {"a": empty, "b": sound.scores}, ["random", "edge"], {"a": 2, "b": 2})
    row = next(row for row in board.rows if row.cells[0].text == "lrp.z")
    assert [cell.text for cell in row.cells[1:4]] == [MISSING, "0.826", MISSING]
    assert len(row.cells[4].drawing.dots) == 2
    assert column(board, "cases")["lrp.z"] == "0 of 2"


def test_a_summary_without_percentiles_spreads_by_its_sd(sound):
    (table,) = with_entries([sound.scores])
    rows = table[(table["metric"] == "pearson") & ~table["statistic"].isin(["p05", "p95"])]
    summary = summaries(rows, "mean")["random"]
    assert summary.reach == pytest.approx((summary.mean - toy.SPREAD, summary.mean + toy.SPREAD))


def scored(sound: Run, *rows: dict) -> Facts:
    """Return the facts of a run with these scores in place of its own."""
    shared = {
        "case": "n1000",
        "engine": "native",
        "convention": "",
        "metric": "corr",
        "statistic": "mean",
        "n": 10,
    }
    table = pd.DataFrame([shared | {"method": row["label"]} | row for row in rows], columns=list(COLUMNS))
    return replace(read(sound, "x"), table=table)


def by_case(facts: Facts) -> dict[tuple[str, str], list[str]]:
    rows = [[cell.text for cell in row.cells] for row in content.case_scores(facts).rows]
    return {(entry, case): values for entry, case, *values in rows}


@pytest.mark.parametrize("way", ["convention", "engine"])
def test_what_one_label_gave_in_two_ways_has_rows_of_its_own(sound, way):
    rows = [
        {"label": "lrp.z", "case": case, way: name, "value": value}
        for case in ("n1000", "n4000")
        for name, value in (("", 0.9), ("other", 0.1))
    ]
    facts = scored(sound, *rows, {"label": "random", "value": 0.05})
    (board,) = content.leaderboards([facts])
    named = f"lrp.z (no {way})", f"lrp.z ({way} other)"
    assert [row.cells[0].text for row in board.rows] == [named[0], named[1], "random", "edge"]
    told = {
        name: [column(board, name)[entry] for entry in named]
        for name in ("mean", "sd over cases", "cases", "n")
    }
    assert told == {
        "mean": ["0.900", "0.100"],
        "sd over cases": ["0.000"] * 2,
        "cases": ["2"] * 2,
        "n": ["20"] * 2,
    }
    shown = by_case(facts)
    assert {(entry, case): shown[entry, case] for entry in named for case in ("n1000", "n4000")} == {
        (entry, case): [value]
        for entry, value in zip(named, ("0.900", "0.100"), strict=True)
        for case in ("n1000", "n4000")
    }
    gap = scored(sound, *rows[:-1], rows[-1] | {"value": np.nan})
    assert f"{named[1]}: corr {MISSING} for n4000" in [f"{f.subject}: {f.text}" for f in findings([gap])]


def test_a_way_that_differs_between_metrics_alone_names_nobody(sound):
    facts = scored(
        sound, {"label": "lrp.z", "value": 0.5}, {"label": "lrp.z", "metric": "k", "engine": "", "value": 0.1}
    )
    assert by_case(facts)["lrp.z", "n1000"] == ["0.500", "0.100"]


def test_rows_of_one_label_and_case_by_several_methods_are_apart_and_equal_ones_averaged(sound):
    rows = [{"label": "random", "method": f"random(seed={seed})", "value": 0.1 * seed} for seed in (1, 2, 2)]
    facts = scored(sound, *rows[:2], rows[2] | {"value": 0.6})
    (board,) = content.leaderboards([facts])
    names = [f"random (method random(seed={seed}))" for seed in (2, 1)]
    assert [row.cells[0].text for row in board.rows if row.mark][:2] == names
    assert [column(board, name)[names[0]] for name in ("mean", "cases")] == ["0.400", "1 of 2"]
    assert by_case(facts)[names[0], "n1000"] == ["0.400"]


@pytest.mark.parametrize(
    ("statistics", "shown"),
    [
        ({"value": 0.05}, "0.050 (value)"),
        ({"value": 0.05, "median": 0.07}, "0.070 (median)"),
        ({"mean": np.nan, "value": 0.05}, MISSING),
        ({"sd": 0.05}, MISSING),
    ],
)
def test_another_central_statistic_stands_in_for_one_that_a_method_lacks(sound, statistics, shown):
    rows = [{"label": "random", "statistic": name, "value": value} for name, value in statistics.items()]
    facts = scored(sound, {"label": "lrp.z", "value": 0.9}, *rows)
    (board,) = content.leaderboards([facts])
    assert column(board, "mean") == {"lrp.z": "0.900", "random": shown, "edge": MISSING}
    assert by_case(facts)["random", "n1000"] == [shown]
    assert ("what stands in its place is named" in board.note) == (shown != MISSING)


def test_the_note_tells_statistics_within_cases_from_central_ones(sound):
    rows = [{"label": "lrp.z", "statistic": name, "value": 0.1} for name in ("mean", "value", "sd")]
    (board,) = content.leaderboards([scored(sound, *rows)])
    assert board.note.startswith("Averaged over cases: mean, value; and of the values within each case sd. ")


@pytest.mark.parametrize(
    ("values", "mean", "dots"),
    [
        ((np.inf,), "inf", None),
        ((np.inf, 0.5), "inf", 1),
        ((np.inf, -np.inf), MISSING, None),
        ((-np.inf,), "-inf", None),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_infinite_scores_are_shown_and_on_no_scale(sound, values, mean, dots, alone):
    rows = [{"label": "a", "case": c, "value": v} for c, v in zip(("n1000", "n4000"), values, strict=False)]
    facts = scored(sound, *rows, *([] if alone else [{"label": "b", "value": 0.25}]))
    (board,) = content.leaderboards([facts])
    first = next(row for row in board.rows if row.cells[0].text == "a")
    assert first.cells[1].text == mean
    drawing = first.cells[2].drawing
    assert (None if drawing is None else len(drawing.dots)) == dots
    assert drawing is None or drawing.centre is None
    assert by_case(facts)["a", "n1000"] == [str(values[0])]
    assert first.cells[1].sort_key == mean.replace("inf", "Infinity").replace(MISSING, "")
    if not alone:
        other = next(row for row in board.rows if row.cells[0].text == "b")
        assert other.cells[2].drawing.dots == ((50.0,) if dots else (0.0,))
