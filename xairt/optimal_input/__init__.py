"""Optimal input: the input that makes a network predict what is asked for (backward optimisation).

The module is called like its function, ``xairt.optimal_input(model, target=1)``, and holds what may be
given to it: the regularisers, and `mean_of_correct` for the start of the publication.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from xairt.optimal_input.descent import optimal_input
from xairt.optimal_input.regularisers import (
    L1,
    L2,
    DistanceFromStart,
    Laplacian,
    Mahalanobis,
    Regulariser,
    TotalVariation,
)
from xairt.optimal_input.starts import mean_of_correct

if TYPE_CHECKING:
    import tensorflow as tf
    import xarray as xr

__all__ = [
    "L1",
    "L2",
    "DistanceFromStart",
    "Laplacian",
    "Mahalanobis",
    "Regulariser",
    "TotalVariation",
    "mean_of_correct",
    "optimal_input",
]


class _CallableModule(ModuleType):
    """An import puts this module where the public name `xairt.optimal_input` stands, so it can be called."""

    def __call__(self, model: tf.keras.Model, target: Any = None, **options: Any) -> xr.Dataset:
        """Search for an input; arguments and result are those of `xairt.optimal_input.optimal_input`."""
        return optimal_input(model, target, **options)


sys.modules[__name__].__class__ = _CallableModule
