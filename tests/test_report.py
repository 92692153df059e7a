"""The report: what it tells of runs that are sound, spoiled, or several."""

from __future__ import annotations

import base64
import html
import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import report_runs as toy
from PIL import Image

import xairt
from xairt import cli
from xairt.errors import DataError
from xairt.runs import Run, RunConfig, execute, setting, write_report
from xairt.runs.config import write_settings
from xairt.runs.contract import Benchmark, Explanation
from xairt.runs.manifest import Record
from xairt.runs.report import content, page
from xairt.runs.report.facts import Attribution, names, read
from xairt.runs.report.findings import findings
from xairt.runs.report.tables import MISSING, Cell, Column, Row, Table

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Run:
    """Return a run in which nothing is wrong but a score that cannot be computed."""
    return toy.make(tmp_path_factory.mktemp("report") / "sound")


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    """Return a copy of it to spoil."""
    return Path(shutil.copytree(sound.folder, tmp_path / "copy"))


def told(folder: Path) -> list[str]:
    return [
        f"{f.severity} {f.subject}: {f.text}" for f in findings([read(Run.open(folder, toy.BENCHMARK), "x")])
    ]


# --------------------------------------------------------------------------------------------- findings


def test_a_sound_run_has_no_finding_but_the_missing_score(folder):
    assert told(folder) == [f"warn deep_taylor: pearson {MISSING} for n1000"]


def test_all_that_is_wrong_is_told_the_worst_first(folder):
    toy.spoil(folder)
    lines = told(folder)
    severities = [line.split()[0] for line in lines]
    assert severities == sorted(severities)
    assert "fail n4000/explain/lrp.z failed: MemoryError: <b>too</b> large" in lines
    assert any(line.startswith("fail cases/n4000/data.npy: missing or changed since") for line in lines)
    assert f"fail lrp.z: status fail in n1000: {toy.FAIL['reason']}" in lines
    version = xairt.__version__
    assert f"warn unequal versions of xairt: 0.0.1 in x; {version} in x" in lines


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"r2": 0.5}, "r2 is 0.500, at least 0.900 is asked for"),
        ({"r2": float("nan")}, f"r2 is {MISSING}, at least 0.900 is asked for"),
        ({"gate": 0.99}, "r2 is 0.950, at least 0.990 is asked for"),
    ],
)
def test_a_network_below_its_gate_is_told(tmp_path, settings, text):
    toy.make(tmp_path / "run", n_samples=[1000], **settings)
    start = "fail network of n1000 below its accuracy gate: " + text
    assert any(line.startswith(start) for line in told(tmp_path / "run"))


def test_an_open_gate_and_a_fixed_one(tmp_path):
    run = toy.make(tmp_path / "run", n_samples=[1000], r2=0.1, gate=None)
    assert not [line for line in told(run.folder) if "gate" in line]
    fixed = replace(toy.BENCHMARK, gates={"r2": 0.2, "accuracy": 0.5})
    lines = [f.text for f in findings([read(Run.open(run.folder, fixed), "x")]) if "gate" in f.subject]
    assert lines[0].startswith("r2 is 0.100, at least 0.200")
    assert lines[1].startswith(f"accuracy is {MISSING}, at least 0.500")
    wrong = replace(toy.BENCHMARK, gates={"r2": "gat"})
    with pytest.raises(DataError, match=r"reported: gates name \['gat'\], which are no settings"):
        wrong.case_gates(run.config)


def test_what_was_not_run_is_told(folder):
    manifest = Run.open(folder, toy.BENCHMARK).manifest
    manifest.drop(["n4000/score", "figures", "n4000/explain/random"])
    lines = told(folder)
    assert "warn score: not done for n4000; run again to go on" in lines
    assert "warn figures: not drawn; run the stage figures" in lines
    assert f"warn random: attribution {MISSING} for n4000" in lines


def test_results_of_other_settings_are_told(folder):
    (name,) = [name for name in toy.BENCHMARK.config.model_fields if name.endswith("r2")]
    settings = Run.open(folder, toy.BENCHMARK).config.changed("toy", {name: 0.97})
    write_settings(settings, folder / "config.yaml")
    lines = [line for line in told(folder) if "other settings" in line]
    what = "belongs to other settings or files than those of now; run again to renew it"
    assert lines == [
        f"fail score: what is shown for n1000, n4000 {what}",
        f"fail figures: what is shown {what}",
    ]


