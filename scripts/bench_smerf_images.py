"""Time the images of SMERF: images per second of each background.

    python scripts/bench_smerf_images.py [--setting complex-cr1] [--images 40000]

Images of all buckets are made block by block and thrown away, as a run that writes them does. Printed are
images per second of the processor's time of one core, and of the wall clock.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer


def main(
    setting: Annotated[str, typer.Option(help="name of the setting")] = "complex-cr1",
    images: Annotated[int, typer.Option(min=1, help="number of images, about")] = 40_000,
) -> None:
    """Make images with every background, and print how many in a second."""
    from xairt.benchmarks.smerf.drawing import BACKGROUNDS
    from xairt.benchmarks.smerf.images import image_blocks, image_count
    from xairt.benchmarks.smerf.rules import setting_of

    n = max(1, images // len(setting_of(setting).buckets))
    total = image_count(setting, n)
    for background in BACKGROUNDS:
        for _ in image_blocks(setting, 1, background=background):
            pass  # imports and the font are not timed
        begun, cpu = time.perf_counter(), time.process_time()
        for _, block in image_blocks(setting, n, part="train", background=background):
            assert len(block)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - begun
        typer.echo(
            f"{background:8} {total:,} images: {total / cpu:,.0f} images/s of one core, "
            f"{total / wall:,.0f} images/s on the clock"
        )


if __name__ == "__main__":
    typer.run(main)
