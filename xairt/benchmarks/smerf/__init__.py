"""SMERF: images whose label follows from known objects, and whether explanations show these objects.

A character, a large box ("patch") and a small box ("switch") lie on a background of 64 x 64 pixels. A setting
says which of them decide the label: these are the primary objects that a saliency map should show, others are
secondary.

References
----------
Kim, Plumb and Talwalkar (2022), ICML, arXiv:2105.06506.
"""

from xairt.benchmarks.smerf.figures import figures
from xairt.benchmarks.smerf.scoring import added_scores, identity_scores, score
from xairt.benchmarks.smerf.settings import PRESETS, SMERFSettings, cases
from xairt.benchmarks.smerf.stages import explain, generate, train
from xairt.runs import Benchmark

__all__ = [
    "SMERF",
    "SMERFSettings",
    "added_scores",
    "cases",
    "explain",
    "figures",
    "generate",
    "identity_scores",
    "score",
    "train",
]

SMERF = Benchmark(
    name="smerf",
    title="Images whose label follows from known objects: do explanations show what the network uses?",
    config=SMERFSettings,
    cases=cases,
    generate=generate,
    train=train,
    explain=explain,
    score=score,
    figures=figures,
    presets=PRESETS,
    citation=(
        "Kim, J. S., Plumb, G., Talwalkar, A. (2022). Sanity simulations for saliency methods. Proceedings of the "
        "39th International Conference on Machine Learning, PMLR 162. arXiv:2105.06506",
    ),
    gates={"accuracy.train": "minimum_accuracy", "accuracy.validation": "minimum_accuracy"},
)
