"""The benchmarks of covariance strength: their data, networks, attributions, scores and what they find."""

from __future__ import annotations

import logging
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import xairt
from xairt import fields, metrics, runs
from xairt.benchmarks.varicov import GLOBALCOV, UNICOV, explain, figures, score, train
from xairt.benchmarks.varicov.figures import network_violins, patch_violins
from xairt.benchmarks.varicov.layout import Layout
from xairt.benchmarks.varicov.scoring import (
    Explained,
    explained_samples,
    mean_over_networks,
    network_scores,
    patch_totals,
    remembered,
    stored_scores,
)
from xairt.benchmarks.varicov.settings import PATCH_SIZES
from xairt.benchmarks.varicov.stages import Attribution, attributions, explained_ranges
from xairt.benchmarks.varicov.task import case_seed, known_function
from xairt.data.files import read_array, read_dataset
from xairt.errors import DataError, DivergedError
from xairt.runs import scores as tables
from xairt.runs.manifest import Manifest
from xairt.runs.scores import short_names

TINY = {
    "strength": [0.5],
    "n_samples": [60],
    "n_networks": 3,
    "hidden_units": [32, 16],
    "epochs": 1,
    "n_explained": 4,
    "methods": ["gradient", "occlusion", "random"],
    "patch_sizes": [1, 4],
    "shown_methods": ["occlusion"],
    "minimum_r2": 0.9,
    "dpi": 40,
}
BOTH = pytest.mark.parametrize("benchmark", [GLOBALCOV, UNICOV], ids=lambda b: b.name)


def case_in(folder: Path, benchmark: runs.Benchmark = GLOBALCOV, **settings) -> runs.Case:
    config = benchmark.configured({**TINY, **settings})
    ((name, own),) = benchmark.case_table(config).items()
    return runs.Case(name, benchmark.case_settings(config, own, "figures"), folder)


def generated(folder: Path, benchmark: runs.Benchmark = GLOBALCOV, **settings) -> runs.Case:
    case = case_in(folder, benchmark, **settings)
    benchmark.generate(case)
    return case


def samples_of(case: runs.Case) -> np.ndarray:
    return Layout.of_file(case.read("data.nc")).vectors(case.read("data.nc"), "x", 0, case.config.n_samples)


# --------------------------------------------------------------------------------------------- layout


def test_patches_lie_side_by_side_from_the_upper_left():
    pictures = {size: Layout.of_raster(5, 4).patches(size).reshape(5, 4) for size in (1, 2, 8)}
    np.testing.assert_array_equal(pictures[1], np.arange(20).reshape(5, 4))
    np.testing.assert_array_equal(
        pictures[2], [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3], [4, 4, 5, 5]]
    )
    assert (pictures[8] == 0).all()


def test_patches_of_a_map_leave_land_out():
    mask = np.array([[1, 0, 0, 0], [0, 0, 0, 1]], bool)
    layout = Layout.of_grid(xairt.Grid(mask, [10.0, 0.0], [0.0, 10.0, 20.0, 30.0]))
    np.testing.assert_array_equal(layout.patches(2), [0, 1])
    np.testing.assert_array_equal(layout.raster(np.array([1.0, 2.0])), np.where(mask, [[1.0], [2.0]], np.nan))


@BOTH
def test_samples_are_read_as_they_were_written(tmp_path, benchmark):
    case = generated(tmp_path, benchmark)
    layout, config = Layout.of_file(case.read("data.nc")), case.config
    correlation, _ = fields.correlation_of("analytic")
    if benchmark is UNICOV:
        correlation = np.eye(440)
    wanted = fields.sample_gaussian(fields.strengthened(correlation, 0.5), 60, case_seed(config))
    np.testing.assert_array_equal(samples_of(case), wanted)
    for size in PATCH_SIZES:
        np.testing.assert_array_equal(np.load(case.read(f"patches-{size}.npy")), layout.patches(size))


# ------------------------------------------------------------------------------------------- generate


def test_maps_of_globalcov_have_land_and_unicov_has_a_raster(tmp_path):
    maps = read_dataset(generated(tmp_path / "maps").read("data.nc"))["x"]
    assert maps.dims == ("sample", "lat", "lon")
    assert int(maps[0].notnull().sum()) == 446
    raster = read_dataset(generated(tmp_path / "raster", UNICOV).read("data.nc"))["x"]
    assert raster.dims == ("sample", "cell")
    assert (raster.row.values.max(), raster.column.values.max()) == (19, 21)


