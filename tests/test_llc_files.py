"""Readers of MITgcm and ECCO files: what was written is read, and damaged files are told."""

from __future__ import annotations

import re
from pathlib import Path

import dask.array
import numpy as np
import pytest
import xarray as xr
from llc_files import compact_of, grid, native, write_mds, write_mds_grid

from xairt.data.llc import llc_grid, llc_tiles, read_llc, read_mds_series
from xairt.data.mds import iterations_to_dates, read_mds, read_meta
from xairt.errors import DataError

N = 6
OCEAN = grid(N)
DATES = np.array(["2001-01-01", "2001-01-02", "2001-01-03", "2001-01-04"], "datetime64[ns]")


def maps(count=4, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(size=(count, *OCEAN.shape)).astype(dtype)


# ------------------------------------------------------------------------------------------ MDS pairs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("suffix", ["", ".data", ".meta"])
def test_a_pair_is_read_as_it_was_written(tmp_path, dtype, suffix):
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    write_mds(tmp_path / "T.0000000024", values, dtype)
    found = read_mds(tmp_path / f"T.0000000024{suffix}")
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, values)


def test_records_are_read_by_position_and_name(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    values[1, 2, 2] = -999
    names = "{\n 'THETA   ' 'SALT    '\n 'ETAN    '\n }"
    write_mds(tmp_path / "state", values, fldList=names, missingValue="[ -9.99000000000000E+02 ]")
    meta = read_meta(tmp_path / "state.meta")
    assert (meta.shape, meta.records, meta.fields, meta.missing) == (
        (5, 4),
        3,
        ("THETA", "SALT", "ETAN"),
        -999,
    )
    wanted = np.where(values == -999, np.nan, values)
    np.testing.assert_array_equal(read_mds(tmp_path / "state"), wanted)
    np.testing.assert_array_equal(read_mds(tmp_path / "state", 1), wanted[1])
    np.testing.assert_array_equal(read_mds(tmp_path / "state", "ETAN"), wanted[2])
    with pytest.raises(DataError, match="has no record 'SAL'; did you mean 'SALT'"):
        read_mds(tmp_path / "state", "SAL")
    with pytest.raises(DataError, match=r"record 3 does not exist; it holds records 0 \.\. 2"):
        read_mds(tmp_path / "state", 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("dataprec = [ 'float32' ]", "dataprec = [ 'float16' ]"), "precision 'float16' is unknown"),
        (("dataprec", "precision"), "has no dataprec; give the .meta file that the MITgcm wrote"),
        (("nDims = [   2 ]", "nDims = [   3 ]"), "dimList has 6 numbers for nDims = 3"),
        (("nDims", "dims"), "has no nDims"),
        (("1,   4", "1,   2"), "describes a part of a field; join the output of the processes"),
    ],
)
def test_damaged_descriptions_are_told(tmp_path, change, message):
    write_mds(tmp_path / "T", np.zeros((5, 4)))
    file = tmp_path / "T.meta"
    assert change[0] in file.read_text()
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(DataError, match=rf"T\.meta: {message}"):
        read_mds(tmp_path / "T")


def test_truncated_and_missing_files_are_told(tmp_path):
    write_mds(tmp_path / "T", np.zeros((5, 4)))
    whole = (tmp_path / "T.data").read_bytes()
    for bytes_, message in (
        (whole[:-1], r"truncated \(79 of 80 bytes\)"),
        (whole * 2, "longer than its .meta"),
    ):
        (tmp_path / "T.data").write_bytes(bytes_)
        for record in (None, 0):
            with pytest.raises(DataError, match=rf"T\.data: {message}"):
                read_mds(tmp_path / "T", record)
    (tmp_path / "T.data").unlink()
    with pytest.raises(DataError, match=r"T\.data: no such file"):
        read_mds(tmp_path / "T")
    (tmp_path / "T.meta").unlink()
    with pytest.raises(DataError, match=r"T\.meta: no such file"):
        read_mds(tmp_path / "T.data")


# ---------------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize("n", [1, 3, 6])
def test_tiles_are_cut_as_the_model_wrote_them(n):
    tiles = np.random.default_rng(n).normal(size=(13, n, n)).astype("float32")
    compact = compact_of(tiles)
    np.testing.assert_array_equal(llc_tiles(compact), tiles)
    np.testing.assert_array_equal(llc_tiles(np.stack([compact, 2 * compact])), np.stack([tiles, 2 * tiles]))
    assert not np.shares_memory(llc_tiles(compact), compact)


