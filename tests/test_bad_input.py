"""Every mistake gives one line that names the object, the reason and the remedy."""

from __future__ import annotations

import dataclasses

import networks
import numpy as np
import pytest
import tensorflow as tf
import xarray as xr

from xairt import Grid, attribute, explainer
from xairt.errors import DataError, MethodError, ModelError, UnsupportedLayerError, XairtError

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers
X = np.random.default_rng(0).normal(size=(4, 7))
MASK = np.array([[0, 1, 1, 0], [1, 1, 0, 1], [0, 1, 0, 1]], bool)
GRID = Grid(MASK, [30.0, 0.0, -30.0], [0.0, 90.0, 180.0, 270.0])
SMALL = Grid(MASK[:2], [30.0, 0.0], [0.0, 90.0, 180.0, 270.0])


@pytest.fixture(scope="module")
def model():
    return networks.mlp()


@pytest.fixture(scope="module")
def explain(model):
    return explainer(model, "gradient")


@dataclasses.dataclass(frozen=True)
class Case:
    """A mistake, the exception it raises and a pattern of its message."""

    reason: str
    error: type[XairtError]
    method: str = "gradient"
    options: dict = dataclasses.field(default_factory=dict)


def refused(model, case: Case, x=X) -> None:
    with pytest.raises(case.error, match=case.reason) as caught:
        attribute(model, x, case.method, **case.options)
    assert type(caught.value) is case.error
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


# --------------------------------------------------------------------------- samples


def spoiled(*values) -> np.ndarray:
    x = X.copy()
    for i, value in enumerate(values):
        x[2, 3 + i] = value
    return x


def maps(lat=GRID.lat, lon=GRID.lon) -> xr.DataArray:
    return xr.DataArray(GRID.to_map(X), {"lat": lat, "lon": lon}, ("time", "lat", "lon"))


def with_hole() -> xr.DataArray:
    field = maps()
    field[1, 0, 1] = np.nan
    return field


SAMPLES = {
    "NaN": (
        spoiled(np.nan),
        r"x holds 1 NaN, the first at index \(2, 3\): fill or remove them; give maps with a grid",
    ),
    "two NaN": (spoiled(np.nan, np.nan), r"x holds 2 NaNs, the first at index \(2, 3\)"),
    "infinite": (
        spoiled(np.inf),
        r"x holds 1 infinite value, the first at index \(2, 3\): fill or remove them",
    ),
    "too large for float32": (spoiled(1e300), "x holds 1 value beyond the range of float32, the first at"),
    "one sample": (
        X[0],
        r"x has shape \(7,\), but the model takes \(samples, 7\): .* give x\[None\], shape \(1, 7\)",
    ),
    "too few features": (
        X[:, :5],
        r"x has shape \(4, 5\), but the model takes \(samples, 7\): reshape it or give maps",
    ),
    "too many axes": (X[None, None], r"x has shape \(1, 1, 4, 7\), but the model takes \(samples, 7\)"),
    "no samples": (X[:0], r"x of shape \(0, 7\) holds no samples: give shape \(samples, 7\)"),
    "a number": (3.0, r"x of shape \(\) holds no samples"),
    "nothing": (None, "x has dtype object: give real numbers"),
    "text": (X.astype(str), "x has dtype <U32: give real numbers"),
    "complex": (X + 1j, "x has dtype complex128: give real numbers"),
    "ragged": (
        [[1.0] * 7, [2.0]],
        r"x \[\[1.0, 1.0.*\], \[2.0\]\] is no array of numbers: give rows of equal length",
    ),
    "dataset": (maps().to_dataset(name="sst"), "x is a Dataset of sst: give one of its variables"),
    "maps without coordinates": (
        GRID.to_map(X),
        "the model takes vectors of 7 values: give a grid, or a DataArray",
    ),
    "one map": (
        maps()[0],
        r"x has shape \(3, 4\), but the model takes \(samples, 7\): reshape it or give maps",
    ),
    "no maps": (maps()[:0].transpose("lat", "lon", "time"), r"x of shape \(3, 4, 0\) holds no samples"),
    "another grid": (
        maps().isel(lat=[0, 1]),
        r"the grid has 5 valid cells, but the model takes 7 inputs: use the land mask",
    ),
    "NaN in some maps": (
        with_hole(),
        "1 cells are NaN in some maps only: fill them|1 cells are NaN in some maps only; fill",
    ),
    "unnamed axes": (xr.DataArray(GRID.to_map(X), dims=("a", "b", "c")), "has no latitude; name one 'lat'"),
}


