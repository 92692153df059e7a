"""Files written and read in blocks of samples."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xairt.data import streams
from xairt.data.files import read_dataset, write_dataset
from xairt.data.provenance import sha256_of
from xairt.data.streams import SampleWriter, sample_axis, sample_blocks
from xairt.errors import DataError

ROOT = Path(__file__).parents[1]
N = 11


@pytest.fixture
def dataset() -> xr.Dataset:
    """Maps with land, and variables of every kind, with samples and without."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(N, 4, 5)).astype(np.float32)
    maps[:, 1:3, 2:] = np.nan
    hours = np.datetime64("1999-12-31T18:00:00", "ns") + np.arange(N) * np.timedelta64(6, "h")
    return xr.Dataset(
        {
            "x": (("sample", "lat", "lon"), maps, {"long_name": "anomaly", "units": "K", "mean": None}),
            "y": ("sample", rng.normal(size=N)),
            "status": ("sample", rng.integers(0, 4, N).astype(np.int8), {"flag_values": np.arange(4)}),
            "good": ("sample", rng.random(N) < 0.5),
            "name": ("sample", [f"s{i:0{1 + i % 3}}" for i in range(N)]),
            "since": ("sample", hours - hours[0]),
            "slope": (("lat", "lon"), rng.normal(size=(4, 5))),
        },
        coords={
            "sample": np.arange(100, 100 + N),
            "time": ("sample", hours),
            "lat": np.linspace(-60, 60, 4),
            "lon": np.arange(5) * 72.0,
            "height": 2.0,
        },
        attrs={"identities": {"a": [1, {"b": None}]}, "history": "older"},
    )


def in_blocks(dataset: xr.Dataset, path: Path, sizes: list[int], **options) -> Path:
    with SampleWriter(path, title="T", history="now", **options) as writer:
        start = 0
        for size in sizes:
            writer.append(dataset.isel(sample=slice(start, start + size)))
            start += size
    assert writer.n_samples == start
    return path


def write(path: Path, *blocks: xr.Dataset, stop: BaseException | None = None) -> None:
    with SampleWriter(path, title="T") as writer:
        for block in blocks:
            writer.append(block)
        if stop is not None:
            raise stop


# --------------------------------------------------------------------------- writing


