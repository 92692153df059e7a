"""Whether a sum keeps its promise: per sample, in the report, in the log; and where float32 is too coarse."""

from __future__ import annotations

import json
import logging

import networks
import numpy as np
import pytest
import tensorflow as tf

import xairt
from xairt import attribute, explainer
from xairt.attribution import batching, status
from xairt.data import registry
from xairt.data.files import read_dataset, write_dataset
from xairt.keys import noise_keys

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers


def sums(gap, amount, magnitude=None, sensitivity=None) -> status.Sums:
    amount = np.asarray(amount, float)
    gap = None if gap is None else np.asarray(gap, float)
    return status.Sums(gap, amount, np.abs(amount) if magnitude is None else magnitude, sensitivity)


def report_of(out, label: str | None = None) -> dict:
    return json.loads(out.attrs["status_report"])[label or out.attrs["method"]]


def broken(monkeypatch, change) -> None:
    """Let the native engine return changed attributions, whose sums are then those of the change."""
    from xairt.attribution.native import NativeEngine

    explain = NativeEngine.__call__

    def call(self, *arguments):
        computed = explain(self, *arguments)
        kept = {k: v for k, v in computed.items() if k not in ("total", "magnitude")}
        return kept | {"attribution": change(computed["attribution"])}

    monkeypatch.setattr(NativeEngine, "__call__", call)


# --------------------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("identity", "remedy"),
    [
        ({}, "compare with another method before you trust the attribution"),
        ({"convention": "deeplift"}, "convention 'deeplift' may be the reason; compare without it"),
        (
            {"method": "lrp.z", "target": "callable f"},
            "LRP needs a target in proportion to the outputs, such as their mean or a difference",
        ),
    ],
)
def test_remedies_for_gaps_that_are_no_rounding(identity, remedy):
    found = status.Sums(np.array([12.0]), np.array([1.0]), np.array([3.0]))
    assert reported(found, **identity)["reason"] == (
        f"1 of 1 samples fail: the sum misses its promise by up to 1,200 %; {remedy}"
    )


@pytest.mark.parametrize(
    ("gap", "amount", "wanted"),
    [
        ([0, 1e-3, -1e-3], [1, 1, -1], [0, 0, 0]),
        ([1.1e-3, -0.1, 0.1], [1, 1, -1], [1, 1, 1]),
        ([0.11, -5], [1, 1], [2, 2]),
        ([np.nan, np.inf, 0, 0], [1, 1, np.nan, np.inf], [2, 2, 2, 2]),
        ([0, 0], [0, 0], [0, 0]),
        ([1e-9], [0], [2]),
        # near zero is judged against the largest: 1e-4 of 1 is ok, 1e-2 a warning, 1 a failure
        ([0, 1e-4, 1e-2, 1], [1, 1e-7, -9e-7, 0], [0, 0, 1, 2]),
        ([0, 1e-4], [1, 2e-6], [0, 2]),
        ([1e-4, 0], [1e-7, np.inf], [2, 2]),
        (None, [1, np.nan], [3, 2]),
    ],
)
def test_flags(gap, amount, wanted):
    found = status.flags(sums(gap, amount))
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == np.int8


def test_values_that_are_not_finite_fail_where_nothing_is_promised(caplog):
    found = status.Sums(None, np.array([1.0, 1.0, np.nan]), np.array([0.0, np.inf, 0.0]))
    np.testing.assert_array_equal(status.flags(found), [3, 2, 2])
    told = reported(found)
    assert told["status"] == "fail"
    assert told["reason"] == "2 of 3 samples fail: attributions or outputs are not finite"
    assert caplog.records[-1].levelname == "WARNING"


def test_lrp_of_an_engine_without_ledger_says_so():
    told = reported(sums(None, [1]), method="lrp.z", engine="innvestigate")
    assert told["reason"] == "engine 'innvestigate' keeps no ledger to judge the sum by"


def test_overflow_is_told_for_methods_that_promise_nothing():
    model = networks.mlp()
    x = np.full((2, model.input_shape[1]), 3e38, np.float32)
    x[1] = 1
    assert attribute(model, x, "occlusion", target=0).status.values.tolist() == [2, 3]


