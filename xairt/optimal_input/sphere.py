"""Neighbours of the valid cells of a grid on the sphere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xairt.grid import Grid, unwrap_longitude

EAST, SOUTH = 0, 2
"""Columns of `Neighbours` that name each pair of cells once."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Cells that share an edge, for every valid cell.

    Attributes
    ----------
    index : numpy.ndarray
        (n_valid, 4) position of the next cell in the vector: along the row on and back (east and west where
        longitude increases), then to the next and the last row; the cell itself where there is no such cell.
    edge : numpy.ndarray
        (n_valid, 4) length of the common edge on the unit sphere, in radians; 0 where there is no cell.
    distance : numpy.ndarray
        (n_valid, 4) distance of the centres along the parallel or the meridian, in radians.
    """

    index: NDArray[np.int32]
    edge: NDArray[np.float64]
    distance: NDArray[np.float64]


def opposite(way: int) -> int:
    """Return the column of `Neighbours` that leads back.

    Examples
    --------
    >>> [opposite(way) for way in range(4)]
    [1, 0, 3, 2]
    """
    return way ^ 1


def is_global(grid: Grid) -> bool:
    """Return whether the columns go around the globe, so that the last is the neighbour of the first.

    Examples
    --------
    >>> is_global(Grid([[1, 1, 1]], [0], [-120, 0, 120])), is_global(Grid([[1, 1, 1]], [0], [0, 10, 20]))
    (True, False)
    """
    return bool(np.isclose(abs(grid.lon_edges[-1] - grid.lon_edges[0]), 360.0)) and grid.lon.size > 1


def neighbours(grid: Grid) -> Neighbours:
    """Return the neighbours of each valid cell; land has none, and cells over land are no neighbours.

    The edge of two cells of a row is as long as the row is high; that of two rows is a part of a parallel,
    shortened by the cosine of its latitude. Rows close over the date line where the grid `is_global`.

    Examples
    --------
    >>> grid = Grid([[1, 1, 1, 1]], [60.0], [0, 90, 180, 270])
    >>> neighbours(grid).index[:, :2].tolist()
    [[1, 3], [2, 0], [3, 1], [0, 2]]
    """
    cells = np.full(grid.shape, -1, np.int32)
    cells[grid.mask] = np.arange(grid.n_valid)
    along, between = _row_steps(grid), _column_steps(grid)
    parts = [
        (_moved(cells, -1, 1, is_global(grid)), *along),
        (_moved(cells, 1, 1, is_global(grid)), along[0], np.roll(along[1], 1, axis=1)),
        (_moved(cells, -1, 0, False), *between),
        (_moved(cells, 1, 0, False), *(np.roll(part, 1, axis=0) for part in between)),
    ]
    index, edge, distance = (np.stack([part[k][grid.mask] for part in parts], axis=1) for k in range(3))
    missing = index < 0
    own = np.broadcast_to(np.arange(grid.n_valid, dtype=np.int32)[:, None], index.shape)
    return Neighbours(np.where(missing, own, index), np.where(missing, 0.0, edge), distance)


def _moved(cells: NDArray[np.int32], step: int, axis: int, closed: bool) -> NDArray[np.int32]:
    """Return the cell that lies a step further at the place of each; -1 beyond the border."""
    moved = np.roll(cells, step, axis=axis)
    if not closed:
        border = [slice(None), slice(None)]
        border[axis] = -1 if step < 0 else 0
        moved[tuple(border)] = -1
    return moved


def _row_steps(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return edge length and distance (nlat, nlon) from each cell to the next of its row."""
    heights = np.abs(np.diff(np.deg2rad(grid.lat_edges)))
    steps = np.abs(np.diff(unwrap_longitude(grid.lon)))
    steps = np.deg2rad(np.append(steps, 360.0 - steps.sum()))
    edges = np.broadcast_to(heights[:, None], grid.shape)
    return edges, np.cos(np.deg2rad(grid.lat))[:, None] * steps


def _column_steps(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return edge length and distance (nlat, nlon) from each cell to that of the next row; the last is unused."""
    widths = np.abs(np.diff(np.deg2rad(grid.lon_edges)))
    edges = np.cos(np.deg2rad(grid.lat_edges[1:]))[:, None] * widths
    steps = np.abs(np.diff(np.deg2rad(grid.lat), append=np.nan))
    return edges, np.broadcast_to(np.nan_to_num(steps)[:, None], grid.shape)
