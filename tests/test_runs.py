"""The runner: what is current is kept, what a change invalidates is redone, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_runs import TOY, ToyConfig

from xairt.errors import DataError, MethodError
from xairt.runs import (
    Explanation,
    Run,
    RunConfig,
    Sweep,
    execute,
    parse_settings,
    read_settings,
    scores,
    setting,
    settings_of,
)
from xairt.runs.contract import Benchmark, Case
from xairt.runs.lock import locked
from xairt.runs.manifest import Manifest, Record
from xairt.runs.runner import planned

CASE = Case("n10", TOY.case_settings(TOY.configured({}), {}, "score"), Path())

STEPS = [f"{case}/{stage}" for case in ("n10", "n20") for stage in ("generate", "train", "score")]


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Return a function that gives what ran since it was last asked."""
    path = tmp_path / "log.txt"
    monkeypatch.setenv("TOY_LOG", str(path))

    def since() -> list[str]:
        lines = path.read_text(encoding="utf-8").split() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    return since


def run(folder: Path, **settings):
    options = {k: settings.pop(k) for k in ("only", "force") if k in settings}
    return execute(TOY, TOY.configured(settings), folder, **options)


def values(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "scores.csv").drop(columns="seconds")


def test_a_run_writes_every_stage_and_a_second_one_nothing(tmp_path, ran):
    folder = tmp_path / "run"
    outcome = run(folder)
    assert ran() == [*STEPS, "figures"]
    assert outcome.done == [*STEPS, "figures"]
    assert outcome.current == outcome.failed == []
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    each = ("data.npy", "extra/readme.txt", "mean.npy", "scores.csv")
    assert written == {
        *("config.yaml", "manifest.json", "scores.csv", ".lock", "figures/distances.png"),
        *(f"cases/{case}/{name}" for case in ("n10", "n20") for name in each),
    }
    before = {p: p.stat().st_mtime_ns for p in (folder / "cases").rglob("*")}
    outcome = run(folder)
    assert ran() == []
    assert outcome.current == [*STEPS, "figures"]
    assert {p: p.stat().st_mtime_ns for p in (folder / "cases").rglob("*")} == before


@pytest.mark.parametrize(
    ("changed", "redone"),
    [
        ({"learning_rate": 0.2}, ["n10/train", "n10/score", "n20/train", "n20/score", "figures"]),
        ({"scale": 2.0}, ["n10/score", "n20/score", "figures"]),
        ({"colour": "red"}, ["figures"]),
        ({"n_samples": [10, 20, 30]}, ["n30/generate", "n30/train", "n30/score", "figures"]),
        ({"seed": 1}, [*STEPS, "figures"]),
    ],
)
def test_a_change_redoes_what_depends_on_it_and_nothing_else(tmp_path, ran, changed, redone):
    run(tmp_path / "run")
    ran()
    run(tmp_path / "run", **changed)
    assert ran() == redone


def test_scores_are_tidy_and_carry_benchmark_and_case(tmp_path, ran):
    run(tmp_path / "run")
    table = Run.open(tmp_path / "run", TOY).scores
    assert list(table["case"]) == ["n10", "n20"]
    assert set(table["benchmark"]) == {"toy"}
    x = np.random.default_rng(0).normal(size=10)
    expected = abs(x.mean()) * 0.9**3  # each step leaves 0.9 of the distance
    np.testing.assert_allclose(table["value"][0], expected, rtol=1e-12)


def test_a_failing_case_is_told_and_the_others_go_on(tmp_path, ran, monkeypatch, caplog):
    monkeypatch.setenv("TOY_FAIL", "n10/train")
    outcome = run(tmp_path / "run")
    assert outcome.failed == ["n10/train"]
    assert outcome.done == ["n10/generate", *STEPS[3:], "figures"]
    assert "n10/train failed: RuntimeError: asked to fail in two lines" in caplog.text
    record = Manifest.open(tmp_path / "run").records["n10/train"]
    assert record.error == "RuntimeError: asked to fail in two lines"
    assert list(values(tmp_path / "run")["case"]) == ["n20"]
    monkeypatch.delenv("TOY_FAIL")
    ran()
    assert run(tmp_path / "run").failed == []
    assert ran() == ["n10/train", "n10/score", "figures"]