def test_scale_is_never_below_its_share_of_the_largest():
    rng = np.random.default_rng(0)
    amount = rng.normal(size=50) * 10.0 ** rng.integers(-12, 3, 50)
    largest = np.abs(amount).max()
    wanted = [largest if abs(a) < 1e-6 * largest else abs(a) for a in amount]
    np.testing.assert_array_equal(status.scale(amount), wanted)


# --------------------------------------------------------------------------- report


def reported(found: status.Sums, **identity) -> dict:
    identity = {"dtype": "float32", "engine": "native", "parameters": {}} | identity
    told = status.report(status.Tally.of(found, status.flags(found)), identity)
    status.tell({"status_report": json.dumps({"m": told})})
    return told


def test_report_counts_and_says_how_far(caplog):
    caplog.set_level(logging.INFO, logger="xairt")
    found = reported(sums([0, 0.042, 0.02, 0], [1, 1, 1, 1]), parameters={"steps": 4})
    assert found == {
        "status": "warn",
        "reason": "2 of 4 samples warn: the sum misses its promise by up to 4.2 %; use more steps",
        "ok": 2,
        "warn": 2,
        "fail": 0,
    }
    found = reported(sums([0, 0.042, 0.5, np.nan], [1, 1, 1, 1]), dtype="float64")
    assert found["status"] == "fail"
    assert found["reason"] == (
        "1 of 4 samples warn and 2 of 4 samples fail: the sum misses its promise by up to 50 % and 1 sums or "
        "outputs are not finite; compare with another method before you trust the attribution"
    )
    cancelling = status.Sums(np.array([0.5]), np.array([1.0]), np.array([1000.0]))
    assert reported(cancelling)["reason"].endswith("try dtype='float64'")
    reported(sums([0, 0], [1, 1]))
    assert reported(sums(None, [1, 1])) == {
        "status": "not_promised",
        "reason": "the method promises nothing about its sum",
        "ok": 0,
        "warn": 0,
        "fail": 0,
    }
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING", "WARNING", "INFO"]
    assert caplog.records[-1].getMessage() == "m: 2 samples ok"


@pytest.mark.parametrize(
    ("magnitude", "sensitivity", "wanted"),
    [
        (2.1e4, None, "relevance of up to 2e+04 times the largest output cancels; use"),
        (1.0, 2e-3, "the last digit of x changes the attribution by 0.2 %; use dtype='float64'"),
        (2.1e4, 2e-3, "cancels and the last digit"),
        (9e3, 2e-5, None),
        (np.nan, np.nan, None),
    ],
)
def test_float32_is_called_ill_conditioned(magnitude, sensitivity, wanted):
    found = sums([0, 0], [1, 1e-9], np.array([magnitude, 1]), sensitivity)
    single = reported(found)
    assert (single["status"] == "warn") == (wanted is not None)
    assert single["ok"] == 2
    assert wanted is None or wanted in single["reason"]
    assert reported(found, dtype="float64")["reason"] == "2 samples ok"


# --------------------------------------------------------------------------- probes


def test_probes_take_the_spare_rows():
    x = np.arange(10, dtype=np.float32).reshape(5, 2) + 1
    indices, keys = np.arange(5), noise_keys(7, None, 5)
    ((block, chosen, key, used),) = batching.blocks(x, indices, keys, (8,), batching.probed(5, (8,)))
    assert used == 8
    np.testing.assert_array_equal(block[:5], x)
    np.testing.assert_array_equal(chosen[5:], [0, 1, 2])
    np.testing.assert_array_equal(key[5:], keys[:3])
    assert (block[5:] != x[:3]).all()
    np.testing.assert_allclose(block[5:], x[:3], rtol=1.3e-7)


def test_probes_after_full_blocks_take_a_small_block():
    x = np.arange(16, dtype=np.float32)[:, None] + 1
    sizes, n_probes = (2, 8), batching.probed(16, (2, 8))
    found = list(batching.blocks(x, np.arange(16), noise_keys(0, None, 16), sizes, n_probes))
    assert [len(block) for block, *_ in found] == [8, 8, 2]
    assert batching.n_blocks(16, sizes, n_probes) == 3
    np.testing.assert_array_equal(np.concatenate([block for block, *_ in found[:2]]), x)
    np.testing.assert_array_equal(found[2][1], [0, 1])
    assert (found[2][0] != x[:2]).all()


