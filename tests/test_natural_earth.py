"""Embedded coastlines and the land mask."""

from __future__ import annotations

import socket

import numpy as np
import pytest
import xarray as xr

from xairt.data import natural_earth
from xairt.errors import DataError

LAT = np.arange(89.5, -90.0, -1.0)
LON = np.arange(0.5, 360.0, 1.0)


def test_shapes_are_read_once_and_offline(monkeypatch):
    natural_earth.coastlines.cache_clear()
    natural_earth.land.cache_clear()

    def refuse(*args, **kwargs):
        raise AssertionError("network access")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    coast, land = natural_earth.coastlines(), natural_earth.land()
    assert (len(coast), len(land)) == (134, 127)
    assert {g.geom_type for g in coast} == {"LineString"}
    assert {g.geom_type for g in land} == {"Polygon"}
    assert natural_earth.coastlines() is coast


def test_known_places():
    mask = natural_earth.land_mask([48.8, 0.0], [2.3, 105.0, 220.0])
    np.testing.assert_array_equal(mask, [[True, True, False], [False, False, False]])
    assert natural_earth.land_mask([48.8], [2.3])[0, 0]  # Paris
    assert natural_earth.land_mask([-25.0], [134.0])[0, 0]  # central Australia
    assert natural_earth.land_mask([75.0], [318.0])[0, 0]  # Greenland
    assert not natural_earth.land_mask([0.0], [-140.0])[0, 0]  # equatorial Pacific
    assert not natural_earth.land_mask([42.0], [50.5])[0, 0]  # Caspian Sea


def test_longitude_conventions_agree():
    shifted = np.mod(LON + 180.0, 360.0) - 180.0
    np.testing.assert_array_equal(natural_earth.land_mask(LAT, LON), natural_earth.land_mask(LAT, shifted))
    np.testing.assert_array_equal(
        natural_earth.land_mask(LAT, LON), natural_earth.land_mask(LAT[::-1], LON)[::-1]
    )


def test_antarctica_has_no_hole_at_the_seams():
    mask = natural_earth.land_mask([-88.0, -90.0], np.arange(-180.0, 180.0, 10.0))
    assert mask.all()


def test_land_fraction_of_the_earth():
    weights = np.cos(np.deg2rad(LAT))
    fraction = np.average(natural_earth.land_mask(LAT, LON).mean(axis=1), weights=weights)
    assert fraction == pytest.approx(0.29, abs=0.005)


def test_bad_coordinates_are_refused():
    with pytest.raises(DataError, match="latitude 95 lies outside"):
        natural_earth.land_mask([95.0], LON)
    with pytest.raises(DataError, match="longitude 0 occurs twice"):
        natural_earth.land_mask(LAT, [0.0, 360.0])


def test_agrees_with_a_land_sea_mask(data_dir):
    with xr.open_dataset(data_dir / "sst" / "geocat_landsea_1deg.nc") as ds:
        kinds = ds["LSMASK"]
        ours = natural_earth.land_mask(kinds["lat"].values, kinds["lon"].values)
    decided = np.isin(kinds.values, (0, 1))
    assert (ours == (kinds.values == 1))[decided].mean() > 0.97
