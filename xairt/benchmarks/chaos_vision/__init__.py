"""ChaosMining, images: a small picture with a label somewhere in a large background that tells nothing.

References
----------
Shi et al. (2024), "ChaosMining", arXiv:2406.12150.
"""

from xairt.benchmarks.chaos_vision.figures import figures
from xairt.benchmarks.chaos_vision.scoring import score
from xairt.benchmarks.chaos_vision.settings import PRESETS, VisionSettings, cases
from xairt.benchmarks.chaos_vision.stages import explain, generate, train
from xairt.runs import Benchmark

__all__ = ["CHAOS_VISION", "VisionSettings", "cases", "explain", "figures", "generate", "score", "train"]

CHAOS_VISION = Benchmark(
    name="chaos_vision",
    title="A small picture in a large background: do explanations find it?",
    config=VisionSettings,
    cases=cases,
    generate=generate,
    train=train,
    explain=explain,
    score=score,
    figures=figures,
    presets=PRESETS,
    citation=(
        "Shi, G., et al. (2024). ChaosMining: a benchmark to evaluate post-hoc local attribution methods in low SNR "
        "environments. arXiv:2406.12150",
    ),
    gates={"accuracy.test": "minimum_accuracy"},
)
