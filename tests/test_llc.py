"""LLCGrid: vectors and maps of tiles, places and areas, and the way to a regular grid."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import xarray as xr
from llc_files import CAP, SOUTH, geometry, grid

import xairt
from xairt.data.llc import llc_grid
from xairt.errors import DataError
from xairt.grid import Grid
from xairt.llc import LLCGrid, is_llc

N = 6
REGULAR = Grid([[True, False, True], [True, True, False]], lat=[10, -20], lon=[0, 20, 350])


def points(lat, lon):
    """Places as points of the unit sphere, by hand."""
    lat, lon = np.deg2rad(lat), np.deg2rad(lon)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def degrees_apart(lat, lon, lats, lons):
    cosine = points(np.asarray(lat), np.asarray(lon)) @ points(np.asarray(lats), np.asarray(lons)).T
    return np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))


def everywhere(n):
    lat, lon = geometry(n)
    return LLCGrid(np.ones(lat.shape), lat, lon)


# ------------------------------------------------------------------------------------ vectors and maps


def test_the_vector_holds_valid_cells_tile_by_tile():
    small = grid(N)
    by_hand = [(t, j, i) for t in range(13) for j in range(N) for i in range(N) if small.mask[t, j, i]]
    assert small.n_valid == len(by_hand) < small.mask.size
    np.testing.assert_array_equal(np.transpose(small.indices), by_hand)
    for at in (0, 17, small.n_valid - 1):
        assert small.index(*by_hand[at]) == at
        assert small.cell(at) == (small.lat[by_hand[at]], small.lon[by_hand[at]])
    np.testing.assert_array_equal(small.places[0], [small.lat[at] for at in by_hand])
    np.testing.assert_array_equal(small.places[1], [small.lon[at] for at in by_hand])


@pytest.mark.parametrize("before", [(), (3,), (2, 3)])
def test_vectors_survive_the_way_to_maps_and_back(before):
    small = grid(N)
    v = np.random.default_rng(0).normal(size=(*before, small.n_valid)).astype("float32")
    maps = small.to_map(v)
    assert maps.shape == (*before, 13, N, N)
    assert maps.dtype == v.dtype
    assert np.isnan(maps[..., ~small.mask]).all()
    np.testing.assert_array_equal(small.to_vector(maps), v)
    np.testing.assert_array_equal(small.take(maps), v)


def test_labelled_vectors_and_maps_carry_their_places():
    small = grid(N)
    v = xr.DataArray(
        np.arange(2.0 * small.n_valid).reshape(2, -1), {"sample": [5, 7]}, ("sample", "cell"), "sst"
    )
    maps = small.to_map(v)
    assert maps.dims == ("sample", "tile", "j", "i")
    assert maps.lat.dims == ("tile", "j", "i")
    back = small.to_vector(maps.transpose("i", "tile", "sample", "j"))
    assert is_llc(back)
    assert not is_llc(v)
    assert back.name == "sst"
    np.testing.assert_array_equal(back.sample, [5, 7])
    np.testing.assert_array_equal(back, v)
    np.testing.assert_array_equal(back.lat, small.places[0])
    np.testing.assert_array_equal(back.lon, small.places[1])
    np.testing.assert_array_equal(back.j, small.indices[1])
    renamed = small.to_vector(maps.rename(tile="face").drop_vars("face"))
    np.testing.assert_array_equal(renamed, v)


def test_a_grid_comes_back_from_its_labelled_vectors():
    small = grid(N)
    field = xr.DataArray(np.zeros(small.n_valid), small.cell_coordinates(), "cell")
    found = LLCGrid.from_dataarray(field)
    np.testing.assert_array_equal(found.mask, small.mask)
    np.testing.assert_array_equal(found.places, small.places)
    np.testing.assert_allclose(found.area_weights, small.area_weights, rtol=1e-12)
    assert np.isnan(found.lat[~small.mask]).all()
    with pytest.raises(DataError, match="has no areas; give area="):
        _ = LLCGrid.from_dataarray(field.drop_vars("area")).area_weights
    with pytest.raises(DataError, match="cells are not in the order of tile, j, i"):
        LLCGrid.from_dataarray(field[::-1])
    with pytest.raises(DataError, match="array has no coordinates tile, j, i, lat and lon along 'cell'"):
        LLCGrid.from_dataarray(field.drop_vars("tile"))


def test_wrong_vectors_and_maps_are_refused():
    small = grid(N)
    with pytest.raises(DataError, match=rf"grid has {small.n_valid} valid cells, got vectors of 5"):
        small.to_map(np.zeros(5))
    with pytest.raises(DataError, match=r"grid is \(13, 6, 6\) \(tile, j, i\), got maps of shape \(6, 6\)"):
        small.to_vector(np.zeros((6, 6)))
    with pytest.raises(DataError, match=rf"map has {small.n_valid} NaN in valid cells, the first at lat"):
        small.to_vector(np.full(small.shape, np.nan))
    with pytest.raises(DataError, match=r"array with dimensions \('tile', 'y', 'x'\) has no 'j'"):
        small.to_vector(xr.DataArray(np.zeros(small.shape), dims=("tile", "y", "x")))
    with pytest.raises(DataError, match=r"= \(3, 0, 0\) is not valid \(land\)"):
        small.index(3, 0, 0)
    with pytest.raises(DataError, match=r"= \(13, 0, 0\) does not exist in \(13, 6, 6\)"):
        small.index(13, 0, 0)
    with pytest.raises(DataError, match=r"= \(-1, 0, 0\) does not exist"):
        small.index(-1, 0, 0)


# ------------------------------------------------------------------------------------- the grid itself


def test_a_grid_is_immutable_and_compares_by_value():
    small = grid(N)
    assert small == grid(N) == pickle.loads(pickle.dumps(small))
    assert hash(small) == hash(grid(N))
    bare = LLCGrid(small.mask, small.lat, small.lon)
    assert small != bare
    assert bare == LLCGrid(small.mask, small.lat, small.lon)
    assert small != small.restricted(np.arange(small.n_valid) > 0)
    assert small != "grid"
    assert repr(small) == f"LLCGrid 13 x 6 x 6, {small.n_valid} valid cells"
    assert xairt.LLCGrid is LLCGrid
    with pytest.raises(ValueError, match="read-only"):
        small.lat[0, 0, 0] = 1
    lat, lon = geometry(N)
    LLCGrid(np.ones(lat.shape), lat, lon)
    lat[0, 0, 0] = 1  # the caller's arrays stay his own


def with_value(values, value):
    values = values.copy()
    values[0, 0, 0] = value
    return values


LAT, LON = geometry(2)
ALL = np.ones(LAT.shape, bool)
BAD = [
    ({"mask": ALL[0]}, r"mask has shape \(2, 2\); give a 3-D array \(tile, j, i\)"),
    ({"mask": ~ALL}, "mask has no valid cell"),
    ({"mask": 2 * ALL}, "mask holds values other than 0 and 1"),
    ({"lat": LAT[:5]}, r"lat has shape \(5, 2, 2\), the mask \(13, 2, 2\)"),
    ({"lon": "east"}, "lon holds values that are not numbers"),
    ({"lat": with_value(LAT, 91)}, "lat of 1 valid cells is wrong, such as 91"),
    ({"lat": with_value(LAT, np.nan)}, "lat of 1 valid cells is wrong, such as nan"),
    ({"lon": with_value(LON, np.inf)}, "lon of 1 valid cells is wrong, such as inf"),
    ({"area": with_value(LAT * 0 + 1, 0)}, "area of 1 valid cells is wrong, such as 0; give a positive area"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_geometry_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        LLCGrid(**({"mask": ALL, "lat": LAT, "lon": LON} | change))


def test_land_needs_no_place():
    mask = with_value(ALL, False)
    assert LLCGrid(mask, with_value(LAT, np.nan), with_value(LON, np.nan)).n_valid == mask.sum()


def test_area_weights_have_mean_one_and_follow_the_areas():
    small = grid(N)
    weights = small.area_weights
    assert weights.mean() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(weights / weights[0], small.area[small.mask] / small.area[small.mask][0])


@pytest.mark.parametrize(("lat", "lon"), [(50, 234), (50, -126), (-70, 180), (-70, -180), (89.9, 10), (0, 0)])
def test_the_nearest_cell_is_that_of_the_smallest_angle(lat, lon):
    small = grid(N)
    assert small.nearest(lat, lon) == degrees_apart(lat, lon, *small.places).argmin()


@pytest.mark.parametrize("whole", [grid(N), REGULAR])
def test_a_part_of_the_cells(whole):
    keep = whole.places[0] > -15
    part = whole.restricted(keep)
    assert type(part) is type(whole)
    assert 0 < part.n_valid == keep.sum() < whole.n_valid
    v = np.random.default_rng(0).normal(size=(2, whole.n_valid))
    np.testing.assert_array_equal(part.to_vector(whole.to_map(v)), v[:, keep])
    assert part.area_weights.mean() == pytest.approx(1, abs=1e-12)
    with pytest.raises(DataError, match=rf"keep has shape \(1,\) of bool; give {whole.n_valid} booleans"):
        whole.restricted([True])
    with pytest.raises(DataError, match=r"of int64; give"):
        whole.restricted(np.arange(whole.n_valid))
    with pytest.raises(DataError, match="keep is False everywhere"):
        whole.restricted(np.zeros(whole.n_valid, bool))


def test_places_of_a_regular_grid():
    np.testing.assert_array_equal(REGULAR.places, [[10, 10, -20, -20], [0, 350, 0, 20]])
    assert [REGULAR.cell(i) for i in range(4)] == list(zip(*REGULAR.places, strict=True))


# ------------------------------------------------------------------------------------- to a regular grid


def test_each_place_takes_the_nearest_cell_or_none():
    small = grid(N)
    v = np.random.default_rng(0).normal(size=small.n_valid)
    regular = small.to_regular(v, 5.0)
    assert regular.dims == ("lat", "lon")
    lat, lon = (a.ravel() for a in np.meshgrid(regular.lat, regular.lon, indexing="ij"))
    np.testing.assert_array_equal(np.unique(lat), np.arange(-87.5, 90, 5))
    np.testing.assert_array_equal(np.unique(lon), np.arange(2.5, 360, 5))
    apart = degrees_apart(lat, lon, small.lat.ravel(), small.lon.ravel())
    first, second = np.sort(apart, axis=1)[:, :2].T
    clear = second - first > 1e-6  # else two cells are as near
    inside = (lat > SOUTH) & clear
    assert inside.sum() > 1500
    nearest = small.to_map(v).ravel()[apart.argmin(axis=1)]
    np.testing.assert_array_equal(regular.values.ravel()[inside], nearest[inside])


def test_the_globe_is_covered_but_for_the_south():
    whole = everywhere(12)
    lat = whole.to_regular(whole.places[0], 2.0)
    assert np.isfinite(lat.sel(lat=slice(SOUTH, None))).all()
    assert np.isnan(lat.sel(lat=slice(None, SOUTH - 6))).all()
    size = 90 / 12 / 2 + 1e-9
    assert float(np.abs(lat - lat.lat).max()) <= max(size, (90 - CAP) / 12 * 2)
    lon = whole.to_regular(whole.places[1], 2.0).sel(lat=slice(SOUTH, CAP - 4))
    turn = np.abs((lon - lon.lon + 180) % 360 - 180)
    assert float(turn.max()) <= size


def test_cells_without_their_land_reach_as_far_as_with_it():
    small = grid(12)
    bare = LLCGrid(
        small.mask, np.where(small.mask, small.lat, np.nan), np.where(small.mask, small.lon, np.nan)
    )
    v = np.ones(small.n_valid)
    with_land, without = (np.isfinite(g.to_regular(v, 2.0).values) for g in (small, bare))
    assert (with_land & ~without).mean() < 1e-3  # a coast's last cell knows the spacing along one axis only
    assert (without & ~with_land).mean() < 0.03  # land is left but for a rim of half a cell


def test_labels_types_and_missing_values_are_kept():
    small = grid(N)
    values = np.random.default_rng(0).normal(size=(2, small.n_valid)).astype("float32")
    values[1] = np.nan
    attrs = {"units": "K"}
    field = xr.DataArray(values, {"time": [3, 4], **small.cell_coordinates()}, ("time", "cell"), "sst", attrs)
    regular = small.to_regular(field.transpose("cell", "time"), 10.0)
    assert (regular.dims, regular.name, regular.attrs) == (("time", "lat", "lon"), "sst", attrs)
    assert set(regular.coords) == {"time", "lat", "lon"}
    assert regular.dtype == np.float32
    assert np.isnan(regular[1]).all()
    np.testing.assert_array_equal(regular[0], small.to_regular(values[0], 10.0))
    assert small.to_regular(np.ones(small.n_valid, int), 10.0).max() == 1
    assert Grid.from_dataarray(regular[0]).n_valid > 200


@pytest.mark.parametrize("degrees", [0.7, 0, -1, 0.01, np.nan, np.inf, 200])
def test_steps_that_do_not_divide_the_globe_are_refused(degrees):
    with pytest.raises(DataError, match=r"must divide 180 and be 0\.05 or more"):
        grid(N).to_regular(np.zeros(grid(N).n_valid), degrees)


def test_a_single_cell_is_drawn_at_its_place():
    one = LLCGrid([[[True]]], [[[10.0]]], [[[20.0]]])
    found = one.to_regular([3.0], 0.5).stack(place=("lat", "lon")).dropna("place")
    assert (found == 3.0).all()
    assert degrees_apart(10, 20, found.lat.values, found.lon.values).max() < 1


# ---------------------------------------------------------------------------------------- the real grid


def test_the_real_grid_has_the_cells_of_the_publication(data_dir):
    real = llc_grid(data_dir / "ecco")
    assert real.shape == (13, 90, 90)
    north = real.restricted(real.places[0] > -20)
    assert north.n_valid == 31811
    target = north.nearest(50, 234)
    assert target == north.index(10, 1, 43)
    np.testing.assert_allclose(north.cell(target), (49.105, -126.5), atol=1e-3)


def test_a_field_keeps_its_mean_and_extent_on_the_way_to_a_regular_grid(data_dir):
    real = llc_grid(data_dir / "ecco")
    lat = real.places[0]
    regular = real.to_regular(np.stack([np.sin(np.deg2rad(lat)), lat, real.places[1]]))
    weights = np.cos(np.deg2rad(regular.lat)) * np.isfinite(regular[0])
    assert float(weights.mean() / np.cos(np.deg2rad(regular.lat)).mean()) == pytest.approx(0.707, abs=0.01)
    mean = (regular[0] * weights).sum() / weights.sum()
    assert float(mean) == pytest.approx(float((np.sin(np.deg2rad(lat)) * real.area_weights).mean()), abs=3e-3)
    assert float(np.abs(regular[1] - regular.lat).max()) < 1.0
    apart = np.abs((regular[2] - regular.lon + 180) % 360 - 180) * np.cos(np.deg2rad(regular.lat))
    assert float(apart.max()) < 1.1
