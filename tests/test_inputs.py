"""Samples as users hold them: plain arrays, labelled arrays, maps with land, in any order."""

from __future__ import annotations

import networks
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xairt import Grid, attribute, explainer

pytestmark = pytest.mark.usefixtures("run_eagerly")

MASK = np.array([[0, 1, 1, 0], [1, 1, 0, 1], [0, 1, 0, 1]], bool)
LAT, LON = np.array([30.0, 0.0, -30.0]), np.array([0.0, 90.0, 180.0, 270.0])
GRID = Grid(MASK, LAT, LON)


@pytest.fixture(scope="module")
def model():
    return networks.mlp(n_outputs=1)


@pytest.fixture(scope="module")
def vectors(model):
    return networks.samples(model, 4)


@pytest.fixture(scope="module")
def explain(model):
    return explainer(model, "input_t_gradient", dtype="float64", batch_size=4)


@pytest.fixture(scope="module")
def wanted(explain, vectors) -> np.ndarray:
    return explain(vectors).attribution.values


def labelled(vectors) -> xr.DataArray:
    """Return maps with NaN on land, a time axis and coordinates that are no index."""
    coords = {
        "time": pd.date_range("2000-01-01", periods=len(vectors), freq="MS"),
        "lat": LAT,
        "lon": LON,
        "season": ("time", list("wsfa")[: len(vectors)]),
        "area": (("lat", "lon"), np.arange(12.0).reshape(3, 4)),
        "level": 5.0,
    }
    return xr.DataArray(
        GRID.to_map(vectors), coords, ("time", "lat", "lon"), name="sst", attrs={"units": "K"}
    )


# --------------------------------------------------------------------------- plain arrays


@pytest.mark.parametrize(
    ("network", "dims"),
    [
        (networks.mlp, ("sample", "feature")),
        (networks.cnn_1d, ("sample", "step", "channel")),
        (networks.cnn, ("sample", "y", "x", "channel")),
    ],
)
def test_plain_arrays_get_names(network, dims):
    model = network()
    out = attribute(model, networks.samples(model, 2), "gradient")
    assert out.attribution.dims == dims
    np.testing.assert_array_equal(out.sample, [0, 1])
    assert set(out.coords) == {"sample"}


@pytest.mark.parametrize("form", [list, np.float64, np.float16, pd.DataFrame, np.asfortranarray])
def test_arrays_of_every_kind(explain, vectors, form):
    x = (8 * vectors).round() / 8
    given = form(x.tolist()) if form is list else form(x)
    np.testing.assert_array_equal(explain(given).attribution, explain(x).attribution)


@pytest.mark.parametrize("dtype", [int, np.uint8, bool, np.int16])
def test_integers_count_as_numbers(explain, vectors, dtype):
    x = (vectors > 0).astype(dtype)
    np.testing.assert_array_equal(explain(x).attribution, explain(x.astype(float)).attribution)


def test_input_is_neither_changed_nor_kept(explain, vectors):
    x = vectors.astype(float)
    out, copy = explain(x), x.copy()
    x += 1
    np.testing.assert_array_equal(explain(copy).attribution, out.attribution)
    field = labelled(vectors)
    before = field.copy(deep=True)
    explain(field)
    assert field.identical(before)


# --------------------------------------------------------------------------- labelled vectors and images


def test_labelled_vectors_keep_dimensions_and_coordinates(explain, vectors, wanted):
    coords = {"run": list("abcd"), "cell": np.arange(7) * 10, "member": ("run", [1, 2, 1, 2]), "height": 2.0}
    out = explain(xr.DataArray(vectors, coords, ("run", "cell")))
    assert out.attribution.dims == ("run", "cell")
    np.testing.assert_array_equal(out.attribution, wanted)
    assert set(out.coords) == set(coords)
    for name in coords:
        np.testing.assert_array_equal(out[name], xr.DataArray(vectors, coords, ("run", "cell"))[name])
    assert out.prediction.dims == ("run",)


def test_labelled_images_keep_their_names():
    model = networks.cnn()
    field = xr.DataArray(networks.samples(model, 2), dims=("frame", "row", "column", "band"))
    out = attribute(model, field, "gradient")
    assert out.attribution.dims == field.dims
    np.testing.assert_array_equal(out.attribution, attribute(model, field.values, "gradient").attribution)


# --------------------------------------------------------------------------- maps


def test_maps_with_land_and_inferred_grid(explain, vectors, wanted):
    field = labelled(vectors)
    out = explain(field)
    assert out.attribution.dims == ("time", "lat", "lon")
    np.testing.assert_array_equal(out.attribution, GRID.to_map(wanted))
    assert set(out.coords) == set(field.coords)
    for name in field.coords:
        assert out[name].drop_attrs().equals(field[name])
    assert out.prediction.dims == out.completeness_gap.dims == ("time",)


