"""Where the cells of a sample lie: on the ocean of a map, or on a plain raster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.sstanom.stages import grid_of
from xairt.benchmarks.sstanom.stages import vectors as vectors_of_maps
from xairt.data.files import read_array
from xairt.grid import CELL_DIM, Grid

if TYPE_CHECKING:
    import xarray as xr

SAMPLE_DIM = "sample"


@dataclass(frozen=True, eq=False)
class Layout:
    """Rows and columns of the cells of a vector, counted from the upper left.

    Attributes
    ----------
    row, column : numpy.ndarray
        (cells,) integers.
    grid : Grid or None
        Of the ocean cells of a map; None for a raster without geography.
    """

    row: NDArray[np.intp]
    column: NDArray[np.intp]
    grid: Grid | None = None

    @classmethod
    def of_grid(cls, grid: Grid) -> Layout:
        """Return the layout of the valid cells of a grid."""
        return cls(*np.nonzero(grid.mask), grid)

    @classmethod
    def of_raster(cls, rows: int, columns: int) -> Layout:
        """Return the layout of a raster whose cells are counted row by row.

        Examples
        --------
        >>> Layout.of_raster(2, 3).column
        array([0, 1, 2, 0, 1, 2])
        """
        row, column = np.indices((rows, columns)).reshape(2, -1)
        return cls(row, column)

    @classmethod
    def of_file(cls, path: Path) -> Layout:
        """Return the layout of the samples ``x`` that a file holds, see `labelled`."""
        first = read_array(path, "x", select={SAMPLE_DIM: slice(0, 1)})
        if first.ndim == 3:
            return cls.of_grid(grid_of(path))
        return cls(first["row"].values, first["column"].values)

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.row)

    def labelled(self, values: NDArray[np.floating], dim: str) -> xr.DataArray:
        """Return vectors as they are stored.

        Parameters
        ----------
        values : (n, cells)
        dim : str
            Name of the first dimension.

        Returns
        -------
        xarray.DataArray
            (dim, lat, lon) with NaN on land, or on a raster (dim, cell) with the coordinates row and column.
        """
        import xarray as xr

        vectors = xr.DataArray(values, dims=(dim, CELL_DIM))
        if self.grid is not None:
            return self.grid.to_map(vectors)
        return vectors.assign_coords(row=(CELL_DIM, self.row), column=(CELL_DIM, self.column))

    def unlabelled(self, stored: xr.DataArray) -> NDArray[np.floating]:
        """Return vectors (n, cells) of what `labelled` gave."""
        return stored.values if self.grid is None else stored.values[..., self.grid.mask]

    def vectors(self, path: Path, variable: str, first: int, last: int) -> NDArray[np.floating]:
        """Read samples of a file as vectors (last - first, cells) in the stored precision."""
        if self.grid is not None:
            return vectors_of_maps(path, variable, self.grid, first, last)
        return read_array(path, variable, select={SAMPLE_DIM: slice(first, last)}).values

    def raster(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return a vector (cells,) as a picture (rows, columns), NaN where there is no cell."""
        shape = (self.row.max() + 1, self.column.max() + 1) if self.grid is None else self.grid.shape
        picture = np.full(shape, np.nan)
        picture[self.row, self.column] = values
        return picture

    def patches(self, size: int) -> NDArray[np.int32]:
        """Return which square patch each cell lies in.

        Parameters
        ----------
        size : int
            Edge of a patch in cells. Patches lie side by side from the upper left; those at the right and the
            lower edge may be smaller, and on a map cells of a patch may be land.

        Returns
        -------
        numpy.ndarray
            (cells,) numbers from 0 of the patches that hold cells.

        Examples
        --------
        >>> Layout.of_raster(2, 3).patches(2)
        array([0, 0, 1, 0, 0, 1], dtype=int32)
        """
        across = self.column.max() // size + 1
        number = (self.row // size) * across + self.column // size
        return np.unique(number, return_inverse=True)[1].astype(np.int32)
