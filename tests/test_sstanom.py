"""The SST anomaly benchmark: its truth, its stages one by one, its settings."""

from __future__ import annotations

import configparser
import dataclasses
import itertools
import logging
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import xairt
from xairt import runs
from xairt.benchmarks.sstanom import BENCHMARK, explain, figures, generate, score, train
from xairt.benchmarks.sstanom.figures import cell_functions, known_function, learning_curve, score_histograms
from xairt.benchmarks.sstanom.scoring import sample_scores, truths_of
from xairt.benchmarks.sstanom.settings import METHODS
from xairt.benchmarks.sstanom.stages import grid_of, vectors
from xairt.data.files import read_array, read_dataset, write_dataset
from xairt.errors import MethodError, ModelError
from xairt.models.architectures import mamalakis2022
from xairt.runs import scores as tables
from xairt.runs.manifest import Manifest
from xairt.runs.scores import statistics

ROOT = Path(__file__).parents[1]
TINY = {
    "n_samples": [60],
    "hidden_units": [8, 4],
    "epochs": 2,
    "linear_epochs": 2,
    "n_explained": 5,
    "methods": ["gradient", "input_t_gradient", "lrp.alpha_1_beta_0", "deep_taylor", "random"],
    "shown_methods": ["lrp.alpha_1_beta_0"],
    "dpi": 40,
}
N_TRAIN, N = 54, 60


def case_in(folder: Path, **settings) -> runs.Case:
    config = BENCHMARK.configured({**TINY, **settings})
    ((name, own),) = BENCHMARK.case_table(config).items()
    return runs.Case(name, BENCHMARK.case_settings(config, own, "figures"), folder)


def explained(case: runs.Case) -> None:
    """Write the attributions of a case, each in one piece."""
    grid = grid_of(case.read("data.nc"))
    for e in explain(case):
        x = read_array(case.read(e.samples), e.variable, select={"sample": slice(e.first, e.last)})
        result = xairt.attribute(xairt.load_model(case.read(e.model)), x, e.method, grid=grid, seed=e.seed)
        write_dataset(result, case.write(e.file), title="attribution")


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> runs.Case:
    """A case that went through all stages but the figures."""
    found = case_in(tmp_path_factory.mktemp("run") / "cases" / "n60")
    generate(found)
    train(found)
    explained(found)
    score(found).to_csv(found.folder / "table.csv", index=False)
    return found


@pytest.fixture(scope="module")
def table(case) -> pd.DataFrame:
    return pd.read_csv(case.folder / "table.csv")


@pytest.fixture(scope="module")
def run(case, table) -> runs.Run:
    """The run of that one case."""
    folder = case.folder.parents[1]
    tables.write(table, "sstanom", case, case.folder / tables.FILE)
    tables.gather([case.folder / tables.FILE], folder / tables.FILE)
    return runs.Run(folder, BENCHMARK, BENCHMARK.configured(TINY), Manifest.open(folder, "sstanom"))


# ------------------------------------------------------------------------------------------- generate


def integral(x: float, breakpoints: np.ndarray, slopes: np.ndarray) -> float:
    """Integrate a piecewise constant slope from 0 to x, piece by piece."""
    low, high = min(0.0, x), max(0.0, x)
    nodes = [low, *(b for b in breakpoints if low < b < high), high]
    total = 0.0
    for left, right in itertools.pairwise(nodes):
        piece = sum(b <= (left + right) / 2 for b in breakpoints)
        total += slopes[piece] * (right - left)
    return total if x > 0 else -total


def test_truth_is_the_integral_of_the_known_slopes(case):
    data = read_dataset(case.read("data.nc"))
    ocean = np.isfinite(data["x"].values[0])
    breakpoints = data["breakpoints"].values[:, ocean].T.astype(float)
    slopes = data["piece_slopes"].values[:, ocean].T.astype(float)
    assert breakpoints.shape == (ocean.sum(), 5)
    assert (breakpoints == 0).any(axis=1).all()
    x, truth = data["x"].values[:, ocean], data["truth"].values[:, ocean]
    chosen = np.random.default_rng(0).choice(x.size, 500, replace=False)
    for sample, cell in zip(*np.unravel_index(chosen, x.shape), strict=True):
        expected = integral(float(x[sample, cell]), breakpoints[cell], slopes[cell])
        np.testing.assert_allclose(truth[sample, cell], expected, rtol=1e-4, atol=1e-8)
        piece = int(np.sum(breakpoints[cell] <= x[sample, cell]))
        np.testing.assert_allclose(
            data["slope"].values[:, ocean][sample, cell], slopes[cell, piece], rtol=1e-5
        )