@BOTH
def test_functions_are_drawn_with_the_unstrengthened_correlation(tmp_path, benchmark):
    case = generated(tmp_path, benchmark, strength=[0.9])
    layout = Layout.of_file(case.read("data.nc"))
    correlation, _ = fields.correlation_of("analytic")
    kept = correlation[: layout.n_cells, : layout.n_cells]
    wanted, found = (
        fields.draw(kept, case_seed(case.config)),
        known_function(case.read("data.nc"), layout, None),
    )
    np.testing.assert_allclose(found.slopes, wanted.slopes / layout.n_cells, rtol=1e-6)
    np.testing.assert_allclose(found.breakpoints, wanted.breakpoints, rtol=1e-6)
    y = read_array(case.read("data.nc"), "y").values
    np.testing.assert_allclose(y, wanted.contribution(samples_of(case)).sum(axis=1), atol=1e-5)


def test_every_strength_and_size_has_its_own_function_and_samples(tmp_path):
    seeds = {
        case_seed(case_in(tmp_path, strength=[w], n_samples=[n], seed=s).config)
        for w in (0.1, 0.2)
        for n in (60, 70)
        for s in (0, 1)
    }
    assert len(seeds) == 8


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_all_cells_of_unicov_are_correlated_alike(tmp_path, strength):
    x = samples_of(generated(tmp_path, UNICOV, strength=[strength], n_samples=[4000]))
    found = np.corrcoef(x.T)[np.triu_indices(x.shape[1], 1)]
    np.testing.assert_allclose(found.mean(), strength, atol=0.03)
    assert np.abs(found - strength).max() < 0.1
    if strength == 1:
        np.testing.assert_allclose(x, x[:, :1].repeat(x.shape[1], axis=1), atol=1e-5)


def test_maps_of_globalcov_are_correlated_more_the_stronger_the_covariance(tmp_path):
    correlation, _ = fields.correlation_of("analytic")
    x = samples_of(generated(tmp_path, strength=[0.7], n_samples=[4000]))
    assert np.abs(np.corrcoef(x.T) - (0.3 * correlation + 0.7)).max() < 0.1


def test_the_convention_flips_contributions_of_negative_values(tmp_path):
    ours = explained_samples(case := generated(tmp_path), Layout.of_file(case.read("data.nc")))
    theirs = case_in(tmp_path, convention="krell2025")
    flipped = explained_samples(theirs, Layout.of_file(case.read("data.nc")))
    np.testing.assert_allclose(flipped.truth, np.where(ours.x < 0, -ours.truth, ours.truth))
    GLOBALCOV.generate(theirs)
    y = read_array(theirs.read("data.nc"), "y").values
    np.testing.assert_allclose(y[:4], flipped.truth[:4].sum(axis=1), atol=1e-6)


def test_more_rows_than_cells_are_refused(tmp_path):
    with pytest.raises(DataError, match="rows=500: the correlation has 446 cells; give as many rows at most"):
        generated(tmp_path, UNICOV, rows=500)


def test_the_archived_matrix_fills_the_raster_of_the_publication(tmp_path, data_dir):
    case = generated(tmp_path, UNICOV, source="correlation")
    layout = Layout.of_file(case.read("data.nc"))
    assert (layout.n_cells, layout.raster(np.zeros(460)).shape) == (460, (20, 23))


# -------------------------------------------------------------------------------------------- finding


def test_networks_of_strong_covariance_predict_better_and_agree_less(tmp_path):
    """The publication's finding early in a training; later the mean may rise again, and its spread grows."""
    small = {
        "n_samples": [3000],
        "hidden_units": [64, 32],
        "epochs": 5,
        "learning_rate": 0.005,
        "n_explained": 100,
    }
    agreement, r2 = {}, {}
    for strength in (0.1, 0.9):
        case = generated(tmp_path / str(strength), strength=[strength], **small)
        train(case)
        x = samples_of(case)[-100:]
        found = [
            xairt.attribute(xairt.load_model(case.read(f"network-{k}.h5")), x, "input_t_gradient").attribution
            for k in (1, 2, 3)
        ]
        agreement[strength] = metrics.pairwise_correlation(np.stack(found)).mean()
        r2[strength] = pd.read_csv(case.read("networks.csv")).query("metric == 'r2'")["value"].mean()
    assert r2[0.9] > r2[0.1]
    assert agreement[0.9] < 0.8 * agreement[0.1]


