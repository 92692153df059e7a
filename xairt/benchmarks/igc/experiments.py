"""The experiments: which statistic of which part of an image a model predicts, as a table."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xairt.benchmarks.igc.masks import MASKS, Mask
from xairt.errors import DataError, suggest


@dataclass(frozen=True)
class Statistic:
    """How a statistic is made: scores of an image, then what becomes of them.

    Attributes
    ----------
    scores : {"weighted sum", "mean", "sd", "reference", "pairs", "patches"}
        "weighted sum" of all pixels, with a mask of Gaussians; "mean" and "sd" (divided by the number of pixels) of
        each region; the cosine similarity of the pixels, row by row, of the first region and each other
        ("reference"), or of a region of the first half and its fellow of the second half ("pairs"). "patches": the
        first half of the regions are patches, the second half lie in them, one in each; a patch is its pixels without
        the inner region, followed by an inner region; the first patch is compared with each other.
    categorical : bool
        Whether the result is one-hot, 1 for the largest score, or the largest score itself.
    random : {None, "dropped", "permuted"}
        "dropped": a pair counts as 0 with a probability that the experiment says. "permuted": the inner regions of
        all patches but the first change places.
    """

    scores: str
    categorical: bool = False
    random: str | None = None


STATISTICS = {
    "w_sum": Statistic("weighted sum"),
    "max_mean": Statistic("mean"),
    "max_std": Statistic("sd"),
    "max_sim": Statistic("reference"),
    "max_sim_random": Statistic("pairs", random="dropped"),
    "argmax_mean": Statistic("mean", categorical=True),
    "argmax_std": Statistic("sd", categorical=True),
    "argmax_sim": Statistic("reference", categorical=True),
    "argmax_sim_random": Statistic("patches", categorical=True, random="permuted"),
}
"""The statistics of the publication's program, by name."""


@dataclass(frozen=True)
class Experiment:
    """A statistic of a mask, and which output of its model is explained.

    Attributes
    ----------
    name : str
    mask : Mask
    statistic : str
        A name of `STATISTICS`.
    probabilities : tuple of float
        Of each pair to be dropped, for ``max_sim_random``; none of them by default.
    permuted : bool
        Whether inner regions change places, for ``argmax_sim_random``.
    output : int, optional
        The output that is attributed, of categorical statistics.

    Raises
    ------
    DataError
        If mask, statistic and parameters do not fit together.

    Examples
    --------
    An experiment of one's own: is the left or the right half of a face the brighter one?

    >>> from xairt.benchmarks.igc.masks import Disc
    >>> eyes = Mask("eyes", regions=(Disc(0.07, (-0.25, 0.1)), Disc(0.07, (0.25, 0.1))))
    >>> Experiment("brighter", eyes, "argmax_mean", output=0).n_outputs
    2
    """

    name: str
    mask: Mask
    statistic: str
    probabilities: tuple[float, ...] = field(default=())
    permuted: bool = False
    output: int | None = None

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise DataError(
                f"statistic {self.statistic!r} is unknown; give one of {', '.join(STATISTICS)}"
                f"{suggest(self.statistic, STATISTICS)}"
            )
        _require_regions(self)
        _require_parameters(self)

    @property
    def rule(self) -> Statistic:
        """How the statistic is made."""
        return STATISTICS[self.statistic]

    @property
    def categorical(self) -> bool:
        """Whether the truth is one-hot, and not standardised."""
        return self.rule.categorical

    @property
    def n_outputs(self) -> int:
        """Number of classes, 1 for scalar statistics."""
        return n_scores(self) if self.categorical else 1


def n_scores(experiment: Experiment) -> int:
    """Return how many scores of an image are compared."""
    regions = len(experiment.mask.regions)
    counts = {"weighted sum": 1, "pairs": regions // 2, "patches": regions // 2 - 1, "reference": regions - 1}
    return counts.get(experiment.rule.scores, regions)


def experiment_of(experiment: str | Experiment) -> Experiment:
    """Return an experiment of `EXPERIMENTS` by its name, or the one given.

    Raises
    ------
    DataError
        If there is no such name.

    Examples
    --------
    >>> experiment_of("B").statistic
    'max_mean'
    """
    if isinstance(experiment, Experiment):
        return experiment
    if experiment not in EXPERIMENTS:
        raise DataError(f"experiment {experiment!r} is unknown; give one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[experiment]


def _require_regions(experiment: Experiment) -> None:
    """Check that the mask has the regions that the statistic compares."""
    mask, scores = experiment.mask, experiment.rule.scores
    label = f"experiment {experiment.name}: mask {mask.name}"
    if (scores == "weighted sum") != bool(mask.gaussians):
        wanted = "Gaussians" if scores == "weighted sum" else "regions"
        raise DataError(f"{label} does not suit {experiment.statistic}; give one made of {wanted}")
    if scores in ("pairs", "patches") and len(mask.regions) % 2:
        raise DataError(
            f"{label} has {len(mask.regions)} regions, which make no two halves; give an even number"
        )
    if n_scores(experiment) < 1:
        raise DataError(f"{label} has too few regions for {experiment.statistic}; give more")
    if scores in ("reference", "pairs", "patches"):
        sizes = mask.region_pixels().sum(axis=(1, 2))
        halves = np.split(sizes, 2) if scores == "patches" else [sizes]
        if any(np.ptp(half) for half in halves):
            raise DataError(
                f"{label}: regions of {', '.join(map(str, sizes))} pixels cannot be compared; make them equal"
            )
    if scores == "patches":
        outer, inner = np.split(mask.region_pixels(), 2)
        if (inner & ~outer).any():
            raise DataError(f"{label}: an inner region leaves its patch; place it within")


def _require_parameters(experiment: Experiment) -> None:
    given, random = experiment.probabilities, experiment.rule.random
    label = f"experiment {experiment.name}"
    if given and (random != "dropped" or len(given) != n_scores(experiment)):
        raise DataError(
            f"{label}: probabilities {given} do not suit {experiment.statistic}; give one for each pair"
        )
    if not all(0 <= probability <= 1 for probability in given):
        raise DataError(f"{label}: probabilities {given} are out of range; give numbers from 0 to 1")
    if experiment.permuted and random != "permuted":
        raise DataError(f"{label}: {experiment.statistic} permutes nothing; leave permuted out")
    output = experiment.output
    if (output is not None) != experiment.categorical or not 0 <= (output or 0) < max(
        experiment.n_outputs, 1
    ):
        raise DataError(
            f"{label}: output {output} does not suit {experiment.statistic}; give a class for categorical ones"
        )


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("A", MASKS["comb_01"], "w_sum"),
        Experiment("B", MASKS["ccat_01"], "max_mean"),
        Experiment("C", MASKS["ccat_02"], "max_sim_random", probabilities=(0.0, 0.5)),
        Experiment("D", MASKS["ccat_03"], "argmax_sim_random", permuted=True, output=0),
    )
}
"""The experiments of the publication, by name."""
