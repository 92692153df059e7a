"""SHAP against Shapley values by enumeration, and against the shap package."""

from __future__ import annotations

import itertools
import subprocess
import sys
from math import comb, factorial

import networks
import numpy as np
import pytest
import tensorflow as tf
from graphs import chain, functional
from scipy.stats import kstest

from xairt import attribute, explainer
from xairt.attribution import coalitions, shap
from xairt.errors import MethodError

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers
N = 8
ALL = 2**N - 2


def interacting() -> tf.keras.Model:
    """A model with products of features, which has no canonical graph."""

    def connect(x):
        pairs = L.Multiply()([L.Dense(4, "tanh")(x), L.Dense(4)(x)])
        return L.Dense(2)(pairs)

    return functional((N,), connect, seed=2)


MODELS = {
    "relu": lambda: networks.mlp(N),
    "tanh": lambda: chain((N,), L.Dense(7, "tanh"), L.Dense(5, "sigmoid"), L.Dense(2), seed=5),
    "products": interacting,
}


def values(model: tf.keras.Model, samples: np.ndarray, target: int) -> np.ndarray:
    """Return f at samples in float64."""
    layers = [layer for layer in model.layers if layer.weights]
    v = samples.astype(float)
    if any(isinstance(layer, L.Multiply) for layer in model.layers):
        (w1, b1), (w2, b2), (w3, b3) = ([w.astype(float) for w in layer.get_weights()] for layer in layers)
        return (np.tanh(v @ w1 + b1) * (v @ w2 + b2) @ w3 + b3)[:, target]
    g = {
        "relu": lambda z: np.maximum(z, 0),
        "tanh": np.tanh,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "linear": lambda z: z,
    }
    for layer in layers:
        w, b = (u.astype(float) for u in layer.get_weights())
        v = g[layer.activation.__name__](v @ w + b)
    return v[:, target]


def shapley(model, x, baselines, target, groups=None) -> np.ndarray:
    """Return Shapley values of the players (features, or groups) by enumeration of all coalitions."""
    groups = np.arange(x.size) if groups is None else groups
    players = int(groups.max()) + 1
    worth = {}
    for size in range(players + 1):
        for members in itertools.combinations(range(players), size):
            inside = np.isin(groups, members)
            worth[members] = values(model, np.where(inside, x, baselines), target).mean()
    result = np.zeros(players)
    for member in range(players):
        for members, value in worth.items():
            if member not in members:
                weight = factorial(len(members)) * factorial(players - len(members) - 1) / factorial(players)
                result[member] += weight * (worth[tuple(sorted((*members, member)))] - value)
    return result


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_baselines", [1, 3])
def test_kernel_shap_with_all_coalitions_is_exact(name, n_baselines):
    model = MODELS[name]()
    x, baselines = networks.samples(model, 3), networks.samples(model, n_baselines, seed=7)
    out = attribute(model, x, "shap.kernel", target=1, baseline=baselines, nsamples=ALL)
    want = [shapley(model, v, baselines, 1) for v in x]
    assert np.abs(out.attribution - want).max() <= 1e-5 * np.abs(want).max()
    assert np.abs(out.completeness_gap).max() <= 1e-5 * np.abs(want).max()


def test_groups_are_players_and_share_their_value_equally():
    model, labels = MODELS["relu"](), np.array([3, 3, -1, 5, -1, 3, 5, 5])
    numbers = np.array([1, 1, 0, 2, 0, 1, 2, 2])
    x, baselines = networks.samples(model, 2), networks.samples(model, 2, seed=7)
    out = attribute(model, x, "shap.kernel", target=0, baseline=baselines, groups=labels)
    want = [
        (shapley(model, v, baselines, 0, numbers) / np.bincount(numbers))[numbers] for v in x.astype(float)
    ]
    np.testing.assert_allclose(out.attribution, want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out.completeness_gap, 0, atol=1e-6)


def test_one_group_gets_everything():
    model = networks.mlp()
    out = attribute(model, networks.samples(model, 2), "shap.kernel", target=0, groups=np.zeros(7, int))
    whole = out.prediction - values(model, np.zeros((1, 7)), 0)[0]
    np.testing.assert_allclose(out.attribution, np.repeat(whole.values[:, None] / 7, 7, axis=1), rtol=1e-4)


def test_features_that_the_network_ignores_get_nothing_and_twins_the_same():
    model = MODELS["relu"]()
    weights = model.get_weights()
    weights[0][2], weights[0][4] = 0, weights[0][3]
    model.set_weights(weights)
    x = networks.samples(model, 3)
    x[:, 4] = x[:, 3]
    out = attribute(model, x, "shap.kernel", target=0, nsamples=ALL).attribution.values
    np.testing.assert_allclose(out[:, 2], 0, atol=1e-6)
    np.testing.assert_allclose(out[:, 3], out[:, 4], atol=1e-6)