def test_blocks_without_probes_are_padded_with_the_last_sample():
    x = np.arange(3.0)[:, None]
    found = list(batching.blocks(x, np.arange(3), noise_keys(0, [4, 5, 6], 3), (2,)))
    assert [used for *_, used in found] == [2, 1]
    np.testing.assert_array_equal(found[1][0], [[2], [2]])
    np.testing.assert_array_equal(found[1][2], [[0, 6], [0, 6]])


def test_sensitivity_leaves_out_samples_that_explain_another_output():
    attribution = np.array([[1.0, -4], [2, 0], [1, -4.02], [9, 9]])
    computed = {"attribution": attribution, "target": np.array([0, 1, 0, 2])}
    assert batching.sensitivity(computed, 2) == pytest.approx(0.02 / 4)
    computed["target"][2] = 1
    assert np.isnan(batching.sensitivity(computed, 2))
    still = {"attribution": np.zeros((4, 2)), "target": np.zeros(4)}
    assert batching.sensitivity(still, 2) == 0


@pytest.mark.parametrize("n", [1, 5, 8, 9])
def test_probes_leave_results_alone(n):
    model = networks.mlp()
    x = networks.samples(model, n)
    e = explainer(model, "lrp.alpha_1_beta_0", batch_size=8)
    probed = e(x)
    plain = np.concatenate(
        [explainer(model, "lrp.alpha_1_beta_0", batch_size=8)(x[i : i + 1]).attribution for i in range(n)]
    )
    np.testing.assert_allclose(probed.attribution, plain, rtol=1e-5, atol=1e-7)
    assert probed.sizes["sample"] == probed.status.size == n


def test_a_denominator_that_nearly_cancels_is_noticed():
    """z+ for inputs of both signs: x1 w1 + x2 w2 is 6e-8, one last digit of the inputs."""
    model = tf.keras.Sequential([L.InputLayer(2), L.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [1.0]])])
    x = np.array([[1.0, -np.nextafter(np.float32(1), np.float32(0))]], np.float32)
    out = attribute(model, x, "lrp.z_plus_fast")
    assert "ill-conditioned in float32" in report_of(out)["reason"]
    healthy = attribute(model, np.array([[1.0, -0.5]], np.float32), "lrp.z_plus_fast")
    assert report_of(healthy)["status"] == "ok"
    exact = attribute(model, x, "lrp.z_plus_fast", dtype="float64")
    assert "float32" not in report_of(exact)["reason"]


# --------------------------------------------------------------------------- results


def test_result_says_per_sample_and_in_its_attributes(tmp_path):
    model = networks.mlp()
    out = attribute(model, networks.samples(model), "lrp.z")
    np.testing.assert_array_equal(out.status, np.zeros(5))
    assert out.status.dtype == np.int8
    assert out.status.dims == ("sample",)
    assert out.status.attrs["flag_meanings"] == "ok warn fail not_promised"
    assert report_of(out) == {"status": "ok", "reason": "5 samples ok", "ok": 5, "warn": 0, "fail": 0}
    write_dataset(out, tmp_path / "out.nc", title="t")
    back = read_dataset(tmp_path / "out.nc")
    assert back.status.dtype == back.status.attrs["flag_values"].dtype == np.int8
    np.testing.assert_array_equal(back.status.attrs["flag_values"], [0, 1, 2, 3])
    assert back.attrs["status_report"] == out.attrs["status_report"]


def test_coarse_path_is_measured_against_the_difference():
    model = networks.mlp(n_outputs=1)
    x = 3 * networks.samples(model, 40)
    out = attribute(model, x, "integrated_gradients", steps=2, baseline=0.5)
    promised = (model(x) - model(np.full((1, 7), 0.5))).numpy()[:, 0]
    share = np.abs(out.attribution.sum("feature").values - promised) / np.abs(promised)
    wanted = np.digitize(share, [1e-3, 0.1])
    assert set(wanted) >= {1, 2}
    np.testing.assert_array_equal(out.status, wanted)
    found = report_of(out)
    assert found["status"] == "fail"
    assert found["reason"].endswith("use more steps")
    assert [found["ok"], found["warn"], found["fail"]] == list(np.bincount(wanted, minlength=3))
    fine = attribute(model, x, "integrated_gradients", steps=150, baseline=0.5, dtype="float64")
    assert fine.status.max() <= 1
    assert report_of(fine)["ok"] > found["ok"]


