"""The stages that make data, networks and attributions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xairt import fields
from xairt.benchmarks.sstanom.stages import n_training, skill_of, train_network
from xairt.benchmarks.varicov.layout import Layout
from xairt.benchmarks.varicov.settings import PATCH_SIZES
from xairt.benchmarks.varicov.task import StrengthTask, case_seed, global_task, uniform_task
from xairt.data.files import atomic_write, read_array
from xairt.errors import DivergedError
from xairt.progress import track
from xairt.runs import Case, CaseSettings, Explanation

if TYPE_CHECKING:
    import tensorflow as tf

DATA, NETWORKS = "data.nc", "networks.csv"
TRAIN, TEST = "train", "test"
PARTS = (TRAIN, TEST)
"""Which of the explained samples: the first ones of the training set, and the last ones of the test set."""

MOST_HALVINGS = 4
"""How often a training that diverges is begun anew with half the learning rate."""

log = logging.getLogger(__name__)


def generate_global(case: Case) -> None:
    """Write the samples of a case of ``globalcov``: maps, see `task.global_task`.

    Parameters
    ----------
    case : Case
    """
    _generate(case, global_task)


def generate_uniform(case: Case) -> None:
    """Write the samples of a case of ``unicov``: a raster, see `task.uniform_task`.

    Parameters
    ----------
    case : Case
    """
    _generate(case, uniform_task)


def _generate(case: Case, task_of: Callable[[CaseSettings], StrengthTask]) -> None:
    """Write ``data.nc``, block by block, and for every size of a patch which patch each cell lies in."""
    from xairt.data.streams import SampleWriter

    config = case.config
    task = task_of(config)
    blocks = fields.gaussian_blocks(task.correlation, config.n_samples, case_seed(config))
    count = -(-config.n_samples // fields.gaussian.BLOCK_SAMPLES)
    title = f"Synthetic anomalies of covariance strength {config.strength:g}, and a known function of them"
    with SampleWriter(case.write(DATA), title=title) as writer:
        for _, x in track(blocks, count, "generating", case.progress):
            writer.append(task.dataset(x))
    for size in PATCH_SIZES:
        with atomic_write(case.write(patch_file(size))) as path, path.open("wb") as file:
            np.save(file, task.layout.patches(size), allow_pickle=False)


def patch_file(size: int) -> str:
    """Return the name of the file that tells which patch of that size each cell lies in."""
    return f"patches-{size}.npy"


def train(case: Case) -> None:
    """Train several networks, alike but for their seed, on the first samples, and test them on the last.

    Writes the networks ``network-1.h5`` ... with their histories, and ``networks.csv``: R2, mean squared error
    and mean absolute error of each on the n samples of the test set, and its learning rate. Seeds are
    consecutive: seed + 1 ...

    Cells that vary together make steep descents, which the learning rate of the publication may overshoot: a
    training whose loss is no longer finite is begun anew with half the learning rate.

    Parameters
    ----------
    case : Case

    Raises
    ------
    DivergedError
        If the loss does not stay finite with the learning rate halved `MOST_HALVINGS` times.
    """
    config, data = case.config, case.read(DATA)
    layout, n_train = Layout.of_file(data), n_training(config)
    x, y = layout.vectors(data, "x", 0, config.n_samples), read_array(data, "y").values
    rows = []
    for number in network_numbers(config):
        model, learning_rate = _trained(case, number, x, y)
        skill = skill_of(model, x[n_train:], y[n_train:]) | {"learning_rate": learning_rate}
        row = {"label": f"network.{number}", "n": len(y) - n_train}
        rows += [row | {"metric": name, "value": value} for name, value in skill.items()]
    with atomic_write(case.write(NETWORKS)) as path:
        pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")


def _trained(
    case: Case, number: int, x: NDArray[np.floating], y: NDArray[np.floating]
) -> tuple[tf.keras.Model, float]:
    """Train a network, as slowly as it takes, and return it with its learning rate."""
    from xairt.models.architectures import mamalakis2022

    config = case.config
    for halvings in range(MOST_HALVINGS + 1):
        model = mamalakis2022(x.shape[1], config.seed + number, config.hidden_units)
        learning_rate = config.learning_rate / 2**halvings
        try:
            train_network(
                model,
                x,
                y,
                n_training(config),
                case.write(model_file(number)),
                case.write(f"network-{number}_history.csv"),
                epochs=config.epochs,
                seed=config.seed + number,
                learning_rate=learning_rate,
                batch_size=config.batch_size,
                progress=case.progress,
            )
        except DivergedError:
            if halvings == MOST_HALVINGS:
                raise
            log.warning(
                "case %s: training of network %d diverged with learning rate %g; begun anew with half of it",
                *(case.name, number, learning_rate),
            )
        else:
            break
    return model, learning_rate


def network_numbers(config: CaseSettings) -> range:
    """Return the numbers of a case's networks, from 1."""
    return range(1, config.n_networks + 1)


