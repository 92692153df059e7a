"""The command line: the same functions as the Python API, with one-line errors."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from xairt import cli_optimal, cli_runs
from xairt._version import __version__
from xairt.cli_arguments import (
    check_suffix,
    command_line,
    console,
    keep_inputs,
    parse_selection,
    read_baseline,
    read_grid,
    read_samples,
    sample_positions,
    with_parameters,
)
from xairt.errors import DataError, XairtError

app = typer.Typer(
    name="xairt",
    help="Explain Keras networks, map the relevance on the globe, and measure the explanations.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Archived data: what is known, and where it lies.", no_args_is_help=True)
app.add_typer(data_app, name="data")

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

USAGE_ERROR = typer.BadParameter.__mro__[1]
"""What typer raises for a wrong call; it has no public name of its own."""

Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]
Engine = Annotated[
    str | None,
    typer.Option(
        help="native, another package in a worker process (innvestigate, deeplift, shap), or lime. "
        "Default: native where it has the method."
    ),
]
Convention = Annotated[
    str | None,
    typer.Option(help="Registered convention to reproduce a publication; see `xairt methods --conventions`."),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xairt {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
) -> None:
    """Set what holds for every command."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    for handler in logging.getLogger().handlers:  # not the logger: a log file may want more than the terminal
        handler.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("xairt").setLevel(logging.INFO)
    for library in ("absl", "tensorflow"):
        logging.getLogger(library).setLevel(logging.INFO if verbose else logging.ERROR)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Seed of data, training and noise.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few seconds of training: shows the way, not the skill.")
    ] = False,
) -> None:
    """Train on synthetic SST, explain with LRP and gradients, draw maps, compare with the known truth."""
    from xairt.demo import run

    run(output, seed=seed, quick=quick, progress=True, echo=typer.echo)


@app.command()
def attribute(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Model file, URL, or registered name.")],
    data: Annotated[
        Path,
        typer.Argument(help="Samples: .nc, .npz or .npy; with several inputs a variable for each, by name."),
    ],
    output: Output,
    method: Annotated[
        list[str], typer.Option("--method", "-m", help="Method, alias or name(parameter=value); repeatable.")
    ],
    param: Annotated[list[str] | None, typer.Option(help="METHOD.key=value; repeatable.")] = None,
    target: Annotated[
        int | None, typer.Option(help="Index of the explained output; default: the largest.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="A number, or a file with one or more samples.")
    ] = None,
    engine: Engine = None,
    convention: Convention = None,
    grid: Annotated[
        Path | None,
        typer.Option(
            help="netCDF with lat, lon and NaN on land (or a variable `mask`), ordered as for training."
        ),
    ] = None,
    grid_variable: Annotated[
        str | None, typer.Option(help="Variable of the grid file; needed if it holds several.")
    ] = None,
    variable: Annotated[
        str | None, typer.Option(help="Variable of DATA; needed if it holds several.")
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(help="Part of the data: sample=0:100, or sample=3:4 for one; repeatable."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples computed at once.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64 (native engine).")] = "float32",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    show_rules: Annotated[
        bool, typer.Option("--show-rules", help="First print which layer gets which rule (LRP methods).")
    ] = False,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Load a model file that executes code.")
    ] = False,
) -> None:
    """Explain samples with one method or several and write the attributions as netCDF."""
    from xairt.attribution.explainer import attribute as explain
    from xairt.attribution.inputs import sample_dimension
    from xairt.attribution.network import input_names
    from xairt.attribution.registry import resolve
    from xairt.data.files import write_dataset
    from xairt.models.loading import load_model

    check_suffix(output, ".nc")
    keep_inputs(output, data, grid, baseline, model)
    methods = with_parameters(method, param or [])
    calls = [resolve(name) for name in methods]  # a typing error is told before any file is read
    selection = parse_selection(select or [])
    network = load_model(model, trust_code=trust_code)
    names = input_names(network)
    x = read_samples(data, variable, selection, names)
    first = x[names[0]] if len(names) > 1 else x
    sample = sample_dimension(first)
    if show_rules:
        followed = [convention if convention in call.method.conventions else None for call in calls]
        _print_rules(network, [resolve(m, None, c) for m, c in zip(methods, followed, strict=True)])
    result = explain(
        network,
        x,
        methods,
        target=target,
        baseline=read_baseline(baseline, names),
        engine=engine,
        convention=convention,
        grid=read_grid(grid, grid_variable),
        batch_size=batch_size,
        dtype=dtype,
        seed=seed,
        progress=True,
        sample_index=sample_positions(selection, sample, first.sizes[sample]),
    )
    write_dataset(
        result, output, title=f"Attribution of {model} to {data.name}", history=command_line(context)
    )
    typer.echo(
        f"{output}: {len(result.method)} method(s), {result.sizes[result.prediction.dims[-1]]} samples"
    )


@app.command(name="map")
def draw(
    attributions: Annotated[
        Path, typer.Argument(help="netCDF written by `xairt attribute` or `xairt optimal-input`.")
    ],
    output: Output,
    sample: Annotated[
        list[int] | None, typer.Option(help="Position of a sample to draw; repeatable. Default: 0.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Label of a method to draw; repeatable. Default: all.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="netCDF with the true attribution.")] = None,
    truth_variable: Annotated[str | None, typer.Option(help="Variable of the truth file.")] = None,
    projection: Annotated[str, typer.Option(help="A cartopy projection.")] = "Robinson",
    central_longitude: Annotated[
        float | None, typer.Option(help="Degrees east. Default: 180 for global fields.")
    ] = None,
    share: Annotated[
        str, typer.Option(help="Which panels share a colour scale: row, column, all, panel.")
    ] = "panel",
    normalise: Annotated[str | None, typer.Option(help="Divide each map by its max or sum.")] = None,
    robust: Annotated[
        float | None, typer.Option(help="Percentile of |attribution| that limits the colours.")
    ] = None,
) -> None:
    """Draw attributions on maps, beside the truth where it is known."""
    from xairt.data.files import read_array, read_dataset
    from xairt.plots import maps
    from xairt.plots.inputs import DRAWN

    check_suffix(output, ".png", ".pdf", ".svg", ".jpg")
    dataset = read_dataset(attributions)
    if not any(name in dataset for name in DRAWN):
        raise DataError(
            f"{attributions}: has no variable 'attribution': give a file written by `xairt attribute`"
        )
    maps(
        dataset,
        truth=None if truth is None else read_array(truth, truth_variable),
        samples=sample or (0,),
        methods=method or None,
        projection=projection,
        central_longitude=central_longitude,
        share=share,
        normalise=normalise,
        robust=robust,
        save=output,
    )
    typer.echo(str(output))


app.command()(cli_runs.run)
app.command()(cli_runs.report)
app.command(name="optimal-input")(cli_optimal.optimal_input)


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="Model file, URL, or registered name.")],
    rules: Annotated[
        list[str] | None,
        typer.Option(help="An LRP method: load the model, and show which layer gets which rule; repeatable."),
    ] = None,
    convention: Convention = None,
) -> None:
    """Show what a model file holds and which methods can explain it; executes nothing of the file."""
    from xairt.models.card import inspect_model

    console().print(inspect_model(model).render())
    if rules:
        from xairt.attribution.registry import resolve
        from xairt.models.loading import load_model

        calls = [resolve(method, convention=convention) for method in rules]
        _print_rules(load_model(model), calls)


