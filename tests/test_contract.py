"""One table over all methods: what every attribution promises, whatever the method.

The functions run compiled here, as users run them.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import random

import networks
import numpy as np
import pytest
import tensorflow as tf

import xairt
from xairt.attribution.engines import PEERS
from xairt.attribution.lrp.engine import LEDGER
from xairt.attribution.registry import ALIASES, METHODS, NOTHING
from xairt.errors import XairtError

EXACT = 2e-5
"""Largest completeness gap of a method without a discretisation, relative to what was summed."""

CONTRACT = {
    "gradient": ({}, None),
    "saliency": ({}, None),
    "input_t_gradient": ({}, None),
    "integrated_gradients": ({"steps": 50, "quadrature": "gauss_legendre"}, 2e-2),
    "smoothgrad": ({"augment_by_n": 5}, None),
    "deconvnet": ({}, None),
    "guided_backprop": ({}, None),
    "grad_cam": ({}, None),
    "occlusion": ({}, None),
    "feature_ablation": ({"value": 0.5}, None),
    "deeplift.rescale": ({}, EXACT),
    "deeplift.reveal_cancel": ({}, EXACT),
    "shap.deep": ({}, EXACT),
    "shap.gradient": ({"nsamples": 400}, 2e-2),
    "shap.kernel": ({"nsamples": 600}, EXACT),
    "random": ({}, None),
    "edge": ({}, None),
    "input": ({}, None),
    "deep_taylor": ({}, EXACT),
    "deep_taylor.bounded": ({"low": -5, "high": 5}, EXACT),
    "lrp.gamma": ({"gamma": 0.5}, EXACT),
    "lrp.z": ({}, EXACT),
    "lrp.epsilon": ({"epsilon": 0.1}, EXACT),
    "lrp.alpha_beta": ({"alpha": 3, "beta": 2}, EXACT),
    "lrp.alpha_1_beta_0": ({}, EXACT),
    "lrp.alpha_1_beta_0_IB": ({"input_layer_rule": "Bounded(low=-5, high=5)"}, EXACT),
    "lrp.alpha_2_beta_1": ({}, EXACT),
    "lrp.alpha_2_beta_1_IB": ({}, EXACT),
    "lrp.z_plus": ({}, EXACT),
    "lrp.z_plus_fast": ({}, EXACT),
    "lrp.w_square": ({}, EXACT),
    "lrp.flat": ({}, EXACT),
    "lrp.composite": (
        {
            "rules": [
                {"layer": "first", "rule": "gamma(gamma=0.5, bias=canonical)"},
                {"index": -1, "rule": "epsilon(epsilon=0.1, bias=canonical)"},
            ],
            "default": "alpha_beta(alpha=2, beta=1, bias=ignore)",
        },
        EXACT,
    ),
    "lrp.sequential_preset_a": ({}, EXACT),
    "lrp.sequential_preset_b": ({}, EXACT),
    "lrp.sequential_preset_a_flat": ({}, EXACT),
    "lrp.sequential_preset_b_flat": ({}, EXACT),
    "lime": ({"nsamples": 60}, None),
}
"""Method or alias: the parameters it is tested with, and the largest gap (None: its sum promises nothing)."""

MODELS = {"mlp": functools.partial(networks.mlp, end="softmax"), "cnn": networks.cnn}
DIMS = {"mlp": ("sample", "feature"), "cnn": ("sample", "y", "x", "channel")}
N, BLOCK = 11, 4

NEEDS_ROWS_AND_COLUMNS = ("grad_cam", "edge")
FIXED_BY_X = ("random", "edge", "input")


def home(method: str) -> str:
    """Return the network that a method is tested on where one suffices."""
    return "cnn" if method in NEEDS_ROWS_AND_COLUMNS else "mlp"


def row(method: str, *more: str):
    """Return the parameters of a test, which is skipped where the method's package is missing."""
    missing = method == "lime" and importlib.util.find_spec("lime") is None
    return pytest.param(
        method, *more, marks=pytest.mark.skipif(missing, reason="the extra [lime] is not installed")
    )


