"""DeepLIFT against its definition written out in float64 numpy, and against the original package's numbers."""

from __future__ import annotations

from functools import cache

import naive
import networks
import numpy as np
import pytest
import tensorflow as tf
from conftest import GOLDEN
from graphs import chain, functional
from scipy.special import erf, expit

import xairt
from xairt import attribute, explainer
from xairt.attribution import deeplift
from xairt.data import registry
from xairt.errors import MethodError, UnsupportedLayerError
from xairt.models.graph.convert import activation

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers
RULES = ("deeplift.rescale", "deeplift.reveal_cancel")

FUNCTIONS = {
    "relu": lambda z: np.maximum(z, 0),
    "tanh": np.tanh,
    "sigmoid": expit,
    "softplus": lambda z: np.logaddexp(0, z),
    "gelu": lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
    "swish": lambda z: z * expit(z),
    "mish": lambda z: z * np.tanh(np.logaddexp(0, z)),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "selu": lambda z: (
        1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(np.minimum(z, 0)))
    ),
    "exponential": np.exp,
    "softsign": lambda z: z / (1 + np.abs(z)),
    "hard_sigmoid": lambda z: np.clip(0.2 * z + 0.5, 0, 1),
}


# ------------------------------------------------------------------------------- naive definition


def quotient(g, start, end):
    """Return (g(end) - g(start)) / (end - start) of float64 numbers that differ, and a derivative else."""
    step = end - start
    same = np.abs(step) < 1e-9
    here = (g(end + 1e-6) - g(end - 1e-6)) / 2e-6
    return np.where(same, here, (g(end) - g(start)) / np.where(same, 1, step))


def parts_of(differences, weights):
    """Return the positive and negative part of every output's difference: each contribution by its sign."""
    contributions = differences[:, None] * weights
    return np.maximum(contributions, 0).sum(0), np.minimum(contributions, 0).sum(0)


def reveal(g, start, up, down):
    """Return RevealCancel's multipliers of both parts, by the formulas of the paper (derivatives for 0)."""
    end = start + up + down
    rise = (g(start + up) - g(start) + g(end) - g(start + down)) / 2
    fall = (g(start + down) - g(start) + g(end) - g(start + up)) / 2
    both = (quotient(g, start, start) + quotient(g, end, end)) / 2
    plus = np.where(up > 1e-12, naive.divide(rise, up), both)
    minus = np.where(down < -1e-12, naive.divide(fall, down), both)
    return plus, minus


def through_weights(differences, weights, plus, minus):
    """Return the inputs' multipliers, element by element."""
    back = np.zeros(len(weights))
    for i, row in enumerate(weights):
        for j, w in enumerate(row):
            sign = w * differences[i]
            share = plus[j] if sign > 0 else minus[j] if sign < 0 else (plus[j] + minus[j]) / 2
            back[i] += w * share
    return back


def winner(window, now, before):
    """Return the cell that explains a maximum's difference."""
    if now[window].max() >= before[window].max():
        return window[int(np.argmax(now[window]))]
    tied = [cell for cell in window if before[cell] == before[window].max()]
    return tied[int(np.argmax(now[tied]))]


def contributions(layers, x, baseline, target, *, reveal_cancel, g=FUNCTIONS["relu"]):
    """Return the contributions of the inputs of a chain of layers (naive.read_layers)."""
    now, before = (forward(layers, v, g) for v in (x, baseline))
    plus = minus = np.eye(len(now[-1]))[target]
    for k in reversed(range(len(layers))):
        layer, end, start = layers[k], now[k], before[k]
        if isinstance(layer, naive.Matrix):
            plus = minus = through_weights(end - start, layer.weights, plus, minus)
        elif isinstance(layer, naive.Max):
            arriving, plus = plus, np.zeros_like(end)
            for j, window in enumerate(layer.windows):
                cell = winner(window, end, start)
                step, own = now[k + 1][j] - before[k + 1][j], end[cell] - start[cell]
                plus[cell] += arriving[j] * (1 if step == own else step / own)
            minus = plus
        elif reveal_cancel:
            differences = now[k - 1] - before[k - 1]
            rise, fall = reveal(g, start, *parts_of(differences, layers[k - 1].weights))
            plus, minus = plus * rise, minus * fall
        else:
            plus = minus = plus * quotient(g, start, end)
    return plus * (x - baseline)


