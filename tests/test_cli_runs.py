"""`xairt run`: what a user types, sees and gets back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy_runs
import yaml

from xairt.cli import main
from xairt.runs import contract


class Point:
    """An entry point of the toy."""

    def __init__(self, name: str, loaded) -> None:
        self.name, self.loaded = name, loaded

    def load(self):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path):
    """Install the toy, a benchmark that cannot be imported, and something that is none."""
    points = [Point("toy", toy_runs.TOY), Point("broken", ImportError("no module x")), Point("wrong", 3)]
    monkeypatch.setattr(contract, "entry_points", lambda group: points if group == "xairt.benchmarks" else [])
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log.txt"))


def call(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    told = capsys.readouterr()
    return ended.value.code, told.out, told.err


def test_a_run_tells_each_step_and_goes_on_with_its_own_settings(capsys, tmp_path):
    folder = tmp_path / "run"
    code, out, _ = call(capsys, "run", "toy", "--preset", "quick", "--set", "learning_rate=0.3", "-o", folder)
    assert code == 0
    assert "n4/generate: 0.0 s" in out
    assert "7 steps done, 0 were up to date, 0 failed" in out
    assert "<title>" in (folder / "report.html").read_text(encoding="utf-8")
    code, out, _ = call(capsys, "run", "toy", "-o", folder)
    assert code == 0
    assert "0 steps done, 7 were up to date, 0 failed" in out
    code, out, _ = call(capsys, "run", "toy", "--set", "colour=red", "-o", folder)
    assert "1 steps done, 6 were up to date" in out
    stored = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert stored["learning_rate"] == 0.3
    assert stored["n_samples"] == [4, 6]
    assert stored["colour"] == "red"


def test_a_file_of_settings_and_further_ones(capsys, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("n_samples: 5\nepochs: 2\n", encoding="utf-8")
    code, out, _ = call(capsys, "run", "toy", "--config", path, "--set", "epochs=4", "--show-config")
    assert code == 0
    assert "epochs" in out
    (line,) = [line for line in out.splitlines() if "epochs" in line]
    assert "4" in line
    assert "train" in line
    assert ">= 1" in line


def test_lists(capsys):
    code, out, _ = call(capsys, "run", "--list")
    assert code == 0
    assert "A toy" in out
    assert "no module x" in out
    code, out, _ = call(capsys, "run", "toy", "--list", "--preset", "quick")
    assert "n_samples=4" in out
    assert "n6" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["toy"], "xairt run toy: no folder to write; give -o RUN"),
        (["toi", "-o", "x"], "unknown benchmark 'toi'.*did you mean 'toy'"),
        (["broken", "-o", "x"], "benchmark 'broken' cannot be imported .*no module x"),
        (["wrong", "-o", "x"], "benchmark 'wrong': its entry point names a int, no Benchmark"),
        (["toy", "--preset", "fast", "-o", "x"], "toy has no preset 'fast': it has quick, standard"),
        (["toy", "--set", "n_samples=0", "-o", "x"], "toy: parameter 'n_samples.*greater than 0"),
        (["toy", "--set", "n_sample=1", "-o", "x"], "no parameter 'n_sample'.*did you mean 'n_samples'"),
        (["toy", "--config", "none.yaml", "-o", "x"], "none.yaml: cannot be read"),
        (["toy", "--only", "explain", "-o", "x"], "toy has no stage 'explain'"),
        ([], "no benchmark named"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(capsys, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, "run", *arguments)
    assert code == 2
    assert len(err.strip().splitlines()) == 1

    assert re.search(told, err)
    assert not list(tmp_path.iterdir())


def test_a_failed_step_is_told_at_the_end(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "n10/train")
    log = tmp_path / "logs" / "run.log"
    code, out, err = call(capsys, "run", "toy", "-o", tmp_path / "run", "--log", log)
    assert code == 1
    assert "n10/train: failed\n" in out
    assert err.splitlines()[-1].startswith("xairt: failed: n10/train. To try these again: xairt run toy -o ")
    written = log.read_text(encoding="utf-8")
    assert "ERROR n10/train failed: RuntimeError: asked to fail in two lines" in written
    assert 'raise RuntimeError("asked to fail' in written  # the traceback
    assert "INFO n20/score: " in written


def test_the_terminal_does_not_get_what_the_log_gets(tmp_path):
    code = INTERRUPTED.replace("toy = dataclasses.replace(toy_runs.TOY, train=train)", "toy = toy_runs.TOY")
    code = code.format(tests=str(Path(__file__).parent)).replace(
        "sys.argv[1]", 'sys.argv[1], "--log", sys.argv[2]'
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run"), str(tmp_path / "run.log")]
    environment = os.environ | {"TOY_LOG": str(tmp_path / "log.txt")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert (tmp_path / "run.log").read_text(encoding="utf-8").count("INFO n10/train: ") == 1


INTERRUPTED = """
import sys, time
sys.path.insert(0, {tests!r})
import toy_runs
from xairt.runs import contract
from xairt.cli import main
import dataclasses
def train(case):
    print("training", flush=True)
    time.sleep(60)
toy = dataclasses.replace(toy_runs.TOY, train=train)
contract.entry_points = lambda group: [type("P", (), dict(name="toy", load=lambda self: toy))()]
main(["run", "toy", "-o", sys.argv[1]])
"""


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path):
    code = INTERRUPTED.format(tests=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        env=os.environ | {"TOY_LOG": str(tmp_path / "log.txt")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("training"):
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; finished steps are kept. To go on: xairt run toy -o" in err
    assert "Traceback" not in err
    assert not list((tmp_path / "run").rglob("*.part"))
    assert (tmp_path / "run/cases/n10/data.npy").exists()