@pytest.mark.parametrize("shape", [(), (90,), (90, 1170), (12, 1), (0, 0)])
def test_other_layouts_are_refused(shape):
    with pytest.raises(DataError, match=r"the compact LLC layout is \(\.\.\., 13 n, n\)"):
        llc_tiles(np.zeros(shape))


# ------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("depth", ["Depth", "hFacC"])
def test_the_geometry_of_a_folder_of_mds_files(tmp_path, depth):
    write_mds_grid(tmp_path, OCEAN, depth)
    found = llc_grid(tmp_path)
    np.testing.assert_array_equal(found.mask, OCEAN.mask)
    np.testing.assert_array_equal(found.places, OCEAN.places)
    np.testing.assert_allclose(found.area_weights, OCEAN.area_weights, rtol=1e-12)
    assert np.isnan(found.lat[3]).all()  # the blank tile, not a place at 0 N, 0 E
    assert np.isfinite(found.lat[np.arange(13) != 3]).all()
    with pytest.raises(
        DataError, match=f"{depth} has no levels, so land at level 3 is not known; take level 0"
    ):
        llc_grid(tmp_path, level=3)


@pytest.mark.parametrize(("mask", "levels"), [("maskC", True), ("hFacC", True), ("Depth", False)])
def test_the_geometry_of_a_netcdf_file(tmp_path, mask, levels):
    at = ("tile", "j", "i")
    wet = np.stack([OCEAN.mask, OCEAN.mask & (OCEAN.lat < 0)]) * 0.7 if levels else OCEAN.mask * 4000.0
    dims = ("k", *at) if levels else at
    places = {"XC": (at, OCEAN.lon), "YC": (at, OCEAN.lat), "rA": (at, OCEAN.area)}
    xr.Dataset({mask: (dims, wet), **places}).to_netcdf(tmp_path / "GRID_GEOMETRY_ECCO.nc")
    assert llc_grid(tmp_path / "GRID_GEOMETRY_ECCO.nc") == OCEAN == llc_grid(tmp_path)
    if levels:
        assert llc_grid(tmp_path, level=1) == OCEAN.restricted(OCEAN.places[0] < 0)
        with pytest.raises(DataError, match=r"level 2 does not exist; it has levels 0 \.\. 1"):
            llc_grid(tmp_path, level=2)
    else:
        with pytest.raises(
            DataError, match="Depth has no levels, so land at level 3 is not known; take level 0"
        ):
            llc_grid(tmp_path, level=3)


def test_a_mask_of_all_levels_goes_before_one_of_the_surface(tmp_path):
    at = ("tile", "j", "i")
    wet = np.stack([OCEAN.mask, OCEAN.mask & (OCEAN.lat < 0)])
    places = {"XC": (at, OCEAN.lon), "YC": (at, OCEAN.lat), "rA": (at, OCEAN.area)}
    masks = {"maskC": (at, OCEAN.mask), "hFacC": (("k", *at), wet * 1.0)}
    xr.Dataset({**masks, **places}).to_netcdf(tmp_path / "grid.nc")
    assert llc_grid(tmp_path / "grid.nc", level=1) == OCEAN.restricted(OCEAN.places[0] < 0)


def test_a_surface_mask_does_not_tell_the_cells_of_a_deep_field(tmp_path):
    deep = np.where(OCEAN.lat < 0, 1.0, np.nan)
    dataset = native(OCEAN, np.stack([np.ones(OCEAN.shape), deep])[None], np.array(["2001-01-01"], "M8[ns]"))
    dataset["Depth"] = ("tile", "j", "i"), OCEAN.mask * 4000.0
    dataset.to_netcdf(tmp_path / "theta.nc")
    assert read_llc(tmp_path / "theta.nc", "THETA").sizes["cell"] == OCEAN.n_valid
    assert read_llc(tmp_path / "theta.nc", "THETA", level=1).sizes["cell"] == (OCEAN.places[0] < 0).sum()
    dataset.isel(k=0).to_netcdf(tmp_path / "flat.nc")
    with pytest.raises(DataError, match="variable 'THETA' has no levels; take level 0"):
        read_llc(tmp_path / "flat.nc", "THETA", level=1)