def test_a_failure_keeps_the_files_of_the_time_before_and_counts_them_as_outdated(tmp_path, ran, monkeypatch):
    run(tmp_path / "run")
    before = (tmp_path / "run/cases/n10/mean.npy").read_bytes()
    monkeypatch.setenv("TOY_FAIL", "n10/train")
    assert run(tmp_path / "run", learning_rate=0.5).failed == ["n10/train"]
    assert (tmp_path / "run/cases/n10/mean.npy").read_bytes() == before
    assert list(values(tmp_path / "run")["case"]) == ["n20"]  # no score of n10 belongs to these settings


@pytest.mark.parametrize("damage", ["truncate", "change", "delete"])
def test_damaged_files_are_found_by_their_hash_and_rebuilt(tmp_path, ran, damage, caplog):
    folder = tmp_path / "run"
    run(folder)
    expected = values(folder)
    ran()
    path = folder / "cases/n10/data.npy"
    content = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content[:-8] if damage == "truncate" else content[:-1] + b"\x00")
    run(folder)
    assert ran() == ["n10/generate"]  # rebuilt byte by byte, so that nothing behind it is outdated
    assert "cases/n10/data.npy: missing or changed" in caplog.text
    assert path.read_bytes() == content
    pd.testing.assert_frame_equal(values(folder), expected)


def test_a_changed_table_of_scores_is_rebuilt(tmp_path, ran):
    folder = tmp_path / "run"
    run(folder)
    expected = (folder / "scores.csv").read_bytes()
    (folder / "scores.csv").write_text("nonsense", encoding="utf-8")
    run(folder)
    assert (folder / "scores.csv").read_bytes() == expected


def test_only_does_one_stage_and_needs_what_it_reads(tmp_path, ran):
    assert run(tmp_path / "run", only="train").failed == ["n10/generate", "n20/generate"]
    assert ran() == []
    outcome = run(tmp_path / "run", only="generate")
    assert (outcome.done, outcome.failed) == (["n10/generate", "n20/generate"], [])
    assert ran() == ["n10/generate", "n20/generate"]
    run(tmp_path / "run", only="train")
    assert ran() == ["n10/train", "n20/train"]


def test_force_does_a_stage_again(tmp_path, ran):
    run(tmp_path / "run")
    ran()
    outcome = run(tmp_path / "run", force=["train"])
    assert ran() == ["n10/train", "n20/train"]
    assert "n10/score" in outcome.current  # the same model came out


@pytest.mark.parametrize("option", ["only", "force"])
def test_an_unknown_stage_is_refused(tmp_path, ran, option):
    with pytest.raises(
        DataError, match=r"toy has no stage 'explain': it has generate, train, score, figures"
    ):
        run(tmp_path / "run", **{option: "explain" if option == "only" else ["explain"]})


def test_two_processes_cannot_work_in_one_folder(tmp_path, ran):
    with locked(tmp_path / "run"):
        context = multiprocessing.get_context("fork")
        told = context.Queue()
        child = context.Process(target=_try_to_run, args=(tmp_path / "run", told))
        child.start()
        message = told.get(timeout=60)
        child.join()
    assert f"process {os.getpid()} on" in message
    assert "works here; wait for it" in message
    assert run(tmp_path / "run").failed == []


def _try_to_run(folder: Path, told) -> None:
    try:
        run(folder)
        told.put("ran")
    except DataError as error:
        told.put(str(error))


def test_a_folder_of_another_benchmark_or_a_newer_format_is_refused(tmp_path, ran):
    folder = tmp_path / "run"
    run(folder)
    other = Benchmark("other", "Another", ToyConfig, cases=TOY.cases, generate=TOY.generate)
    with pytest.raises(DataError, match=r"holds a run of 'toy', not of 'other'; choose another folder"):
        execute(other, other.configured({}), folder)
    manifest = folder / "manifest.json"
    stored = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps(stored | {"format": 99, "records": {"x": {"new": 1}}}), encoding="utf-8")
    with pytest.raises(DataError, match=r"written by a newer xairt \(format 99, this one knows 1\)"):
        run(folder)
    manifest.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"manifest.json: damaged or no manifest"):
        run(folder)


@pytest.mark.parametrize(
    "damage",
    [
        *({"benchmark": ["toy"]}, {"created": None}, {"format": "1"}, {"format": True}, {"records": []}),
        *({"benchmark": None}, {"more": 1}, {"records": {"n10/train": None}}),
    ],
)
def test_a_damaged_manifest_is_told_in_one_line(tmp_path, ran, damage):
    run(tmp_path / "run", only="generate")
    damage_manifest(tmp_path / "run", lambda stored: stored | damage)
    for benchmark in (None, "toy"):
        with pytest.raises(DataError, match=r"manifest.json: damaged or no manifest; restore it, or delete"):
            Manifest.open(tmp_path / "run", benchmark)


