"""The command for optimal inputs: `xairt optimal-input`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xairt.cli_arguments import (
    check_suffix,
    command_line,
    file_and_variable,
    keep_inputs,
    parse_selection,
    read_grid,
    read_named,
)
from xairt.errors import DataError

if TYPE_CHECKING:
    from xairt.grid import Grid
    from xairt.optimal_input import Regulariser

NAMED_STARTS = ("zeros", "random")
NAMED_FILE = "FILE[:VARIABLE]"

Weight = Annotated[float | None, typer.Option(min=0, help="Weight of the regulariser of this name.")]


def optimal_input(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model file, URL, or registered name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="netCDF file to write.")],
    target: Annotated[
        list[int] | None,
        typer.Option(help="Index of the output or class; repeat it for one start each."),
    ] = None,
    value: Annotated[
        list[float] | None,
        typer.Option(help="What the output is to reach (sigmoid: its probability); repeat it likewise."),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="crossentropy, squared_error, maximise or minimise; default by the model."),
    ] = None,
    start: Annotated[str, typer.Option(help="zeros, random, or a file of one or more inputs.")] = "zeros",
    variable: Annotated[
        str | None, typer.Option(help="Variable of the start file; needed if it holds several.")
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option(help="Part of the start file: sample=0:10; repeatable.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar=NAMED_FILE,
            help="True classes of the start file: start at the mean of the correct ones of the target. "
            "FILE:VARIABLE where the file holds several.",
        ),
    ] = None,
    n_starts: Annotated[int | None, typer.Option(min=1, help="Number of random starts.")] = None,
    iterations: Annotated[int, typer.Option(min=1, help="Steps of the descent.")] = 10_000,
    optimizer: Annotated[
        str | None, typer.Option(help="A Keras optimizer by name. Default: plain gradient descent.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Step. Default: 0.9999, or the named optimizer's own.")
    ] = None,
    l1: Weight = None,
    l2: Weight = None,
    l2_norm: Annotated[
        float | None, typer.Option("--l2-norm", help="--l2 pulls towards this norm instead of 0.")
    ] = None,
    tv: Weight = None,
    laplacian: Weight = None,
    distance: Weight = None,
    mahalanobis: Weight = None,
    training: Annotated[
        str | None,
        typer.Option(
            metavar=NAMED_FILE,
            help="Samples whose mean and covariance --mahalanobis takes. FILE:VARIABLE where the file holds several.",
        ),
    ] = None,
    modes: Annotated[
        int | None, typer.Option(min=1, help="Modes of --mahalanobis. Default: 90 % of the variance.")
    ] = None,
    lower: Annotated[float | None, typer.Option(help="Lower bound of all values.")] = None,
    upper: Annotated[float | None, typer.Option(help="Upper bound of all values.")] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar=NAMED_FILE,
            help="One input or map, 1 where values may change. FILE:VARIABLE where the file holds several.",
        ),
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(help="netCDF with lat, lon and NaN on land (or a variable `mask`).")
    ] = None,
    grid_variable: Annotated[
        str | None, typer.Option(help="Variable of the grid file; needed if it holds several.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random starts.")] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    tolerance: Annotated[
        float | None, typer.Option(help="End early once the loss falls by less than this part.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Load a model file that executes code.")
    ] = False,
) -> None:
    """Search for the input that makes a network predict a class or a value; draw it with `xairt map`."""
    from xairt.data.files import write_dataset
    from xairt.models.loading import load_model
    from xairt.optimal_input import optimal_input as search

    check_suffix(output, ".nc")
    named = [file_and_variable(text)[0] for text in (labels, training, mask) if text is not None]
    keep_inputs(output, model, start, *named, grid)
    places = read_grid(grid, grid_variable)
    weights = {"L1": l1, "TotalVariation": tv, "Laplacian": laplacian, "DistanceFromStart": distance}
    terms = _regularisers(weights, (l2, l2_norm), (mahalanobis, training, modes))
    network = load_model(model, trust_code=trust_code)
    found = search(
        network,
        _one_or_all(target),
        value=_one_or_all(value),
        loss=loss,
        start=_start(start, variable, select or [], labels, network, target, places),
        n_starts=n_starts,
        optimizer=optimizer,
        learning_rate=learning_rate,
        iterations=iterations,
        regularisers=terms,
        bounds=None if lower is None and upper is None else (lower, upper),
        mask=None if mask is None else read_named("--mask", mask),
        grid=places,
        seed=seed,
        dtype=dtype,
        tolerance=tolerance,
        progress=True,
    )
    write_dataset(found, output, title=f"Optimal input of {model}", history=command_line(context))
    reached = "probability" if "probability" in found else "prediction"
    numbers = ", ".join(f"{number:.4g}" for number in found[reached].values)
    typer.echo(f"{output}: {found.sizes['start']} start(s), {reached} {numbers}")


def _one_or_all(given: list[Any] | None) -> Any:
    """Return None, the only value, or all."""
    if not given:
        return None
    return given[0] if len(given) == 1 else given


def _regularisers(
    weights: dict[str, float | None],
    l2: tuple[float | None, float | None],
    mahalanobis: tuple[float | None, str | None, int | None],
) -> list[Regulariser]:
    """Return the regularisers whose weight is given and not 0."""
    from xairt import optimal_input as known

    terms = [getattr(known, name)(weight) for name, weight in weights.items() if weight]
    weight, norm = l2
    if norm is not None and not weight:
        raise DataError("--l2-norm goes with --l2 WEIGHT: give it too")
    if weight:
        terms.append(known.L2(weight, norm=norm))
    weight, training, modes = mahalanobis
    if bool(weight) != (training is not None) or (modes is not None and not weight):
        raise DataError("--mahalanobis WEIGHT, --training FILE (and --modes) go together: give both")
    if weight:
        terms.append(known.Mahalanobis(weight, samples=read_named("--training", training), modes=modes))
    return terms


def _start(
    start: str,
    variable: str | None,
    select: list[str],
    labels: str | None,
    network: Any,
    target: list[int] | None,
    grid: Grid | None,
) -> Any:
    """Return the start: a name, inputs of a file, or their mean over the correctly classified ones."""
    from xairt.data.files import read_array
    from xairt.optimal_input import mean_of_correct

    if start in NAMED_STARTS:
        if labels is not None:
            raise DataError(f"--labels {labels}: belongs to a start file: give --start FILE")
        return start
    samples = read_array(start, variable, select=parse_selection(select))
    if labels is None:
        return samples
    if not target or len(target) > 1:
        raise DataError(f"--labels {labels}: give the one class with --target")
    return mean_of_correct(network, samples, read_named("--labels", labels), target[0], grid=grid)
