"""Time the truth of the SST benchmark: contributions, slopes and outputs of samples, block by block.

    python scripts/bench_truth.py [--samples 1000000] [--cells 458]

Samples are drawn with the analytic correlation and thrown away block by block, as a run that writes them does.
Printed are the seconds of drawing the samples, of their truth (contribution, slope, output), the processor's
seconds of both, and the largest resident memory of the process.
"""

from __future__ import annotations

import resource
import time
from typing import Annotated

import numpy as np
import typer


def main(
    samples: Annotated[int, typer.Option(min=1, help="number of samples")] = 1_000_000,
    cells: Annotated[int, typer.Option(min=1, max=648, help="cells of the 10-degree grid")] = 458,
) -> None:
    """Draw samples, evaluate the truth, and print what it took."""
    from xairt import fields
    from xairt.fields.correlation import default_coordinates
    from xairt.grid import Grid

    grid = Grid(np.arange(648).reshape(18, 36) < cells, *default_coordinates())
    correlation = fields.analytic_sst_correlation(grid)
    function, factor = fields.draw(correlation, seed=0), fields.factorise(correlation)
    truth_seconds = total = 0.0
    begun, cpu = time.perf_counter(), time.process_time()
    for _, x in fields.gaussian_blocks(factor, samples, seed=0):
        at = time.perf_counter()
        contribution, y = function.contribution_and_output(x)
        slope = function.slope_at(x)
        truth_seconds += time.perf_counter() - at
        total += float(y.sum()) + float(contribution[0, 0]) + float(slope[0, 0])
    drawing = time.perf_counter() - begun - truth_seconds
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    typer.echo(
        f"{samples:,} samples of {cells} cells: truth {truth_seconds:.1f} s, drawing {drawing:.1f} s, "
        f"processor {time.process_time() - cpu:.1f} s, peak memory {memory:.2f} GiB (sum {total:.6g})"
    )


if __name__ == "__main__":
    typer.run(main)