def test_an_explain_stage_that_fails_leaves_the_report_whole(folder, caplog):
    broken = replace(toy.BENCHMARK, explain=lambda case: {}["none"])
    lines = [f.text for f in findings([read(Run.open(folder, broken), "x")])]
    assert f"pearson {MISSING} for n1000" in lines
    assert "n1000/score: cannot be told whether it is up to date ('none')" in caplog.text


def test_a_method_taken_out_of_the_settings_is_not_told_of(folder):
    """Neither what it once computed nor that it once failed."""
    toy.put(folder, "n1000/explain/gone", Record("", {}, 0.5, error="MemoryError"))
    asked = replace(toy.BENCHMARK, explain=lambda case: [Explanation("lrp.z"), Explanation("random")])
    facts = read(Run.open(folder, asked), "x")
    assert {a.label for a in facts.attributions} == {"lrp.z", "random"}
    assert not any("MemoryError" in f.text for f in findings([facts]))
    broken = replace(toy.BENCHMARK, explain=lambda case: {}["none"])
    kept = {a.label for a in read(Run.open(folder, broken), "x").attributions}
    assert kept == {*toy.STATUSES, "gone"}


@pytest.mark.parametrize("file", ["attribution", "figure"])
def test_a_damaged_file_is_told_and_not_shown(folder, file):
    if file == "figure":
        path = folder / "figures/Maps.png"
    else:
        path = toy.attribute(folder, "n1000", "lrp.z", toy.OK)
    path.write_bytes(path.read_bytes() + b"\0")
    facts = read(Run.open(folder, toy.BENCHMARK), "x")
    assert any(
        line.startswith(f"fail {path.relative_to(folder)}: missing or changed") for line in told(folder)
    )
    shown = [name for name, paths in content.figures([facts]).items() if paths["x"]]
    assert ("figures/Maps.png" in shown) == (file == "attribution")
    assert "figures/truth_and_attributions.png" in shown
    first = [cell.text for cell in content.attributions(facts).rows[0].cells]
    assert (first[:3] == ["lrp.z", "n1000", "damaged"]) == (file == "attribution")
    assert (first[3] == MISSING) == (file == "attribution")


def test_scores_that_are_not_those_of_the_cases_are_told(folder):
    path = folder / "scores.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("0.82", "0.99", 1), encoding="utf-8")
    assert any(
        "fail scores.csv: its rows are not those of cases/n1000/scores.csv" in line for line in told(folder)
    )
    assert set(read(Run.open(folder, toy.BENCHMARK), "x").table["case"]) == {"n4000"}
    path.write_text("\n".join(x for x in text.splitlines() if ",n4000," not in x) + "\n", encoding="utf-8")
    assert "warn n4000: no row in scores.csv; run again to bring it up to date" in told(folder)
    path.unlink()
    assert any("fail scores.csv: " in line and "no table of scores" in line for line in told(folder))


def test_an_attribution_without_a_report_is_unknown(folder):
    path = toy.attribute(folder, "n1000", "lrp.z", {})
    assert path.exists()
    assert "warn lrp.z: status unknown in n1000: its file holds no status_report" in told(folder)


def test_every_reason_is_told_with_its_own_cases_the_worst_first(folder):
    reasons = {f"n{i}": (i % 5, f"{i % 5} samples fail") for i in range(1, 8)}
    attributions = [
        Attribution(case, "lrp.z", "fail", reason, {"ok": 5 - n, "warn": 0, "fail": n})
        for case, (n, reason) in reasons.items()
    ]
    facts = read(Run.open(folder, toy.BENCHMARK), "x")
    told = {f.subject: f.text for f in findings([replace(facts, attributions=tuple(attributions))])}
    assert told["lrp.z"] == (
        "status fail in n4: 4 samples fail. In n3: 3 samples fail. In n2, n7: 2 samples fail. "
        "In 3 more cases: see Completeness"
    )


