"""The learning curves of the networks of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from xairt.benchmarks.chaos_media.training import HISTORY
from xairt.runs import Case

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINES = {"training samples": "accuracy", "test samples": "val_accuracy"}


def learning_curves(cases: Sequence[Case]) -> Figure:
    """Draw the accuracy by epoch, a panel for each case.

    Parameters
    ----------
    cases : sequence of Case
        Trained.

    Returns
    -------
    matplotlib.figure.Figure
        That of the training samples is of the changing network during the epoch, that of the test samples at its end.
    """
    from xairt.plots.distributions import Curve, curves

    panels = {}
    for case in cases:
        history = pd.read_csv(case.read(HISTORY))
        panels[case.name] = {
            name: Curve(history["epoch"], history[column]) for name, column in _LINES.items()
        }
    return curves(panels, xlabel="epoch", ylabel="accuracy", dashed=["training samples"])