@pytest.mark.parametrize("name", ["format", "benchmark", "created", "records"])
def test_a_manifest_without_a_part_is_damaged(tmp_path, ran, name):
    run(tmp_path / "run", only="generate")
    damage_manifest(tmp_path / "run", lambda stored: {k: v for k, v in stored.items() if k != name})
    with pytest.raises(DataError, match=r"manifest.json: damaged or no manifest; restore it, or delete"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    "damage",
    [
        *({"outputs": None}, {"outputs": {"x": 1}}, {"versions": None}, {"seconds": "x"}, {"seconds": "1.5"}),
        *({"peak_memory": None}, {"facts": []}, {"error": None}, {"inputs": 1}, {"unknown": 1}),
    ],
)
def test_a_damaged_record_is_told_in_one_line(tmp_path, ran, damage):
    run(tmp_path / "run", only="generate")
    change = {"n10/generate": Manifest.open(tmp_path / "run").records["n10/generate"].__dict__ | damage}
    damage_manifest(tmp_path / "run", lambda stored: stored | {"records": stored["records"] | change})
    with pytest.raises(DataError, match=r"manifest.json: damaged or no manifest; restore it, or delete"):
        run(tmp_path / "run")


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    facts = {"samples": 3, "share": float("nan"), "workers": ["a", None]}
    record = Record("i", {"a/b": "c"}, 1, 2, {"numpy": "1"}, "", facts)
    manifest = Manifest(tmp_path, "toy", "now", {"n10/explain/lrp.z": record})
    manifest.write()
    first = (tmp_path / "manifest.json").read_bytes()
    again = Manifest.open(tmp_path)
    assert again.records["n10/explain/lrp.z"].outputs == {"a/b": "c"}
    again.write()
    assert json.loads(first)["records"]["n10/explain/lrp.z"]["facts"]["samples"] == 3
    assert (tmp_path / "manifest.json").read_bytes() == first.replace(b'"seconds": 1,', b'"seconds": 1.0,')


def damage_manifest(folder: Path, change) -> None:
    path = folder / "manifest.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(change(stored)), encoding="utf-8")


def scoring(*rows: dict) -> Benchmark:
    """Return a benchmark of the cases NA and n10 whose score stage gives these rows."""
    return dataclasses.replace(
        TOY,
        cases=lambda config: {"NA": {"n_samples": 3}, "n10": {}},
        score=lambda case: pd.DataFrame(list(rows)),
    )


def test_names_that_look_like_missing_values_are_kept(tmp_path, ran):
    names = ("NA", "nan", "null", "None", "N/A")
    benchmark = scoring(
        *(
            {"label": name, "metric": "NA", "statistic": "mean", "value": 0.5, "engine": "null", "n": 3}
            for name in names
        ),
        {"label": "missing", "metric": "k", "statistic": "value", "value": None, "engine": None, "n": None},
    )
    assert execute(benchmark, benchmark.configured({}), tmp_path / "run").failed == []
    table = Run.open(tmp_path / "run", benchmark).scores
    assert list(table["case"]) == ["NA"] * 6 + ["n10"] * 6
    assert list(table["label"])[:6] == list(table["method"])[:6] == [*names, "missing"]
    assert list(table["engine"])[:6] == ["null"] * 5 + [""]
    assert set(table["convention"]) == {""}
    assert list(table["value"].isna())[:6] == list(table["n"].isna())[:6] == [False] * 5 + [True]
    lines = (tmp_path / "run/scores.csv").read_text(encoding="utf-8").splitlines()
    assert lines[6] == "toy,NA,missing,missing,,,k,value,,,"
    assert len(lines) == 13


