"""The task: maps of SST anomalies, and a function of them whose attribution is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xairt import fields
from xairt.grid import CELL_DIM, Grid

if TYPE_CHECKING:
    import xarray as xr

_LONG_NAMES = {
    "x": "standardised SST anomaly",
    "truth": "true contribution",
    "slope": "true slope",
    "y": "output of the known function",
    "piece_slopes": "slope of each piece of a cell's function, divided by the number of cells",
    "breakpoints": "anomalies at which the slope of a cell's function changes",
}


@dataclass(frozen=True, eq=False)
class SSTTask:
    """Distribution of the maps, and the known function.

    Attributes
    ----------
    grid : Grid
        Ocean cells.
    correlation : numpy.ndarray
        (cells, cells) correlation of the anomalies.
    function : fields.PiecewiseLinear
        The known function.
    """

    grid: Grid
    correlation: NDArray[np.float64]
    function: fields.PiecewiseLinear

    def dataset(self, x: NDArray[np.floating]) -> xr.Dataset:
        """Return maps with the truth about each, see `sample_dataset`.

        Parameters
        ----------
        x : numpy.ndarray
            (samples, cells) standardised anomalies.
        """
        truth, y = self.function.contribution_and_output(x)
        return sample_dataset(self.grid, x, truth, y, self.function.slope_at(x))


def sample_dataset(
    grid: Grid,
    x: NDArray[np.floating],
    truth: NDArray[np.floating],
    y: NDArray[np.floating],
    slope: NDArray[np.floating] | None = None,
) -> xr.Dataset:
    """Return maps with the truth about each.

    Parameters
    ----------
    grid : Grid
    x : numpy.ndarray
        (samples, cells) standardised anomalies.
    truth, slope : numpy.ndarray
        (samples, cells) of each cell: its contribution to the output, and the derivative of that, where known.
    y : numpy.ndarray
        (samples,) outputs of the known function.

    Returns
    -------
    xarray.Dataset
        ``x``, ``truth`` and ``slope`` (sample, lat, lon), NaN on land; ``y`` (sample), float64.
    """
    import xarray as xr

    vectors = {"x": x, "truth": truth} | ({} if slope is None else {"slope": slope})
    variables = {
        name: grid.to_map(xr.DataArray(values, dims=("sample", CELL_DIM))) for name, values in vectors.items()
    }
    variables["y"] = xr.DataArray(np.asarray(y, np.float64), dims="sample")
    return _described(variables)


def function_dataset(
    grid: Grid, slopes: NDArray[np.float64], breakpoints: NDArray[np.float64] | None = None
) -> xr.Dataset:
    """Return a known function as maps.

    Parameters
    ----------
    grid : Grid
    slopes : numpy.ndarray
        (cells, pieces) from left to right, divided by the number of cells.
    breakpoints : numpy.ndarray, optional
        (cells, pieces - 1) ascending, in units of x.

    Returns
    -------
    xarray.Dataset
        ``piece_slopes`` (piece, lat, lon), and, where there are any, ``breakpoints`` (breakpoint, lat, lon).
    """
    import xarray as xr

    variables = {"piece_slopes": grid.to_map(xr.DataArray(slopes.T, dims=("piece", CELL_DIM)))}
    if breakpoints is not None and breakpoints.size:
        variables["breakpoints"] = grid.to_map(xr.DataArray(breakpoints.T, dims=("breakpoint", CELL_DIM)))
    return _described(variables)


def sst_task(
    correlation: NDArray[np.float64],
    grid: Grid,
    seed: int,
    n_breakpoints: int = 5,
    *,
    samples: NDArray[np.floating] | None = None,
    cell_weights: NDArray[np.float64] | None = None,
    convention: str | None = None,
) -> SSTTask:
    """Draw a known function for maps with a correlation.

    Parameters
    ----------
    correlation, grid
        As of `xairt.fields.correlation_of`.
    seed : int
        Not negative.
    n_breakpoints, samples, cell_weights, convention
        As of `xairt.fields.draw`.

    Returns
    -------
    SSTTask

    Raises
    ------
    DataError
        As `xairt.fields.draw`.

    References
    ----------
    Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7, section 2.2.
    """
    function = fields.draw(
        correlation,
        seed,
        n_breakpoints,
        samples=samples,
        cell_weights=cell_weights,
        convention=convention,
    )
    return SSTTask(grid, correlation, function)


def analytic_task(seed: int) -> SSTTask:
    """Draw a known function for maps of the analytic SST correlation, which needs no archived data.

    Parameters
    ----------
    seed : int
        Not negative.

    Returns
    -------
    SSTTask
        On the 10-degree ocean grid of `xairt.fields.default_grid`.
    """
    return sst_task(*fields.correlation_of("analytic"), seed)


def _described(variables: dict[str, xr.DataArray]) -> xr.Dataset:
    import xarray as xr

    for name, variable in variables.items():
        variable.attrs = {"long_name": _LONG_NAMES[name], "units": "1"}
    return xr.Dataset(variables)
