"""Where the correlation between cells comes from: the analytic default, a matrix file, or any gridded field."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xairt.data import registry
from xairt.data.files import existing_file, loaded, open_netcdf, read_array, variable_of
from xairt.errors import DataError, suggest
from xairt.fields.anomaly import MISSING_ABOVE, anomalies, coarsen, correlation_of_field
from xairt.fields.correlation import (
    analytic_sst_correlation,
    default_coordinates,
    default_grid,
    symmetric_matrix,
    to_correlation,
)
from xairt.fields.gaussian import check_semidefinite
from xairt.grid import Grid

if TYPE_CHECKING:
    import xarray as xr

Source = Literal["analytic", "correlation", "netcdf"]

COBE = "krell2025-cobe-correlation"
"""Registered matrix that is read where no file is named."""

_OTHER_NAMES = {"nav_lat": "lat", "nav_lon": "lon"}


def correlation_of(
    source: Source,
    path: str | os.PathLike[str] | None = None,
    *,
    variable: str | None = None,
    step: int | None = None,
    missing_above: float | None = MISSING_ABOVE,
) -> tuple[NDArray[np.float64], Grid]:
    """Return the correlation between cells, and their grid.

    Parameters
    ----------
    source : str
        "analytic": `analytic_sst_correlation` on `default_grid`, no file. "correlation": a matrix file, see
        `read_covariance`. "netcdf": the anomalies of any field with time, latitude and longitude, coarsened.
    path : path, registered name or URL, optional
        Of the file; for "correlation" the registered COBE-SST2 matrix by default.
    variable : str, optional
        For "netcdf", needed where the file holds several fields.
    step : int, optional
        For "netcdf": every n-th cell is taken, by default as many as make about 10 degrees, see `coarsen`.
    missing_above : float or None
        For "netcdf": values of a larger magnitude are missing, see `anomalies`.

    Returns
    -------
    correlation : numpy.ndarray
        (n, n) float64, symmetric, unit diagonal, positive semidefinite.
    grid : Grid
        The n cells.

    Raises
    ------
    DataError
        If the source is unknown, the file is missing, damaged or lacks what is needed, or the matrix is no
        covariance; the message begins with the file.

    Examples
    --------
    >>> correlation, grid = correlation_of("analytic")
    >>> correlation.shape == (grid.n_valid, grid.n_valid)
    True
    """
    if source not in get_args(Source):
        known = ", ".join(get_args(Source))
        raise DataError(f"source '{source}': unknown{suggest(source, get_args(Source))}; there are {known}")
    if source == "analytic":
        if path is not None:
            raise DataError(f"{path}: source 'analytic' reads no file; name the source that does")
        grid = default_grid()
        return analytic_sst_correlation(grid), grid
    file = source_file(source, path)
    try:
        if source == "correlation":
            covariance, grid = read_covariance(file)
            return to_correlation(covariance), grid
        field = read_field(file, variable, step)
        return correlation_of_field(anomalies(field, climatology="month", missing_above=missing_above))
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(str(file)) else f"{file}: {text}") from None


def source_file(source: Source, path: str | os.PathLike[str] | None = None) -> Path:
    """Return the local file of a source that has one.

    Parameters
    ----------
    source : "correlation" or "netcdf"
    path : path, registered name or URL, optional
        As of `correlation_of`.

    Raises
    ------
    DataError
        If there is no such file, or none is named.
    """
    if path is None and source == "netcdf":
        raise DataError("source 'netcdf': no file; name one with time, latitude and longitude")
    return existing_file(registry.path(COBE) if path is None else registry.resolve(path))


def strengthened(correlation: NDArray[np.floating], w: float) -> NDArray[np.float64]:
    """Return a correlation matrix moved towards perfect correlation of all cells, (1 - w) C + w 1.

    Parameters
    ----------
    correlation : (n, n)
    w : float
        0 (as it is) .. 1 (all cells equal).

    Returns
    -------
    numpy.ndarray
        (n, n) float64; unit diagonal and positive semidefinite as the given one.

    Raises
    ------
    DataError
        If w is out of its range, or the matrix is not square, finite and symmetric.

    References
    ----------
    Krell et al. (2025), benchmark globalcov.

    Examples
    --------
    >>> strengthened(np.eye(2), 0.25)
    array([[1.  , 0.25],
           [0.25, 1.  ]])
    """
    if not (isinstance(w, int | float | np.number) and 0 <= w <= 1):
        raise DataError(f"w={w!r}: outside 0 .. 1; give the share of perfect correlation")
    return (1 - w) * symmetric_matrix(correlation) + w


def read_covariance(path: str | os.PathLike[str]) -> tuple[NDArray[np.float64], Grid]:
    """Read a covariance or correlation matrix of grid cells from a numpy file.

    Parameters
    ----------
    path : path
        An ``.npz`` file with ``covariance`` or ``correlation`` (n, n), ``mask`` (nlat, nlon), true in n cells,
        whose order is row by row, and ``lat`` (nlat,) and ``lon`` (nlon,) in degrees. A mask of 18 x 36 needs
        no coordinates: it is the grid of the archived COBE-SST2 matrix.

    Returns
    -------
    covariance : numpy.ndarray
        (n, n) float64, symmetric and positive semidefinite.
    grid : Grid

    Raises
    ------
    DataError
        If the file is missing, damaged or pickled, an array is missing or has the wrong size, or the matrix is
        no covariance.
    """
    file = existing_file(path)
    arrays = _npz_arrays(file)
    matrix = next((arrays[key] for key in ("covariance", "correlation") if key in arrays), None)
    if matrix is None:
        raise DataError(f"{file}: holds neither 'covariance' nor 'correlation'; save one with numpy.savez")
    try:
        grid = Grid(arrays["mask"], *_coordinates(arrays))
        if matrix.shape != (grid.n_valid, grid.n_valid):
            raise DataError(
                f"mask is true in {grid.n_valid} cells, the matrix is {matrix.shape}; make them agree"
            )
        return check_semidefinite(matrix), grid
    except DataError as error:
        raise DataError(f"{file}: {error}") from None


def read_field(
    path: str | os.PathLike[str], variable: str | None = None, step: int | None = None
) -> xr.DataArray:
    """Read every n-th cell of a gridded field; of a large file no more than these cells is in memory.

    Parameters
    ----------
    path : path
        A netCDF file with time, latitude and longitude; see `xairt.grid.lat_lon_names` for their names.
    variable : str, optional
        Needed where several variables have these dimensions.
    step : int, optional
        As of `coarsen`.

    Returns
    -------
    xarray.DataArray
        With lat and lon, in the stored precision.

    Raises
    ------
    DataError
        If the file is missing or damaged, or lacks the variable or a dimension.
    """
    file = existing_file(path)
    with open_netcdf(file) as dataset:
        dataset = dataset.rename({k: v for k, v in _OTHER_NAMES.items() if k in dataset.variables})
        dataset = dataset.rename({k: v for k, v in _OTHER_NAMES.items() if k in dataset.dims})
        try:
            field = coarsen(variable_of(dataset, variable or _only_field(dataset), file), step)
        except DataError as error:
            text = str(error)
            raise DataError(text if text.startswith(str(file)) else f"{file}: {text}") from None
        return loaded(field, file)


def _only_field(dataset: xr.Dataset) -> str | None:
    """Return the only variable of three dimensions or more, such as time, latitude and longitude."""
    fields = [str(name) for name, array in dataset.data_vars.items() if array.ndim >= 3]
    return fields[0] if len(fields) == 1 else None


def _npz_arrays(file: Path) -> dict[str, NDArray]:
    """Read what a numpy archive holds of the arrays that are looked for."""
    if file.suffix.lower() != ".npz":
        raise DataError(f"{file}: not an .npz file; give one with 'covariance' and 'mask'")
    mask = read_array(file, "mask").values
    with np.load(file, allow_pickle=False) as archive:
        names = [name for name in ("covariance", "correlation", "lat", "lon") if name in archive.files]
    return {"mask": mask} | {name: read_array(file, name).values for name in names}


def _coordinates(arrays: dict[str, NDArray]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if {"lat", "lon"} <= arrays.keys():
        return arrays["lat"], arrays["lon"]
    lat, lon = default_coordinates()
    if arrays["mask"].shape != (len(lat), len(lon)):
        raise DataError(
            f"mask of shape {arrays['mask'].shape} without coordinates; add 'lat' and 'lon' in degrees"
        )
    return lat, lon
