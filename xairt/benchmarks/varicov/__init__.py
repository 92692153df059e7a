"""How far networks, equally good, agree on why they predict: attributions by strength of covariance.

Samples of correlated cells go through a known function, a sum over cells; several networks, alike but for
their seed, learn it. The stronger the cells are correlated, the more ways there are to the same output:
attributions are compared with the truth and between networks. ``globalcov`` strengthens the correlations of SST
maps, ``unicov`` correlates all cells of a raster alike.

References
----------
Krell et al. (2025), github.com/ekrell/geoscience-attribution-benchmarks.
"""

from xairt.benchmarks.varicov.figures import figures
from xairt.benchmarks.varicov.scoring import score
from xairt.benchmarks.varicov.settings import (
    GLOBALCOV_PRESETS,
    UNICOV_PRESETS,
    GlobalCovSettings,
    UniCovSettings,
    cases,
)
from xairt.benchmarks.varicov.stages import explain, generate_global, generate_uniform, train
from xairt.runs import Benchmark

__all__ = [
    "GLOBALCOV",
    "UNICOV",
    "GlobalCovSettings",
    "UniCovSettings",
    "cases",
    "explain",
    "figures",
    "generate_global",
    "generate_uniform",
    "score",
    "train",
]

_SHARED = {
    "cases": cases,
    "train": train,
    "explain": explain,
    "score": score,
    "figures": figures,
    "citation": (
        "Krell, E. et al. (2025). geoscience-attribution-benchmarks, benchmark family varicov. "
        "github.com/ekrell/geoscience-attribution-benchmarks",
        "Mamalakis, A., Ebert-Uphoff, I., Barnes, E. A. (2022). Neural network attribution methods for problems "
        "in geoscience: a novel synthetic benchmark dataset. Environmental Data Science 1, e8. "
        "doi:10.1017/eds.2022.7",
    ),
    "gates": {"r2": "minimum_r2"},
    "controls": ("random",),
}

GLOBALCOV = Benchmark(
    name="globalcov",
    title="SST maps of rising covariance strength: how far networks agree with the truth and each other",
    config=GlobalCovSettings,
    generate=generate_global,
    presets=GLOBALCOV_PRESETS,
    **_SHARED,
)

UNICOV = Benchmark(
    name="unicov",
    title="Rasters of equally correlated cells: how far networks agree with the truth and each other",
    config=UniCovSettings,
    generate=generate_uniform,
    presets=UNICOV_PRESETS,
    **_SHARED,
)
