"""What an installation relies on: light imports, declared dependencies, agreeing metadata, scripts."""

from __future__ import annotations

import ast
import configparser
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import xairt

ROOT = Path(__file__).parents[1]
HEAVY = (
    *("tensorflow", "keras", "xarray", "pandas", "matplotlib", "cartopy", "scipy", "innvestigate"),
    *("dask", "distributed"),
)
WORKER = ROOT / "xairt/attribution/legacy/worker.py"
IMPORT_ORDER = [
    *("errors", "conventions", "grid", "data", "fields", "models", "metrics", "training", "attribution"),
    *("datasetwise", "optimal_input", "plots", "runs", "benchmarks", "demo", "cli"),
]
USED_WITHOUT_IMPORT = {
    "innvestigate": "imported by the worker, which runs with what its interpreter has",
    "deeplift": "imported by the worker too",
    "urllib3": "used by requests, which takes versions that miss a broken download",
    "import-linter": "a command",
    "ruff": "a command",
    "ipykernel": "runs the notebooks",
    "pytest-xdist": "lets pytest run in several processes",
}


def in_new_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


# -------------------------------------------------------------------------------------------- imports


@pytest.mark.parametrize(
    "module",
    ["xairt", "xairt.cli", "xairt.cli_arguments", "xairt.errors", "xairt.grid", "xairt.data.registry"],
)
def test_light_modules_load_no_heavy_package(module):
    loaded = in_new_python(
        f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    ).split()
    assert "xairt" in loaded
    assert not set(loaded) & set(HEAVY)


def test_heavy_packages_are_loaded_by_the_names_that_need_them():
    loaded = in_new_python("import sys, xairt; xairt.methods; print('tensorflow' in sys.modules)")
    assert loaded == "True"


def test_import_takes_less_than_three_tenths_of_a_second():
    timed = "import time; t = time.perf_counter(); import xairt; print(time.perf_counter() - t)"
    assert min(float(in_new_python(timed)) for _ in range(3)) < 0.3


@pytest.mark.parametrize("name", xairt.__all__)
def test_public_names_resolve(name):
    assert getattr(xairt, name) is not None
    assert name in dir(xairt)


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'xairt' has no attribute 'explain'"):
        _ = xairt.explain


# --------------------------------------------------------------------------------------- dependencies


def imported_packages(folder: str) -> set[str]:
    """Top-level names of everything imported in a folder, in functions too, but for the worker."""
    names: set[str] = set()
    for file in set((ROOT / folder).rglob("*.py")) - {WORKER}:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"xairt"}


def declared(*extras: str) -> dict[str, Requirement]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [config["options"]["install_requires"], *(config["options.extras_require"][e] for e in extras)]
    found = [Requirement(line) for text in texts for line in text.split("\n") if line.strip()]
    return {canonicalize_name(r.name): r for r in found}


def distributions(packages: set[str]) -> dict[str, set[str]]:
    known = packages_distributions()
    return {p: {canonicalize_name(d) for d in known.get(p, [p])} for p in packages}


@pytest.mark.parametrize(("folder", "extras"), [("xairt", ("lime",)), ("tests", ("dev",))])
def test_every_import_is_declared(folder, extras):
    local = {file.stem for file in (ROOT / "tests").glob("*.py")}
    needed = distributions(imported_packages(folder) - local)
    assert {p for p, names in needed.items() if not names & set(declared(*extras))} == set()


def test_every_declared_dependency_is_used():
    packages = imported_packages("xairt") | imported_packages("tests")
    used = set().union(*distributions(packages).values())
    assert set(declared("dev")) - used == set(USED_WITHOUT_IMPORT)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("requirement", declared("dev").values(), ids=str)
def test_dependency_has_a_lower_bound_that_its_pin_satisfies(requirement):
    assert any(s.operator in (">=", "==", "~=") for s in requirement.specifier)
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


# --------------------------------------------------------------------------------------- import order


def contracts() -> list[dict]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return config["tool"]["importlinter"]["contracts"]


def test_import_contract_follows_the_documented_order():
    contract = next(c for c in contracts() if c["type"] == "layers")
    assert contract["exhaustive"] is True
    layers = [layer.strip("()") for layer in reversed(contract["layers"])]
    assert [layer for layer in layers if layer in IMPORT_ORDER] == IMPORT_ORDER


def test_contributing_shows_the_layers_of_the_import_contract():
    contract = next(c for c in contracts() if c["type"] == "layers")
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.search(r"```text\n(errors.*?)```", text, re.DOTALL)[1]
    planned = {layer.strip("()") for layer in contract["layers"] if layer.startswith("(")}
    layers = [layer.strip("()") for layer in reversed(contract["layers"])]
    assert re.findall(r"\w+", shown) == [layer for layer in layers if layer not in planned]


def test_legacy_worker_imports_nothing_of_xairt_and_keeps_to_old_syntax():
    source = WORKER.read_text(encoding="utf-8")
    modules = set()
    for node in ast.walk(ast.parse(source, feature_version=(3, 7))):
        modules |= {a.name for a in node.names} if isinstance(node, ast.Import) else set()
        modules |= {"." * node.level + (node.module or "")} if isinstance(node, ast.ImportFrom) else set()
    assert "numpy" in modules
    assert not [name for name in modules if name.startswith((".", "xairt"))]


