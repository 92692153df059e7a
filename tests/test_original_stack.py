"""The publications' own stack: the script that makes it, and the live comparison with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_golden import CASES, model, numbers, tolerance

import xairt
from xairt.attribution.legacy import client
from xairt.attribution.registry import resolve

SCRIPTS = Path(__file__).parents[1] / "scripts"
SCRIPT = SCRIPTS / "make_original_env.sh"
NETWORKS = ("mlp", "cnn", "mamalakis2022")


# --------------------------------------------------------------------------- the script


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    variables = {k: v for k, v in os.environ.items() if k != "XAIRT_PYTHON37"} | environment
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, env=variables, timeout=60)


@pytest.fixture
def python37(tmp_path) -> str:
    """A stand-in for Python 3.7: it passes for one, makes an empty environment, and can install nothing."""
    script = tmp_path / "python3.7"
    script.write_text(
        '#!/bin/sh\ncase "$*" in\n"-m venv "*) mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; cp "$0" "$3/bin/python";;\n'
        '"-m pip "*) echo "no network" >&2; exit 1;;\nesac\n'
    )
    script.chmod(0o755)
    return str(script)


def test_script_is_executable_and_parses():
    assert os.access(SCRIPT, os.X_OK)
    assert subprocess.run(["bash", "-n", SCRIPT], capture_output=True).stderr == b""


def test_without_python_37_it_says_how_to_get_one(tmp_path):
    nowhere = {"HOME": str(tmp_path), "PYENV_ROOT": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = run(str(tmp_path / "env"), **nowhere)
    assert done.returncode == 1
    assert "no Python 3.7 with venv found; install one" in done.stderr
    assert "or set XAIRT_PYTHON37 to one" in done.stderr
    assert not (tmp_path / "env").exists()


def test_another_python_is_refused(tmp_path):
    done = run(str(tmp_path / "env"), XAIRT_PYTHON37=sys.executable)
    assert done.returncode == 1
    assert f"XAIRT_PYTHON37={sys.executable}: no Python 3.7 with venv and pip" in done.stderr


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path, python37):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    done = run(str(mine), XAIRT_PYTHON37=python37)
    assert (
        done.stderr
        == f"make_original_env.sh: {mine}: is no virtual environment; move it away or name another folder\n"
    )
    assert (mine / "notes.txt").read_text() == "mine"


def test_a_half_made_environment_is_not_taken_for_a_whole_one(tmp_path, python37):
    folder = tmp_path / "env"
    for _ in range(2):
        done = run(str(folder), XAIRT_PYTHON37=python37)
        assert done.returncode == 1
        assert f"making {folder} with {python37}" in done.stdout
        assert "no network" in done.stderr
        assert "ready" not in done.stdout
    assert (folder / "pyvenv.cfg").exists()


def test_a_whole_environment_is_used_as_it_is_unless_the_versions_change(tmp_path, python37):
    folder = tmp_path / "an env"
    run(str(folder), XAIRT_PYTHON37=python37)
    versions = (SCRIPTS / "original-requirements.txt").read_text()
    stamp = folder / "xairt-original.stamp"
    stamp.write_text(f"{folder}\n{versions}")
    done = run(str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"export XAIRT_LEGACY_PYTHON={tmp_path}/an\\ env/bin/python"
    stamp.write_text(f"{folder}\n{versions}numpy==1.0\n")
    assert "making" in run(str(folder), XAIRT_PYTHON37=python37).stdout


# --------------------------------------------------------------------------- the live comparison


@pytest.fixture
def original() -> str:
    """The interpreter of the original stack."""
    python = os.environ.get(client.PYTHON_VARIABLE)
    if not python:
        pytest.skip(f"{client.PYTHON_VARIABLE} does not name an original stack (docs/original_stack.md)")
    return python


def network(name: str, request):
    if name == "mamalakis2022":
        request.getfixturevalue("data_dir")
    return model(name), numbers(name)["x"]


def assert_close(got, want, tolerance: float) -> None:
    """Compare by the largest difference over the largest value; both may be all zero."""
    assert abs(got.attribution - want.attribution).max() <= tolerance * abs(want.attribution).max()


@pytest.mark.slow
@pytest.mark.parametrize("package", ["innvestigate", "deeplift", "shap"])
def test_it_is_the_stack_of_the_publications(original, package):
    pinned = dict(
        line.split("==")
        for line in (SCRIPTS / "original-requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    versions = client.shared_worker(package).ask("versions")[0]
    assert versions["python"].startswith("3.7.")
    for name in ("tensorflow", "keras", package):
        assert versions[name] == pinned[name]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), CASES)
@pytest.mark.usefixtures("original")
def test_native_engine_equals_live_innvestigate(name, key, request):
    made, x = network(name, request)
    method, _, target = key.partition("|target=")
    target = None if target in ("", "max") else int(target)
    convention = "innvestigate" if "innvestigate" in resolve(method).method.conventions else None
    want = xairt.attribute(made, x, method, target=target, engine="innvestigate")
    got = xairt.attribute(made, x, method, target=target, convention=convention)
    assert_close(got, want, tolerance(name, method))


DIFFERENCES = [
    (name, method, baseline)
    for name in NETWORKS
    for method in ("deeplift.rescale", "deeplift.reveal_cancel", "shap.deep")
    for baseline in ("zero", "reference")
]


def explained(name: str, baseline: str, request) -> tuple:
    """Return network and samples, and what both sides are asked for."""
    made, x = network(name, request)
    reference = None if baseline == "zero" else np.random.default_rng(3).normal(size=(2, *x.shape[1:]))
    return made, x, {"target": 0, "baseline": reference}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "method", "baseline"), DIFFERENCES)
@pytest.mark.usefixtures("original")
def test_deeplift_and_shap_are_the_same_on_both_stacks(name, method, baseline, request, monkeypatch):
    made, x, options = explained(name, baseline, request)
    engine = method.partition(".")[0]
    want = xairt.attribute(made, x, method, engine=engine, **options)
    monkeypatch.delenv(client.PYTHON_VARIABLE)  # the package then runs in this interpreter
    got = xairt.attribute(made, x, method, engine=engine, **options)
    assert_close(got, want, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method", "baseline"),
    # with max pooling shap has a rule of its own
    [case for case in DIFFERENCES if case[:2] != ("cnn", "shap.deep")],
)
@pytest.mark.usefixtures("original")
def test_native_engine_equals_live_deeplift_and_shap(name, method, baseline, request):
    made, x, options = explained(name, baseline, request)
    engine = method.partition(".")[0]
    want = xairt.attribute(made, x, method, engine=engine, **options)
    convention = "deeplift" if engine == "deeplift" else None
    assert_close(xairt.attribute(made, x, method, convention=convention, **options), want, 1e-5)
