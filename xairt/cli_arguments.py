"""Reading what a command line names: parameters of methods, selections, and the files that hold the data."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xairt.errors import DataError, MethodError

if TYPE_CHECKING:
    import typer
    import xarray as xr
    from rich.console import Console

    from xairt.grid import Grid


def with_parameters(methods: Sequence[str], params: Sequence[str]) -> list[str]:
    """Write ``METHOD.key=value`` parameters into the methods they belong to.

    Raises
    ------
    MethodError
        If a parameter is not of that form or names a method that was not asked for.

    Examples
    --------
    >>> with_parameters(["lrp.epsilon", "gradient"], ["lrp.epsilon.epsilon=0.1"])
    ['lrp.epsilon(epsilon=0.1)', 'gradient']
    >>> with_parameters(["shap.kernel"], ["shap.kernel.groups=./regions.nc"])
    ["shap.kernel(groups='./regions.nc')"]
    """
    from xairt.attribution import calls

    further: dict[str, list[str]] = {}
    for text in params:
        left, equals, value = text.partition("=")
        name, dot, key = left.strip().rpartition(".")
        if not (equals and dot and key) or not any(calls.parse(m)[0] == name for m in methods):
            asked = ", ".join(methods)
            raise MethodError(f"--param {text}: write METHOD.key=value, with a method given by -m ({asked})")
        further.setdefault(name, []).append(f"{key}={_quoted(value)}")
    return [_with(method, further.get(calls.parse(method)[0], [])) for method in methods]


def _quoted(value: str) -> str:
    """Return a value as a Python literal: a number, tuple or the like as it is, anything else as text."""
    try:
        return repr(ast.literal_eval(value.strip()))
    except (ValueError, SyntaxError):
        return repr(value.strip())


def _with(method: str, assignments: list[str]) -> str:
    if not assignments:
        return method
    inside = ", ".join(assignments)
    if not method.endswith(")"):
        return f"{method}({inside})"
    return f"{method[:-1]}{inside})" if method.endswith("()") else f"{method[:-1]}, {inside})"


def parse_selection(texts: Sequence[str]) -> dict[str, int | slice]:
    """Read ``dimension=start:stop`` or ``dimension=index`` selections.

    Raises
    ------
    DataError
        If a selection is not of that form.

    Examples
    --------
    >>> parse_selection(["sample=0:100", "lag=2"])
    {'sample': slice(0, 100, None), 'lag': 2}
    """
    selection: dict[str, int | slice] = {}
    for text in texts:
        dimension, equals, part = text.partition("=")
        try:
            numbers = [int(n) if n.strip() else None for n in part.split(":")]
        except ValueError:
            numbers = []
        no_step = len(numbers) == 3 and numbers[2] == 0
        if not equals or not dimension.strip() or not 1 <= len(numbers) <= 3 or numbers == [None] or no_step:
            raise DataError(
                f"--select {text}: write dimension=index or dimension=start:stop, e.g. sample=0:100"
            )
        selection[dimension.strip()] = numbers[0] if len(numbers) == 1 else slice(*numbers)
    return selection


def sample_positions(selection: Mapping[str, int | slice], dimension: str, n: int) -> list[int]:
    """Return the positions in the file of n selected samples, which key their noise.

    A selection that counts from the end is keyed from 0, since the file's length is not known here.

    Examples
    --------
    >>> sample_positions({"sample": slice(100, 200, 50)}, "sample", 2)
    [100, 150]
    """
    part = selection.get(dimension, slice(None))
    start = part.start or 0 if isinstance(part, slice) else 0
    step = part.step or 1 if isinstance(part, slice) else 1
    return [start + step * i for i in range(n)] if start >= 0 and step > 0 else list(range(n))


def read_samples(
    path: Path, variable: str | None, selection: Mapping[str, int | slice], names: Sequence[str]
) -> Any:
    """Return the samples of a file; with several inputs an array for each, by name.

    Raises
    ------
    DataError
        If the file or a variable cannot be read, or a variable is named for a model of several inputs.
    """
    from xairt.data.files import read_array

    if len(names) == 1:
        return read_array(path, variable, select=selection)
    if variable is not None:
        raise DataError(
            f"--variable {variable}: the model reads one variable for each input ({', '.join(names)}): leave it out"
        )
    return _read_each(path, names, selection)


def _read_each(path: Path, names: Sequence[str], selection: Mapping[str, int | slice] | None = None) -> Any:
    """Return the array of each input of a model, by name."""
    from xairt.data.files import read_array

    if path.suffix.lower() == ".npy":
        raise DataError(
            f"{path}: holds one array, but the model takes {len(names)} inputs ({', '.join(names)}): use .nc or .npz"
        )
    return {name: read_array(path, name, select=selection) for name in names}


def read_baseline(text: str | None, names: Sequence[str]) -> Any:
    """Return None, a number, or what a file holds: an array, or one for each input by name.

    Raises
    ------
    DataError
        If the text is neither a number nor a file that can be read.
    """
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        from xairt.data.files import read_array

        return read_array(text) if len(names) == 1 else _read_each(Path(text), names)


def file_and_variable(text: str) -> tuple[Path, str | None]:
    """Split FILE:VARIABLE; a file that exists with a colon in its name is a FILE.

    Examples
    --------
    >>> file_and_variable("nowhere.nc:x")
    (PosixPath('nowhere.nc'), 'x')
    >>> file_and_variable("nowhere.nc")
    (PosixPath('nowhere.nc'), None)
    """
    file, colon, variable = text.rpartition(":")
    if not (file and colon and variable) or Path(text).exists():
        return Path(text), None
    return Path(file), variable


def read_named(option: str, text: str) -> xr.DataArray:
    """Return the array of FILE or FILE:VARIABLE, as an option names it.

    Raises
    ------
    DataError
        If it cannot be read, or FILE alone holds several variables: the message names the option.
    """
    from xairt.data.files import read_array

    path, variable = file_and_variable(text)
    return read_array(path, variable, chosen_by=f"{option} {path}:VARIABLE")


def read_grid(path: Path | None, variable: str | None) -> Grid | None:
    """Return the grid of a netCDF file, None where none is named."""
    if path is None:
        return None
    from xairt.data.files import read_dataset
    from xairt.grid import Grid

    return Grid.from_dataset(read_dataset(path), variable)


def check_suffix(path: Path, *suffixes: str) -> None:
    """Raise `DataError` if a file to write has none of the suffixes."""
    if path.suffix.lower() not in suffixes:
        raise DataError(f"{path}: unknown kind of output file: name it *{' or *'.join(suffixes)}")


def keep_inputs(output: Path, *inputs: Path | str | None) -> None:
    """Raise `DataError` if the output would replace one of the files it is made from."""
    for given in inputs:
        if given is not None and output.exists() and Path(given).exists() and output.samefile(given):
            raise DataError(f"{output}: is an input of this command: name another output file")


def command_line(context: typer.Context) -> str:
    """Return the command as it was called, for the history of a file."""
    return shlex.join(["xairt", *context.obj])


def console() -> Console:
    """Return a console; where the output is no terminal it is wide enough not to fold tables."""
    from rich.console import Console

    made = Console()
    return made if made.is_terminal else Console(width=160)
