"""The benchmark of localised statistics: its cases, what it stores, and scores derived again from the maps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest

import xairt
from xairt import runs, training
from xairt.benchmarks.igc import IGC, map_scores, stages
from xairt.benchmarks.igc.experiments import EXPERIMENTS
from xairt.benchmarks.igc.figures import colour_limit, map_rows
from xairt.benchmarks.igc.images import images
from xairt.benchmarks.igc.masks import MASKS
from xairt.benchmarks.igc.scoring import ATTRIBUTIONS, scored_map, stored_maps
from xairt.benchmarks.igc.settings import Label
from xairt.benchmarks.igc.stages import ImageStream
from xairt.benchmarks.igc.statistics import samples
from xairt.data.files import read_dataset
from xairt.datasetwise.parameters import PARAMETERS
from xairt.errors import MethodError
from xairt.runs.manifest import Manifest
from xairt.runs.scores import missed_gates
from xairt.training.history import History

N, N_BSC, SEED = 150, 4, 3
METHODS = get_args(Label)
SMALL = {
    "n_images": N,
    "steps": 8,
    "n_drawn": 2,
    "n_iter": 1,
    "bsc_images": N_BSC,
    "seed": SEED,
    "methods": METHODS,
    "n_train": 100,
    "epochs": 2,
    "dpi": 40,
}


def settings_of(**given) -> runs.CaseSettings:
    """Return the settings that all stages of the first case may read."""
    config = IGC.configured(given, "paper")
    return IGC.case_settings(config, next(iter(IGC.case_table(config).values())), "figures")


def executed(folder: Path, **given) -> runs.Run:
    outcome = runs.execute(IGC, IGC.configured({**SMALL, **given}, "paper"), folder)
    assert outcome.failed == []
    return runs.Run.open(folder, IGC)


@pytest.fixture(scope="module")
def of_functions(tmp_path_factory) -> runs.Run:
    return executed(tmp_path_factory.mktemp("functions") / "run", experiment="all")


@pytest.fixture(scope="module")
def of_networks(tmp_path_factory) -> runs.Run:
    given = {"experiment": ["A", "D"], "model": "mlp", "learning_rate": 1e-3}
    return executed(tmp_path_factory.mktemp("networks") / "run", **given)


def values_of(run: runs.Run, case: str, label: str) -> pd.Series:
    rows = run.scores.query("case == @case and label == @label")
    return rows.set_index("metric")["value"]


# --------------------------------------------------------------------------- settings and cases


def test_methods_are_those_of_datasetwise():
    assert set(METHODS) == set(PARAMETERS)


def test_paper_has_the_published_sizes():
    config = IGC.configured({"experiment": "all", "model": ["function", "convnext", "mlp"]}, "paper")
    table = IGC.case_table(config)
    assert list(table) == [f"{e}.{m}" for e in "ABCD" for m in ("function", "convnext", "mlp")]
    of_function, of_network = table["C.function"], table["C.mlp"]
    assert (of_function["n_images"], of_function["steps"], of_function["bsc_images"]) == (
        100_000,
        512,
        10_000,
    )
    assert (of_network["n_images"], of_network["steps"], of_network["bsc_images"]) == (10_000, 64, 1000)
    assert (config.n_train, config.epochs, config.batch_size, config.n_drawn) == (100_000, 50, 64, 8)


@pytest.mark.parametrize("preset", IGC.presets)
def test_presets_make_cases_of_all_experiments_and_models(preset):
    config = IGC.configured({"experiment": "all", "model": ["function", "convnext", "mlp"]}, preset)
    assert len(IGC.case_table(config)) == 12


def test_an_experiment_of_ones_own_is_known_but_not_published(monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "E", EXPERIMENTS["B"])
    assert list(IGC.case_table(IGC.configured({"experiment": "E"}))) == ["E.function"]
    assert len(IGC.case_table(IGC.configured({"experiment": "all"}))) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"experiment": "a"}, r"experiment 'a' is unknown.*give some of A, B, C, D, or 'all'"),
        ({"experiment": ["all", "A"]}, r"experiment 'all' stands alone"),
        ({"model": "vgg16"}, r"model"),
        ({"methods": ["igc", "lrp.z"]}, r"methods"),
        ({"methods": []}, r"methods"),
        ({"n_images": 1}, r"n_images"),
        ({"steps": 1}, r"steps"),
        ({"n_images": 4, "methods": ["igc"]}, r"n_drawn 8 baselines cannot be drawn from 4 images"),
        ({"n_images": 50}, r"n_drawn 8 baselines cannot be drawn from 5 images"),
        ({"n_images": 50, "bsc_images": 60}, r"bsc_images 60 exceed n_images 50"),
        ({"learning_rate": 1e-7}, r"minimum_rate 1e-06 exceeds learning_rate 1e-07"),
        ({"size": 3}, r"size"),
    ],
)
def test_bad_settings_are_refused_in_one_line(given, message):
    with pytest.raises(MethodError, match=message) as caught:
        IGC.configured(given, "paper")
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------- images and truth


@pytest.mark.parametrize(
    "rows", [slice(0, 1), slice(100, 300), slice(None), np.array([0, 5, 127, 128, 129, 299]), np.array([260])]
)
def test_the_stream_gives_the_images_of_its_rows(rows):
    whole = images(300, seed=SEED)
    np.testing.assert_array_equal(ImageStream(300, SEED)[rows][..., 0], whole[rows])


@pytest.mark.parametrize("experiment", "ABCD")
def test_the_truth_is_stored_as_it_is_with_its_scaling(of_functions, experiment):
    case = of_functions.cases[f"{experiment}.function"]
    data = read_dataset(case.read("data.nc"))
    _, y = samples(experiment, N, seed=SEED)
    np.testing.assert_array_equal(data["truth"], y)
    np.testing.assert_array_equal(data["mask"], EXPERIMENTS[experiment].mask.generating())
    truth, scaling = stages.truth_of(case)
    if experiment == "D":
        assert scaling is None
        np.testing.assert_array_equal(truth, y)
    else:
        np.testing.assert_allclose(truth, (y - y.mean()) / y.std(), rtol=1e-12)


def test_every_epoch_has_images_of_its_own():
    fresh = stages.fresh_images(settings_of(n_train=5, experiment="D"), None)
    x, y = samples("D", 15, part="train")
    for epoch in (1, 2, 3):
        found, truth = fresh(epoch)
        rows = slice(5 * (epoch - 1), 5 * epoch)
        np.testing.assert_array_equal(found[..., 0], x[rows])
        np.testing.assert_array_equal(truth, y[rows])


# --------------------------------------------------------------------------- maps


def test_files_of_a_case(of_functions, of_networks):
    for run, more in ((of_functions, set()), (of_networks, {"model.h5", "history.csv"})):
        for case in run.cases.values():
            found = {path.name for path in case.folder.iterdir()}
            assert found == {"data.nc", ATTRIBUTIONS, "scores.csv"} | more


@pytest.mark.parametrize("experiment", "ABCD")
def test_naive_maps_are_those_of_images_and_the_attributed_truth(of_functions, experiment):
    from scipy.stats import ttest_ind

    case = of_functions.cases[f"{experiment}.function"]
    maps, (truth, _) = stored_maps(case), stages.truth_of(case)
    low, high = (0.5, 0.5) if experiment == "D" else (-1.2815515655446004, 1.2815515655446004)
    y = truth[:, 0] if experiment == "D" else truth
    x = images(N, seed=SEED).astype(np.float64)
    assert maps["naive_correlation"].dims == ("y", "x")
    for row, column in ((0, 0), (10, 50), (63, 31)):
        pixel, found = x[:, row, column], maps.isel(y=row, x=column)
        assert float(found["naive_correlation"]) == pytest.approx(np.corrcoef(pixel, y)[0, 1], rel=1e-9)
        p = ttest_ind(pixel[y <= low], pixel[y >= high]).pvalue
        assert float(found["naive_ttest"]) == pytest.approx(p, rel=1e-9)


def test_the_weighted_sum_is_found_pixel_by_pixel(of_functions):
    """f is linear, so IG = w (x - mean baseline) and IGC of a pixel is w cov(x - mean baseline, f) / var f."""
    from xairt.datasetwise import Drawn
    from xairt.datasetwise.baselines import read_baselines
    from xairt.datasetwise.reading import read_data

    case = of_functions.cases["A.function"]
    maps, weights = stored_maps(case), MASKS["comb_01"].weights()
    x = images(N, seed=SEED).astype(np.float64)
    data = read_data(x[..., None], None, None, (64, 64, 1), None, None, "float32")
    drawn = read_baselines(Drawn(2), data, SEED).rows(np.arange(N))[..., 0].astype(np.float64)
    ig = weights * (x - drawn.mean(axis=1))
    f = np.sum(x * weights, axis=(1, 2))
    igc = np.mean((ig - ig.mean(axis=0)) * (f - f.mean())[:, None, None], axis=0) / f.var()
    expected = {
        "igc": igc,
        "igac": igc,
        "ig_mean": ig.mean(axis=0) / f.std(),
        "ig_std": ig.std(axis=0) / f.std(),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(maps[name], values, atol=1e-5 * np.abs(values).max(), err_msg=name)


def test_the_map_of_the_weighted_sum_looks_like_its_mask(of_functions):
    assert values_of(of_functions, "A.function", "igc")["mask_correlation"] > 0.9


@pytest.mark.parametrize("experiment", "BCD")
def test_what_the_function_does_not_read_gets_nothing(of_functions, experiment):
    maps = stored_maps(of_functions.cases[f"{experiment}.function"])
    outside = EXPERIMENTS[experiment].mask.generating() == 0
    for name in ("igc", "igac", "ig_mean", "ig_std", "bsc"):
        assert not maps[name].values[outside].any()
        assert maps[name].values.any()


def test_the_first_class_is_attributed_which_lies_up_on_the_left(of_functions):
    spread = stored_maps(of_functions.cases["D.function"])["ig_std"]
    left, right, up, down = (slice(None, -0.15), slice(0.15, None), slice(None, 0.15), slice(-0.15, None))
    corners = [float(spread.sel(x=x, y=y).sum()) for y in (up, down) for x in (left, right)]
    assert corners[0] > 1.3 * max(corners[1:])


@pytest.mark.parametrize(
    ("run", "case"),
    [("of_functions", f"{e}.function") for e in "ABCD"]
    + [("of_networks", "A.mlp"), ("of_networks", "D.mlp")],
)
def test_sums_miss_their_promise_by_the_gaps_that_are_told(request, run, case):
    found = request.getfixturevalue(run)
    maps = stored_maps(found.cases[case])
    promised = {"igc": float(maps["correlation"]), "igac": 1.0, "bsc": float(maps["bsc_correlation"])}
    for name, promise in promised.items():
        scores = values_of(found, case, name)
        assert scores["sum"] == pytest.approx(float(maps[name].sum()), rel=1e-12)
        assert scores["gap"] == pytest.approx(scores["sum"] - promise, abs=1e-9)
    bsc = values_of(found, case, "bsc")
    assert bsc["gap"] == pytest.approx(bsc["gap_of_baselines"], abs=1e-6)
    model = values_of(found, case, "network")["correlation"]
    assert model == pytest.approx(promised["igc"], abs=1e-5)


def test_identities_tell_what_the_maps_depend_on(of_functions):
    case = of_functions.cases["C.function"]
    found = json.loads(stored_maps(case).attrs["identities"])
    assert list(found) == sorted(METHODS)
    assert found["igc"]["parameters"]["steps"] == 8
    assert found["bsc"]["n_samples"] == N_BSC
    assert found["igac"]["n_samples"] == N
    assert found["igc"]["baseline"]["drawn"] == 2


# --------------------------------------------------------------------------- scores


def naive_scores(values: np.ndarray, experiment: str) -> dict[str, float]:
    """Derive the scores of a map again, from the definition of the regions as pictures."""
    mask = EXPERIMENTS[experiment].mask
    shown = mask.generating()
    scores = {"mask_correlation": np.corrcoef(values.ravel(), shown.ravel())[0, 1]}
    if experiment == "A":
        return scores
    inside, outside = np.abs(values[shown > 0]), np.abs(values[shown == 0])
    above = inside[:, np.newaxis] - outside
    scores["mask_auc"] = np.mean(above > 0) + 0.5 * np.mean(above == 0)
    regions = [region.copy() for region in mask.region_pixels()]
    if experiment == "D":
        for disc, square in zip(regions[:5], regions[5:], strict=True):
            disc[square] = False
    sums = [values[region].sum() for region in regions]
    scores |= {f"region_sum.{i}": total / max(map(abs, sums)) for i, total in enumerate(sums)}
    if experiment == "B":
        a, b, c = regions
        overlap = values[a & b & c].mean()
        alone = (a & ~b & ~c, b & ~a & ~c, c & ~a & ~b)
        scores |= {f"pixel_to_overlap.{i}": values[own].mean() / overlap for i, own in enumerate(alone)}
    if experiment == "C":
        scores["second_to_first"] = (sums[1] + sums[3]) / (sums[0] + sums[2])
    if experiment == "D":
        around, inner = np.any(regions[:5], axis=0), np.any(regions[5:], axis=0)
        scores["inner_to_outer"] = values[inner].mean() / values[around].mean()
    return scores


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("experiment", "ABCD")
def test_scores_are_those_of_the_stored_maps(of_functions, experiment, method):
    case = f"{experiment}.function"
    values = stored_maps(of_functions.cases[case])[method].values
    if method == "naive_ttest":
        values = -np.log10(values)
    found = values_of(of_functions, case, method)
    for name, value in naive_scores(values, experiment).items():
        assert found[name] == pytest.approx(value, rel=1e-8, abs=1e-10), name
    rest = set(found.index) - set(naive_scores(values, experiment))
    assert rest <= {"sum", "gap", "gap_of_baselines"}
    rows = of_functions.scores.query("case == @case and label == @method")
    assert set(rows["n"]) == {N_BSC if method == "bsc" else N}


@pytest.mark.parametrize(("experiment", "metric"), [("A", "r2"), ("B", "r2"), ("C", "r2"), ("D", "accuracy")])
def test_the_true_function_is_right_but_for_what_is_random(of_functions, experiment, metric):
    found = values_of(of_functions, f"{experiment}.function", "network")
    assert set(found.index) == {"correlation", metric}
    if experiment in "AB":
        np.testing.assert_allclose(found, 1, atol=1e-5)
    else:
        assert 0.5 < found["correlation"] < 0.99
        assert 0.5 < found[metric] < 0.99


def test_the_mask_itself_has_the_best_scores():
    for name, experiment in EXPERIMENTS.items():
        found = map_scores(experiment.mask.generating(), name)
        assert found["mask_correlation"] == pytest.approx(1)
        assert found.get("mask_auc", 1) == 1
    assert map_scores(-MASKS["comb_01"].generating(), "A")["mask_correlation"] == pytest.approx(-1)


def test_regions_are_compared_with_their_sign():
    left, right = np.array([1.0, 0, 1, 0]), np.array([0, 1.0, 0, 1])
    regions = MASKS["ccat_02"].region_pixels()
    found = map_scores(np.tensordot(left - 0.25 * right, regions, 1), "C")
    assert found["second_to_first"] == pytest.approx(-0.25)
    assert [found[f"region_sum.{i}"] for i in range(4)] == pytest.approx([1, -0.25, 1, -0.25])
    outer, inner = np.split(MASKS["ccat_03"].region_pixels(), 2)
    planted = outer.any(axis=0) - 1.5 * inner.any(axis=0)
    found = map_scores(planted, "D")
    assert found["inner_to_outer"] == pytest.approx(-0.5)
    assert found["region_sum.7"] == pytest.approx(-0.5 * 64 / (outer[2].sum() - 64))
    thrice = MASKS["ccat_01"].region_pixels().sum(axis=0)
    found = map_scores(np.choose(thrice, [0, 0.3, 9.0, 1.0]), "B")
    assert [found[f"pixel_to_overlap.{i}"] for i in range(3)] == pytest.approx([0.3] * 3)


@pytest.mark.parametrize("experiment", "ABCD")
def test_a_map_of_zeros_has_no_relative_scores(experiment):
    found = map_scores(np.zeros((64, 64)), experiment)
    assert found.pop("mask_auc", 0.5) == 0.5
    assert np.isnan(list(found.values())).all()


def test_p_values_of_zero_have_a_finite_score():
    found = scored_map("naive_ttest", [0.0, 5e-324, 1e-10])
    np.testing.assert_allclose(found, [307.6526555685887, 307.6526555685887, 10])
    assert scored_map("igc", [0.0, -1.0]).tolist() == [0, -1]


# --------------------------------------------------------------------------- networks


def test_networks_are_trained_as_published(monkeypatch, tmp_path):
    seen = {}

    def fit(model, x, y, **options):
        seen.update(options, x=x, y=y, model=model)
        return History({"epoch": np.array([1])}, interrupted=True)

    monkeypatch.setattr(training, "fit", fit)
    config = settings_of(experiment="D", model="mlp", n_images=100, n_train=3)
    case = runs.Case("one", config, tmp_path)
    stages.generate(case)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        stages.train(case)
    assert not (tmp_path / "model.h5").exists()
    optimizer = seen["optimizer"].get_config()
    assert optimizer["name"] == "AdamW"
    assert optimizer["learning_rate"] == pytest.approx(5e-5)
    assert (optimizer["weight_decay"], optimizer["epsilon"]) == (0.01, 1e-8)
    assert (seen["epochs"], seen["batch_size"], seen["keep_best"]) == (50, 64, True)
    assert seen["loss"] is training.negative_log_likelihood
    assert seen["model"].output_shape == (None, 4)
    np.testing.assert_array_equal(seen["validation"][0][..., 0], images(100))
    rates = []
    for epoch in range(1, 12):
        rates.append(seen["schedule"](epoch))
        seen["callback"](epoch, {"val_loss": 1.0})
    np.testing.assert_allclose(rates, [5e-5] * 5 + [4.5e-5] * 4 + [4.05e-5] * 2)


@pytest.mark.parametrize("experiment", "AD")
def test_the_skill_of_a_network_is_that_of_its_predictions(of_networks, experiment):
    case = of_networks.cases[f"{experiment}.mlp"]
    found, (truth, _) = values_of(of_networks, case.name, "network"), stages.truth_of(case)
    model = xairt.load_model(case.read("model.h5"))
    predicted = model.predict(images(N, seed=SEED)[..., None], verbose=0)
    history = pd.read_csv(case.read("history.csv"))
    if experiment == "A":
        mse = np.mean((predicted[:, 0] - truth) ** 2)
        assert found["r2"] == pytest.approx(1 - mse, abs=1e-5)
        assert history["val_loss"].min() == pytest.approx(mse, rel=1e-4)
        assert found["correlation"] == pytest.approx(np.corrcoef(predicted[:, 0], truth)[0, 1], abs=1e-5)
    else:
        assert found["accuracy"] == np.mean(predicted.argmax(axis=1) == truth.argmax(axis=1))
        nll = -np.mean(predicted[truth == 1])
        assert history["val_loss"].min() == pytest.approx(nll, rel=1e-4)
        assert found["correlation"] == pytest.approx(
            np.corrcoef(predicted[:, 0], truth[:, 0])[0, 1], abs=1e-5
        )
    assert list(history["epoch"]) == [1, 2]


def test_a_network_below_its_gate_is_reported(of_networks, of_functions):
    assert missed_gates(of_functions.scores, IGC.case_gates(of_functions.config)) == []
    config = of_networks.config.changed("igc", {"minimum_correlation": 1.0})
    missed = missed_gates(of_networks.scores, IGC.case_gates(config))
    assert [(gate.case, gate.metric) for gate in missed] == [
        ("A.mlp", "correlation"),
        ("D.mlp", "correlation"),
    ]


# --------------------------------------------------------------------------- runs and figures


def test_changed_methods_are_attributed_again_and_nothing_is_trained(of_networks, monkeypatch, tmp_path):
    folder = Path(shutil.copytree(of_networks.folder, tmp_path / "run"))
    assert runs.execute(IGC, of_networks.config, folder).done == []
    monkeypatch.setattr(stages, "network_of", lambda config: pytest.fail("is not trained again"))
    before = Manifest.open(folder, "igc").records
    changed = of_networks.config.changed("igc", {"methods": ["naive_correlation"]})
    done = runs.execute(IGC, changed, folder).done
    assert done == ["A.mlp/score", "D.mlp/score", "figures"]
    after = Manifest.open(folder, "igc").records
    assert all(before[name] == after[name] for name in before if name.split("/")[-1] in ("generate", "train"))
    assert "correlation" not in stored_maps(runs.Run.open(folder, IGC).cases["A.mlp"])


def test_a_case_that_fails_leaves_the_others(monkeypatch, tmp_path):
    from xairt.benchmarks.igc import scoring

    right = scoring.truth_of

    def wrong(case):
        if case.name == "B.function":
            raise MemoryError("too large")
        return right(case)

    given = {**SMALL, "experiment": ["B", "A"], "methods": ["naive_correlation"]}
    config = IGC.configured(given, "paper")
    with monkeypatch.context() as patched:
        patched.setattr(scoring, "truth_of", wrong)
        assert runs.execute(IGC, config, tmp_path / "run").failed == ["B.function/score"]
    outcome = runs.execute(IGC, config, tmp_path / "run")
    assert outcome.done == ["B.function/score", "figures"]
    assert outcome.failed == []


def test_figures_are_drawn_for_each_model(of_functions, of_networks):
    assert [p.name for p in (of_functions.folder / "figures").iterdir()] == ["maps-function.png"]
    assert [p.name for p in (of_networks.folder / "figures").iterdir()] == ["maps-mlp.png"]


def test_a_row_holds_mask_and_maps_with_symmetric_colours_and_y_upwards(of_functions):
    cases = [of_functions.cases[name] for name in ("A.function", "B.function")]
    figure = map_rows(cases)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == 2 * (1 + len(METHODS))
    assert panels[0].get_title() == "mask"
    drawn = panels[1].images[0]
    igc = stored_maps(cases[0])["igc"].values
    scale = np.median(np.asarray(drawn.get_array()) / igc)
    assert np.log10(scale) == pytest.approx(round(np.log10(scale)))
    np.testing.assert_allclose(drawn.get_array(), igc * scale)
    low, high = drawn.get_clim()
    assert -low == high == pytest.approx(1.25 * scale * np.quantile(np.abs(igc), 0.99))
    assert drawn.origin == "upper"
    assert panels[0].get_ylim() == (-0.5, 0.5)


def test_colours_of_a_map_that_is_nearly_zero_everywhere_show_its_largest_value():
    spike = np.zeros((64, 64))
    spike[3, 4] = -2.0
    assert colour_limit(spike) == 2.5


def test_igc_sees_that_the_right_pair_matters_less_and_igac_does_not(tmp_path):
    given = {"experiment": "C", "n_images": 4000, "steps": 16, "n_drawn": 4, "methods": ["igc", "igac"]}
    run = executed(tmp_path / "run", **given)
    ratio = {label: values_of(run, "C.function", label)["second_to_first"] for label in ("igc", "igac")}
    assert ratio["igc"] < 0.75
    assert ratio["igac"] == pytest.approx(1, abs=0.1)