# ------------------------------------------------------------------------------------- the whole chain


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_eagerly) -> Path:
    """A run of two strengths that went through all stages."""
    found = tmp_path_factory.mktemp("varicov") / "run"
    outcome = runs.execute(UNICOV, UNICOV.configured({**TINY, "strength": [0.2, 1.0]}), found)
    assert outcome.failed == []
    return found


@pytest.fixture(scope="module")
def run(folder) -> runs.Run:
    return runs.Run.open(folder, UNICOV)


@pytest.fixture(scope="module")
def case(run) -> runs.Case:
    return run.cases["w0.2-n60"]


@pytest.fixture(scope="module")
def table(run) -> pd.DataFrame:
    return run.scores.query("case == 'w0.2-n60'")


def test_networks_differ_and_their_skill_is_told(case, table):
    layout, y = Layout.of_file(case.read("data.nc")), read_array(case.read("data.nc"), "y").values[54:]
    r2 = []
    for number in (1, 2, 3):
        model = xairt.load_model(case.read(f"network-{number}.h5"))
        prediction = model.predict(layout.vectors(case.read("data.nc"), "x", 54, 60), verbose=0)[:, 0]
        r2.append(metrics.r2(y, prediction))
        assert len(pd.read_csv(case.read(f"network-{number}_history.csv"))) == 1
    rows = table[table["metric"] == "r2"].set_index(["label", "statistic"])["value"]
    assert [rows[f"network.{k}", "value"] for k in (1, 2, 3)] == pytest.approx(r2, abs=1e-4)
    assert len(set(r2)) == 3
    assert rows["network", "mean"] == pytest.approx(np.mean(r2), abs=1e-4)
    assert rows["network", "sd"] == pytest.approx(np.std(r2, ddof=1), abs=1e-4)
    (missed,) = tables.missed_gates(table, {"w0.2-n60": {"r2": 0.9}})
    assert missed.value == pytest.approx(np.mean(r2), abs=1e-4)


def test_a_training_that_diverges_is_begun_anew_more_slowly(tmp_path, caplog):
    steep = {"strength": [1.0], "n_samples": [600], "epochs": 4, "n_networks": 2}
    case = generated(tmp_path, **steep, learning_rate=0.05)
    with caplog.at_level(logging.WARNING, logger="xairt"):
        train(case)
    rates = pd.read_csv(case.read("networks.csv")).query("metric == 'learning_rate'")["value"]
    assert 0.05 / 2**4 <= rates.min() < 0.05
    assert caplog.text.count("begun anew with half of it") == np.log2(0.05 / rates).sum()
    with pytest.raises(DivergedError, match=r"training: loss (nan|inf) in epoch 1; lower the learning rate"):
        train(case_in(tmp_path, **steep, learning_rate=10.0))


def test_every_network_is_explained_alike_and_patches_on_test_samples_alone(case):
    found = explain(case)
    assert len({e.name for e in found}) == len(found) == 3 * (3 * 2 + 1)
    assert {(e.first, e.last) for e in found} == {(0, 4), (56, 60)}
    assert {e.model: e.seed for e in found} == {f"network-{k}.h5": k for k in (1, 2, 3)}
    patched = [e for e in found if e.groups]
    assert {(e.method, e.groups, e.first) for e in patched} == {("occlusion", "patches-4.npy", 56)}
    labels = [way.label for way in attributions(case.config)]
    assert labels == ["gradient", "occlusion", "random", "occlusion.patch-4"]


def test_both_parts_have_as_many_samples_as_the_smaller_one(tmp_path):
    config = case_in(tmp_path, n_explained=1000).config
    assert explained_ranges(config) == {"train": (0, 6), "test": (54, 60)}


def test_cells_of_a_patch_are_explained_as_one(case):
    e = next(e for e in explain(case) if e.groups)
    values, patches = read_array(case.read(e.file), "attribution").values, np.load(case.read(e.groups))
    for patch in range(patches.max() + 1):
        assert (np.ptp(values[:, patches == patch], axis=1) == 0).all()
    model, x = xairt.load_model(case.read(e.model)), samples_of(case)[e.first : e.last]
    f = model.predict(np.stack([x[0], np.where(patches == 3, 0, x[0])]), verbose=0)[:, 0]
    np.testing.assert_allclose(values[0, patches == 3], f[0] - f[1], atol=1e-6)


def attributed(case: runs.Case, method: str, part: str) -> np.ndarray:
    wanted = [e for e in explain(case) if e.method == method and not e.groups and e.name.endswith(part)]
    return np.stack([read_array(case.read(e.file), "attribution").values for e in wanted])


