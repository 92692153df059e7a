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
        """Return maps with the truth about each.

        Parameters
        ----------
        x : numpy.ndarray
            (samples, cells) standardised anomalies.

        Returns
        -------
        xarray.Dataset
            ``x``, ``truth`` (each cell's contribution to the output) and ``slope`` (its derivative), all
            (sample, lat, lon) in the precision of x, NaN on land; ``y`` (sample), the sum of the truth, float64.
        """
        import xarray as xr

        vectors = {"x": x, "truth": self.function.contribution(x), "slope": self.function.slope_at(x)}
        variables = {
            name: self.grid.to_map(xr.DataArray(values, dims=("sample", CELL_DIM)))
            for name, values in vectors.items()
        }
        variables["y"] = xr.DataArray(self.function.output(x), dims="sample")
        return _described(variables)

    def function_dataset(self) -> xr.Dataset:
        """Return the known function as maps.

        Returns
        -------
        xarray.Dataset
            ``piece_slopes`` (piece, lat, lon), from left to right, divided by the number of cells, and, where
            there are any, ``breakpoints`` (breakpoint, lat, lon), ascending, in units of x.
        """
        import xarray as xr

        scaled = self.function.slopes / (self.function.n_cells if self.function.divide else 1)
        variables = {"piece_slopes": self.grid.to_map(xr.DataArray(scaled.T, dims=("piece", CELL_DIM)))}
        if self.function.breakpoints.size:
            pieces = xr.DataArray(self.function.breakpoints.T, dims=("breakpoint", CELL_DIM))
            variables["breakpoints"] = self.grid.to_map(pieces)
        return _described(variables)


def sst_task(
    seed: int,
    n_breakpoints: int = 5,
    source: fields.Source = "analytic",
    path: str | None = None,
    *,
    variable: str | None = None,
    step: int | None = None,
) -> SSTTask:
    """Draw a known function for maps with the correlation of a source.

    Parameters
    ----------
    seed : int
        Not negative.
    n_breakpoints : int
        Breakpoints of each cell's function, see `xairt.fields.draw`.
    source, path, variable, step
        Where the correlation comes from, see `xairt.fields.correlation_of`.

    Returns
    -------
    SSTTask
        On the cells of the source.

    Raises
    ------
    DataError
        As `xairt.fields.correlation_of`.

    References
    ----------
    Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7, section 2.2.
    """
    correlation, grid = fields.correlation_of(source, path, variable=variable, step=step)
    return SSTTask(grid, correlation, fields.draw(correlation, seed, n_breakpoints))


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
    return sst_task(seed)


def _described(variables: dict[str, xr.DataArray]) -> xr.Dataset:
    import xarray as xr

    for name, variable in variables.items():
        variable.attrs = {"long_name": _LONG_NAMES[name], "units": "1"}
    return xr.Dataset(variables)
