"""ChaosMining: recursive feature elimination with network attribution, beside that of scikit-learn.

Few variables of a formula, or columns of a table, matter among many that do not. Networks are trained on fewer and fewer
of them, and an attribution method says which to drop.

References
----------
Shi et al. (2024), arXiv:2406.12150.
"""

from xairt.benchmarks.chaos_rfe.figures import figures
from xairt.benchmarks.chaos_rfe.scoring import score
from xairt.benchmarks.chaos_rfe.settings import PRESETS, ChaosRfeSettings, cases
from xairt.benchmarks.chaos_rfe.stages import generate, train
from xairt.runs import Benchmark

__all__ = ["CHAOS_RFE", "ChaosRfeSettings", "cases", "figures", "generate", "score", "train"]

CHAOS_RFE = Benchmark(
    name="chaos_rfe",
    title="Feature selection by networks: which variables matter among many that do not?",
    config=ChaosRfeSettings,
    cases=cases,
    generate=generate,
    train=train,
    score=score,
    figures=figures,
    presets=PRESETS,
    citation=(
        "Shi, G., et al. (2024). ChaosMining: a benchmark to evaluate post-hoc local attribution methods in low SNR "
        "environments. arXiv:2406.12150",
    ),
    controls=("random", "input", "linear_regression", "decision_tree", "linear_svr"),
    gates={"r2": "minimum_r2"},
)
