"""`xairt optimal-input`: the same search as in Python, its result drawn by `xairt map`, and its mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import networks
import numpy as np
import pytest
import xarray as xr

import xairt
from xairt import Grid
from xairt.optimal_input import L1, L2, DistanceFromStart, Laplacian, Mahalanobis, TotalVariation, descent

MASK = np.array([[0, 1, 1, 0], [1, 1, 0, 1], [0, 1, 0, 1]], bool)
GRID = Grid(MASK, [30.0, 0.0, -30.0], [0.0, 90.0, 180.0, 270.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a classifier of seven cells, samples, their classes, a grid and a mask."""
    place = tmp_path_factory.mktemp("files")
    model = networks.mlp(end="softmax")
    model.save(place / "model.keras")
    x = networks.samples(model, 40)
    np.save(place / "x.npy", x)
    np.save(place / "labels.npy", model(x).numpy().argmax(axis=1))
    np.save(place / "mask.npy", np.array([1, 1, 1, 0, 1, 1, 1]))
    GRID.to_dataset().to_netcdf(place / "grid.nc")
    maps = GRID.to_map(xr.DataArray(x, dims=("sample", "cell")))
    label = np.load(place / "labels.npy").astype(np.int8)
    may_change = GRID.to_map(xr.DataArray(np.load(place / "mask.npy"), dims="cell"), fill=0)
    xr.Dataset({"x": maps, "label": ("sample", label), "free": may_change}).to_netcdf(place / "data.nc")
    return place


def written(run, options: str) -> xr.Dataset:
    code, out, err = run(f"optimal-input {{}}/model.keras -o oi.nc {options}")
    assert (code, err) == (0, "")
    assert out.startswith("oi.nc: ")
    with xr.open_dataset("oi.nc") as dataset:
        return dataset.load()


