"""Grid: vectors to maps and back, areas, neighbours, and everything that is refused."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from xairt.errors import DataError
from xairt.grid import Grid, latitude_edges, longitude_edges, unwrap_longitude

LAT = np.arange(85.0, -90.0, -10.0)
LON = np.arange(5.0, 360.0, 10.0)


@pytest.fixture
def grid() -> Grid:
    mask = np.random.default_rng(0).random((18, 36)) < 0.7
    return Grid(mask, LAT, LON)


def test_import_is_light():
    slow = "('xarray', 'tensorflow', 'matplotlib')"
    code = f"import sys, xairt.grid; print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_round_trip_is_exact_and_keeps_dtype(grid, dtype, lead):
    v = np.random.default_rng(1).normal(size=(*lead, grid.n_valid)).astype(dtype)
    m = grid.to_map(v)
    assert m.shape == (*lead, 18, 36)
    assert m.dtype == dtype
    assert np.isnan(m[..., ~grid.mask]).all()
    back = grid.to_vector(m)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, v)


def test_vector_order_is_row_by_row():
    grid = Grid([[True, False, True], [False, True, True]], [10, 0], [0, 10, 20])
    expected = [[0, np.nan, 1], [np.nan, 2, 3]]
    np.testing.assert_array_equal(grid.to_map([0.0, 1.0, 2.0, 3.0]), expected)
    assert [grid.cell(i) for i in range(4)] == [(10, 0), (10, 20), (0, 10), (0, 20)]


def test_integers_become_floats_unless_a_fill_is_given(grid):
    v = np.arange(grid.n_valid)
    assert grid.to_map(v).dtype == np.float64
    filled = grid.to_map(v, fill=-9)
    assert filled.dtype == v.dtype
    assert (filled[~grid.mask] == -9).all()
    np.testing.assert_array_equal(grid.to_vector(filled), v)
    assert grid.to_map(v > 3, fill=False).dtype == bool
    with pytest.raises(DataError, match=r"fill 0.5 does not fit the dtype int64"):
        grid.to_map(v, fill=0.5)


def test_vectors_of_another_length_are_refused(grid):
    n = grid.n_valid
    with pytest.raises(DataError, match=rf"grid has {n} valid cells, got vectors of {n - 2}: "):
        grid.to_map(np.zeros((4, n - 2)))
    with pytest.raises(DataError, match="got vectors of a single number"):
        grid.to_map(1.0)
    with pytest.raises(DataError, match=r"grid is \(18, 36\) \(lat, lon\), got maps of shape \(36, 18\)"):
        grid.to_vector(np.zeros((36, 18)))


def test_nan_in_a_valid_cell_is_named(grid):
    maps = grid.to_map(np.zeros((3, grid.n_valid)))
    row, column = np.argwhere(grid.mask)[5]
    maps[1, row, column] = maps[2, row, column] = np.nan
    place = rf"lat {LAT[row]:g}, lon {LON[column]:g}"
    with pytest.raises(DataError, match=rf"2 NaN in valid cells, the first at index \(1,\), {place}"):
        grid.to_vector(maps)
    with pytest.raises(DataError, match=rf"the first at {place}"):
        grid.to_vector(maps[2])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("west", [0, 180])
@pytest.mark.parametrize("dims", [("sample", "lat", "lon"), ("lon", "lat", "sample")])
def test_labelled_maps_are_aligned_by_coordinates(grid, flip, west, dims):
    v = np.random.default_rng(2).normal(size=(2, grid.n_valid))
    labelled = xr.DataArray(v, dims=("sample", "cell"), coords={"sample": [7, 8]}, attrs={"units": "K"})
    m = grid.to_map(labelled)
    assert m.dims == ("sample", "lat", "lon")
    assert m["lat"].attrs["standard_name"] == "latitude"
    assert m["lon"].attrs["units"] == "degrees_east"
    m = m.assign_coords(lon=np.mod(m["lon"].values + west, 360.0) - west).sortby("lon")
    m = (m.sortby("lat") if flip else m).transpose(*dims)
    back = grid.to_vector(m)
    assert back.dims == ("sample", "cell")
    assert back.attrs == {"units": "K"}
    np.testing.assert_array_equal(back["sample"], [7, 8])
    np.testing.assert_array_equal(back, v)
    assert (float(back["lat"][3]), float(back["lon"][3])) == grid.cell(3)
    np.testing.assert_array_equal(grid.to_map(back), grid.to_map(v))


def test_labelled_vectors_use_the_last_dimension_or_cell(grid):
    v = xr.DataArray(np.zeros((grid.n_valid, 2)), dims=("cell", "sample"))
    assert grid.to_map(v).dims == ("sample", "lat", "lon")
    assert grid.to_map(v.rename(cell="feature").transpose("sample", "feature")).shape == (2, 18, 36)


def test_other_coordinates_are_named(grid):
    m = xr.DataArray(np.zeros((18, 36)), {"lat": LAT, "lon": LON}, ("lat", "lon"))
    with pytest.raises(DataError, match=r"longitude 355 of the grid is not in the map \(nearest 355.5\)"):
        grid.to_vector(m.assign_coords(lon=[*LON[:-1], 355.5]))
    with pytest.raises(DataError, match="latitude 85 of the grid is not in the map"):
        grid.to_vector(m.assign_coords(lat=LAT - 1))
    with pytest.raises(DataError, match="grid has 36 longitudes, the map has 35"):
        grid.to_vector(m.isel(lon=slice(1, None)))
    with pytest.raises(DataError, match="dimension 'lat' has no coordinate values"):
        grid.to_vector(m.drop_vars("lat"))
    with pytest.raises(DataError, match=r"array with dimensions \('y', 'lon'\) has no latitude"):
        grid.to_vector(m.rename(lat="y").drop_vars("y"))
    within = m.assign_coords(lat=LAT + 5e-4)
    assert grid.to_vector(within).shape == (grid.n_valid,)


def test_area_weights_are_exact_band_areas():
    lat = np.array([80.0, 40.0, 0.0, -70.0])
    grid = Grid(np.ones((4, 36)), lat, LON)
    north, south = np.array([90, 60, 20, -35]), np.array([60, 20, -35, -90.0])
    areas = np.sin(np.deg2rad(north)) - np.sin(np.deg2rad(south))
    expected = np.repeat(areas / areas.mean(), 36)
    np.testing.assert_allclose(grid.area_weights, expected, rtol=1e-12)


def test_area_weights_follow_the_cosine_and_have_mean_one(grid):
    assert grid.area_weights.mean() == pytest.approx(1.0, abs=1e-14)
    cosine = np.cos(np.deg2rad([grid.cell(i)[0] for i in range(grid.n_valid)]))
    np.testing.assert_allclose(grid.area_weights / cosine, (grid.area_weights / cosine)[0], rtol=1e-12)
    poles = Grid(np.ones((3, 4)), [90, 0, -90], [0, 90, 180, 270])
    assert (poles.area_weights > 0).all()


@pytest.mark.parametrize("lon", [np.arange(0, 360, 10), np.arange(5, 360, 10), np.arange(-180, 180, 10)])
def test_edges_go_around_the_globe(lon):
    edges = longitude_edges(lon)
    assert edges[-1] - edges[0] == 360
    np.testing.assert_allclose(np.diff(edges), 10)
    down = longitude_edges(lon[::-1])
    np.testing.assert_allclose(np.diff(down), -10)


def test_edges_of_irregular_and_regional_centres():
    np.testing.assert_allclose(longitude_edges([0, 10, 50, 220, 300]), [-30, 5, 30, 135, 260, 330])
    np.testing.assert_allclose(longitude_edges([100, 110, 130]), [95, 105, 120, 140])
    np.testing.assert_allclose(longitude_edges([170, -170]), [160, 180, 200])
    np.testing.assert_allclose(longitude_edges([12]), [11.5, 12.5])
    np.testing.assert_allclose(latitude_edges([-88, -60, 10]), [-90, -74, -25, 45])
    np.testing.assert_allclose(unwrap_longitude([0, 90, 280, 350]), [0, 90, 280, 350])
    np.testing.assert_allclose(unwrap_longitude([10, 0, 350, 340]), [10, 0, -10, -20])


def test_nearest_is_the_great_circle_neighbour(grid):
    for i in (0, 17, grid.n_valid - 1):
        assert grid.nearest(*grid.cell(i)) == i
        lat, lon = grid.cell(i)
        assert grid.nearest(lat, lon - 360) == i
    full = Grid(np.ones((3, 4)), [80, 0, -80], [0, 90, 180, 270])
    assert full.cell(full.nearest(1, -2)) == (0, 0)
    assert full.cell(full.nearest(85, 100)) == (80, 90)
    island = Grid([[True, False], [False, True]], [60, 0], [0, 10])
    assert island.cell(island.nearest(0, 0)) == (0, 10)
    with pytest.raises(DataError, match=r"place \(lat 91, lon 0\) is not on the globe"):
        full.nearest(91, 0)


def test_nearest_agrees_with_the_spherical_law_of_cosines(grid):
    places = np.deg2rad(np.array([grid.cell(i) for i in range(grid.n_valid)]))
    for lat, lon in np.random.default_rng(3).uniform((-90, -180), (90, 360), (20, 2)):
        phi, lam = np.deg2rad((lat, lon))
        cosine = np.sin(phi) * np.sin(places[:, 0])
        cosine += np.cos(phi) * np.cos(places[:, 0]) * np.cos(places[:, 1] - lam)
        assert grid.nearest(lat, lon) == cosine.argmax()


def test_cell_outside_is_refused(grid):
    with pytest.raises(DataError, match=rf"cell {grid.n_valid} does not exist; the grid has cells 0 .. "):
        grid.cell(grid.n_valid)
    with pytest.raises(DataError, match="cell -1 does not exist"):
        grid.cell(-1)


def test_grid_is_immutable_and_independent_of_its_input():
    mask, lat = np.ones((18, 36), bool), LAT.copy()
    grid = Grid(mask, lat, LON)
    mask[:], lat[:] = False, 0
    assert grid.n_valid == 648
    assert grid.lat[0] == 85
    for array in (grid.mask, grid.lat, grid.lon, grid.area_weights, grid.lat_edges):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError, match="cannot assign"):
        grid.lat = LAT


def test_equality_hash_copies_and_repr(grid):
    same = Grid(grid.mask, LAT, LON)
    other = Grid(grid.mask, LAT, LON - 5)
    assert grid == same
    assert hash(grid) == hash(same)
    assert grid != other
    assert grid != "grid"
    for again in (pickle.loads(pickle.dumps(grid)), copy.deepcopy(grid)):
        assert again == grid
        assert not again.mask.flags.writeable
    assert repr(grid) == f"Grid 18 x 36, {grid.n_valid} valid cells, lat 85 .. -85, lon 5 .. 355"


@pytest.mark.parametrize(
    ("mask", "lat", "lon", "message"),
    [
        (np.ones((2, 3)), [0, 1], [0, 1], r"mask has shape \(2, 3\), coordinates give \(2, 2\)"),
        (np.ones(2), [0, 1], [0, 1], r"mask has shape \(2,\); give a 2-D array"),
        (np.zeros((2, 2)), [0, 1], [0, 1], "mask has no valid cell"),
        (np.full((2, 2), 2), [0, 1], [0, 1], "mask holds values other than 0 and 1"),
        (np.ones((2, 2)), [1, 1], [0, 1], "latitudes are not strictly monotonic"),
        (np.ones((3, 2)), [0, 2, 1], [0, 1], "latitudes are not strictly monotonic"),
        (np.ones((2, 2)), [0, 91], [0, 1], r"latitude 91 lies outside -90 .. 90"),
        (np.ones((2, 2)), [0, np.nan], [0, 1], "latitude contains NaN"),
        (np.ones((2, 2)), [0, 1], [0, np.inf], "longitude contains NaN or infinity"),
        (np.ones((2, 2)), [0, 1], [0, 360], r"longitude 0 occurs twice \(modulo 360\)"),
        (np.ones((2, 3)), [0, 1], [0, 20, 10], "longitudes do not run once around the circle"),
        (np.ones((2, 2)), [[0, 1]], [0, 1], r"latitude has shape \(1, 2\)"),
        (np.ones((2, 2)), ["a", "b"], [0, 1], "latitude holds values that are not numbers"),
    ],
)
def test_bad_grids_are_refused(mask, lat, lon, message):
    with pytest.raises(DataError, match=message):
        Grid(mask, lat, lon)


def test_inferred_from_nan(grid):
    field = grid.to_map(xr.DataArray(np.zeros((3, grid.n_valid)), dims=("time", "cell")))
    assert Grid.from_dataarray(field) == grid
    assert Grid.from_dataarray(field.transpose("lon", "time", "lat").rename(lat="Latitude")) == grid
    row, column = np.argwhere(grid.mask)[0]
    field[1, row, column] = np.nan
    with pytest.raises(DataError, match="1 cells are NaN in some maps only"):
        Grid.from_dataarray(field)
    assert Grid.from_dataarray(field, partial="exclude").n_valid == grid.n_valid - 1
    with pytest.raises(DataError, match="partial='drop' is unknown"):
        Grid.from_dataarray(field, partial="drop")


def test_dimensions_are_found_by_cf_attributes(grid):
    field = grid.to_map(xr.DataArray(np.zeros(grid.n_valid), dims=("cell",)))
    renamed = field.rename(lat="j", lon="i")
    assert Grid.from_dataarray(renamed) == grid
    renamed["j"].attrs, renamed["i"].attrs = {"units": "degrees_north"}, {"units": "degree_east"}
    assert Grid.from_dataarray(renamed) == grid
    renamed["j"].attrs = {}
    with pytest.raises(DataError, match=r"array with dimensions \('j', 'i'\) has no latitude"):
        Grid.from_dataarray(renamed)
    curved = xr.DataArray(np.zeros((2, 2)), dims=("y", "x"), coords={"lat": (("y", "x"), np.zeros((2, 2)))})
    with pytest.raises(DataError, match=r"coordinate 'lat' is 2-D \(curvilinear\)"):
        Grid.from_dataarray(curved)


def test_integers_cannot_mark_land(grid):
    field = xr.DataArray(np.ones((18, 36), int), {"lat": LAT, "lon": LON}, ("lat", "lon"), "LSMASK")
    with pytest.raises(DataError, match="'LSMASK' holds int64, which has no NaN to mark land"):
        Grid.from_dataarray(field)
    assert Grid.from_dataarray(field.astype(bool)).n_valid == 648


def test_dataset_round_trip_through_netcdf(grid, tmp_path):
    ds = grid.to_dataset()
    assert ds["mask"].dtype == np.int8
    assert ds["lat"].attrs["units"] == "degrees_north"
    ds.to_netcdf(tmp_path / "grid.nc")
    with xr.open_dataset(tmp_path / "grid.nc") as back:
        assert Grid.from_dataset(back) == grid


def test_variable_of_a_dataset(grid):
    field = grid.to_map(xr.DataArray(np.zeros(grid.n_valid), dims=("cell",)))
    assert Grid.from_dataset(xr.Dataset({"sst": field, "n": 1})) == grid
    two = xr.Dataset({"sst": field, "ice": field})
    assert Grid.from_dataset(two, "ice") == grid
    with pytest.raises(DataError, match=r"dataset has 2 gridded variables \['sst', 'ice'\]"):
        Grid.from_dataset(two)
    with pytest.raises(DataError, match="dataset has no variable 'tos'"):
        Grid.from_dataset(two, "tos")


def test_real_sst(data_dir):
    with xr.open_dataset(data_dir / "sst" / "ersstv5_sst_2deg_global_2010-2020.nc") as ds:
        grid = Grid.from_dataset(ds)
        assert grid.shape == (89, 180)
        sst = ds["sst"].isel(time=slice(0, 5))
        v = grid.to_vector(sst)
        assert v.dtype == sst.dtype
        np.testing.assert_array_equal(grid.to_map(v).values, sst.values)
        mean = np.average(v.values[0], weights=grid.area_weights)
    assert 17.5 < mean < 19.0  # the mean sea surface temperature of the ocean, degC


def test_real_mask(data_dir):
    with np.load(data_dir / "sst" / "cobe_sstanom_correlation_10deg_460x460.npz") as file:
        grid = Grid(file["mask"], LAT, LON)
    assert repr(grid) == "Grid 18 x 36, 460 valid cells, lat 85 .. -85, lon 5 .. 355"
