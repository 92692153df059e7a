"""Regression relative to a reference: the three networks, their attributions, and retraining."""

from __future__ import annotations

import json
import re
from pathlib import Path

import naive
import networks
import numpy as np
import pytest
import tensorflow as tf
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xairt import Grid, attribute
from xairt.attribution.lrp.engine import LEDGER
from xairt.attribution.reference import attribute_relative, restructured, retrained
from xairt.errors import DataError, MethodError, ModelError, UnsupportedLayerError

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers

COMPOSITE = (
    'lrp.composite(rules=[{"index": -1, "rule": "z"}, {"index": -2, "rule": "epsilon(epsilon=0.1)"}], '
    'default="gamma(gamma=0.5)")'
)
METHODS = (
    "lrp.z",
    "lrp.epsilon(epsilon=0.05)",
    "lrp.epsilon(epsilon=0.01, bias=False)",
    "lrp.gamma",
    "lrp.gamma(bias=False)",
    "lrp.alpha_1_beta_0",
    "lrp.alpha_2_beta_1",
    "lrp.alpha_2_beta_1_IB",
    'lrp.alpha_beta(alpha=2, beta=1, bias="innvestigate")',
    "lrp.z_plus_fast",
    "lrp.w_square",
    "lrp.alpha_1_beta_0(input_layer_rule=Bounded)",
    "lrp.sequential_preset_a_flat",
    COMPOSITE,
)


@pytest.fixture
def compiled(run_eagerly):
    """Compile TensorFlow functions, as users do."""
    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


def regression(sizes=(11, 6), n_inputs: int = 7, seed: int = 0, bias: float = 0.3, **last) -> tf.keras.Model:
    hidden = [L.Dense(size, "relu") for size in sizes]
    model = tf.keras.Sequential([L.InputLayer(n_inputs), *hidden, L.Dense(1, **last)])
    return networks.randomised(model, seed, bias)


def rising(model: tf.keras.Model) -> tf.keras.Model:
    """Make the output weights positive, so that every reference above the output's bias is reached."""
    kernel, *bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([abs(kernel), *bias])
    return model


def convolutional(*end) -> tf.keras.Model:
    layers = [
        L.Conv2D(3, 3, activation="relu", padding="same"),
        L.Conv2D(4, 2, strides=(2, 1), activation="relu"),
        *end,
        L.Dense(1),
    ]
    return rising(networks.randomised(tf.keras.Sequential([L.InputLayer((6, 5, 2)), *layers])))


def samples(model: tf.keras.Model, n: int = 5, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *model.input_shape[1:]))


def output_bias(model: tf.keras.Model) -> float:
    return float(model.layers[-1].bias.numpy()[0])


def some_references(model: tf.keras.Model, x: np.ndarray) -> np.ndarray:
    """Return references below and above f(x), one per sample."""
    f = model(x).numpy()[:, 0].astype(float)
    return output_bias(model) + np.resize([0.3, 0.9, 1.4], len(x)) * (f - output_bias(model))


# --------------------------------------------------------------------------- the restructured network


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    n_inputs=st.integers(1, 8),
    seed=st.integers(0, 10_000),
    bias=st.sampled_from([0.0, 0.5, 3.0]),
    step=st.floats(-2, 2),
)
def test_restructured_networks_predict_the_difference(sizes, n_inputs, seed, bias, step):
    model = regression(sizes, n_inputs, seed, bias)
    x = samples(model, 6, seed)
    hidden = tf.keras.Model(model.inputs, model.layers[-2].output)(x).numpy().astype(float)
    weights = model.layers[-1].kernel.numpy()[:, 0].astype(float)
    f = hidden @ weights + output_bias(model)
    y_ref = np.maximum(hidden - step, 0) @ weights + output_bias(model)
    reachable = (y_ref < f - 1e-4) if step > 0 else (y_ref > f + 1e-4)
    if not reachable.any():
        return
    x, f, y_ref = x[reachable], f[reachable], y_ref[reachable]
    made = restructured(model, x, y_ref)
    np.testing.assert_allclose(made.outputs().sum(axis=1), made.prediction - y_ref, rtol=0, atol=1e-6)
    np.testing.assert_allclose(made.prediction, f, rtol=1e-5, atol=1e-5)
    assert (made.reference_activations >= 0).all()