def test_files_without_a_geometry_are_told(tmp_path):
    with pytest.raises(DataError, match=r"has no XC\.meta and 0 netCDF files named 'grid'"):
        llc_grid(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        llc_grid(tmp_path / "grid.nc")
    at = ("tile", "j", "i")
    xr.Dataset({"XC": (at, OCEAN.lon), "YC": (at, OCEAN.lat)}).to_netcdf(tmp_path / "grid.nc")
    with pytest.raises(DataError, match="has none of maskC, hFacC, Depth, so land is not known"):
        llc_grid(tmp_path)
    xr.Dataset({"Depth": (at, OCEAN.mask * 1.0)}).to_netcdf(tmp_path / "bare.nc")
    with pytest.raises(DataError, match=r"bare\.nc: has no XC and YC, so places are not known"):
        llc_grid(tmp_path / "bare.nc")
    write_mds(tmp_path / "XC", np.zeros((13, 1)))
    with pytest.raises(DataError, match="has neither hFacC nor Depth, so land is not known"):
        llc_grid(tmp_path)


# ------------------------------------------------------------------------------------- netCDF of fields


def test_a_field_has_time_cells_and_their_places(tmp_path):
    values = maps()
    native(OCEAN, values, DATES).to_netcdf(tmp_path / "sst.nc")
    field = read_llc(tmp_path / "sst.nc")
    assert isinstance(field.data, dask.array.Array)  # nothing is read yet
    assert (field.dims, field.name, field.attrs["units"]) == (("time", "cell"), "THETA", "degree_C")
    assert field.dtype == np.float32
    np.testing.assert_array_equal(field, values[:, OCEAN.mask])
    np.testing.assert_array_equal(field.time, DATES)
    np.testing.assert_array_equal([field.lat, field.lon], OCEAN.places)
    np.testing.assert_array_equal([field.tile, field.j, field.i], OCEAN.indices)
    part = OCEAN.restricted(OCEAN.places[0] > 10)
    np.testing.assert_array_equal(read_llc(tmp_path / "sst.nc", grid=part), values[:, part.mask])


def test_several_files_are_one_series_in_the_order_of_dates(tmp_path):
    values = maps()
    for k, day in enumerate((2, 0, 3, 1)):  # names are not in the order of dates
        native(OCEAN, values[[day]], DATES[[day]]).to_netcdf(tmp_path / f"day{k}.nc")
    files = sorted(tmp_path.glob("*.nc"))
    for source in (tmp_path, str(tmp_path / "day*.nc"), files):
        field = read_llc(source, "THETA")
        np.testing.assert_array_equal(field.time, DATES)
        np.testing.assert_array_equal(field, values[:, OCEAN.mask])
    np.testing.assert_array_equal(read_llc(files[:2]), values[[0, 2]][:, OCEAN.mask])


def test_levels_faces_calendars_and_single_dates(tmp_path):
    values = maps(6).reshape(3, 2, *OCEAN.shape)
    dates = xr.date_range("2000-02-28", periods=3, calendar="noleap", use_cftime=True)
    file = tmp_path / "theta.nc"
    deep = native(OCEAN, values, dates).rename(tile="face")
    deep["SALT"] = deep.THETA * 0
    deep.to_netcdf(file)
    field = read_llc(file, "THETA", level=1)
    np.testing.assert_array_equal(field, values[:, 1][:, OCEAN.mask])
    assert field.time.values[1] == dates[1]
    with pytest.raises(DataError, match=r"holds 2 variables \(THETA, SALT\); choose one"):
        read_llc(file)
    with pytest.raises(DataError, match=r"level 2 does not exist; it has levels 0 \.\. 1"):
        read_llc(file, "THETA", level=2)
    with pytest.raises(DataError, match="has no variable 'THET'; did you mean 'THETA'"):
        read_llc(file, "THET")
    native(OCEAN, maps(1), DATES[:1]).isel(time=0).to_netcdf(tmp_path / "one.nc")
    assert read_llc(tmp_path / "one.nc").shape == (1, OCEAN.n_valid)


def test_land_is_where_the_file_says_or_the_first_map_is_nan(tmp_path):
    values = maps(2)
    values[1, 0, 0, 0] = np.nan  # missing at one date: still a cell
    dataset = native(OCEAN, values, DATES[:2])
    dataset.to_netcdf(tmp_path / "a.nc")
    field = read_llc(tmp_path / "a.nc")
    assert field.sizes["cell"] == OCEAN.n_valid
    assert np.isnan(field[1, 0])
    assert "area" not in field.coords
    at = ("tile", "j", "i")
    dataset["hFacC"] = (at, (OCEAN.mask & (OCEAN.lat > 0)) * 0.5)
    dataset["rA"] = (at, OCEAN.area)
    dataset.to_netcdf(tmp_path / "b.nc")
    field = read_llc(tmp_path / "b.nc", "THETA")
    north = OCEAN.restricted(OCEAN.places[0] > 0)
    np.testing.assert_array_equal(field, values[:, north.mask])
    np.testing.assert_array_equal(field.area, north.area[north.mask])


def test_files_of_other_kinds_are_told(tmp_path):
    dataset = native(OCEAN, maps(1), DATES[:1])
    with pytest.raises(DataError, match="no netCDF file; check the path"):
        read_llc(tmp_path)
    with pytest.raises(DataError, match=r"none\.nc: no such file"):
        read_llc(tmp_path / "none.nc")
    dataset.isel(time=0, drop=True).to_netcdf(tmp_path / "still.nc")
    with pytest.raises(DataError, match="variable 'THETA' has no time"):
        read_llc(tmp_path / "still.nc")
    dataset.expand_dims(member=2).to_netcdf(tmp_path / "members.nc")
    with pytest.raises(DataError, match="variable 'THETA' has a dimension 'member' too"):
        read_llc(tmp_path / "members.nc", "THETA")
    dataset.drop_vars(("XC", "YC")).to_netcdf(tmp_path / "nowhere.nc")
    with pytest.raises(DataError, match=r"nowhere\.nc: has no XC and YC.*give grid="):
        read_llc(tmp_path / "nowhere.nc")
    assert read_llc(tmp_path / "nowhere.nc", grid=OCEAN).sizes["cell"] == OCEAN.n_valid
    dataset.isel(tile=[10]).to_netcdf(tmp_path / "part.nc")
    with pytest.raises(DataError, match=r"tiles are \(1, 6, 6\), the grid is \(13, 6, 6\)"):
        read_llc(tmp_path / "part.nc", grid=OCEAN)
    regular = xr.DataArray(np.zeros((2, 3, 4)), {"time": DATES[:2]}, ("time", "lat", "lon"), "sst")
    regular.to_netcdf(tmp_path / "regular.nc")
    with pytest.raises(DataError, match=r"regular\.nc: array with dimensions .* has no 'tile'"):
        read_llc(tmp_path / "regular.nc")
    (tmp_path / "broken.nc").write_bytes((tmp_path / "members.nc").read_bytes()[:300])
    with pytest.raises(DataError, match=r"broken\.nc: damaged or not a netCDF file"):
        read_llc(tmp_path / "broken.nc")


# ---------------------------------------------------------------------------------------- MDS series


def write_series(folder, values, step=24):
    for k, tiles in enumerate(values):
        write_mds(folder / f"ETAN.{step * (k + 1):010d}", compact_of(tiles))


START = {"time_step_seconds": 3600, "start": "2000-02-28"}


def test_a_series_of_pairs_gets_its_dates_from_iterations(tmp_path):
    values = maps(3)
    write_series(tmp_path, values)
    write_mds(tmp_path / "ETANSQ.0000000024", compact_of(values[0]))
    field = read_mds_series(tmp_path, "ETAN", OCEAN, **START)
    assert isinstance(field.data, dask.array.Array)
    assert (field.dims, field.name, field.dtype) == (("time", "cell"), "ETAN", np.float32)
    np.testing.assert_array_equal(field, values[:, OCEAN.mask])
    days = np.array(["2000-02-29", "2000-03-01", "2000-03-02"], "datetime64[ns]")
    np.testing.assert_array_equal(field.time, days)
    np.testing.assert_array_equal(field.tile, OCEAN.indices[0])
    (tmp_path / "ETAN.0000000072.data").write_bytes(b"short")
    late = read_mds_series(tmp_path, "ETAN", OCEAN, **START)
    np.testing.assert_array_equal(late[:2], values[:2, OCEAN.mask])
    with pytest.raises(DataError, match=r"ETAN\.0000000072\.data: truncated"):
        late.load()


def test_a_series_of_levels_and_records(tmp_path):
    tiles = maps(4).reshape(2, 2, *OCEAN.shape)
    for k in range(2):
        compact = np.stack([compact_of(t) for t in tiles[k]])
        write_mds(tmp_path / f"T.{k:010d}", compact, fldList="{ 'UP  ' 'DOWN' }")
    named = read_mds_series(tmp_path, "T", OCEAN, record="DOWN", **START)
    np.testing.assert_array_equal(named, tiles[:, 1][:, OCEAN.mask])
    assert named.name == "DOWN"
    for k in range(2):  # the same bytes as one record of two levels
        meta = tmp_path / f"T.{k:010d}.meta"
        text = (
            meta.read_text()
            .replace("nDims = [   2 ]", "nDims = [   3 ]")
            .replace("nrecords = [     2 ]", "nrecords = [ 1 ]")
        )
        meta.write_text(text.replace(f"{13 * N},    1, {13 * N}\n", f"{13 * N}, 1, {13 * N},\n 2, 1, 2\n"))
    deep = read_mds_series(tmp_path, "T", OCEAN, level=1, **START)
    np.testing.assert_array_equal(deep, tiles[:, 1][:, OCEAN.mask])
    with pytest.raises(DataError, match=r"level 2 does not exist; it has levels 0 \.\. 1"):
        read_mds_series(tmp_path, "T", OCEAN, level=2, **START)
    write_mds(tmp_path / f"S.{0:010d}", compact_of(maps(1)[0]))
    with pytest.raises(DataError, match=r"S\.0000000000: has no levels; take level 0"):
        read_mds_series(tmp_path, "S", OCEAN, level=1, **START)


def test_bad_series_are_told(tmp_path):
    with pytest.raises(DataError, match=r"has no files ETAN\.0000000000\.meta"):
        read_mds_series(tmp_path, "ETAN", OCEAN, **START)
    write_series(tmp_path, maps(1))
    with pytest.raises(
        DataError, match=r"grid is \(13, 3, 3\) \(tile, j, i\), got maps of shape \(13, 6, 6\)"
    ):
        read_mds_series(tmp_path, "ETAN", grid(3), **START)
    with pytest.raises(DataError, match="time_step_seconds=0: must be positive"):
        iterations_to_dates([1], time_step_seconds=0, start="2000-01-01")
    with pytest.raises(DataError, match="start='soon': is no date"):
        iterations_to_dates([1], time_step_seconds=1, start="soon")


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "llc.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    dates = np.array(["1992-01-01", "1995-06-01", "1996-01-01"], "datetime64[ns]")
    values = maps(6).reshape(3, 2, *OCEAN.shape)
    (tmp_path / "OCEAN_TEMP").mkdir()
    native(OCEAN, values, dates).to_netcdf(tmp_path / "OCEAN_TEMP" / "a.nc")
    geometry = (
        native(OCEAN, maps(1), dates[:1]).isel(time=0).assign(Depth=(("tile", "j", "i"), OCEAN.mask * 9.0))
    )
    geometry.to_netcdf(tmp_path / "GRID_GEOMETRY_ECCO_V4r4_native_llc0090.nc")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)
    north = OCEAN.restricted(OCEAN.places[0] > -20)
    np.testing.assert_array_equal(names["y"], values[:2, 0][:, north.mask][:, north.nearest(50, 234)])
    assert (tmp_path / "sst.png").stat().st_size > 10_000


