"""ChaosMining's tables: attribution of regressions whose output depends on few of many variables.

Networks learn a known formula of some variables among many that are noise. Explanations should find these
variables, and give each what the formula gives it.

References
----------
Shi et al. (2024), arXiv:2406.12150.
"""

from xairt.benchmarks.chaos_symbolic.data import Samples, samples
from xairt.benchmarks.chaos_symbolic.figures import figures
from xairt.benchmarks.chaos_symbolic.formulas import FORMULAS, Formula, formula_of, read_formulas
from xairt.benchmarks.chaos_symbolic.scoring import averages, score
from xairt.benchmarks.chaos_symbolic.settings import CONTROLS, PRESETS, SymbolicSettings, cases
from xairt.benchmarks.chaos_symbolic.stages import explain, generate, train
from xairt.runs import Benchmark

__all__ = [
    "BENCHMARK",
    "FORMULAS",
    "Formula",
    "Samples",
    "SymbolicSettings",
    "averages",
    "cases",
    "explain",
    "figures",
    "formula_of",
    "generate",
    "read_formulas",
    "samples",
    "score",
    "train",
]

BENCHMARK = Benchmark(
    name="chaos_symbolic",
    title="Formulas among noise: which variables does a regression use, and how much?",
    config=SymbolicSettings,
    cases=cases,
    generate=generate,
    train=train,
    explain=explain,
    score=score,
    figures=figures,
    presets=PRESETS,
    citation=(
        "Shi, L. et al. (2024). ChaosMining: a benchmark to evaluate post-hoc local attribution methods in low SNR "
        "environments. arXiv:2406.12150",
    ),
    controls=CONTROLS,
    gates={"r2": "minimum_r2"},
)