def test_lrp_is_measured_against_the_output(monkeypatch):
    model = networks.mlp(n_outputs=1)
    x = networks.samples(model, 20)
    good = attribute(model, x, "lrp.alpha_1_beta_0")
    np.testing.assert_array_equal(good.status, 0)
    broken(monkeypatch, lambda r: 1.05 * r)
    out = attribute(model, x, "lrp.alpha_1_beta_0", batch_size=32)
    share = 0.05 * np.abs(good.attribution.sum("feature") / good.prediction)
    np.testing.assert_array_equal(out.status, np.digitize(share, [1e-3, 0.1]))
    assert (out.status > 0).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_attribution_that_is_not_finite_fails(monkeypatch, value, caplog):
    def spoil(r):
        r = r.copy()
        r[1, 0] = value
        return r

    broken(monkeypatch, spoil)
    model = networks.mlp()
    with caplog.at_level(logging.WARNING, logger="xairt"):
        out = attribute(model, networks.samples(model), "lrp.z", batch_size=16)
    np.testing.assert_array_equal(out.status, [0, 2, 0, 0, 0])
    assert "1 of 5 samples fail: 1 sums or outputs are not finite" in report_of(out)["reason"]
    assert len(caplog.records) == 1


def test_output_near_zero_is_judged_against_the_largest_of_the_call():
    model = tf.keras.Sequential([L.InputLayer(2), L.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [-1.0]])])
    x = np.array([[3.0, 2.0], [0.1, 0.1], [1.0, 1.0 + 1e-7]], np.float32)
    out = attribute(model, x, "lrp.epsilon", epsilon=1e-3)
    np.testing.assert_array_equal(out.status, 0)
    assert abs(out.prediction.values[2]) < 1e-6


def test_status_over_blocks_looks_at_the_whole_call():
    model = tf.keras.Sequential([L.InputLayer(2), L.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [-1.0]])])
    x = np.array([[30.0, 2.0], [1.0, 1.0]], np.float32)
    one = attribute(model, x, "integrated_gradients", steps=2, batch_size=1)
    np.testing.assert_array_equal(one.status, 0)


def test_several_methods_have_a_status_each():
    model = networks.mlp()
    methods = ["gradient", "lrp.z", "integrated_gradients(steps=2)", "lrp.z"]
    out = attribute(model, 3 * networks.samples(model, 9), methods)
    assert out.status.dims == ("method", "sample")
    assert out.status.dtype == np.int8
    np.testing.assert_array_equal(out.status[0], 3)
    np.testing.assert_array_equal(out.status[1], 0)
    assert out.status[2].max() > 0
    report = json.loads(out.attrs["status_report"])
    assert list(report) == sorted(out.method.values)
    assert report["lrp.z #2"] == report["lrp.z"]


# --------------------------------------------------------------------------- the archived network

HEALTHY = [
    *(
        "lrp.z",
        "lrp.epsilon",
        "lrp.alpha_1_beta_0",
        "lrp.alpha_1_beta_0_IB",
        "lrp.alpha_2_beta_1",
        "lrp.gamma",
    ),
    *("lrp.flat", "lrp.w_square", "lrp.sequential_preset_a", "deep_taylor", "gradient", "input_t_gradient"),
    "integrated_gradients(steps=16)",
]
ILL_CONDITIONED = ["lrp.epsilon(bias=False)", "lrp.z_plus_fast"]


@pytest.fixture(scope="module")
def archived(data_dir):
    return xairt.load_model(registry.path("mamalakis2022-sst", download=False))


@pytest.mark.parametrize("method", HEALTHY + ILL_CONDITIONED)
def test_float32_warning_tells_what_float64_says(archived, golden_dir, method):
    with np.load(golden_dir / "innvestigate109_mamalakis2022.npz") as numbers:
        x = numbers["x"]
    options = {"batch_size": 32} | ({"convention": "innvestigate"} if method in ILL_CONDITIONED else {})
    single = attribute(archived, x, method, **options)
    double = attribute(archived, x, method, dtype="float64", **options).attribution.values
    differ = np.abs(single.attribution.values - double).max() / np.abs(double).max()
    assert (differ > 1e-4) == (method in ILL_CONDITIONED)
    assert ("ill-conditioned in float32" in report_of(single)["reason"]) == (method in ILL_CONDITIONED)