@pytest.mark.parametrize("sizes", [[11], [4, 4, 3], [1] * 11, [2, 9]])
def test_the_file_is_the_one_of_the_whole(tmp_path, dataset, sizes, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    whole = read_dataset(write_dataset(dataset, tmp_path / "whole.nc", title="T", history="now"))
    before = dataset.copy(deep=True)
    blocks = read_dataset(in_blocks(dataset, tmp_path / "blocks.nc", sizes))
    xr.testing.assert_identical(blocks, whole)
    xr.testing.assert_identical(dataset, before)
    assert {n: v.dtype for n, v in blocks.variables.items()} == {
        n: v.dtype for n, v in whole.variables.items()
    }
    assert blocks.attrs["history"] == "older\n1970-01-01T00:16:40Z: now"
    assert sorted(os.listdir(tmp_path)) == ["blocks.nc", "whole.nc"]


def test_the_same_blocks_give_the_same_bytes(tmp_path, dataset, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    first, second = (in_blocks(dataset, tmp_path / f"{i}.nc", [4, 4, 3]) for i in "ab")
    assert sha256_of(first) == sha256_of(second)


def test_attributes_may_change_until_the_end(tmp_path, dataset):
    with SampleWriter(tmp_path / "a.nc", title="T") as writer:
        writer.attrs["seed"] = 3
        writer.append(dataset)
        assert writer.attrs["identities"] == {"a": [1, {"b": None}]}
        writer.attrs["worst"] = {"gap": 0.5}
        del writer.attrs["identities"]
    back = read_dataset(tmp_path / "a.nc").attrs
    assert back["seed"] == 3
    assert json.loads(back["worst"]) == {"gap": 0.5}
    assert "identities" not in back


def test_samples_are_unlimited_and_in_chunks(tmp_path):
    x = np.zeros((3000, 500), np.float32)
    block = xr.Dataset({"x": (("run", "cell"), x), "y": ("run", x[:, 0])})
    with SampleWriter(tmp_path / "a.nc", title="T", dim="run") as writer:
        writer.append(block)
    with xr.open_dataset(tmp_path / "a.nc") as opened:
        assert opened.encoding["unlimited_dims"] == {"run"}
        assert opened.x.encoding["chunksizes"] == (512, 500)
        assert opened.y.encoding["chunksizes"] == (3000,)


def test_only_what_shrinks_is_compressed(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 10, 20)).astype(np.float32)
    land = np.where(np.arange(20) < 14, np.nan, x).astype(np.float32)
    dims = ("sample", "lat", "lon")
    block = xr.Dataset({"x": (dims, x), "land": (dims, land), "flag": ("sample", np.zeros(200, np.int8))})
    for compress in (True, False):
        path = tmp_path / f"{compress}.nc"
        with SampleWriter(path, title="T", compress=compress) as writer:
            writer.append(block)
        with xr.open_dataset(path) as opened:
            stored = {name: opened[name].encoding["zlib"] for name in block}
        assert stored == {"x": False, "land": compress, "flag": compress}
        xr.testing.assert_equal(read_dataset(path), block)


def changed(dataset: xr.Dataset, how: str) -> xr.Dataset:
    """Return a block that does not go with the others."""
    return {
        "less": lambda: dataset.drop_vars("y"),
        "more": lambda: dataset.assign(z=dataset.y),
        "type": lambda: dataset.assign(y=dataset.y.astype("float32")),
        "length": lambda: dataset.isel(lat=slice(0, 3)),
        "turned": lambda: dataset.transpose("sample", "lon", "lat"),
        "constant": lambda: dataset.assign(slope=dataset.slope + 1),
        "coordinate": lambda: dataset.assign_coords(lat=dataset.lat + 1),
        "empty": lambda: dataset.isel(sample=slice(0, 0)),
        "without": lambda: dataset.isel(sample=0),
    }[how]()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("less", r"at sample 11 has for 'y' no such variable, the first block float64 \(sample\)"),
        ("more", r"has for 'z' float64 \(sample\), the first block no such variable"),
        ("type", r"has for 'y' float32 \(sample\), the first block float64"),
        ("length", r"has for 'x' float32 \(sample, lat=3, lon=5\), the first block float32 \(sample, lat=4"),
        ("turned", r"has for 'x' float32 \(sample, lon=5, lat=4\)"),
        ("constant", "has other values of 'slope' than the first"),
        ("coordinate", "has other values of 'lat' than the first"),
        ("empty", "a block without samples"),
        ("without", "a block without samples"),
    ],
)
def test_a_block_unlike_the_first_is_refused(tmp_path, dataset, how, reason):
    with pytest.raises(DataError, match=reason) as told:
        write(tmp_path / "a.nc", dataset, changed(dataset, how))
    assert "\n" not in str(told.value)
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_written_in_blocks_is_refused(tmp_path, dataset):
    cases = {
        "'sample' is not its first dimension": dataset.transpose("lat", "sample", "lon"),
        "values of object cannot be written in blocks": dataset.assign(name=("sample", [None] * N)),
        "values of complex128 cannot": dataset.assign(y=dataset.y + 1j),
    }
    for reason, block in cases.items():
        with pytest.raises(DataError, match=reason):
            write(tmp_path / "a.nc", block)
    with pytest.raises(DataError, match="no block was appended"):
        write(tmp_path / "a.nc")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("first", [0, 1])
def test_times_finer_than_the_units_are_refused_and_not_rounded(tmp_path, first):
    times = np.datetime64("2000-01-01", "ns") + np.array([0, 1, 1500], "timedelta64[ms]")
    block = xr.Dataset({"y": ("sample", np.zeros(3))}, {"time": ("sample", times)})
    with pytest.raises(DataError, match="time does not fit the units 'seconds since 1970-01-01'; round it"):
        in_blocks(block.isel(sample=slice(first, None)), tmp_path / "a.nc", [1, 2 - first])
    block.time.encoding["units"] = "milliseconds since 2000-01-01"
    path = in_blocks(block, tmp_path / "a.nc", [1, 2])
    np.testing.assert_array_equal(read_dataset(path).time, times)


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "standard"])
def test_dates_of_any_calendar_are_written_in_blocks(tmp_path, calendar):
    dates = xr.date_range("2000-01-01", periods=40, freq="MS", calendar=calendar, use_cftime=True)
    block = xr.Dataset({"y": ("sample", np.arange(40.0))}, {"time": ("sample", dates)})
    first = read_dataset(in_blocks(block, tmp_path / "a.nc", [7, 33]))
    assert first["time"].dt.calendar == ("proleptic_gregorian" if calendar == "standard" else calendar)
    written = [(d.year, d.month, d.day) for d in first["time"].to_index()]
    assert written == [(d.year, d.month, d.day) for d in dates]
    again = read_dataset(in_blocks(first, tmp_path / "b.nc", [20, 20]))
    np.testing.assert_array_equal(again["time"], first["time"])


