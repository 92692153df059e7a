"""The SST anomaly benchmark: attributions of a regression network against the true contribution of every cell.

Maps of synthetic sea-surface temperature anomalies go through a known function, a sum over ocean cells; a
network learns the function, and every method has to find what each cell contributed.

References
----------
Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7.
"""

from xairt.benchmarks.sstanom.figures import figures
from xairt.benchmarks.sstanom.scoring import score
from xairt.benchmarks.sstanom.settings import PRESET_SETTINGS, SSTAnomalySettings, cases
from xairt.benchmarks.sstanom.stages import explain, generate, train
from xairt.runs import Benchmark

__all__ = ["BENCHMARK", "SSTAnomalySettings", "cases", "explain", "figures", "generate", "score", "train"]

BENCHMARK = Benchmark(
    name="sstanom",
    title="SST anomalies: attribution of a regression against the known contribution of every ocean cell",
    config=SSTAnomalySettings,
    cases=cases,
    generate=generate,
    train=train,
    explain=explain,
    score=score,
    figures=figures,
    presets=PRESET_SETTINGS,
    citation=(
        "Mamalakis, A., Ebert-Uphoff, I., Barnes, E. A. (2022). Neural network attribution methods for problems "
        "in geoscience: a novel synthetic benchmark dataset. Environmental Data Science 1, e8. "
        "doi:10.1017/eds.2022.7",
    ),
    gates={"r2": "minimum_r2"},
    controls=("random", "input"),
)