@pytest.mark.parametrize("case", SAMPLES)
def test_samples(model, case):
    x, reason = SAMPLES[case]
    refused(model, Case(reason, DataError), x)


def test_image_models_tell_their_shape():
    model = networks.cnn()
    x = networks.samples(model, 2)
    refused(
        model,
        Case(r"x has shape \(9, 8, 2\), .* takes \(samples, 9, 8, 2\): .* give x\[None\]", DataError),
        x[0],
    )
    refused(
        model,
        Case(r"x has shape \(2, 2, 9, 8\), .* takes \(samples, 9, 8, 2\): reshape it$", DataError),
        x.transpose(0, 3, 1, 2),
    )


def test_given_grid(model):
    given = {"grid": GRID}
    refused(
        model,
        Case("map has 1 NaN in valid cells, the first at index .*lat 30, lon 90", DataError, options=given),
        with_hole(),
    )
    lat = np.array([31.0, 0.0, -30.0])
    refused(model, Case("latitude 30 of the grid is not in the map", DataError, options=given), maps(lat=lat))
    refused(
        model,
        Case(r"grid is \(3, 4\) \(lat, lon\), got maps of shape", DataError, options=given),
        np.zeros((4, 4, 3)),
    )
    refused(
        model,
        Case("the grid has 5 valid cells, but the model takes 7 inputs", DataError, options={"grid": SMALL}),
    )
    infinite = GRID.to_map(spoiled(np.inf))
    refused(
        model,
        Case("x holds 1 infinite value, .*: valid cells must hold finite", DataError, options=given),
        infinite,
    )


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"seed": -1}, r"seed -1 is not usable: give an integer from 0 to 2\*\*31 - 1"),
        ({"seed": 2**31}, "seed 2147483648 is not usable"),
        ({"seed": 1.0}, "seed 1.0 is not usable"),
        ({"seed": True}, "seed True is not usable"),
        (
            {"sample_index": [0, 1]},
            r"sample_index must hold one integer for each of the 4 samples, .*, got shape \(2,\)",
        ),
        (
            {"sample_index": [0, 1, -2, 3]},
            r"sample_index -2 is out of range: give integers from 0 to 2\*\*31 - 1$",
        ),
        ({"sample_index": [0, 1, 2, 2**31]}, "sample_index 2147483648 is out of range"),
        ({"sample_index": np.array([2**63, 1, 2, 3], np.uint64)}, "sample_index 9223372036854775808 is out"),
        (
            {"sample_index": [0, 1, 2, 2**70]},
            r"sample_index must hold .* from 0 to 2\*\*31 - 1, got shape \(4,\) of",
        ),
        (
            {"sample_index": [0.0, 1.0, 2.0, 3.0]},
            "sample_index must hold one integer for each of the 4 samples",
        ),
    ],
)
def test_seed_and_sample_index(explain, call, reason):
    with pytest.raises(DataError, match=reason):
        explain(X, **call)


# --------------------------------------------------------------------------- methods and parameters

