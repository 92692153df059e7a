"""Rules given layer by layer: what they equal, which layer gets which, and the table that tells."""

from __future__ import annotations

import naive
import networks
import numpy as np
import pytest
import tensorflow as tf
from conftest import GOLDEN

import xairt
from xairt import attribute, explainer
from xairt.attribution.lrp.composites import read_rule
from xairt.attribution.registry import METHODS, resolve
from xairt.errors import MethodError, UnsupportedLayerError

L = tf.keras.layers

pytestmark = pytest.mark.usefixtures("run_eagerly")


def composite(model, x, *entries, **options):
    return attribute(model, x, "lrp.composite", rules=list(entries), dtype="float64", **options)


def entry(rule: str, **conditions) -> dict:
    return {**conditions, "rule": rule}


# ------------------------------------------------------------------------------------- what it equals

EQUALS = {
    "lrp.z": ([], {}),
    "lrp.epsilon(epsilon=0.3)": ([], {"default": "epsilon(epsilon=0.3)"}),
    "lrp.alpha_2_beta_1": ([entry("alpha_2_beta_1", name="*")], {}),
    'lrp.alpha_2_beta_1(input_layer_rule="Bounded(low=-3, high=4)")': (
        [entry("bounded(low=-3, high=4)", layer="first")],
        {"default": "alpha_beta(alpha=2, beta=1)"},
    ),
    "lrp.gamma(gamma=0.4)": ([entry("gamma(gamma=0.4)", index=":")], {}),
    "lrp.z_plus": ([], {"default": "z_plus"}),
    "lrp.sequential_preset_a": (
        [entry("alpha_1_beta_0", layer="convolution")],
        {"default": "epsilon(epsilon=0.1)"},
    ),
    "lrp.sequential_preset_b": (
        [entry("alpha_2_beta_1", layer="convolution"), entry("epsilon(epsilon=0.1)", layer="dense")],
        {},
    ),
    "lrp.sequential_preset_a_flat": (
        [entry("flat", index=0), entry("alpha_1_beta_0", name="conv*")],
        {"default": "epsilon(epsilon=0.1)"},
    ),
    "deep_taylor": ([entry("flat", layer="pooling")], {"default": "alpha_1_beta_0_IB"}),
}


@pytest.mark.parametrize("method", EQUALS)
@pytest.mark.parametrize("network", [networks.mlp, networks.cnn])
@pytest.mark.parametrize("convention", [None, "innvestigate"])
def test_composite_equals_the_method_that_it_describes(method, network, convention):
    model = network()
    entries, options = EQUALS[method]
    entries = [
        e for e in entries if network is networks.cnn or e.get("layer") not in ("convolution", "pooling")
    ]
    entries = [e for e in entries if network is networks.cnn or e.get("name") != "conv*"]
    x = networks.samples(model)
    followed = convention if convention in resolve(method).method.conventions else None
    want = attribute(model, x, method, dtype="float64", convention=followed)
    explained = want.prediction.values > (0 if method == "deep_taylor" else -np.inf)  # it starts from relu(f)
    got = composite(model, x, *entries, convention=followed, **options)
    assert abs(want.attribution.values[explained]).max() > 0
    np.testing.assert_array_equal(got.attribution.values[explained], want.attribution.values[explained])


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize(
    ("preset", "convolution"),
    [
        ("a", "alpha_1_beta_0"),
        ("b", "alpha_2_beta_1"),
        ("a_flat", "alpha_1_beta_0"),
        ("b_flat", "alpha_2_beta_1"),
    ],
)
def test_golden_presets_as_composites(network, preset, convolution):
    model = xairt.load_model(GOLDEN / f"{network}_keras224.h5")
    entries = [entry("flat", layer="first")] if preset.endswith("flat") else []
    entries += [entry(convolution, layer="convolution")] if network == "cnn" else []
    with np.load(GOLDEN / f"innvestigate109_{network}.npz") as archive:
        x, want = archive["x"], archive[f"lrp.sequential_preset_{preset}|target=max"]
    out = attribute(
        model, x, "lrp.composite", rules=entries, default="epsilon(epsilon=0.1)", convention="innvestigate"
    )
    assert np.abs(out.attribution.values - want).max() <= 1e-5 * np.abs(want).max()


def lrp_by_layer(layers, x, target, by_layer, pooling):
    """Return the relevance of one flattened sample, each linear layer with a rule of its own."""
    values = naive.forward(layers, x)
    relevance = np.zeros_like(values[-1])
    relevance[target] = values[-1][target]
    remaining = list(by_layer)
    for layer, a, z in zip(reversed(layers), reversed(values[:-1]), reversed(values[1:]), strict=True):
        if isinstance(layer, naive.Max):
            back = np.zeros_like(a)
            for j, window in enumerate(layer.windows):
                back[window[int(np.argmax(a[window]))]] += relevance[j]
            relevance = back
        elif isinstance(layer, naive.Matrix):
            chosen = pooling if layer.pooling else remaining.pop()
            relevance = naive.dense_rule(chosen, a, layer.weights, layer.bias, z, relevance)
    assert not remaining
    return relevance