def test_days_since_a_midnight_are_units_that_dates_fit(tmp_path):
    block = xr.Dataset(
        {"y": ("sample", np.zeros(3))},
        {"time": ("sample", np.arange(3).astype("datetime64[D]").astype("datetime64[ns]"))},
    )
    block.time.encoding["units"] = "days since 1970-01-01 00:00:00"
    np.testing.assert_array_equal(read_dataset(in_blocks(block, tmp_path / "a.nc", [1, 2])).time, block.time)


# --------------------------------------------------------------------------- interruptions


def test_an_exception_leaves_what_was_there(tmp_path, dataset):
    path = tmp_path / "a.nc"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt, match="stop"):
        write(path, dataset, stop=KeyboardInterrupt("stop"))
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.nc"]


HEAD = """
import os, resource, signal, sys
import numpy as np, xarray as xr
from xairt.data.streams import SampleWriter
def high_water_mark():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
block = xr.Dataset({"x": (("sample", "cell"), np.random.default_rng(0).normal(size=(1000, 500)))})
"""


def in_new_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HEAD + code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_killed_writer_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.nc"
    path.write_text("before")
    code = """
with SampleWriter(sys.argv[1], title="T") as writer:
    writer.append(block)
    writer.append(block)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert in_new_python(code, str(path)).returncode == -signal.SIGKILL
    assert path.read_text() == "before"


def test_a_full_disk_is_told_in_one_line(tmp_path):
    code = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
with SampleWriter(sys.argv[1], title="T") as writer:
    for _ in range(5):
        writer.append(block)
"""
    done = in_new_python(code, str(tmp_path / "a.nc"))
    assert done.returncode == 1
    assert "DataError" in done.stderr.splitlines()[-1]
    assert "check the place and its free space" in done.stderr.splitlines()[-1]
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    code = """
with SampleWriter(sys.argv[1], title="T") as writer:
    for _ in range(int(sys.argv[2])):
        writer.append(block)
print(high_water_mark())
"""
    few, many = (int(in_new_python(code, str(tmp_path / "a.nc"), n).stdout) for n in ("10", "200"))
    assert many - few < 20 * 1024  # KiB; the blocks between are 760 MB


# --------------------------------------------------------------------------- reading


def test_blocks_are_the_slices_of_the_whole(tmp_path, dataset):
    path = in_blocks(dataset, tmp_path / "a.nc", [4, 4, 3])
    whole = read_dataset(path)
    assert sample_axis(path, "x") == ("sample", N)
    assert sample_axis(path, "time") == ("sample", N)
    for name in ("x", "y", "name", "time"):
        blocks = list(sample_blocks(path, name, 2, 10, 3))
        assert [len(block) for block in blocks] == [3, 3, 2]
        xr.testing.assert_identical(xr.concat(blocks, "sample"), whole[name][2:10])
    assert sum(len(block) for block in sample_blocks(path, "y")) == N


@pytest.mark.parametrize(
    ("variable", "first", "last", "reason"),
    [
        ("y", 0, 12, "y has 11 samples, and the range is 0 to 12"),
        ("y", 3, 3, "the range is 3 to 3"),
        ("y", -1, None, "the range is -1 to 11"),
        ("height", 0, None, "height is a single number"),
        ("yy", 0, None, "has no variable 'yy'"),
        (None, 0, None, "holds 7 variables"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, dataset, variable, first, last, reason):
    path = in_blocks(dataset, tmp_path / "a.nc", [11])
    with pytest.raises(DataError, match=reason):
        next(sample_blocks(path, variable, first, last))


def test_a_damaged_file_is_refused(tmp_path, dataset):
    path = in_blocks(dataset, tmp_path / "a.nc", [11])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="damaged or not a netCDF file"):
        sample_axis(path, "x")
    with pytest.raises(DataError, match="no such file"):
        next(sample_blocks(tmp_path / "b.nc", "x"))


def test_shrinking_is_judged_by_the_first_samples():
    rng = np.random.default_rng(0)
    assert not streams._shrinks(rng.normal(size=(1000, 400)).astype(np.float32))
    assert streams._shrinks(np.zeros((10, 3)))


def test_blocks_of_no_sample_and_types_that_netcdf_lacks_are_refused(tmp_path):
    path = tmp_path / "x.nc"
    with SampleWriter(path, title="x") as writer:
        writer.append(xr.Dataset({"x": ("sample", np.zeros(3))}))
    for size in (0, -5):
        with pytest.raises(DataError, match=f"size={size}: a block holds 1 sample at least"):
            list(sample_blocks(path, size=size))
    coarse = xr.Dataset({"x": ("sample", np.zeros(3, np.float16))})
    told = "x: values of float16 cannot be written in blocks"
    with pytest.raises(DataError, match=told), SampleWriter(path, title="x") as writer:
        writer.append(coarse)
