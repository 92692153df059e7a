"""Readers of the ECCO ocean state estimates: netCDF and MITgcm binary files on lat-lon-cap (LLC) tiles.

Fields come as (time, cell) with the places of their cells, see `xairt.llc.LLCGrid`. Their values are read when
they are used. numpy and xarray do all of it: no other package is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xairt.cells import CELL_DIM
from xairt.data.files import existing_file, loaded, open_netcdf, variable_of
from xairt.data.mds import iterations_to_dates, read_mds
from xairt.errors import DataError
from xairt.llc import LLC_DIMS, LLCGrid, tile_maps

if TYPE_CHECKING:
    import xarray as xr

N_TILES = 13
_TURNED_FACES = ((7, 10), (10, 13))
"""First and last tile of faces 4 and 5, which are stored as rows of three tiles."""

_DEPTHS = ("k", "Z", "depth")
_LAT, _LON, _AREA = ("YC", "lat"), ("XC", "lon"), ("rA", "RAC", "area")
_MASKS = ("maskC", "hFacC", "Depth")
_ITERATION = re.compile(r"\.(\d{10})\.meta$")


def llc_tiles(compact: ArrayLike) -> NDArray[Any]:
    """Cut fields of the compact LLC layout into tiles.

    Parameters
    ----------
    compact
        (..., 13 n, n): faces 1, 2 (3 n rows each), 3 (n rows), and faces 4 and 5, whose (n, 3 n) values follow
        each other as rows of n. What the MITgcm writes for LLC90 is (1170, 90).

    Returns
    -------
    numpy.ndarray
        (..., 13, n, n), dimensions (tile, j, i), with the order and the orientation of the tiles of ECCO's
        netCDF files.

    Raises
    ------
    DataError
        If the last dimensions are not (13 n, n).

    References
    ----------
    Forget et al. (2015), Geosci. Model Dev. 8, 3071, section 2.
    """
    compact = np.asarray(compact)
    n = compact.shape[-1] if compact.ndim else 0
    if compact.ndim < 2 or n == 0 or compact.shape[-2] != N_TILES * n:
        raise DataError(f"array has shape {compact.shape}; the compact LLC layout is (..., 13 n, n)")
    before = compact.shape[:-2]
    tiles = compact.reshape(*before, N_TILES, n, n).copy()
    for first, last in _TURNED_FACES:
        face = compact[..., first * n : last * n, :].reshape(*before, n, 3, n)
        tiles[..., first:last, :, :] = np.moveaxis(face, -2, -3)
    return tiles


def llc_grid(path: str | os.PathLike[str], level: int = 0) -> LLCGrid:
    """Read the geometry of an LLC grid: places and areas of its cells, and which are ocean.

    Parameters
    ----------
    path : path
        A netCDF file with XC, YC, maskC, hFacC or Depth, and rA, such as ECCO's GRID_GEOMETRY file; or a folder
        of MITgcm files XC, YC, hFacC or Depth, and RAC; or a folder with one GRID netCDF file.
    level : int
        Level of maskC or hFacC, from 0 at the surface. Depth, and a mask without levels, know the surface only.

    Returns
    -------
    LLCGrid
        A cell is valid where it is ocean. Blank cells of the model (place and area 0) have no place. Without
        areas in the files the grid has none.

    Raises
    ------
    DataError
        If a file is missing or damaged, says neither where cells are nor which are ocean, or does not know that
        level.
    """
    source = Path(path)
    if not source.is_dir():
        return _grid_of_netcdf(existing_file(source), level)
    if (source / "XC.meta").is_file():
        return _grid_of_mds(source, level)
    files = [file for file in sorted(source.glob("*.nc")) if "grid" in file.name.lower()]
    if len(files) != 1:
        raise DataError(
            f"{source}: has no XC.meta and {len(files)} netCDF files named 'grid'; name the grid file"
        )
    return _grid_of_netcdf(files[0], level)


def read_llc(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    variable: str | None = None,
    *,
    grid: LLCGrid | None = None,
    level: int = 0,
) -> xr.DataArray:
    """Open a field of netCDF files on LLC tiles, as ECCO's native grid files are.

    Parameters
    ----------
    path : path, or sequence of paths
        One file; several files or a folder of .nc files or a pattern such as "SST/*.nc", each with its dates.
    variable : str, optional
        Needed where the files hold several fields.
    grid : LLCGrid, optional
        Cells to take. By default all that the first file says are ocean: where maskC, hFacC or Depth say so, else
        where its first map is not NaN (below the surface too, where none of them has levels); with places XC and
        YC, and areas rA where they are there.
    level : int
        Of a field of several depths, from 0 at the surface.

    Returns
    -------
    xarray.DataArray
        (time, cell), sorted by date, in the stored precision, with coordinates lat, lon (degrees), tile, j, i
        from 0, and area where it is known. Values are read when they are used: ``.sel(time=...).load()``.

    Raises
    ------
    DataError
        If a file is missing, damaged or on other tiles, or lacks the variable, the level or the places.
    """
    files = _files(path)
    parts = [_field(open_netcdf(file), variable, level, file) for file in files]
    if grid is None:
        grid = _grid_of_field(open_netcdf(files[0]), parts[0], files[0], level)
    for part, file in zip(parts, files, strict=True):
        if part.shape[1:] != grid.shape:
            raise DataError(
                f"{file}: tiles are {part.shape[1:]}, the grid is {grid.shape}; give the files of one grid"
            )
    return _series(parts, grid)


def read_mds_series(
    folder: str | os.PathLike[str],
    name: str,
    grid: LLCGrid,
    *,
    time_step_seconds: float,
    start: str | np.datetime64,
    record: int | str = 0,
    level: int = 0,
) -> xr.DataArray:
    """Open a series of MITgcm files in the compact LLC layout, NAME.0000000732.data and so on.

    Parameters
    ----------
    folder : path
    name : str
        What the names of the files begin with.
    grid : LLCGrid
        Cells to take, for example of `llc_grid`; the files have zeros on land, so it cannot be told from them.
    time_step_seconds : float
        Seconds of one iteration (3600 for ECCO version 4).
    start : date
        Of iteration 0, such as "1992-01-01T12:00" (ECCO version 4). The date of a mean is that of the end of
        its period.
    record, level : int or str, int
        Record of the files, see `read_mds`, and level of a field of several depths, from 0 at the surface.

    Returns
    -------
    xarray.DataArray
        As of `read_llc`.

    Raises
    ------
    DataError
        If there is no such file, or the first one is damaged, has no such record or level, or another grid;
        of other files when their values are read.
    """
    import dask.array
    import xarray as xr

    stems = _iterations(Path(folder), name)
    dates = iterations_to_dates(list(stems), time_step_seconds=time_step_seconds, start=start)
    first = _mds_vector(next(iter(stems.values())), record, level, grid)
    lazy = dask.delayed(_mds_vector)
    values = dask.array.stack(
        [
            dask.array.from_delayed(lazy(s, record, level, grid), first.shape, first.dtype)
            for s in stems.values()
        ]
    )
    coords = {"time": ("time", dates), **grid.cell_coordinates()}
    return xr.DataArray(values, coords, ("time", CELL_DIM), str(record) if isinstance(record, str) else name)


def _iterations(folder: Path, name: str) -> dict[int, Path]:
    """Return the pairs of a series by iteration, without suffix, in order."""
    found = {}
    for file in folder.glob(f"{name}.*.meta"):
        if file.name.startswith(f"{name}.") and (match := _ITERATION.fullmatch(file.name[len(name) :])):
            found[int(match[1])] = file.with_suffix("")
    if not found:
        raise DataError(
            f"{folder}: has no files {name}.0000000000.meta or of other iterations; check the name"
        )
    return dict(sorted(found.items()))


def _mds_vector(stem: Path, record: int | str, level: int, grid: LLCGrid) -> NDArray[np.floating]:
    """Read the valid cells (n_valid,) of one file."""
    values = _at_level(read_mds(stem, record), level, stem)
    try:
        return grid.take(llc_tiles(values))
    except DataError as error:
        raise DataError(f"{stem}: {error}") from None


def _grid_of_mds(folder: Path, level: int) -> LLCGrid:
    names = [name for name in ("hFacC", "Depth") if (folder / f"{name}.meta").is_file()]
    if not names:
        raise DataError(f"{folder}: has neither hFacC nor Depth, so land is not known; add one of them")
    ocean = read_mds(folder / names[0])
    if ocean.ndim == 2 and level:
        raise _surface_only(folder / names[0], names[0], level)
    arrays = {name: llc_tiles(read_mds(folder / name)) for name in ("XC", "YC")}
    area = llc_tiles(read_mds(folder / "RAC")) if (folder / "RAC.meta").is_file() else None
    ocean = llc_tiles(_at_level(ocean, level, folder / names[0])) > 0
    return _without_blanks(ocean, arrays["YC"], arrays["XC"], area)


def _grid_of_netcdf(file: Path, level: int) -> LLCGrid:
    with open_netcdf(file) as dataset:
        ocean = _ocean_of(dataset, file, level)
        if ocean is not None:
            return _with_places(ocean, dataset, file)
        name = _first(dataset, _MASKS)
    if name is not None:
        raise _surface_only(file, name, level)
    raise DataError(f"{file}: has none of {', '.join(_MASKS)}, so land is not known; name the grid file")


def _surface_only(file: Path, name: str, level: int) -> DataError:
    return DataError(
        f"{file}: {name} has no levels, so land at level {level} is not known; "
        "take level 0, or give maskC or hFacC of all levels"
    )


def _grid_of_field(dataset: xr.Dataset, field: xr.DataArray, file: Path, level: int) -> LLCGrid:
    """Return the grid of a file of fields; land is NaN in its first map where the file does not say more."""
    ocean = _ocean_of(dataset, file, level)
    if ocean is None:
        ocean = np.isfinite(loaded(field[:1], file).values[0])
    return _with_places(ocean, dataset, file)


def _ocean_of(dataset: xr.Dataset, file: Path, level: int) -> NDArray[np.bool_] | None:
    """Return where a file says that there is ocean (tile, j, i), None where it does not know that level."""
    known = [name for name in _MASKS if not level or (name in dataset and _depth_of(dataset[name]))]
    name = _first(dataset, known)
    if name is None:
        return None
    return loaded(_tiles_at(dataset[name], level, file), file).values > 0


def _with_places(ocean: NDArray[np.bool_], dataset: xr.Dataset, file: Path) -> LLCGrid:
    found = {names: _first(dataset, names) for names in (_LAT, _LON, _AREA)}
    if found[_LAT] is None or found[_LON] is None:
        raise DataError(
            f"{file}: has no XC and YC, so places are not known; give grid= (xairt.data.llc.llc_grid)"
        )
    lat, lon, area = (
        None if name is None else loaded(tile_maps(dataset[name]), file).values for name in found.values()
    )
    try:
        return _without_blanks(ocean, lat, lon, area)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None


def _without_blanks(
    ocean: NDArray[np.bool_], lat: NDArray[Any], lon: NDArray[Any], area: NDArray[Any] | None
) -> LLCGrid:
    """Return the grid; land without place, which the model writes as zeros, gets none."""
    zero = (lat == 0) & (lon == 0)
    blank = ~ocean & (zero if area is None else zero & (area == 0))
    return LLCGrid(ocean, np.where(blank, np.nan, lat), np.where(blank, np.nan, lon), area)


def _first(dataset: xr.Dataset, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in dataset.variables), None)


def _files(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    if not isinstance(path, (str, os.PathLike)):
        files = [existing_file(p) for p in path]
    elif Path(path).is_dir():
        files = sorted(Path(path).glob("*.nc"))
    elif "*" in os.fspath(path):
        pattern = Path(path)
        files = sorted(pattern.parent.glob(pattern.name))
    else:
        files = [existing_file(path)]
    if not files:
        raise DataError(f"{path}: no netCDF file; check the path")
    return files


def _field(dataset: xr.Dataset, variable: str | None, level: int, file: Path) -> xr.DataArray:
    """Return the field of one file as (time, tile, j, i), unread."""
    if variable is None:
        on_tiles = [
            str(n) for n, v in dataset.data_vars.items() if {"j", "i"} <= set(v.dims) and "time" in v.coords
        ]
        variable = on_tiles[0] if len(on_tiles) == 1 else None
    field = variable_of(dataset, variable, file)
    field = _tiles_at(field, level, file)
    if "time" not in field.dims:
        if "time" not in field.coords:
            raise DataError(f"{file}: variable '{field.name}' has no time; give a field with dates")
        field = field.expand_dims("time")
    others = [str(dim) for dim in field.dims if dim not in ("time", *LLC_DIMS)]
    if others:
        raise DataError(
            f"{file}: variable '{field.name}' has a dimension '{others[0]}' too; select one of it first"
        )
    return field.transpose("time", *LLC_DIMS)


def _tiles_at(field: xr.DataArray, level: int, file: Path) -> xr.DataArray:
    """Return labelled maps (..., tile, j, i) at a level."""
    depth = _depth_of(field)
    if depth is None and level:
        raise DataError(f"{file}: variable '{field.name}' has no levels; take level 0")
    if depth is not None:
        if not 0 <= level < field.sizes[depth]:
            raise DataError(
                f"{file}: level {level} does not exist; it has levels 0 .. {field.sizes[depth] - 1}"
            )
        field = field.isel({depth: level})
    try:
        return tile_maps(field)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None


def _depth_of(field: xr.DataArray) -> str | None:
    return next((dim for dim in _DEPTHS if dim in field.dims), None)


def _at_level(values: NDArray[Any], level: int, file: Path) -> NDArray[Any]:
    """Return a compact map at a level."""
    if values.ndim == 2:
        if level:
            raise DataError(f"{file}: has no levels; take level 0")
        return values
    if not 0 <= level < len(values):
        raise DataError(f"{file}: level {level} does not exist; it has levels 0 .. {len(values) - 1}")
    return values[level]


def _series(parts: Sequence[xr.DataArray], grid: LLCGrid) -> xr.DataArray:
    import dask.array
    import xarray as xr

    chunks = {"time": "auto", "tile": -1, "j": -1, "i": -1}
    maps = dask.array.concatenate([part.variable.chunk(chunks).data for part in parts])
    values = maps.map_blocks(
        grid.take,
        chunks=(maps.chunks[0], (grid.n_valid,)),
        drop_axis=(2, 3),
        meta=np.empty((0, 0), maps.dtype),
    )
    time = xr.concat([part["time"] for part in parts], "time")
    coords = {"time": ("time", time.values, parts[0]["time"].attrs), **grid.cell_coordinates()}
    field = xr.DataArray(values, coords, ("time", CELL_DIM), parts[0].name, parts[0].attrs)
    return field if field.indexes["time"].is_monotonic_increasing else field.sortby("time")
