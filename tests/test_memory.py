"""Explaining in a long-running program does not use up its memory."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import networks
import pytest

import xairt

STATUS = Path("/proc/self/statm")

METHODS = (
    "gradient",
    "lrp.z",
    "lrp.alpha_2_beta_1",
    "integrated_gradients(steps=16)",
    "smoothgrad",
    "occlusion",
)


def resident_mib() -> float:
    """Return the memory that this process holds."""
    gc.collect()
    return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="the memory of a process is read from /proc")
def test_500_calls_on_alternating_models_and_methods():
    models = [networks.mlp(), networks.mlp(200, seed=1), networks.mlp(20, end="softmax"), networks.cnn()]
    after_50 = 0.0
    for call in range(500):
        model, method = models[call % 4], METHODS[call // 4 % 6]
        xairt.attribute(model, networks.samples(model, 10 + call % 7, seed=call), method)
        if call == 49:
            after_50 = resident_mib()
    assert resident_mib() - after_50 <= 50
