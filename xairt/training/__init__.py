"""Training of Keras models in a compiled loop, also on adversarial samples, classifiers, linear models, splits.

Names are loaded when used, since most of them import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xairt.training.adversarial import Attack, pgd, pgd_perturbation
    from xairt.training.callbacks import early_stopping, step_decay, stop_at_loss
    from xairt.training.classifier import TrainFullyConnectedNN
    from xairt.training.history import History
    from xairt.training.linear import TrainLR
    from xairt.training.loop import fit
    from xairt.training.losses import class_loss
    from xairt.training.samples import class_weights
    from xairt.training.splits import Split, blocked, gap_of, shuffled

_MODULES = {
    "Attack": "adversarial",
    "History": "history",
    "Split": "splits",
    "TrainFullyConnectedNN": "classifier",
    "TrainLR": "linear",
    "blocked": "splits",
    "class_loss": "losses",
    "class_weights": "samples",
    "early_stopping": "callbacks",
    "fit": "loop",
    "gap_of": "splits",
    "pgd": "adversarial",
    "pgd_perturbation": "adversarial",
    "shuffled": "splits",
    "step_decay": "callbacks",
    "stop_at_loss": "callbacks",
}

__all__ = [
    "Attack",
    "History",
    "Split",
    "TrainFullyConnectedNN",
    "TrainLR",
    "blocked",
    "class_loss",
    "class_weights",
    "early_stopping",
    "fit",
    "gap_of",
    "pgd",
    "pgd_perturbation",
    "shuffled",
    "step_decay",
    "stop_at_loss",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"xairt.training.{_MODULES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