@pytest.mark.parametrize("method", ["shap.deep", "shap.gradient", "shap.kernel"])
def test_linear_models_give_weight_times_difference(method):
    model = chain((20,), L.Dense(6), L.Dense(2))
    x, baselines = networks.samples(model), networks.samples(model, 4, seed=3)
    w1, _, w2, _ = (w.astype(float) for w in model.get_weights())
    options = {"shap.kernel": {"nsamples": 300}, "shap.gradient": {"nsamples": 40}}.get(method, {})
    out = attribute(model, x, method, target=1, baseline=baselines, dtype="float64", **options)
    want = (x - baselines.astype(float).mean(axis=0)) * (w1 @ w2)[:, 1]
    np.testing.assert_allclose(out.attribution, want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(out.completeness_gap, 0, atol=1e-12)


def test_deep_shap_is_the_mean_of_deeplift():
    model = networks.mlp()
    x, baselines = networks.samples(model), networks.samples(model, 4, seed=3)
    deep = attribute(model, x, "shap.deep", target=0, baseline=baselines)
    each = [attribute(model, x, "deeplift.rescale", target=0, baseline=b).attribution for b in baselines]
    np.testing.assert_allclose(deep.attribution, np.mean(each, axis=0), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------- coalitions


def kernel_weight(players: int, size: int) -> float:
    """Return Shapley's kernel of one coalition (Lundberg and Lee 2017, theorem 2)."""
    return (players - 1) / (comb(players, size) * size * (players - size))


@pytest.mark.parametrize("players", [2, 3, 5, 8, 9])
def test_all_coalitions_are_there_once_with_the_kernels_weights(players):
    drawn = coalitions.draw(players, 2**players - 2, seed=0)
    both = np.concatenate([drawn.half, ~drawn.half])
    assert len(np.unique(both, axis=0)) == len(both) == 2**players - 2
    weights = np.concatenate([drawn.weights, drawn.weights])
    want = np.array([kernel_weight(players, int(size)) for size in both.sum(axis=1)])
    np.testing.assert_allclose(weights / weights.sum(), want / want.sum(), rtol=1e-12)


@pytest.mark.parametrize(("players", "number"), [(12, 500), (30, 1000), (100, 2048), (458, 3000)])
def test_sizes_have_the_kernels_weight_also_where_coalitions_are_drawn(players, number):
    drawn = coalitions.draw(players, number, seed=1)
    assert 0.9 * number <= 2 * len(drawn.half) <= number
    packed = np.packbits(np.concatenate([drawn.half, ~drawn.half]), axis=1)
    assert len(np.unique(packed, axis=0)) == 2 * len(drawn.half)
    sizes = np.minimum(drawn.half.sum(axis=1), players - drawn.half.sum(axis=1))
    want = np.array([kernel_weight(players, s) * comb(players, s) for s in range(1, players)])
    want = want / want.sum()
    smallest = 2 * drawn.weights[sizes == 1].sum()
    np.testing.assert_allclose(smallest, want[0] + want[-1], rtol=0.1)
    assert 2 * drawn.weights.sum() == pytest.approx(1)


def test_few_coalitions_are_enumerated_from_both_ends():
    drawn = coalitions.draw(12, 460, seed=0)  # 24 of sizes 1 and 11, 132 of 2 and 10: complete
    counts = np.bincount(drawn.half.sum(axis=1), minlength=7)
    assert (counts[1], counts[2]) == (12, 66)
    assert counts.sum() == 230
    assert 0 < counts[3] < 220


def test_regression_solves_the_weighted_least_squares():
    rng = np.random.default_rng(0)
    drawn = coalitions.draw(6, 40, seed=2)
    matrix, share = coalitions.regression(drawn)
    z = np.concatenate([drawn.half, ~drawn.half]).astype(float)
    w = np.concatenate([drawn.weights, drawn.weights])
    y, total = rng.normal(size=len(z)), 1.7  # values of coalitions less that of none; all less none
    normal = z.T @ (w[:, None] * z)
    system = np.block([[2 * normal, np.ones((6, 1))], [np.ones((1, 6)), np.zeros((1, 1))]])
    want = np.linalg.solve(system, np.append(2 * z.T @ (w * y), total))[:6]
    n = len(drawn.half)
    np.testing.assert_allclose(matrix @ (y[:n] - y[n:]) + share * total, want, rtol=1e-9)


def test_coalitions_depend_on_their_own_seed():
    model = networks.mlp(20)
    x = networks.samples(model, 2)
    first = attribute(model, x, "shap.kernel", nsamples=200)
    again = attribute(model, x, "shap.kernel", nsamples=200, seed=5)
    other = attribute(model, x, "shap.kernel", nsamples=200, coalition_seed=1)
    np.testing.assert_array_equal(first.attribution, again.attribution)
    assert np.abs(first.attribution - other.attribution).max() > 1e-4


def test_too_few_coalitions_and_too_many_features_are_refused(monkeypatch):
    with pytest.raises(
        MethodError, match=r"shap.kernel: \d+ coalitions do not determine .* 7 players: raise"
    ):
        explainer(networks.mlp(), "shap.kernel", nsamples=8)
    monkeypatch.setattr(shap, "MOST_PLAYERS", 6)
    with pytest.raises(
        MethodError, match=r"shap.kernel: 7 features are too many .*: give groups of features"
    ):
        explainer(networks.mlp(), "shap.kernel")


def test_few_rows_at_once_give_the_same():
    model = networks.mlp()
    x, baselines = networks.samples(model, 3), networks.samples(model, 4, seed=3)
    for method in ("shap.kernel", "shap.gradient"):
        want = attribute(model, x, method, baseline=baselines)
        got = explainer(model, method, baseline=baselines, batch_size=300)(x)
        np.testing.assert_allclose(got.attribution, want.attribution, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------- expected gradients


@pytest.mark.parametrize("make", [MODELS["tanh"], MODELS["products"], networks.cnn_1d])
def test_expected_gradients_tend_to_the_mean_of_integrated_gradients(make):
    model = make()
    x, baselines = networks.samples(model, 3), networks.samples(model, 5, seed=3)
    out = attribute(model, x, "shap.gradient", target=0, baseline=baselines, nsamples=4000)
    want = attribute(
        model, x, "integrated_gradients", target=0, baseline=baselines, steps=400, quadrature="midpoint"
    )
    assert np.abs(out.attribution - want.attribution).max() <= 2e-3 * np.abs(want.attribution).max()
    assert np.abs(out.completeness_gap).max() <= 2e-3 * np.abs(out.attribution).sum().item()


def test_expected_gradients_have_no_bias_and_tell_their_sampling_error():
    model = MODELS["relu"]()
    x, baselines = networks.samples(model, 1), networks.samples(model, 9, seed=3)
    explain = explainer(model, "shap.gradient", target=0, baseline=baselines, nsamples=5)
    many = explain(np.repeat(x, 300, axis=0))
    want = explainer(model, "shap.gradient", target=0, baseline=baselines, nsamples=10_000)(x)
    spread = many.attribution.std("sample") / np.sqrt(300)
    difference = np.abs(many.attribution.mean("sample") - want.attribution[0])
    assert (difference <= 4 * spread + 1e-4).all()
    assert np.abs(many.completeness_gap).max() > 1e-2
    assert abs(many.completeness_gap.mean()) < 4 * many.completeness_gap.std() / np.sqrt(300) + 1e-4


@pytest.mark.parametrize(("n", "n_baselines"), [(12, 5), (7, 30), (40, 1)])
def test_draws_are_uniform_over_set_and_way(n, n_baselines):
    start = tf.constant(np.random.default_rng(0).normal(size=(3000, 2)))
    which, t = (v.numpy() for v in shap._draws(start, np.arange(n)[None], n, n_baselines))
    assert which.shape == t.shape == (1, 3000, n)
    for draw in (0, n // 2, n - 1):
        counts = np.bincount(which[0, :, draw], minlength=n_baselines)
        assert counts.min() > 0
        assert len(counts) == n_baselines
        assert kstest((which[0, :, draw] + t[0, :, draw]) / n_baselines, "uniform").pvalue > 1e-3
        assert kstest(t[0, :, draw], "uniform").pvalue > 1e-3
        if n_baselines > 1:
            assert abs(np.corrcoef(which[0, :, draw], t[0, :, draw])[0, 1]) < 0.06
    spread = [np.bincount(row, minlength=n_baselines) for row in which[0, :50]]
    assert np.ptp(spread, axis=1).max() <= 2


# ------------------------------------------------------------------------------- the shap package


def test_kernel_shap_equals_the_package():
    import shap as package

    model = networks.mlp(10)
    x, background = networks.samples(model, 2), networks.samples(model, 3, seed=4)
    peer = package.KernelExplainer(lambda v: values(model, v, 0), background.astype(float))
    want = peer.shap_values(x.astype(float), nsamples=1022, l1_reg=False, silent=True)
    out = attribute(model, x, "shap.kernel", target=0, baseline=background, nsamples=1022)
    np.testing.assert_allclose(out.attribution, want, rtol=1e-4, atol=1e-6)


PEER = """
import sys
import numpy as np, shap, tensorflow as tf
model = tf.keras.models.load_model(sys.argv[1])
x, background = np.load(sys.argv[2]), np.load(sys.argv[3])
np.save(sys.argv[4], np.array(shap.DeepExplainer(model, background).shap_values(x, check_additivity=False)))
"""


@pytest.mark.slow
def test_deep_shap_equals_the_package_on_relus(tmp_path):
    # in a process of its own: the package changes TensorFlow's gradients and Keras' state
    model = networks.mlp()
    x, background = networks.samples(model, 3), networks.samples(model, 4, seed=3)
    files = [str(tmp_path / name) for name in ("model.keras", "x.npy", "background.npy", "values.npy")]
    model.save(files[0])
    np.save(files[1], x)
    np.save(files[2], background)
    subprocess.run([sys.executable, "-c", PEER, *files], check=True, capture_output=True)
    for target, want in enumerate(np.moveaxis(np.load(files[3]), -1, 0)):
        out = attribute(model, x, "shap.deep", target=target, baseline=background)
        np.testing.assert_allclose(out.attribution, want, rtol=1e-4, atol=1e-6)