def model_file(number: int) -> str:
    """Return the name of a network's file."""
    return f"network-{number}.h5"


@dataclass(frozen=True)
class Attribution:
    """One way to attribute, which all networks of a case are explained by.

    Attributes
    ----------
    method : str
        With its parameters, as of `xairt.explainer`.
    patch : int or None
        Edge of the patches that the method treats as one feature each; None for cell by cell.
    """

    method: str
    patch: int | None = None

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.method if self.patch is None else f"{self.method}.patch-{self.patch}"

    def name(self, number: int, part: str) -> str:
        """Return the label of its `Explanation` of a network's samples."""
        return f"network-{number}.{self.label}.{part}"


def attributions(config: CaseSettings) -> list[Attribution]:
    """Return all ways to attribute of a case: cell by cell, and by patches where the method takes groups.

    Patches of one cell are left out: they are what the method gives cell by cell.
    """
    by_cell = [Attribution(method) for method in config.methods]
    patched = [
        Attribution(m, s) for m in config.methods if takes_groups(m) for s in patch_sizes(config) if s > 1
    ]
    return by_cell + patched


def patch_sizes(config: CaseSettings) -> Sequence[int]:
    """Return the edges of the patches, ascending, each once."""
    return sorted(set(config.patch_sizes))


def takes_groups(method: str) -> bool:
    """Whether a method can treat groups of cells as one feature."""
    from xairt.attribution.registry import resolve

    return "groups" in type(resolve(method).parameters).model_fields


def explained_ranges(config: CaseSettings) -> dict[str, tuple[int, int]]:
    """Return the first and last sample, the last excluded, that are explained of either part.

    Both parts have as many samples: at most as many as the smaller of training and test set has.
    """
    n, n_train = config.n_samples, n_training(config)
    count = min(config.n_explained, n_train, n - n_train)
    return {TRAIN: (0, count), TEST: (n - count, n)}


def with_own_coalitions(method: str, number: int) -> str:
    """Return a method whose coalitions, where it has any, are drawn for one network alone.

    With the same coalitions their sampling error would be common to the networks, and count as agreement.

    Examples
    --------
    >>> with_own_coalitions("shap.kernel(nsamples=50)", 3)
    'shap.kernel(nsamples=50, coalition_seed=3)'
    >>> with_own_coalitions("gradient", 3)
    'gradient'
    """
    from xairt.attribution import calls
    from xairt.attribution.registry import resolve

    parameters = resolve(method).parameters
    if not hasattr(parameters, "coalition_seed"):
        return method
    name, given = calls.parse(method)
    return calls.form(name, given | {"coalition_seed": parameters.coalition_seed + number})


def explain(case: Case) -> list[Explanation]:
    """Return the attributions of a case: every network by every method, patches on the test set alone.

    Parameters
    ----------
    case : Case

    Returns
    -------
    list of Explanation
        Their noise and coalitions differ between networks.
    """
    config, ranges = case.config, explained_ranges(case.config)
    return [
        Explanation(
            with_own_coalitions(way.method, number),
            samples=DATA,
            first=ranges[part][0],
            last=ranges[part][1],
            model=model_file(number),
            label=way.name(number, part),
            seed=config.seed + number,
            groups=None if way.patch is None else patch_file(way.patch),
        )
        for number in network_numbers(config)
        for way in attributions(config)
        for part in (PARTS if way.patch is None else (TEST,))
    ]
