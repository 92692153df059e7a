"""The benchmark of formulas among noise: networks, settings, a small run, scores of planted attributions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import xairt
from xairt import metrics, runs, training
from xairt.benchmarks.chaos_symbolic import BENCHMARK, averages, explain, samples, stages
from xairt.benchmarks.chaos_symbolic.figures import PUBLISHED, formula_bars, sweep_curves
from xairt.benchmarks.chaos_symbolic.formulas import FORMULAS, Formula
from xairt.benchmarks.chaos_symbolic.scoring import SAMPLE_SCORES, sample_scores, truths_of
from xairt.benchmarks.chaos_symbolic.truths import TRUTHS, truth
from xairt.data.files import read_array, read_dataset
from xairt.errors import DataError, MethodError, ModelError
from xairt.models.loading import load_model
from xairt.models.perceptrons import mlp, residual_mlp
from xairt.models.saving import save_model
from xairt.runs.scores import missed_gates

SMALL = {
    "formula": "2,a+b**2",
    "n_noise": [2, 3],
    "n_samples": 200,
    "epochs": 30,
    "width": 10,
    "learning_rate": 0.02,
    "n_explained": 20,
    "methods": ["saliency", "feature_ablation"],
    "minimum_r2": 0.999999,
    "dpi": 40,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> runs.Run:
    folder = tmp_path_factory.mktemp("symbolic") / "run"
    outcome = runs.execute(BENCHMARK, BENCHMARK.configured(SMALL), folder)
    assert outcome.failed == []
    return runs.Run.open(folder, BENCHMARK)


def case_of(folder: Path, **given) -> runs.Case:
    """Return the first case of settings, in a folder of its own."""
    config = BENCHMARK.configured({**SMALL, **given})
    name, own = next(iter(BENCHMARK.case_table(config).items()))
    return runs.Case(name, BENCHMARK.case_settings(config, own, "score"), folder)


# --------------------------------------------------------------------------- networks


@pytest.mark.parametrize("make", [mlp, residual_mlp])
def test_networks_are_seeded_and_saved_files_load(make, tmp_path):
    x = np.random.default_rng(0).uniform(-1, 1, (4, 6)).astype(np.float32)
    one, same, other = make(6, 3, dropout=0.2), make(6, 3, dropout=0.2), make(6, 4, dropout=0.2)
    outputs = [np.asarray(model(x)) for model in (one, same, other)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.allclose(outputs[0], outputs[2])
    loaded = load_model(save_model(one, tmp_path / "m.h5"))
    np.testing.assert_array_equal(np.asarray(loaded(x)), outputs[0])


def test_the_perceptron_is_the_published_one():
    from scipy.special import erf

    model = mlp(110, 0)
    assert [layer.units for layer in model.layers[1:]] == [100, 100, 100, 1]
    weights = model.get_weights()
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        limit = 1 / np.sqrt(len(kernel))
        assert 0.95 * limit < np.abs(kernel).max() <= limit
        assert np.abs(bias).max() <= limit
    x = h = np.random.default_rng(1).uniform(-1, 1, (5, 110))
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        h = h @ kernel + bias
        h = h * (1 + erf(h / np.sqrt(2))) / 2
    np.testing.assert_allclose(np.asarray(model(x)), h @ weights[-2] + weights[-1], atol=1e-5)


def test_the_residual_network_adds_its_blocks():
    model = residual_mlp(3, 0, depth=2, width=4)
    before, block, out = (layer for layer in model.layers if "dense" in layer.name)
    x = np.random.default_rng(1).uniform(-1, 1, (5, 3)).astype(np.float32)

    def activated(h):
        from scipy.special import erf

        h = (h - h.mean(axis=1, keepdims=True)) / np.sqrt(h.var(axis=1, keepdims=True) + 1e-5)
        return h * (1 + erf(h / np.sqrt(2))) / 2

    h = np.asarray(before(x), np.float64)
    h = h + activated(h) @ block.get_weights()[0] + block.get_weights()[1]
    expected = activated(h) @ out.get_weights()[0] + out.get_weights()[1]
    np.testing.assert_allclose(np.asarray(model(x)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"depth": 0}, "give at least one hidden layer"),
        ({"width": 0}, "give at least one hidden layer"),
        ({"dropout": 1.0}, "dropout=1.0: out of range"),
        ({"seed": -1}, "seed=-1: out of range"),
    ],
)
def test_networks_out_of_range(given, message):
    with pytest.raises(ModelError, match=message):
        mlp(3, given.pop("seed", 0), **given)


def test_a_network_learns_a_formula():
    made = samples(FORMULAS[6], 600, 2, seed=0)
    model = mlp(4, 0, width=30)
    rows = made.training
    training.fit(
        model, made.x[rows], made.y[rows], epochs=100, batch_size=rows.stop, optimizer=adam(), seed=0
    )
    skill = {
        row["metric"]: row["value"]
        for row in stages.skill_rows(model, made.x[made.test], made.clean[made.test])
    }
    assert skill["r2"] > 0.95
    prediction = np.asarray(model(made.x[made.test]))[:, 0]
    assert skill["mae"] == pytest.approx(np.abs(prediction - made.clean[made.test]).mean())


def adam():
    import tensorflow as tf

    return tf.keras.optimizers.legacy.Adam(5e-3)


# --------------------------------------------------------------------------- settings and cases


def test_paper_has_the_published_sizes():
    config = BENCHMARK.configured({}, "paper")
    table = BENCHMARK.case_table(config)
    assert list(table) == [f"f{number:02d}" for number in range(15)]
    own = table["f07"]
    assert (own["n_noise"], own["n_samples"], own["depth"], own["width"]) == (100, 10_000, 3, 100)
    assert (config.epochs, config.learning_rate, config.batch_size) == (1000, 1e-3, None)


def test_every_sweep_makes_cases():
    given = {
        "formula": [3],
        "n_noise": [0, 100],
        "n_samples": [1000, 1_000_000],
        "label_noise": [0, 0.01],
        "depth": [1, 3],
        "width": [10, 100],
        "dropout": [0.0, 0.1],
        "network": ["mlp", "residual_mlp"],
        "optimizer": ["adam", "sgd"],
        "seed": [0, 1],
    }
    table = BENCHMARK.case_table(BENCHMARK.configured(given))
    assert len(table) == 2**9
    assert "f03.noise0.n1000000.sd0.residual_mlp.depth1.width10.drop0.1.sgd.seed1" in table


@pytest.mark.parametrize("preset", BENCHMARK.presets)
def test_presets_are_settings(preset):
    assert BENCHMARK.case_table(BENCHMARK.configured({}, preset))


def test_a_file_of_formulas_is_read_once(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("count,formula\n2,a+b\n1,sin(a)\n", encoding="utf-8")
    config = BENCHMARK.configured({"formulas_file": str(path)})
    path.unlink()
    assert config.formula == ("2,a+b", "1,sin(a)")
    assert list(BENCHMARK.case_table(config.changed("chaos_symbolic", {"epochs": 1}))) == ["own0", "own1"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"formula": 15}, "formula 15: is not published"),
        ({"formula": "1,__import__(a)"}, "calls the unknown '__import__'"),
        ({"formula": "1,9**9**9"}, "constant exponent beyond 100"),
        ({"formula": ["all", 1]}, "write the number of variables"),
        ({"formulas_file": "none.csv"}, "none.csv: cannot be read"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"dropout": 1}, "dropout"),
        ({"methods": ["saliensy"]}, "saliensy"),
        ({"n_samples": 5}, "n_samples"),
    ],
)
def test_settings_that_are_refused(given, message):
    with pytest.raises(MethodError, match=message):
        BENCHMARK.configured(given)


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "rmsprop", "adagrad", "sgd"])
def test_optimizers_have_the_learning_rate(name, tmp_path):
    optimizer = stages.optimizer_of(case_of(tmp_path, optimizer=name).config)
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate) == pytest.approx(0.02)


def test_importing_loads_neither_tensorflow_nor_sympy():
    code = "import sys, xairt.benchmarks.chaos_symbolic; print(sys.modules.keys() & {'tensorflow', 'xarray', 'sympy'})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


# --------------------------------------------------------------------------- a run


def test_data_and_truths_are_those_of_the_formula(run):
    case = run.cases["own0.noise3.n200.width10"]
    data, known = read_dataset(case.read(stages.DATA)), read_dataset(case.read(stages.TRUTHS))
    assert data["variable"].values.tolist() == ["a", "b", "noise1", "noise2", "noise3"]
    assert data["x"].dtype == np.float32
    x = data["x"].values[160:]
    np.testing.assert_allclose(data["clean"][160:], x[:, 0] + x[:, 1].astype(float) ** 2, atol=1e-7)
    for name in TRUTHS:
        np.testing.assert_array_equal(known[name], truth(name, Formula("a+b**2", 2), x))


def test_scores_are_those_of_the_stored_attributions(run):
    case = run.cases["own0.noise2.n200.width10"]
    relevant = np.array([True, True, False, False])
    attribution = read_array(case.read("attributions/saliency.nc"), "attribution").values
    known = read_dataset(case.read(stages.TRUTHS))
    rows = run.scores.query("case == @case.name and label == 'saliency' and statistic == 'mean'")
    values = rows.set_index("metric")["value"]
    for name in ("magnitude", "derivative"):
        expected = metrics.uniformity_score(attribution, known[name].values[:20], relevant).mean()
        assert values[f"uniformity.{name}"] == pytest.approx(expected)
    share = np.isin(np.argsort(-attribution, axis=1)[:, :2], [0, 1]).mean()
    assert values["functional_precision"] == pytest.approx(share)
    conventions = rows.set_index("metric")["convention"]
    assert conventions["uniformity.derivative"] == "chaosmining2024"
    assert conventions["uniformity.magnitude"] == ""
    stored = read_dataset(case.read(SAMPLE_SCORES))
    assert stored.sizes["sample"] == 20


def test_the_skill_is_that_of_the_network_on_values_without_noise(run):
    case = run.cases["own0.noise2.n200.width10"]
    data = read_dataset(case.read(stages.DATA))
    model = xairt.load_model(case.read(stages.MODEL))
    prediction = model.predict(data["x"].values[160:], verbose=0)[:, 0]
    row = run.scores.query("case == @case.name and label == 'network'").set_index("metric")
    clean = data["clean"].values[160:]
    assert row.loc["mae", "value"] == pytest.approx(np.abs(prediction - clean).mean(), rel=1e-5)
    expected = metrics.prediction_score(prediction, clean).mean()
    assert row.loc["prediction_score", "value"] == pytest.approx(expected, rel=1e-5)


def test_networks_below_the_gate_are_reported(run):
    missed = missed_gates(run.scores, BENCHMARK.case_gates(run.config))
    assert {gate.case for gate in missed} == set(run.cases)


def test_a_run_draws_its_figures(run):
    found = {path.name for path in (run.folder / "figures").iterdir()}
    names = ("uniformity", "precision", "prediction")
    assert found >= {*(f"{name}-by-formula.png" for name in names), "sweep-n_noise.png", "averages.csv"}


def test_a_rerun_does_nothing_and_a_new_noise_count_only_its_own(run):
    again = runs.execute(BENCHMARK, run.config, run.folder)
    assert again.done == []
    more = run.config.changed("chaos_symbolic", {"n_noise": [2, 3, 4]})
    work = runs.runner.planned(runs.Run(run.folder, BENCHMARK, more, run.manifest))
    assert [step for step, inputs in work.items() if step not in run.manifest.records]
    current = {step for step, inputs in work.items() if run.manifest.is_current(step, inputs)}
    assert {step.split("/")[0] for step in current} == set(run.cases)


# --------------------------------------------------------------------------- averages, planted scores, figures


def test_averages_are_over_seeds_then_formulas():
    config = BENCHMARK.configured({"formula": [0, 1], "seed": [0, 1]})
    cases = BENCHMARK.case_table(config)
    values = {"f00": 0.0, "f00.seed1": 1.0, "f01": 0.5, "f01.seed1": 0.9}
    rows = [
        {"case": name, "label": "saliency", "metric": "functional_precision", "statistic": s, "value": v}
        for name, value in values.items()
        for s, v in (("mean", value), ("sd", 99.0))
    ]
    (found,) = averages(pd.DataFrame(rows), cases).to_dict("records")
    assert found["value"] == pytest.approx((0.5 + 0.7) / 2)
    assert found["sd"] == pytest.approx(np.std([0.25, 0.95], ddof=1))
    assert (found["n_formulas"], found["n_seeds"]) == (2, 2)


@pytest.mark.parametrize(
    "method", ["gradient", "saliency", "integrated_gradients", "deeplift.rescale", "feature_ablation"]
)
def test_the_truth_scores_one_and_a_permuted_one_less(method):
    formula = FORMULAS[9]
    x = samples(formula, 60, 5, seed=0).x
    relevant = np.arange(10) < 5
    known = {name: truth(name, formula, x) for name in TRUTHS}
    main = truths_of(method)[0]
    right = sample_scores(method, known[main], known, relevant)
    assert right[f"uniformity.{main}"].min() > 0.999
    np.testing.assert_array_equal(right["functional_precision"], 1)
    wrong = sample_scores(method, known[main][:, ::-1], known, relevant)
    shares = known[main][:, :5] / np.abs(known[main]).sum(axis=1, keepdims=True)
    nothing = (1e-7 / (np.abs(shares) + 1e-7)).mean(axis=1)  # of variables that get no attribution
    np.testing.assert_allclose(wrong[f"uniformity.{main}"], nothing, atol=1e-12)
    assert nothing.mean() < 0.01
    np.testing.assert_array_equal(wrong["functional_precision"], 0)
    moved = sample_scores(method, np.roll(known[main], 1, axis=1), known, relevant)
    assert moved[f"uniformity.{main}"].mean() < 0.6


def test_the_sign_is_lost_to_the_published_saliency():
    formula, x = FORMULAS[6], samples(FORMULAS[6], 200, 3, seed=0).x
    known = {name: truth(name, formula, x) for name in TRUTHS}
    found = sample_scores("saliency", np.abs(known["derivative"]), known, np.arange(5) < 2)
    assert found["uniformity.magnitude"].min() > 0.999
    assert 0.5 < found["uniformity.derivative"].mean() < 0.9


def test_methods_that_cannot_explain_the_network_are_left_out(tmp_path, caplog):
    case = case_of(
        tmp_path, network="residual_mlp", methods=["gradient", "deeplift.rescale", "lrp.z", "random"]
    )
    save_model(residual_mlp(3, 0, depth=1, width=4), case.write(stages.MODEL))
    assert [explanation.method for explanation in explain(case)] == ["gradient", "random"]
    assert [explanation.method for explanation in explain(case)] == ["gradient", "random"]
    (told,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("deeplift.rescale cannot")]
    assert "LayerNormalization" in told


def test_the_explained_samples_are_the_first_of_the_test_set(tmp_path):
    assert stages.explained(case_of(tmp_path, n_explained=7).config) == (160, 167)
    assert stages.explained(case_of(tmp_path, n_explained=None).config) == (160, 200)


def test_a_formula_outside_of_its_domain_ends_the_stage_with_its_values(tmp_path):
    with pytest.raises(DataError, match=r"formula 'log\(a\)': no finite value at a=-"):
        stages.generate(case_of(tmp_path, formula="1,log(a)"))


def test_bars_show_mean_and_published_average():
    (label, metric), published = next(iter(PUBLISHED.items()))
    rows = pd.DataFrame({"formula": ["00", "01"], "label": label, "metric": metric, "value": [0.2, 0.6]})
    (ax,) = formula_bars(rows).axes
    assert [bar.get_height() for bar in ax.patches] == [0.2, 0.6]
    assert [line.get_ydata()[0] for line in ax.lines] == pytest.approx([0.4, published])
    (plain,) = formula_bars(rows, published=False).axes
    assert len(plain.lines) == 1


@pytest.mark.parametrize(
    ("name", "values"), [("n_noise", [200, 0, 100]), ("optimizer", ["adam", "sgd", "nadam"])]
)
def test_sweeps_are_drawn_in_order(name, values):
    table = pd.DataFrame(
        {
            name: values,
            "label": "saliency",
            "metric": "functional_precision",
            "value": [0.3, 0.9, 0.6],
            "sd": 0.1,
            "n_seeds": 2,
        }
    )
    (ax,) = sweep_curves(table, name).axes
    numbers = [0, 100, 200] if name == "n_noise" else [0, 1, 2]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), numbers)
    expected = [0.9, 0.6, 0.3] if name == "n_noise" else [0.3, 0.9, 0.6]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), expected)


def test_the_page_tells_the_formulas_and_its_example_runs(capsys):
    page = (Path(__file__).parents[1] / "docs/chaos_symbolic.md").read_text(encoding="utf-8")
    for number, formula in enumerate(FORMULAS):
        assert f"| {number} | {formula.n_features} | `{formula.text}` |" in page
    code, shown = page.split("```python\n")[1].split("```\n\n```text\n")
    exec(code, {})
    assert capsys.readouterr().out == shown.split("```")[0]