def test_output_is_the_sum_of_the_truth_and_land_is_missing_everywhere(case):
    data = read_dataset(case.read("data.nc"))
    assert data["x"].dims == ("sample", "lat", "lon")
    assert dict(data.sizes) | {"sample": N, "lat": 18, "lon": 36} == dict(data.sizes)
    ocean = np.isfinite(data["x"].values[0])
    for name in ("x", "truth", "slope"):
        assert (np.isfinite(data[name].values) == ocean).all()
    np.testing.assert_allclose(data["truth"].sum(("lat", "lon")), data["y"], atol=1e-6)
    assert 0.9 < data["x"].values[:, ocean].std() < 1.1


def test_maps_and_function_do_not_depend_on_the_number_of_samples(case, tmp_path):
    other = case_in(tmp_path, n_samples=[30])
    generate(other)
    few, many = read_dataset(other.read("data.nc")), read_dataset(case.read("data.nc"))
    np.testing.assert_array_equal(few["truth"], many["truth"][:30])
    reseeded = case_in(tmp_path / "other", n_samples=[30], seed=1)
    generate(reseeded)
    changed = read_dataset(reseeded.read("data.nc"))
    assert not np.allclose(changed["piece_slopes"], many["piece_slopes"], equal_nan=True)


def test_without_breakpoints_the_truth_is_linear(tmp_path):
    linear = case_in(tmp_path, n_samples=[20], n_breakpoints=0)
    generate(linear)
    data = read_dataset(linear.read("data.nc"))
    np.testing.assert_allclose(data["truth"], data["x"] * data["piece_slopes"][0], rtol=1e-5)
    assert known_function(linear.read("data.nc")).breakpoints.shape[1] == 0


# ---------------------------------------------------------------------------------------------- train


@pytest.mark.parametrize(
    ("label", "file", "parameters"),
    [
        ("network", "model.h5", lambda n: n * 8 + 8 + 8 * 4 + 4 + 4),
        ("network.linear", "linear.h5", lambda n: n),
    ],
)
def test_skill_is_that_of_the_saved_network_on_the_last_maps(case, label, file, parameters):
    model, data = xairt.load_model(case.read(file)), case.read("data.nc")
    grid = grid_of(data)
    assert model.count_params() == parameters(grid.n_valid)
    y = read_array(data, "y").values[N_TRAIN:]
    error = model.predict(vectors(data, "x", grid, N_TRAIN, N), verbose=0)[:, 0] - y
    told = pd.read_csv(case.read("networks.csv")).query(f"label == '{label}'").set_index("metric")
    expected = {"mse": np.mean(error**2), "mae": np.mean(np.abs(error))}
    expected["r2"] = 1 - expected["mse"] / np.var(y)
    assert told["value"].to_dict() == pytest.approx(expected, rel=1e-4)
    assert set(told["n"]) == {N - N_TRAIN}


def test_history_has_a_line_for_each_epoch_and_the_loss_of_the_test_set(case):
    history = pd.read_csv(case.read("history.csv"))
    assert list(history["epoch"]) == [1, 2]
    told = pd.read_csv(case.read("networks.csv")).query("label == 'network'").set_index("metric")["value"]
    np.testing.assert_allclose(history["val_loss"].iloc[-1], told["mse"], rtol=1e-4)


def test_hidden_units_are_those_of_the_paper_unless_others_are_given():
    dense = [layer.units for layer in mamalakis2022(458, 0).layers]
    assert dense == [*BENCHMARK.configured({}).hidden_units, 1]
    with pytest.raises(ModelError, match=r"units=\(\): give at least one hidden layer"):
        mamalakis2022(458, 0, ())


# -------------------------------------------------------------------------------------------- explain


def test_every_method_explains_the_first_test_maps_and_the_linear_model_is_explained_too(case):
    found = explain(case)
    assert [e.method for e in found] == [*TINY["methods"], "input_t_gradient"]
    assert {(e.first, e.last) for e in found} == {(N_TRAIN, N_TRAIN + 5)}
    assert [e.name for e in found if e.model == "linear.h5"] == ["linear.input_t_gradient"]
    assert len({e.file for e in found}) == len(found)


def test_no_more_maps_are_explained_than_the_test_set_has(tmp_path):
    found = explain(case_in(tmp_path, n_explained=1000))
    assert {(e.first, e.last) for e in found} == {(N_TRAIN, N)}


