"""Groups of features: how they are read, identified, and laid over maps."""

from __future__ import annotations

import json
import shlex

import networks
import numpy as np
import pytest
import tensorflow as tf
import xarray as xr

from xairt import Grid, attribute, cli, explainer
from xairt.attribution.groups import read_groups
from xairt.attribution.registry import resolve
from xairt.errors import DataError, MethodError

pytestmark = pytest.mark.usefixtures("run_eagerly")

MASK = np.array([[0, 1, 1], [1, 1, 0], [0, 1, 1]], bool)  # 6 valid cells
LAT, LON = np.array([30.0, 0.0, -30.0]), np.array([0.0, 120.0, 240.0])
MAP = np.array([[9, 4, 4], [4, 2, 9], [9, 2, 2]])
VECTOR = np.array([4, 4, 4, 2, 2, 2])


@pytest.fixture(scope="module")
def model() -> tf.keras.Model:
    return networks.mlp(6)


@pytest.fixture(scope="module")
def x(model) -> np.ndarray:
    return networks.samples(model, 2)


def test_labels_are_numbered_in_ascending_order():
    groups = read_groups(np.array([[30, -7], [30, 5]], np.int64))
    np.testing.assert_array_equal(groups.index((2, 2)), [2, 0, 2, 1])
    assert (groups.shape, groups.count) == ((2, 2), 3)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1.0, 2.0], "parameter 'groups' = .*: not integers: give one integer label per feature"),
        ([0.5, np.nan], "not integers"),
        ([np.nan, np.nan], "not integers"),
        ([True, False], "not integers"),
        (["a", "b"], "not integers"),
        ([[1], [2, 3]], "no array of numbers: give rows of equal length"),
        (np.zeros(0, int), "no labels: give one integer per feature"),
        ("nowhere.npy", "no such file; check the path"),
    ],
)
def test_what_is_no_groups_is_refused(value, reason):
    with pytest.raises(MethodError, match=f"^feature_ablation: .*{reason}") as caught:
        resolve("feature_ablation", {"groups": value})
    assert "\n" not in str(caught.value)


def test_the_shape_must_be_that_of_a_sample(model):
    with pytest.raises(DataError, match=r"groups have shape \(5,\): give \(6,\), the shape of a sample"):
        explainer(model, "feature_ablation", groups=[0, 1, 2, 3, 4])
    with pytest.raises(DataError, match=r"groups have shape \(3, 3\): .* or give the grid of the maps too"):
        attribute(model, np.zeros((1, 6)), "feature_ablation", groups=MAP)
    with pytest.raises(DataError, match=r"grid is \(3, 3\) \(lat, lon\), got maps of shape \(2, 3\)"):
        explainer(model, "feature_ablation", groups=MAP[:2], grid=Grid(MASK, LAT, LON))


def test_every_valid_cell_needs_a_label(model):
    labels = np.where(MAP == 2, np.nan, MAP)
    with pytest.raises(DataError, match="NaN"):
        explainer(model, "feature_ablation", groups=labels, grid=Grid(MASK, LAT, LON))


@pytest.mark.parametrize("method", ["occlusion", "feature_ablation", "shap.kernel"])
def test_groups_of_a_map_are_those_of_its_valid_cells(method, model, x):
    grid = Grid(MASK, LAT, LON)
    want = attribute(model, x, method, groups=VECTOR, grid=grid).attribution
    on_land = np.where(MASK, MAP, np.nan)
    south_first = xr.DataArray(MAP[::-1], {"lat": LAT[::-1], "lon": LON}, ("lat", "lon"))
    for groups in (MAP, on_land, south_first, south_first.T):
        xr.testing.assert_identical(attribute(model, x, method, groups=groups, grid=grid).attribution, want)
    assert len(np.unique(want[0].values[MASK])) == 2


def test_groups_of_a_map_wait_for_the_grid_of_the_maps(model, x):
    grid = Grid(MASK, LAT, LON)
    maps = xr.DataArray(grid.to_map(x), {"lat": LAT, "lon": LON}, ("sample", "lat", "lon"))
    explain = explainer(model, "feature_ablation", groups=MAP)
    want = attribute(model, x, "feature_ablation", groups=VECTOR, grid=grid)
    np.testing.assert_array_equal(explain(maps).attribution, want.attribution)


def test_the_identity_holds_the_hash_and_the_label_is_short(model, x):
    out = attribute(model, x, "shap.kernel", groups=VECTOR)
    groups = read_groups(VECTOR)
    assert out.attrs["method"] == f'shap.kernel(groups="2 groups {groups.sha256[:8]}")'
    identity = json.loads(out.attrs["identities"])[out.attrs["method"]]
    assert identity["parameters"]["groups"] == {"shape": [6], "count": 2, "sha256": groups.sha256}
    assert f"2 groups {groups.sha256[:8]}" in identity["form"]


def test_other_groups_of_the_same_name_are_other_groups(model, x, tmp_path):
    file = tmp_path / "groups.npy"
    name = f"feature_ablation(groups={str(file)!r})"
    results = []
    for labels in (VECTOR, VECTOR[::-1] * [1, 1, 2, 2, 1, 1]):
        np.save(file, labels)
        results.append(attribute(model, x, name).attribution.values)
        np.testing.assert_array_equal(
            results[-1], attribute(model, x, "feature_ablation", groups=labels).attribution
        )
    assert np.abs(results[0] - results[1]).max() > 1e-3


@pytest.mark.parametrize("suffix", [".npy", ".nc"])
def test_command_line_reads_groups_from_a_file(suffix, model, x, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save("model.h5")
    np.save("x.npy", x)
    if suffix == ".npy":
        np.save("my-groups.npy", VECTOR)
    else:
        xr.DataArray(VECTOR, dims="cell", name="label").to_netcdf("my-groups.nc")
    line = f"attribute model.h5 x.npy -m feature_ablation --param feature_ablation.groups=./my-groups{suffix} -o out.nc"
    with pytest.raises(SystemExit, match="0"):
        cli.main(shlex.split(line))
    with xr.open_dataset("out.nc") as out:
        want = attribute(model, x, "feature_ablation", groups=VECTOR).attribution
        np.testing.assert_allclose(out.attribution[0], want, rtol=1e-5, atol=1e-7)
