"""Attributions by blocks: the numbers of one call, whatever was interrupted, damaged or changed meanwhile."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import networks
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xairt
from xairt.attribution import status
from xairt.data.files import read_dataset
from xairt.data.provenance import sha256_of
from xairt.data.streams import SampleWriter
from xairt.errors import DataError, MethodError, ModelError
from xairt.models.saving import save_model
from xairt.runs import Benchmark, RunConfig, execute, explanations, setting
from xairt.runs.contract import Explanation
from xairt.runs.explanations import Serial, explain
from xairt.runs.manifest import Manifest

ROOT = Path(__file__).parents[1]
N, SIZE = 300, 64
INPUTS = "ab" * 32


def write_samples(folder: Path, n: int = N, maps: bool = False) -> None:
    """Write x of a network of 7 inputs; as maps with land, or as vectors with the time of each."""
    x = 3 * np.random.default_rng(1).normal(size=(n, 7)).astype(np.float32)
    block = xr.Dataset({"x": (("sample", "cell"), x)}, {"sample": np.arange(n), "day": ("sample", x[:, 0])})
    if maps:
        mask = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0]], bool)
        field = xairt.Grid(mask, [10.0, 0.0, -10.0], [0.0, 90.0, 180.0, 270.0]).to_map(x)
        coords = {"lat": [10.0, 0.0, -10.0], "lon": [0.0, 90.0, 180.0, 270.0]}
        block = xr.Dataset({"x": (("sample", "lat", "lon"), field)}, coords)
    with SampleWriter(folder / "data.nc", title="Samples") as writer:
        writer.append(block)


@pytest.fixture
def case(tmp_path, monkeypatch) -> Path:
    """Folder of a case whose samples make five blocks."""
    monkeypatch.setattr(explanations, "block_size", lambda explainer: SIZE)
    write_samples(tmp_path)
    save_model(networks.mlp(n_outputs=1), tmp_path / "model.h5")
    return tmp_path


def asked(**options) -> Explanation:
    return Explanation(**{"method": "lrp.z", **options})


def explained(case: Path, explanation: Explanation, executor=None, inputs: str = INPUTS) -> xr.Dataset:
    """Explain into a folder of its own and return what was written, with the facts as an attribute."""
    facts = explain(explanation, case, case / "out", inputs, executor or Serial())
    return read_dataset(case / "out" / explanation.file).assign_attrs(facts=facts)


def at_once(case: Path, **options) -> xr.Dataset:
    """Return the attributions of one call on all samples."""
    x = read_dataset(case / "data.nc")["x"]
    return xairt.attribute(xairt.load_model(case / "model.h5"), x, **{"method": "lrp.z", **options})


def compare(found: xr.Dataset, wanted: xr.Dataset, exactly: bool = False) -> None:
    assert set(found.variables) == set(wanted.variables)
    for name, variable in wanted.variables.items():
        assert found[name].dims == variable.dims
        assert found[name].dtype == variable.dtype
        if name in wanted.data_vars:
            assert found[name].attrs["long_name"] == variable.attrs["long_name"]
        if exactly or variable.dtype.kind != "f":
            np.testing.assert_array_equal(found[name], variable)
        else:
            np.testing.assert_allclose(found[name], variable, rtol=1e-5, atol=1e-6)
    for name in ("method", "identities", "status_report"):
        assert found.attrs[name] == wanted.attrs[name]


class Stopping:
    """An executor that ends after some blocks, as a killed run does."""

    def __init__(self, after: int) -> None:
        self.after, self.done = after, []

    def map(self, task, items):
        for item in items:
            if len(self.done) == self.after:
                raise KeyboardInterrupt
            self.done.append((item.first, item.last))
            yield task(item)


def interrupted(case: Path, explanation: Explanation, after: int, inputs: str = INPUTS) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        explain(explanation, case, case / "out", inputs, Stopping(after))


def parts(case: Path) -> list[Path]:
    return sorted((case / ".parts").glob("*/*.nc"), key=lambda path: int(path.name.split("-")[0]))


# --------------------------------------------------------------------------- the numbers of one call


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "gradient"},
        {"method": "smoothgrad(augment_by_n=4)", "seed": 5},
        {"method": "integrated_gradients(steps=2)", "baseline": 0.5},
        {"method": "lrp.alpha_2_beta_1", "dtype": "float64"},
        {"method": "integrated_gradients(steps=8)", "baseline": (0.5, 0.0, 0.0, 1.0, 0.0, 0.0, -1.0)},
        {"method": "random", "seed": 2},
    ],
    ids=lambda options: options.get("method", "lrp.z"),
)
def test_blocks_give_what_one_call_gives(case, options):
    found = explained(case, asked(**options))
    compare(found, at_once(case, **options))
    report = json.loads(found.attrs["status_report"])[found.attrs["method"]]
    assert found.attrs["facts"]["samples"] == N
    assert found.attrs["facts"]["blocks"] == 5
    assert found.attrs["facts"]["blocks_reused"] == 0
    assert found.attrs["facts"]["seconds_per_sample"] > 0
    assert found.attrs["facts"]["status"] == report["status"]
    assert not (case / ".parts").exists()
    assert found.attrs["title"].endswith("to x of data.nc")


def test_blocks_of_the_usual_size_give_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(explanations, "MOST_CALLS", 1)
    write_samples(tmp_path, 10_000)
    save_model(networks.mlp(n_outputs=1), tmp_path / "model.h5")
    found = explained(tmp_path, asked())
    assert found.attrs["facts"]["blocks"] == 3
    compare(found, at_once(tmp_path), exactly=True)


def test_a_range_keeps_its_positions(case):
    options = {"method": "smoothgrad(augment_by_n=4)", "seed": 5}
    found = explained(case, asked(first=40, last=250, **options))
    wanted = at_once(case, **options).isel(sample=slice(40, 250))
    np.testing.assert_allclose(found.attribution, wanted.attribution, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.sample, wanted.sample)
    assert found.attrs["facts"]["blocks"] == 4
    with pytest.raises(DataError, match="x has 300 samples, and the range is 0 to 301"):
        explained(case, asked(last=301))


def test_maps_are_explained_on_one_grid_without_a_warning(case, caplog):
    write_samples(case, maps=True)
    with caplog.at_level(logging.WARNING):
        found = explained(case, asked(method="occlusion(patch=1)"))
    assert [record.getMessage() for record in caplog.records if record.name.startswith("xairt")] == []
    assert found.attribution.dims == ("sample", "lat", "lon")
    assert int(found.attribution[0].isnull().sum()) == 5
    compare(found, at_once(case, method="occlusion(patch=1)"))


def test_another_engine_explains_blocks_too(case):
    found = explained(case, asked(method="lrp.z", engine="innvestigate"))
    compare(found, at_once(case, engine="innvestigate"))


class Elsewhere:
    """An executor that sends each block to a new process, as far as that can be told from here."""

    def map(self, task, items):
        for text in [pickle.dumps((task, item)) for item in items]:
            explanations._models.clear()
            explanations._explainers.clear()
            function, item = pickle.loads(text)
            yield pickle.loads(pickle.dumps(function(item)))


def test_other_processes_give_what_this_one_gives(case):
    write_samples(case, 130, maps=True)
    explanation = asked(method="smoothgrad(augment_by_n=4)")
    compare(explained(case, explanation, Elsewhere()), explained(case, explanation), exactly=True)


def test_the_log_tells_once_what_is_wrong(case, caplog):
    explained(case, asked(method="integrated_gradients(steps=2)"))
    told = [r.getMessage() for r in caplog.records if "samples" in r.getMessage()]
    assert len(told) == 1
    assert "of 300 samples" in told[0]


def test_a_registered_model_is_found(case, data_dir):
    x = np.random.default_rng(0).normal(size=(3, 458)).astype(np.float32)
    with SampleWriter(case / "data.nc", title="Samples") as writer:
        writer.append(xr.Dataset({"x": (("sample", "cell"), x)}))
    found = explained(case, asked(model="mamalakis2022-sst"))
    model = xairt.load_model("mamalakis2022-sst")
    compare(found, xairt.attribute(model, xr.DataArray(x, dims=("sample", "cell")), "lrp.z"))
    with pytest.raises(ModelError, match="neither a file nor a known name"):
        explained(case, asked(model="no-such-model.h5"))


# --------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_run_goes_on_at_the_next_block(case, after, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    whole = explained(case, asked())
    undisturbed = sha256_of(case / "out" / asked().file)
    (case / "out" / asked().file).unlink()
    interrupted(case, asked(), after)
    assert [path.name.rpartition("-")[0] for path in parts(case)] == [
        f"{start}-{start + SIZE}" for start in range(0, after * SIZE, SIZE)
    ]
    assert not (case / "out" / asked().file).exists()
    rest = Stopping(after=9)
    found = explained(case, asked(), rest)
    assert [first for first, _ in rest.done] == list(range(after * SIZE, N, SIZE))
    assert found.attrs["facts"]["blocks_reused"] == after
    assert sha256_of(case / "out" / asked().file) == undisturbed
    compare(found, whole, exactly=True)


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b[:5000] + b"x" + b[5001:], lambda b: b""])
def test_a_damaged_block_is_computed_again(case, damage):
    whole = explained(case, asked())
    interrupted(case, asked(), 3)
    second = parts(case)[1]
    second.write_bytes(damage(second.read_bytes()))
    rest = Stopping(after=9)
    found = explained(case, asked(), rest)
    assert [first for first, _ in rest.done] == [64, 192, 256]
    compare(found, whole, exactly=True)


def test_blocks_of_other_inputs_are_removed_and_of_other_attributions_kept(case):
    interrupted(case, asked(), 2, inputs="cd" * 32)
    interrupted(case, asked(method="gradient"), 1, inputs="ef" * 32)
    (case / ".parts" / "unknown").mkdir()
    interrupted(case, asked(), 1)
    assert sorted(os.listdir(case / ".parts")) == ["ab" * 8, "ef" * 8]
    explained(case, asked())
    assert os.listdir(case / ".parts") == ["ef" * 8]
    assert explained(case, asked(method="gradient"), inputs="ef" * 32).attrs["facts"]["blocks_reused"] == 1
    assert not (case / ".parts").exists()


@pytest.mark.parametrize("inputs", ["", "..", "a/b"])
def test_inputs_that_name_no_folder_are_refused(case, inputs):
    with pytest.raises(DataError, match=f"inputs '{re.escape(inputs)}': cannot name a folder"):
        explained(case, asked(), inputs=inputs)
    assert (case / "data.nc").exists()


def test_blocks_of_another_version_are_not_used(case, monkeypatch):
    interrupted(case, asked(), 2)
    monkeypatch.setattr(explanations, "__version__", "99.0")
    assert explained(case, asked()).attrs["facts"]["blocks_reused"] == 0


def test_a_model_that_changes_meanwhile_is_refused(case):
    class Changing:
        """Another process, which loads the model after it was changed."""

        def map(self, task, items):
            save_model(networks.mlp(n_outputs=1, seed=1), case / "model.h5")
            explanations._models.clear()
            explanations._explainers.clear()
            return map(task, items)

    with pytest.raises(ModelError, match=r"model\.h5: changed while it was being explained"):
        explained(case, asked(), Changing())
    assert not (case / "out" / asked().file).exists()


def test_a_changed_model_is_explained_anew(case):
    before = explained(case, asked())
    save_model(networks.mlp(n_outputs=1, seed=1), case / "model.h5")
    after = explained(case, asked())
    compare(after, at_once(case))
    assert not np.allclose(before.attribution, after.attribution)


def test_a_sample_that_does_not_fit_stops_with_one_line(case):
    data = read_dataset(case / "data.nc")
    data["x"][200, 3] = np.nan
    with SampleWriter(case / "data.nc", title="Samples") as writer:
        writer.append(data)
    with pytest.raises(DataError, match="x holds 1 NaN"):
        explained(case, asked())
    assert len(parts(case)) == 3


class Settings(RunConfig):
    """Of a benchmark that explains."""

    methods: tuple[str, ...] = setting("explain", ("lrp.z", "gradient"), description="attribution methods")


def test_the_runner_goes_on_at_the_next_block(tmp_path, monkeypatch):
    monkeypatch.setattr(explanations, "block_size", lambda explainer: SIZE)
    benchmark = Benchmark(
        name="explains",
        title="Two attributions",
        config=Settings,
        cases=lambda config: {"only": {}},
        generate=lambda case: write_samples(case.output),
        train=lambda case: save_model(networks.mlp(n_outputs=1), case.write("model.h5")),
        explain=lambda case: [Explanation(method) for method in case.config.methods],
    )
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        execute(benchmark, Settings(), tmp_path, executor=Stopping(7))
    rest = Stopping(9)
    outcome = execute(benchmark, Settings(), tmp_path, executor=rest)
    assert outcome.done == ["only/explain/gradient"]
    assert [first for first, _ in rest.done] == [128, 192, 256]
    case = tmp_path / "cases" / "only"
    compare(read_dataset(case / "attributions" / "gradient.nc"), at_once(case, method="gradient"))
    record = Manifest.open(tmp_path).records["only/explain/gradient"]
    assert record.facts["blocks_reused"] == 2
    assert not (case / ".parts").exists()


# --------------------------------------------------------------------------- groups of features


GROUPS = np.array([0, 0, 5, 5, 5, 2, 2])


@pytest.fixture
def groups_file(case) -> Path:
    np.save(case / "groups.npy", GROUPS)
    return case / "groups.npy"


@pytest.mark.usefixtures("groups_file")
@pytest.mark.parametrize(("method", "maps"), [("occlusion", True), ("shap.kernel(nsamples=6)", False)])
def test_features_of_one_group_are_explained_as_one(case, method, maps):
    write_samples(case, maps=maps)
    found = explained(case, asked(method=method, groups="groups.npy"))
    compare(found, at_once(case, method=method, groups=case / "groups.npy"))
    compare(explained(case, asked(method=method, groups="groups.npy"), Elsewhere()), found, exactly=True)
    np.testing.assert_allclose(
        found.attribution, at_once(case, method=method, groups=GROUPS).attribution, rtol=1e-5, atol=1e-6
    )
    vectors = found.attribution.values.reshape(N, -1)
    vectors = vectors[:, np.isfinite(vectors[0])]
    np.testing.assert_array_equal(vectors[:, [0, 2, 2, 5]], vectors[:, [1, 3, 4, 6]])
    assert 'groups="3 groups ' in found.attrs["method"]


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"method": "occlusion", "groups": "none.npy"}, DataError, r"none\.npy"),
        ({"method": "occlusion", "groups": "short.npy"}, DataError, r"groups have shape \(3,\): give \(7,\)"),
        ({"method": "occlusion", "groups": "halves.npy"}, DataError, "not integers"),
        ({"method": "gradient", "groups": "groups.npy"}, MethodError, "gradient has no parameter 'groups'"),
    ],
)
def test_groups_that_cannot_be_used_are_refused(case, groups_file, options, error, reason):
    np.save(case / "short.npy", GROUPS[:3])
    np.save(case / "halves.npy", GROUPS / 2)
    with pytest.raises(error, match=reason):
        explained(case, asked(**options))


class GroupSettings(RunConfig):
    """Of a benchmark that explains by groups."""

    shift: int = setting("train", 0, description="by which the groups are rolled")


def test_the_runner_explains_again_by_other_groups_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")

    save_model(networks.mlp(n_outputs=1), tmp_path / "made.h5")

    def train(case):
        shutil.copy(tmp_path / "made.h5", case.write("model.h5"))
        np.save(case.write("groups.npy"), np.roll(GROUPS, case.config.shift))

    benchmark = Benchmark(
        name="grouped",
        title="Two attributions, one by groups",
        config=GroupSettings,
        cases=lambda config: {"only": {}},
        generate=lambda case: write_samples(case.output, 20),
        train=train,
        explain=lambda case: [Explanation("occlusion", groups="groups.npy"), Explanation("gradient")],
    )
    folder = tmp_path / "run"
    assert execute(benchmark, GroupSettings(), folder).failed == []
    assert execute(benchmark, GroupSettings(), folder).done == []
    rolled = execute(benchmark, GroupSettings(shift=1), folder)
    assert rolled.done == ["only/train", "only/explain/occlusion"]
    case = folder / "cases" / "only"
    found = read_dataset(case / "attributions" / "occlusion.nc")
    compare(found, at_once(case, method="occlusion", groups=case / "groups.npy"))


HEAD = """
import sys
from pathlib import Path
from xairt.runs import explanations
from xairt.runs.contract import Explanation
from xairt.runs.explanations import Serial, explain
"""


def in_new_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HEAD + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_killed_process_loses_one_block(case):
    code = f"""
