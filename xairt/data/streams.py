"""Files larger than memory: written and read in blocks of samples."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from xairt.data.files import (
    atomic_write,
    encodings,
    existing_file,
    file_attributes,
    loaded,
    open_netcdf,
    save_netcdf,
    variable_of,
    with_cf_attributes,
)
from xairt.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

CHUNK_BYTES = 1 << 20
"""Size of a chunk of a variable in the file: what is read at least for one sample."""

CACHED_CHUNKS = 4
"""Chunks of a variable that wait to be completed; the library's own default is 64 MB for each variable."""

WORTH_COMPRESSING = 0.6
"""Share of its size that a variable must shrink to, or it is stored as it is.

Random maps of float32 shrink to 0.84 of their size by zlib, with NaN on 30 % of the cells to 0.71; at 65 MB/s a
core that takes twenty times as long as writing them as they are, and ten times as long to read. Flags, counts and
maps that are mostly land shrink to a half and less.
"""

_TIME_UNITS = {"M": "seconds since 1970-01-01", "m": "seconds", "O": "seconds since 1970-01-01"}


class SampleWriter:
    """Writes one netCDF-4 file block by block of samples, of which only one is in memory.

    A context manager. The file takes its name at the end of its block; after an exception, or a kill, the
    name holds what it held before.

    Parameters
    ----------
    path : path
        File to write or replace.
    title, history : str
        As of `xairt.data.files.write_dataset`, whose attributes the file gets.
    dim : str
        Dimension of the samples, the first of each variable that has it.
    compress : bool
        Compress variables that shrink by it, judged by the first block; False writes all as they are.

    Attributes
    ----------
    attrs : dict
        Attributes of the file: those of the first block, may be changed until the end.
    n_samples : int
        Samples written so far.

    Examples
    --------
    >>> import tempfile, xarray as xr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with SampleWriter(f"{folder}/x.nc", title="Two blocks") as writer:
    ...         writer.append(xr.Dataset({"x": (("sample", "cell"), np.zeros((3, 2)))}))
    ...         writer.append(xr.Dataset({"x": (("sample", "cell"), np.ones((2, 2)))}))
    ...     [len(block) for block in sample_blocks(f"{folder}/x.nc", "x", size=4)]
    [4, 1]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        title: str,
        history: str | None = None,
        dim: str = "sample",
        compress: bool = True,
    ) -> None:
        self.path, self.dim, self.attrs, self.n_samples = Path(path), dim, {}, 0
        self._title, self._history, self._compress = title, history, compress
        self._file = None

    def __enter__(self) -> Self:
        self._open = ExitStack()
        self._temporary = self._open.enter_context(atomic_write(self.path))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if kind is not None:
            return self._open.__exit__(kind, error, trace)
        with self._open:
            self._finish()
        return None

    def append(self, block: xr.Dataset) -> None:
        """Write the next samples.

        Parameters
        ----------
        block : xarray.Dataset
            The first fixes the variables with their dimensions, types and attributes; those without the sample
            dimension are written once. It is left as it is. All blocks but the last should be of one size: the
            file is laid out in chunks of at most the first one's size.

        Raises
        ------
        DataError
            If the block holds no samples, differs from the first in anything but its samples, or cannot be
            written.
        """
        if not block.sizes.get(self.dim):
            raise DataError(
                f"{self.path}: a block without samples; give it a dimension '{self.dim}' of length 1 or more"
            )
        if self._file is None:
            self._begin(block)
        else:
            self._extend(block)
        self.n_samples += block.sizes[self.dim]

    def _begin(self, block: xr.Dataset) -> None:
        import netCDF4

        self._layout = _layout(block, self.dim)
        self._once = {n: v.values.copy() for n, v in block.variables.items() if self.dim not in v.dims}
        self._encoding = encodings(block)
        for name, variable in block.variables.items():
            if self.dim in variable.dims:
                _check_kind(f"{self.path}: {name}", variable, self.dim)
                self._encoding[str(name)] |= _stored(variable, self._compress)
                self._encoded(name, variable)  # refuses times that do not fit the units
        ready = with_cf_attributes(block)
        ready.attrs = {}
        with self._errors():
            save_netcdf(ready, self._temporary, self._encoding, unlimited=[self.dim])
        self.attrs = {**block.attrs, **self.attrs}
        with self._errors(), _netcdf_lock():
            self._file = netCDF4.Dataset(self._temporary, "a")
            self._open.callback(self._close)
            self._file.set_auto_maskandscale(False)
            self._file.set_fill_off()
            for name in ready.variables.keys() - self._once.keys():
                self._file.variables[name].set_var_chunk_cache(size=CACHED_CHUNKS * CHUNK_BYTES)

    def _extend(self, block: xr.Dataset) -> None:
        self._check(block)
        rows = slice(self.n_samples, self.n_samples + block.sizes[self.dim])
        encoded = {
            name: self._encoded(name, variable)
            for name, variable in block.variables.items()
            if self.dim in variable.dims
        }
        with self._errors(), _netcdf_lock():
            for name, values in encoded.items():
                self._file.variables[name][rows] = values

    def _encoded(self, name: Hashable, variable: xr.Variable) -> np.ndarray:
        """Return the values as they stand in the file."""
        from xarray.conventions import encode_cf_variable

        if variable.dtype.kind in "fiu":
            return variable.values
        plain = variable.copy(deep=False)
        plain.encoding = dict(self._encoding[str(name)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # xarray takes other units where these do not fit
            encoded = encode_cf_variable(plain)
        units = self._encoding[str(name)].get("units")
        if units is not None and encoded.attrs["units"].split()[0] != units.split()[0]:
            raise DataError(
                f"{self.path}: {name} does not fit the units '{units}'; round it, or set {name}.encoding['units']"
            )
        return encoded.values.astype(object) if encoded.dtype.kind == "U" else encoded.values

    def _check(self, block: xr.Dataset) -> None:
        """Raise `DataError` unless a block is like the first."""
        layout, at = _layout(block, self.dim), f"{self.path}: the block at sample {self.n_samples}"
        for name in {**self._layout, **layout}:
            first, now = self._layout.get(name, "no such variable"), layout.get(name, "no such variable")
            if first != now:
                raise DataError(
                    f"{at} has for '{name}' {now}, the first block {first}; give blocks of one kind"
                )
        for name, values in self._once.items():
            if not _same(values, block.variables[name].values):
                raise DataError(
                    f"{at} has other values of '{name}' than the first; it has no dimension '{self.dim}' and "
                    "is written once"
                )

    def _finish(self) -> None:
        if self._file is None:
            raise DataError(f"{self.path}: no block was appended; give at least one")
        attributes = file_attributes(self.attrs, self._title, self._history)
        with self._errors(), _netcdf_lock():
            self._file.setncatts(attributes)
            self._file.close()

    def _close(self) -> None:
        if self._file.isopen():
            with _netcdf_lock(), suppress(RuntimeError):
                self._file.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the library raises, such as for a full disk, into a `DataError`."""
        try:
            yield
        except RuntimeError as error:
            raise DataError(
                f"{self.path}: cannot be written ({error}); check the place and its free space"
            ) from error


