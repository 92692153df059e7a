"""Training of Keras models in a compiled loop, classifiers, linear models, and splits of a series.

Names are loaded when used, since most of them import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xairt.training.callbacks import early_stopping, step_decay
    from xairt.training.classifier import TrainFullyConnectedNN
    from xairt.training.linear import TrainLR
    from xairt.training.loop import History, fit
    from xairt.training.samples import class_weights
    from xairt.training.splits import Split, blocked, gap_of, shuffled

_MODULES = {
    "History": "loop",
    "Split": "splits",
    "TrainFullyConnectedNN": "classifier",
    "TrainLR": "linear",
    "blocked": "splits",
    "class_weights": "samples",
    "early_stopping": "callbacks",
    "fit": "loop",
    "gap_of": "splits",
    "shuffled": "splits",
    "step_decay": "callbacks",
}

__all__ = [
    "History",
    "Split",
    "TrainFullyConnectedNN",
    "TrainLR",
    "blocked",
    "class_weights",
    "early_stopping",
    "fit",
    "gap_of",
    "shuffled",
    "step_decay",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"xairt.training.{_MODULES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
