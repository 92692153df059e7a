"""IGC: attribution of a whole data set, on localised statistics of images with a natural spectrum.

A model predicts a statistic of some region of an image: the statistic itself as a differentiable function, or a
network that learns it. The map of a dataset-wise method should show these regions, and how much each of them matters.

References
----------
Lelièvre and Chen (2024), arXiv:2404.13910.
"""

from xairt.benchmarks.igc.figures import figures
from xairt.benchmarks.igc.scoring import map_scores, score
from xairt.benchmarks.igc.settings import PRESETS, IGCSettings, cases
from xairt.benchmarks.igc.stages import generate, train
from xairt.runs import Benchmark

__all__ = ["IGC", "IGCSettings", "cases", "figures", "generate", "map_scores", "score", "train"]

IGC = Benchmark(
    name="igc",
    title="Localised statistics of images: which pixels carry the skill of a model on a whole data set?",
    config=IGCSettings,
    cases=cases,
    generate=generate,
    train=train,
    score=score,
    figures=figures,
    presets=PRESETS,
    citation=(
        "Lelièvre, P., Chen, C.-C. (2024). Integrated gradient correlation: a dataset-wise attribution method. "
        "arXiv:2404.13910",
    ),
    controls=("naive_correlation", "naive_ttest"),
    gates={"correlation": "minimum_correlation"},
)