# ---------------------------------------------------------------------------------------- real files


def test_real_tiles_are_smooth(data_dir):
    lat, lon = (llc_tiles(read_mds(data_dir / "ecco" / name)) for name in ("YC", "XC"))
    real = llc_grid(data_dir / "ecco")
    phi, theta = np.deg2rad(lat.astype(float)), np.deg2rad(lon.astype(float))
    xyz = np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=-1)
    xyz[np.isnan(real.lat)] = np.nan
    for axis in (1, 2):
        steps = np.rad2deg(np.linalg.norm(np.diff(xyz, axis=axis), axis=-1))
        assert np.nanmax(steps) < 1.2
    assert (lat[7:10, :, :-1] >= lat[7:10, :, 1:]).mean() > 0.95  # turned: i runs south
    assert np.nansum(np.where(real.mask, real.area, 0)) == pytest.approx(0.71 * 5.1e14, rel=0.02)


def test_a_real_record_of_a_regular_grid(data_dir):
    meta = read_meta(data_dir / "ecco" / "ETAN.0000000732")
    assert (meta.shape, meta.fields) == ((360, 720), ("ETAN",))
    etan = read_mds(data_dir / "ecco" / "ETAN.0000000732", "ETAN")
    assert np.nanmax(np.abs(etan)) < 5  # metres, sea ice floats in it
    assert 0.6 < np.isfinite(etan).mean() < 0.75


def test_xmitgcm_cuts_the_same_tiles(data_dir):
    utils = pytest.importorskip("xmitgcm.utils", reason="the extra [ecco] is not installed")
    for name in ("XC", "YC", "Depth", "RAC"):
        file = data_dir / "ecco" / f"{name}.data"
        theirs = utils.read_3d_llc_data(str(file), 1, 90, dtype=">f4", memmap=False)
        np.testing.assert_array_equal(llc_tiles(read_mds(file)), np.squeeze(np.asarray(theirs)))
