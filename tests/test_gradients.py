"""The gradient family against differences, integrals and noise that are worked out without the package."""

from __future__ import annotations

import math

import naive
import networks
import numpy as np
import pytest
import tensorflow as tf

from xairt import attribute, explainer
from xairt.attribution.gradients import path_points
from xairt.errors import MethodError, ModelError, UnsupportedLayerError

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers
QUADRATURES = ("trapezoid", "midpoint", "gauss_legendre", "innvestigate")
POINTS = {
    "trapezoid": lambda n: [(k / (n - 1), (0.5 if k in (0, n - 1) else 1.0) / (n - 1)) for k in range(n)],
    "midpoint": lambda n: [((k + 0.5) / n, 1 / n) for k in range(n)],
    "innvestigate": lambda n: [(k / n, 1 / n) for k in range(n)],
    "gauss_legendre": lambda n: {
        2: [(0.5 - math.sqrt(1 / 12), 0.5), (0.5 + math.sqrt(1 / 12), 0.5)],
        3: [(0.5 - math.sqrt(0.15), 5 / 18), (0.5, 8 / 18), (0.5 + math.sqrt(0.15), 5 / 18)],
    }[n],
}


def smooth_mlp() -> tf.keras.Model:
    layers = [L.InputLayer(5), L.Dense(7, "tanh"), L.Dense(4, "softplus"), L.Dense(2)]
    return networks.randomised(tf.keras.Sequential(layers))


def smooth_cnn() -> tf.keras.Model:
    layers = [L.Conv2D(3, 3, strides=2, activation="swish"), L.AveragePooling2D(2), L.Flatten(), L.Dense(2)]
    return networks.randomised(tf.keras.Sequential([L.InputLayer((9, 9, 2)), *layers]))


def linear_model() -> tf.keras.Model:
    return networks.randomised(tf.keras.Sequential([L.InputLayer(6), L.Dense(3)]))


def prediction(model, x, target, dtype="float64"):
    return attribute(model, x, "random", target=target, dtype=dtype).prediction.values


@pytest.mark.parametrize("network", [smooth_mlp, smooth_cnn, networks.mlp])
def test_gradient_equals_central_differences(network):
    model, h = network(), 1e-6
    x = networks.samples(model, 1).astype(float)
    got = attribute(model, x, "gradient", target=1, dtype="float64").attribution.values.ravel()
    steps = h * np.eye(x.size).reshape(-1, *x.shape[1:])
    want = (prediction(model, x + steps, 1) - prediction(model, x - steps, 1)) / (2 * h)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


def test_saliency_and_input_times_gradient_follow_from_the_gradient():
    model = networks.cnn()
    x = networks.samples(model)
    gradient = attribute(model, x, "gradient").attribution
    np.testing.assert_array_equal(attribute(model, x, "saliency").attribution, abs(gradient))
    np.testing.assert_array_equal(attribute(model, x, "input_t_gradient").attribution, x * gradient)
    assert (gradient < 0).any()


def test_gradient_is_of_the_logit():
    plain, ended = networks.mlp(), networks.mlp(end="softmax")
    x = networks.samples(plain)
    a, b = (attribute(model, x, "gradient") for model in (plain, ended))
    np.testing.assert_array_equal(a.attribution, b.attribution)
    np.testing.assert_array_equal(a.prediction, b.prediction)
    assert b.prediction.attrs["long_name"] == "explained output f(x), before the final softmax"
    assert "before" not in a.prediction.attrs["long_name"]


# --------------------------------------------------------------------------- integrated gradients


@pytest.mark.parametrize("quadrature", QUADRATURES)
@pytest.mark.parametrize("steps", [2, 3, 49, 64, 98, 107, 1000])
def test_weights_sum_to_one_and_points_lie_on_the_path(quadrature, steps):
    points, weights = path_points(steps, quadrature)
    assert math.fsum(weights) == 1.0
    assert points.shape == weights.shape == (steps,)
    assert (np.diff(points) > 0).all()
    assert 0 <= points[0] < points[-1] <= 1


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_gauss_legendre_is_exact_up_to_degree_2n_minus_1(n):
    points, weights = path_points(n, "gauss_legendre")
    errors = [abs(weights @ points**degree - 1 / (degree + 1)) for degree in range(2 * n + 1)]
    assert max(errors[:-1]) < 1e-14
    assert n == 20 or errors[-1] > 1e-7