@app.command()
def methods(
    conventions: Annotated[
        bool, typer.Option("--conventions", help="Show the registered conventions.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Show parameters and references too.")] = False,
) -> None:
    """List the attribution methods, or the documented conventions."""
    from rich.table import Table

    if conventions:
        from xairt.conventions import CONVENTIONS

        table = Table("convention", "applies to", "what it does differently", "source")
        for c in CONVENTIONS.values():
            table.add_row(c.name, c.applies_to, c.difference, c.source)
    else:
        from xairt.attribution.registry import methods as list_methods

        columns = ["engines", "aliases", "sum_promises"] + (
            ["parameters", "conventions", "reference"] if full else []
        )
        table = Table("method", *columns)
        for name, row in list_methods()[columns].iterrows():
            table.add_row(name, *map(str, row))
    console().print(table)


@data_app.command("list")
def data_list() -> None:
    """List the registered data."""
    from rich.table import Table

    from xairt.data.registry import entries

    table = Table("name", "size", "licence", "description")
    for entry in entries():
        size = "unknown" if entry.size is None else f"{entry.size:,} bytes"
        table.add_row(entry.name, size, entry.licence, entry.description)
    console().print(table)


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument(help="Registered name.")]) -> None:
    """Download and verify registered data unless it is here already; print its path."""
    from xairt.data.registry import path

    typer.echo(path(name, progress=True))


@data_app.command("path")
def data_path(name: Annotated[str, typer.Argument(help="Registered name.")]) -> None:
    """Print where registered data lies on this machine, without downloading."""
    from xairt.data.registry import path

    typer.echo(path(name, download=False))


def _print_rules(model: Any, calls: Sequence[Any]) -> None:
    """Print for each of the method calls that has them which layer gets which rule."""
    from rich.markup import escape
    from rich.table import Table

    from xairt.attribution.lrp.methods import rules_of
    from xairt.attribution.network import Network

    network = Network.of(model)
    for call in [call for call in calls if hasattr(call.method.build, "layer_rules")] or calls:
        layers = rules_of(network, call.label, call.method.build, call.parameters, call.convention)
        table = Table(*layers.columns, title=escape(call.label), title_justify="left")
        for row in layers.itertuples(index=False):
            table.add_row(*(escape(str(value)) for value in row))
        console().print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors made on purpose end with exit code 2 and one line on standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its start-up notes would hide our own lines
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        code = app(
            [a for a in arguments if a != "--debug"], prog_name="xairt", standalone_mode=False, obj=arguments
        )
    except USAGE_ERROR as error:
        if error.format_message():  # empty where the help has been shown instead
            typer.echo(_usage_text(error), err=True)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except XairtError as error:
        if debug:
            traceback.print_exc()
        typer.echo(f"xairt: {error}", err=True)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("xairt: interrupted; files that were not finished were not written", err=True)
        raise SystemExit(EXIT_INTERRUPTED) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def _usage_text(error: Exception) -> str:
    """Return what is wrong with a call as one line."""
    command = error.ctx.command_path if error.ctx is not None else "xairt"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"xairt: {message}: see `{command} --help`"
