"""Targets and several methods at once: labels, identities, and explainers that are reused."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys

import networks
import numpy as np
import pytest
import tensorflow as tf
import xarray as xr

import xairt
from xairt import attribute, explainer
from xairt.attribution import explainer as module
from xairt.attribution.targets import code_digest
from xairt.errors import DataError, MethodError

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers


def identity(out, label: str | None = None) -> dict:
    found = json.loads(out.attrs["identities"])
    return found[label or out.attrs["method"]]


def image_to_image() -> tf.keras.Model:
    layers = [L.Conv2D(3, 3, padding="same", activation="relu"), L.Conv2D(1, 3, padding="same")]
    return networks.randomised(tf.keras.Sequential([L.InputLayer((6, 5, 2)), *layers]))


def two_outputs() -> tf.keras.Model:
    x = tf.keras.Input(4)
    hidden = L.Dense(5, "relu")(x)
    return networks.randomised(tf.keras.Model(x, [L.Dense(2)(hidden), L.Dense(3)(hidden)]))


# --------------------------------------------------------------------------- targets


@pytest.mark.parametrize("method", ["gradient", "lrp.z", "occlusion"])
def test_index_largest_and_index_per_sample_agree(method):
    model = networks.mlp()
    x = 4 * networks.samples(model, 20)
    single = [attribute(model, x, method, target=k) for k in range(3)]
    free = attribute(model, x, method)
    chosen = model(x).numpy().argmax(axis=1)
    assert len(set(chosen)) > 1
    np.testing.assert_array_equal(free.target, chosen)
    for given in (chosen, chosen.tolist(), chosen.astype(np.uint8)):
        mixed = attribute(model, x, method, target=given)
        for i, k in enumerate(chosen):
            np.testing.assert_array_equal(mixed.attribution[i], single[k].attribution[i])
            assert mixed.prediction[i] == single[k].prediction[i]
        np.testing.assert_array_equal(mixed.attribution, free.attribution)


def test_indices_per_sample_follow_their_samples_over_blocks():
    model = networks.mlp()
    x, indices = networks.samples(model, 7), np.array([0, 1, 2, 2, 1, 0, 1])
    blocks = attribute(model, x, "gradient", target=indices, batch_size=2)
    whole = attribute(model, x, "gradient", target=indices)
    np.testing.assert_array_equal(blocks.target, indices)
    np.testing.assert_allclose(blocks.attribution, whole.attribution, rtol=1e-6)


def test_only_output_needs_no_target():
    model = networks.mlp(n_outputs=1)
    out = attribute(model, networks.samples(model), "gradient")
    assert identity(out)["target"] == "only"
    np.testing.assert_array_equal(out.target, 0)
    np.testing.assert_array_equal(
        out.attribution, attribute(model, networks.samples(model), "gradient", target=0).attribution
    )


@pytest.mark.parametrize("method", ["gradient", "lrp.z", "integrated_gradients", "occlusion"])
def test_callable_of_a_linear_combination_is_the_combination(method):
    model = networks.mlp()
    x = networks.samples(model)
    few = {"steps": 6} if method == "integrated_gradients" else {}
    single = [attribute(model, x, method, target=k, **few).attribution for k in range(3)]
    out = attribute(model, x, method, target=lambda y: 2 * y[:, 0] - y[:, 2], **few)
    np.testing.assert_allclose(out.attribution, 2 * single[0] - single[2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out.prediction, 2 * model(x)[:, 0] - model(x)[:, 2], rtol=1e-5)
    np.testing.assert_array_equal(out.target, -1)
    assert identity(out)["target"].startswith("callable ")


def test_callable_explains_maps_and_several_outputs():
    model = image_to_image()
    x = networks.samples(model, 3)
    out = attribute(model, x, "lrp.z", target=lambda y: tf.reduce_mean(y, axis=(1, 2, 3)))
    np.testing.assert_allclose(out.prediction, model(x).numpy().mean(axis=(1, 2, 3)), rtol=1e-4, atol=1e-6)
    kept = out.absorbed_by_bias + out.lost_to_stabiliser + out.lost_to_empty_pot
    np.testing.assert_allclose(out.attribution.sum(["y", "x", "channel"]) + kept, out.prediction, atol=1e-5)
    both = two_outputs()
    x = networks.samples(both)
    out = attribute(both, x, "gradient", target=lambda outputs: outputs[0][:, 1] * outputs[1][:, 2])
    np.testing.assert_allclose(out.prediction, both(x)[0][:, 1] * both(x)[1][:, 2], rtol=1e-5)


def test_log_of_a_softmax_is_reachable_by_a_callable():
    model = networks.mlp(end="softmax")
    x = networks.samples(model)
    out = attribute(model, x, "gradient", target=lambda y: tf.nn.log_softmax(y)[:, 1])
    np.testing.assert_allclose(np.exp(out.prediction), model(x)[:, 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (3, r"target 3 is out of range: the model has 3 output\(s\), 0 to 2"),
        (-1, "target -1 is out of range"),
        (np.array([0, 1, 5, 0, 0]), "target 5 is out of range"),
        (1.0, "target 1.0 is not an output index: give an integer, one integer per sample, or a callable"),
        (True, "target True is not an output index"),
        ("1", "target '1' is not an output index"),
        ([0.5] * 5, r"target \[0.5, 0.5.* is not an output index"),
        (np.zeros((40, 30)), r"target array\(.* is not an output index"),
        ([[0], [1]], r"target \[\[0\], \[1\]\] is not an output index"),
        ([[0], [1, 2]], r"target \[\[0\], \[1, 2\]\] is no array of numbers: give rows of equal length"),
        ([0, 1], "target has 2 indices for 5 samples: give one per sample, or one for all"),
        (
            lambda y: y,
            r"the callable target returned shape \(4, 3\): it must return .* one number per sample",
        ),
        (lambda y: tf.reduce_mean(y), r"the callable target returned shape \(\)"),
        (lambda y: tf.reduce_mean(y, axis=0), r"the callable target returned shape \(3,\)"),
        (lambda y: 1.0, "the callable target returned float"),
        (lambda y: y[:, 0].numpy(), "the callable target returned ndarray"),
    ],
)
def test_bad_targets_are_refused_in_one_line(target, reason):
    model = networks.mlp()
    with pytest.raises(DataError, match=reason) as caught:
        attribute(model, networks.samples(model), "gradient", target=target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("network", "shapes"), [(image_to_image, r"\(6, 5, 1\)"), (two_outputs, r"\(2,\) and \(3,\)")]
)
def test_outputs_that_no_index_names_need_a_callable(network, shapes):
    with pytest.raises(
        DataError, match=rf"has outputs of shape {shapes}: give a callable target .* per sample, e\.g\."
    ):
        explainer(network(), "gradient", target=0)


# --------------------------------------------------------------------------- several methods


SEVERAL = ["gradient", "lrp.epsilon(epsilon=0.1)", "lrp.epsilon", "integrated_gradients(steps=5)", "gradient"]


def test_several_methods_stand_side_by_side():
    model = networks.mlp()
    x = networks.samples(model)
    out = attribute(model, x, SEVERAL, target=1, baseline=0.5, convention="innvestigate", seed=7)
    labels = [*SEVERAL[:-1], "gradient #2"]
    assert list(out.method.values) == labels
    assert out.attribution.dims == ("method", "sample", "feature")
    for label, name in zip(labels, SEVERAL, strict=True):
        options = {"baseline": 0.5} if "integrated" in name else {}
        options |= {} if name == "gradient" else {"convention": "innvestigate"}
        alone = attribute(model, x, name, target=1, seed=7, **options)
        part = out.sel({"method": label})
        np.testing.assert_array_equal(part.attribution, alone.attribution)
        np.testing.assert_array_equal(part.prediction, alone.prediction)
        assert identity(out, label) == identity(alone)
        assert np.isnan(part.absorbed_by_bias).all() == ("lrp" not in name)
    for name in alone.data_vars:
        assert out[name].attrs == alone[name].attrs
        assert out[name].attrs["long_name"]


def test_one_method_in_a_list_has_the_dimension():
    model = networks.mlp()
    assert attribute(model, networks.samples(model), ["gradient"]).sizes["method"] == 1
    assert "method" not in attribute(model, networks.samples(model), "gradient").dims


@pytest.mark.parametrize(
    ("methods", "options", "reason"),
    [
        ([], {}, "no method given: name one or several"),
        (
            ["gradient", "lrp.z"],
            {"epsilon": 1},
            "parameter 'epsilon' with several methods: write it into the method",
        ),
        (
            ["gradient", "lrp.z"],
            {"baseline": 1},
            "gradient, lrp.z: no method here uses a baseline: leave it out",
        ),
        (
            ["gradient"],
            {"convention": "innvestigate"},
            "no method here has the convention 'innvestigate': they have none",
        ),
        (["lrp.z", "lrp.alpha_beta"], {"convention": "investigate"}, "did you mean 'innvestigate'"),
        ([1], {}, "method 1 is not a name"),
    ],
)
def test_bad_lists_are_refused(methods, options, reason):
    model = networks.mlp()
    with pytest.raises(MethodError, match=reason):
        attribute(model, networks.samples(model), methods, **options)


VARIANTS = [
    {"method": "integrated_gradients"},
    {"method": "gradient"},
    {"method": "integrated_gradients", "steps": 9},
    {"method": "integrated_gradients", "quadrature": "midpoint"},
    {"method": "integrated_gradients", "target": 1},
    {"method": "integrated_gradients", "target": lambda y: y[:, 0]},
    {"method": "integrated_gradients", "baseline": 1.0},
    {"method": "integrated_gradients", "baseline": np.ones(7)},
    {"method": "integrated_gradients", "baseline": np.ones((2, 7))},
    {"method": "integrated_gradients", "dtype": "float64"},
    {"method": "integrated_gradients", "convention": "innvestigate"},
    {"method": "integrated_gradients", "seed": 5},
    {"method": "lrp.alpha_1_beta_0"},
    {"method": "lrp.alpha_1_beta_0", "input_layer_rule": "Flat"},
    {"method": "lrp.alpha_1_beta_0", "input_layer_rule": "Bounded(low=-2, high=1)"},
    {"method": "lrp.alpha_1_beta_0", "input_layer_rule": "Bounded(low=-2, high=3)"},
    {"method": "lrp.alpha_1_beta_0", "bias": "ignore"},
    {"method": "lrp.alpha_2_beta_1"},
]


def test_identities_differ_where_anything_differs():
    model = networks.mlp()
    x = networks.samples(model, 2)
    few = {"steps": 4}
    found = [
        json.dumps(
            identity(attribute(model, x, **(few if "integrated" in o["method"] else {}) | o)), sort_keys=True
        )
        for o in VARIANTS
    ]
    other = networks.mlp(seed=1)
    found.append(json.dumps(identity(attribute(other, x, **VARIANTS[0])), sort_keys=True))
    assert len(set(found)) == len(VARIANTS) + 1


def test_identity_is_complete():
    model = networks.mlp()
    x = networks.samples(model, 2)
    out = attribute(model, x, "lrp.alpha_1_beta_0", target=np.int64(2), seed=np.int64(3), bias=False)
    assert identity(out) == {
        "method": "lrp.alpha_beta",
        "parameters": {"alpha": 1.0, "beta": 0.0, "bias": "ignore", "input_layer_rule": None},
        "form": 'lrp.alpha_beta(input_layer_rule=None, bias="ignore", alpha=1.0, beta=0.0)',
        "target": "2",
        "baseline": None,
        "engine": "native",
        "convention": None,
        "dtype": "float32",
        "seed": 3,
        "model_sha256": module.fingerprint(model),
        "xairt": xairt.__version__,
    }
    assert out.attrs["method"] == "lrp.alpha_1_beta_0(bias=False)"
    again = attribute(model, x, identity(out)["form"], target=2)
    np.testing.assert_array_equal(again.attribution, out.attribution)


REGION = 2


def weighted(weights):
    return lambda y: tf.reduce_sum(y * weights, axis=1)


class Column:
    def __init__(self, column):
        self.column = column

    def __call__(self, y):
        return y[:, self.column]


def of_region(y):
    return y[:, REGION]


def test_callables_of_one_name_are_told_apart(monkeypatch):
    different = [
        *(lambda y: y[:, 0], lambda y: y[:, 1], lambda y: -y[:, 0], lambda y: (lambda z: z[:, 2])(y)),
        *(lambda y, k=0: y[:, k], lambda y, k=1: y[:, k], lambda y, *, k=1: y[:, k]),
        *(
            weighted(np.array([1, 0, 0.0])),
            weighted(np.array([1, 0, 1e-9])),
            weighted(1.0),
            weighted([1, 2, 3]),
        ),
        *(Column(0), Column(1), functools.partial(Column.__call__, Column(1)), of_region),
        *(functools.partial(lambda k, y: y[:, k], 0), functools.partial(lambda k, y: y[:, k], 1)),
    ]
    digests = [code_digest(function) for function in different]
    assert len(set(digests)) == len(different)
    monkeypatch.setitem(globals(), "REGION", 1)
    assert code_digest(of_region) not in digests


def test_callables_of_one_code_are_the_same():
    pairs = [[weighted(np.arange(3.0)) for _ in "ab"], [Column(1) for _ in "ab"]]
    pairs.append([lambda y: y[:, 0] if y.shape[1] in {1, 2, 3} else y[:, 1] for _ in "ab"])
    for one, other in pairs:
        assert one is not other
        assert code_digest(one) == code_digest(other)


def test_a_function_that_closes_over_itself_has_a_digest():
    def again(y, n=1):
        return y[:, 0] if n == 0 else again(y, n - 1)

    assert len(code_digest(again)) == 12


def test_digest_is_the_same_in_every_process():
    text = "lambda y: y[:, 0] * 2.5 if y in {'a', 'b', 'c', 'd'} else lambda z: z"
    program = f"from xairt.attribution.targets import code_digest; print(code_digest({text}))"
    other = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == code_digest(eval(text))


def test_identity_of_a_lambda_names_its_code():
    model = networks.mlp()
    x = networks.samples(model, 2)
    found = {
        identity(attribute(model, x, "gradient", target=t))["target"]
        for t in (lambda y: y[:, 0], lambda y: y[:, 1])
    }
    assert len(found) == 2


# --------------------------------------------------------------------------- reuse


@pytest.fixture
def fresh_cache(monkeypatch):
    monkeypatch.setattr(module, "_recent", type(module._recent)())
    return module._recent


def test_same_request_reuses_the_explainer(fresh_cache):
    model = networks.mlp()
    x = networks.samples(model)
    for _ in range(2):
        attribute(model, x, "integrated_gradients", baseline=np.ones(7), steps=4)
        attribute(model, x[:2], "integrated_gradients", baseline=np.ones(7), steps=4, seed=3)
        attribute(model, x, "integrated_gradients", baseline=[1.0] * 7, steps=4)
    assert len(fresh_cache) == 1
    attribute(model, x, "integrated_gradients", baseline=np.zeros(7), steps=4)
    attribute(model, x, "integrated_gradients", baseline=np.ones(7), steps=5)
    assert len(fresh_cache) == 3


def test_labelled_baselines_are_told_apart_by_their_coordinates(fresh_cache):
    lat, lon = np.array([10.0, -10.0]), np.array([0.0, 120.0, 240.0])
    grid = xairt.Grid(np.ones((2, 3), bool), lat, lon)
    model = networks.mlp(6)
    maps = xr.DataArray(np.arange(6.0).reshape(2, 3), {"lat": lat, "lon": lon}, ("lat", "lon"))
    options = {"grid": grid, "steps": 4}
    x = networks.samples(model)
    north = attribute(model, x, "integrated_gradients", baseline=maps, **options)
    south = attribute(model, x, "integrated_gradients", baseline=maps.assign_coords(lat=lat[::-1]), **options)
    assert not np.allclose(north.attribution, south.attribution)
    assert identity(north)["baseline"] != identity(south)["baseline"]


def test_map_baseline_takes_the_inferred_grid():
    lat, lon = np.array([10.0, -10.0]), np.array([0.0, 120.0, 240.0])
    land = np.array([[False, True, False], [False, False, False]])
    maps = np.where(land, np.nan, np.random.default_rng(0).normal(size=(4, 2, 3)))
    x = xr.DataArray(maps, {"lat": lat, "lon": lon}, ("sample", "lat", "lon"))
    model = networks.mlp(5)
    inferred = attribute(model, x, "integrated_gradients", baseline=x[0], steps=4)
    given = attribute(
        model, x, "integrated_gradients", baseline=x[0], steps=4, grid=xairt.Grid.from_dataarray(x)
    )
    np.testing.assert_array_equal(inferred.attribution, given.attribution)


def test_same_request_compiles_once(fresh_cache, monkeypatch):
    made = []
    original = module.explainer
    monkeypatch.setattr(module, "explainer", lambda *a, **k: made.append(a) or original(*a, **k))
    model = networks.mlp()
    for n in (5, 3, 5):
        attribute(model, networks.samples(model, n), "gradient", target=0)
    assert len(made) == 1
    attribute(model, networks.samples(model), "gradient", target=1)
    assert len(made) == 2


def test_training_makes_a_new_explainer(fresh_cache):
    model = networks.mlp()
    model.compile("sgd", "mse")
    x = networks.samples(model)
    before = attribute(model, x, "gradient", target=0)
    model.train_on_batch(x, np.ones((5, 3)))
    after = attribute(model, x, "gradient", target=0)
    assert not np.allclose(before.attribution, after.attribution)
    np.testing.assert_allclose(after.prediction, model(x)[:, 0], rtol=1e-5)
    assert identity(before)["model_sha256"] != identity(after)["model_sha256"]


def test_a_twin_of_an_unconvertible_model_is_not_taken_for_it(fresh_cache):
    # without a canonical graph an explainer computes with the live model: twins must not share it
    first = tf.keras.Sequential(
        [tf.keras.layers.InputLayer(4), tf.keras.layers.LayerNormalization(name="n")], "m"
    )
    second = tf.keras.models.clone_model(first)
    x = np.random.default_rng(0).normal(size=(3, 4))
    column = {"target": 0}
    before = attribute(first, x, "gradient", **column).attribution.values
    first.layers[-1].gamma.assign([5.0] * 4)
    np.testing.assert_array_equal(attribute(second, x, "gradient", **column).attribution.values, before)
    assert not np.allclose(attribute(first, x, "gradient", **column).attribution.values, before)


def test_only_recent_explainers_are_kept(fresh_cache):
    model = networks.mlp()
    for k in range(module.CACHED_EXPLAINERS + 3):
        attribute(model, networks.samples(model, 1), "lrp.epsilon", epsilon=float(k), batch_size=1)
    assert len(fresh_cache) == module.CACHED_EXPLAINERS


def test_failed_requests_are_not_kept(fresh_cache):
    with pytest.raises(DataError, match="target 9 is out of range"):
        attribute(networks.mlp(), np.zeros((1, 7)), "gradient", target=9)
    assert len(fresh_cache) == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda y: tf.cast(y[:, 0], tf.int32), "returned int32 for outputs of float32: keep their type"),
        (lambda y: y[:, 0] > 0, "returned bool for outputs of float32"),
        (lambda y: y[:, 7], "the callable target fails: InvalidArgumentError"),
        (lambda: 1, "the callable target fails: TypeError"),
        (lambda y: y[:, 0] - tf.reduce_mean(y[:, 0]), "another number when it comes with others"),
        (lambda y: tf.reverse(y[:, 0], [0]), "another number when it comes with others"),
    ],
)
def test_callable_targets_that_cannot_be_explained(target, message):
    with pytest.raises(DataError, match=message):
        attribute(networks.mlp(), np.zeros((2, 5)), "gradient", target=target)


def test_lrp_of_a_target_that_is_not_proportional_to_the_outputs_says_so():
    model = networks.mlp()
    out = attribute(model, networks.samples(model), "lrp.z", target=lambda y: y[:, 0] ** 2)
    assert "LRP needs a target in proportion to the outputs" in out.attrs["status_report"]
