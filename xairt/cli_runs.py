"""The commands about runs: run a benchmark, see its cases and settings, report what came out."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xairt.errors import DataError

if TYPE_CHECKING:
    from xairt.runs import Benchmark, RunConfig

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


def run(
    benchmark: Annotated[str | None, typer.Argument(help="Name of a benchmark; --list shows them.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the run.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="quick, standard or paper. Default: the folder's settings, else standard."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting; lists as [1, 2]; repeatable."),
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="Do this stage alone.")] = None,
    force: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE", help="Do this stage even where it is up to date; repeatable."),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local[:N]", help="Explain on a dask cluster: N local workers, or a scheduler."
        ),
    ] = None,
    log: Annotated[Path | None, typer.Option(help="File that all messages are added to.")] = None,
    list_cases: Annotated[
        bool, typer.Option("--list", help="List the cases and stages; without a benchmark the benchmarks.")
    ] = False,
    show_config: Annotated[bool, typer.Option("--show-config", help="Show all settings and end.")] = False,
    context: typer.Context = None,
) -> None:
    """Run a benchmark: generate data, train, explain, score, draw. What is up to date is kept."""
    from xairt import runs

    if benchmark is None:
        if not list_cases:
            raise DataError("no benchmark named: `xairt run --list` lists them")
        _list_benchmarks()
        return
    chosen = runs.benchmark(benchmark)
    settings = runs.settings_of(
        chosen, output, preset=preset, file=config, given=runs.parse_settings(assignments or [])
    )
    if show_config:
        _show(chosen, settings)
    elif list_cases:
        _list_steps(chosen, settings)
    elif output is None:
        raise DataError(f"xairt run {benchmark}: no folder to write; give -o RUN")
    else:
        with _logged(log):
            _execute(chosen, settings, output, only, force or [], dask, _again(context.obj))


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs of one benchmark.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="HTML file. Default: RUN/report.html; of several runs ./report.html."
        ),
    ] = None,
) -> None:
    """Write what a run did and found, or several runs side by side, as one HTML file."""
    from xairt.cli_arguments import check_suffix
    from xairt.runs import Run, write_report

    path = output or (runs[0] if len(runs) == 1 else Path()) / "report.html"
    check_suffix(path, ".html", ".htm")
    typer.echo(write_report([Run.open(folder) for folder in runs], path))


def _execute(
    benchmark: Benchmark,
    settings: RunConfig,
    output: Path,
    only: str | None,
    force: list[str],
    dask: str | None,
    again: str,
) -> None:
    """Run, and tell what was done and how to go on."""
    from xairt import runs

    try:
        with runs.executor(dask) as executor:
            outcome = runs.execute(
                benchmark,
                settings,
                output,
                only=only,
                force=force,
                executor=executor,
                progress=True,
                echo=_echo,
            )
    except KeyboardInterrupt:
        logging.getLogger(__name__).info("stopped")
        typer.echo(f"xairt: stopped; finished steps are kept. To go on: {again}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if only is None:
        _echo(f"report: {runs.write_report([runs.Run.open(output, benchmark)], output / 'report.html')}")
    _echo(
        f"{output}: {len(outcome.done)} steps done, {len(outcome.current)} were up to date, {len(outcome.failed)} failed"
    )
    if outcome.failed:
        typer.echo(
            f"xairt: failed: {', '.join(outcome.failed)}. To try these again: {again}",
            err=True,
        )
        raise typer.Exit(EXIT_FAILED)


def _again(arguments: Sequence[str]) -> str:
    """Return the command that goes on with what is missing: this one, without the stages that are forced.

    Examples
    --------
    >>> _again(["run", "sstanom", "--preset", "quick", "--force", "train", "-o", "a run"])
    "xairt run sstanom --preset quick -o 'a run'"
    """
    kept, rest = [], iter(arguments)
    for argument in rest:
        if argument == "--force":
            next(rest, None)
        elif not argument.startswith("--force="):
            kept.append(argument)
    return shlex.join(["xairt", *kept])


def _echo(text: str) -> None:
    typer.echo(text)
    logging.getLogger("xairt.runs").info(text)


@contextmanager
def _logged(path: Path | None) -> Iterator[None]:
    """Add all messages of xairt to a file, with their time."""
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: log cannot be written ({error.strerror}); choose another place") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("xairt")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()


def _list_benchmarks() -> None:
    from rich.markup import escape
    from rich.table import Table

    from xairt import runs
    from xairt.cli_arguments import console

    table = Table("benchmark", "title", "stages", "presets")
    for name in sorted(runs.benchmarks()):
        try:
            found = runs.benchmark(name)
            table.add_row(name, escape(found.title), ", ".join(found.stages), ", ".join(found.presets))
        except DataError as error:
            table.add_row(name, escape(str(error)), "", "")
    console().print(table)


def _show(benchmark: Benchmark, settings: RunConfig) -> None:
    from rich.markup import escape
    from rich.table import Table

    from xairt.cli_arguments import console
    from xairt.runs.config import describe

    table = Table("setting", "value", "stage", "bounds", "description", title=escape(benchmark.title))
    for row in describe(settings):
        table.add_row(*map(escape, row.values()))
    console().print(table)


def _list_steps(benchmark: Benchmark, settings: RunConfig) -> None:
    from rich.markup import escape
    from rich.table import Table

    from xairt.cli_arguments import console

    table = Table("case", "settings", title=escape(f"{benchmark.title}: {', '.join(benchmark.stages)}"))
    for name, own in benchmark.case_table(settings).items():
        table.add_row(name, escape(", ".join(f"{key}={value}" for key, value in own.items())))
    console().print(table)