def forward(layers, x, g):
    values = [x]
    for layer in layers:
        if isinstance(layer, naive.Matrix):
            values.append(values[-1] @ layer.weights + layer.bias)
        elif isinstance(layer, naive.Max):
            values.append(np.array([values[-1][w].max() for w in layer.windows]))
        else:
            values.append(g(values[-1]))
    return values


def dense_layers(model) -> list:
    layers = []
    for layer in model.layers:
        layers.append(naive.Matrix(*(w.astype(float) for w in layer.get_weights())))
        if layer is not model.layers[-1]:
            layers.append(naive.Relu())
    return layers


def check(model, layers, method, *, g=FUNCTIONS["relu"], n=3, shift=0.3, rtol=1e-9):
    x = networks.samples(model, n)
    baseline = shift * networks.samples(model, 1, seed=8)[0]
    out = attribute(model, x, method, target=1, baseline=baseline, dtype="float64")
    flat = x.reshape(n, -1).astype(float), baseline.reshape(-1).astype(float)
    want = [
        contributions(layers, v, flat[1], 1, reveal_cancel=method == "deeplift.reveal_cancel", g=g)
        for v in flat[0]
    ]
    got = out.attribution.values.reshape(n, -1)
    assert np.abs(got - want).max() <= rtol * np.abs(want).max()
    assert np.abs(out.completeness_gap).max() <= 1e-12 * np.abs(got).sum(axis=1).max()


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_dense_networks_equal_the_definition(method, name):
    sizes = (5, 9, 6, 3)
    layers = [L.Dense(n, name if n != 3 else None) for n in sizes[1:]]
    model = chain((sizes[0],), *layers, seed=3)
    check(model, dense_layers(model), method, g=FUNCTIONS[name], rtol=1e-7)


@pytest.mark.parametrize("method", RULES)
@pytest.mark.parametrize("make", [networks.cnn, networks.cnn_1d])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_convolutions_and_pooling_equal_the_definition(method, make, shift):
    model = make()
    check(model, naive.read_layers(model), method, shift=shift)


def residual() -> tf.keras.Model:
    """A sum of an activation and a linear layer under another activation, beside a concatenation."""

    def connect(x):
        a = L.Dense(6, "tanh")(x)
        y = L.ReLU()(L.Add()([L.Dense(6)(a), a]))
        return L.Dense(2)(L.Concatenate()([y, a]))

    return functional((5,), connect, seed=4)


