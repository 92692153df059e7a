"""Samples and baselines of models with several inputs: brought to one vector, and results taken apart again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xairt.attribution.inputs import (
    Samples,
    check_grid,
    is_labelled_map,
    read_baseline,
    read_samples,
)
from xairt.attribution.network import Network
from xairt.errors import DataError, suggest
from xairt.grid import Grid
from xairt.models.graph.packing import spans

Grids = dict[str, Grid | None]
"""Grid of each input; None where its samples are no vectors of a map's cells."""


@dataclass(frozen=True, eq=False)
class PackedSamples:
    """Samples of several inputs as one vector each, and what it takes to give results the user's shapes.

    Attributes
    ----------
    values : numpy.ndarray
        (n, total).
    parts : dict
        `Samples` of each input by its name, in the model's order.
    plain : frozenset of str
        Inputs that came as arrays without labels.
    """

    values: np.ndarray
    parts: dict[str, Samples]
    plain: frozenset[str]

    @property
    def grid(self) -> Grids:
        """Grid of each input."""
        return {name: part.grid for name, part in self.parts.items()}

    @property
    def sample_dim(self) -> str:
        """Name of the dimension that counts samples: that of the first labelled input."""
        labelled = [part for name, part in self.parts.items() if name not in self.plain]
        return (labelled or list(self.parts.values()))[0].sample_dim

    def variables(self, attribution: np.ndarray) -> dict[str, xr.DataArray]:
        """Return (n, total) as one variable ``attribution_<input name>`` per input.

        Each has the dimensions and coordinates of its input. A name that stands for different things in
        two inputs (as "feature" does in two plain arrays) gets the input's name and "_" before it.
        """
        shapes = [part.values.shape[1:] for part in self.parts.values()]
        fields = {}
        for (name, part), shape, (start, stop) in zip(self.parts.items(), shapes, spans(shapes), strict=True):
            field = part.restore(attribution[:, start:stop].reshape(-1, *shape))
            fields[name] = self._with_common_samples(name, field, part.sample_dim)
        clashes = self._clashes(fields)
        renamed = {
            name: field.rename({old: f"{name}_{old}" for old in clashes & set(_names(field))})
            for name, field in fields.items()
        }
        return {f"attribution_{name}": field for name, field in renamed.items()}

    def _with_common_samples(self, name: str, field: xr.DataArray, sample_dim: str) -> xr.DataArray:
        """Count samples along the same dimension in every input; a plain array has no coordinate of its own."""
        if name in self.plain and len(self.plain) < len(self.parts):
            field = field.drop_vars(sample_dim)
        return field.rename({sample_dim: self.sample_dim}) if sample_dim != self.sample_dim else field

    def _clashes(self, fields: dict[str, xr.DataArray]) -> set[Hashable]:
        """Return the names of dimensions and coordinates that mean different things in different inputs."""
        counts = Counter(name for field in fields.values() for name in _names(field))
        shared = [name for name, count in counts.items() if count > 1 and name != self.sample_dim]
        return {name for name in shared if not self._same(name, fields)}

    def _same(self, name: Hashable, fields: dict[str, xr.DataArray]) -> bool:
        users = {key: field for key, field in fields.items() if name in _names(field)}
        first = next(iter(users.values()))
        if all(name in field.coords for field in users.values()):
            return all(
                field.coords[name].variable.equals(first.coords[name].variable) for field in users.values()
            )
        unlabelled = not any(name in field.coords for field in users.values())
        same_size = len({field.sizes.get(name) for field in users.values()}) == 1
        return unlabelled and same_size and not self.plain.intersection(users)


def _names(field: xr.DataArray) -> dict[Hashable, None]:
    """Return the names of a field's dimensions and coordinates."""
    return dict.fromkeys((*field.dims, *field.coords))


def by_name(given: Any, network: Network, what: str) -> dict[str, Any]:
    """Return what was given for each input by the input's name, in the model's order.

    Parameters
    ----------
    given : mapping, xarray.Dataset or sequence
        By input name (a Dataset may hold further variables), or in the model's order.
    network : Network
        Of several inputs.
    what : str
        What error messages call it: "x" or "baseline".

    Raises
    ------
    DataError
        If it is neither, a name is missing or unknown, or a sequence has another length.
    """
    names = network.input_names
    listed = f"model '{network.name}' takes {len(names)} inputs ({', '.join(names)})"
    if isinstance(given, Mapping):
        missing = [name for name in names if name not in given]
        unknown = [name for name in map(str, given) if name not in names]
        if missing:
            hint = suggest(missing[0], unknown)
            raise DataError(f"{what} has nothing for {', '.join(missing)}: {listed}{hint}")
        if unknown and not isinstance(given, xr.Dataset):
            raise DataError(f"{what} has '{unknown[0]}', which is no input: {listed}")
        return {name: given[name] for name in names}
    if isinstance(given, list | tuple) and len(given) == len(names):
        return dict(zip(names, given, strict=True))
    got = f"{len(given)} arrays" if isinstance(given, list | tuple) else f"one {type(given).__name__}"
    raise DataError(f"{what} is {got}, but {listed}: give a dict by name, a list in that order, or a Dataset")