# ---------------------------------------------------------------------------------------------- score


@pytest.fixture(scope="module")
def hand_built():
    """Truth, slope and outputs of four samples of 30 cells, outputs of both signs."""
    generator = np.random.default_rng(3)
    truth, slope = generator.normal(size=(2, 4, 30))
    return truth, slope, np.array([1.0, -1.0, 2.0, -2.0])


def test_an_attribution_equal_to_the_truth_scores_one(hand_built):
    truth, slope, prediction = hand_built
    for method in ("lrp.z", "input_t_gradient", "random", 'lrp.z(bias="ignore")'):
        scores = sample_scores(method, truth, prediction, truth, slope)
        assert set(scores) == {"pearson.contribution", "spearman.contribution"}
        for values in scores.values():
            np.testing.assert_allclose(values, 1, rtol=1e-12)
        opposite = sample_scores(method, -truth, prediction, truth, slope)
        np.testing.assert_allclose(opposite["pearson.contribution"], -1, rtol=1e-12)


def test_a_gradient_is_compared_with_contribution_and_slope(hand_built):
    truth, slope, prediction = hand_built
    scores = sample_scores("gradient", slope, prediction, truth, slope)
    np.testing.assert_allclose(scores["pearson.slope"], 1, rtol=1e-12)
    expected = [np.corrcoef(s, t)[0, 1] for s, t in zip(slope, truth, strict=True)]
    np.testing.assert_allclose(scores["pearson.contribution"], expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["lrp.alpha_1_beta_0", "lrp.z_plus", "lrp.z_plus_fast"])
def test_where_one_sign_is_kept_the_correlation_is_flipped_with_the_output(hand_built, method):
    truth, slope, prediction = hand_built
    signs = np.sign(prediction)[:, np.newaxis]
    scores = sample_scores(method, signs * np.maximum(truth, 0), prediction, truth, slope)
    np.testing.assert_allclose(scores["pearson.positive_part"], 1, rtol=1e-12)
    scores = sample_scores(method, signs * np.abs(truth), prediction, truth, slope)
    np.testing.assert_allclose(scores["spearman.magnitude"], 1, rtol=1e-12)
    assert (scores["pearson.positive_part"] < 1).all()


def test_deep_taylor_is_compared_with_the_magnitude_and_its_maps_of_zeros_are_missing(hand_built):
    truth, slope, prediction = hand_built
    attribution = np.where(prediction[:, np.newaxis] > 0, np.abs(truth), 0.0)
    scores = sample_scores("deep_taylor", attribution, prediction, truth, slope)
    np.testing.assert_allclose(scores["pearson.magnitude"], [1, np.nan, 1, np.nan], rtol=1e-12)
    summary = statistics(scores["pearson.magnitude"])
    assert summary["missing"] == 2
    assert summary["mean"] == pytest.approx(1)


def test_an_attribution_that_is_constant_or_not_finite_has_no_score(hand_built):
    truth, slope, prediction = hand_built
    attribution = truth.copy()
    attribution[0] = 3.0
    attribution[1, 4] = np.inf
    attribution[2, 5] = np.nan
    for values in sample_scores("lrp.z", attribution, prediction, truth, slope).values():
        assert np.isnan(values[:3]).all()
        np.testing.assert_allclose(values[3], 1, rtol=1e-12)


def test_statistics_of_known_values():
    found = statistics([0.0, 1.0, 2.0, 3.0, 4.0, np.nan])
    expected = {"mean": 2.0, "sd": np.sqrt(2.5), "median": 2.0, "p05": 0.2, "p95": 3.8, "missing": 1.0}
    assert found == pytest.approx(expected)
    nothing = statistics([np.nan, np.nan])
    assert nothing.pop("missing") == 2
    assert np.isnan(list(nothing.values())).all()


def test_truths_of_methods_with_parameters():
    assert truths_of("lrp.alpha_beta(alpha=2, beta=1)") == ("contribution",)
    assert truths_of('lrp.alpha_1_beta_0(bias="innvestigate")') == ("positive_part", "magnitude")
    assert truths_of("saliency") == ("magnitude",)
    assert truths_of("smoothgrad(noise_scale=0.5)") == ("contribution", "slope")


