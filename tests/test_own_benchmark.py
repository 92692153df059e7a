"""A benchmark of somebody else's package: the example of the documentation, installed and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xairt import runs

ROOT = Path(__file__).parents[1]
PACKAGE = Path(__file__).parent / "data" / "toy_package"
METADATA = "import setuptools.build_meta as b; b.prepare_metadata_for_build_wheel('.')"
COMMAND = "from xairt.cli import main; main()"
NAME, MODULE = "relevant-inputs", "relevant_inputs"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Folder with the package and its metadata, as an installation lays them out."""
    folder = tmp_path_factory.mktemp("site") / "packages"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    made = subprocess.run([sys.executable, "-c", METADATA], cwd=folder, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def found(installed, monkeypatch) -> runs.Benchmark:
    monkeypatch.syspath_prepend(str(installed))
    yield runs.benchmark(NAME)
    sys.modules.pop(MODULE, None)


def xairt(installed: Path, *arguments: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(installed), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def test_the_documentation_shows_the_tested_files():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for language, name in (("toml", "pyproject.toml"), ("python", f"{MODULE}.py")):
        blocks = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
        assert (PACKAGE / name).read_text(encoding="utf-8") in blocks


def test_a_benchmark_takes_less_than_sixty_lines():
    files = [file for file in PACKAGE.iterdir() if file.suffix in (".py", ".toml")]
    assert len(files) == 2
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) < 60


def test_it_is_found_by_its_entry_point(found):
    assert NAME in runs.benchmarks()
    assert found.stages == ("generate", "score", "figures")


def test_it_runs_without_attributions_and_redoes_only_what_a_setting_changes(found, tmp_path):
    outcome = runs.execute(found, found.configured({}, "quick"), tmp_path / "run")
    steps = [f"{case}/{stage}" for case in ("n50", "n500") for stage in ("generate", "score")]
    assert outcome.done == [*steps, "figures"]
    assert (tmp_path / "run/figures/share-found.png").stat().st_size > 1000
    redrawn = runs.execute(found, found.configured({"color": "black"}, "quick"), tmp_path / "run")
    assert redrawn.done == ["figures"]
    quieter = runs.execute(found, found.configured({"noise": 0.0}, "quick"), tmp_path / "run")
    assert quieter.done == [*steps, "figures"]


def test_its_scores_are_those_of_its_data(found, tmp_path):
    runs.execute(found, found.configured({"n_samples": [20_000], "noise": 1.0}), tmp_path / "run")
    scores = runs.Run.open(tmp_path / "run").scores.set_index("label")["value"]
    assert scores["correlation"] == 1.0  # so many samples leave no doubt
    assert scores["random"] < 1.0
    with np.load(tmp_path / "run/cases/n20000/data.npz") as data:
        np.testing.assert_allclose(data["y"].var(), 6.0, rtol=0.05)


def test_the_command_line_lists_and_runs_it(installed, tmp_path):
    listed = xairt(installed, "run", "--list")
    assert listed.returncode == 0, listed.stderr
    assert NAME in listed.stdout
    done = xairt(
        installed, "run", NAME, "--preset", "quick", "--set", "n_samples=[30]", "-o", str(tmp_path / "r")
    )
    assert done.returncode == 0, done.stderr
    assert set(pd.read_csv(tmp_path / "r" / "scores.csv")["label"]) == {"correlation", "random"}
    refused = xairt(installed, "run", NAME, "--set", "n_relevant=60", "-o", str(tmp_path / "other"))
    assert refused.returncode == 2
    assert "relevant-inputs: parameter 'n_relevant' = 60" in refused.stderr
    assert refused.stderr.count("\n") == 1