def grids_of(grid: Grid | Mapping[str, Grid] | None, network: Network) -> Grids:
    """Return the grid of each input.

    Parameters
    ----------
    grid : Grid, mapping or None
        Grids by input name; or one Grid for every input that is a vector of as many values as it has valid
        cells.
    network : Network
        Of several inputs.

    Raises
    ------
    DataError
        If a name is unknown, a grid does not fit its input, or one Grid fits no input.
    """
    shapes = dict(zip(network.input_names, network.input_shapes, strict=True))
    if isinstance(grid, Mapping):
        for name, one in grid.items():
            if name not in shapes or len(shapes[name]) != 1:
                vectors = [key for key, shape in shapes.items() if len(shape) == 1]
                raise DataError(
                    f"grid for '{name}': model '{network.name}' has no such input that is a vector: it has "
                    f"{', '.join(vectors) or 'none'}"
                )
            if one is not None:
                check_grid(one, shapes[name])
        return {name: grid.get(name) for name in shapes}
    if grid is None:
        return dict.fromkeys(shapes)
    found = {
        name: grid if shape == (getattr(grid, "n_valid", None),) else None for name, shape in shapes.items()
    }
    if not any(found.values()):
        check_grid(grid, next((s for s in shapes.values() if len(s) == 1), (0,)))
    return found


def read_packed(x: Any, network: Network, grids: Grids, dtype: str) -> PackedSamples:
    """Check the samples of every input and put them side by side.

    Parameters
    ----------
    x : mapping, xarray.Dataset or sequence
        Samples of each input, see `by_name` and `xairt.attribution.inputs.read_samples`.
    network : Network
        Of several inputs.
    grids : dict
        See `grids_of`.
    dtype : str
        Floating dtype of the result.

    Raises
    ------
    DataError
        If an input is missing, does not fit the model, or has other samples than the first.
    """
    given = by_name(x, network, "x")
    parts = {
        name: read_samples(given[name], shape, grids[name], dtype, name=f"x['{name}']")
        for name, shape in zip(network.input_names, network.input_shapes, strict=True)
    }
    _check_same_samples(parts)
    flat = [part.values.reshape(len(part.values), -1) for part in parts.values()]
    plain = frozenset(name for name, value in given.items() if not isinstance(value, xr.DataArray))
    return PackedSamples(np.concatenate(flat, axis=1), parts, plain)


def _check_same_samples(parts: dict[str, Samples]) -> None:
    counts = {name: len(part.values) for name, part in parts.items()}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(f"x has unequal numbers of samples ({text}): give every input the same samples")
    labelled = {
        name: part.coords[part.sample_dim]
        for name, part in parts.items()
        if isinstance(part.coords.get(part.sample_dim), xr.DataArray)
    }
    for name, coordinate in labelled.items():
        first = next(iter(labelled))
        if not np.array_equal(coordinate.values, labelled[first].values):
            raise DataError(
                f"x['{name}'] and x['{first}'] have other '{parts[name].sample_dim}' coordinates: align the inputs"
            )


def read_packed_baseline(baseline: Any, network: Network, grids: Grids, dtype: str) -> np.ndarray:
    """Return reference samples (m, total): zeros for None, a number, or by input name.

    Each input's is what `xairt.attribution.inputs.read_baseline` takes; one sample serves every sample of
    another input's set. See `named_baseline` for the forms that users may give.

    Raises
    ------
    DataError
        If one does not fit its input, or two inputs have sets of unequal sizes.
    """
    if not isinstance(baseline, Mapping):
        return read_baseline(baseline, network.input_shape, None, dtype)
    sets = {
        name: read_baseline(baseline[name], shape, grids[name], dtype, name=f"baseline['{name}']")
        for name, shape in zip(network.input_names, network.input_shapes, strict=True)
    }
    m = max(map(len, sets.values()))
    for name, values in sets.items():
        if len(values) not in (1, m):
            raise DataError(
                f"baseline['{name}'] is a set of {len(values)}, another input's of {m}: give sets of one size"
            )
    return np.concatenate(
        [np.broadcast_to(v, (m, *v.shape[1:])).reshape(m, -1) for v in sets.values()], axis=1
    )


def named_baseline(baseline: Any, network: Network) -> Any:
    """Return a baseline by input name; None and a number as they are."""
    if baseline is None or isinstance(baseline, int | float | np.number):
        return baseline
    return by_name(baseline, network, "baseline")


def holds_labelled_map(baseline: Any) -> bool:
    """Return whether a baseline, or that of one of its inputs, is a map that needs a grid to be read."""
    if isinstance(baseline, Mapping):
        return any(map(is_labelled_map, baseline.values()))
    return is_labelled_map(baseline)