def test_scores_follow_from_the_files(case, table):
    grid = grid_of(case.read("data.nc"))
    truth = vectors(case.read("data.nc"), "truth", grid, N_TRAIN, N_TRAIN + 5)
    e = next(e for e in explain(case) if e.name == "linear.input_t_gradient")
    attribution = vectors(case.read(e.file), "attribution", grid, 0, 5)
    r = [np.corrcoef(a, t)[0, 1] for a, t in zip(attribution, truth, strict=True)]
    rank = [spearmanr(a, t).statistic for a, t in zip(attribution, truth, strict=True)]
    rows = table.query("label == 'linear.input_t_gradient'").set_index(["metric", "statistic"])["value"]
    assert rows["pearson.contribution", "mean"] == pytest.approx(np.mean(r), abs=1e-6)
    assert rows["pearson.contribution", "sd"] == pytest.approx(np.std(r, ddof=1), abs=1e-6)
    assert rows["spearman.contribution", "median"] == pytest.approx(np.median(rank), abs=1e-6)
    stored = read_dataset(case.read("correlations.nc"))
    place = (stored["label"] == "linear.input_t_gradient") & (stored["metric"] == "pearson.contribution")
    np.testing.assert_allclose(stored["score"].values[place.values][0], r, atol=1e-6)


def test_every_method_has_its_rows_and_maps_of_zeros_are_counted(case, table):
    labels = [e.name for e in explain(case)]
    assert list(dict.fromkeys(table["label"])) == ["network", "network.linear", *labels]
    statistic_names = {"mean", "sd", "median", "p05", "p95", "missing"}
    for (_, metric), group in table[table["label"].isin(labels)].groupby(["label", "metric"]):
        assert metric.partition(".")[0] in ("pearson", "spearman")
        assert set(group["statistic"]) == statistic_names
    taylor = next(e for e in explain(case) if e.method == "deep_taylor")
    zero = int((read_array(case.read(taylor.file), "prediction").values <= 0).sum())
    rows = table.query("label == 'deep_taylor' and metric == 'pearson.magnitude'").set_index("statistic")
    assert (rows["value"]["missing"], rows["n"]["missing"], rows["n"]["mean"]) == (zero, 5, 5 - zero)
    methods = table.set_index("label")["method"]
    assert methods["lrp.alpha_1_beta_0"].iloc[0].startswith("lrp.alpha_beta(")
    assert set(table[table["label"].isin(labels)]["engine"]) == {"native"}


def test_a_network_below_its_gate_is_told(case, caplog):
    assert BENCHMARK.gates == {"r2": "minimum_r2"}
    assert "minimum_r2" in type(BENCHMARK.configured({})).visible("score")
    with caplog.at_level(logging.WARNING, logger="xairt"):
        found = score(case)
    r2 = found.query("label == 'network' and metric == 'r2'")["value"].item()
    assert f"case n60: R2 {r2:.3f} on the test set, below minimum_r2=0.9" in caplog.text


# -------------------------------------------------------------------------------------------- figures


def test_figures_are_drawn_of_what_was_scored(run, tmp_path):
    figures(run, tmp_path)
    drawn = ("maps-n60", "histograms", "learning-curve", "cell-functions", "samples", "slopes")
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in drawn}
    assert all(path.stat().st_size > 3000 for path in tmp_path.iterdir())


def test_histograms_hold_every_sample_once(case, table):
    figure = score_histograms({"n60": case})
    panels = {(row.label, row.metric) for row in table.itertuples() if row.metric.startswith("pearson")}
    assert len(figure.axes) == len(panels)
    by_title = {ax.get_title().replace("\n", " "): ax for ax in figure.axes}
    steps = by_title["random - contribution"].patches[0].get_xy()
    edges, heights = np.unique(steps[:, 0]), steps[1:-1:2, 1]
    assert (edges[0], edges[-1], len(edges)) == (-0.5, 1.0, 51)
    assert heights.sum() == pytest.approx(1)


def test_learning_curve_shows_the_means_by_size(table):
    other = table.assign(value=table["value"] / 2)
    both = pd.concat([table.assign(case="n60"), other.assign(case="n6")])
    axes = learning_curve(both, {"n60": 60, "n6": 6}).axes
    panels = {ax.get_title().replace("\n", " "): {line.get_label(): line for line in ax.lines} for ax in axes}
    lines = panels["Pearson's r with the contribution"] | panels["Skill on the test set"]
    means = table.query("metric == 'pearson.contribution' and statistic == 'mean'").set_index("label")[
        "value"
    ]
    x, y = lines["random"].get_data()
    assert list(x) == [6, 60]
    np.testing.assert_allclose(y, [means["random"] / 2, means["random"]])
    r2 = table.query("label == 'network' and metric == 'r2'")["value"].item()
    np.testing.assert_allclose(lines["R2 of the network"].get_ydata(), [r2 / 2, r2])