def test_infinite_and_whole_numbers_are_read_as_they_were_written(tmp_path):
    rows = [{"label": "a", "value": v, "n": n} for v, n in ((np.inf, 3), (-np.inf, np.int64(4)), (True, 2.5))]
    path = tmp_path / "scores.csv"
    scores.write(pd.DataFrame(rows, dtype=object).assign(metric="m", statistic="mean"), "toy", CASE, path)
    assert list(scores.read(path)["value"]) == [np.inf, -np.inf, 1.0]
    assert list(scores.read(path)["n"]) == [3, 4, 2.5]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("value", "n.d."), ("value", "0.9"), ("value", ""), ("value", [0.5])),
        *(("value", np.array([0.5])), ("n", "ten"), ("seconds", pd.Timedelta("1s"))),
    ],
)
def test_a_score_that_is_no_number_fails_its_step(tmp_path, ran, name, value):
    good = {"label": "a", "metric": "m", "statistic": "mean", "value": 0.5}
    benchmark = scoring(good, good | {"label": "b", name: value})
    assert execute(benchmark, benchmark.configured({}), tmp_path / "run").failed == ["NA/score", "n10/score"]
    error = Manifest.open(tmp_path / "run").records["NA/score"].error
    assert error.startswith(f"toy: score of 'b' in m, mean: {name} ")
    assert error.endswith("is no number; return a number, or None where there is none")
    assert not (tmp_path / "run/cases/NA/scores.csv").exists()


@pytest.mark.parametrize("name", ["label", "metric", "statistic"])
@pytest.mark.parametrize("empty", [None, "", np.nan])
def test_a_score_without_a_name_is_refused(tmp_path, name, empty):
    good = {"label": "a", "metric": "m", "statistic": "mean", "value": 0.5}
    with pytest.raises(DataError, match=f"toy: row 1 of its table of scores has no {name}; name it"):
        scores.write(pd.DataFrame([good, good | {name: empty}]), "toy", CASE, tmp_path / "scores.csv")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (",0.5,3,", ",abc,3,", "its column value holds what is no number"),
        (",0.5,3,", ",True,3,", "its column value holds what is no number"),
        (",0.5,3,", ",nan,3,", "its column value holds what is no number"),
        (",0.5,3,", ",0.5,ten,", "its column n holds what is no number"),
        (",m,mean,0.5,3,", "", "a row has no label or no metric or no statistic"),
        ("metric", "metrics", "its columns are not those of a table of scores"),
    ],
)
def test_a_tampered_table_of_scores_is_told(tmp_path, old, new, reason):
    path = tmp_path / "scores.csv"
    row = {"label": "a", "metric": "m", "statistic": "mean", "value": 0.5, "n": 3}
    scores.write(pd.DataFrame([row]), "toy", CASE, path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=rf"scores.csv: {reason}; run the stage score again"):
        scores.read(path)


def test_settings_are_checked_and_the_error_names_the_field():
    with pytest.raises(
        MethodError, match=r"toy has no parameter 'learning_rat'.*did you mean 'learning_rate'"
    ):
        TOY.configured({"learning_rat": 1})
    with pytest.raises(MethodError, match=r"toy: parameter 'learning_rate' = -1"):
        TOY.configured({"learning_rate": -1})
    with pytest.raises(MethodError, match=r"toy: parameter 'n_samples"):
        TOY.configured({"n_samples": []})
    with pytest.raises(
        DataError, match=r"toy has no preset 'quik': it has quick, standard; did you mean 'quick'"
    ):
        TOY.configured({}, "quik")
    assert TOY.configured({"epochs": 5}, "quick").n_samples == (4, 6)


