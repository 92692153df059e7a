"""Which methods can explain a network: the others are left out with a warning, and do not end a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from xairt.errors import DataError

log = logging.getLogger(__name__)


def usable_methods(model: str | os.PathLike[str], methods: Sequence[str]) -> tuple[str, ...]:
    """Return the methods that can explain a network; a warning, once for each file, names the others.

    Parameters
    ----------
    model : path
        Of a model file.
    methods : sequence of str
        With parameters where not the defaults, as of `xairt.explainer`.

    Returns
    -------
    tuple of str
        In their order.

    Raises
    ------
    DataError
        If none is left.
    ModelError
        If the file is missing or no model.
    """
    status = Path(model).stat()
    usable = _usable(os.fspath(model), status.st_mtime_ns, status.st_size, tuple(methods))
    if not usable:
        raise DataError(f"{model}: none of the methods can explain it; choose others, see xairt inspect")
    return usable


@lru_cache(maxsize=64)
def _usable(model: str, changed: int, size: int, methods: tuple[str, ...]) -> tuple[str, ...]:
    from xairt.models.card import inspect_model

    verdicts = inspect_model(model).families
    usable = []
    for method in methods:
        verdict = verdicts[_family(method)]
        if verdict.applies:
            usable.append(method)
        else:
            log.warning("%s cannot explain %s and is left out: %s", method, model, verdict.reason)
    return tuple(usable)


def _family(method: str) -> str:
    """Return the family of a method.

    Examples
    --------
    >>> _family("deeplift.rescale"), _family("integrated_gradients(steps=20)")
    ('deeplift', 'gradient')
    """
    from xairt.attribution.registry import resolve
    from xairt.models.support import FAMILIES

    name = resolve(method).method.name
    return next(f for f, known in FAMILIES.items() if any(fnmatchcase(name, pattern) for pattern in known))