@pytest.mark.parametrize("method", RULES)
def test_sums_and_concatenations_equal_the_definition(method):
    model = residual()
    (w1, b1), (w2, b2), (w3, b3) = (
        [w.astype(float) for w in layer.get_weights()] for layer in model.layers if layer.weights
    )
    x, baseline = networks.samples(model, 4).astype(float), np.full(5, 0.2)

    def values(v):
        z = v @ w1 + b1
        a = np.tanh(z)
        s = a @ w2 + b2 + a
        return z, a, s, np.concatenate([np.maximum(s, 0), a]) @ w3 + b3

    def explained(sample):
        (z, a, s, _), (z0, a0, s0, _) = values(sample), values(baseline)
        arriving, passed_on = w3[:6, 0], w3[6:, 0]
        if method == "deeplift.rescale":
            over = arriving * quotient(FUNCTIONS["relu"], s0, s)
            back = (w2 @ over + over + passed_on) * quotient(np.tanh, z0, z)
            return w1 @ back * (sample - baseline)
        parts = parts_of(sample - baseline, w1)
        rise, fall = reveal(np.tanh, z0, *parts)
        branch = parts_of(a - a0, w2)
        up, down = branch[0] + rise * parts[0], branch[1] + fall * parts[1]
        plus, minus = (arriving * m for m in reveal(FUNCTIONS["relu"], s0, up, down))
        shared = through_weights(a - a0, w2, plus, minus) + passed_on
        both = (shared + plus) * rise, (shared + minus) * fall
        return through_weights(sample - baseline, w1, *both) * (sample - baseline)

    out = attribute(model, x, method, target=0, baseline=baseline, dtype="float64")
    np.testing.assert_allclose(out.attribution, [explained(v) for v in x], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(out.completeness_gap, 0, atol=1e-13)


# ------------------------------------------------------------------------------- original numbers


@cache
def golden(network: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"deeplift0613_{network}.npz") as archive:
        return dict(archive)


@cache
def golden_model(network: str) -> tf.keras.Model:
    if network == "mamalakis2022":
        return xairt.load_model(registry.path("mamalakis2022-sst", download=False))
    return xairt.load_model(GOLDEN / f"{network}_keras224.h5")


@pytest.mark.parametrize("network", ["mlp", "cnn", "mamalakis2022"])
@pytest.mark.parametrize("reference", ["zero", "reference"])
@pytest.mark.parametrize("rule", ["Rescale", "RevealCancel"])
@pytest.mark.parametrize("convention", [None, "deeplift"])
def test_original_package(network, reference, rule, convention, request):
    if network == "mamalakis2022":
        request.getfixturevalue("data_dir")
    numbers = golden(network)
    baseline = numbers["reference"] if reference == "reference" else 0.0
    method = dict(zip(("Rescale", "RevealCancel"), RULES, strict=True))[rule]
    out = attribute(
        golden_model(network), numbers["x"], method, target=0, baseline=baseline, convention=convention
    )
    want = numbers[f"{rule}|{reference}|target=0"]
    error = np.abs(out.attribution - want).max() / np.abs(want).max()
    gap = np.abs(out.completeness_gap).max() / np.abs(out.prediction).max()
    if (network, reference) == ("cnn", "reference"):  # that package's max pooling is not exact here
        assert (error <= 1e-5) == (convention == "deeplift")
        assert (gap > 0.2) == (convention == "deeplift")
    else:
        assert error <= 1e-5
    if convention is None:
        assert gap <= 5e-6


# ------------------------------------------------------------------------------- mean slopes


def function_named(name):
    return {
        "leaky_relu": lambda z: tf.nn.leaky_relu(z, 0.3),
        "relu6": tf.nn.relu6,
        "sine": tf.sin,
    }.get(name) or getattr(tf.keras.activations, name)


SMOOTH = ("tanh", "sigmoid", "softplus", "gelu", "swish", "mish", "exponential", "sine")
CORNERED = ("relu", "leaky_relu", "elu", "selu", "relu6", "hard_sigmoid")


def slopes_and_rises(name):
    """Return start, step and mean slope in float32, with g(end) - g(start) in float64."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=4000).astype(np.float32)
    end = (start + rng.choice([-1, 1], 4000) * 10.0 ** rng.uniform(-8, 0.7, 4000)).astype(np.float32)
    op = activation(function_named(name))
    slope = deeplift.mean_slope(op, tf.constant(start), tf.constant(end)).numpy().astype(float)
    start, end = start.astype(float), end.astype(float)
    rise = op.forward(tf.constant(end)).numpy() - op.forward(tf.constant(start)).numpy()
    return op, start, end, slope, rise


@pytest.mark.parametrize("name", SMOOTH + CORNERED)
def test_mean_slope_explains_the_rise(name):
    _, start, end, slope, rise = slopes_and_rises(name)
    scale = 1 + np.abs(end) + np.abs(rise)
    assert np.abs(slope * (end - start) - rise).max() <= 2e-6 * scale.max()
    assert (np.abs(slope * (end - start) - rise) <= 2e-6 * scale).all()


@pytest.mark.parametrize("name", SMOOTH)
def test_mean_slope_of_small_steps_keeps_its_digits(name):
    op, start, end, slope, _ = slopes_and_rises(name)
    points, weights = np.polynomial.legendre.leggauss(12)
    along = tf.constant(start[:, None] + (points + 1) / 2 * (end - start)[:, None])
    with tf.GradientTape() as tape:
        tape.watch(along)
        value = op.forward(along)
    want = tape.gradient(value, along).numpy() @ weights / 2
    small = np.abs(end - start) < 0.5
    np.testing.assert_allclose(slope[small], want[small], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("start", "end", "want"), [(0, 0, 0), (1, 1, 1), (-1, -1, 0), (-1, 3, 0.75), (2, 5, 1)]
)
def test_mean_slope_of_the_relu(start, end, want):
    slope = deeplift.mean_slope(activation(tf.nn.relu), *(tf.constant([float(v)]) for v in (start, end)))
    np.testing.assert_array_equal(slope, [want])


# ------------------------------------------------------------------------------- invariants


@pytest.mark.parametrize("method", [*RULES, "shap.deep"])
@pytest.mark.parametrize(
    "make",
    [
        networks.branched,
        networks.cnn,
        lambda: chain((6, 5, 2), L.Conv2D(3, 3), L.MaxPooling2D((2, 1)), L.LeakyReLU(), L.GlobalMaxPooling2D(keepdims=True)
                      , L.Flatten(), L.Dense(2)),
        lambda: chain((6,), L.Dense(5, "selu"), L.Activation("tanh"), L.Dense(4, "hard_sigmoid"), L.Dense(2)),
        lambda: functional((4,), lambda x: L.Dense(2)(L.ReLU()(L.Add()([x, x, L.Dense(4, "elu")(x)])))),
        lambda: functional((7,), lambda x: L.Dense(2)(L.BatchNormalization()(L.ReLU(6.0, 0.1)(L.BatchNormalization()(x))))),
    ],
    ids=["branched", "cnn", "pooled", "chained", "sums", "norms"],
)  # fmt: skip
def test_differences_are_explained_completely(method, make):
    model = make()
    x, baseline = networks.samples(model, 4), networks.samples(model, 3, seed=9)
    out = attribute(model, x, method, baseline=baseline, dtype="float64")
    logits = explainer(model, "gradient", dtype="float64", target=None)
    chosen = out.target.values
    at_baseline = [
        explainer(model, "gradient", dtype="float64", target=int(c))(baseline).prediction.mean()
        for c in chosen
    ]
    total = out.attribution.values.reshape(4, -1).sum(axis=1)
    np.testing.assert_allclose(total, logits(x).prediction.values - at_baseline, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(out.completeness_gap, 0, atol=1e-11)
    single = attribute(model, x, method, baseline=baseline)
    assert np.abs(single.completeness_gap).max() <= 2e-6 * np.abs(single.attribution).sum().item()


@pytest.mark.parametrize("method", RULES)
def test_a_set_of_baselines_gives_the_mean(method):
    model = networks.mlp()
    x, baselines = networks.samples(model, 4), networks.samples(model, 3, seed=9)
    each = [attribute(model, x, method, target=2, baseline=b).attribution.values for b in baselines]
    out = attribute(model, x, method, target=2, baseline=baselines)
    np.testing.assert_allclose(out.attribution, np.mean(each, axis=0), rtol=1e-5, atol=1e-6)
    cut = explainer(model, method, target=2, baseline=baselines, batch_size=1500)(x)
    np.testing.assert_allclose(cut.attribution, out.attribution, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", RULES)
def test_baselines_too_large_to_keep_are_computed_again(method, monkeypatch):
    model = networks.cnn()
    x, baselines = networks.samples(model, 2), networks.samples(model, 3, seed=9)
    want = explainer(model, method, baseline=baselines)(x)
    monkeypatch.setattr(deeplift, "BLOCK_BYTES", 1000)
    got = explainer(model, method, baseline=baselines)(x)
    np.testing.assert_allclose(got.attribution, want.attribution, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", RULES)
def test_the_baseline_itself_has_no_contributions(method):
    model = networks.mlp()
    x = networks.samples(model, 1)
    out = attribute(model, x, method, baseline=x[0])
    np.testing.assert_allclose(out.attribution, 0, atol=1e-7)


@pytest.mark.parametrize("method", RULES)
def test_features_that_the_network_ignores_get_nothing_and_twins_the_same(method):
    model = networks.mlp()
    weights = model.get_weights()
    weights[0][2], weights[0][4] = 0, weights[0][3]
    model.set_weights(weights)
    x = networks.samples(model)
    x[:, 4] = x[:, 3]
    out = attribute(model, x, method, target=0).attribution.values
    np.testing.assert_array_equal(out[:, 2], 0)
    np.testing.assert_allclose(out[:, 4], out[:, 3], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", RULES)
def test_linear_networks_give_weight_times_difference(method):
    model = chain((6,), L.Dense(5), L.Dense(2))
    x, baseline = networks.samples(model), np.full(6, 0.5)
    w1, _, w2, _ = model.get_weights()
    out = attribute(model, x, method, target=1, baseline=baseline, dtype="float64")
    want = (x.astype(float) - baseline) * (w1.astype(float) @ w2.astype(float))[:, 1]
    np.testing.assert_allclose(out.attribution, want, rtol=1e-12)


def test_reveal_cancel_sees_what_rescale_misses():
    # min(a, b) = a - relu(a - b): Rescale gives all to one of both (Shrikumar et al. 2017, figure 2)
    model = functional((2,), lambda x: L.Dense(1)(L.Concatenate()([x, L.Dense(1, "relu")(x)])))
    inner, outer = (layer for layer in model.layers if layer.weights)
    inner.set_weights([np.array([[1.0], [-1.0]]), np.zeros(1)])
    outer.set_weights([np.array([[1.0], [0.0], [-1.0]]), np.zeros(1)])
    x = np.array([[3.0, 2.0]])
    np.testing.assert_allclose(attribute(model, x, "deeplift.rescale").attribution, [[0, 2]], atol=1e-6)
    np.testing.assert_allclose(attribute(model, x, "deeplift.reveal_cancel").attribution, [[1, 1]], atol=1e-6)


def test_linear_functions_of_the_outputs_are_explained():
    model = networks.mlp()
    x = networks.samples(model)
    each = [attribute(model, x, "deeplift.rescale", target=i).attribution for i in (0, 2)]
    both = attribute(model, x, "deeplift.rescale", target=lambda y: 2 * y[:, 0] - y[:, 2] + 5)
    np.testing.assert_allclose(both.attribution, 2 * each[0] - each[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(both.completeness_gap, 0, atol=1e-6)


# ------------------------------------------------------------------------------- refusals


def unit_length(z):
    return z / tf.norm(z, axis=-1, keepdims=True)


@pytest.mark.parametrize("method", RULES)
def test_activations_that_mix_units_are_refused_by_name(method):
    inner = chain((4,), L.Dense(3, "softmax", name="shares"), L.Dense(1))
    with pytest.raises(
        UnsupportedLayerError,
        match=r"layer 'shares' has the activation 'softmax' inside the network, .*occlusion and shap.kernel do work",
    ):
        explainer(inner, method)
    norm = chain((4,), L.Dense(3, unit_length, name="norm"), L.Dense(1))
    with pytest.raises(UnsupportedLayerError, match=r"layer 'norm' has the activation .*which mixes units"):
        explainer(norm, method)


def test_a_target_that_is_not_linear_is_refused():
    with pytest.raises(
        MethodError, match=r"the callable target is not linear in the outputs: .*give an index"
    ):
        explainer(networks.mlp(), "deeplift.rescale", target=lambda y: tf.reduce_max(y, axis=1))


def test_models_without_a_graph_are_refused():
    model = chain((3, 2), L.LSTM(2, name="memory"), L.Dense(1))
    with pytest.raises(UnsupportedLayerError, match="layer 'memory'"):
        explainer(model, "deeplift.rescale")