def test_settings_from_texts_and_files(tmp_path):
    assert parse_settings(["a=1", "b=[x, y]", "c=2.5", "d=text"]) == {
        "a": 1,
        "b": ["x", "y"],
        "c": 2.5,
        "d": "text",
    }
    with pytest.raises(DataError, match=r"setting 'a': write it as key=value"):
        parse_settings(["a"])
    with pytest.raises(DataError, match=r"setting 'a': .* is no YAML value"):
        parse_settings(["a=[1"])
    path = tmp_path / "config.yaml"
    path.write_text("- 1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"holds no settings by name"):
        read_settings(path)
    path.write_text("a: [1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"config.yaml: no YAML in line"):
        read_settings(path)
    with pytest.raises(DataError, match=r"none.yaml: cannot be read"):
        read_settings(tmp_path / "none.yaml")
    path.write_text("a: !!python/object/apply:os.system [true]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no YAML"):
        read_settings(path)


def test_a_stage_cannot_read_a_setting_of_a_later_one(tmp_path, ran):
    class Config(RunConfig):
        n: Sweep[int] = setting("generate", 3, description="samples")
        rate: float = setting("train", 0.1, description="rate")

    benchmark = Benchmark(
        "peek", "Peeks", Config, cases=lambda c: {"one": {}}, generate=lambda case: case.config.rate
    )
    outcome = execute(benchmark, benchmark.configured({}), tmp_path / "run")
    assert outcome.failed == ["one/generate"]
    error = Manifest.open(tmp_path / "run").records["one/generate"].error
    assert "stage 'generate' reads the setting 'rate' of the later stage 'train'" in error


def test_stages_work_alone(tmp_path, ran):
    config = TOY.configured({"n_samples": 5})
    case = Case("alone", TOY.case_settings(config, {"n_samples": 5}, "score"), tmp_path)
    TOY.generate(case)
    TOY.train(case)
    assert len(np.load(tmp_path / "data.npy")) == 5
    assert TOY.score(case)["value"][0] >= 0
    with pytest.raises(DataError, match=r"case 'alone': no model.h5 in"):
        case.read("model.h5")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden"])
def test_case_names_cannot_leave_the_folder(tmp_path, name):
    benchmark = Benchmark("bad", "Bad", ToyConfig, cases=lambda c: {name: {}}, generate=TOY.generate)
    with pytest.raises(DataError, match=r"cannot name a folder"):
        execute(benchmark, benchmark.configured({}), tmp_path / "run")


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from toy_runs import TOY
from xairt.runs import execute
execute(TOY, TOY.configured({{}}), __import__("pathlib").Path(sys.argv[1]))
"""


@pytest.mark.parametrize("place", ["n10/train", "n20/score"])
def test_a_killed_run_goes_on_where_it_was(tmp_path, ran, place, monkeypatch):
    code = KILLED.format(tests=str(Path(__file__).parent))
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], env=os.environ | {"TOY_KILL": place}, check=False
    )
    assert killed.returncode == -9
    before = ran()
    assert before[-1] == place
    run(tmp_path / "run")
    assert ran() == [*STEPS, "figures"][len(before) - 1 :]
    run(tmp_path / "undisturbed")
    pd.testing.assert_frame_equal(values(tmp_path / "run"), values(tmp_path / "undisturbed"))
    assert not list((tmp_path / "run").rglob("*.part*"))


def test_a_benchmark_that_cannot_tell_its_explanations_fails_in_that_case_alone(tmp_path, ran):
    def explain(case):
        if case.name == "n10":
            raise KeyError("no such method")
        return []

    benchmark = dataclasses.replace(TOY, explain=explain)
    outcome = execute(benchmark, benchmark.configured({}), tmp_path / "run")
    assert outcome.failed == ["n10/explain"]
    assert "n20/score" in outcome.done
    repaired = dataclasses.replace(TOY, explain=lambda case: [])
    assert execute(repaired, repaired.configured({}), tmp_path / "run").failed == []
    assert "n10/explain" not in Manifest.open(tmp_path / "run").records


# ------------------------------------------------------------------------------- what must not be lost


def test_only_figures_with_other_settings_changes_nothing(tmp_path, ran):
    folder = tmp_path / "run"
    run(folder)
    ran()
    before = {file: (folder / file).read_bytes() for file in ("scores.csv", "config.yaml", "manifest.json")}
    outcome = run(folder, epochs=4, only="figures")
    assert outcome.failed == ["n10/train", "n20/train"]
    assert ran() == []
    assert {file: (folder / file).read_bytes() for file in before} == before


def test_a_forced_stage_that_fails_leaves_what_was_made(tmp_path, ran, monkeypatch):
    folder = tmp_path / "run"
    run(folder)
    before = values(folder)
    monkeypatch.setenv("TOY_FAIL", "n10/train")
    assert run(folder, force=["train"]).failed == ["n10/train"]
    pd.testing.assert_frame_equal(values(folder), before)
    monkeypatch.delenv("TOY_FAIL")
    ran()
    assert run(folder).done == []


def test_scores_of_a_case_whose_training_fails_are_left_out(tmp_path, ran, monkeypatch):
    run(tmp_path / "run")
    monkeypatch.setenv("TOY_FAIL", "n10/train")
    assert run(tmp_path / "run", epochs=5).failed == ["n10/train"]
    assert set(values(tmp_path / "run")["case"]) == {"n20"}


@pytest.mark.parametrize("content", ["", "n_samples:\n- 4\n", None])
def test_damaged_settings_are_not_used(tmp_path, ran, content):
    folder = tmp_path / "run"
    run(folder, n_samples=[4, 6])
    path = folder / "config.yaml"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    told = (
        r"config.yaml: (changed or cut off .*|cannot be read .*); name the settings with --preset or --config"
    )
    with pytest.raises(DataError, match=told):
        settings_of(TOY, folder)
    with pytest.raises(DataError, match=told):
        Run.open(folder, TOY)
    assert settings_of(TOY, folder, preset="quick").n_samples == (4, 6)


def test_settings_of_a_run_serve_another(tmp_path, ran):
    run(tmp_path / "run", epochs=7)
    assert settings_of(TOY, tmp_path / "run").epochs == 7
    assert settings_of(TOY, file=tmp_path / "run/config.yaml").epochs == 7


@pytest.mark.parametrize("error", [SystemExit(0), RuntimeError("file \udcff")], ids=["exit", "surrogate"])
def test_whatever_a_stage_does_other_cases_go_on(tmp_path, ran, error):
    def train(case):
        if case.name == "n10":
            raise error
        return TOY.train(case)

    outcome = execute(dataclasses.replace(TOY, train=train), TOY.configured({}), tmp_path / "run")
    assert outcome.failed == ["n10/train"]
    assert "n20/score" in outcome.done
    assert type(error).__name__ in Manifest.open(tmp_path / "run").records["n10/train"].error


def test_a_stage_cannot_write_the_file_of_another(tmp_path, ran):
    def train(case):
        TOY.train(case)
        case.write("data.npy").write_bytes(b"")

    outcome = execute(dataclasses.replace(TOY, train=train), TOY.configured({}), tmp_path / "run")
    assert outcome.failed == ["n10/train", "n20/train"]
    error = Manifest.open(tmp_path / "run").records["n10/train"].error
    assert error == "n10/train writes cases/n10/data.npy, a file of n10/generate; give it another name"
    assert run(tmp_path / "run").current == ["n10/generate", "n20/generate"]


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        (lambda config: ["a"], r"toy: cases\(settings\) gives no settings by case \(AttributeError"),
        (lambda config: {1: {}}, "toy: case '1' cannot name a folder"),
        (lambda config: {"figures": {}}, "toy: case 'figures' cannot name a folder"),
        (lambda config: {"a": {"epochs": object()}}, r"toy: cases\(settings\) gives no settings by case"),
        (lambda config: 1 / 0, r"toy: cases\(settings\) gives .* \(ZeroDivisionError: division by zero\)"),
    ],
)
def test_wrong_cases_are_told(tmp_path, cases, told):
    benchmark = dataclasses.replace(TOY, cases=cases)
    with pytest.raises(DataError, match=told):
        execute(benchmark, benchmark.configured({}), tmp_path / "run")


def test_settings_of_a_case_may_be_numbers_of_numpy(tmp_path, ran):
    benchmark = dataclasses.replace(TOY, cases=lambda config: {"a": {"n_samples": np.int64(3)}})
    assert execute(benchmark, benchmark.configured({}), tmp_path / "run").failed == []


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(DataError, match="cannot be written"):
            run(folder)


def test_a_value_twice_is_refused():
    with pytest.raises(MethodError, match=r"'n_samples' .* a value stands there twice"):
        TOY.configured({"n_samples": [5, 5]})


def test_only_and_another_stage_forced_is_refused(tmp_path):
    with pytest.raises(DataError, match="only 'score', but 'train' forced: leave one of the two out"):
        run(tmp_path / "run", only="score", force=["train"])


@pytest.mark.parametrize("model", ["net", "./net", "net/weights.txt", "{case}/net"])
def test_a_model_trained_anew_is_explained_anew_however_it_is_named(tmp_path, ran, model):
    def train(case):
        TOY.train(case)
        case.write("net/weights.txt").write_text(str(case.config.epochs), encoding="utf-8")

    def explain(case):
        return [Explanation("lrp.z", samples="data.npy", model=model.format(case=case.folder))]

    benchmark = dataclasses.replace(TOY, train=train, explain=explain, score=None, figures=None)

    def inputs(epochs: int) -> str:
        settings = benchmark.configured({"epochs": epochs, "n_samples": 5})
        execute(benchmark, settings, tmp_path / "run", only="generate")
        execute(benchmark, settings, tmp_path / "run", only="train")
        return planned(Run.open(tmp_path / "run", benchmark))["n5/explain/lrp.z"]

    first = inputs(3)
    assert inputs(4) != first
    assert inputs(3) == first
