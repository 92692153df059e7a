"""A run that is killed again and again ends with the values of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
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


def start(folder: Path, settings: dict) -> subprocess.Popen:
    """Start a run and return once its first step begins."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), yaml.safe_dump(settings)],
        stdout=subprocess.PIPE,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        text=True,
    )
    process.stdout.readline()
    threading.Thread(target=process.stdout.read, daemon=True).start()
    return process


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
    process = start(undisturbed, SETTINGS)
    begun = time.perf_counter()
    assert process.wait(timeout=600) == 0
    took = time.perf_counter() - begun
    generator, kills, places = random.Random(0), 0, []
    while kills < 12:
        process = start(disturbed, SETTINGS)
        try:
            process.wait(timeout=generator.uniform(0, took / 4))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            places.append(len(list(disturbed.rglob("*.nc"))))
        else:
            assert process.returncode == 0
            assert_same(undisturbed, disturbed)
            disturbed = tmp_path / f"disturbed-{kills}"  # finished before the kill: begin another
    process = start(disturbed, SETTINGS)
    assert process.wait(timeout=600) == 0
    assert_same(undisturbed, disturbed)
    assert len(set(places)) > 2, places  # the kills met several stages