METHODS = [
    Case(
        "unknown method 'gradeint'; did you mean 'gradient'. `xairt methods` lists all",
        MethodError,
        "gradeint",
    ),
    Case(
        "unknown method 'lrp.alpha_1_beta_O'; did you mean 'lrp.alpha_1_beta_0'",
        MethodError,
        "lrp.alpha_1_beta_O",
    ),
    Case("unknown method 'qwertyuiop'; `xairt methods` lists all", MethodError, "qwertyuiop"),
    Case("method 3 is not a name: `xairt methods` lists all|'int' object", MethodError, ["gradient", 3]),
    Case(r"method 'lrp.z\(' cannot be read: write a name", MethodError, "lrp.z("),
    Case("gradient has no parameter 'steps': it has none", MethodError, options={"steps": 3}),
    Case(
        "lrp.epsilon has no parameter 'epsilom': it has .*; did you mean 'epsilon'",
        MethodError,
        "lrp.epsilon",
        {"epsilom": 1},
    ),
    Case(
        "lrp.epsilon: parameter 'epsilon' = -0.1: .*greater than or equal to 0",
        MethodError,
        "lrp.epsilon",
        {"epsilon": -0.1},
    ),
    Case("lrp.epsilon: parameter 'epsilon' = nan", MethodError, "lrp.epsilon", {"epsilon": np.nan}),
    Case("lrp.epsilon: parameter 'epsilon' = 'x': .*valid number", MethodError, "lrp.epsilon(epsilon=x)"),
    Case(
        "lrp.z: parameter 'bias' = 'none': .*'canonical', 'innvestigate' or 'ignore'",
        MethodError,
        "lrp.z",
        {"bias": "none"},
    ),
    Case(
        "lrp.alpha_beta: parameter.*alpha - beta must be 1, got 2 - 0",
        MethodError,
        "lrp.alpha_beta",
        {"alpha": 2},
    ),
    Case(
        "parameter 'alpha' = 0.5: .*greater than or equal to 1",
        MethodError,
        "lrp.alpha_beta",
        {"alpha": 0.5, "beta": -0.5},
    ),
    Case(
        "lrp.alpha_1_beta_0: parameter 'alpha' is fixed by the name already",
        MethodError,
        "lrp.alpha_1_beta_0",
        {"alpha": 2},
    ),
    Case(
        r"low \(1.0\) must lie below high \(-1.0\)",
        MethodError,
        "lrp.z(input_layer_rule=Bounded(low=1, high=-1))",
    ),
    Case(
        r"low \(2.0\) must lie below high \(2.0\)",
        MethodError,
        "lrp.z(input_layer_rule=Bounded(low=2, high=2))",
    ),
    Case(
        "'input_layer_rule.low' = nan: .*finite number",
        MethodError,
        "lrp.z",
        {"input_layer_rule": {"name": "Bounded", "low": np.nan}},
    ),
    Case("'Flat', 'WSquare' or 'Bounded'", MethodError, "lrp.z", {"input_layer_rule": "Flatt"}),
    Case("Bounded cannot|Bounded.*cannot be read", MethodError, "lrp.z", {"input_layer_rule": "Bounded("}),
    Case(
        "integrated_gradients: parameter 'quadrature' = 'simpson'",
        MethodError,
        "integrated_gradients",
        {"quadrature": "simpson"},
    ),
    Case("occlusion: parameter 'patch.*' = array", MethodError, "occlusion", {"patch": np.ones((30, 30))}),
    Case("occlusion: parameter 'value' = inf", MethodError, "occlusion", {"value": np.inf}),
    Case(
        "unknown engine 'innvestigat': use native, innvestigate, deeplift, shap or lime; did you mean 'innvestigate'",
        MethodError,
        options={"engine": "innvestigat"},
    ),
    Case(
        "occlusion has no engine 'innvestigate': use engine='native'",
        MethodError,
        "occlusion",
        {"engine": "innvestigate"},
    ),
    Case(
        "lrp.sequential_preset_b_flat_until_idx has no engine 'native': use engine='innvestigate'",
        MethodError,
        "lrp.sequential_preset_b_flat_until_idx",
        options={"engine": "native"},
    ),
    Case("unknown dtype 'float16': use float32 or float64", MethodError, options={"dtype": "float16"}),
    Case(
        "engine 'innvestigate' computes in float32 only",
        MethodError,
        options={"engine": "innvestigate", "dtype": "float64"},
    ),
    Case(
        "lrp.z has no convention 'investigate': it has innvestigate; did you mean",
        MethodError,
        "lrp.z",
        {"convention": "investigate"},
    ),
    Case(
        "gradient has no convention 'innvestigate': it has none",
        MethodError,
        options={"convention": "innvestigate"},
    ),
    Case("batch_size 0 is not usable: give a positive integer", MethodError, options={"batch_size": 0}),
    Case("batch_size 2.5 is not usable", MethodError, options={"batch_size": 2.5}),
    Case("gradient uses no baseline: leave it out", MethodError, options={"baseline": 0}),
]


@pytest.mark.parametrize("case", METHODS, ids=lambda case: case.reason[:50])
def test_methods_and_parameters(model, case):
    refused(model, case)