MLP_RULES = (
    [
        entry("bounded(low=-4, high=5)", layer="first"),
        entry("gamma(gamma=0.7, bias=ignore)", index=1),
        entry("epsilon(epsilon=0.2)", layer="last"),
    ],
    [("bounded", -4, 5), ("gamma", 0.7, "ignore"), ("epsilon", 0.2, "canonical")],
    None,
)
CNN_RULES = (
    [
        entry("w_square", index=0),
        entry("alpha_beta(alpha=3, beta=2)", layer="convolution"),
        entry("alpha_beta(alpha=2, beta=1, bias=innvestigate)", index="2:3"),
        entry("flat", layer="pooling"),
    ],
    [
        ("w_square",),
        ("alpha_beta", 3, 2, "canonical"),
        ("alpha_beta", 2, 1, "innvestigate"),
        ("z", "canonical"),
    ],
    ("flat",),
)


@pytest.mark.parametrize(("network", "given"), [(networks.mlp, MLP_RULES), (networks.cnn, CNN_RULES)])
def test_each_layer_gets_the_formula_of_its_rule(network, given):
    model = network()
    x, (entries, by_layer, pooling) = networks.samples(model), given
    got = composite(model, x, *entries, target=1).attribution.values.reshape(len(x), -1)
    layers = naive.read_layers(model)
    want = [lrp_by_layer(layers, v.astype(float).ravel(), 1, by_layer, pooling) for v in x]
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("bias", ["canonical", "ignore"])
@pytest.mark.parametrize("gamma", [0.0, 0.25, 3.0])
def test_gamma_of_inputs_of_either_sign_by_its_modified_weights(bias, gamma):
    rng = np.random.default_rng(4)
    w, b, x = rng.normal(size=(6, 9)), rng.normal(size=9), rng.normal(size=(20, 6))
    model = tf.keras.Sequential([L.InputLayer(6), L.Dense(9)])
    model.set_weights([w, b])
    w, b = (v.astype(np.float32).astype(float) for v in (w, b))  # as the model stores them
    held = 0 * b if bias == "ignore" else b
    plus, minus = np.maximum, np.minimum
    signs = set()
    for target in range(9):
        z = x @ w[:, target] + held[target]
        signs |= set(np.sign(z))
        want = []
        for a, total in zip(x, z, strict=True):
            same, other = (plus, minus) if total > 0 else (minus, plus)
            column = w[:, target]
            share = plus(a, 0) * (column + gamma * same(column, 0))
            share = share + minus(a, 0) * (column + gamma * other(column, 0))
            kept = held[target] + gamma * same(held[target], 0)
            want.append(share / (share.sum() + kept) * (a @ column + b[target]))
        out = attribute(model, x, "lrp.gamma", gamma=gamma, bias=bias, target=target, dtype="float64")
        np.testing.assert_allclose(out.attribution.values, want, rtol=1e-9, atol=1e-12)
    assert signs == {-1.0, 1.0}


# ------------------------------------------------------------------------------------- which layer

FIRST_OF_TWO = [entry("epsilon(epsilon=1)", layer="dense"), entry("epsilon(epsilon=2)", index=0)]


def by_layer(model, *entries, **options) -> list[str]:
    return list(explainer(model, "lrp.composite", rules=list(entries), **options).rules().rule)


def test_the_first_entry_that_matches_wins():
    model = networks.mlp()
    one, two = "epsilon(epsilon=1, bias=canonical)", "epsilon(epsilon=2, bias=canonical)"
    assert by_layer(model, *FIRST_OF_TWO) == [one, one, one]
    assert by_layer(model, *reversed(FIRST_OF_TWO)) == [two, one, one]
    x = networks.samples(model)
    assert (
        composite(model, x, *FIRST_OF_TWO).attribution
        != composite(model, x, *reversed(FIRST_OF_TWO)).attribution
    ).any()


def test_conditions_of_one_entry_combine():
    rules_of_layers = by_layer(networks.cnn(), entry("flat", layer="convolution", index=-3))
    assert rules_of_layers.count("flat") == 1
    assert rules_of_layers[2] == "flat"


def test_input_layer_rule_goes_before_all_entries():
    assert by_layer(networks.mlp(), entry("flat", name="*"), input_layer_rule="WSquare") == [
        "w_square",
        "flat",
        "flat",
    ]


@pytest.mark.parametrize(
    ("index", "places"),
    [
        (0, [0]),
        (-1, [3]),
        ([0, -2], [0, 2]),
        ("1:3", [1, 2]),
        ("::2", [0, 2]),
        ("-2:", [2, 3]),
        ("2:99", [2, 3]),
    ],
)
def test_positions_count_dense_and_convolution_layers(index, places):
    table = explainer(networks.cnn(), "lrp.composite", rules=[entry("flat", index=index)]).rules()
    weighted = table[table.kind.isin(["dense", "convolution"])]
    assert np.flatnonzero(weighted.rule == "flat").tolist() == places


