"""Groups of features that a method treats as one, such as superpixels or regions of a map."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import xarray as xr
from pydantic import BeforeValidator, Field

from xairt.attribution.inputs import array_sha256, is_labelled_map
from xairt.attribution.parameters import Parameters, as_array
from xairt.errors import DataError
from xairt.grid import Grid, lat_lon_names


class Groups(Parameters):
    """Which group each feature belongs to: features of one label form one group.

    Attributes
    ----------
    shape : tuple of int
        That of a sample, or (lat, lon) of its map.
    count : int
        Number of groups.
    sha256 : str
        Hash of the array that was given.
    labels : tuple
        Integer label of every feature, row by row; None on land.
    lat, lon : tuple of float or None
        Coordinates of a labelled map.
    """

    shape: tuple[int, ...]
    count: int
    sha256: str
    labels: tuple[int | None, ...] = Field(exclude=True, repr=False)
    lat: tuple[float, ...] | None = Field(None, exclude=True, repr=False)
    lon: tuple[float, ...] | None = Field(None, exclude=True, repr=False)

    def __str__(self) -> str:
        return f"{self.count} groups {self.sha256[:8]}"

    def index(self, input_shape: tuple[int, ...], grid: Grid | None = None) -> np.ndarray:
        """Return the number of the group of every feature, counted from 0 in the order of the labels.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one sample in the model.
        grid : Grid, optional
            Where the samples are vectors of a map's valid cells: groups may be a map then.

        Returns
        -------
        numpy.ndarray
            (features,) int32.

        Raises
        ------
        DataError
            If the shape is neither that of a sample nor that of the grid's maps, coordinates do not agree
            with the grid, or a feature has no label.
        """
        labels = np.array([np.nan if label is None else label for label in self.labels]).reshape(self.shape)
        if self.shape != input_shape and grid is not None and len(input_shape) == 1:
            if self.lat is not None:
                labels = xr.DataArray(labels, {"lat": list(self.lat), "lon": list(self.lon)}, ("lat", "lon"))
            labels = np.asarray(grid.to_vector(labels))
        if labels.shape != input_shape:
            wanted = (
                f"{input_shape}, the shape of a sample" if grid is None else f"{input_shape} or {grid.shape}"
            )
            hint = " or give the grid of the maps too" if len(input_shape) == 1 and labels.ndim == 2 else ""
            raise DataError(f"groups have shape {self.shape}: give {wanted}{hint}")
        if np.isnan(labels).any():
            raise DataError(
                f"groups: {np.isnan(labels).sum()} features have no label (NaN): give every feature an integer"
            )
        return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int32)


def read_groups(value: Any) -> Groups | None:
    """Read groups as users give them.

    Parameters
    ----------
    value : None, array_like of integers, xarray.DataArray, path, or Groups
        A map may be of floating type if it holds whole numbers, and NaN on land. A path names a .npy, .npz
        or .nc file with one array.

    Raises
    ------
    DataError
        If the values are no integers, or the file cannot be read.

    Examples
    --------
    >>> groups = read_groups([7, 7, -1])
    >>> groups.index((3,))
    array([1, 1, 0], dtype=int32)
    >>> print(groups)
    2 groups 449b7cb9
    """
    if value is None or isinstance(value, Groups):
        return value
    if isinstance(value, str | os.PathLike):
        from xairt.data.files import read_array

        value = read_array(value)
    if isinstance(value, Mapping):
        raise DataError(
            "groups by input name: give one array of a label for each feature, the features of one input after "
            "those of the other in the model's order"
        )
    array = value if isinstance(value, xr.DataArray) else as_array(value, "groups")
    numbers = np.asarray(array)
    land = np.isnan(numbers) if numbers.dtype.kind == "f" else np.zeros(numbers.shape, bool)
    masked_integers = land.any() and not land.all() and (numbers[~land] % 1 == 0).all()
    if numbers.dtype.kind not in "iu" and not masked_integers:
        raise DataError("not integers: give one integer label per feature (NaN on the land of a map)")
    if numbers.size == 0:
        raise DataError("no labels: give one integer per feature")
    flat = [None if missing else int(label) for label, missing in zip(numbers.flat, land.flat, strict=True)]
    lat = lon = None
    if is_labelled_map(array) and array.ndim == 2:
        names = lat_lon_names(array)
        if array.dims != names:
            return read_groups(array.transpose(*names))
        lat, lon = (tuple(array[name].values.tolist()) for name in names)
    return Groups(
        shape=numbers.shape,
        count=len(np.unique(numbers[~land])),
        sha256=array_sha256(array),
        labels=tuple(flat),
        lat=lat,
        lon=lon,
    )


GroupsChoice = Annotated[Groups | None, BeforeValidator(read_groups)]
"""Type of the parameter ``groups`` of a method."""


class GroupedParameters(Parameters):
    """Parameters of methods that may treat groups of features as one."""

    groups: GroupsChoice = Field(
        None,
        description=(
            "integer label of every feature, shaped like a sample (or like its map); features of one label are "
            "replaced together; None makes every feature a group. A path names a .npy or .nc file"
        ),
    )


def with_sample_groups(parameters: Parameters, input_shape: tuple[int, ...], grid: Grid | None) -> Parameters:
    """Return parameters whose groups, where there are any, are shaped like a sample; see `Groups.index`."""
    groups = getattr(parameters, "groups", None)
    if groups is None:
        return parameters
    index = groups.index(input_shape, grid).reshape(input_shape)
    return parameters.model_copy(update={"groups": read_groups(index)})


def group_index(groups: Groups | None, input_shape: tuple[int, ...]) -> np.ndarray:
    """Return the number of the group of every feature (features,); every feature its own without groups."""
    if groups is None:
        return np.arange(int(np.prod(input_shape)), dtype=np.int32)
    return groups.index(input_shape)
