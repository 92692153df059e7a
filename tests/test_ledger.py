"""The ledger: relevance in = relevance out + what was kept back, every entry counted on its own."""

from __future__ import annotations

import networks
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from xairt import attribute, explainer
from xairt.attribution.lrp import engine, methods
from xairt.errors import MethodError

pytestmark = pytest.mark.usefixtures("run_eagerly")

LRP = (
    "lrp.z",
    "lrp.epsilon(epsilon=0.1)",
    "lrp.epsilon(epsilon=0.01, bias=False)",
    "lrp.gamma",
    "lrp.alpha_1_beta_0",
    "lrp.alpha_2_beta_1",
    "lrp.alpha_2_beta_1_IB",
    'lrp.alpha_beta(alpha=2, beta=1, bias="innvestigate")',
    "lrp.z_plus_fast",
    "lrp.w_square",
    "lrp.flat",
    "lrp.sequential_preset_a_flat",
    "lrp.alpha_1_beta_0(input_layer_rule=Bounded)",
)


def scale(out) -> np.ndarray:
    """Return what rounding is measured against: the sum of all amounts that were booked."""
    entries = [abs(out[name].values) for name in engine.LEDGER]
    axes = tuple(out.attribution.dims[1:])
    return abs(out.attribution).sum(axes).values + abs(out.prediction.values) + sum(entries)


def books_balance(out, tolerance: float = 1e-4) -> np.ndarray:
    """Return per sample whether sum R + absorbed + lost = f within the tolerance."""
    axes = tuple(out.attribution.dims[1:])
    total = out.attribution.sum(axes) + sum(out[name] for name in engine.LEDGER)
    return abs(total - out.prediction).values <= tolerance * scale(out)


@st.composite
def random_network(draw) -> tuple:
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    n_inputs, n_outputs = draw(st.integers(1, 8)), draw(st.integers(1, 3))
    end = draw(st.sampled_from([None, "softmax"]))
    bias = draw(st.sampled_from([0.0, 0.5, 3.0]))
    return n_inputs, sizes, n_outputs, end, draw(st.integers(0, 10_000)), bias


@settings(max_examples=30, deadline=None)
@given(network=random_network(), method=st.sampled_from(LRP), seed=st.integers(0, 100))
def test_books_balance_on_random_networks(network, method, seed):
    n_inputs, sizes, n_outputs, end, weights_seed, bias = network
    hidden = [tf.keras.layers.Dense(size, "relu") for size in sizes]
    layers = [tf.keras.layers.InputLayer(n_inputs), *hidden, tf.keras.layers.Dense(n_outputs, end)]
    model = networks.randomised(tf.keras.Sequential(layers), weights_seed, bias)
    x = networks.samples(model, 6, seed)
    assert books_balance(attribute(model, x, method, target=0)).all()
    exact = attribute(model, x, method, target=0, dtype="float64")
    total = exact.attribution.sum("feature") + sum(exact[name] for name in engine.LEDGER)
    np.testing.assert_allclose(total, exact.prediction, rtol=1e-4, atol=1e-9 * scale(exact).max())


@pytest.mark.parametrize("method", LRP)
@pytest.mark.parametrize("network", [networks.cnn, networks.branched])
def test_books_balance_on_convolutions_and_branches(method, network):
    model = network()
    out = attribute(model, networks.samples(model, 6), method)
    assert books_balance(out).all()
    np.testing.assert_array_less(abs(out.completeness_gap.values), 1e-4 * scale(out))


@pytest.mark.parametrize("broken", ["absorbed_by_bias", "lost_to_empty_pot", "relevance"])
def test_a_broken_rule_is_noticed(broken, monkeypatch):
    model = networks.mlp()
    original = engine.RelevancePass._divide

    def wrong(self, *arguments):
        per_unit, entries = original(self, *arguments)
        if broken == "relevance":
            return per_unit * 1.01, entries
        return per_unit, entries | {broken: entries[broken] + 0.05}

    monkeypatch.setattr(engine.RelevancePass, "_divide", wrong)
    out = explainer(model, "lrp.alpha_2_beta_1")(networks.samples(model))
    assert not books_balance(out).all()
    assert (abs(out.completeness_gap) > 1e-3).any() or broken != "relevance"


def test_cancelling_branches_are_booked():
    x = tf.keras.Input(2)
    branch = tf.keras.layers.Dense(1, use_bias=False)
    other = tf.keras.layers.Dense(1, use_bias=False)
    model = tf.keras.Model(x, tf.keras.layers.Dense(1)(tf.keras.layers.Add()([branch(x), other(x)])))
    model.set_weights([np.array(w) for w in ([[1.0], [0.0]], [[-1.0], [0.0]], [[2.0]], [3.0])])
    out = attribute(model, np.array([[1.0, 5.0]]), 'lrp.alpha_beta(bias="ignore")')
    assert out.prediction.item() == 3
    assert out.lost_to_empty_pot.item() == 3  # 2 * 0 arrives at nothing, and Add has nothing to share over
    ledger = explainer(model, "lrp.flat").ledger(np.array([[1.0, 5.0]]))
    added = ledger.isel(layer=list(ledger.layer.values).index(model.layers[-2].name))
    assert added.relevance_in.item() == added.lost_to_empty_pot.item() == 3


