"""A run that is killed again and again ends with the values of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr
import yaml

RUN = """
import sys
from pathlib import Path
import yaml
from xairt.benchmarks.sstanom import BENCHMARK
from xairt.runs import execute
settings = yaml.safe_load(sys.argv[2])
def echo(text):
    print(text, flush=True)
echo("begins")
outcome = execute(BENCHMARK, BENCHMARK.configured(settings, "quick"), Path(sys.argv[1]), echo=echo)
sys.exit(bool(outcome.failed))
"""

SETTINGS = {
    "n_samples": [300, 500],
    "epochs": 2,
    "n_explained": 40,
    "methods": ["gradient", "lrp.z", "smoothgrad", "random"],
}


def start(folder: Path) -> subprocess.Popen:
    """Start a run; it prints a line when it begins and one after each step."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), yaml.safe_dump(SETTINGS)],
        stdout=subprocess.PIPE,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    )


def finish(folder: Path) -> list[str]:
    """Run to the end and return what was told."""
    told, _ = (process := start(folder)).communicate(timeout=600)
    assert process.returncode == 0
    return told.splitlines()[1:]


def kill(folder: Path, n_steps: int, delay: float) -> str | None:
    """Kill a run some time after a number of steps; return the last step it told, None if it finished."""
    process, last = start(folder), "nothing"
    for _ in range(n_steps + 1):
        last = process.stdout.readline().strip()
        if not last:
            assert process.wait(timeout=60) == 0
            return None
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return last if process.returncode == -signal.SIGKILL else None


def values(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "scores.csv").drop(columns="seconds")


def assert_same(one: Path, two: Path) -> None:
    """Assert that two runs have the same arrays and scores."""
    pd.testing.assert_frame_equal(values(one), values(two))
    names = sorted(str(p.relative_to(one)) for p in one.rglob("*.nc"))
    assert names == sorted(str(p.relative_to(two)) for p in two.rglob("*.nc"))
    assert len(names) == 2 * (3 + len(SETTINGS["methods"]))  # data, scores, and the linear model too
    for name in names:
        with xr.open_dataset(one / name) as left, xr.open_dataset(two / name) as right:
            xr.testing.assert_equal(left, right)
    unfinished = [p for p in two.rglob(".*") if p.name != ".lock"]
    assert unfinished == []


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    n_steps = len([line for line in finish(undisturbed) if "up to date" not in line])
    generator, places = random.Random(0), []
    for attempt in range(14):
        place = kill(disturbed, generator.randint(0, 2), generator.uniform(0, 1))
        if place is None:  # it finished before
            assert_same(undisturbed, disturbed)
            disturbed = tmp_path / f"disturbed-{attempt}"
        else:
            places.append(place.split(":")[0])
    finish(disturbed)
    assert_same(undisturbed, disturbed)
    assert len(places) >= 10, places
    assert len(set(places)) >= 6, places  # the kills met several of the steps
    assert n_steps == 2 * (2 + 1 + len(SETTINGS["methods"]) + 1) + 1
