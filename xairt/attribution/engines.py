"""The engines beside the native one: which package computes which method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xairt.attribution.blocks import Setting
from xairt.attribution.legacy.analyzers import ANALYZERS
from xairt.attribution.legacy.client import InnvestigateEngine
from xairt.attribution.lime import LimeEngine


@dataclass(frozen=True)
class Peer:
    """Another package as engine.

    Attributes
    ----------
    methods : frozenset of str
        Canonical names of the methods that it has.
    make : callable
        From (setting, method call, samples per block) to the engine; see `NativeEngine` for how an engine
        is called.
    """

    methods: frozenset[str]
    make: Callable[[Setting, Any, int], Any]


PEERS: dict[str, Peer] = {
    "innvestigate": Peer(frozenset(ANALYZERS), InnvestigateEngine),
    "lime": Peer(frozenset({"lime"}), LimeEngine),
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