def test_an_empty_pot_behind_a_positive_output_is_booked():
    # z = (-1)(-1) = 1 is positive, but the sum of a w+ is 0
    layers = [
        tf.keras.layers.InputLayer(1),
        tf.keras.layers.Dense(1, "relu", use_bias=False),
        tf.keras.layers.Dense(1, use_bias=False),
    ]
    model = tf.keras.Sequential(layers)
    model.set_weights([np.array([[-1.0]]), np.array([[2.0]])])
    out = attribute(model, np.array([[-1.0]]), "lrp.z_plus_fast")
    assert out.prediction.item() == out.lost_to_empty_pot.item() == 2
    assert out.attribution.item() == 0


@pytest.mark.parametrize("method", ["lrp.z", "lrp.epsilon", "lrp.alpha_1_beta_0"])
def test_an_output_of_zero_shares_nothing(method):
    model = tf.keras.Sequential([tf.keras.layers.InputLayer(2), tf.keras.layers.Dense(1)])
    model.set_weights([np.array([[1.0], [-1.0]]), np.array([0.5])])
    out = attribute(model, np.array([[1.0, 1.5]]), method)
    assert out.prediction.item() == 0
    np.testing.assert_array_equal(out.attribution, [[0, 0]])


def test_stabiliser_of_a_denominator_of_zero_is_positive():
    # sign(0) = +1: z = 1 - 1 = 0, so each input gets +-1 / epsilon * R; R is 3 from the bias behind it
    layers = [
        tf.keras.layers.InputLayer(2),
        tf.keras.layers.Dense(1, use_bias=False),
        tf.keras.layers.Dense(1),
    ]
    model = tf.keras.Sequential(layers)
    model.set_weights([np.array([[1.0], [-1.0]]), np.array([[1.0]]), np.array([3.0])])
    epsilon = 0.5
    out = attribute(
        model, np.ones((1, 2)), f"lrp.epsilon(epsilon={epsilon}, bias=False, input_layer_rule=None)"
    )
    # at the output z without bias is 0 too: nothing but the stabiliser takes the relevance
    np.testing.assert_allclose(out.attribution.values, [[0, 0]])
    assert out.lost_to_stabiliser.item() == 3
    kept = attribute(model, np.array([[1.0, 0.5]]), f"lrp.epsilon(epsilon={epsilon}, bias=False)")
    z = 0.5
    arriving = 3.5 * z / (z + epsilon)
    np.testing.assert_allclose(
        kept.attribution.values, [[arriving / (z + epsilon), -0.5 * arriving / (z + epsilon)]]
    )


def test_zero_denominator_shares_with_positive_sign():
    layers = [
        tf.keras.layers.InputLayer(2),
        tf.keras.layers.Dense(2, use_bias=False),
        tf.keras.layers.Dense(1),
    ]
    model = tf.keras.Sequential(layers)
    # both hidden units see 1 - 1 = 0; w-square at the output hands each of them half of f = 4
    model.set_weights([np.array([[1.0, 1.0], [-1.0, -1.0]]), np.array([[1.0], [1.0]]), np.array([4.0])])
    from xairt.attribution.lrp import rules

    def composite(p):
        return rules.Composite(rules.w_square(), (rules.Choice(rules.epsilon(0.5, "ignore"), layer="first"),))

    from xairt.attribution.blocks import Block, Setting
    from xairt.attribution.network import Network
    from xairt.attribution.targets import Target

    network = Network.of(model)
    setting = Setting(network, Target.of(None, network), np.zeros((1, 2)), "float64", np.indices((2,)))
    explain = methods.with_ledger(setting, methods.LRPParameters(), composite)
    block = Block.of(setting, tf.ones((1, 2), tf.float64), tf.zeros(1, tf.int32))
    np.testing.assert_allclose(explain(block)[0].attribution.numpy(), [[8.0, -8.0]])


@pytest.mark.parametrize("method", ["lrp.z", "lrp.alpha_2_beta_1", "lrp.flat"])
def test_every_layer_balances(method):
    model = networks.cnn()
    ledger = explainer(model, method, dtype="float64").ledger(networks.samples(model))
    kept = sum(ledger[name] for name in engine.LEDGER)
    np.testing.assert_allclose(ledger.relevance_in, ledger.relevance_out + kept, atol=1e-9)
    assert list(ledger.layer.values) == [
        layer.name for layer in reversed(model.layers) if layer.weights or "average" in layer.name
    ]


def test_layers_hand_over_what_they_received():
    model = networks.mlp()
    ledger = explainer(model, "lrp.alpha_1_beta_0", dtype="float64").ledger(networks.samples(model))
    np.testing.assert_allclose(ledger.relevance_out[:-1].values, ledger.relevance_in[1:].values, atol=1e-9)


def test_empty_pot_is_booked():
    model = tf.keras.Sequential([tf.keras.layers.InputLayer(2), tf.keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[-1.0], [-2.0]])])
    out = attribute(model, np.ones((1, 2)), "lrp.alpha_1_beta_0")
    assert out.prediction.item() == -3
    assert out.lost_to_empty_pot.item() == -3
    np.testing.assert_array_equal(out.attribution.values, [[0, 0]])


def test_only_lrp_keeps_a_ledger():
    with pytest.raises(MethodError, match="gradient keeps no ledger: only the lrp methods do"):
        explainer(networks.mlp(), "gradient").ledger(np.zeros((1, 7)))
