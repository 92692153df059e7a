"""A small ocean on 13 tiles laid out as the LLC grids are, and the files that the MITgcm and ECCO write of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xairt.llc import LLCGrid

SOUTH, CAP = -75.0, 66.0
"""Latitudes in degrees: the southern end of the grid, and where the Arctic cap begins."""


def geometry(n: int) -> tuple[NDArray, NDArray]:
    """Return lat and lon (13, n, n): four faces of 90 degrees of longitude, and a cap over the pole."""
    rows = SOUTH + (CAP - SOUTH) * (np.arange(3 * n) + 0.5) / (3 * n)
    across = (np.arange(n) + 0.5) * 90 / n
    lat, lon = np.empty((2, 13, n, n))
    for tile in range(13):
        for j in range(n):
            for i in range(n):
                if tile < 6:
                    place = rows[tile % 3 * n + j], -38 + 90 * (tile // 3) + across[i]
                elif tile > 6:
                    place = rows[::-1][(tile - 7) % 3 * n + i], 142 + 90 * ((tile - 7) // 3) + across[j]
                else:
                    place = cap_place((i + 0.5) / n * 2 - 1, (j + 0.5) / n * 2 - 1)
                lat[tile, j, i], lon[tile, j, i] = place
    return lat, (lon + 180) % 360 - 180


def cap_place(x: float, y: float) -> tuple[float, float]:
    """Return latitude and longitude of a point of the square cap, whose rings are circles of latitude."""
    ring = max(abs(x), abs(y))
    return 90 - (90 - CAP) * ring, np.rad2deg(np.arctan2(y, x)) + 7


def compact_of(tiles: NDArray) -> NDArray:
    """Return (13 n, n) values as the MITgcm writes (13, n, n) tiles: face by face, one value after another."""
    n = tiles.shape[-1]
    written = []
    for face in ((0, 1, 2), (3, 4, 5), (6,)):
        for tile in face:
            for j in range(n):
                written += list(tiles[tile, j])
    for face in ((7, 8, 9), (10, 11, 12)):
        for j in range(n):
            for tile in face:
                written += list(tiles[tile, j])
    return np.array(written, tiles.dtype).reshape(13 * n, n)


def ocean(n: int) -> NDArray[np.bool_]:
    """Return where there is water, about three quarters of the tiles: land in blocks, and a blank corner."""
    lat, lon = geometry(n)
    land = (np.abs(lon - 20) < 25) & (lat > -30) & (lat < 60)
    return ~land & (np.arange(13)[:, None, None] != 3)


def grid(n: int = 6) -> LLCGrid:
    """Return the small ocean, with areas that grow towards the equator."""
    lat, lon = geometry(n)
    return LLCGrid(ocean(n), lat, lon, 1e10 * np.cos(np.deg2rad(lat)))


def write_mds(stem: Path, values: NDArray, dtype: str = "float32", **entries: str) -> None:
    """Write a pair of .data and .meta; a first dimension beyond two is one of records."""
    records = len(values) if values.ndim == 3 else 1
    values.astype(np.dtype(dtype).newbyteorder(">")).tofile(f"{stem}.data")
    ny, nx = values.shape[-2:]
    sizes = f"   {nx},    1,   {nx},\n  {ny},    1, {ny}\n"
    text = f" nDims = [   2 ];\n dimList = [\n{sizes} ];\n dataprec = [ '{dtype}' ];\n nrecords = [ {records:5d} ];\n"
    text += "".join(f" {key} = {value};\n" for key, value in entries.items())
    Path(f"{stem}.meta").write_text(text)


def write_mds_grid(folder: Path, grid: LLCGrid, depth: str = "Depth") -> None:
    """Write XC, YC, RAC and Depth (or hFacC) with zeros on tile 3, which the model leaves blank."""
    blank = np.arange(13)[:, None, None] == 3
    fields = {"XC": grid.lon, "YC": grid.lat, "RAC": grid.area, depth: np.where(grid.mask, 1.0, 0.0)}
    for name, values in fields.items():
        write_mds(folder / name, compact_of(np.where(blank, 0.0, values)), "float64")


def native(grid: LLCGrid, values: NDArray, dates: NDArray, name: str = "THETA") -> xr.Dataset:
    """Return a Dataset as ECCO's files on the native grid are; values (time, [k,] tile, j, i)."""
    dims = ("time", *(["k"] if values.ndim == 5 else []), "tile", "j", "i")
    at = ("tile", "j", "i")
    coords = {"time": dates, "tile": np.arange(13), "XC": (at, grid.lon), "YC": (at, grid.lat)}
    field = (dims, np.where(grid.mask, values, np.nan), {"long_name": "temperature", "units": "degree_C"})
    return xr.Dataset({name: field}, coords)
