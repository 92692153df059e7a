"""Agreement with what iNNvestigate 1.0.9 on Keras 2.2.4 computed (tests/data/golden/README.md)."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from conftest import GOLDEN

import xairt
from xairt.attribution.registry import resolve
from xairt.data import registry

ILL_CONDITIONED = ("lrp.epsilon(bias=False)", "lrp.z_plus_fast")


def tolerance(network: str, method: str) -> float:
    """Largest difference over largest value, as stated with the numbers."""
    if method in ILL_CONDITIONED:
        return {"mamalakis2022": 2e-3, "cnn": 2e-4, "mlp": 1e-5}[network]
    return 1e-4 if (network, method) == ("mamalakis2022", "lrp.alpha_2_beta_1") else 1e-5


def keys(network: str) -> list[str]:
    with np.load(GOLDEN / f"innvestigate109_{network}.npz") as archive:
        return [key for key in archive.files if key not in ("x", "prediction")]


@cache
def numbers(network: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"innvestigate109_{network}.npz") as archive:
        return dict(archive)


@cache
def model(network: str):
    if network == "mamalakis2022":
        return xairt.load_model(registry.path("mamalakis2022-sst", download=False))
    return xairt.load_model(GOLDEN / f"{network}_keras224.h5")


CASES = [(network, key) for network in ("mlp", "cnn", "mamalakis2022") for key in keys(network)]


def compare(network: str, key: str, request, **options) -> None:
    if network == "mamalakis2022":
        request.getfixturevalue("data_dir")
    method, _, target = key.partition("|target=")
    chosen = None if target in ("", "max") else int(target)
    out = xairt.attribute(model(network), numbers(network)["x"], method, target=chosen, **options)
    want = numbers(network)[key]
    assert np.abs(out.attribution.values - want).max() <= tolerance(network, method) * np.abs(want).max()


@pytest.mark.parametrize(("network", "key"), CASES)
def test_native_engine(network, key, request):
    method = resolve(key.partition("|")[0]).method
    convention = "innvestigate" if "innvestigate" in method.conventions else None
    compare(network, key, request, convention=convention)


# One target suffices: the worker takes an index per sample in both cases.
@pytest.mark.parametrize(("network", "key"), [c for c in CASES if not c[1].endswith("target=0")])
def test_innvestigate_engine(network, key, request):
    compare(network, key, request, engine="innvestigate")


@pytest.mark.parametrize("network", ["mlp", "cnn", "mamalakis2022"])
def test_prediction(network, request):
    if network == "mamalakis2022":
        request.getfixturevalue("data_dir")
    stored = numbers(network)["prediction"]
    out = xairt.attribute(model(network), numbers(network)["x"], "gradient")
    np.testing.assert_allclose(out.prediction, stored.max(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out.target, stored.argmax(axis=1))


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_canonical_bias_differs_from_the_published_one(network):
    x = numbers(network)["x"]
    canonical = xairt.attribute(model(network), x, "lrp.alpha_2_beta_1").attribution.values
    published = numbers(network)["lrp.alpha_2_beta_1|target=max"]
    assert np.abs(canonical - published).max() > 0.01 * np.abs(published).max()