def _netcdf_lock() -> Any:
    """Return the lock that xarray takes: the netCDF library cannot serve two threads at a time."""
    from xarray.backends.locks import HDF5_LOCK, NETCDFC_LOCK, combine_locks

    return combine_locks([NETCDFC_LOCK, HDF5_LOCK])


def _check_kind(what: str, variable: xr.Variable, dim: str) -> None:
    """Raise `DataError` unless a variable has samples first, and values that can be written in blocks."""
    if variable.dims[0] != dim:
        raise DataError(f"{what}: '{dim}' is not its first dimension; transpose the block")
    is_text = variable.dtype.kind == "O" and isinstance(variable.values.flat[0], str)
    known = variable.dtype.kind in "iufbMmU" or is_text or _is_cftime(variable)
    if not known or variable.dtype == np.float16:
        raise DataError(
            f"{what}: values of {variable.dtype} cannot be written in blocks; give numbers, text or dates"
        )


def _is_cftime(variable: xr.Variable) -> bool:
    """Tell dates on the calendars that climate models have, such as 365 days in every year."""
    return variable.dtype.kind == "O" and type(variable.values.flat[0]).__module__.startswith("cftime")


def _layout(block: xr.Dataset, dim: str) -> dict[str, str]:
    """Return dimensions, lengths but that of the samples, and type of each variable, as text."""

    def text(variable: xr.Variable) -> str:
        lengths = [d if d == dim else f"{d}={n}" for d, n in variable.sizes.items()]
        dates = _is_cftime(variable)
        kind = "dates" if dates else "text" if variable.dtype.kind in "OUS" else variable.dtype
        return f"{kind} ({', '.join(map(str, lengths))})"

    return {str(name): text(variable) for name, variable in block.variables.items()}


