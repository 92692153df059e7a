"""The archived COBE-SST2 correlation matrix on the 10-degree grid of the SST benchmark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xairt.data import registry
from xairt.errors import DataError
from xairt.fields.correlation import to_correlation
from xairt.fields.sources import COBE, read_covariance
from xairt.grid import Grid

NETWORK_EXCLUDES = (405, 457)
"""Cells of the 460-cell matrix left out to feed the archived network of 458 inputs (0-based, row by row).

No list of the network's cells is published. This pair's removal fits the network's output variance best
(0.0096; linear R2 0.69): an approximation, to be labelled so wherever it is used.
"""


def cobe_correlation(exclude: tuple[int, ...] = (), *, download: bool = True) -> tuple[np.ndarray, Grid]:
    """Return the correlation of monthly SST anomalies between ocean cells, and their grid.

    Parameters
    ----------
    exclude : tuple of int
        Cells to leave out, counted in the 460-cell vector; see `NETWORK_EXCLUDES`.
    download : bool
        False only looks on this machine.

    Returns
    -------
    correlation : numpy.ndarray
        (n, n) float64 with unit diagonal.
    grid : Grid
        18 x 36 cells, row 0 north.

    Raises
    ------
    DataError
        If the file is not here and cannot be downloaded, or is damaged, or a cell does not exist.

    References
    ----------
    COBE-SST2 (Hirahara et al. 2014), matrix of Krell et al. 2025.
    """
    covariance, grid = read_covariance(registry.path(COBE, download=download))
    return without_cells(to_correlation(covariance), grid, exclude)


def without_cells(
    correlation: NDArray[np.float64], grid: Grid, exclude: Sequence[int]
) -> tuple[NDArray[np.float64], Grid]:
    """Leave cells out of a matrix and its grid.

    Parameters
    ----------
    correlation : (n, n)
    grid : Grid
        The n cells.
    exclude : sequence of int
        Cells to leave out, counted in the vector.

    Returns
    -------
    correlation : numpy.ndarray
        Of the cells that are left.
    grid : Grid

    Raises
    ------
    DataError
        If a cell does not exist.
    """
    cells = np.argwhere(grid.mask)
    if any(not 0 <= i < len(cells) for i in exclude):
        raise DataError(
            f"exclude={tuple(exclude)}: the matrix has cells 0 to {len(cells) - 1}; name some of them"
        )
    keep = np.setdiff1d(np.arange(len(cells)), exclude)
    mask = np.zeros_like(grid.mask)
    mask[tuple(cells[keep].T)] = True
    return correlation[np.ix_(keep, keep)], Grid(mask, grid.lat, grid.lon)
