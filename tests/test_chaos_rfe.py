"""The benchmark of feature selection: its cases, what it stores, and scores derived again from the models."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import xairt
from xairt import runs
from xairt.benchmarks.chaos_rfe import CHAOS_RFE, generate
from xairt.benchmarks.chaos_rfe.figures import error_curves, score_bars
from xairt.benchmarks.chaos_rfe.scoring import rounds_of
from xairt.benchmarks.chaos_rfe.settings import FORMULAS, METHODS, PUBLISHED
from xairt.benchmarks.chaos_rfe.stages import PREDICTIONS, data_of, model_file
from xairt.benchmarks.chaos_symbolic import formulas
from xairt.data.files import read_dataset
from xairt.errors import DataError, MethodError
from xairt.runs.scores import NETWORK, missed_gates
from xairt.selection import ESTIMATORS
from xairt.training.history import History

SMALL = {
    "formula": 6,
    "n_samples": 300,
    "n_noise": 6,
    "epochs": 25,
    "depth": 1,
    "width": 32,
    "learning_rate": 0.05,
    "methods": ["saliency", "input"],
    "controls": ["linear_regression"],
    "dpi": 50,
}


@pytest.fixture(autouse=True)
def _eagerly(run_eagerly):
    """Compile nothing: each function is called once."""


def settings_of(**given) -> runs.RunConfig:
    return CHAOS_RFE.configured({**SMALL, **given})


def case_of(folder: Path, **given) -> runs.Case:
    config = settings_of(**given)
    name, own = next(iter(CHAOS_RFE.case_table(config).items()))
    return runs.Case(name, CHAOS_RFE.case_settings(config, own, "score"), folder)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    random = np.random.default_rng(3)
    x = random.normal(5, 3, size=(200, 6))
    frame = pd.DataFrame(x, columns=["wind", "ice", *"abcd"])
    frame["extent"] = 1000 + 200 * frame["wind"] - 100 * frame["ice"]
    path = tmp_path_factory.mktemp("table") / "ice.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> runs.Run:
    folder = tmp_path_factory.mktemp("runs") / "run"
    outcome = runs.execute(CHAOS_RFE, settings_of(), folder)
    assert outcome.failed == []
    return runs.Run.open(folder, CHAOS_RFE)


# --------------------------------------------------------------------------- settings and cases


def test_paper_has_the_published_sizes():
    config = CHAOS_RFE.configured({}, "paper")
    assert list(CHAOS_RFE.case_table(config)) == [f"f{i}" for i in (10, 11, 12, 13, 14)]
    assert (config.n_samples, config.n_noise, config.epochs, config.split_seed) == (10_000, 150, 1000, 42)
    assert (config.depth, config.width, config.fraction, config.label_noise) == (3, 100, 0.5, 0.01)
    assert [len(formulas.FORMULAS[i].letters) for i in FORMULAS] == [6, 7, 8, 9, 10]
    assert set(config.controls) == set(ESTIMATORS)
    assert {label for _, label in PUBLISHED} <= {*METHODS, *ESTIMATORS}


@pytest.mark.parametrize("preset", runs.PRESETS)
def test_every_preset_has_a_method_and_a_control_that_knows_nothing(preset):
    config = CHAOS_RFE.configured({}, preset)
    assert {"saliency", "random"} <= set(config.methods)
    assert set(config.methods) & set(CHAOS_RFE.controls)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"table": "a.csv"}, r"table and target go together"),
        ({"target": "y"}, r"table and target go together"),
        ({"relevant": ["a"]}, r"relevant names columns of a table"),
        ({"table": "a.csv", "target": "y"}, r"how many columns matter is not known"),
        ({"table": "a", "target": "y", "stop": "error", "formulas_file": "f"}, r"table and formulas_file"),
        ({"selection_share": 0.5, "test_share": 0.5}, r"leave nothing to train"),
        ({"methods": ["salience"]}, r"did you mean 'saliency'"),
        ({"controls": ["ridge"]}, r"controls"),
        ({"formula": -1}, r"formula -1: is not published; give a number from 0 to 14"),
        ({"formula": 15}, r"formula 15: is not published; give a number from 0 to 14"),
        ({"stop": "never"}, r"stop"),
        ({"n_noises": 3}, r"no parameter 'n_noises'.*did you mean 'n_noise'"),
    ],
)
def test_bad_settings_are_refused_in_one_line(given, message):
    with pytest.raises(MethodError, match=message) as caught:
        settings_of(**given)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------- samples


def test_samples_are_those_of_the_formula_in_three_parts(tmp_path):
    generate(case := case_of(tmp_path))
    data = data_of(case)
    assert data.names == ("a", "b", *(f"noise{i}" for i in range(1, 7)))
    assert data.relevant == ("a", "b")
    assert (data.mean, data.sd) == (0.0, 1.0)
    a, b = data.x[:, :2].astype(np.float64).T
    np.testing.assert_allclose(data.clean, 0.25 * a**3 + 0.75 * b**2, atol=1e-6)
    assert 0.005 < np.std(data.y - data.clean) < 0.02
    assert [len(part) for part in (data.split.train, data.split.validation, data.split.test)] == [210, 30, 60]


def test_a_table_is_standardised_by_its_training_part(tmp_path, table):
    generate(case := case_of(tmp_path, table=str(table), target="extent", relevant=["ice", "wind"]))
    data, frame = data_of(case), pd.read_csv(table)
    assert (case.name, data.names, data.relevant) == (
        "table",
        ("wind", "ice", *"abcd"),
        ("wind", "ice"),
    )
    train = data.split.train
    np.testing.assert_allclose(data.x[train].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.x[train].std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(
        data.x[:, 1] * frame["ice"].to_numpy()[train].std() + frame["ice"].to_numpy()[train].mean(),
        frame["ice"],
        rtol=1e-4,
        atol=1e-4,
    )
    np.testing.assert_allclose((data.mean, data.sd), (data.y[train].mean(), data.y[train].std()))
    assert data.clean is None


def test_a_relevant_column_that_is_not_there_is_refused(tmp_path, table):
    with pytest.raises(DataError, match=r"ice.csv: no feature 'winds'; did you mean 'wind'"):
        generate(case_of(tmp_path, table=str(table), target="extent", relevant=["winds"]))


# --------------------------------------------------------------------------- a run


def test_scores_are_those_of_the_stored_networks(finished):
    case = finished.cases["f06"]
    data, rounds = data_of(case), rounds_of(case)
    scores = finished.scores.set_index(["label", "metric"])["value"]
    test = data.split.test
    for label in ("saliency", "input"):
        selected = rounds.query("label == @label and chosen")["ranking"].iloc[0]
        columns = [data.names.index(name) for name in sorted(selected, key=data.names.index)]
        model = xairt.load_model(case.read(model_file(label)))
        prediction = model(data.x[np.ix_(test, columns)]).numpy()[:, 0]
        np.testing.assert_allclose(scores[label, "mae"], np.abs(prediction - data.y[test]).mean(), rtol=1e-4)
        noise_free = np.abs(prediction - data.clean[test]).mean()
        np.testing.assert_allclose(scores[label, "mae_noise_free"], noise_free, rtol=1e-4)
        share = np.mean([name in "ab" for name in selected])
        assert scores[label, "precision"] == scores[label, "recall"] == share
        assert scores[label, "n_selected"] == 2
    assert scores["saliency", "precision"] == 1.0
    assert scores["saliency", "mae"] < 0.5 * np.abs(data.y[test] - data.y[test].mean()).mean()
    assert scores["saliency", "mae"] < scores["linear_regression", "mae"]


def test_all_methods_begin_with_the_same_network(finished):
    case = finished.cases["f06"]
    rounds = rounds_of(case)
    assert rounds.query("label == 'saliency'")["n_features"].tolist() == [8, 4, 2]
    first = rounds[rounds["n_features"] == 8].set_index("label")
    assert first.loc["saliency", "test_mae"] == first.loc["input", "test_mae"]
    assert first["engine"].to_dict()["linear_regression"] == "scikit-learn"
    own = finished.scores.query("label == @NETWORK").set_index("metric")["value"]
    assert own["mae"] == pytest.approx(first.loc["saliency", "test_mae"], rel=1e-6)
    labels = read_dataset(case.read(PREDICTIONS))["label"].values.astype(str)
    assert labels.tolist() == [NETWORK, "saliency", "input", "linear_regression"]


def test_a_network_that_has_not_learned_is_reported(finished):
    assert missed_gates(finished.scores, CHAOS_RFE.case_gates(finished.config)) == []
    strict = CHAOS_RFE.case_gates(settings_of(minimum_r2=0.99999))
    (missed,) = missed_gates(finished.scores, strict)
    assert (missed.case, missed.metric, missed.minimum) == ("f06", "r2", 0.99999)


def test_a_rerun_does_what_a_setting_changes_and_repeats_it_exactly(finished, tmp_path):
    again = runs.execute(CHAOS_RFE, settings_of(), finished.folder)
    assert again.done == []
    redrawn = runs.execute(CHAOS_RFE, settings_of(dpi=40), finished.folder)
    assert redrawn.done == ["figures"]
    elsewhere = runs.execute(CHAOS_RFE, settings_of(), tmp_path / "run")
    assert elsewhere.failed == []
    columns = ["label", "metric", "value"]
    pd.testing.assert_frame_equal(
        runs.Run.open(tmp_path / "run", CHAOS_RFE).scores[columns], finished.scores[columns]
    )


def test_figures_show_errors_and_published_values(finished):
    for name in ("error-by-features", "selected"):
        assert (finished.folder / f"figures/{name}.png").stat().st_size > 1000
    (panel,) = error_curves(finished.cases, ["linear_regression"]).axes
    rounds = rounds_of(finished.cases["f06"]).query("label == 'saliency'")
    line = next(line for line in panel.lines if line.get_label() == "saliency")
    np.testing.assert_array_equal(line.get_xdata(), rounds["n_features"][::-1])
    np.testing.assert_array_equal(line.get_ydata(), rounds["test_mae"][::-1])
    published = {("mae", "saliency"): {6: 0.01}}
    mae, precision = score_bars(finished.scores, {"f06": 6}, published).axes
    (stroke,) = (c for c in mae.collections if len(c.get_segments()) and c.get_segments()[0].size)
    assert stroke.get_segments()[0][:, 1].tolist() == [0.01, 0.01]
    heights = [bar.get_height() for bar in precision.patches]
    scores = finished.scores.set_index(["label", "metric"])["value"]
    assert heights == [scores[label, "precision"] for label in ("saliency", "input", "linear_regression")]


def test_a_table_is_selected_from_by_its_error(tmp_path, table):
    given = {"table": str(table), "target": "extent", "stop": "error", "methods": ["feature_ablation"]}
    given |= {"controls": ["decision_tree"], "network": "residual_mlp", "depth": 2, "learning_rate": 0.03}
    outcome = runs.execute(CHAOS_RFE, settings_of(**given), tmp_path / "run")
    assert outcome.failed == []
    run = runs.Run.open(tmp_path / "run", CHAOS_RFE)
    scores = run.scores.set_index(["label", "metric"])["value"]
    assert not {"precision", "recall", "mae_noise_free"} & set(run.scores["metric"])
    selected = (
        rounds_of(run.cases["table"]).query("label == 'feature_ablation' and chosen")["ranking"].iloc[0]
    )
    assert {"wind", "ice"} <= set(selected)
    assert 1 < scores["feature_ablation", "mae"] < 400  # in units of the target, whose spread is 670


def test_an_interrupted_training_is_not_taken_for_a_whole_one(tmp_path, monkeypatch):
    case = case_of(tmp_path)
    generate(case)
    monkeypatch.setattr("xairt.training.fit", lambda *_, **__: History(interrupted=True))
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        CHAOS_RFE.train(case)
    assert not (tmp_path / "rounds.csv").exists()


def test_settings_on_the_page_are_settings():
    page = (Path(__file__).parents[1] / "docs" / "selection.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--set ([a-z_0-9]+)=", page))
    assert {"table", "target", "stop", "relevant"} <= named <= set(CHAOS_RFE.config.model_fields)
