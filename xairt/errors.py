"""The exceptions of xairt. Each message is one line: the object, the reason, the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XairtError(Exception):
    """Base of every error that xairt raises on purpose; the command line turns it into exit code 2."""


class DataError(XairtError, ValueError):
    """Input data that cannot be used: NaN, wrong shape, a file that is missing or damaged."""


class DivergedError(DataError):
    """A training whose loss became NaN or infinite."""


class ModelError(XairtError, ValueError):
    """A model file that cannot be loaded, or is not a Keras model."""


class UntrustedCodeError(ModelError):
    """A model file that would execute code when loaded."""


class UnsupportedLayerError(ModelError):
    """A layer that the requested method cannot pass relevance through."""


class MethodError(XairtError, ValueError):
    """An unknown attribution method, or a parameter that the method does not have."""


class EngineError(XairtError, RuntimeError):
    """A failure of an engine outside this process (its worker died or could not start)."""


class ClusterError(EngineError):
    """The dask cluster that computes is gone; what is finished is kept."""


def reason_of(error: BaseException, longest: int = 200) -> str:
    """Return what an error says as one line of limited length; its kind where it says nothing.

    Examples
    --------
    >>> reason_of(OSError("disk\\n  full")), reason_of(KeyError())
    ('disk full', 'KeyError')
    """
    try:
        text = str(error).encode("utf-8", "replace").decode()
    except Exception:  # an error of an error: its kind must do
        text = ""
    return " ".join(text.split())[:longest] or type(error).__name__


def suggest(word: object, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known word, or an empty string.

    Examples
    --------
    >>> suggest("gradeint", ["gradient", "saliency"])
    "; did you mean 'gradient'?"
    >>> suggest("LRP.Z", ["lrp.z"])
    "; did you mean 'lrp.z'?"
    >>> suggest("xyz", ["gradient"])
    ''
    """
    by_lower = {str(name).lower(): name for name in known}
    close = difflib.get_close_matches(str(word).lower(), list(by_lower), n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[close[0]]}'?" if close else ""
