"""ChaosMining, sounds: a spoken word in one of ten channels, of which the others tell nothing.

References
----------
Shi et al. (2024), "ChaosMining", arXiv:2406.12150.
"""

from xairt.benchmarks.chaos_audio.figures import figures
from xairt.benchmarks.chaos_audio.scoring import score
from xairt.benchmarks.chaos_audio.settings import PRESETS, AudioSettings, cases
from xairt.benchmarks.chaos_audio.stages import explain, generate, train
from xairt.runs import Benchmark

__all__ = ["CHAOS_AUDIO", "AudioSettings", "cases", "explain", "figures", "generate", "score", "train"]

CHAOS_AUDIO = Benchmark(
    name="chaos_audio",
    title="A word in one of ten channels of sound: do explanations find the channel?",
    config=AudioSettings,
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
    controls=("random", "input"),
    gates={"accuracy.test": "minimum_accuracy"},
)
