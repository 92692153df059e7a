"""A small benchmark for the tests of the report, with hand-written attributions, and ways to spoil its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from netCDF4 import Dataset
from PIL import Image

from xairt.data.provenance import sha256_of
from xairt.runs import Benchmark, Case, Run, RunConfig, Sweep, execute, setting
from xairt.runs.contract import file_name
from xairt.runs.manifest import Manifest, Record

HOSTILE = '<img src=x onerror="window.injected=1">\'&'
"""A label that must stay a text."""

SKILL = {
    "lrp.z": 0.82,
    "lrp.alpha_beta(alpha=1, beta=0)": 0.61,
    HOSTILE: 0.4,
    "gradient": -0.2,
    "random": 0.0,
}
LABELS = (*SKILL, "deep_taylor")
SPREAD = 0.1


class ReportConfig(RunConfig):
    """Settings of the benchmark."""

    n_samples: Sweep[int] = setting("generate", (1000, 4000), description="samples, one case for each")
    seed: int = setting("generate", 0, description="of the samples", ge=0)
    r2: float = setting("score", 0.95, description="skill of the networks")
    gate: float | None = setting("score", 0.9, description="least skill of the networks")
    title: str = setting("figures", "Maps", description="name of the figure")


def score(case: Case) -> pd.DataFrame:
    """Return skills that grow with the number of samples; deep Taylor has none in the first case."""
    shift, n = 0.02 * np.log10(case.config.n_samples / 1000), case.config.n_samples
    rows = []
    for label, r in SKILL.items():
        told = {"mean": r + shift, "sd": SPREAD, "p05": r + shift - 0.2, "p95": r + shift + 0.15}
        rows += [
            {"label": label, "metric": "pearson", "statistic": s, "value": v, "n": n} for s, v in told.items()
        ]
        rows.append({"label": label, "metric": "rank error", "statistic": "mean", "value": 100 * (1 - r)})
    r = np.nan if case.config.n_samples == 1000 else 0.55
    rows.append({"label": "deep_taylor", "metric": "pearson", "statistic": "mean", "value": r, "n": n})
    rows.append({"label": "network", "metric": "r2", "statistic": "value", "value": case.config.r2})
    rows.append({"label": "network", "metric": "mse", "statistic": "value", "value": 1 - case.config.r2})
    return pd.DataFrame(rows)


def figures(run: Run, output: Path) -> None:
    """Draw one wide and one small picture."""
    y, x = np.mgrid[0:500, 0:2000]
    waves = 127 * (1 + np.sin(x / 90) * np.cos(y / 60))
    for name, step in (("truth_and_attributions", 1), (run.config.title, 5)):
        colours = np.stack([waves, 255 - waves, np.full_like(waves, 160)], -1)[::step, ::step]
        Image.fromarray(colours.astype(np.uint8)).save(output / f"{name}.png")


BENCHMARK = Benchmark(
    name="reported",
    title="A benchmark to report",
    config=ReportConfig,
    cases=lambda config: {f"n{n}": {"n_samples": n} for n in config.n_samples},
    generate=lambda case: np.save(case.write("data.npy"), np.arange(case.config.n_samples)),
    score=score,
    figures=figures,
    presets={"quick": {"n_samples": (1000, 2000)}, "standard": {}},
    citation=("Author, A. (2020): A benchmark <of> everything. doi:10.0000/1",),
    controls=("random", "edge"),
    gates={"r2": "gate"},
)

OK = {"status": "ok", "reason": "5 samples ok", "ok": 5, "warn": 0, "fail": 0}
NOT_PROMISED = {
    **{"status": "not_promised", "ok": 0, "warn": 0, "fail": 0},
    "reason": "the method promises nothing about its sum",
}
FAIL = {
    **{"status": "fail", "ok": 3, "warn": 1, "fail": 1},
    "reason": "1 of 5 samples fail: the sum misses its promise by up to 40 %",
}
STATUSES = {"lrp.z": OK, HOSTILE: OK, "random": NOT_PROMISED}


def make(folder: Path, statuses: Mapping[str, Mapping] = STATUSES, **settings) -> Run:
    """Run the benchmark and give every case an attribution file for each status."""
    config = BENCHMARK.configured(settings)
    execute(BENCHMARK, config, folder, only="generate")
    for case in Run.open(folder, BENCHMARK).cases:
        for label, status in statuses.items():
            attribute(folder, case, label, status)
    assert execute(BENCHMARK, config, folder).failed == []
    return Run.open(folder, BENCHMARK)


def attribute(folder: Path, case: str, label: str, status: Mapping) -> Path:
    """Write an attribution that is nothing but its report, and its record."""
    path = folder / "cases" / case / f"attributions/{file_name(label)}.nc"
    path.parent.mkdir(exist_ok=True)
    with Dataset(path, "w") as dataset:
        dataset.status_report = json.dumps({label: status})
    record = Record("", {str(path.relative_to(folder)): sha256_of(path)}, 1.5, peak_memory=300_000_000)
    put(folder, f"{case}/explain/{label}", record)
    return path


def put(folder: Path, step: str, record: Record) -> None:
    """Enter a record of a step."""
    Manifest.open(folder).put(step, record)


def spoil(folder: Path) -> Run:
    """Make everything wrong with a run that a report must tell."""
    from dataclasses import replace

    records = Manifest.open(folder).records
    first = "n1000/generate"
    put(folder, first, replace(records[first], versions=dict(records[first].versions) | {"xairt": "0.0.1"}))
    put(folder, "n4000/explain/lrp.z", Record("", {}, 0.5, error="MemoryError: <b>too</b> large"))
    attribute(folder, "n1000", "lrp.z", FAIL)
    (folder / "cases/n4000/data.npy").write_bytes(b"damaged")
    return Run.open(folder, BENCHMARK)
