"""Generate samples with a known truth, explain them and score that, all in blocks; time and memory of each step.

    python scripts/bench_streaming.py [--samples 1000000] [--source correlation] [--cells N] [--maps] [--method lrp.z]
        -o DIR

Samples are Gaussian fields on the ocean cells of a source of `xairt.fields.correlation_of` (the analytic one has
446, the archived matrix 460); the truth is a piecewise-linear function of each cell; the network is the paper's,
untrained unless a model is given. Printed for each step are its seconds, those of the processor, samples per
second, the largest resident memory of the process and the size of what was written. A million samples of all
cells take about 5 GB of disk, and 2 GB more while they are explained.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@dataclass(frozen=True)
class Step:
    """What a step took.

    Attributes
    ----------
    name : str
    seconds : float
    cpu : float
        Seconds of processor time, which other programs on the machine do not change much.
    peak_memory : int
        Largest resident memory, bytes.
    written : int
        Bytes.
    """

    name: str
    seconds: float
    cpu: float
    peak_memory: int
    written: int


def measured(name: str, work: Callable[[], Any], *files: Path) -> Step:
    """Carry out a step and measure it."""
    from xairt.runs.steps import peak_memory

    begun, cpu = time.perf_counter(), time.process_time()
    with peak_memory() as peak:
        work()
        took = time.perf_counter() - begun, time.process_time() - cpu
    return Step(name, *took, peak(), sum(file.stat().st_size for file in files))


def generate(path: Path, n: int, source: str, cells: int | None, maps: bool) -> None:
    """Write samples ``x``, their true contributions ``truth`` and the output ``y``."""
    from xairt.attribution.batching import in_order
    from xairt.data.streams import SampleWriter
    from xairt.fields import correlation_of, draw, factorise, gaussian_blocks

    correlation, grid = correlation_of(source)
    correlation = correlation[:cells, :cells]
    function = draw(correlation, seed=0)

    def block(drawn: tuple[slice, np.ndarray]) -> Any:
        import xarray as xr

        rows, x = drawn
        truth, y = function.contribution_and_output(x)
        coords = {"sample": np.arange(rows.start, rows.stop)}
        dims = ("sample", "cell")
        if maps:
            x, truth, dims = grid.to_map(x), grid.to_map(truth), ("sample", "lat", "lon")
            coords |= {"lat": grid.lat, "lon": grid.lon}
        return xr.Dataset({"x": (dims, x), "truth": (dims, truth), "y": ("sample", y)}, coords)

    with SampleWriter(path, title="Gaussian fields and their contributions") as writer:
        for part in in_order(block, gaussian_blocks(factorise(correlation), n, seed=0), threads=2):
            writer.append(part)


def explain(folder: Path, model: str, method: str, name: str) -> None:
    """Explain all samples."""
    from xairt.runs.contract import Explanation
    from xairt.runs.explanations import Serial, explain

    explanation = Explanation(method=method, model=model, label=name)
    explain(explanation, folder, folder, inputs="benchmark", executor=Serial(), progress=True)


def score(data: Path, attributions: Path) -> float:
    """Return the mean correlation of attribution and truth over all samples."""
    from xairt.data.streams import sample_blocks
    from xairt.metrics.correlation import pearson

    blocks = zip(sample_blocks(data, "truth"), sample_blocks(attributions, "attribution"), strict=True)
    found = [pearson(truth, values, dim=truth.dims[1:]).values for truth, values in blocks]
    return float(np.nanmean(np.concatenate(found)))


def make_model(path: Path, data: Path) -> None:
    """Write the paper's network, untrained."""
    from xairt.data.files import read_array
    from xairt.models.architectures import mamalakis2022
    from xairt.models.saving import save_model

    first = read_array(data, "x", select={"sample": 0}).values
    save_model(mamalakis2022(int(np.isfinite(first).sum()), seed=0), path)


def show(n: int, steps: list[Step]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{n:,} samples")
    for i, name in enumerate(
        ("step", "seconds", "CPU seconds", "samples/s", "peak memory, MiB", "written, MiB")
    ):
        table.add_column(name, justify="right" if i else "left")
    for step in steps:
        sizes = (n / step.seconds, step.peak_memory / 2**20, step.written / 2**20)
        table.add_row(step.name, f"{step.seconds:,.1f}", f"{step.cpu:,.1f}", *(f"{s:,.0f}" for s in sizes))
    Console(width=100).print(table)


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the files")],
    samples: Annotated[int, typer.Option(min=1, help="number of samples")] = 1_000_000,
    source: Annotated[str, typer.Option(help="analytic, or correlation (the archived matrix)")] = "analytic",
    cells: Annotated[int | None, typer.Option(min=1, help="ocean cells; all by default")] = None,
    maps: Annotated[bool, typer.Option(help="write maps with NaN on land, not vectors of cells")] = False,
    method: Annotated[str, typer.Option(help="attribution method")] = "lrp.z",
    model: Annotated[str | None, typer.Option(help="model file; the paper's, untrained, by default")] = None,
) -> None:
    """Time generation, explanation and scoring of samples, all in blocks."""
    if maps and cells:
        raise typer.BadParameter("maps have all cells: leave out --cells or --maps")
    output.mkdir(parents=True, exist_ok=True)
    data, made = output / "data.nc", output / "model.h5"
    steps = [measured("generate", lambda: generate(data, samples, source, cells, maps), data)]
    if model is None:
        steps.append(measured("make the model", lambda: make_model(made, data), made))
    attributions = output / "attributions" / "all.nc"
    given = str(Path(model).absolute()) if model and Path(model).exists() else model or made.name
    steps.append(measured("explain", lambda: explain(output, given, method, "all"), attributions))
    steps.append(measured("score", lambda: score(data, attributions)))
    show(samples, steps)


if __name__ == "__main__":
    typer.run(main)