@pytest.mark.parametrize(
    "dims", [("lat", "lon", "time"), ("lon", "time", "lat"), ("time", "lon", "lat"), ("lat", "time", "lon")]
)
@pytest.mark.parametrize("given", [True, False])
def test_dimensions_in_any_order(model, vectors, wanted, dims, given):
    field = labelled(vectors).transpose(*dims)
    out = attribute(model, field, "input_t_gradient", dtype="float64", grid=GRID if given else None)
    assert out.attribution.dims == dims
    np.testing.assert_array_equal(out.attribution.transpose("time", "lat", "lon"), GRID.to_map(wanted))


def shuffled(field: xr.DataArray) -> xr.DataArray:
    return field[:, ::-1].roll(lon=2, roll_coords=True)


def test_rows_from_the_south_and_longitudes_around_greenwich(model, vectors, wanted):
    field = shuffled(labelled(vectors)).assign_coords(lon=[-180.0, -90.0, 0.0, 90.0])
    out = attribute(model, field, "input_t_gradient", dtype="float64", grid=GRID)
    np.testing.assert_array_equal(out.lat, LAT[::-1])
    np.testing.assert_array_equal(out.lon, [-180.0, -90.0, 0.0, 90.0])
    for place in range(3):
        for column, lon in enumerate(LON):
            got = out.attribution.sel(lat=LAT[place], lon=lon if lon < 180 else lon - 360)
            np.testing.assert_array_equal(got, GRID.to_map(wanted)[:, place, column])


def test_other_names_of_latitude_and_longitude(explain, vectors, wanted):
    field = labelled(vectors).rename(lat="latitude", lon="Longitude")
    out = explain(field)
    assert out.attribution.dims == ("time", "latitude", "Longitude")
    np.testing.assert_array_equal(out.attribution, GRID.to_map(wanted))


def test_plain_maps_and_vectors_with_a_grid_come_back_as_maps(model, vectors, wanted):
    explain = explainer(model, "input_t_gradient", dtype="float64", grid=GRID)
    filled = GRID.to_map(vectors, fill=99)  # land may hold anything
    for x in (vectors, GRID.to_map(vectors), filled):
        out = explain(x)
        assert out.attribution.dims == ("sample", "lat", "lon")
        np.testing.assert_array_equal(out.attribution, GRID.to_map(wanted))
        np.testing.assert_array_equal(out.lat, LAT)
        np.testing.assert_array_equal(out.lon, LON)
    cells = xr.DataArray(vectors, {"year": [1, 2, 3, 4]}, ("year", "cell"))
    out = explain(cells)
    assert out.attribution.dims == ("year", "lat", "lon")
    np.testing.assert_array_equal(out.year, [1, 2, 3, 4])
    np.testing.assert_array_equal(out.attribution, GRID.to_map(wanted))


def test_one_explainer_follows_the_grid_of_each_call(model, vectors):
    explain = explainer(model, "occlusion", patch=2)
    there = Grid(MASK.T, [60.0, 30.0, 0.0, -30.0], [0.0, 120.0, 240.0])
    turned = xr.DataArray(there.to_map(vectors), {"lat": there.lat, "lon": there.lon}, ("time", "lat", "lon"))
    for field, grid in ((labelled(vectors), GRID), (turned, there), (labelled(vectors), GRID)):
        fresh = attribute(model, vectors, "occlusion", patch=2, grid=grid)
        np.testing.assert_array_equal(explain(field).attribution, fresh.attribution)


# --------------------------------------------------------------------------- baselines


def test_baselines_as_maps_follow_the_grid(model, vectors):
    reference = vectors[::-1][:2] / 2

    def run(baseline):
        options = {"baseline": baseline, "steps": 5, "grid": GRID, "dtype": "float64"}
        return attribute(model, vectors, "integrated_gradients", **options).attribution.values

    field = labelled(reference)
    wanted = run(reference)
    assert not np.allclose(wanted, run(None), equal_nan=True)
    for given in (
        GRID.to_map(reference),
        field,
        shuffled(field),
        field.transpose("lon", "lat", "time"),
        reference.tolist(),
    ):
        np.testing.assert_array_equal(run(given), wanted)
    np.testing.assert_array_equal(run(shuffled(field)[0]), run(reference[0]))
    np.testing.assert_array_equal(run(xr.DataArray(reference, dims=("case", "cell"))), wanted)


# --------------------------------------------------------------------------- sample index


def test_sample_index_takes_any_integers(explain, vectors):
    out = explain(vectors, sample_index=[5, 3, 2, 1])
    np.testing.assert_array_equal(out.attribution, explain(vectors, sample_index=np.arange(4)).attribution)