@pytest.mark.parametrize(
    ("baseline", "reason"),
    [
        (np.zeros(5), r"baseline has shape \(5,\): give a number, one sample \(7\) or a set \(m, 7\)"),
        (np.zeros((0, 7)), r"baseline has shape \(0, 7\)"),
        (np.zeros((2, 2, 7)), r"baseline has shape \(2, 2, 7\)"),
        (np.nan, "baseline holds 7 NaNs, the first at index .*: give finite numbers"),
        ([0.0] * 6 + [np.inf], "baseline holds 1 infinite value"),
        ("zero", "baseline 'zero' is no array of numbers"),
        ([[0.0] * 7, [1.0]], "is no array of numbers: give rows of equal length"),
    ],
)
def test_baselines(model, baseline, reason):
    refused(model, Case(reason, DataError, "integrated_gradients", {"baseline": baseline}))


def test_baseline_map_with_land_in_the_wrong_place(model):
    options = {"baseline": np.where(MASK[::-1], 0.0, np.nan), "grid": GRID}
    refused(model, Case("map has 2 NaN in valid cells", DataError, "integrated_gradients", options))


# --------------------------------------------------------------------------- models


def chain(*layers) -> tf.keras.Model:
    return tf.keras.Sequential([L.InputLayer(7), *layers])


MODELS = [
    (
        lambda: chain(L.LayerNormalization(name="norm")),
        r"layer 'norm' \(LayerNormalization\) has no canonical form: LRP, DeepLIFT and shap.deep do not",
    ),
    (
        lambda: chain(L.Dense(3, "tanh", name="hidden"), L.Dense(1)),
        "layer 'hidden' has the activation 'tanh': LRP passes .* do work",
    ),
    (
        lambda: chain(L.Dense(3, "sigmoid", name="hidden"), L.Dense(1)),
        "layer 'hidden' has the activation 'sigmoid'",
    ),
    (
        lambda: chain(L.ReLU(max_value=1, name="capped"), L.Dense(1)),
        "layer 'capped' has the activation 'relu'",
    ),
]


@pytest.mark.parametrize(("make", "reason"), MODELS)
def test_layers_that_lrp_does_not_know(make, reason):
    refused(make(), Case(reason, UnsupportedLayerError, "lrp.z"))


@pytest.mark.parametrize("thing", ["model.h5", None, 3.0, L.Dense(3)])
def test_things_that_are_no_model(thing):
    refused(thing, Case(rf"{type(thing).__name__} is not a Keras model: give a tf.keras.Model", ModelError))
    with pytest.raises(ModelError, match="is not a Keras model"):
        explainer(thing, "gradient")


def test_models_that_are_not_built():
    unbuilt = tf.keras.Sequential([L.Dense(3)], name="unbuilt")
    refused(unbuilt, Case("model 'unbuilt' has never seen an input: call it once with samples", ModelError))
    refused(unbuilt, Case("has never seen an input", ModelError, "lrp.z"))


def test_inputs_of_unknown_size():
    x = tf.keras.Input((None, 3))
    model = tf.keras.Model(x, L.GlobalAveragePooling1D()(L.Dense(2)(x)), name="open")
    reason = r"model 'open' takes inputs of shape \(None, None, 3\): only models whose inputs have"
    refused(model, Case(reason, ModelError), np.zeros((2, 5, 3)))


def test_a_refused_call_leaves_the_explainer_usable(explain):
    before = explain(X)
    with pytest.raises(DataError, match="x holds 1 NaN"):
        explain(spoiled(np.nan))
    assert explain(X).identical(before)


@pytest.mark.parametrize("what", ["x", "baseline"])
def test_numbers_beyond_float32_are_told_apart_from_infinite_ones(what):
    model = networks.mlp()
    given = {"x": networks.samples(model).astype(float), "baseline": np.zeros(model.input_shape[1])}
    given[what].flat[3] = 1e300
    with pytest.raises(
        DataError, match=rf"{what} holds 1 value beyond the range of float32, .*dtype='float64'"
    ):
        attribute(model, method="integrated_gradients", target=0, **given)


