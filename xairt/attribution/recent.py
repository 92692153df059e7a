"""What was made lately and is kept for reuse: conversions of models, and explainers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
import xarray as xr

from xairt.attribution import inputs
from xairt.attribution.network import Network
from xairt.grid import Grid

CACHED_NETWORKS = 2

Made = TypeVar("Made")

_networks: OrderedDict[str, Network] = OrderedDict()


def kept(store: OrderedDict[Any, Made], limit: int, key: Any, make: Callable[[], Made]) -> Made:
    """Return what `store` has under `key`, made if it is missing; what was not used for longest goes.

    Examples
    --------
    >>> store = OrderedDict(a=1, b=2)
    >>> kept(store, 2, "a", lambda: 0), kept(store, 2, "c", lambda: 3), list(store)
    (1, 3, ['a', 'c'])
    """
    if key not in store:
        store[key] = make()
    store.move_to_end(key)
    while len(store) > limit:
        store.popitem(last=False)
    return store[key]


def network(model: tf.keras.Model, sha256: str) -> Network:
    """Convert a model, or return the conversion of the same weights and configuration made before.

    Only canonical graphs are shared: they are copies, while other networks compute with the live model.
    """
    found = _networks.get(sha256) or Network.of(model)
    return found if found.graph is None else kept(_networks, CACHED_NETWORKS, sha256, lambda: found)


def hashable(value: Any) -> Any:
    """Return what tells two values of an explainer's option apart."""
    if isinstance(value, str | int | float | bool | Grid | Callable | None):
        return type(value), value
    if isinstance(value, Mapping):
        return tuple((name, hashable(part)) for name, part in value.items())
    if not isinstance(value, xr.DataArray | np.ndarray | Sequence):
        return repr(value)
    if isinstance(value, Sequence) and any(isinstance(item, Mapping) for item in value):
        return repr(value)  # as an array it would be told apart by addresses
    try:
        return inputs.array_sha256(value)
    except ValueError:  # parts of unequal shape: one per input of the model, or no array at all
        return tuple(map(hashable, value))