def _same(first: np.ndarray, now: np.ndarray) -> bool:
    return np.array_equal(first, now, equal_nan=first.dtype.kind in "fcmM")


def _stored(variable: xr.Variable, compress: bool) -> dict[str, Any]:
    """Return chunks, compression and units of a variable with samples."""
    found: dict[str, Any] = {"chunksizes": (_chunk_samples(variable), *variable.shape[1:])}
    if variable.dtype.kind in "iufb":
        shrinks = compress and _shrinks(variable.values)
        # level 4 takes 1.3 times as long for 1 or 2 % of the size
        found |= {"zlib": shrinks, "shuffle": shrinks, "complevel": 1 if shrinks else 0}
    if variable.dtype.kind in "mM" or _is_cftime(variable):
        # units made for the first block's times may not hold those of later ones
        units = variable.encoding.get("units", _TIME_UNITS[variable.dtype.kind])
        found |= {"units": units, "dtype": "int64"}
    if _is_cftime(variable):
        found["calendar"] = variable.values.flat[0].calendar
    return found


def _chunk_samples(variable: xr.Variable) -> int:
    """Return how many samples a chunk holds: a power of two, but no more than the first block."""
    size = max(1, variable.nbytes // len(variable))
    return min(len(variable), 1 << (max(1, CHUNK_BYTES // size).bit_length() - 1))


def _shrinks(values: np.ndarray) -> bool:
    """Whether the first samples shrink enough by what netCDF does: bytes sorted by their place, then zlib."""
    size = max(1, values.nbytes // len(values))
    head = np.ascontiguousarray(values[: max(1, CHUNK_BYTES // size)])
    shuffled = head.view(np.uint8).reshape(-1, head.itemsize).T.tobytes()
    return len(zlib.compress(shuffled, 1)) <= WORTH_COMPRESSING * len(shuffled)


def sample_axis(path: str | os.PathLike[str], variable: str | None = None) -> tuple[str, int]:
    """Return name and length of a variable's first dimension, reading the header alone.

    Parameters
    ----------
    path : path
        A netCDF file.
    variable : str, optional
        Needed where the file holds several.

    Returns
    -------
    tuple of str and int

    Raises
    ------
    DataError
        If the file is missing or damaged, lacks the variable, or that has no dimension.
    """
    source = existing_file(path)
    with open_netcdf(source) as dataset:
        return _axis(variable_of(dataset, variable, source), source)


def sample_blocks(
    path: str | os.PathLike[str],
    variable: str | None = None,
    first: int = 0,
    last: int | None = None,
    size: int = 1024,
) -> Iterator[xr.DataArray]:
    """Read a variable block by block of samples; the file stays open meanwhile.

    Parameters
    ----------
    path : path
        A netCDF file.
    variable : str, optional
        Samples first; needed where the file holds several.
    first, last : int
        Range of samples, last excluded; None is the end.
    size : int
        Samples per block.

    Yields
    ------
    xarray.DataArray
        At most `size` samples, with their coordinates.

    Raises
    ------
    DataError
        If the file is missing or damaged, lacks the variable, the range is not within its samples, or blocks
        hold no sample.
    """
    source = existing_file(path)
    if size < 1:
        raise DataError(f"size={size}: a block holds 1 sample at least; give a larger number")
    with open_netcdf(source) as dataset:
        array = variable_of(dataset, variable, source)
        dim, n = _axis(array, source)
        first, last = sample_range(f"{source}: {array.name}", n, first, last)
        for start in range(first, last, size):
            yield loaded(array.isel({dim: slice(start, min(start + size, last))}), source)


def sample_range(what: str, n: int, first: int, last: int | None) -> tuple[int, int]:
    """Return a range of samples with its end.

    Raises
    ------
    DataError
        If it is empty or not within n samples; `what` stands before the reason.

    Examples
    --------
    >>> sample_range("x", 10, 4, None)
    (4, 10)
    """
    end = n if last is None else last
    if not 0 <= first < end <= n:
        raise DataError(f"{what} has {n} samples, and the range is {first} to {end}; choose within them")
    return first, end


def _axis(array: xr.DataArray, source: Path) -> tuple[str, int]:
    if not array.ndim:
        raise DataError(f"{source}: {array.name} is a single number; choose a variable of samples")
    return str(array.dims[0]), array.shape[0]