@pytest.mark.parametrize(("quadrature", "order"), [("trapezoid", 2), ("midpoint", 2), ("innvestigate", 1)])
def test_order_of_the_equidistant_rules(quadrature, order):
    errors = []
    for intervals in (50, 100):
        points, weights = path_points(intervals + (quadrature == "trapezoid"), quadrature)
        errors.append(abs(weights @ np.exp(points) - math.expm1(1)))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.05)


def relu_gradient(layers, v: np.ndarray, target: int) -> np.ndarray:
    """Return the gradient of a ReLU network of matrices, in numpy."""
    values = naive.forward(layers, v)
    back = np.eye(values[-1].size)[target]
    for layer, a in zip(reversed(layers), reversed(values[:-1]), strict=True):
        back = layer.weights @ back if isinstance(layer, naive.Matrix) else back * (a > 0)
    return back


@pytest.mark.parametrize("quadrature", QUADRATURES)
@pytest.mark.parametrize("steps", [2, 3])
def test_integrated_gradients_equal_the_sum_over_the_path(quadrature, steps):
    model = networks.mlp()
    x, baseline = networks.samples(model).astype(float), np.linspace(-0.5, 0.4, 7)
    options = {"target": 2, "steps": steps, "quadrature": quadrature, "dtype": "float64"}
    out = attribute(model, x, "integrated_gradients", baseline=baseline, **options)
    layers = naive.read_layers(model)
    for got, v in zip(out.attribution.values, x, strict=True):
        path = POINTS[quadrature](steps)
        mean = sum(w * relu_gradient(layers, baseline + t * (v - baseline), 2) for t, w in path)
        np.testing.assert_allclose(got, (v - baseline) * mean, rtol=1e-9, atol=1e-12)
    gap = out.attribution.sum("feature") - [
        naive.forward(layers, v)[-1][2] - naive.forward(layers, baseline)[-1][2] for v in x
    ]
    np.testing.assert_allclose(out.completeness_gap, gap, rtol=1e-9, atol=1e-12)


def test_convention_is_the_left_riemann_sum():
    model = networks.mlp()
    x = networks.samples(model)
    options = {"steps": 9, "dtype": "float64"}
    published = attribute(model, x, "integrated_gradients", convention="innvestigate", **options)
    explicit = attribute(model, x, "integrated_gradients", quadrature="innvestigate", **options)
    default = attribute(model, x, "integrated_gradients", **options)
    np.testing.assert_array_equal(published.attribution, explicit.attribution)
    assert not np.allclose(published.attribution, default.attribution, rtol=1e-3)


@pytest.mark.parametrize("quadrature", QUADRATURES)
def test_completeness_improves_with_steps(quadrature):
    model = smooth_mlp()
    x = networks.samples(model, 8)
    gaps = [
        abs(
            attribute(
                model, x, "integrated_gradients", steps=n, quadrature=quadrature, dtype="float64"
            ).completeness_gap
        )
        for n in (4, 8, 32)
    ]
    assert gaps[0].mean() > 1.8 * gaps[1].mean()
    assert gaps[1].mean() > 3.5 * gaps[2].mean()


def test_baselines_are_a_number_a_sample_or_a_set():
    model = networks.mlp()
    x = networks.samples(model, 3)
    candidates = networks.samples(model, 4, seed=9)
    explain = lambda b: attribute(model, x, "integrated_gradients", baseline=b, steps=8, target=0)  # noqa: E731
    singles = [explain(b) for b in candidates]
    over_set = explain(candidates)
    mean = np.mean([s.attribution for s in singles], axis=0)
    np.testing.assert_allclose(over_set.attribution, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        over_set.completeness_gap, np.mean([s.completeness_gap for s in singles], axis=0), atol=1e-5
    )
    np.testing.assert_array_equal(explain(candidates[:1]).attribution, singles[0].attribution)
    np.testing.assert_array_equal(explain(0.5).attribution, explain(np.full(7, 0.5)).attribution)
    np.testing.assert_array_equal(explain(None).attribution, explain(0).attribution)
    assert not np.allclose(explain(0.5).attribution, explain(0).attribution)


