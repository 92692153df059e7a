"""Registry, downloads, files and provenance."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xairt.data import registry
from xairt.data.files import atomic_write, read_array, read_dataset, write_dataset
from xairt.data.provenance import provenance, sha256_of, utc_time
from xairt.errors import DataError

CONTENT = bytes(range(256)) * 40
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Site(BaseHTTPRequestHandler):
    """Serves one file whole, broken off or not at all, and counts the requests."""

    requests: list[str]

    def do_GET(self):
        self.requests.append(self.path)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        end = len(CONTENT) // 2 if self.path.startswith("/broken") else len(CONTENT)
        self.wfile.write(CONTENT[:end])

    def log_message(self, format, *args):
        """Keep the test output clean."""


@pytest.fixture
def site():
    handler = type("Handler", (_Site,), {"requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    server.requests = handler.requests
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("XAIRT_CACHE_DIR", str(folder))
    monkeypatch.delenv("XAIRT_DATA_DIR", raising=False)
    return folder


@pytest.fixture
def add_entry(monkeypatch):
    def add(url, sha256=SHA256, size=SIZE):
        entry = registry.Entry("thing", url, "thing.bin", sha256, size, "MIT", "nobody", "a test file")
        monkeypatch.setattr(registry, "_TABLE", (entry,))
        return entry

    return add


def test_table_is_consistent():
    names = [entry.name for entry in registry.entries()]
    assert len(set(names)) == len(names)
    assert len({entry.filename for entry in registry.entries()}) == len(names)
    assert {"mamalakis2022-sst", "mamalakis2022-samples", "krell2025-cobe-correlation"} <= set(names)
    for entry in registry.entries():
        assert entry.url.startswith("https://")
        assert entry.licence
        assert entry.citation
        assert (entry.sha256 is None) == (entry.size is None)
        if entry.sha256 is not None:
            assert len(bytes.fromhex(entry.sha256)) == 32


def test_download_then_offline(site, cache, add_entry):
    add_entry(f"{site.address}/good")
    found = registry.fetch("thing")
    assert found == cache / "thing.bin"
    assert found.read_bytes() == CONTENT
    site.shutdown()
    assert registry.path("thing", download=False) == found
    assert site.requests == ["/good"]
    assert [file.name for file in cache.iterdir()] == ["thing.bin"]


@pytest.mark.parametrize(
    ("page", "sha256", "size", "reason"),
    [
        ("good", "0" * 64, len(CONTENT), f"got SHA-256 {SHA256} instead of 0000"),
        ("good", SHA256, 5, "got 10240 bytes instead of 5"),
        ("missing", SHA256, len(CONTENT), "404 Not Found"),
        ("broken", SHA256, len(CONTENT), "broke off before the end"),
        ("broken", None, None, "broke off before the end"),
    ],
)
def test_failed_download_is_one_line_and_leaves_nothing(site, cache, add_entry, page, sha256, size, reason):
    entry = add_entry(f"{site.address}/{page}", sha256, size)
    with pytest.raises(DataError, match=reason) as caught:
        registry.path("thing")
    message = str(caught.value)
    assert "\n" not in message
    assert entry.url in message
    assert "download it by hand, put it into a folder and set XAIRT_DATA_DIR" in message
    assert list(cache.iterdir()) == []


def test_progress_bar_names_the_file_on_a_terminal(site, cache, add_entry, monkeypatch, capsys):
    add_entry(f"{site.address}/good")
    registry.fetch("thing", progress=True)
    assert capsys.readouterr().err == ""
    (cache / "thing.bin").unlink()
    monkeypatch.setenv("FORCE_COLOR", "1")
    registry.fetch("thing", progress=True)
    assert "thing.bin" in capsys.readouterr().err


def test_no_server_is_one_line(site, cache, add_entry):
    add_entry(f"{site.address}/good")
    site.shutdown()
    site.server_close()
    with pytest.raises(DataError, match="failed: no connection to the server; download it by hand"):
        registry.path("thing")


def test_download_false_says_how_to_fetch(cache, add_entry):
    add_entry("https://example.org/thing")
    with pytest.raises(DataError, match="not on this machine; fetch it with `xairt data fetch thing`"):
        registry.path("thing", download=False)


def test_damaged_cache_file_is_fetched_again(site, cache, add_entry):
    add_entry(f"{site.address}/good")
    cached = registry.path("thing")
    cached.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DataError, match="not on this machine"):
        registry.path("thing", download=False)
    assert registry.path("thing").read_bytes() == CONTENT
    assert len(site.requests) == 2


def test_unknown_hash_is_recorded_and_verified(site, cache, add_entry):
    add_entry(f"{site.address}/good", sha256=None, size=None)
    cached = registry.path("thing")
    record = json.loads((cache / "thing.bin.sha256.json").read_text())
    assert (record["sha256"], record["size"]) == (SHA256, len(CONTENT))
    assert registry.path("thing") == cached
    assert len(site.requests) == 1
    cached.write_bytes(b"damaged")
    assert registry.path("thing").read_bytes() == CONTENT
    assert len(site.requests) == 2


def test_changed_upstream_does_not_replace_recorded_hash(site, cache, add_entry):
    add_entry(f"{site.address}/good", sha256=None, size=None)
    cached = registry.path("thing")
    record = cache / "thing.bin.sha256.json"
    record.write_text(json.dumps({"sha256": "1" * 64}))
    with pytest.raises(DataError, match="instead of 1111"):
        registry.path("thing")
    assert cached.read_bytes() == CONTENT
    record.write_text("{")
    with pytest.raises(DataError, match="not a hash record; delete it"):
        registry.path("thing")


@pytest.mark.parametrize("indexed", [True, False])
def test_data_dir_is_searched_by_hash(tmp_path, monkeypatch, cache, add_entry, indexed):
    add_entry("https://example.org/thing")
    folder = tmp_path / "archive"
    (folder / "deep").mkdir(parents=True)
    (folder / "a_decoy.bin").write_bytes(CONTENT[::-1])
    (folder / "deep" / "other name.dat").write_bytes(CONTENT)
    if indexed:
        (folder / "SHA256SUMS").write_text(
            f"{'0' * 64}  ./x\n{SHA256}  ./gone\n{SHA256}  ./deep/other name.dat\n"
        )
    monkeypatch.setenv("XAIRT_DATA_DIR", str(folder))
    assert registry.path("thing", download=False) == folder / "deep" / "other name.dat"


def test_index_is_not_believed(tmp_path, monkeypatch, cache, add_entry):
    add_entry("https://example.org/thing")
    (tmp_path / "SHA256SUMS").write_text(f"{SHA256}  liar\n")
    (tmp_path / "liar").write_bytes(CONTENT[::-1])
    monkeypatch.setenv("XAIRT_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="thing: not on this machine"):
        registry.path("thing", download=False)


def test_unknown_hash_is_found_by_name_in_data_dir(tmp_path, monkeypatch, cache, add_entry):
    add_entry("https://example.org/thing", sha256=None, size=None)
    (tmp_path / "thing.bin").write_bytes(CONTENT)
    monkeypatch.setenv("XAIRT_DATA_DIR", str(tmp_path))
    assert registry.path("thing", download=False) == tmp_path / "thing.bin"


def test_data_dir_must_exist(tmp_path, monkeypatch, cache, add_entry):
    add_entry("https://example.org/thing")
    monkeypatch.setenv("XAIRT_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no such folder; correct or unset it"):
        registry.path("thing", download=False)


def test_resolve_path_name_and_url(site, cache, add_entry, tmp_path):
    add_entry(f"{site.address}/good")
    file = tmp_path / "model.h5"
    file.write_bytes(b"x")
    assert registry.resolve(str(file)) == file
    assert registry.resolve(tmp_path) == tmp_path
    assert registry.resolve("thing") == cache / "thing.bin"
    url = f"{site.address}/some%20model.h5?raw=true"
    first = registry.resolve(url)
    assert first.name.endswith("-some_model.h5")
    assert first.read_bytes() == CONTENT
    assert registry.resolve(url) == first
    assert len(site.requests) == 2
    with pytest.raises(DataError, match=r"404 Not Found; download it by hand and give its path"):
        registry.resolve(f"{site.address}/missing.h5")


def test_resolve_unknown_names_the_remedy():
    wanted = "sts: neither a file nor a known name; did you mean 'mamalakis2022-sst'; see `xairt data list`$"
    with pytest.raises(DataError, match=wanted):
        registry.resolve("mamalakis2022-sts")
    with pytest.raises(
        DataError, match=r"^gone\.h5: neither a file nor a known name; see `xairt data list`$"
    ):
        registry.resolve("gone.h5")
    with pytest.raises(DataError, match=r"krell: not a registered name; see `xairt data list`"):
        registry.path("krell")


def test_cache_dir_default_is_the_platforms(monkeypatch):
    monkeypatch.delenv("XAIRT_CACHE_DIR", raising=False)
    assert registry.cache_dir().name == "xairt"


def test_archive_folder_serves_registered_files(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("XAIRT_CACHE_DIR", str(tmp_path))
    for name in ("mamalakis2022-sst", "krell2025-cobe-correlation", "ams2019-storm-cnn"):
        entry = next(entry for entry in registry.entries() if entry.name == name)
        assert sha256_of(registry.path(name, download=False)) == entry.sha256
    covariance = read_array(registry.path("krell2025-cobe-correlation"), "covariance")
    assert covariance.shape == (460, 460)


def _write_half(target):
    with atomic_write(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")


def _make_half_a_folder(target):
    with atomic_write(target) as temporary:
        (temporary / "deep").mkdir(parents=True)
        raise RuntimeError("stop")


def test_atomic_write_replaces_or_leaves(tmp_path):
    target = tmp_path / "new" / "a.txt"
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("one")
        assert not target.exists()
    with pytest.raises(RuntimeError, match="stop"):
        _write_half(target)
    assert target.read_text() == "one"
    with pytest.raises(DataError, match="nothing was written"), atomic_write(target):
        pass
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(target):
        Path("/elsewhere/x").read_text()
    assert [file.name for file in target.parent.iterdir()] == ["a.txt"]
    with pytest.raises(DataError, match="its folder cannot be made"), atomic_write(target / "b"):
        pass


def test_atomic_write_of_a_folder(tmp_path):
    with atomic_write(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("x")
    assert (tmp_path / "model" / "part").read_text() == "x"
    with pytest.raises(RuntimeError, match="stop"):
        _make_half_a_folder(tmp_path / "model")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_file_that_cannot_be_created_is_one_line(tmp_path):
    with (
        pytest.raises(DataError, match="cannot be written"),
        atomic_write(tmp_path / ("x" * 300)) as temporary,
    ):
        temporary.write_text("x")


@pytest.fixture
def dataset():
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    values[:, 0, 0] = np.nan
    dims = ("method", "lat", "lon")
    attribution = xr.DataArray(
        values, dims=dims, attrs={"identity": {"rule": "z", "eps": np.float32(0.5)}, "n": None}
    )
    coords = {"method": ["lrp.z", "gradient"], "lat": [5.0, -5.0], "lon": [0.0, 10.0, 20.0]}
    attrs = {"flags": [True, False], "levels": [1, 2], "words": ["a", "b"], "nested": [[1], [2]], "ok": True}
    return xr.Dataset({"attribution": attribution, "count": ("method", [1, 2])}, coords, attrs)


def test_dataset_round_trip(tmp_path, dataset):
    before = dataset.copy(deep=True)
    written = write_dataset(dataset, tmp_path / "a.nc", title="Relevance", history="xairt attribute x")
    back = read_dataset(written)
    xr.testing.assert_equal(back, dataset)
    xr.testing.assert_identical(dataset, before)
    assert back.attribution.dtype == np.float32
    assert back.method.values.tolist() == ["lrp.z", "gradient"]
    assert back.lat.attrs["standard_name"] == "latitude"
    assert back.lon.attrs["units"] == "degrees_east"
    assert json.loads(back.attribution.attrs["identity"]) == {"rule": "z", "eps": 0.5}
    assert back.attribution.attrs["n"] == "null"
    assert json.loads(back.attrs["flags"]) == [True, False]
    assert json.loads(back.attrs["nested"]) == [[1], [2]]
    assert back.attrs["ok"] == "true"
    assert back.attrs["words"] == ["a", "b"]
    assert back.attrs["levels"].tolist() == [1, 2]


def test_dataset_attributes_are_cf(tmp_path, dataset, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    write_dataset(dataset.assign_attrs(history="older"), tmp_path / "a.nc", title="T", history="now")
    back = read_dataset(tmp_path / "a.nc")
    assert back.attrs["Conventions"] == "CF-1.10"
    assert back.attrs["title"] == "T"
    assert back.attrs["history"] == "older\n1970-01-01T00:00:00Z: now"
    assert back.attrs["source"].startswith("xairt ")
    assert json.loads(back.attrs["provenance"])["time"] == "1970-01-01T00:00:00Z"
    assert "_FillValue" not in back.lat.encoding
    assert back.attribution.encoding["zlib"]


def test_packed_source_is_not_written_packed(tmp_path):
    packed = xr.Dataset({"a": ("x", [0.1, 0.2])})
    packed.to_netcdf(
        tmp_path / "p.nc", encoding={"a": {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -1}}
    )
    unpacked = read_dataset(tmp_path / "p.nc") * 1.2345
    unpacked["a"].encoding = {"dtype": np.dtype("int16"), "scale_factor": 0.1}
    write_dataset(unpacked, tmp_path / "q.nc", title="T")
    np.testing.assert_array_equal(read_dataset(tmp_path / "q.nc").a, unpacked.a)


def test_same_dataset_gives_the_same_file(tmp_path, dataset, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    first = write_dataset(dataset, tmp_path / "a.nc", title="T")
    second = write_dataset(dataset, tmp_path / "b.nc", title="T")
    assert sha256_of(first) == sha256_of(second)


def test_read_array_of_each_kind(tmp_path, dataset):
    write_dataset(dataset, tmp_path / "a.nc", title="T")
    array = read_array(tmp_path / "a.nc", "attribution", select={"lat": slice(1, 2), "method": 0})
    xr.testing.assert_equal(array, dataset.attribution.isel(lat=slice(1, 2), method=0))
    np.savez(tmp_path / "one.npz", x=np.eye(3))
    assert read_array(tmp_path / "one.npz").dims == ("sample", "dim_1")
    np.save(tmp_path / "b.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    part = read_array(tmp_path / "b.npy", select={"sample": slice(0, 2)})
    assert part.dtype == np.float32
    np.testing.assert_array_equal(part, [[0, 1], [2, 3]])
    assert part.values.flags.writeable


def test_bounds_do_not_count_as_variables(tmp_path):
    data = xr.Dataset(
        {"sst": ("time", [1.0, 2.0]), "time_bnds": (("time", "b"), np.zeros((2, 2)))},
        {"time": ("time", [0.0, 1.0], {"bounds": "time_bnds"})},
    )
    data.to_netcdf(tmp_path / "a.nc")
    assert read_array(tmp_path / "a.nc").name == "sst"


def test_reading_errors_are_one_line(tmp_path, dataset):
    file = write_dataset(dataset, tmp_path / "a.nc", title="T")
    np.savez(tmp_path / "many.npz", x=np.eye(3), y=np.eye(2))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object))
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.nc").write_bytes(file.read_bytes()[:3000])
    (tmp_path / "cut.npz").write_bytes((tmp_path / "many.npz").read_bytes()[:200])
    np.save(tmp_path / "whole.npy", np.arange(100.0))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:300])
    (tmp_path / "text.txt").write_text("x")
    cases = [
        ("a.nc", None, r"holds 2 variables \(attribution, count\); choose one with variable="),
        ("a.nc", "atribution", "no variable 'atribution'; did you mean 'attribution'"),
        ("many.npz", None, r"holds 2 variables \(x, y\)"),
        ("pickled.npz", None, "pickled Python objects"),
        ("pickled.npy", None, "pickled Python objects"),
        ("cut.nc", "count", "damaged or not a netCDF file"),
        ("cut.npz", "x", "damaged or not a .npz file"),
        ("cut.npy", None, "damaged or not a .npy file"),
        ("text.txt", None, "unknown kind of file '.txt'; use .nc, .npz or .npy"),
        ("gone.nc", None, "no such file"),
        (".", None, "is a folder"),
    ]
    for name, variable, reason in cases:
        with pytest.raises(DataError, match=reason) as caught:
            read_array(tmp_path / name, variable)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no dimension 'time' to select from; it has method"):
        read_array(file, "count", select={"time": 0})
    with pytest.raises(DataError, match="method has 2 entries, not one at 2"):
        read_array(file, "count", select={"method": 2})
    with pytest.raises(DataError, match="damaged or not a netCDF file"):
        read_dataset(tmp_path / "cut.nc")


def test_real_netcdf_keeps_its_calendar(data_dir, tmp_path):
    source = next(data_dir.rglob("ersstv5_anom_detrended_5deg*.nc"))
    array = read_array(source, "tos", select={"time": slice(0, 3)})
    assert array.shape == (3, 24, 72)
    write_dataset(array.to_dataset(), tmp_path / "a.nc", title="T")
    xr.testing.assert_equal(read_dataset(tmp_path / "a.nc")["tos"], array)


def test_provenance_and_hash(tmp_path, monkeypatch):
    record = provenance()
    assert record["numpy"] == np.__version__
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    (tmp_path / "x").write_bytes(CONTENT)
    assert sha256_of(tmp_path / "x") == SHA256
    with pytest.raises(DataError, match="cannot be read"):
        sha256_of(tmp_path / "y")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(DataError, match="SOURCE_DATE_EPOCH=soon: no number of seconds"):
        utc_time()


def test_light_modules_stay_light():
    code = (
        "import sys, xairt.data.registry, xairt.data.files, xairt.metrics, xairt.training, xairt.fields\n"
        "assert not {'tensorflow', 'xarray', 'matplotlib', 'cartopy'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