import os, signal
explanations.block_size = lambda explainer: {SIZE}
class Killed:
    def map(self, task, items):
        for item in items:
            yield task(item)
            if item.first == 128:
                os.kill(os.getpid(), signal.SIGKILL)
folder = Path(sys.argv[1])
explain(Explanation("lrp.z"), folder, folder / "out", "{INPUTS}", Killed())
"""
    assert in_new_python(code, str(case)).returncode == -signal.SIGKILL
    assert len(parts(case)) == 3
    assert not (case / "out" / asked().file).exists()
    found = explained(case, asked())
    assert found.attrs["facts"]["blocks_reused"] == 3
    compare(found, at_once(case))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    save_model(networks.mlp(500, n_outputs=1), tmp_path / "model.h5")
    x = np.random.default_rng(0).normal(size=(10_000, 500)).astype(np.float32)
    with SampleWriter(tmp_path / "data.nc", title="Samples") as writer:
        for _ in range(30):
            writer.append(xr.Dataset({"x": (("sample", "cell"), x)}))
    code = """
folder = Path(sys.argv[1])
explain(Explanation("lrp.z", last=int(sys.argv[2])), folder, folder / "out", "ab", Serial())
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
"""
    few, many = (int(in_new_python(code, str(tmp_path), n).stdout) for n in ("100000", "300000"))
    assert many - few < 60 * 1024  # KiB; the samples between are 400 MB, and their attributions as much


# --------------------------------------------------------------------------- status of all blocks


@st.composite
def sums_of_a_call(draw) -> tuple[status.Sums, list[int]]:
    """Return sums of any kind with amounts not near 0, and where to cut them."""
    n = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    amount = rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 2, n)
    gap = amount * rng.choice([0, 1e-4, 5e-3, 0.5], n)
    gap[rng.random(n) < draw(st.sampled_from([0, 0.1]))] = np.nan
    magnitude = np.abs(amount) * rng.choice([1, draw(st.sampled_from([1, 1e6]))], n)
    promised = draw(st.booleans())
    cuts = sorted(draw(st.sets(st.integers(1, n), max_size=4)) - {n})
    return status.Sums(gap if promised else None, amount, magnitude), cuts


@settings(max_examples=200, deadline=None)
@given(sums_of_a_call())
def test_merged_reports_are_those_of_one_call(case):
    sums, cuts = case
    edges = [0, *cuts, len(sums.amount)]
    tallies = []
    for a, b in pairwise(edges):
        part = status.Sums(None if sums.gap is None else sums.gap[a:b], sums.amount[a:b], sums.magnitude[a:b])
        tally = status.Tally.of(part, status.flags(part))
        tallies.append(status.Tally.from_json(json.loads(json.dumps(tally.to_json(), allow_nan=False))))
    whole = status.Tally.of(sums, status.flags(sums))
    merged = status.Tally.merged(tallies)
    identity = {"dtype": "float32", "engine": "native", "parameters": {}}
    assert status.report(merged, identity) == status.report(whole, identity)
    assert merged == whole or np.isnan([merged.magnitude, merged.largest]).any()


def test_merged_sensitivity_is_the_largest_that_was_measured():
    def tally(sensitivity: float | None) -> status.Tally:
        return status.Tally(1, 1, 0, 0, promised=True, largest=1.0, sensitivity=sensitivity)

    assert status.Tally.merged([tally(1e-6), tally(float("nan")), tally(1e-3)]).sensitivity == 1e-3
    assert status.Tally.merged([tally(None), tally(None)]).sensitivity is None
    reason = status.report(status.Tally.merged([tally(1e-6), tally(1e-3)]), {"dtype": "float32"})["reason"]
    assert reason.startswith(
        "ill-conditioned in float32: the last digit of x changes the attribution by 0.1 %"
    )


# --------------------------------------------------------------------------- a set of baselines in a file


def write_baselines(case, shift: float = 0.0) -> Path:
    values = np.random.default_rng(2).normal(size=(5, 7)).astype(np.float32) + np.float32(shift)
    xr.Dataset({"x": (("sample", "cell"), values)}).to_netcdf(case / "baselines.nc")
    return case / "baselines.nc"


@pytest.mark.parametrize("method", ["shap.deep", "integrated_gradients(steps=8)"])
def test_a_set_of_baselines_is_read_from_a_file(case, method):
    values = read_dataset(write_baselines(case))["x"].values
    found = explained(case, asked(method=method, baselines=Path("baselines.nc")))
    compare(found, at_once(case, method=method, baseline=values))
    compare(explained(case, asked(method=method, baselines="baselines.nc"), Elsewhere()), found, exactly=True)
    assert np.abs(found.attribution - at_once(case, method=method).attribution).max() > 0.1


def test_baselines_that_cannot_be_used_are_refused(case):
    np.save(case / "short.npy", np.zeros((5, 3), np.float32))
    for options, error, reason in (
        ({"method": "shap.deep", "baselines": "none.npy"}, DataError, r"none\.npy"),
        ({"method": "shap.deep", "baselines": "short.npy"}, DataError, r"baseline has shape \(5, 3\)"),
        ({"method": "gradient", "baselines": str(write_baselines(case))}, MethodError, "uses no baseline"),
    ):
        with pytest.raises(error, match=reason):
            explained(case, asked(**options))
    with pytest.raises(DataError, match="has baseline and baselines; give one of them"):
        asked(method="shap.deep", baseline=0.5, baselines="short.npy")


def test_baselines_that_change_meanwhile_are_noticed(case):
    class Changing(Serial):
        def map(self, task, items):
            write_baselines(case, 1.0)
            explanations._explainers.clear()
            return super().map(task, items)

    write_baselines(case)
    with pytest.raises(DataError, match=r"baselines\.nc: changed while it was being explained with"):
        explained(case, asked(method="shap.deep", baselines="baselines.nc"), Changing())


class BaselineSettings(RunConfig):
    """Of a benchmark that explains against a set of baselines."""

    shift: float = setting("train", 0.0, description="added to the baselines")


def test_the_runner_explains_again_by_other_baselines_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    save_model(networks.mlp(n_outputs=1), tmp_path / "made.h5")

    def train(case):
        shutil.copy(tmp_path / "made.h5", case.write("model.h5"))
        write_baselines(case.output, case.config.shift)

    benchmark = Benchmark(
        name="compared",
        title="Two attributions, one against a set of baselines",
        config=BaselineSettings,
        cases=lambda config: {"only": {}},
        generate=lambda case: write_samples(case.output, 20),
        train=train,
        explain=lambda case: [Explanation("shap.deep", baselines="baselines.nc"), Explanation("gradient")],
    )
    folder = tmp_path / "run"
    assert execute(benchmark, BaselineSettings(), folder).failed == []
    assert execute(benchmark, BaselineSettings(), folder).done == []
    shifted = execute(benchmark, BaselineSettings(shift=1.0), folder)
    assert shifted.done == ["only/train", "only/explain/shap.deep"]


def test_explanations_without_baselines_keep_their_hash(case, monkeypatch):
    """Runs of before there were sets of baselines stay current."""
    from xairt.runs import runner

    told = []
    monkeypatch.setattr(runner, "digest", lambda facts: told.append(facts) or INPUTS)
    benchmark = Benchmark(
        name="plain",
        title="One attribution",
        config=RunConfig,
        cases=lambda config: {"only": {}},
        generate=lambda case: write_samples(case.output, 20),
        train=lambda case: save_model(networks.mlp(n_outputs=1), case.write("model.h5")),
        explain=lambda case: [Explanation("gradient")],
    )
    execute(benchmark, RunConfig(), case / "run")
    (explanation,) = [facts["explanation"] for facts in told if "explanation" in facts]
    assert "baselines" not in explanation
