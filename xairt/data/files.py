"""Reading arrays and writing results: netCDF with CF attributes, numpy files, atomic writes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from xairt._version import __version__
from xairt.data.provenance import provenance, utc_time
from xairt.errors import DataError, reason_of, suggest

if TYPE_CHECKING:
    import xarray as xr

CONVENTIONS = "CF-1.10"
NETCDF_SUFFIXES = (".nc", ".nc4", ".cdf")
ARRAY_SUFFIXES = (*NETCDF_SUFFIXES, ".npz", ".npy")
CHOSEN_BY = "variable= (--variable, or --set variable=NAME of a run)"
_COORDINATES = {
    "lat": {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"},
    "lon": {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"},
}
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_COMPRESSION = {"zlib": True, "complevel": 4, "shuffle": True}


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its name once the block has succeeded.

    The body writes the whole file (or folder) at the yielded path, which has the same suffix. After an
    exception, or a kill, ``path`` holds what it held before. Missing parent folders are made. A folder
    replaces an existing folder only if that one is empty.

    Parameters
    ----------
    path : where the finished file shall be

    Yields
    ------
    pathlib.Path
        The temporary path, which does not exist yet.

    Raises
    ------
    DataError
        If the folder cannot be made or written, or the block wrote nothing.
    """
    final = Path(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{final}: its folder cannot be made ({error.strerror}); choose another place"
        ) from error
    temporary = final.with_name(f".{uuid4().hex[:12]}.part{final.suffix}")
    try:
        yield temporary
        if not temporary.exists():
            raise DataError(f"{final}: nothing was written; write to the path that atomic_write yields")
        os.replace(temporary, final)
    except OSError as error:
        if error.errno not in _DISK_ERRORS and error.filename not in (temporary, str(temporary)):
            raise
        reason = error.strerror or str(error)
        raise DataError(
            f"{final}: cannot be written ({reason}); check the place and its free space"
        ) from error
    finally:
        if os.path.isdir(temporary):
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink()


def read_array(
    path: str | os.PathLike[str],
    variable: str | None = None,
    *,
    select: Mapping[str, int | slice] | None = None,
    chosen_by: str = CHOSEN_BY,
) -> xr.DataArray:
    """Read one array from a netCDF, ``.npz`` or ``.npy`` file into memory.

    Parameters
    ----------
    path : a file ending in .nc, .nc4, .cdf, .npz or .npy
    variable : str, optional
        Which variable of the file; needed when it holds several. Bounds and grid mappings do not count.
    select : mapping of dimension to index or slice, optional
        The part to read, by position, for example ``{"sample": slice(0, 100)}``. Of netCDF and ``.npy``
        files nothing else is read.
    chosen_by : str
        How a variable is chosen, for the error message.

    Returns
    -------
    xarray.DataArray
        Values in the stored precision; NaN where netCDF marks missing values. Arrays of numpy files get the
        dimensions ``sample, dim_1, dim_2, ...``.

    Raises
    ------
    DataError
        If the file is missing, truncated, of another kind, pickled, holds several variables while none is
        chosen, or lacks the variable or dimension asked for.
    """
    source = existing_file(path)
    suffix = source.suffix.lower()
    if suffix in NETCDF_SUFFIXES:
        return _read_netcdf_variable(source, variable, select, chosen_by)
    if suffix not in (".npz", ".npy"):
        raise DataError(f"{source}: unknown kind of file '{suffix}'; use .nc, .npz or .npy")
    array, name = _read_npz(source, variable, chosen_by) if suffix == ".npz" else (_read_npy(source), None)
    return _labelled(array, name, select, source)