NATIVE = [method for method in CONTRACT if method != "lime"]
each_method = pytest.mark.parametrize("method", map(row, CONTRACT))
each_native_method = pytest.mark.parametrize("method", NATIVE)
each_case = pytest.mark.parametrize(
    ("method", "network"), [row(m, n) for m in CONTRACT for n in MODELS if n == "cnn" or home(m) == "mlp"]
)


@functools.cache
def model_of(network: str) -> tf.keras.Model:
    model = MODELS[network]()
    model.compile("adam", "mse")
    model.layers[0].trainable = False
    model.train_on_batch(networks.samples(model), np.zeros((5, 3)))
    return model


@functools.cache
def explainer_of(method: str, network: str, dtype: str = "float32"):
    return xairt.explainer(model_of(network), method, dtype=dtype, batch_size=BLOCK, **CONTRACT[method][0])


def x_of(network: str) -> np.ndarray:
    return networks.samples(model_of(network), N)


@functools.cache
def result_of(method: str, network: str):
    return explainer_of(method, network)(x_of(network), seed=3)


def canonical(method: str) -> str:
    return ALIASES.get(method, (method,))[0]


def test_table_and_registry_list_the_same_names():
    native = {name for name, method in METHODS.items() if method.build is not None}
    aliases = {alias for alias, (name, _) in ALIASES.items() if name in native}
    assert set(NATIVE) == native | aliases
    of_worker = {name for name in PEERS if PEERS[name].has_worker}
    assert set(CONTRACT) - set(NATIVE) == {
        m for m in set(METHODS) - native if not of_worker & set(METHODS[m].engines)
    }
    table = xairt.methods()
    assert list(table.index) == list(METHODS)
    listed = [alias for row in table.aliases for alias in row.split(", ") if alias]
    assert sorted(listed) == sorted(ALIASES)
    assert set(table.index[table.engines.str.contains("native")]) == native


@each_case
def test_result_is_labelled_like_the_samples(method, network):
    out, x = result_of(method, network), x_of(network)
    assert out.attribution.shape == x.shape
    assert out.attribution.dims == DIMS[network]
    assert out.attribution.dtype == out.prediction.dtype == out.completeness_gap.dtype == np.float32
    assert np.isfinite(out.attribution).all()
    assert (abs(out.attribution).sum(DIMS[network][1:]) > 0).any()
    assert out.prediction.dims == out.target.dims == out.completeness_gap.dims == ("sample",)
    assert set(LEDGER) & set(out.data_vars) == (
        set(LEDGER) if canonical(method).startswith(("lrp.", "deep_taylor")) else set()
    )
    identity = json.loads(out.attrs["identities"])[out.attrs["method"]]
    assert identity["method"] == canonical(method)
    assert {
        k: v
        for k, v in identity["parameters"].items()
        if k in CONTRACT[method][0] and k != "input_layer_rule"
    } == {k: v for k, v in CONTRACT[method][0].items() if k != "input_layer_rule"}


@each_case
def test_prediction_is_the_largest_logit(method, network):
    out, model = result_of(method, network), model_of(network)
    logits = model(x_of(network), training=False).numpy()
    logits = np.log(logits) if network == "mlp" else logits
    np.testing.assert_array_equal(out.target, logits.argmax(axis=1))
    if network == "cnn":
        np.testing.assert_allclose(out.prediction, logits.max(axis=1), rtol=1e-5, atol=1e-6)


@each_method
def test_signs_are_as_registered(method):
    values = result_of(method, home(method)).attribution.values.reshape(N, -1)
    unsigned = not METHODS[canonical(method)].signed
    one_sign_per_sample = method == "lrp.w_square" or method.endswith("flat")
    if unsigned:
        assert (values >= 0).all()
    elif one_sign_per_sample:
        assert (np.sign(values) == np.sign(values[:, :1])).all()
    else:
        assert (values < 0).any()


@each_case
def test_same_call_gives_the_same_bits(method, network):
    again = explainer_of(method, network)(x_of(network), seed=3)
    assert again.identical(result_of(method, network))


