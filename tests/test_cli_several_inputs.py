"""`xairt attribute` on a model of several inputs: one variable of the file for each."""

from __future__ import annotations

import shlex
from pathlib import Path

import networks
import numpy as np
import pytest
import tensorflow as tf
import xarray as xr

import xairt
from xairt import cli

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers


@pytest.fixture(scope="module")
def x() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"sst": rng.normal(size=(6, 3)), "wind": rng.normal(size=(6, 2, 2))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, x) -> Path:
    """A folder with a model of two inputs, samples and baselines."""
    place = tmp_path_factory.mktemp("files")
    sst, wind = tf.keras.Input(3, name="sst"), tf.keras.Input((2, 2), name="wind")
    merged = L.Concatenate()([sst, L.Flatten()(wind)])
    networks.randomised(tf.keras.Model([sst, wind], L.Dense(2)(L.Dense(4, "relu")(merged)))).save(
        place / "model.keras"
    )
    dims = {"sst": ("time", "cell"), "wind": ("time", "height", "component")}
    labelled = xr.Dataset({name: (dims[name], v) for name, v in x.items()} | {"note": 1.0})
    labelled.assign_coords(time=np.arange(6) + 1990).to_netcdf(place / "x.nc")
    labelled.drop_vars("wind").to_netcdf(place / "half.nc")
    np.savez(place / "x.npz", **x)
    np.savez(place / "baseline.npz", sst=x["sst"][0], wind=x["wind"][:1])
    np.save(place / "x.npy", x["sst"])
    return place


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Run `xairt attribute` in an empty folder; `{}` stands for the folder of files."""
    monkeypatch.chdir(tmp_path)

    def execute(line: str) -> tuple[int, str]:
        command = f"attribute {{}}/model.keras {line} -o out.nc".replace("{}", str(folder))
        with pytest.raises(SystemExit, match=r"\d+|None|^$") as stopped:
            cli.main(shlex.split(command))
        return int(stopped.value.code or 0), capsys.readouterr().err

    return execute


@pytest.mark.parametrize("file", ["x.nc", "x.npz"])
@pytest.mark.parametrize(("text", "start"), [("{}/baseline.npz", 0), ("0.5", None)])
def test_file_holds_a_variable_for_each_input(run, folder, x, file, text, start):
    dimension = "time" if file == "x.nc" else "sample"
    method = "integrated_gradients(steps=5)"
    code, _ = run(
        f"{{}}/{file} -m '{method}' -m gradient --baseline {text} --select {dimension}=1:4 --target 1"
    )
    assert code == 0
    with xr.open_dataset("out.nc") as out:
        out.load()
    baseline = 0.5 if start is None else {name: v[0] for name, v in x.items()}
    part = {name: v[1:4] for name, v in x.items()}
    want = xairt.attribute(
        xairt.load_model(folder / "model.keras"), part, [method, "gradient"], target=1, baseline=baseline
    )
    for name in ("attribution_sst", "attribution_wind", "prediction", "status"):
        np.testing.assert_array_equal(out[name], want[name])
    assert out.sizes[dimension] == 3
    if file == "x.nc":
        assert out.attribution_wind.dims == ("method", "time", "height", "component")
        np.testing.assert_array_equal(out.time, [1991, 1992, 1993])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{}/half.nc", "half.nc: has no variable 'wind'"),
        ("{}/x.npy", "x.npy: holds one array, but the model takes 2 inputs (sst, wind): use .nc or .npz"),
        ("{}/x.nc --variable sst", "--variable sst: the model reads one variable for each input (sst, wind)"),
        ("nowhere.nc", "nowhere.nc: no such file"),
        ("{}/x.nc --engine innvestigate", "engine 'innvestigate' takes models of one input"),
    ],
)
def test_mistakes_are_told_in_one_line(run, line, reason, tmp_path):
    code, err = run(f"{line} -m lrp.z")
    assert code == 2
    assert reason in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.nc").exists()
