"""The settings of the benchmarks of covariance strength, and how they are found."""

from __future__ import annotations

import configparser
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from xairt import runs
from xairt.benchmarks.varicov import GLOBALCOV, UNICOV
from xairt.errors import MethodError
from xairt.runs.config import describe

ROOT = Path(__file__).parents[1]
BOTH = pytest.mark.parametrize("benchmark", [GLOBALCOV, UNICOV], ids=lambda b: b.name)


@BOTH
@pytest.mark.parametrize("preset", runs.PRESETS)
def test_presets_are_valid(benchmark, preset):
    config = benchmark.configured({}, preset)
    assert len(benchmark.case_table(config)) == len(config.n_samples) * len(config.strength)
    assert set(benchmark.controls) <= set(config.methods)
    assert benchmark.configured(config.plain()) == config


def test_presets_have_the_sizes_of_the_publication():
    unicov, globalcov = UNICOV.configured({}, "paper"), GLOBALCOV.configured({}, "paper")
    assert unicov.strength == tuple(k / 10 for k in range(11))
    assert globalcov.strength == tuple(k / 10 for k in range(1, 10))
    assert (unicov.n_samples, unicov.n_networks, unicov.rows) == ((10_000,), 4, 20)
    assert (globalcov.n_samples, globalcov.n_networks) == ((1_000, 10_000, 100_000, 1_000_000), 6)
    for config in (unicov, globalcov):
        assert (config.epochs, config.batch_size, config.learning_rate, config.n_explained) == (
            50,
            32,
            0.02,
            100,
        )
        assert {"gradient", "input_t_gradient", "shap.kernel(nsamples=10000)"} <= set(config.methods)
        assert config.patch_sizes == tuple(range(1, 9))


@BOTH
@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"strength": [1.5]}, r"parameter 'strength.0' = 1.5"),
        ({"n_samples": 10}, r"parameter 'n_samples.0' = 10"),
        ({"n_networks": 1}, r"parameter 'n_networks' = 1"),
        ({"patch_sizes": [9]}, r"parameter 'patch_sizes.0' = 9"),
        ({"methods": ["gradeint"]}, r"parameter 'methods' = .*did you mean 'gradient'"),
        ({"methods": ["lrp.z", "lrp.z"]}, r"parameter 'methods' = .*stands there twice"),
        ({"convention": "innvestigate"}, r"parameter 'convention' = 'innvestigate'"),
        ({"source": "cobe"}, r"parameter 'source' = 'cobe'"),
        ({"strenght": 1}, r"has no parameter 'strenght'.*did you mean 'strength'"),
    ],
)
def test_nonsense_is_refused_in_one_line_that_names_the_setting(benchmark, given, match):
    with pytest.raises(MethodError, match=f"{benchmark.name}:? {match}") as caught:
        benchmark.configured(given)
    assert "\n" not in str(caught.value)


@BOTH
def test_every_setting_is_described(benchmark):
    assert all(len(row["description"]) > 10 for row in describe(benchmark.configured({})))
    assert benchmark.configured({"methods": "lrp.z"}).methods == ("lrp.z",)


@BOTH
def test_the_package_registers_the_benchmarks(benchmark):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options.entry_points"]["xairt.benchmarks"].strip().splitlines()
    registered = dict(map(str.strip, line.split("=")) for line in lines)
    name = benchmark.name
    assert EntryPoint(name, registered[name], "xairt.benchmarks").load() is benchmark


def test_listing_the_benchmarks_loads_no_heavy_package():
    code = "import sys, xairt.benchmarks.varicov; print({'tensorflow', 'xarray', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_strengths_that_lie_close_are_cases_of_their_own():
    found = GLOBALCOV.case_table(GLOBALCOV.configured({"strength": [0.3333333, 0.3333334]}))
    assert [own["strength"] for own in found.values()] == [0.3333333, 0.3333334]


def test_a_source_and_its_file_belong_together():
    with pytest.raises(MethodError, match="source 'netcdf' needs a file; set source_file"):
        GLOBALCOV.configured({"source": "netcdf"})
