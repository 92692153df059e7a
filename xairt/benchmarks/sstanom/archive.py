"""The archived samples of the paper: maps, contributions and outputs, read block by block."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xairt import fields
from xairt.data import registry
from xairt.data.files import existing_file, open_netcdf
from xairt.data.streams import sample_range
from xairt.errors import DataError, reason_of
from xairt.grid import Grid

SAMPLES = "mamalakis2022-samples"
"""Registered file that is read where none is named."""

SHOWN_IN_THE_PAPER = (979_475, 995_902)
"""Samples of the paper's figures 3 and 4, counted from 0 (979,476 and 995,903 counted from 1)."""

FITTED_SAMPLES = 16_384
"""Most samples that breakpoints are found from."""

MAPS, CONTRIBUTIONS, OUTPUTS, SLOPES = "SSTrand", "Cnt", "y", "W"
_NAMES = (MAPS, CONTRIBUTIONS, OUTPUTS, SLOPES, "lat", "lon")
_LAND_SAMPLES = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Archive:
    """An open archive; arrays are read as they are asked for.

    Attributes
    ----------
    file : pathlib.Path
        For messages.
    grid : Grid
        Ocean cells, row 0 north, longitudes as they are stored.
    n_samples : int
        Samples it holds.
    slopes : numpy.ndarray
        (cells, pieces) of the known function from left to right, divided by the number of cells.
    """

    file: Path
    grid: Grid
    n_samples: int
    slopes: NDArray[np.float64]
    arrays: Mapping[str, Any]
    columns_first: bool
    flipped: bool

    def vectors(self, name: str, first: int, last: int) -> NDArray[np.floating]:
        """Return a range of ``SSTrand`` or ``Cnt`` as vectors (samples, cells) in the stored precision.

        Raises
        ------
        DataError
            If an ocean cell lacks a value.
        """
        maps = _oriented(_part(self, name, first, last), self.columns_first, self.flipped)
        found = maps[..., self.grid.mask]
        if not np.isfinite(found).all():
            raise DataError(
                f"{self.file}: {name} lacks values in ocean cells of samples {first} to {last}; fetch it again"
            )
        return found

    def outputs(self, first: int, last: int) -> NDArray[np.float64]:
        """Return a range of ``y``, (samples,).

        Raises
        ------
        DataError
            If one is not finite.
        """
        found = np.ravel(np.asarray(self.arrays[OUTPUTS]))[first:last].astype(np.float64)
        if not np.isfinite(found).all():
            raise DataError(
                f"{self.file}: {OUTPUTS} lacks values of samples {first} to {last}; fetch it again"
            )
        return found

    def function(self, first: int, last: int) -> fields.PiecewiseLinear | None:
        """Return the known function with breakpoints found from the first samples of a range.

        Breakpoints are not archived. They follow from the slopes and from how each cell's contribution changes
        with its anomaly, see `xairt.fields.fit_breakpoints`; None, with a warning, where that fails.
        """
        end = min(last, first + FITTED_SAMPLES)
        x, contribution = (self.vectors(name, first, end) for name in (MAPS, CONTRIBUTIONS))
        try:
            return fields.fit_breakpoints(x, contribution, self.slopes)
        except DataError as error:
            log.warning("%s: breakpoints not found, slopes are left out (%s)", self.file, error)
            return None


@contextmanager
def opened(path: str | None = None) -> Iterator[Archive]:
    """Open the archived samples.

    Parameters
    ----------
    path : path, registered name or URL, optional
        ``synth_exm_data.nc``, or the older MATLAB file (7.3) of the same variables: ``SSTrand`` and ``Cnt``
        (time, lon, lat), ``y`` (time), ``W`` (piece, lon, lat), ``lon``, ``lat``; NaN is land. By default the
        registered file.

    Yields
    ------
    Archive

    Raises
    ------
    DataError
        If the file is missing or damaged, or lacks a variable, or shapes do not fit.

    References
    ----------
    Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7.
    """
    file = archive_file(path)
    with _matlab(file) if file.suffix.lower() == ".mat" else open_netcdf(file) as source:
        missing = [name for name in _NAMES if name not in source]
        if missing:
            raise DataError(f"{file}: lacks {', '.join(missing)}; give synth_exm_data.nc or .mat")
        yield _described(file, {name: source[name] for name in _NAMES})


def archive_file(path: str | None = None) -> Path:
    """Return the local file of the archived samples: a path, registered name or URL, else the registered file.

    Raises
    ------
    DataError
        If it is not here and cannot be downloaded.
    """
    return existing_file(registry.path(SAMPLES, progress=True) if path is None else registry.resolve(path))


@contextmanager
def _matlab(file: Path) -> Iterator[Mapping[str, Any]]:
    import h5py

    try:
        source = h5py.File(file, "r")
    except OSError as error:
        raise DataError(
            f"{file}: damaged or no MATLAB 7.3 file ({reason_of(error, 120)}); fetch it again"
        ) from None
    with source:
        yield source


def _described(file: Path, arrays: Mapping[str, Any]) -> Archive:
    """Check shapes, and find order of axes and land."""
    lat, lon = (np.ravel(np.asarray(arrays[name])).astype(np.float64) for name in ("lat", "lon"))
    n, maps = int(np.prod(arrays[OUTPUTS].shape)), (len(lon), len(lat))
    columns_first = tuple(arrays[MAPS].shape[1:]) == maps
    shape = maps if columns_first else maps[::-1]
    for name in (MAPS, CONTRIBUTIONS, SLOPES):
        found = tuple(arrays[name].shape)
        if found[1:] != shape or (name != SLOPES and found[0] != n):
            wanted = f"({'piece' if name == SLOPES else n}, {shape[0]}, {shape[1]})"
            raise DataError(f"{file}: {name} has the shape {found}, not {wanted}; give (time, lon, lat)")
    flipped = len(lat) > 1 and lat[0] < lat[-1]
    head = _oriented(np.asarray(arrays[MAPS][:_LAND_SAMPLES]), columns_first, flipped)
    if np.isnan(head).all():
        raise DataError(f"{file}: {MAPS} holds no value; fetch it again")
    grid = Grid(~np.isnan(head).all(axis=0), lat[::-1] if flipped else lat, lon)
    slopes = _oriented(np.asarray(arrays[SLOPES]), columns_first, flipped)[..., grid.mask].T
    return Archive(file, grid, n, slopes.astype(np.float64), arrays, columns_first, flipped)


def _part(archive: Archive, name: str, first: int, last: int) -> NDArray[np.floating]:
    first, last = sample_range(f"{archive.file}: {name}", archive.n_samples, first, last)
    try:
        return np.asarray(archive.arrays[name][first:last])
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{archive.file}: {name} cannot be read ({reason_of(error, 120)}); fetch it again"
        ) from error


def _oriented(maps: NDArray[np.floating], columns_first: bool, flipped: bool) -> NDArray[np.floating]:
    """Return maps (..., lat, lon) with row 0 north."""
    rows = np.swapaxes(maps, -1, -2) if columns_first else maps
    return rows[..., ::-1, :] if flipped else rows
