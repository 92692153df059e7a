"""Time the images of IGC: images per second, alone and with the statistic of each experiment.

    python scripts/bench_igc_images.py [--images 10000]

Images are made block by block and thrown away. Printed are images per second of the processor's time of one core,
and of the wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer


def main(images: Annotated[int, typer.Option(min=1, help="number of images")] = 10_000) -> None:
    """Make images, with and without statistics, and print how many in a second."""
    from xairt.benchmarks.igc.experiments import EXPERIMENTS
    from xairt.benchmarks.igc.images import image_blocks
    from xairt.benchmarks.igc.statistics import sample_blocks

    for _ in image_blocks(1):
        pass  # imports are not timed
    _report("images", images, image_blocks(images))
    for name in EXPERIMENTS:
        _report(f"with y of {name}", images, sample_blocks(name, images))


def _report(label: str, n: int, blocks: Iterator[Any]) -> None:
    begun, cpu = time.perf_counter(), time.process_time()
    for block in blocks:
        assert len(block[1])
    cpu, wall = time.process_time() - cpu, time.perf_counter() - begun
    typer.echo(
        f"{label:12} {n:,}: {n / cpu:,.0f} images/s of one core, {n / wall:,.0f} images/s on the clock"
    )


if __name__ == "__main__":
    typer.run(main)