def above_by_lowering(model: tf.keras.Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples whose output rises as the activations are lowered, and references that it passes."""
    hidden = tf.keras.Model(model.inputs, model.layers[-2].output)(x).numpy().astype(float)
    weights = model.layers[-1].kernel.numpy()[:, 0].astype(float)
    steps = np.linspace(0, 1, 51)[:, None, None] * hidden.max(axis=1)[:, None]
    lowered = np.maximum(hidden - steps, 0) @ weights + output_bias(model)
    f, most = lowered[0], lowered.max(axis=0)
    rises = most > f + 1e-2
    return x[rises], (f + 0.6 * (most - f))[rises]


def test_references_above_are_reached_by_lowering_where_raising_leads_away():
    model = regression(seed=1)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([-np.sign(kernel.sum()) * kernel, bias])
    x, y_ref = above_by_lowering(model, samples(model, 40))
    assert len(x) > 3
    made = restructured(model, x, y_ref)
    assert (made.reference_activations <= made.activations).all()
    assert (made.prediction < y_ref).all()
    np.testing.assert_allclose(made.outputs().sum(axis=1), made.prediction - y_ref, rtol=0, atol=1e-6)
    for method in ("lrp.gamma", "lrp.alpha_1_beta_0", "lrp.epsilon(epsilon=0.01, bias=False)"):
        out = attribute_relative(model, x, y_ref, method, dtype="float64")
        np.testing.assert_allclose(books(out), out.prediction - out.reference, rtol=0, atol=1e-6)


def test_references_below_are_reached_by_raising_where_lowering_leads_away():
    """Of negative weights the output lies below its bias, and falls without end as the activations rise."""
    model = rising(regression())
    x = samples(model)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([-kernel, bias])
    y_ref = model(x).numpy()[:, 0].astype(float) - 2.0
    made = restructured(model, x, y_ref)
    assert (made.reference_activations > made.activations).any()
    np.testing.assert_allclose(made.outputs().sum(axis=1), made.prediction - y_ref, rtol=0, atol=1e-6)
    out = attribute_relative(model, x, y_ref, dtype="float64")
    np.testing.assert_allclose(books(out), out.prediction - out.reference, rtol=0, atol=1e-6)


@pytest.mark.parametrize("end", [(L.Flatten(),), (L.GlobalAveragePooling2D(),)], ids=["flatten", "average"])
def test_restructured_convolutions_predict_the_difference(end):
    model = convolutional(*end)
    x = samples(model)
    y_ref = some_references(model, x)
    made = restructured(model, x, y_ref)
    np.testing.assert_allclose(made.outputs().sum(axis=1), made.prediction - y_ref, rtol=0, atol=1e-6)
    np.testing.assert_allclose(made.prediction, model(x).numpy()[:, 0], rtol=1e-5, atol=1e-5)


def test_a_folded_batch_normalization_may_stand_before_the_last_relu():
    layers = [L.Dense(8, "relu"), L.Dense(6), L.BatchNormalization(), L.ReLU(), L.Dropout(0.5), L.Dense(1)]
    model = rising(networks.randomised(tf.keras.Sequential([L.InputLayer(5), *layers])))
    x = samples(model)
    y_ref = some_references(model, x)
    made = restructured(model, x, y_ref)
    np.testing.assert_allclose(made.outputs().sum(axis=1), model(x).numpy()[:, 0] - y_ref, atol=1e-6)


# --------------------------------------------------------------------------- attributions


def in_keras(model: tf.keras.Model, a_ref: np.ndarray, signs: tuple[int, int, int]) -> tf.keras.Model:
    """Return one of the three networks for one sample; signs of z, of a_ref and of the output."""
    of_z, of_a_ref, of_output = signs
    made = tf.keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    kernel, bias = made.layers[-2].get_weights()
    made.layers[-2].set_weights([of_z * kernel, of_z * bias + of_a_ref * a_ref])
    kernel, bias = made.layers[-1].get_weights()
    made.layers[-1].set_weights([of_output * kernel, 0 * bias])
    return made


def dense_behind_convolution() -> tf.keras.Model:
    layers = [
        L.Conv2D(3, 3, activation="relu"),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dense(6, "relu"),
        L.Dense(1),
    ]
    return rising(networks.randomised(tf.keras.Sequential([L.InputLayer((6, 7, 2)), *layers])))


DENSE = [(lambda: rising(regression()), method) for method in METHODS]
BEHIND_CONVOLUTION = [
    (dense_behind_convolution, m) for m in ("lrp.gamma", "lrp.alpha_2_beta_1", "lrp.sequential_preset_a_flat")
]


@pytest.mark.parametrize(("make", "method"), DENSE + BEHIND_CONVOLUTION)
def test_attribution_is_the_sum_over_three_keras_networks(make, method):
    model = make()
    x = samples(model, 3)
    y_ref = some_references(model, x)
    # float32 holds the weights of a Keras network: references whose a_ref they hold exactly
    made = restructured(model, x, y_ref)
    a_ref = made.reference_activations.astype(np.float32)
    y_ref = a_ref.astype(float) @ made.head.weights + made.head.bias
    found = attribute_relative(model, x, y_ref, method, dtype="float64")
    for i in range(len(x)):
        parts = [
            attribute(in_keras(model, a_ref[i], signs), x[i : i + 1], method, dtype="float64")
            for signs in ((1, -1, 1), (-1, 0, 1), (-1, 1, -1))
        ]
        size = sum(abs(part.attribution.values[0]).max() for part in parts)
        expected = sum(part.attribution.values[0] for part in parts)
        np.testing.assert_allclose(found.attribution.values[i], expected, rtol=0, atol=1e-6 * size)
        for name in LEDGER:
            booked = sum(float(part[name][0]) for part in parts)
            assert float(found[name][i]) == pytest.approx(booked, abs=1e-5 * size)


@pytest.mark.parametrize("method", ["lrp.z", "lrp.gamma", "lrp.alpha_2_beta_1", "lrp.w_square"])
def test_a_convolution_as_last_hidden_layer_is_explained_as_its_matrix(method):
    layers = [L.Conv2D(3, 2, strides=(2, 1), activation="relu"), L.Flatten(), L.Dense(1)]
    model = rising(networks.randomised(tf.keras.Sequential([L.InputLayer((5, 4, 2)), *layers])))
    matrix = naive.conv_matrix(model.layers[0], (5, 4, 2))
    as_dense = regression(sizes=(matrix.weights.shape[1],), n_inputs=40)
    as_dense.set_weights([matrix.weights, matrix.bias, *model.layers[-1].get_weights()])
    x = samples(model)
    y_ref = some_references(model, x)
    found = attribute_relative(model, x, y_ref, method, dtype="float64").attribution.values
    expected = attribute_relative(
        as_dense, x.reshape(5, -1), y_ref, method, dtype="float64"
    ).attribution.values
    np.testing.assert_allclose(found.reshape(5, -1), expected, rtol=1e-9, atol=1e-12)


def books(out: xr.Dataset) -> np.ndarray:
    axes = tuple(out.attribution.dims[1:])
    return (out.attribution.sum(axes) + sum(out[name] for name in LEDGER)).values


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    seed=st.integers(0, 10_000),
    bias=st.sampled_from([0.0, 0.5]),
    share=st.sampled_from([0.0, 0.4, 0.95, 1.7]),
    method=st.sampled_from(METHODS[:-1]),
)
def test_attribution_and_bias_share_add_up_to_the_difference(sizes, seed, bias, share, method):
    model = rising(regression(sizes, 6, seed, bias))
    x = samples(model, 4, seed)
    f = model(x).numpy()[:, 0].astype(float)
    x = x[f > output_bias(model) + 1e-3]
    if not len(x):
        return
    f = model(x).numpy()[:, 0].astype(float)
    y_ref = output_bias(model) + share * (f - output_bias(model))
    out = attribute_relative(model, x, y_ref, method, dtype="float64")
    size = 1 + abs(out.attribution).sum("feature").values + sum(abs(out[name]).values for name in LEDGER)
    assert (abs(books(out) - (out.prediction - out.reference).values) <= 1e-9 * size).all()
    np.testing.assert_allclose(out.prediction, f, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(out.reference, y_ref)
    gap = books(out) - (out.prediction - out.reference).values
    np.testing.assert_allclose(out.completeness_gap, gap, atol=1e-9 * size.max())


def test_without_biases_and_where_none_is_absorbed_the_attribution_is_all_of_the_difference():
    """Biases of the network are 0, and z+ shares out the relevance of the last hidden layer without bias."""
    model = rising(regression(bias=0.0))
    x = samples(model)
    y_ref = 0.4 * model(x).numpy()[:, 0]
    out = attribute_relative(model, x, y_ref, "lrp.alpha_1_beta_0_IB", dtype="float64")
    np.testing.assert_allclose(
        out.attribution.sum("feature") + out.lost_to_empty_pot, out.prediction - y_ref, atol=1e-12
    )
    assert (out.absorbed_by_bias == 0).all()


def test_the_z_rule_puts_the_reference_into_the_bias_alone():
    model = rising(regression())
    x = samples(model)
    low, high = (
        attribute_relative(model, x, output_bias(model) + part, "lrp.z", dtype="float64")
        for part in (0.01, 5.0)
    )
    np.testing.assert_allclose(low.attribution, high.attribution, atol=1e-12)
    np.testing.assert_allclose(low.absorbed_by_bias - high.absorbed_by_bias, 4.99)
    plain = attribute(model, x, "lrp.z", dtype="float64").attribution
    np.testing.assert_allclose(low.attribution, plain, atol=1e-12)


def test_the_gamma_rule_shares_out_the_difference():
    model = rising(regression())
    x = samples(model)
    f = model(x).numpy()[:, 0].astype(float)
    near, far = (
        attribute_relative(model, x, f - part * (f - output_bias(model)), "lrp.gamma", dtype="float64")
        for part in (1e-6, 0.5)
    )
    assert (abs(near.attribution).sum("feature") < 1e-4 * abs(far.attribution).sum("feature")).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relative_to_the_prediction_everything_is_zero(method, dtype):
    model = regression()
    x = samples(model)
    f = attribute(model, x, "gradient", dtype=dtype).prediction.values
    out = attribute_relative(model, x, f, method, dtype=dtype)
    assert (out.attribution == 0).all()
    assert (out.absorbed_by_bias == 0).all()
    assert (out.completeness_gap == 0).all()
    assert (out.status == 0).all()


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_several_samples_are_explained_as_one_by_one(dtype):
    """Up to the last digits: each compilation orders the terms of sums anew."""
    model = rising(regression())
    x = samples(model, 70)
    y_ref = some_references(model, x)
    options = {"method": "lrp.gamma", "dtype": dtype}
    together = attribute_relative(model, x, y_ref, **options)
    last_digits = 32 * np.finfo(dtype).eps * float(abs(together.attribution).max())
    for i in (0, 69):
        alone = attribute_relative(model, x[i : i + 1], y_ref[i], **options)
        np.testing.assert_allclose(alone.attribution[0], together.attribution[i], rtol=0, atol=last_digits)
        np.testing.assert_allclose(
            alone.absorbed_by_bias[0], together.absorbed_by_bias[i], rtol=0, atol=last_digits
        )
        np.testing.assert_array_equal(alone.prediction[0], together.prediction[i])
    small = attribute_relative(model, x[:9], y_ref[:9], batch_size=4, **options)
    np.testing.assert_allclose(small.attribution, together.attribution[:9], rtol=0, atol=last_digits)


def test_result_tells_what_it_is_relative_to():
    model = rising(regression())
    x = xr.DataArray(samples(model), dims=("time", "cell"), coords={"time": np.arange(5) + 2000})
    before = model.get_weights()
    out = attribute_relative(model, x, output_bias(model) + 0.25, "lrp.gamma(gamma=0.5)")
    assert out.attribution.dims == ("time", "cell")
    assert out.attribution.attrs["long_name"] == "attribution of f(x) - y_ref"
    np.testing.assert_allclose(out.reference, output_bias(model) + 0.25, rtol=1e-6)
    identity = json.loads(out.attrs["identities"])["lrp.gamma(gamma=0.5)"]
    assert identity["reference"] == pytest.approx(output_bias(model) + 0.25)
    assert identity["parameters"]["gamma"] == 0.5
    assert set(out.data_vars) == {
        "attribution",
        "prediction",
        "reference",
        "target",
        "completeness_gap",
        "status",
        *LEDGER,
    }
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_maps_are_explained_as_maps():
    mask = np.array([[True, False, True], [True, True, True]])
    grid = Grid(mask, [0.0, 10.0], [0.0, 120.0, 240.0])
    model = rising(regression(n_inputs=5))
    x = samples(model)
    out = attribute_relative(model, grid.to_map(x), output_bias(model) + 0.1, grid=grid)
    plain = attribute_relative(model, x, output_bias(model) + 0.1)
    np.testing.assert_array_equal(grid.to_vector(out.attribution), plain.attribution)


def test_models_of_several_inputs_have_one_attribution_each():
    a, b = L.Input(3, name="sst"), L.Input(4, name="wind")
    y = L.Dense(1)(L.Dense(6, "relu")(L.Concatenate()([L.Dense(5, "relu")(a), b])))
    model = rising(networks.randomised(tf.keras.Model([a, b], y)))
    rng = np.random.default_rng(0)
    x = {"sst": rng.normal(size=(4, 3)), "wind": rng.normal(size=(4, 4))}
    out = attribute_relative(model, x, output_bias(model) + 0.1, dtype="float64")
    total = out.attribution_sst.sum("sst_feature") + out.attribution_wind.sum("wind_feature")
    total = total + sum(out[name] for name in LEDGER)
    np.testing.assert_allclose(total, out.prediction - out.reference, atol=1e-12)


def sequential(*layers, shape=5) -> tf.keras.Model:
    return tf.keras.Sequential([L.InputLayer(shape), *layers])


def residual() -> tf.keras.Model:
    x = L.Input(4)
    added = L.Add(name="sum")([L.Dense(4)(x), x])
    return tf.keras.Model(x, L.Dense(1)(L.ReLU()(added)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: sequential(L.Dense(4, "relu"), L.Dense(2, name="two")),
            "layer 'two' is no single dense unit",
        ),
        (
            lambda: sequential(L.Dense(4, "relu"), L.Dense(1, "sigmoid", name="end")),
            "layer 'end' ends in sigmoid",
        ),
        (
            lambda: sequential(L.Dense(4, "relu"), L.Dense(1, "relu", name="end")),
            "layer 'end' is no single dense",
        ),
        (lambda: sequential(L.Dense(4, "tanh", name="bend"), L.Dense(1)), "layer 'bend' .*no ReLU"),
        (lambda: sequential(L.Dense(1), shape=5), "lies before the output and is no ReLU"),
        (
            lambda: sequential(
                L.Conv1D(2, 2, activation="relu"),
                L.MaxPooling1D(2, name="max"),
                L.Flatten(),
                L.Dense(1),
                shape=(6, 1),
            ),
            "layer 'max' lies before the output and is no ReLU",
        ),
        (residual, "layer 'sum' lies before the last ReLU and is not linear"),
        (
            lambda: sequential(L.Dense(4, "elu", name="soft"), L.Dense(4, "relu"), L.Dense(1)),
            "layer 'soft' has the activation 'elu'",
        ),
    ],
)
def test_other_networks_are_refused_by_the_layer(make, message):
    model = make()
    with pytest.raises(UnsupportedLayerError, match=message) as caught:
        attribute_relative(model, samples(model), 0.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "deep_taylor", "deeplift.rescale"])
def test_other_methods_are_refused(method):
    with pytest.raises(MethodError, match=f"{method}: only LRP methods are restructured.*xairt.attribute"):
        attribute_relative(regression(), np.ones((1, 7)), 0.0, method)


def test_the_gradient_of_the_difference_is_that_of_the_prediction():
    """Why methods of gradients need no restructuring: the three networks' gradient is the model's."""
    model = rising(regression())
    x = samples(model)
    made = restructured(model, x, some_references(model, x))
    evaluator = made.network.evaluator("float64")
    with tf.GradientTape() as tape:
        given = tf.Variable(made.values)
        values, _ = evaluator.with_biases(made.biases(tf.constant(made.reference_activations))).forward(given)
        total = sum(values[i] for i in made.network.graph.outputs)
    plain = attribute(model, x, "gradient", dtype="float64").attribution
    np.testing.assert_allclose(tape.gradient(total, given), plain, atol=1e-12)


def test_unreachable_references_of_a_network_are_an_error():
    model = rising(regression())
    x = samples(model)
    with pytest.raises(DataError, match=r"y_ref .* of sample 0.*flooding reaches .* to infinity"):
        attribute_relative(model, x, output_bias(model) - 1.0)
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([-kernel, bias])
    with pytest.raises(DataError, match=r"y_ref .* \(5 of 5 samples\): flooding reaches -infinity to"):
        attribute_relative(model, x, output_bias(model) + 100.0)


@pytest.mark.parametrize("y_ref", ["a", [[1.0], [2.0, 3.0]]])
def test_references_that_are_no_numbers_are_an_error(y_ref):
    model = regression()
    with pytest.raises(DataError, match=r"y_ref .* is no array of numbers"):
        attribute_relative(model, samples(model), y_ref)


# --------------------------------------------------------------------------- retraining


def training_data(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(n, 4)).astype("float32")
    return x, 10 + x[:, 0] - 2 * np.maximum(x[:, 1], 0)


@pytest.mark.usefixtures("compiled")
def test_retrained_network_predicts_the_difference_without_output_bias():
    x, y = training_data()
    model = regression((12,), 4)
    before = model.get_weights()
    made = retrained(model, x, y, 10.0, epochs=40, batch_size=20, validation=(x[:50], y[:50]))
    assert made.layers[-1].bias is None
    assert np.corrcoef(made(x).numpy()[:, 0], y - 10)[0, 1] > 0.97
    assert abs((made(x).numpy()[:, 0] - (y - 10)).mean()) < 0.1
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert model.layers[-1].bias is not None
    out = attribute(made, x[:5], "lrp.epsilon", dtype="float64")
    np.testing.assert_allclose(books(out), made(x[:5]).numpy()[:, 0], atol=1e-5)


def test_retraining_starts_from_the_weights_and_takes_a_reference_per_sample():
    x, y = training_data(60)
    model = regression((12,), 4)
    options = {"epochs": 3, "batch_size": 10, "optimizer": "adam"}
    per_sample = retrained(model, x, y[:, None], np.full(60, 4.0), **options)
    one = retrained(model, x, y, 4.0, **options)
    for a, b in zip(per_sample.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    still = retrained(model, x, y, 4.0, epochs=1, optimizer=tf.keras.optimizers.legacy.SGD(0.0))
    np.testing.assert_allclose(still(x), model(x) - output_bias(model), atol=1e-6)


def test_retraining_works_behind_a_nested_network():
    inner = networks.randomised(tf.keras.Sequential([L.InputLayer(4), L.Dense(5, "relu")], name="inner"))
    model = networks.randomised(tf.keras.Sequential([L.InputLayer(4), inner, L.Dense(1)]))
    x, y = training_data(40)
    still = retrained(model, x, y, 4.0, epochs=1, optimizer=tf.keras.optimizers.legacy.SGD(0.0))
    np.testing.assert_allclose(still(x), model(x) - output_bias(model), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "y_ref", "options", "error", "message"),
    [
        (
            lambda: regression((3,), 4, activation="tanh"),
            0.0,
            {},
            UnsupportedLayerError,
            "no single linear dense unit",
        ),
        (
            lambda: sequential(L.Dense(2, name="two"), shape=4),
            0.0,
            {},
            UnsupportedLayerError,
            "layer 'two' is no single",
        ),
        (lambda: tf.keras.Sequential([L.Dense(1)]), 0.0, {}, ModelError, "no Sequential or Functional model"),
        (lambda: regression((3,), 4), np.zeros(3), {}, DataError, r"y_ref has shape \(3,\) for 20 samples"),
        (
            lambda: regression((3,), 4),
            np.zeros(20),
            {"validation": (np.zeros((2, 4)), np.zeros(2))},
            DataError,
            "validation with a y_ref per sample",
        ),
    ],
)
def test_retraining_refuses_what_does_not_fit(make, y_ref, options, error, message):
    x, y = training_data(20)
    with pytest.raises(error, match=message):
        retrained(make(), x, y, y_ref, epochs=1, **options)


@pytest.mark.usefixtures("compiled")
def test_the_example_of_the_documentation_explains_what_it_says():
    page = Path(__file__).parents[1] / "docs" / "reference.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(code, names)
    np.testing.assert_allclose(names["result"].prediction - names["result"].reference, 1.0, atol=1e-4)
    assert (names["result"].status == 0).all()
    np.testing.assert_allclose(names["near"](names["x"])[:, 0], names["y"] - 21, atol=1.5)
