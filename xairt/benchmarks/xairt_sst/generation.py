"""Data of a case: maps of anomalies, and the anomaly of the target a lag later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xairt import fields
from xairt.benchmarks.xairt_sst.planted import planted_grid, planted_sst
from xairt.data.files import read_array, write_dataset
from xairt.errors import DataError
from xairt.grid import Grid
from xairt.runs import Case, CaseSettings

if TYPE_CHECKING:
    import xarray as xr

    from xairt.llc import LLCGrid

DATA = "data.nc"
PLANTED, NETCDF, LLC = "planted", "netcdf", "llc"


def generate(case: Case) -> None:
    """Write the samples of a case: ``data.nc`` holds what `samples` returns.

    Parameters
    ----------
    case : Case
    """
    title = "SST anomalies, and the anomaly of a target a lag later"
    write_dataset(samples(case.config), case.write(DATA), title=title)


def samples(config: CaseSettings) -> xr.Dataset:
    """Return maps of anomalies with the anomaly of the target a lag later.

    Anomalies are taken before the running mean, which only the target gets; then maps and target are paired by
    their dates.

    Parameters
    ----------
    config : CaseSettings
        Settings of stage generate.

    Returns
    -------
    xarray.Dataset
        ``x`` (sample, lat, lon) with NaN on land, or (sample, cell) of an LLC grid, K; ``y`` (sample), the
        averaged anomaly of the target, K; ``label`` (sample), 1 where y is above 0, else 0; ``now`` (sample),
        the class of the target at the time of the map, not averaged, so that it knows nothing later; coordinates
        ``time`` and ``target_time`` (sample).

    Raises
    ------
    DataError
        If the source cannot be read, no cell is left, or no two dates are a lag apart.
    """
    field, grid = sea_surface(config)
    period = None if config.fitted_on == "all" else _before_the_tested(field, config)
    anomalies = fields.anomalies(field, convention=config.anomalies, standardise=False, reference=period)
    grid = grid or Grid.from_dataarray(anomalies)
    place = config.target_place
    target = fields.target_series(
        anomalies, grid=grid, place=place, box=None if place is not None else config.target_box
    )
    averaged = fields.running_mean(target, config.running_mean)
    inputs = _within(anomalies, grid, config.latitudes)
    x, y = fields.lagged(inputs, averaged, config.lag)
    now = target.sel(time=x["time"].values)
    return _labelled(x.astype(np.float32), y, now)


def sea_surface(config: CaseSettings) -> tuple[xr.DataArray, LLCGrid | None]:
    """Return SST over time, and the grid where it is none of latitudes and longitudes.

    Raises
    ------
    DataError
        If a file is missing, not named, or cannot be read.
    """
    from xairt.data.llc import llc_grid

    folder = config.grid_folder
    if config.source == PLANTED:
        grid = planted_grid() if folder is None else llc_grid(folder)
        sst = planted_sst(
            grid,
            _centre(config),
            n_months=config.n_months,
            lag=config.planted_lag,
            share=config.planted_share,
            source_box=config.source_box,
            seed=config.seed,
        )
        return sst, None if folder is None else grid
    if config.source == NETCDF:
        return _ocean_of(
            fields.read_field(config.source_file, config.variable, config.step), config.land
        ), None
    return _llc_field(config)


def _llc_field(config: CaseSettings) -> tuple[xr.DataArray, LLCGrid]:
    """Read tiles from netCDF files, or from MDS files, which tell neither their ocean nor their dates."""
    from xairt.data.llc import llc_grid, read_llc, read_mds_series
    from xairt.llc import LLCGrid

    if config.source_file is None:
        raise DataError("source 'llc' reads files; set source_file")
    grid = None if config.grid_folder is None else llc_grid(config.grid_folder)
    if config.mds_name is None:
        sst = read_llc(config.source_file, config.variable, grid=grid)
    else:
        step, start = config.mds_time_step, config.mds_start
        sst = read_mds_series(config.source_file, config.mds_name, grid, time_step_seconds=step, start=start)
    return sst, LLCGrid.from_dataarray(sst)


def grid_of(data: Path) -> Grid | LLCGrid:
    """Return the cells of a file of samples."""
    from xairt.llc import LLCGrid, is_llc

    first = read_array(data, "x", select={"sample": slice(0, 1)})
    return LLCGrid.from_dataarray(first) if is_llc(first) else Grid.from_dataarray(first)


def _centre(config: CaseSettings) -> tuple[float, float]:
    """Return the target's place, or the middle of its box."""
    if config.target_place is not None:
        return config.target_place
    south, north, west, east = config.target_box
    return (south + north) / 2, west + ((east - west) % 360) / 2


def _ocean_of(field: xr.DataArray, land: str) -> xr.DataArray:
    """Return a field (time, lat, lon) with NaN on land."""
    import xarray as xr

    from xairt.data.natural_earth import land_mask

    if land == "missing":
        return field
    if land == "natural_earth":
        ocean = ~land_mask(field["lat"].values, field["lon"].values)
    else:
        known = fields.read_field(land, step=1)[0]
        ocean = known.reindex(lat=field["lat"], lon=field["lon"], method="nearest").notnull().values
    return field.where(xr.DataArray(ocean, dims=("lat", "lon")))


def n_tested(config: CaseSettings, n: int) -> int:
    """Return how many of n samples, the last ones, are kept for testing."""
    return max(1, round(config.test_share * n))


def _before_the_tested(field: xr.DataArray, config: CaseSettings) -> tuple[Any, Any]:
    """Return first and last of the dates before any that a tested sample uses, in its map or averaged target."""
    time = field["time"]
    position = time.copy(data=np.arange(time.size, dtype=np.float64)).rename("position")
    x, y = fields.lagged(position, fields.running_mean(position, config.running_mean), config.lag)
    tested = slice(len(x) - n_tested(config, len(x)), None)
    earliest = int(min(x.values[tested].min(), y.values[tested].min() - config.running_mean // 2))
    if earliest < 1:
        raise DataError("fitted_on='training': no date lies before the tested ones; lower test_share")
    return time.values[0], time.values[earliest - 1]


def _within(anomalies: xr.DataArray, grid: Grid | LLCGrid, latitudes: tuple[float, float]) -> xr.DataArray:
    """Return the cells between two latitudes."""
    kept = fields.region(grid, lat=latitudes)
    if not kept.any():
        raise DataError(f"latitudes {latitudes}: no ocean cell lies there; widen them")
    if "cell" in anomalies.dims:
        return anomalies.isel(cell=kept)
    rows = (anomalies["lat"] >= latitudes[0]) & (anomalies["lat"] <= latitudes[1])
    return anomalies.isel(lat=np.flatnonzero(rows))


def _labelled(x: xr.DataArray, y: xr.DataArray, now: xr.DataArray) -> xr.Dataset:
    import xarray as xr

    kelvin = {"units": "K"}
    classes = {"units": "1", "flag_values": np.array([0, 1], np.int8), "flag_meanings": "negative positive"}
    name = "anomaly of the target"
    return xr.Dataset(
        {
            "x": x.assign_attrs(kelvin, long_name="SST anomaly"),
            "y": y.assign_attrs(kelvin, long_name=name),
            "label": (
                "sample",
                (y.values > 0).astype(np.int8),
                {**classes, "long_name": f"class of the {name}"},
            ),
            "now": (
                "sample",
                (now.values > 0).astype(np.int8),
                {**classes, "long_name": f"class of the {name} at the time of the map, not averaged"},
            ),
        }
    )