@pytest.mark.parametrize(
    "choice",
    [
        {"engine": 3},
        {"engine": ""},
        {"convention": 3},
        {"dtype": tf.float64},
        {"engine": "shap", "python": 3},
    ],
)
def test_choices_of_a_wrong_type(choice):
    model = networks.mlp()
    with pytest.raises(MethodError, match=r"unknown (engine|dtype)|has no convention|not usable"):
        attribute(model, networks.samples(model), "shap.deep", **choice)


def test_gauss_legendre_of_too_many_points():
    model = networks.mlp()
    with pytest.raises(MethodError, match="gauss_legendre takes at most 1000"):
        attribute(
            model, networks.samples(model), "integrated_gradients(steps=5000, quadrature='gauss_legendre')"
        )


def test_a_batch_size_beyond_the_samples_costs_nothing():
    model = networks.mlp()
    x = networks.samples(model)
    huge = attribute(model, x, "lrp.z", batch_size=10**12)
    np.testing.assert_array_equal(huge.attribution, attribute(model, x, "lrp.z").attribution)


def test_groups_by_input_name():
    model = networks.mlp()
    with pytest.raises(MethodError, match="one array of a label for each feature"):
        attribute(model, networks.samples(model), "feature_ablation", groups={"a": [0, 1]})


def test_masked_values_are_missing_ones():
    masked = np.ma.masked_array(X, mask=np.zeros(X.shape, bool), fill_value=1e20)
    masked[1, 2] = np.ma.masked
    with pytest.raises(DataError, match=r"x holds 1 NaN, the first at index \(1, 2\)"):
        attribute(networks.mlp(), masked, "gradient", target=0)
    with pytest.raises(DataError, match=r"baseline holds 1 NaN"):
        attribute(networks.mlp(), X, "integrated_gradients", target=0, baseline=masked)
    unmasked = attribute(networks.mlp(), np.ma.masked_array(X), "gradient", target=0)
    xr.testing.assert_equal(
        unmasked.attribution, attribute(networks.mlp(), X, "gradient", target=0).attribution
    )


@pytest.mark.parametrize(
    ("baseline", "told"),
    [
        (1j, "baseline holds complex numbers: give real numbers"),
        (X[0] * 1j, "baseline holds complex numbers: give real numbers"),
        ("zero", "baseline 'zero' is no array of numbers: give real numbers"),
        ([[1.0], [1.0, 2.0]], "give rows of equal length"),
    ],
)
def test_baselines_that_are_no_real_numbers(baseline, told):
    with pytest.raises(DataError, match=told):
        attribute(networks.mlp(), X, "integrated_gradients", target=0, baseline=baseline)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("smoothgrad(noise_scale=1e39)", "noise_scale = 1e\\+39 is beyond the range of float32"),
        ("occlusion(value=-1e39)", "value = -1e\\+39 is beyond the range of float32"),
        ("lrp.epsilon(epsilon=1e39)", "epsilon = 1e\\+39 is beyond the range of float32"),
    ],
)
def test_parameters_beyond_the_precision(method, told):
    with pytest.raises(MethodError, match=told):
        explainer(networks.mlp(), method, target=0)
    explainer(networks.mlp(), method, target=0, dtype="float64")


def test_infinite_noise_is_refused():
    with pytest.raises(MethodError, match=r"smoothgrad: parameter 'noise_scale' = inf"):
        explainer(networks.mlp(), "smoothgrad", target=0, noise_scale=np.inf)


def test_a_finite_attribution_whose_sum_overflows_does_not_fail():
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False)])
    model.build((None, 512))
    model.set_weights([np.full((512, 1), 2e36, np.float32)])
    result = attribute(model, np.full((1, 512), 1e-3), "gradient")
    assert int(result.status[0]) == 3


def test_an_activation_that_keras_cannot_name():
    @tf.custom_gradient
    def odd(v):
        return tf.nn.relu(v), lambda upstream: upstream

    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.layers.Dense(3, activation=odd), tf.keras.layers.Dense(1)])
    model.build((None, 4))
    x = np.ones((2, 4), np.float32)
    with tf.GradientTape() as tape:
        tensor = tf.constant(x)
        tape.watch(tensor)
        value = model(tensor)
    np.testing.assert_allclose(
        attribute(model, x, "gradient").attribution, tape.gradient(value, tensor), rtol=1e-6
    )
