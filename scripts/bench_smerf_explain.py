"""Time and memory of explaining image after image of SMERF, bucket by bucket, in one process.

    python scripts/bench_smerf_explain.py RUN [--rounds 3] [--images 20]

RUN is a folder of `xairt run smerf`. Each bucket's images are explained by every method of the run; printed are
seconds and the memory of the process after each bucket. Rounds after the first show whether memory builds up.
"""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from xairt.runs import Case


def resident_mib() -> float:
    """Return the memory that this process holds, MiB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(
    run: Annotated[Path, typer.Argument(help="folder of a run of smerf")],
    rounds: Annotated[int, typer.Option(min=1, help="times that all buckets are gone through")] = 3,
    images: Annotated[int, typer.Option(min=1, help="images of each bucket")] = 20,
) -> None:
    """Explain bucket after bucket of every case, and print seconds and memory."""
    from xairt import runs

    for case in runs.Run.open(run, runs.benchmark("smerf")).cases.values():
        _explain_buckets(case, rounds, images)


def _explain_buckets(case: Case, rounds: int, images: int) -> None:
    import xairt
    from xairt.benchmarks.smerf.rules import setting_of
    from xairt.benchmarks.smerf.stages import BACKGROUNDS, DATA, IMAGE, MODEL, explain
    from xairt.data.files import read_array

    model = xairt.load_model(case.read(MODEL))
    pictures = read_array(case.read(DATA), IMAGE).values
    bucket = read_array(case.read(DATA), "bucket").values
    backgrounds = read_array(case.read(BACKGROUNDS), IMAGE).values
    explainers = {
        e.name: xairt.explainer(model, e.method, baseline=backgrounds if e.baselines else None)
        for e in explain(case)
    }
    names = [known.name for known in setting_of(case.config.setting).buckets]
    typer.echo(f"{case.name}: {len(explainers)} methods, {len(backgrounds)} backgrounds of SHAP")
    for number in range(rounds):
        for index, name in enumerate(names):
            chosen, begun = pictures[bucket == index][:images], time.perf_counter()
            for explained in explainers.values():
                explained(chosen, seed=case.config.seed, quiet=True)
            seconds = time.perf_counter() - begun
            typer.echo(
                f"round {number + 1}  {name:20} {len(chosen)} images  {seconds:6.1f} s  {resident_mib():6.0f} MiB"
            )


if __name__ == "__main__":
    typer.run(main)
