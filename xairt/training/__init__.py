"""Training of Keras models in a compiled loop, also on adversarial samples, classifiers, linear models, splits.

Names are loaded when used, since most of them import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xairt.training.adversarial import Attack, pgd, pgd_perturbation
    from xairt.training.callbacks import (
        cosine_restarts,
        early_stopping,
        plateau_decay,
        step_decay,
        stop_at_loss,
    )
    from xairt.training.classifier import TrainFullyConnectedNN
    from xairt.training.history import History
    from xairt.training.linear import TrainLR
    from xairt.training.loop import fit
    from xairt.training.losses import class_loss, negative_log_likelihood
    from xairt.training.samples import class_weights
    from xairt.training.splits import Split, blocked, gap_of, shuffled
    from xairt.training.streaming import (
        file_batches,
        fit_dataset,
        read_png,
        read_wav,
        shuffled_file_batches,
    )

_MODULES = {
    "Attack": "adversarial",
    "History": "history",
    "Split": "splits",
    "TrainFullyConnectedNN": "classifier",
    "TrainLR": "linear",
    "blocked": "splits",
    "class_loss": "losses",
    "class_weights": "samples",
    "cosine_restarts": "callbacks",
    "early_stopping": "callbacks",
    "file_batches": "streaming",
    "fit": "loop",
    "fit_dataset": "streaming",
    "gap_of": "splits",
    "negative_log_likelihood": "losses",
    "pgd": "adversarial",
    "pgd_perturbation": "adversarial",
    "plateau_decay": "callbacks",
    "read_png": "streaming",
    "read_wav": "streaming",
    "shuffled": "splits",
    "shuffled_file_batches": "streaming",
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
    "cosine_restarts",
    "early_stopping",
    "file_batches",
    "fit",
    "fit_dataset",
    "gap_of",
    "negative_log_likelihood",
    "pgd",
    "pgd_perturbation",
    "plateau_decay",
    "read_png",
    "read_wav",
    "shuffled",
    "shuffled_file_batches",
    "step_decay",
    "stop_at_loss",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"xairt.training.{_MODULES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
