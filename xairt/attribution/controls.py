"""Controls: attributions that know nothing of the model, to compare the methods with."""

from __future__ import annotations

from xairt.attribution.blocks import BlockMethod, Explained, Setting, noise
from xairt.attribution.parameters import Parameters


def random(setting: Setting, parameters: Parameters) -> BlockMethod:
    """Standard normal numbers keyed by (seed, sample): what no method should score below."""
    return lambda block: Explained(noise(block.keys, tuple(block.x.shape[1:]), setting.dtype))
