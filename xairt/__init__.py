"""xairt: explain archived and new Keras networks, map the relevance, measure the explanations.

The public names are loaded when they are first used; importing xairt imports neither TensorFlow nor
xarray.
"""

from __future__ import annotations

import importlib
from typing import Any

from xairt._version import __version__

_NAMES = {
    "load_model": "xairt.models.loading",
    "inspect_model": "xairt.models.card",
    "Grid": "xairt.grid",
    "LLCGrid": "xairt.llc",
    "Explainer": "xairt.attribution.explainer",
    "explainer": "xairt.attribution.explainer",
    "attribute": "xairt.attribution.explainer",
    "methods": "xairt.attribution.registry",
    "XairtError": "xairt.errors",
}

_MODULES = (
    "attribution",
    "conventions",
    "data",
    "datasetwise",
    "errors",
    "fields",
    "metrics",
    "models",
    "optimal_input",
    "plots",
    "selection",
    "training",
)

__all__ = ["__version__", *_NAMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"xairt.{name}")
    else:
        raise AttributeError(f"module 'xairt' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