@pytest.mark.parametrize(
    ("place", "chosen"), [("first", ["conv_a"]), ("last", ["out_a", "out_b"]), ("pooling", ["mean"])]
)
def test_places_in_a_branched_network(place, chosen):
    x = tf.keras.Input((6, 6, 2))
    a = L.Conv2D(4, 3, name="conv_a", activation="relu")(x)
    merged = L.Concatenate()([L.GlobalAveragePooling2D(name="mean")(a), L.GlobalMaxPooling2D()(a)])
    hidden = L.Dense(5, "relu", name="hidden")(merged)
    model = tf.keras.Model(x, L.Add()([L.Dense(2, name="out_a")(hidden), L.Dense(2, name="out_b")(hidden)]))
    table = explainer(model, "lrp.composite", rules=[entry("flat", layer=place)]).rules()
    assert table.layer[table.rule == "flat"].tolist() == chosen


def test_names_are_patterns_and_case_counts():
    model = tf.keras.Sequential(
        [
            L.InputLayer(3),
            L.Dense(3, "relu", name="block1_a"),
            L.Dense(3, "relu", name="Block1_b"),
            L.Dense(2),
        ]
    )
    table = explainer(model, "lrp.composite", rules=[entry("flat", name="block?_*")]).rules()
    assert table.layer[table.rule == "flat"].tolist() == ["block1_a"]


def unfolded() -> tf.keras.Model:
    layers = [
        L.InputLayer(5),
        L.Dense(6, "relu", name="a"),
        L.Dropout(0.1),
        L.BatchNormalization(name="bn"),
        L.ReLU(),
        L.Dense(2, name="b"),
    ]
    return networks.randomised(tf.keras.Sequential(layers))


@pytest.mark.parametrize(
    ("entries", "rule"),
    [
        ([], "epsilon(epsilon=0.5, bias=canonical)"),
        ([entry("alpha_2_beta_1_IB", name="bn")], "alpha_beta(alpha=2, beta=1, bias=canonical)"),
        (
            [entry("alpha_2_beta_1_IB", layer="batch_normalization")],
            "alpha_beta(alpha=2, beta=1, bias=ignore)",
        ),
        (
            [entry("alpha_2_beta_1", layer="batch_normalization")],
            "alpha_beta(alpha=2, beta=1, bias=canonical)",
        ),
    ],
)
def test_unfolded_batch_normalisation_keeps_canonical_bias_unless_it_is_named(entries, rule):
    options = {"default": "epsilon(epsilon=0.5, bias=ignore)", "bias": "innvestigate"}
    table = explainer(unfolded(), "lrp.composite", rules=entries, **options).rules().set_index("layer")
    assert table.kind["bn"] == "batch_normalization"
    assert table.rule["bn"] == rule
    assert table.rule["a"] == "epsilon(epsilon=0.5, bias=ignore)"


# ------------------------------------------------------------------------------------- the table


def test_table_of_rules_tells_every_layer():
    table = explainer(networks.cnn(), "lrp.sequential_preset_a_flat", convention="innvestigate").rules()
    names = ["conv2d", "max_pooling2d", "conv2d", "average_pooling2d", "dense", "dense"]
    assert [name.rstrip("_0123456789") for name in table.layer] == [n.rstrip("_0123456789") for n in names]
    assert table.kind.tolist() == ["convolution", "max_pooling", "convolution", "pooling", "dense", "dense"]
    assert table["shape"].tolist() == [(5, 8, 4), (3, 4, 4), (3, 4, 5), (3, 4, 5), (6,), (3,)]
    dense = "epsilon(epsilon=0.1, bias=innvestigate)"
    assert table.rule.tolist() == [
        *("flat", "winner takes all", "alpha_beta(alpha=1, beta=0, bias=innvestigate)"),
        *("z(bias=ignore)", dense, dense),
    ]


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m.startswith(("lrp.", "deep_taylor")) and METHODS[m].build]
)
def test_every_lrp_method_tells_its_rules(method):
    table = explainer(networks.branched(), method).rules()
    assert (table.kind == "add").sum() == 1
    served = table[~table.kind.isin(["add", "max_pooling"])]
    assert len(served) == 5
    for text in served.rule:
        assert str(read_rule(text)) == text


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_other_methods_have_no_rules(method):
    with pytest.raises(MethodError, match=f"{method} puts no rules on layers: only the native lrp methods"):
        explainer(networks.mlp(), method).rules()


def test_table_refuses_what_the_method_refuses():
    model = networks.randomised(
        tf.keras.Sequential([L.InputLayer(3), L.Dense(2, "tanh", name="bent"), L.Dense(1)])
    )
    from xairt.attribution.lrp.methods import rules_of
    from xairt.attribution.network import Network

    call = resolve("lrp.z")
    with pytest.raises(UnsupportedLayerError, match="layer 'bent' has the activation 'tanh'"):
        rules_of(Network.of(model), call.label, call.method.build, call.parameters)