def test_search_then_map(run, folder, tmp_path):
    found = written(
        run, "--target 1 --start random --n-starts 2 --grid {}/grid.nc --iterations 30 --seed 5 --tv 0.01"
    )
    model = xairt.load_model(folder / "model.keras")
    want = xairt.optimal_input(
        model,
        1,
        start="random",
        n_starts=2,
        grid=GRID,
        iterations=30,
        seed=5,
        regularisers=[TotalVariation(0.01)],
    )
    xr.testing.assert_equal(found, want)
    mine, theirs = (json.loads(d.attrs["identities"])["optimal_input"] for d in (found, want))
    assert mine == theirs
    assert "xairt optimal-input" in found.attrs["history"]
    code, text, err = run("map oi.nc -o maps.png --sample 0 --sample 1")
    assert (code, text, err) == (0, "maps.png\n", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["maps.png", "oi.nc"]


def test_all_options_reach_the_search(run, folder):
    found = written(
        run,
        "--target 0 --start {}/x.npy --select sample=0:3 --grid {}/grid.nc --iterations 5 --optimizer adam "
        "--learning-rate 0.05 --l1 0.1 --l2 0.2 --l2-norm 3 --laplacian 0.3 --distance 0.4 --mahalanobis 0.5 "
        "--training {}/x.npy --modes 2 --lower -6 --upper 7 --mask {}/mask.npy --dtype float64 --tolerance 1e-9",
    )
    x = np.load(folder / "x.npy")
    want = xairt.optimal_input(
        xairt.load_model(folder / "model.keras"),
        0,
        start=x[:3],
        grid=GRID,
        iterations=5,
        optimizer="adam",
        learning_rate=0.05,
        regularisers=[
            *(L1(0.1), L2(0.2, norm=3.0), Laplacian(0.3), DistanceFromStart(0.4)),
            Mahalanobis(0.5, samples=x, modes=2),
        ],
        bounds=(-6.0, 7.0),
        mask=[1, 1, 1, 0, 1, 1, 1],
        dtype="float64",
        tolerance=1e-9,
    )
    np.testing.assert_allclose(found.optimal_input, want.optimal_input, rtol=1e-12)
    assert json.loads(found.attrs["identities"])["optimal_input"]["tolerance"] == 1e-9


def test_start_at_the_mean_of_correct_samples(run, folder):
    target = int(np.bincount(np.load(folder / "labels.npy")).argmax())
    found = written(run, f"--target {target} --start {{}}/x.npy --labels {{}}/labels.npy --iterations 1")
    chosen = np.load(folder / "x.npy")[np.load(folder / "labels.npy") == target]
    np.testing.assert_allclose(found.starting_input[0], chosen.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_options_take_variables_of_a_file_of_several(run, folder):
    target = int(np.bincount(np.load(folder / "labels.npy")).argmax())
    found = written(
        run,
        f"--target {target} --start {{}}/data.nc --variable x --labels {{}}/data.nc:label --mahalanobis 0.1 "
        "--training {}/data.nc:x --modes 2 --mask {}/data.nc:free --grid {}/grid.nc --iterations 3",
    )
    x, labels = np.load(folder / "x.npy"), np.load(folder / "labels.npy")
    want = xairt.optimal_input(
        xairt.load_model(folder / "model.keras"),
        target,
        start=x[labels == target].mean(axis=0, dtype=np.float64).astype(np.float32),
        mask=np.load(folder / "mask.npy"),
        regularisers=[Mahalanobis(0.1, samples=x, modes=2)],
        iterations=3,
    )
    np.testing.assert_allclose(
        GRID.to_vector(found.optimal_input.values), want.optimal_input, rtol=1e-5, atol=1e-6
    )


def test_a_file_with_a_colon_in_its_name_wins(run, folder, tmp_path):
    np.save(tmp_path / "mask:1.npy", np.load(folder / "mask.npy"))
    found = written(run, "--target 1 --start random --mask mask:1.npy --iterations 3")
    changed = (found.optimal_input != found.starting_input).values[0]
    np.testing.assert_array_equal(changed, np.load(folder / "mask.npy") == 1)


def test_the_output_does_not_replace_a_file_that_an_option_reads(run, folder, tmp_path):
    data = tmp_path / "data.nc"
    data.write_bytes((folder / "data.nc").read_bytes())
    code, _, err = run("optimal-input {}/model.keras --target 1 --mask data.nc:free -o data.nc")
    assert (code, err.count("is an input of this command")) == (2, 1)
    assert data.read_bytes() == (folder / "data.nc").read_bytes()


def test_a_start_for_each_target_and_value(run):
    assert written(run, "--target 0 --target 2 --iterations 2").sizes["start"] == 2
    values = written(
        run, "--target 1 --loss squared_error --value 1 --value 2 --learning-rate 0.01 --iterations 2"
    )
    assert values.sizes["start"] == 2


def test_interruption_leaves_no_file(run, monkeypatch, tmp_path):
    record = descent._Descent._record

    def interrupted(self, iteration):
        if iteration:
            raise KeyboardInterrupt
        return record(self, iteration)

    monkeypatch.setattr(descent._Descent, "_record", interrupted)
    code, out, _ = run("optimal-input {}/model.keras --target 1 -o oi.nc")
    assert (code, out) == (130, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-o oi.nc", "has 3 outputs: give target="),
        ("--target 1 -o oi.png", "name it *.nc"),
        ("--target 1 --tv 1 -o oi.nc", "TotalVariation needs the places"),
        ("--target 1 --l2-norm 1 -o oi.nc", "--l2-norm goes with --l2 WEIGHT"),
        ("--target 1 --mahalanobis 1 -o oi.nc", "--training FILE (and --modes) go together"),
        ("--target 1 --modes 1 -o oi.nc", "--training FILE (and --modes) go together"),
        ("--target 1 --labels {}/labels.npy -o oi.nc", "give --start FILE"),
        ("--start {}/x.npy --labels {}/labels.npy -o oi.nc", "give the one class with --target"),
        ("--target 1 --start nowhere.nc -o oi.nc", "nowhere.nc"),
        ("--target 1 --tv 1 -o oi.nc", "(--grid FILE)"),
        ("--target 1 --mask {}/data.nc -o oi.nc", "choose one with --mask {}/data.nc:VARIABLE"),
        (
            "--target 1 --start {}/x.npy --labels {}/data.nc -o oi.nc",
            "(x, label, free); choose one with --labels {}/data.nc:VARIABLE",
        ),
        ("--target 1 --mahalanobis 1 --training {}/data.nc -o oi.nc", "with --training {}/data.nc:VARIABLE"),
        ("--target 1 --mask {}/data.nc:fre -o oi.nc", "has no variable 'fre'; did you mean 'free'"),
        ("--target 1 --mask nowhere.nc:free -o oi.nc", "nowhere.nc: no such file"),
        ("--target 1 --iterations 0 -o oi.nc", "--iterations"),
        ("--target 1 --l1 -1 -o oi.nc", "--l1"),
    ],
)
def test_mistakes_end_with_one_line(run, folder, options, message):
    code, out, err = run(f"optimal-input {{}}/model.keras {options}")
    assert (code, out) == (2, "")
    assert message.replace("{}", str(folder)) in err
    assert err.count("\n") == 1
