"""The tasks: samples of chosen covariance strength, and a function of them whose attribution is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xairt import fields
from xairt.benchmarks.varicov.layout import Layout
from xairt.data.files import read_array
from xairt.errors import DataError
from xairt.grid import Grid
from xairt.runs import CaseSettings

if TYPE_CHECKING:
    import xarray as xr

_LONG_NAMES = {
    "x": "standardised anomaly",
    "y": "output of the known function",
    "piece_slopes": "slope of each piece of a cell's function, divided by the number of cells",
    "breakpoints": "anomalies at which the slope of a cell's function changes",
}


@dataclass(frozen=True, eq=False)
class StrengthTask:
    """Distribution of the samples, and the known function.

    Attributes
    ----------
    layout : Layout
        Where the cells lie.
    correlation : numpy.ndarray
        (cells, cells) correlation of the samples.
    function : fields.PiecewiseLinear
        The known function; its slopes and breakpoints are drawn with the SST correlation, whatever the
        correlation of the samples.
    """

    layout: Layout
    correlation: NDArray[np.float64]
    function: fields.PiecewiseLinear

    def dataset(self, x: NDArray[np.floating]) -> xr.Dataset:
        """Return samples with the function's output.

        Parameters
        ----------
        x : numpy.ndarray
            (samples, cells) standardised anomalies.

        Returns
        -------
        xarray.Dataset
            ``x`` as of `Layout.labelled`, ``y`` (sample) float64; and the function: ``piece_slopes`` from left
            to right, divided by the number of cells, and, where there are any, ``breakpoints``, ascending.
        """
        import xarray as xr

        function, layout = self.function, self.layout
        scaled = function.slopes / (function.n_cells if function.divide else 1)
        variables = {
            "x": layout.labelled(x, "sample"),
            "y": xr.DataArray(function.output(x), dims="sample"),
            "piece_slopes": layout.labelled(scaled.T, "piece"),
        }
        if function.breakpoints.size:
            variables["breakpoints"] = layout.labelled(function.breakpoints.T, "breakpoint")
        for name, variable in variables.items():
            variable.attrs = {"long_name": _LONG_NAMES[name], "units": "1"}
        return xr.Dataset(variables)


def global_task(config: CaseSettings) -> StrengthTask:
    """Return the task of ``globalcov``: SST maps whose correlations are strengthened alike.

    Parameters
    ----------
    config : CaseSettings
        ``source, source_file, variable, step, strength, n_samples, seed, n_breakpoints, convention``.

    Returns
    -------
    StrengthTask
        On the ocean cells of the source. The function is another one for each strength and size.

    Raises
    ------
    DataError
        If the source cannot be read.
    """
    correlation, grid = _source(config)
    strengthened = fields.strengthened(correlation, config.strength)
    return StrengthTask(Layout.of_grid(grid), strengthened, _function(config, correlation))


def uniform_task(config: CaseSettings) -> StrengthTask:
    """Return the task of ``unicov``: a raster of cells that are all equally correlated.

    Parameters
    ----------
    config : CaseSettings
        As of `global_task`, and ``rows``.

    Returns
    -------
    StrengthTask
        On the largest raster of that many rows that the cells of the source's correlation C fill, row by row:
        20 x 23 for the 460 cells of the archived COBE matrix, 20 x 22 for the 446 of the analytic one, whose
        last 6 are left out. The function is drawn with C between these cells.

    Raises
    ------
    DataError
        If the source cannot be read, or has fewer cells than there are rows.
    """
    correlation, _ = _source(config)
    columns = len(correlation) // config.rows
    if not columns:
        raise DataError(
            f"rows={config.rows}: the correlation has {len(correlation)} cells; give as many rows at most"
        )
    layout = Layout.of_raster(config.rows, columns)
    kept = correlation[: layout.n_cells, : layout.n_cells]
    uniform = fields.strengthened(np.eye(layout.n_cells), config.strength)
    return StrengthTask(layout, uniform, _function(config, kept))


def case_seed(config: CaseSettings) -> int:
    """Return the seed of a case's samples and function; each strength and size has its own."""
    entropy = (config.seed, round(1e6 * config.strength), config.n_samples)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def known_function(path: Path, layout: Layout, convention: str | None) -> fields.PiecewiseLinear:
    """Return the known function that a file of data holds.

    Parameters
    ----------
    path : Path
        What `StrengthTask.dataset` returned.
    layout : Layout
        Its layout.
    convention : None or "krell2025"
        The one it was drawn with.

    Returns
    -------
    fields.PiecewiseLinear
        Its slopes are divided by the number of cells.
    """
    slopes = layout.unlabelled(read_array(path, "piece_slopes")).T
    breakpoints = np.empty((layout.n_cells, 0))
    if slopes.shape[1] > 1:
        breakpoints = layout.unlabelled(read_array(path, "breakpoints")).T
    return fields.PiecewiseLinear(breakpoints, slopes, divide=False, convention=convention)


def _source(config: CaseSettings) -> tuple[NDArray[np.float64], Grid]:
    return fields.correlation_of(
        config.source,
        config.source_file,
        variable=config.variable,
        step=config.step,
        missing_above=config.missing_above,
    )


def _function(config: CaseSettings, correlation: NDArray[np.float64]) -> fields.PiecewiseLinear:
    return fields.draw(correlation, case_seed(config), config.n_breakpoints, convention=config.convention)