@pytest.mark.parametrize("quadrature", QUADRATURES)
def test_linear_model_is_exact(quadrature):
    model = linear_model()
    x, weights = networks.samples(model).astype(float), model.get_weights()[0][:, 1]
    for baseline in (0.0, 0.75):
        out = attribute(
            model,
            x,
            "integrated_gradients",
            baseline=baseline,
            target=1,
            steps=7,
            quadrature=quadrature,
            dtype="float64",
        )
        np.testing.assert_allclose(out.attribution, (x - baseline) * weights, rtol=1e-12)
        np.testing.assert_allclose(out.completeness_gap, 0, atol=1e-12)


def test_the_largest_output_is_chosen_at_the_sample_and_kept_along_the_path():
    model = networks.mlp()
    x = 4 * networks.samples(model, 20)
    free = attribute(model, x, "integrated_gradients", steps=16)
    fixed = attribute(model, x, "integrated_gradients", steps=16, target=free.target.values)
    assert len(set(free.target.values)) > 1
    np.testing.assert_array_equal(free.attribution, fixed.attribution)


# --------------------------------------------------------------------------- smoothgrad


def keyed_noise(seed: int, sample: int, n: int, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, sample])))
    return generator.standard_normal((n, *shape), dtype=np.float32)


@pytest.mark.parametrize(("scale", "n"), [(1.0, 6), (0.3, 7), (0.5, 1)])
def test_smoothgrad_is_the_mean_gradient_over_pairs_of_opposite_keyed_noise(scale, n):
    model, seed = networks.mlp(), 11
    x = networks.samples(model, 3)
    out = attribute(model, x, "smoothgrad", target=1, augment_by_n=n, noise_scale=scale, seed=seed)
    for i, sample in enumerate(x):
        drawn = keyed_noise(seed, i, -(-n // 2), (7,))
        copies = sample + scale * np.stack([drawn, -drawn], axis=1).reshape(-1, 7)[:n]
        want = attribute(model, copies, "gradient", target=1).attribution.mean("sample")
        np.testing.assert_allclose(out.attribution[i], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [networks.mlp, networks.cnn])
def test_smoothgrad_squared_is_the_mean_square_of_the_gradient(make):
    model, seed, n = make(), 3, 5
    x = networks.samples(model, 2)
    shape = x.shape[1:]
    out = attribute(model, x, "smoothgrad", target=1, augment_by_n=n, noise_scale=0.5, square=True, seed=seed)
    for i, sample in enumerate(x):
        drawn = keyed_noise(seed, i, -(-n // 2), shape)
        copies = sample + 0.5 * np.stack([drawn, -drawn], axis=1).reshape(-1, *shape)[:n]
        slopes = attribute(model, copies, "gradient", target=1).attribution
        np.testing.assert_allclose(out.attribution[i], (slopes**2).mean("sample"), rtol=1e-4, atol=1e-7)


def test_smoothgrad_without_noise_is_the_gradient():
    model = networks.cnn()
    x = networks.samples(model)
    smooth = attribute(model, x, "smoothgrad", noise_scale=0, augment_by_n=4)
    np.testing.assert_allclose(
        smooth.attribution, attribute(model, x, "gradient").attribution, rtol=1e-5, atol=1e-7
    )


def test_noise_is_keyed_by_seed_and_sample_index():
    model = networks.mlp()
    x = np.repeat(networks.samples(model, 1), 4, axis=0)
    explain = explainer(model, "smoothgrad", target=0, augment_by_n=3)
    first, other = explain(x, seed=1).attribution, explain(x, seed=2).attribution
    assert len(np.unique(np.concatenate([first, other]), axis=0)) == 8
    picked = explain(x[:2], seed=1, sample_index=[3, 1]).attribution
    np.testing.assert_array_equal(picked, first[[3, 1]])
    np.testing.assert_array_equal(
        explain(x).attribution, explain(x, seed=0, sample_index=range(4)).attribution
    )


def test_random_is_standard_normal_and_keyed():
    model = networks.cnn()
    x = networks.samples(model, 40)
    out = attribute(model, x, "random", seed=4).attribution.values
    np.testing.assert_array_equal(out[7], keyed_noise(4, 7, 1, (9, 8, 2))[0])
    assert abs(out.mean()) < 0.05
    assert out.std() == pytest.approx(1, abs=0.03)


# --------------------------------------------------------------------------- models without a canonical graph


def recurrent(end: str | None = None) -> tf.keras.Model:
    layers = [L.InputLayer((6, 2)), L.LSTM(5), L.LayerNormalization(), L.Dense(3, end)]
    return networks.randomised(tf.keras.Sequential(layers))


class Own(tf.keras.Model):
    """A model whose layers Keras does not know."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = L.Dense(2)

    def call(self, x):
        return self.dense(tf.sin(x))


def keras_gradient(model, x, target, logit=None) -> np.ndarray:
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=False)
        value = (y if logit is None else logit(y))[:, target]
    return tape.gradient(value, x).numpy()


def test_gradient_methods_work_without_a_graph():
    model = recurrent()
    x = networks.samples(model, 3)
    gradient = attribute(model, x, "gradient", target=1)
    np.testing.assert_allclose(gradient.attribution, keras_gradient(model, x, 1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient.prediction, model(x)[:, 1], rtol=1e-5)
    smooth = attribute(model, x, "smoothgrad", target=1, augment_by_n=3, noise_scale=0)
    np.testing.assert_allclose(smooth.attribution, gradient.attribution, rtol=1e-4, atol=1e-6)
    occlusion = attribute(model, x, "occlusion", target=1, patch=(6, 2))
    difference = model(x)[:, 1] - model(0 * x)[:, 1]
    np.testing.assert_allclose(
        occlusion.attribution, np.broadcast_to(difference[:, None, None], x.shape), rtol=1e-4, atol=1e-6
    )
    path = attribute(model, x, "integrated_gradients", target=1, steps=12, quadrature="gauss_legendre")
    np.testing.assert_allclose(path.completeness_gap, 0, atol=2e-3 * abs(difference).numpy().max())


def test_lrp_and_float64_need_the_graph():
    model = recurrent()
    with pytest.raises(
        UnsupportedLayerError,
        match=r"layer 'lstm\S*' \(LSTM\) has no canonical form: LRP, DeepLIFT and shap.deep do not",
    ):
        explainer(model, "lrp.z")
    with pytest.raises(ModelError, match="dtype='float64' needs the canonical graph, but layer 'lstm"):
        explainer(model, "gradient", dtype="float64")


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
@pytest.mark.parametrize("layer", [False, True])
def test_final_activation_is_taken_off_without_a_graph(end, layer):
    ends = [L.Dense(3), L.Activation(end)] if layer else [L.Dense(3, end)]
    model = networks.randomised(tf.keras.Sequential([L.InputLayer(4), L.LayerNormalization(), *ends]))
    weights, config, x = model.get_weights(), model.get_config(), networks.samples(model)
    out = attribute(model, x, "gradient", target=2)
    # the log of the softmax differs from the logit by a term that all outputs share
    logit = (lambda y: tf.math.log(y / (1 - y))) if end == "sigmoid" else None
    if logit is not None:
        np.testing.assert_allclose(out.attribution, keras_gradient(model, x, 2, logit), rtol=1e-3, atol=1e-5)
    all_logits = np.stack([attribute(model, x, "gradient", target=k).prediction for k in range(3)], axis=1)
    np.testing.assert_allclose(getattr(tf.nn, end)(all_logits), model(x), rtol=1e-5)
    assert np.ptp(all_logits) > 1
    assert out.prediction.attrs["long_name"].endswith(f"before the final {end}")
    assert model.get_config() == config
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
    assert len(model.layers[-1]._inbound_nodes) == 1


def test_softmax_layer_and_convolution_end_without_a_graph():
    x = tf.keras.Input((5, 2))
    y = L.GlobalAveragePooling1D()(L.Conv1D(3, 2)(L.LayerNormalization()(x)))
    model = networks.randomised(tf.keras.Model(x, L.Softmax()(y)))
    assert (
        attribute(model, networks.samples(model), "gradient")
        .prediction.attrs["long_name"]
        .endswith("final softmax")
    )
    ends_in_convolution = networks.randomised(
        tf.keras.Sequential(
            [L.InputLayer((5, 2)), L.LayerNormalization(), L.Conv1D(1, 5, activation="sigmoid")]
        )
    )
    samples = networks.samples(ends_in_convolution)
    out = attribute(ends_in_convolution, samples, "gradient", target=lambda y: y[:, 0, 0])
    np.testing.assert_allclose(tf.sigmoid(out.prediction), ends_in_convolution(samples)[:, 0, 0], rtol=1e-5)
    assert out.prediction.attrs["long_name"].endswith("final sigmoid")


def test_activation_inside_a_recurrent_layer_stays():
    model = networks.randomised(tf.keras.Sequential([L.InputLayer((4, 2)), L.LSTM(3, activation="sigmoid")]))
    x = networks.samples(model)
    out = attribute(model, x, "gradient", target=1)
    np.testing.assert_allclose(out.prediction, model(x)[:, 1], rtol=1e-5)
    np.testing.assert_allclose(out.attribution, keras_gradient(model, x, 1), rtol=1e-4, atol=1e-6)
    assert out.prediction.attrs["long_name"] == "explained output f(x)"


def test_last_layer_used_twice_without_a_graph():
    x, dense = tf.keras.Input(4), L.Dense(4, "softmax")
    model = networks.randomised(tf.keras.Model(x, dense(L.LayerNormalization()(dense(x)))))
    samples = networks.samples(model)
    logits = np.stack([attribute(model, samples, "gradient", target=k).prediction for k in range(4)], axis=1)
    np.testing.assert_allclose(tf.nn.softmax(logits), model(samples), rtol=1e-5)


def test_models_without_a_graph_are_used_as_they_are():
    model = networks.randomised(
        tf.keras.Sequential([L.InputLayer(4), L.LayerNormalization(), L.Dense(3, "softmax")])
    )
    explain, x = explainer(model, "gradient", target=0), networks.samples(model)
    model.set_weights([0 * w for w in model.get_weights()])
    out = explain(x)
    np.testing.assert_array_equal(out.attribution, 0)
    np.testing.assert_array_equal(out.prediction, 0)


def test_models_of_their_own_class():
    model = Own()
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    with pytest.raises(ModelError, match="model 'own' has never seen an input: call it once with samples"):
        explainer(Own(name="own"), "gradient")
    model(x)
    out = attribute(model, x, "gradient", target=1)
    np.testing.assert_allclose(out.attribution, np.cos(x) * model.dense.kernel.numpy()[:, 1], rtol=1e-4)
    with pytest.raises(ModelError, match=r"\(Own\) has no known layer graph: write it as a Functional model"):
        explainer(model, "lrp.z")


def test_steps_and_copies_are_bounded():
    with pytest.raises(
        MethodError, match=r"integrated_gradients: parameter 'steps' = 1: .*greater than or equal to 2"
    ):
        explainer(networks.mlp(), "integrated_gradients", steps=1)
    with pytest.raises(
        MethodError, match=r"smoothgrad: parameter 'augment_by_n' = 0: .*greater than or equal to 1"
    ):
        explainer(networks.mlp(), "smoothgrad", augment_by_n=0)
    with pytest.raises(
        MethodError, match=r"smoothgrad: parameter 'noise_scale' = -1: .*greater than or equal to 0"
    ):
        explainer(networks.mlp(), "smoothgrad", noise_scale=-1)
