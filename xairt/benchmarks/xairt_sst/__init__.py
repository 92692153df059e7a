"""Regional SST from global SST: what a classifier looks at, lag by lag, and whether it has skill at all.

From a map of SST anomalies a network tells whether the anomaly of a region, some months or days later, is
positive. Relevance of the correctly classified samples is averaged for each class, and compared with the lag
correlation, an adjoint sensitivity and the optimal input; in a planted field the region that the anomalies
come from is known.

References
----------
Gaikwad et al. (XAIRT).
"""

from xairt.benchmarks.xairt_sst.figures import figures
from xairt.benchmarks.xairt_sst.generation import generate, samples
from xairt.benchmarks.xairt_sst.planted import planted_grid, planted_sst
from xairt.benchmarks.xairt_sst.scoring import score
from xairt.benchmarks.xairt_sst.settings import PRESETS, XairtSSTSettings, cases
from xairt.benchmarks.xairt_sst.stages import explain, train
from xairt.runs import Benchmark

__all__ = [
    "XAIRT_SST",
    "XairtSSTSettings",
    "cases",
    "explain",
    "figures",
    "generate",
    "planted_grid",
    "planted_sst",
    "samples",
    "score",
    "train",
]

XAIRT_SST = Benchmark(
    name="xairt_sst",
    title="Sign of a regional SST anomaly from global SST by lag: skill, relevance, optimal inputs",
    config=XairtSSTSettings,
    cases=cases,
    generate=generate,
    train=train,
    explain=explain,
    score=score,
    figures=figures,
    presets=PRESETS,
    citation=(
        "Gaikwad, S. S. et al. XAIRT: explainable AI for regional sea surface temperature, relevance and optimal "
        "inputs against an ocean adjoint.",
    ),
    controls=("random",),
    gates={"gain": "minimum_gain"},
)
