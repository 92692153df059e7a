"""Cells of regions, and series at places and over boxes."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xairt import fields
from xairt.data.natural_earth import land_mask
from xairt.errors import DataError
from xairt.fields.masks import great_circle_km
from xairt.grid import Grid

LAT, LON = np.arange(-87.5, 90, 5), np.arange(2.5, 360, 5)
OCEAN = ~land_mask(LAT, LON)


@pytest.fixture(scope="module")
def grid() -> Grid:
    return Grid(OCEAN, LAT, LON)


@pytest.fixture(scope="module")
def field(grid) -> xr.DataArray:
    time = xr.date_range("2001-01-01", periods=6, freq="MS")
    values = np.random.default_rng(0).standard_normal((6, grid.n_valid))
    return grid.to_map(xr.DataArray(values, {"time": time}, ("time", "cell"), "sst", {"units": "degC"}))


# ------------------------------------------------------------------------------------------------- region


@given(
    west=st.integers(-720, 720),
    width=st.integers(0, 360),
    turns=st.integers(-1, 1),
    south=st.integers(-90, 90),
    height=st.integers(0, 60),
)
def test_a_region_holds_the_cells_whose_centres_it_holds(west, width, turns, south, height):
    grid = Grid(OCEAN, LAT, LON)
    north, east = min(90, south + height), west + width + 360 * turns * (0 < width < 360)
    found = fields.region(grid, lat=(south, north), lon=(west, east))
    if turns == 1 and 0 < width < 360:
        width = 360  # a whole turn and more
    wanted = [
        south <= lat <= north and any(west <= lon + 360 * turn <= west + width for turn in range(-4, 5))
        for lat, lon in zip(*grid.places, strict=True)
    ]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("convention", ["0 .. 360", "-180 .. 180"])
@pytest.mark.parametrize(
    ("same", "n_columns"),
    [
        ([(170, -170), (170, 190), (-190, -170), (-190, 190 - 360)], 4),
        ([(-10, 10), (350, 10), (350, 370), (-10, -350)], 4),
        ([(0, 360), (-180, 180), (180, 540), (0, 1000)], 72),
        ([(2.5, 2.5), (362.5, 2.5), (-357.5, -357.5)], 1),
    ],
)
def test_longitudes_are_taken_in_any_convention(same, n_columns, convention):
    lon = LON if convention == "0 .. 360" else np.where(LON > 180, LON - 360, LON)
    grid = Grid(np.ones((36, 72), bool), LAT, np.roll(lon, 5))
    for bounds in same:
        assert fields.region(grid, lon=bounds).sum() == 36 * n_columns


def test_bounds_are_included_and_nothing_asked_for_is_everything(grid):
    assert fields.region(grid).all()
    north = fields.region(grid, lat=(-22.5, 90))
    np.testing.assert_array_equal(north, grid.places[0] >= -22.5)
    single = Grid([[True, True]], [0], np.float32([0.1, 10.1]))
    assert fields.region(single, lon=(0.1, 10.1)).all()


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({"lat": (60, 40)}, r"region: latitudes \(60, 40\) do not run northwards within -90 .. 90"),
        ({"lat": (0, 91)}, r"latitudes \(0, 91\) do not run northwards"),
        ({"lat": (0, np.nan)}, r"lat .* is not \(south, north\); give degrees"),
        ({"lon": (0, 1, 2)}, r"lon \(0, 1, 2\): is not \(west, east\)"),
        ({"lon": 5}, r"lon 5: is not \(west, east\)"),
    ],
)
def test_bounds_that_are_none_are_refused(grid, bounds, reason):
    with pytest.raises(DataError, match=reason):
        fields.region(grid, **bounds)


# ----------------------------------------------------------------------------------------- target series


@pytest.mark.parametrize("place", [(50, 234), (50, -126), (-89, 10), (40, 80), (0, 180), (0.1, -359.9)])
def test_the_series_at_a_place_is_that_of_the_nearest_ocean_cell(grid, field, place):
    found = fields.target_series(field, grid=grid, place=place)
    distances = great_circle_km(grid, *place)
    cell = int(distances.argmin())
    np.testing.assert_array_equal(found, field.values[:, grid.mask][:, cell])
    assert found.dims == ("time",)
    assert set(found.coords) == {"time"}
    assert found.attrs["target_cells"].tolist() == [cell]
    assert found.attrs["target_place"] == list(grid.cell(cell))
    assert found.attrs["target_distance_km"] == pytest.approx(distances.min())
    assert found.attrs["target"].startswith("nearest cell to lat")
    assert found.attrs["units"] == "degC"


@pytest.mark.parametrize(
    "box", [(40, 60, 200, 235), (-10, 10, 170, -170), (-30, 0, 350, 10), (-90, 90, 0, 360)]
)
def test_the_series_of_a_box_is_weighted_by_area(grid, field, box):
    """The area of a cell is the sine of its northern less that of its southern edge."""
    south, north, west, east = box
    total, weights, cells = 0.0, 0.0, []
    for i, (lat, lon) in enumerate(zip(*grid.places, strict=True)):
        if south <= lat <= north and (lon - west) % 360 <= ((east - west) % 360 or 360):
            area = np.sin(np.deg2rad(lat + 2.5)) - np.sin(np.deg2rad(lat - 2.5))
            total = total + area * field.values[:, grid.mask][:, i]
            weights += area
            cells.append(i)
    found = fields.target_series(field, grid=grid, box=box)
    assert len(cells) > 5
    np.testing.assert_allclose(found, total / weights, rtol=1e-10)
    assert found.attrs["target_cells"].tolist() == cells
    assert found.attrs["target_box"] == list(box)
    assert f"area-weighted mean of {len(cells)} cells" in found.attrs["target"]


def test_maps_in_any_order_and_vectors_give_the_same_series(grid, field):
    box = (40, 60, 200, 235)
    wanted = fields.target_series(field, grid=grid, box=box)
    vectors = grid.to_vector(field)
    west = (
        field.assign_coords(lon=(field.lon + 180) % 360 - 180)
        .sortby("lon")[:, ::-1]
        .transpose("lon", "lat", "time")
    )
    bare = vectors.drop_vars(["lat", "lon"])
    for other in (vectors, vectors.T, bare, west, field.expand_dims("lev")):
        xr.testing.assert_equal(fields.target_series(other, grid=grid, box=box), wanted)
    single = fields.target_series(field.astype(np.float32), grid=grid, box=box)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, wanted, atol=1e-6)


def test_a_series_can_be_written_and_paired(grid, field, tmp_path):
    series = fields.target_series(field, grid=grid, box=(40, 60, 200, 235))
    series.to_netcdf(tmp_path / "series.nc")
    with xr.open_dataarray(tmp_path / "series.nc") as stored:
        np.testing.assert_array_equal(stored.attrs["target_cells"], series.attrs["target_cells"])
    x, y = fields.lagged(field, series, 2)
    np.testing.assert_array_equal(y, series[2:])
    assert x.dims == ("sample", "lat", "lon")
    assert y.attrs["target"] == series.attrs["target"]


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({}, "target: give a place .lat, lon. or a box .* one of them"),
        ({"place": (0, 0), "box": (0, 1, 0, 1)}, "one of them"),
        ({"place": (95, 0)}, "not on the globe"),
        ({"place": (5,)}, r"place \(5,\): is not \(lat, lon\)"),
        ({"box": (45, 50, 80, 90)}, "box lat 45 .. 50, lon 80 .. 90: holds no ocean cell of the grid"),
        ({"box": (50, 45, 80, 90)}, "do not run northwards"),
        ({"box": (45, 50, 80)}, r"box .*: is not \(south, north, west, east\)"),
    ],
)
def test_targets_that_are_none_are_refused(grid, field, chosen, reason):
    with pytest.raises(DataError, match=reason):
        fields.target_series(field, grid=grid, **chosen)


def test_fields_of_another_grid_or_with_gaps_are_refused(grid, field):
    vectors = grid.to_vector(field)
    chosen = {"grid": grid, "place": (50, 234)}
    cell = int(great_circle_km(grid, 50, 234).argmin())
    with pytest.raises(DataError, match=f"sst: has 9 cells, the grid {grid.n_valid}"):
        fields.target_series(vectors[:, :9], **chosen)
    with pytest.raises(
        DataError, match=r"sst: lat of its cells is not that of the grid's \(cell \d+ is \d+ degrees off"
    ):
        fields.target_series(vectors[:, ::-1], **chosen)
    gaps = vectors.copy()
    gaps[2, cell] = np.nan
    with pytest.raises(DataError, match="sst: lacks values in cells of the target"):
        fields.target_series(gaps, **chosen)
    with pytest.raises(DataError, match="1 NaN in valid cells"):
        fields.target_series(grid.to_map(gaps), **chosen)
    with pytest.raises(DataError, match="have no time"):
        fields.target_series(field.isel(time=0), **chosen)
