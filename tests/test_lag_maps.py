"""The figure of relevance by lag: what is drawn where, with which colours and words."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from cartopy.mpl.geoaxes import GeoAxes

from xairt import Grid
from xairt.errors import DataError
from xairt.plots.lags import MARK_COLOUR, relevance_by_lag

LAT, LON = np.arange(-80.0, 81.0, 20.0), np.arange(0.0, 360.0, 30.0)
LAGS = [0, 1, -3]


@pytest.fixture
def composites() -> xr.Dataset:
    values = np.random.default_rng(0).standard_normal((3, 2, LAT.size, LON.size))
    values *= np.array([1.0, 10.0, 100.0])[:, None, None, None]
    values[:, :, 2, :5] = np.nan
    values[2, 0] = np.nan
    coords = {
        "lag": ("lag", LAGS, {"units": "months"}),
        "class": ["negative", "positive"],
        "lat": LAT,
        "lon": LON,
    }
    dims = ("lag", "class", "lat", "lon")
    counts = np.array([[5, 6], [7, 8], [0, 9]])
    return xr.Dataset({"mean": (dims, values), "count": (dims[:2], counts)}, coords)


@pytest.fixture
def correlation(composites) -> xr.DataArray:
    return (composites["mean"].isel({"class": 1}, drop=True) / 1000).rename("correlation")


def map_axes(figure) -> list:
    return [ax for ax in figure.axes if isinstance(ax, GeoAxes)]


def cells(ax):
    """Return the cells with values; those of land are drawn below."""
    meshes = [c for c in ax.collections if type(c).__name__ == "GeoQuadMesh"]
    return meshes[-1]


def test_rows_are_lags_and_columns_classes(composites):
    skill = {"accuracy": [0.62, 0.5, 0.7], "class frequency": [0.55, 0.5, 0.6]}
    figure = relevance_by_lag(composites, share="all", skill=skill, title="SST")
    axes = map_axes(figure)
    assert len(axes) == 6
    titles = [ax.get_title() for ax in axes]
    assert titles == ["negative, n = 5", "positive, n = 6", "n = 7", "n = 8", "n = 0", "n = 9"]
    words = [[t.get_text() for t in ax.texts] for ax in axes]
    assert words[0] == ["accuracy 0.62\nclass frequency 0.55", "lag 0"]
    assert words[2][1] == "lag +1 month"
    assert words[4][-1] == "lag -3 months"
    assert "no data" in words[4]
    assert words[1] == words[3] == words[5] == []
    assert figure.get_suptitle() == "SST"
    assert {type(ax.projection).__name__ for ax in axes} == {"Robinson"}


def test_all_maps_or_those_of_a_lag_share_colours(composites):
    largest = np.abs(composites["mean"]).max(("class", "lat", "lon")).values
    everywhere = relevance_by_lag(composites, share="all")
    assert {cells(ax).get_clim() for ax in map_axes(everywhere)} == {(-largest.max(), largest.max())}
    assert len(everywhere.axes) == 6 + 1
    by_row = relevance_by_lag(composites, share="row")
    found = [cells(ax).get_clim() for ax in map_axes(by_row)]
    assert found == [(-size, size) for size in largest for _ in range(2)]
    assert len(by_row.axes) == 6 + 3
    robust = relevance_by_lag(composites, share="all", robust=50)
    assert cells(map_axes(robust)[0]).get_clim()[1] < largest.max() / 2


def test_values_that_are_nowhere_negative_keep_diverging_colours(composites):
    figure = relevance_by_lag(abs(composites), share="all")
    low, high = cells(map_axes(figure)[0]).get_clim()
    assert low == -high < 0


@pytest.mark.parametrize("share", ["row", "all"])
def test_lag_correlation_has_a_column_and_colours_of_its_own(composites, correlation, share):
    figure = relevance_by_lag(composites, share=share, lag_correlation=correlation.to_dataset())
    axes = map_axes(figure)
    assert len(axes) == 9
    assert [axes[i].get_title() for i in (2, 5, 8)] == ["lag correlation", "", ""]
    largest = float(np.abs(correlation).max())
    assert {cells(axes[i]).get_clim() for i in (2, 5, 8)} == {(-largest, largest)}
    bars = figure.axes[9:]
    assert len(bars) == (4 if share == "row" else 2)
    label = bars[-1].get_ylabel() if share == "row" else bars[-1].get_xlabel()
    assert label == "correlation"


@pytest.mark.parametrize("share", ["row", "all"])
def test_rows_are_level(composites, correlation, share):
    figure = relevance_by_lag(composites, share=share, lag_correlation=correlation)
    figure.draw_without_rendering()
    tops = np.array([ax.get_position().y1 for ax in map_axes(figure)]).reshape(3, 3)
    assert np.ptp(tops, axis=1).max() < 0.01


def test_target_is_marked_in_every_map(composites):
    star = relevance_by_lag(composites, share="all", target_place=(50, 225))
    for ax in map_axes(star):
        (mark,) = [c for c in ax.collections if type(c).__name__ == "PathCollection"]
        np.testing.assert_array_equal(mark.get_offsets(), [[225, 50]])
    box = relevance_by_lag(composites, share="all", target_box=(-10, 20, 350, 30))
    for ax in map_axes(box):
        (line,) = ax.lines
        assert line.get_color() == MARK_COLOUR
        lon, lat = line.get_data()
        assert (lon.min(), lon.max(), lat.min(), lat.max()) == (350, 390, -10, 20)
        assert (lon[0], lat[0]) == (lon[-1], lat[-1])


def test_composites_without_counts_and_units(composites, tmp_path):
    plain = composites["mean"].isel(lag=[0])
    plain["lag"] = [60]
    with pytest.raises(DataError, match="lag: without units; give lag_units"):
        relevance_by_lag(plain, share="all")
    path = tmp_path / "lags.png"
    figure = relevance_by_lag(plain, share="all", lag_units="days", save=path)
    assert [t.get_text() for t in map_axes(figure)[0].texts] == ["lag +60 days"]
    assert [ax.get_title() for ax in map_axes(figure)] == ["negative", "positive"]
    assert path.stat().st_size > 10_000


def test_vectors_are_drawn_with_their_grid(composites):
    grid = Grid.from_dataarray(composites["mean"].isel(lag=0))
    maps = composites["mean"].isel(lag=[0, 1])
    found = relevance_by_lag(grid.to_vector(maps), share="all", grid=grid)
    wanted = relevance_by_lag(maps, share="all")
    for a, b in zip(map_axes(found), map_axes(wanted), strict=True):
        np.testing.assert_array_equal(cells(a).get_array(), cells(b).get_array())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": "column"}, "share='column' is unknown; use 'row' or 'all'"),
        ({"skill": {"accuracy": [0.5]}}, r"skill 'accuracy' \(1,\): does not fit 3 lags"),
        ({"target_place": (95, 0)}, "is not on the globe"),
        ({"target_box": (0, 10, 0)}, r"target_box \(south, north, west, east\)"),
        ({"target_box": "abc"}, r"target_box \(south, north, west, east\): 'abc' is not on the globe"),
        ({"target_place": 5}, r"target_place \(lat, lon\): 5 is not on the globe"),
        ({"target_place": (0, 0), "target_box": (0, 10, 0, 10)}, "both mark the target"),
        ({"lag_correlation": np.zeros(3)}, "lag_correlation: ndarray, no DataArray"),
        ({"lag_correlation": xr.Dataset()}, "without variable 'correlation'"),
    ],
)
def test_bad_options_are_refused(composites, options, message):
    with pytest.raises(DataError, match=message):
        relevance_by_lag(composites, **{"share": "all", **options})


def test_bad_composites_are_refused(composites, correlation):
    with pytest.raises(DataError, match="Dataset without variable 'mean'"):
        relevance_by_lag(composites[["count"]], share="all")
    with pytest.raises(DataError, match="relevance: no dimension 'class' with a coordinate"):
        relevance_by_lag(correlation, share="all")
    many = xr.concat([composites] * 4, "lag").assign_coords(lag=range(12))
    with pytest.raises(DataError, match="12 lags; select 1 to 9"):
        relevance_by_lag(many, share="all", lag_units="days")
    with pytest.raises(DataError, match="other lags than the relevance"):
        relevance_by_lag(composites, share="all", lag_correlation=correlation[::-1])
    with pytest.raises(TypeError, match="share"):
        relevance_by_lag(composites)
