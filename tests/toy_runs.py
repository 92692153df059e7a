"""A small benchmark for the tests of the runner: every stage but explain, and a record of what ran."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import PositiveInt

from xairt.data.files import atomic_write
from xairt.runs import Benchmark, Case, Run, RunConfig, Sweep, setting


class ToyConfig(RunConfig):
    """Settings of the toy."""

    n_samples: Sweep[PositiveInt] = setting("generate", (10, 20), description="samples, one case for each")
    seed: int = setting("generate", 0, description="of the samples", ge=0)
    learning_rate: float = setting("train", 0.1, description="step of the fit", gt=0)
    epochs: int = setting("train", 3, description="number of steps", ge=1)
    scale: float = setting("score", 1.0, description="factor of the scores")
    colour: str = setting("figures", "black", description="of the bars")


def log(case: Case, stage: str) -> None:
    """Append what ran to the file that the environment names, and end at the place it names."""
    with Path(os.environ["TOY_LOG"]).open("a", encoding="utf-8") as file:
        file.write(f"{case.name}/{stage}\n")
    if os.environ.get("TOY_KILL") == f"{case.name}/{stage}":
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("TOY_FAIL") == f"{case.name}/{stage}":
        raise RuntimeError("asked to fail\nin two lines")


def cases(config: ToyConfig) -> dict[str, dict[str, int]]:
    """One case for each number of samples."""
    return {f"n{n}": {"n_samples": n} for n in config.n_samples}


def generate(case: Case) -> None:
    """Draw samples."""
    x = np.random.default_rng(case.config.seed).normal(size=case.config.n_samples)
    np.save(case.write("data.npy"), x)
    (case.write("extra/readme.txt")).write_text("samples", encoding="utf-8")
    log(case, "generate")


def train(case: Case) -> None:
    """Fit the mean."""
    x, mean = np.load(case.read("data.npy")), 0.0
    for _ in range(case.config.epochs):
        mean += case.config.learning_rate * float(np.mean(x - mean))
    np.save(case.write("mean.npy"), mean)
    log(case, "train")


def score(case: Case) -> pd.DataFrame:
    """Return the distance from the sample mean."""
    distance = abs(float(np.load(case.read("mean.npy"))) - float(np.load(case.read("data.npy")).mean()))
    log(case, "score")
    row = {"label": "mean", "metric": "distance", "statistic": "value", "value": distance * case.config.scale}
    return pd.DataFrame([row])


def figures(run: Run, output: Path) -> None:
    """Write one file over all cases."""
    with atomic_write(output / "distances.png") as path:
        path.write_text(run.config.colour + run.scores.to_csv(), encoding="utf-8")
    with Path(os.environ["TOY_LOG"]).open("a", encoding="utf-8") as file:
        file.write("figures\n")


TOY = Benchmark(
    name="toy",
    title="A toy",
    config=ToyConfig,
    cases=cases,
    generate=generate,
    train=train,
    score=score,
    figures=figures,
    presets={"quick": {"n_samples": (4, 6)}, "standard": {}},
)