def test_functions_of_cells_go_through_the_truth_of_the_samples(case):
    figure = cell_functions(case)
    assert len(figure.axes) == 6
    grid = grid_of(case.read("data.nc"))
    cell = grid.nearest(0, 210)
    x, truth = (vectors(case.read("data.nc"), name, grid, 0, N)[:, cell] for name in ("x", "truth"))
    line = figure.axes[0].lines[0].get_data()
    inside = np.abs(x) < 3
    np.testing.assert_allclose(np.interp(x[inside], *line), truth[inside], atol=1e-5)


# ------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("preset", runs.PRESETS)
def test_presets_are_valid(preset):
    config = BENCHMARK.configured({}, preset)
    assert len(BENCHMARK.case_table(config)) == len(config.n_samples)
    assert {"random", "input"} <= set(config.methods) & set(BENCHMARK.controls)


def test_presets_have_the_sizes_of_the_publication():
    assert len(BENCHMARK.configured({}, "quick").n_samples) == 2
    assert BENCHMARK.configured({}, "standard").n_samples == (100_000,)
    paper = BENCHMARK.configured({}, "paper")
    assert (paper.n_samples, paper.epochs, paper.batch_size, paper.learning_rate) == (
        (1_000_000,),
        50,
        32,
        0.02,
    )
    assert 'lrp.alpha_1_beta_0(bias="innvestigate")' in paper.methods


def test_settings_survive_being_stored():
    config = BENCHMARK.configured({}, "paper")
    assert BENCHMARK.configured(config.plain()) == config
    assert BENCHMARK.configured({"methods": "lrp.z"}).methods == ("lrp.z",)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"n_samples": [10]}, r"sstanom: parameter 'n_samples.0' = 10"),
        ({"n_samples": "many"}, r"sstanom: parameter 'n_samples.0' = 'many'"),
        ({"seed": -1}, r"sstanom: parameter 'seed' = -1"),
        ({"n_breakpoints": -1}, r"sstanom: parameter 'n_breakpoints' = -1"),
        ({"test_share": 0.0}, r"sstanom: parameter 'test_share' = 0.0"),
        ({"test_share": 0.9}, r"sstanom: parameter 'test_share' = 0.9"),
        ({"hidden_units": []}, r"sstanom: parameter 'hidden_units'"),
        ({"hidden_units": [8, 0]}, r"sstanom: parameter 'hidden_units.1' = 0"),
        ({"epochs": 0}, r"sstanom: parameter 'epochs' = 0"),
        ({"batch_size": 0}, r"sstanom: parameter 'batch_size' = 0"),
        ({"learning_rate": 0}, r"sstanom: parameter 'learning_rate' = 0"),
        ({"n_explained": 0}, r"sstanom: parameter 'n_explained' = 0"),
        ({"methods": []}, r"sstanom: parameter 'methods'"),
        ({"methods": ["gradeint"]}, r"sstanom: parameter 'methods' = .*did you mean 'gradient'"),
        (
            {"methods": ["lrp.epsilon(epsilon=-1)"]},
            r"sstanom: parameter 'methods' = .*parameter 'epsilon' = -1",
        ),
        ({"methods": ["lrp.z", "lrp.z"]}, r"sstanom: parameter 'methods' = .*stands there twice"),
        ({"minimum_r2": 2}, r"sstanom: parameter 'minimum_r2' = 2"),
        ({"dpi": 1}, r"sstanom: parameter 'dpi' = 1"),
        ({"shown_samples": [-1]}, r"sstanom: parameter 'shown_samples.0' = -1"),
        ({"shown_cells": [[100, 0]]}, r"sstanom: parameter 'shown_cells.0.0' = 100"),
        ({"lerning_rate": 1}, r"sstanom has no parameter 'lerning_rate'.*did you mean 'learning_rate'"),
    ],
)
def test_nonsense_is_refused_in_one_line_that_names_the_setting(given, match):
    with pytest.raises(MethodError, match=match) as caught:
        BENCHMARK.configured(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("n_samples", "generate"),
        ("learning_rate", "train"),
        ("n_explained", "explain"),
        ("minimum_r2", "score"),
        ("dpi", "figures"),
    ],
)
def test_a_setting_belongs_to_the_first_stage_that_reads_it(name, stage):
    config = type(BENCHMARK.configured({}))
    assert config.stage_of(name) == stage


