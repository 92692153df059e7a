"""Training of Keras models in a compiled loop. Names are loaded when used, since they import TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xairt.training.loop import History, fit

__all__ = ["History", "fit"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from xairt.training import loop

        return getattr(loop, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