def read_dataset(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read a whole netCDF file into memory and close it.

    Parameters
    ----------
    path : a netCDF file

    Returns
    -------
    xarray.Dataset
        Variables in the stored precision, text coordinates as text.

    Raises
    ------
    DataError
        If the file is missing, truncated or not netCDF.
    """
    source = existing_file(path)
    if source.suffix.lower() in (".npz", ".npy"):
        raise DataError(
            f"{source}: a numpy file, where a netCDF file is needed; write it as netCDF with coordinates"
        )
    with open_netcdf(source) as dataset:
        return loaded(dataset, source)


def read_attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the global attributes of a netCDF file, and none of its arrays.

    Raises
    ------
    DataError
        If the file is missing, truncated or not netCDF.
    """
    from netCDF4 import Dataset

    source = existing_file(path)
    try:
        with Dataset(source) as dataset:
            return {name: dataset.getncattr(name) for name in dataset.ncattrs()}
    except (OSError, RuntimeError) as error:
        raise _damaged(source, "netCDF", error) from error


def write_dataset(
    dataset: xr.Dataset, path: str | os.PathLike[str], *, title: str, history: str | None = None
) -> Path:
    """Write a Dataset as compressed netCDF-4 with CF attributes and provenance, atomically.

    Parameters
    ----------
    dataset : xarray.Dataset
        Left as it is. Precision is kept; ``lat`` and ``lon`` get their CF names and units; attributes that
        netCDF cannot hold (dict, bool, None, nested lists) are written as JSON text.
    path : file to write or replace
    title : str
        One line on what the file holds.
    history : str, optional
        How it was made (a command line); a time stamp is put before it, older history is kept above.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    ready = with_cf_attributes(dataset)
    ready.attrs = file_attributes(dataset.attrs, title, history)
    target = Path(path)
    with atomic_write(target) as temporary:
        save_netcdf(ready, temporary, encodings(ready))
    return target


def with_cf_attributes(dataset: xr.Dataset) -> xr.Dataset:
    """Return a shallow copy whose variables have attributes that netCDF can hold, and CF's for lat and lon."""
    ready = dataset.copy(deep=False)
    for name, variable in ready.variables.items():
        variable.attrs = {**_COORDINATES.get(str(name), {}), **_netcdf_attributes(variable.attrs)}
    return ready


def file_attributes(attributes: Mapping[Any, Any], title: str, history: str | None) -> dict[str, Any]:
    """Return the attributes of a file: those given, as netCDF can hold them, and what CF and provenance ask for.

    Parameters
    ----------
    attributes : mapping
        Of the dataset. A ``source`` or ``provenance`` of its own is kept, an older ``history`` stands above.
    title, history
        As of `write_dataset`.

    Returns
    -------
    dict
    """
    stamp = f"{utc_time()}: {history or f'written by xairt {__version__}'}"
    earlier = [str(attributes["history"])] if attributes.get("history") else []
    return {
        "source": f"xairt {__version__}",
        "provenance": json.dumps(provenance(), sort_keys=True),
        **_netcdf_attributes(attributes),
        "Conventions": CONVENTIONS,
        "title": title,
        "history": "\n".join([*earlier, stamp]),
    }


def encodings(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Return how each variable is stored: numbers compressed, coordinates without a fill value."""
    return {
        str(name): _encoding(str(name), variable, dataset) for name, variable in dataset.variables.items()
    }


def save_netcdf(
    dataset: xr.Dataset, path: Path, encoding: Mapping[str, Mapping[str, Any]], unlimited: Sequence[str] = ()
) -> None:
    """Write a Dataset as netCDF-4, stored as `encoding` says and not as it was stored where it came from."""
    dataset.drop_encoding().to_netcdf(
        path, format="NETCDF4", engine="netcdf4", encoding=encoding, unlimited_dims=unlimited
    )


def _encoding(name: str, variable: xr.Variable, dataset: xr.Dataset) -> dict[str, Any]:
    """Compress numbers, and give coordinates no fill value (CF 2.5.1 forbids missing coordinates)."""
    encoding: dict[str, Any] = {}
    if variable.dtype.kind in "iufb" and variable.ndim:
        encoding.update(_COMPRESSION)
    if name in dataset.coords:
        encoding["_FillValue"] = None
    if variable.dtype.kind in "mM":
        encoding.update(
            {key: variable.encoding[key] for key in ("units", "calendar") if key in variable.encoding}
        )
    return encoding


def _netcdf_attributes(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _netcdf_value(value) for key, value in attributes.items()}


def _netcdf_value(value: Any) -> Any:
    """Return ``value`` where netCDF holds it as it is, else JSON text."""
    if isinstance(value, (str, int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.ndim == 1:
        return value
    if (
        isinstance(value, (list, tuple))
        and value
        and {type(item) for item in value} in ({str}, {int}, {float})
    ):
        return list(value)
    return json.dumps(value, sort_keys=True, default=_json_value)


def _json_value(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return a path that is a file; `DataError` if it is none."""
    source = Path(path)
    if source.is_file():
        return source
    reason = "is a folder, not a file" if source.is_dir() else "no such file"
    raise DataError(f"{source}: {reason}; check the path")


def _damaged(source: Path, kind: str, error: BaseException) -> DataError:
    return DataError(
        f"{source}: damaged or not a {kind} file ({reason_of(error, 120)}); fetch or write it again"
    )


def open_netcdf(source: Path) -> xr.Dataset:
    """Open a netCDF file; nothing but its header and index coordinates is read.

    Raises
    ------
    DataError
        If it is damaged or no netCDF file.
    """
    import xarray as xr

    try:
        return xr.open_dataset(source, engine="netcdf4", decode_coords="all", cache=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise _damaged(source, "netCDF", error) from error


def loaded(data: Any, source: Path) -> Any:
    """Read a Dataset or DataArray of an open file into memory; `DataError` if the file is damaged."""
    try:
        return data.load()
    except (OSError, RuntimeError, ValueError) as error:
        raise _damaged(source, "netCDF", error) from error


def _read_netcdf_variable(
    source: Path, variable: str | None, select: Mapping[str, int | slice] | None, chosen_by: str
) -> xr.DataArray:
    with open_netcdf(source) as dataset:
        return loaded(_selected(variable_of(dataset, variable, source, chosen_by), select, source), source)


def variable_of(
    dataset: xr.Dataset, variable: str | None, source: Path, chosen_by: str = CHOSEN_BY
) -> xr.DataArray:
    """Return a variable of an open file, the only one for None.

    Raises
    ------
    DataError
        If there is none of this name, or not exactly one to choose.
    """
    choices = [str(name) for name in dataset.data_vars]
    known = [*choices, *map(str, dataset.coords)] if variable else choices
    return dataset[_choose(source, variable, choices, known, chosen_by)]


def _read_npz(source: Path, variable: str | None, chosen_by: str) -> tuple[np.ndarray, str]:
    try:
        with np.load(source, allow_pickle=False) as archive:
            name = _choose(source, variable, archive.files, archive.files, chosen_by)
            return archive[name], name
    except DataError:
        raise
    except ValueError as error:
        raise _pickled_or_damaged(source, ".npz", error) from error
    except (OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise _damaged(source, ".npz", error) from error


def _read_npy(source: Path) -> np.ndarray:
    try:
        return np.load(source, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise _pickled_or_damaged(source, ".npy", error) from error
    except (OSError, EOFError) as error:
        raise _damaged(source, ".npy", error) from error


def _pickled_or_damaged(source: Path, kind: str, error: ValueError) -> DataError:
    if "allow_pickle" in str(error) or "Python objects" in str(error):
        return DataError(
            f"{source}: pickled Python objects, or no {kind} file; save plain arrays with numpy.save(z)"
        )
    return _damaged(source, kind, error)


def _choose(source: Path, variable: str | None, choices: list[str], known: list[str], chosen_by: str) -> str:
    """Return the variable to read: the one asked for, or the only one."""
    names = ", ".join(choices) or "none"
    if variable is not None:
        if variable in known:
            return variable
        hint = suggest(variable, known)
        raise DataError(f"{source}: has no variable '{variable}'{hint}; it holds {names}")
    if len(choices) == 1:
        return choices[0]
    if not choices:
        raise DataError(f"{source}: holds no variable; check how it was written")
    raise DataError(f"{source}: holds {len(choices)} variables ({names}); choose one with {chosen_by}")


def _labelled(
    array: np.ndarray, name: str | None, select: Mapping[str, int | slice] | None, source: Path
) -> xr.DataArray:
    import xarray as xr

    dims = [f"dim_{axis}" if axis else "sample" for axis in range(array.ndim)]
    labelled = _selected(xr.DataArray(array, dims=dims, name=name), select, source)
    return labelled.copy(data=np.array(labelled.values))


def _selected(array: xr.DataArray, select: Mapping[str, int | slice] | None, source: Path) -> xr.DataArray:
    for dim, index in (select or {}).items():
        if dim not in array.dims:
            dims = ", ".join(map(str, array.dims))
            raise DataError(f"{source}: has no dimension '{dim}' to select from; it has {dims}")
        if isinstance(index, int) and not -array.sizes[dim] <= index < array.sizes[dim]:
            raise DataError(
                f"{source}: {dim} has {array.sizes[dim]} entries, not one at {index}; select 0 to "
                f"{array.sizes[dim] - 1}"
            )
        size = array.sizes[dim]
        array = array.isel({dim: index})
        if array.sizes.get(dim) == 0:
            raise DataError(
                f"{source}: the selection leaves none of the {size} entries of {dim}; select within them"
            )
    return array
