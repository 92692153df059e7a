"""What the stages of image and sound tasks have in common: the samples that are explained, and their attributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xairt.benchmarks.chaos_media.metadata import Samples
from xairt.benchmarks.chaos_media.training import MODEL
from xairt.data.streams import SampleWriter
from xairt.progress import track
from xairt.runs import Case, Explanation
from xairt.runs.methods import usable_methods

if TYPE_CHECKING:
    import xarray as xr

FOLDER, DATA = "data", "data.nc"

OF_GROUPS = ("feature_ablation", "occlusion", "shap.kernel", "lime")
"""Methods that treat the features of a group as one."""

_BLOCK = 32


def first_samples(case: Case, parts: tuple[Samples, Samples]) -> tuple[Samples, Samples]:
    """Return the training and test samples of a case: as many of its data set as its settings ask for."""
    train, test = parts
    return train[: case.config.n_train], test[: case.config.n_test]


def write_explained(
    case: Case, test: Samples, dataset_of: Callable[[Samples], xr.Dataset], title: str
) -> None:
    """Write ``data.nc``: the first test samples, which are explained.

    Parameters
    ----------
    case : Case
    test : Samples
    dataset_of : callable
        From samples to what is known of them.
    title : str
        Of the file.
    """
    explained = test[: case.config.n_explained]
    starts = range(0, len(explained), _BLOCK)
    with SampleWriter(case.write(DATA), title=title) as writer:
        for start in track(starts, len(starts), "reading", case.progress):
            writer.append(dataset_of(explained[start : start + _BLOCK]))


def explanations(case: Case, variable: str, groups: str) -> list[Explanation]:
    """Return the attributions of a case, each for the class that the network predicts, with baseline 0.

    Methods that cannot explain the network are left out with a warning.

    Parameters
    ----------
    case : Case
    variable : str
        Of ``data.nc``.
    groups : str
        File of the case with the group of each feature, for the methods of `OF_GROUPS`.
    """
    from xairt.attribution.registry import resolve

    shared = {"samples": DATA, "variable": variable, "model": MODEL, "seed": case.config.seed}
    return [
        Explanation(method, groups=groups if resolve(method).method.name in OF_GROUPS else None, **shared)
        for method in usable_methods(case.read(MODEL), case.config.methods)
    ]