# --------------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def text(sound, tmp_path_factory) -> str:
    return write_report([sound], tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


def test_the_page_is_one_file(text):
    assert not re.search(r'<[^<>]*\s(src|href|action)="(?!data:|#)', text)
    assert not re.search(r"https?://", text)
    assert "@import" not in text
    assert "url(" not in text


def test_the_page_tells_what_was_run(text):
    assert (
        "2 cases (n_samples 1000, 4000); stages generate, score, figures; settings of preset standard."
        in text
    )
    for shown in ("How to cite", "gate is", "peak memory", "300.0 MB", f"xairt {xairt.__version__}"):
        assert shown in text
    assert "A benchmark &lt;of&gt; everything" in text


def test_settings_that_differ_from_the_nearest_preset_come_first(tmp_path):
    about = content.about(read(toy.make(tmp_path / "run", n_samples=[1000, 2000], seed=3), "run"))
    assert "settings of preset quick with 1 changed" in about.text
    assert [[cell.text for cell in row.cells] for row in about.changed.rows] == [["seed", "3", "0"]]


def test_names_break_behind_their_parts_alone(text):
    assert (
        page.grid(
            Table("t", (Column("a.bcde_f"),), (Row((Cell("lrp.alpha_beta(alpha=0.5)/x.png"),)),))
        ).count("<wbr>")
        == 2 + 3
    )
    assert "lrp.<wbr>alpha_<wbr>beta(alpha=1, beta=0)" in text
    assert not re.search(r"overflow-wrap: anywhere[^}]*}\s*thead th:first-child", text)


def test_text_of_data_is_escaped(text):
    assert toy.HOSTILE in html.unescape(text)
    assert "<img src=x" not in text


def test_figures_are_embedded_and_wide_ones_scaled_down(sound, text):
    found = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", text)]
    sizes = [Image.open(io.BytesIO(data)).size for data in found]
    assert sizes == [(400, 100), (1600, 400)]
    assert found[0] == (sound.folder / "figures/Maps.png").read_bytes()


def test_a_figure_that_is_no_picture_is_refused(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"text")
    with pytest.raises(DataError, match=r"x\.png: no picture \(UnidentifiedImageError\); draw it again"):
        page.picture(path)


def test_a_benchmark_of_one_stage_has_a_page(tmp_path):
    class Config(RunConfig):
        n: int = setting("generate", 1, description="number")

    benchmark = Benchmark(
        "bare", "Bare", Config, cases=lambda c: {"one": {}}, generate=lambda c: np.save(c.write("x.npy"), 1)
    )
    execute(benchmark, benchmark.configured({}), tmp_path / "run")
    run = Run.open(tmp_path / "run", benchmark)
    text = write_report([run], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "No warnings" in text
    assert "Scores of methods: not computed." in text


def test_runs_that_cannot_stand_side_by_side_are_refused(sound, tmp_path):
    with pytest.raises(DataError, match=r"report: no run given; name at least one folder"):
        write_report([], tmp_path / "r.html")
    with pytest.raises(DataError, match=r"sound: the same run given twice; name each folder once"):
        write_report([sound, sound], tmp_path / "r.html")
    other = replace(sound, benchmark=replace(toy.BENCHMARK, name="other"), folder=tmp_path)
    with pytest.raises(
        DataError, match=r"runs of other, reported: different benchmarks; write one report for"
    ):
        write_report([sound, other], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_names_tell_folders_of_the_same_name_apart(sound):
    runs = [replace(sound, folder=Path(name)) for name in ("/a/x", "/b/x", "/b/y")]
    assert names(runs) == ["a/x", "b/x", "b/y"]
    assert names(runs[1:]) == ["x", "y"]


def test_the_packaged_citation_is_the_repositorys():
    assert content.citation_file() == (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert content.citations(toy.BENCHMARK)[-1].startswith("xairt developers (2026): xairt: explaining")


# ------------------------------------------------------------------------------------------ command line


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that calls the command and gives exit code, output and errors."""
    monkeypatch.setattr("xairt.runs.runner.installed", lambda name: toy.BENCHMARK)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["report", *map(str, arguments)])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return call


def test_the_command_writes_into_the_run_or_here(command, sound, folder, tmp_path, monkeypatch):
    assert command(folder) == (0, f"{folder}/report.html\n", "")
    assert (folder / "report.html").stat().st_size > 10_000
    monkeypatch.chdir(tmp_path)
    assert command(folder, sound.folder) == (0, "report.html\n", "")
    assert "2 cases" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert command(folder, "-o", tmp_path / "new/page.html")[0] == 0
    assert (tmp_path / "new/page.html").is_file()


def test_the_command_refuses_what_is_no_run(command, tmp_path, folder):
    code, _, error = command(tmp_path)
    assert code == 2
    assert "no run (it holds no manifest.json)" in error
    code, _, error = command(folder, "-o", tmp_path / "page.pdf")
    assert code == 2
    assert "unknown kind of output file" in error