def test_scores_between_networks_follow_from_the_attributions(case, table):
    rows = table.set_index(["label", "metric", "statistic"])["value"]
    for part in ("train", "test"):
        values = attributed(case, "gradient", part)
        r = [
            np.mean([np.corrcoef(values[i, s], values[j, s])[0, 1] for i, j in combinations(range(3), 2)])
            for s in range(4)
        ]
        assert rows["gradient", f"pairwise.{part}", "mean"] == pytest.approx(np.mean(r), abs=1e-6)
        assert rows["gradient", f"pairwise.{part}", "sd"] == pytest.approx(np.std(r, ddof=1), abs=1e-6)


def test_scores_of_patches_follow_from_the_attributions(case, table):
    rows = table.set_index(["label", "metric", "statistic"])["value"]
    patches = np.load(case.read("patches-4.npy"))
    values = attributed(case, "gradient", "test")
    sums = np.stack([values[..., patches == k].sum(axis=-1) for k in range(patches.max() + 1)], axis=-1)
    r = [
        np.mean([np.corrcoef(sums[i, s], sums[j, s])[0, 1] for i, j in combinations(range(3), 2)])
        for s in range(4)
    ]
    assert rows["gradient", "pairwise.summed-4.test", "mean"] == pytest.approx(np.mean(r), abs=1e-5)
    assert {m for label, m, _ in rows.index if label == "occlusion" and "patch" in m} == {
        "pairwise.patch-4.test"
    }


def test_scores_against_the_truth_are_means_over_networks(case, table):
    layout = Layout.of_file(case.read("data.nc"))
    truth = explained_samples(case, layout).truth[4:]
    values = attributed(case, "occlusion", "test")
    r = np.mean([[np.corrcoef(a, t)[0, 1] for a, t in zip(v, truth, strict=True)] for v in values], axis=0)
    rows = table.set_index(["label", "metric", "statistic"])["value"]
    assert rows["occlusion", "pearson.contribution.test", "median"] == pytest.approx(np.median(r), abs=1e-5)
    stored = stored_scores(case)["occlusion", "pearson.contribution.test"]
    assert stored.shape == (3, 4)
    np.testing.assert_allclose(stored.mean(axis=0), r, atol=1e-5)


def test_every_method_has_its_rows(case, table):
    measures = {"faithfulness", "monotonicity", "sparseness", "pearson.contribution", "spearman.contribution"}
    wanted = {f"{m}.{part}" for m in (*measures, "pairwise") for part in ("train", "test")}
    found = table[table["label"] == "random"]
    assert set(found["metric"]) == wanted | {"pairwise.summed-4.test"}
    assert set(found["statistic"]) == {"mean", "sd", "median", "p05", "p95", "missing"}
    assert found["seconds"].nunique() == 1
    assert {"pearson.slope.test", "pearson.slope.train"} <= set(table[table["label"] == "gradient"]["metric"])


def test_the_control_knows_nothing_and_differs_between_networks(case):
    assert np.abs(stored_scores(case)["random", "pairwise.test"]).max() < 0.3


def test_inaccurate_networks_are_told(case, caplog):
    with caplog.at_level(logging.WARNING, logger="xairt"):
        score(case)
    assert "case w0.2-n60: mean R2" in caplog.text


def test_other_patches_cost_nothing_but_their_attributions(folder):
    given = {**TINY, "strength": [0.2, 1.0], "patch_sizes": [1, 8]}
    outcome = runs.execute(UNICOV, UNICOV.configured(given), folder, only="explain")
    assert outcome.failed == []
    assert outcome.done == [
        f"{case}/explain/network-{k}.occlusion.patch-8.test"
        for case in ("w0.2-n60", "w1-n60")
        for k in (1, 2, 3)
    ]


# ------------------------------------------------------------------------------------ scores by themselves


def test_the_truth_of_a_linear_network_has_the_best_scores():
    rng = np.random.default_rng(0)
    weights, x = rng.normal(size=60), rng.normal(size=(5, 60)).astype(np.float32)
    truth = x * weights
    explained = Explained(x, truth, np.broadcast_to(weights, x.shape))
    found = network_scores(
        "lrp.z", truth, truth.sum(axis=1), lambda rows: np.asarray(rows) @ weights, explained
    )
    assert set(found) == {
        *("pearson.contribution", "spearman.contribution", "faithfulness", "monotonicity", "sparseness")
    }
    for name in ("pearson.contribution", "spearman.contribution", "faithfulness"):
        np.testing.assert_allclose(found[name], 1, atol=1e-4)
    np.testing.assert_allclose(found["sparseness"], metrics.sparseness(truth))


