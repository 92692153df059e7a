"""Feature selection: recursive feature elimination with network attribution, and with scikit-learn.

A network is trained on all features, the features of the smallest mean magnitude of attribution are dropped, and
a new network is trained on the others, until few are left or the error grows.

Names are loaded when used, since some of them import TensorFlow.

References
----------
Shi et al. (2024), ChaosMining, arXiv:2406.12150.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xairt.selection.elimination import eliminate
    from xairt.selection.estimators import ESTIMATORS, eliminate_by_sklearn
    from xairt.selection.features import three_parts
    from xairt.selection.results import Round, Selection, precision_recall
    from xairt.selection.schedule import feature_counts
    from xairt.selection.tables import Scaling, Table, read_table

_MODULES = {
    "ESTIMATORS": "estimators",
    "Round": "results",
    "Scaling": "tables",
    "Selection": "results",
    "Table": "tables",
    "eliminate": "elimination",
    "eliminate_by_sklearn": "estimators",
    "feature_counts": "schedule",
    "precision_recall": "results",
    "read_table": "tables",
    "three_parts": "features",
}

__all__ = [
    "ESTIMATORS",
    "Round",
    "Scaling",
    "Selection",
    "Table",
    "eliminate",
    "eliminate_by_sklearn",
    "feature_counts",
    "precision_recall",
    "read_table",
    "three_parts",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"xairt.selection.{_MODULES[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