# ------------------------------------------------------------------------------------------- metadata


def test_versions_and_dates_agree():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.search(r"^## \[(\d[^]]*)\] - (\S+)$", changelog, re.MULTILINE).groups()
    assert version == xairt.__version__
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == xairt.__version__
    assert re.search(r"^date-released: '?([\d-]+)'?$", citation, re.MULTILINE)[1] == date


def test_built_package_holds_the_coastlines(tmp_path):
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "xairt", tmp_path / "xairt", ignore=shutil.ignore_patterns("__pycache__"))
    build = [
        sys.executable,
        "-c",
        "import setuptools; setuptools.setup()",
        "-q",
        "build_py",
        "--build-lib",
        "built",
    ]
    subprocess.run(build, cwd=tmp_path, capture_output=True, check=True)
    built = {str(f.relative_to(tmp_path / "built")) for f in (tmp_path / "built").rglob("*") if f.is_file()}
    source = {str(f.relative_to(tmp_path)) for f in (tmp_path / "xairt").rglob("*") if f.is_file()}
    assert "xairt/data/natural_earth/ne_110m_land.shp" in built
    assert built == source


# -------------------------------------------------------------------------------------------- scripts


def in_bash(command: str, scripts: Path, **environment: str) -> subprocess.CompletedProcess:
    lines = f'set -euo pipefail; source "{scripts}/common.sh"; {command}'
    variables = {k: v for k, v in os.environ.items() if k != "XAIRT_PYTHON"} | environment
    return subprocess.run(["bash", "-c", lines], capture_output=True, text=True, env=variables)


@pytest.mark.parametrize("script", ["scripts/demo.sh", "scripts/test.sh", ".ci/run"])
def test_script_is_executable_and_parses(script):
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / script], capture_output=True).stderr == b""


def test_scripts_find_a_python_311():
    found = in_bash("find_python", ROOT / "scripts", XAIRT_PYTHON=sys.executable)
    assert found.stdout.strip() == sys.executable
    path = in_bash(
        "find_python", ROOT / "scripts", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ).stdout
    version = subprocess.run([path.strip(), "--version"], capture_output=True, text=True).stdout
    assert version.startswith("Python 3.11")


def test_scripts_refuse_another_python(tmp_path):
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    refused = in_bash("find_python", ROOT / "scripts", XAIRT_PYTHON=str(other))
    assert refused.returncode == 1
    assert (
        refused.stderr
        == f"bash: XAIRT_PYTHON={other}: no Python 3.11 with venv and pip; correct or unset it\n"
    )


def test_environment_is_not_reused_where_it_was_moved(tmp_path):
    here, there = tmp_path / "a checkout", tmp_path / "another one"
    shutil.copytree(ROOT / "scripts", here / "scripts")
    check = 'venv_is_sound && echo "sound"'
    made = in_bash(f"make_venv; {check}", here / "scripts", XAIRT_PYTHON=sys.executable)
    assert made.stdout.splitlines()[1:] == ["sound"], made.stderr
    here.rename(there)
    assert in_bash(check, there / "scripts").returncode == 1


def test_scripts_leave_a_folder_alone_that_is_no_environment(tmp_path):
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "notes.txt").write_text("mine")
    refused = in_bash("make_venv", tmp_path / "scripts", XAIRT_PYTHON=sys.executable)
    assert refused.stderr == f"bash: {tmp_path}/.venv: is no virtual environment; move it away\n"
    assert (tmp_path / ".venv" / "notes.txt").read_text() == "mine"


# --------------------------------------------------------------------------------------------- README


def readme_blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def readme_commands() -> Iterator[list[str]]:
    for block in readme_blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("xairt "):
                yield shlex.split(line, comments=True)


def test_readme_commands_are_those_of_the_command_line():
    from typer.main import get_command

    program, commands = get_command(importlib.import_module("xairt.cli").app), list(readme_commands())
    assert {"demo", "attribute", "map", "inspect", "methods", "data"} <= {words[1] for words in commands}
    for words in commands:
        command, context, arguments = program, None, words[1:]
        while hasattr(command, "commands"):
            context = command.make_context(command.name, arguments, parent=context, resilient_parsing=True)
            _, command, arguments = command.resolve_command(context, arguments)
        command.make_context(command.name, arguments, parent=context)


def test_readme_example_with_the_archived_network_runs(data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(readme_blocks("python")[0], {})
    assert {"samples.nc", "relevance.nc", "relevance.png"} <= {f.name for f in tmp_path.iterdir()}


def test_readme_example_with_own_data_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(readme_blocks("python")[1], names)
    assert names["result"]["attribution"].dims == ("sample", "lat", "lon")
    strength = np.abs(names["grid"].to_vector(names["result"]["attribution"])).mean("sample").values
    assert set(strength.argsort()[-2:]) == {names["grid"].nearest(0, 200), names["grid"].nearest(40, 320)}
    assert (tmp_path / "first.png").is_file()
