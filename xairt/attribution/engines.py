"""The engines beside the native one: which package computes which method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from xairt.attribution.blocks import Setting
from xairt.attribution.legacy import orders
from xairt.attribution.legacy.analyzers import ANALYZERS
from xairt.attribution.legacy.client import WorkerEngine
from xairt.attribution.lime import LimeEngine


@dataclass(frozen=True)
class Peer:
    """Another package as engine.

    Attributes
    ----------
    methods : frozenset of str
        Canonical names of the methods that it has.
    make : callable
        From (setting, method call, samples per block), and optionally ``python=`` the interpreter of its
        worker, to the engine; see `NativeEngine` for how an engine is called.
    has_worker : bool
        Whether the package runs in a process of its own, of any interpreter.
    """

    methods: frozenset[str]
    make: Callable[..., WorkerEngine | LimeEngine]
    has_worker: bool = True


def _peer(name: str, methods: Iterable[str], order: Callable[[Setting, Any], orders.Order]) -> Peer:
    return Peer(frozenset(methods), partial(WorkerEngine, name, order))


PEERS: dict[str, Peer] = {
    "innvestigate": _peer("innvestigate", ANALYZERS, orders.innvestigate),
    "deeplift": _peer("deeplift", orders.DEEPLIFT_MODES, orders.deeplift),
    "shap": _peer("shap", orders.SHAP_EXPLAINERS, orders.shap),
    "lime": Peer(frozenset({"lime"}), LimeEngine, has_worker=False),
}
"""Every engine but the native one, by the name that ``engine=`` takes."""


def peers_of(method: str) -> tuple[str, ...]:
    """Return the names of the peer engines that have a method.

    Examples
    --------
    >>> peers_of("lrp.z")
    ('innvestigate',)
    """
    return tuple(name for name, peer in PEERS.items() if method in peer.methods)
