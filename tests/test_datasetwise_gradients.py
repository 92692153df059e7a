"""Models without a gradient, functions that are not of TensorFlow alone, predictions that are constant but for rounding."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import xarray as xr

from xairt import datasetwise
from xairt.errors import DataError, MethodError, ModelError


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)


def by_numpy(z):
    return tf.numpy_function(lambda v: np.sin(v[:, 0] + v[:, 1]), [z], tf.float32)


def keras_of(*layers) -> tf.keras.Model:
    tf.keras.utils.set_random_seed(0)
    return tf.keras.Sequential([tf.keras.layers.InputLayer(3), *layers])


WITHOUT_GRADIENT = {
    "stopped": lambda: lambda z: tf.stop_gradient(z[:, 0]),
    "numpy_function": lambda: by_numpy,
    "argmax": lambda: lambda z: tf.cast(tf.argmax(z, axis=1), tf.float32),
    "round": lambda: lambda z: tf.round(z[:, 0]),
    "sign": lambda: lambda z: tf.sign(z[:, 0]) + 2 * tf.sign(z[:, 1]),
    "one of two outputs": lambda: lambda z: tf.stack([z[:, 0], tf.sign(z[:, 1])], axis=1),
    "keras": lambda: keras_of(
        tf.keras.layers.Dense(4), tf.keras.layers.Lambda(tf.sign), tf.keras.layers.Dense(1)
    ),
}


@pytest.mark.parametrize("name", WITHOUT_GRADIENT)
def test_a_model_without_a_gradient_is_refused(x, name):
    model = WITHOUT_GRADIENT[name]()
    message = "through differentiable operations.*use method 'bsc' or baseline_shapley"
    with pytest.raises(ModelError, match=message) as told:
        datasetwise.attribute(model, x, _truth(name, x))
    assert "\n" not in str(told.value)


def _truth(name: str, x: np.ndarray) -> np.ndarray:
    return x[:, :2] if name == "one of two outputs" else x[:, 0]


@pytest.mark.parametrize("name", WITHOUT_GRADIENT)
def test_shapley_values_need_no_gradient(x, name):
    model = WITHOUT_GRADIENT[name]()
    y = _truth(name, x)
    found = datasetwise.bsc(model, x, y)
    np.testing.assert_allclose(found.bsc.sum("feature"), found.correlation, atol=1e-6)
    assert (abs(found.bsc).max("feature") > 0.01).all()
    values = datasetwise.baseline_shapley(model, x[:5])
    np.testing.assert_allclose(values.completeness_gap, 0, atol=1e-6)


def test_an_output_with_a_gradient_is_explained_beside_one_without(x):
    model = WITHOUT_GRADIENT["one of two outputs"]()
    assert float(datasetwise.igc(model, x, x[:, :2], outputs=0).igc[0]) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ModelError, match="output 1 of"):
        datasetwise.igc(model, x, x[:, :2], outputs=[0, 1])


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_a_saturated_function_is_explained_from_its_path(scale):
    x = np.random.default_rng(1).uniform(0.5, 1, (30, 2)).astype(np.float32)
    x *= np.where(np.arange(30) % 2, 1, -1)[:, None]
    found = datasetwise.ig_mean(lambda z: tf.tanh(scale * z[:, 0]), x, steps=5)
    assert float(abs(found.ig_mean[0])) > 0


def test_dead_units_are_no_missing_gradient(x):
    relu = keras_of(tf.keras.layers.Dense(1, "relu", kernel_initializer="zeros"))
    assert (datasetwise.ig_mean(relu, x).ig_mean == 0).all()
    at_first = np.concatenate([-abs(x[:8]), x])
    found = datasetwise.ig_mean(lambda z: tf.nn.relu(z[:, 0]), at_first)
    assert float(found.ig_mean[0]) > 0.1


def test_every_trial_sample_is_computed_alone(x):
    with pytest.raises(ModelError, match="gives a sample another number when it comes with others"):
        datasetwise.igc(lambda z: tf.cumsum(z[:, 0]), x, x[:, 0])


def through_numbers(z):
    return tf.constant(np.sin(z.numpy()[:, 0]))


def loop(z):
    total = tf.zeros(tf.shape(z)[:1])
    for i in tf.range(3):
        if i > 0:
            total += z[:, i]
    return total


@pytest.mark.parametrize("function", [through_numbers, loop])
@pytest.mark.parametrize("method", ["igc", "bsc"])
def test_a_function_of_numbers_is_refused(x, function, method):
    name = function.__name__
    with pytest.raises(
        ModelError, match=f"function '{name}' computes with numbers, not with tensors alone"
    ) as told:
        datasetwise.attribute(function, x, x[:, 0], method)
    assert "\n" not in str(told.value)


def test_control_flow_of_a_compiled_function_is_kept(x):
    compiled = tf.function(loop)

    def squared(z):
        return compiled(z) ** 2

    expected = (x[:, 1] + x[:, 2]) ** 2
    for function in (squared, lambda z: tf.function(loop)(z) ** 2):
        found = datasetwise.attribute(function, x, expected, ("igc", "bsc"), steps=200)
        assert float(found.correlation) == pytest.approx(1, abs=1e-5)
        assert float(found.igc.sum()) == pytest.approx(1, abs=1e-4)


def test_two_functions_on_one_line_are_traced_without_a_word(x, capfd):
    a, b = lambda z: z[:, 0], lambda z: z[:, 1] * z[:, 0]
    for function in (a, b):
        datasetwise.attribute(function, x, x[:, 0], ("igc", "bsc"), n_iter=1)
    assert "AutoGraph" not in "".join(capfd.readouterr())


# ------------------------------------------------------------------------- constant but for rounding


def test_a_prediction_that_varies_by_rounding_alone_is_constant(x):
    def nearly(z):
        return 3.0 + 1e-7 * z[:, 0]

    for method in ("igc", "igac", "bsc"):
        with pytest.raises(DataError, match="the prediction of output 0 is constant"):
            datasetwise.attribute(nearly, x, x[:, 0], method)
    both = datasetwise.attribute(nearly, x, x[:, 0], "ig_mean")
    assert np.isnan(float(both.correlation))
    varying = datasetwise.igc(lambda z: 3.0 + 1e-4 * z[:, 0], x, x[:, 0])
    assert float(varying.igc[0]) == pytest.approx(1, abs=1e-2)


def test_float64_tells_smaller_predictions_apart(x):
    model = keras_of(tf.keras.layers.Dense(1))
    model.set_weights([np.array([[1e-7], [0], [0]]), np.array([3.0])])
    found = datasetwise.igc(model, x, x[:, 0], dtype="float64")
    assert float(found.correlation) == pytest.approx(1, abs=1e-6)
    with pytest.raises(DataError, match="the prediction of output 0 is constant"):
        datasetwise.igc(model, x, x[:, 0])


# ------------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize("methods", [None, 3, [None], [["igc"]], ("igc", 1.0)])
def test_methods_that_are_no_names(x, methods):
    with pytest.raises(MethodError, match="are no names: give some of igc, igac"):
        datasetwise.attribute(lambda z: z[:, 0], x, x[:, 0], methods)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"naive_ttest: parameters low and high are missing: give low= \(largest truth of the low group"),
        ({"low": 0}, r"naive_ttest: parameters high are missing: give high= \(smallest truth"),
    ],
)
def test_bounds_of_the_ttest_that_are_missing(x, given, message):
    with pytest.raises(MethodError, match=message):
        datasetwise.attribute(None, x, x[:, 0], "naive_ttest", **given)


def test_a_dimension_called_output_is_refused(x):
    for dims in (("time", "output"), ("output", "cell")):
        data = xr.DataArray(x, dims=dims)
        with pytest.raises(DataError, match=r"x has a dimension 'output'.*rename it"):
            datasetwise.igc(lambda z: z[:, 0], data, x[:, 0])
        with pytest.raises(DataError, match=r"x has a dimension 'output'.*rename it"):
            datasetwise.baseline_shapley(lambda z: z[:, 0], data)


def test_samples_of_one_dimension_and_lists(x):
    with pytest.raises(ModelError, match=r"fails on samples of shape \(3,\): .*1 dims.* x\[:, None\]"):
        datasetwise.igc(lambda z: z[:, 0], x[:, 0], x[:, 0])
    for rows in (x.tolist(), x[:, :2].tolist()):
        with pytest.raises(DataError, match=r"x is no array.*give numpy.asarray\(x\)"):
            datasetwise.igc(lambda z: z[:, 0], rows, x[:, 0])