def test_every_setting_is_described():
    from xairt.runs.config import describe

    assert all(len(row["description"]) > 10 for row in describe(BENCHMARK.configured({})))


# --------------------------------------------------------------------------------------------- a run


def test_the_package_registers_the_benchmark():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options.entry_points"]["xairt.benchmarks"].strip().splitlines()
    registered = dict(map(str.strip, line.split("=")) for line in lines)
    assert EntryPoint("sstanom", registered["sstanom"], "xairt.benchmarks").load() is BENCHMARK


def test_listing_the_benchmark_loads_no_heavy_package():
    code = "import sys, xairt.benchmarks.sstanom; print({'tensorflow', 'xarray', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_run_does_everything_and_then_only_what_a_setting_changes(tmp_path):
    small = {**TINY, "n_samples": [60, 40], "methods": ["gradient"]}
    folder = tmp_path / "run"
    first = runs.execute(BENCHMARK, BENCHMARK.configured(small), folder)
    explanations = ("explain/gradient", "explain/linear.input_t_gradient")
    steps = [f"{case}/{s}" for case in ("n40", "n60") for s in ("generate", "train", *explanations, "score")]
    assert first.done == [*steps, "figures"]
    assert set(runs.Run.open(folder, BENCHMARK).scores["case"]) == {"n40", "n60"}
    (folder / "cases/n40/data.nc").write_bytes(b"cut off")
    again = runs.execute(BENCHMARK, BENCHMARK.configured(small), folder)
    assert again.done == ["n40/generate"]  # the same bytes came out
    redrawn = runs.execute(BENCHMARK, BENCHMARK.configured({**small, "n_samples": [40], "dpi": 50}), folder)
    assert redrawn.done == ["figures"]
    faster = {**small, "n_samples": [60], "learning_rate": 0.05}
    retrained = runs.execute(BENCHMARK, BENCHMARK.configured(faster), folder, only="train")
    assert (retrained.done, retrained.current) == (["n60/train"], ["n60/generate"])


def test_methods_come_in_the_order_of_the_paper(tmp_path):
    """At a hundredth of the paper's size: methods of contributions on top, derivatives without relation to them."""
    on_top = ["input_t_gradient", "integrated_gradients", "lrp.z", "occlusion"]
    derivatives = ["gradient", "smoothgrad(augment_by_n=16)"]
    settings = {
        "n_samples": 10_000,
        "epochs": 12,
        "hidden_units": [128, 32],
        "linear_epochs": 1,
        "n_explained": 150,
        "methods": [*on_top, *derivatives, "lrp.alpha_1_beta_0", "random"],
    }
    benchmark = dataclasses.replace(BENCHMARK, figures=None)
    assert runs.execute(benchmark, benchmark.configured(settings), tmp_path / "run").failed == []
    scores = runs.Run.open(tmp_path / "run", benchmark).scores.query("statistic == 'mean'")
    mean = scores.set_index(["label", "metric"])["value"]
    found = {label: mean[label, "pearson.contribution"] for label in [*on_top, *derivatives, "random"]}
    alpha = mean["lrp.alpha_1_beta_0", "pearson.positive_part"]
    assert min(found[label] for label in on_top) > alpha + 0.02
    assert max(found[label] for label in on_top) < 0.15 + min(found[label] for label in on_top)
    assert alpha > 0.2
    assert all(abs(found[label]) < 0.1 for label in derivatives)
    assert abs(found["random"]) < 0.02
    assert mean["gradient", "pearson.slope"] > 0.2


@pytest.mark.slow
def test_the_quick_preset_finds_the_truth(tmp_path):
    """Takes up to four minutes on two cores."""
    outcome = runs.execute(BENCHMARK, BENCHMARK.configured({}, "quick"), tmp_path / "run")
    assert outcome.failed == []
    found = runs.Run.open(tmp_path / "run", BENCHMARK).scores.query("case == 'n40000'")
    assert set(METHODS) <= set(found["label"])
    mean = found.query("metric == 'pearson.contribution' and statistic == 'mean'").set_index("label")["value"]
    assert mean["lrp.z"] > 0.3 > abs(mean["random"])


def test_stages_used_alone_as_the_documentation_shows(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "BENCHMARK.configured" in c)
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"epochs": 5', '"epochs": 1'), {})
    assert {"data.nc", "model.h5", "networks.csv"} <= {path.name for path in (tmp_path / "folder").iterdir()}