def test_patches_are_summed_unless_they_are_treated_as_one():
    values, patches = np.array([[1.0, 1.0, 4.0]]), np.array([0, 0, 1])
    assert patch_totals(Attribution("occlusion"), values, patches).tolist() == [[2.0, 4.0]]
    assert patch_totals(Attribution("occlusion", 2), values, patches).tolist() == [[1.0, 4.0]]
    assert patch_totals(Attribution("shap.kernel", 2), values, patches).tolist() == [[2.0, 4.0]]


def test_samples_of_which_a_network_has_no_score_are_missing():
    found = mean_over_networks(np.array([[1.0, np.nan], [0.0, 0.5]]))
    np.testing.assert_array_equal(found, [0.5, np.nan])


def test_the_same_inputs_are_computed_once():
    asked = []

    def predict(rows):
        asked.append(len(rows))
        return rows.sum(axis=1)

    network, x = remembered(predict), np.ones((3, 4), np.float32)
    for rows in (x, x.copy(), 2 * x, x):
        np.testing.assert_array_equal(network(rows), rows.sum(axis=1))
    assert asked == [3, 3]


# -------------------------------------------------------------------------------------------- figures


def test_figures_are_drawn_of_what_was_scored(folder):
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {
        *(
            "skill.png",
            "truth-n60.png",
            "networks-n60.png",
            "patches-n60.png",
            "measures-n60.png",
            "maps-n60.png",
        )
    }
    assert all(path.stat().st_size > 3000 for path in (folder / "figures").iterdir())


def test_maps_of_globalcov_are_drawn_too(tmp_path):
    small = {**TINY, "n_networks": 2, "methods": ["gradient"], "patch_sizes": [1]}
    outcome = runs.execute(GLOBALCOV, GLOBALCOV.configured(small), tmp_path / "run")
    assert outcome.failed == []
    names = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert "maps-n60.png" in names
    assert "patches-n60.png" not in names
    empty = runs.Run(
        tmp_path / "run",
        GLOBALCOV,
        GLOBALCOV.configured({**small, "strength": [0.6]}),
        Manifest.open(tmp_path / "run", "globalcov"),
    )
    figures(empty, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_violins_show_the_samples_scores_by_strength(run):
    samples = {f"{c.config.strength:g}": stored_scores(c) for c in run.cases.values()}
    figure = network_violins(samples, TINY["methods"])
    assert [ax.get_title() for ax in figure.axes] == TINY["methods"]
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.2", "1"]
    medians = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "o"]
    wanted = [
        np.median(mean_over_networks(found["gradient", f"pairwise.{part}"]))
        for part in ("test", "train")
        for found in samples.values()
    ]
    np.testing.assert_allclose(medians, wanted)


def test_patches_are_drawn_by_size_for_methods_that_know_groups_twice(run):
    samples = {f"{c.config.strength:g}": stored_scores(c) for c in run.cases.values()}
    figure = patch_violins(samples, TINY["methods"], [4])
    titles = [ax.get_title().replace("\n", " ") for ax in figure.axes]
    assert titles == [
        "occlusion - patches as features",
        *(f"{method} - cells summed" for method in TINY["methods"]),
    ]
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "4"]


def test_methods_keep_their_parameters_where_these_tell_them_apart():
    methods = ["shap.kernel(nsamples=10)", "shap.kernel(nsamples=20)", "lrp.z"]
    assert list(short_names(methods).values()) == [*methods[:2], "lrp.z"]


@pytest.mark.slow
@BOTH
def test_the_quick_preset_shows_the_finding(tmp_path, benchmark):
    """Takes up to four minutes on two cores: agreement between networks varies more from sample to sample."""
    outcome = runs.execute(benchmark, benchmark.configured({}, "quick"), tmp_path / "run")
    assert outcome.failed == []
    found = runs.Run.open(tmp_path / "run", benchmark).scores
    between = found.query("metric == 'pairwise.test' and statistic == 'sd' and label != 'random'")
    sd = between.pivot(index="label", columns="case", values="value")
    assert (sd["w0.9-n8000"] > sd["w0.1-n8000"]).all()
    against = found.query("metric == 'pearson.contribution.test' and statistic == 'mean'")
    assert against.query("label == 'input_t_gradient'")["value"].min() > 0.3