@each_case
def test_numbers_do_not_depend_on_how_many_are_asked_for(method, network):
    explain, x, whole = explainer_of(method, network), x_of(network), result_of(method, network)
    first = explain(x[:3], seed=3)
    one = explain(x[7:8], seed=3, sample_index=[7])
    last = explain(x[N - 2 :], seed=3, sample_index=[N - 2, N - 1])
    for name in whole.data_vars:
        np.testing.assert_array_equal(first[name], whole[name][:3])
        np.testing.assert_array_equal(one[name], whole[name][7:8])
        np.testing.assert_array_equal(last[name], whole[name][N - 2 :])


@each_case
def test_gap_is_nan_exactly_where_nothing_is_promised(method, network):
    out, tolerance = result_of(method, network), CONTRACT[method][1]
    promises = METHODS[canonical(method)].promise != NOTHING
    assert promises == (tolerance is not None)
    if not promises:
        assert np.isnan(out.completeness_gap).all()
        return
    kept = sum((abs(out[name]) for name in LEDGER if name in out), 0)
    summed = abs(out.attribution).sum(DIMS[network][1:]) + abs(out.prediction) + kept
    np.testing.assert_array_less(abs(out.completeness_gap), tolerance * summed)


@each_native_method
@pytest.mark.usefixtures("run_eagerly_here")
def test_float64_agrees_with_float32(method):
    network = home(method)
    single = result_of(method, network)
    double = explainer_of(method, network, "float64")(x_of(network), seed=3)
    assert double.attribution.dtype == double.prediction.dtype == np.float64
    size = abs(double.attribution).max(DIMS[network][1:]) + abs(double.prediction)
    assert (abs(single.attribution - double.attribution) <= 1e-4 * size).all()
    assert (single.attribution.values != double.attribution.values).any() or method in FIXED_BY_X


@pytest.fixture
def run_eagerly_here():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def drawn() -> list:
    """Return what the global random generators give next."""
    layer = tf.keras.layers.Dense(3)
    layer.build((None, 4))
    return [
        random.random(),
        *np.random.random(3),  # noqa: NPY002 - the global generator is what is watched
        *tf.random.normal((3,)).numpy(),
        *layer.kernel.numpy().ravel(),
    ]


def state_of(model: tf.keras.Model) -> tuple:
    variables = [v.numpy().tobytes() for v in [*model.weights, *model.optimizer.variables]]
    return (
        variables,
        model.get_config(),
        [layer.trainable for layer in model.layers],
        model.optimizer,
        model.loss,
    )


@each_method
def test_the_users_objects_stay_untouched(method):
    model, x = model_of(home(method)), x_of(home(method))
    before, copy = state_of(model), x.copy()
    x.setflags(write=False)
    tf.keras.utils.set_random_seed(5)
    wanted = drawn()
    tf.keras.utils.set_random_seed(5)
    explain = xairt.explainer(model, method, batch_size=BLOCK, **CONTRACT[method][0])
    explain(x)
    with pytest.raises(XairtError, match=rf"x holds {x[0].size} NaNs, the first at index"):
        explain(np.full_like(x[:1], np.nan))
    with pytest.raises(XairtError, match="target 3 is out of range"):
        xairt.explainer(model, method, target=3, **CONTRACT[method][0])
    assert drawn() == wanted
    assert state_of(model) == before
    np.testing.assert_array_equal(x, copy)
    assert tf.executing_eagerly()
    assert not tf.config.functions_run_eagerly()
    assert tf.keras.backend.floatx() == "float32"


@each_case
@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinite value")])
def test_values_that_are_not_finite_are_refused(method, network, value, kind):
    x = x_of(network)
    x[5].flat[-1] = value
    place = ", ".join(map(str, (5, *(size - 1 for size in x.shape[1:]))))
    with pytest.raises(
        XairtError, match=rf"x holds 1 {kind}, the first at index \({place}\): fill or remove"
    ):
        explainer_of(method, network)(x)


@pytest.mark.parametrize("method", ["gradient", "occlusion", "lrp.alpha_2_beta_1"])
def test_weights_are_those_of_the_moment_the_explainer_was_made(method):
    model = networks.mlp()
    explain = xairt.explainer(model, method, batch_size=BLOCK, **CONTRACT[method][0])
    before = explain(networks.samples(model, 3))
    model.set_weights([0 * w for w in model.get_weights()])
    assert explain(networks.samples(model, 3)).identical(before)
