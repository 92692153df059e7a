"""Attribution of whole data sets against naive float64 loops, the original package's numbers, and invariants."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
import xarray as xr
from scipy import stats
from test_docs import EXAMPLE, printed, read

from xairt import Grid, datasetwise
from xairt.attribution.functions import network_of_function
from xairt.datasetwise import Drawn
from xairt.errors import DataError, MethodError, ModelError

ALL = ("igc", "igac", "ig_mean", "ig_std", "naive_correlation", "naive_ttest", "bsc")
FIELDS = ("igc", "igac", "ig_mean", "ig_std")


@pytest.fixture(scope="module")
def golden(golden_dir) -> dict[str, np.ndarray]:
    with np.load(golden_dir / "igc.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def network(golden) -> tf.keras.Model:
    layers = [tf.keras.layers.Dense(14, activation="tanh"), tf.keras.layers.Dense(2)]
    model = tf.keras.Sequential([tf.keras.layers.InputLayer(10), *layers])
    model.set_weights([golden[k] for k in ("w1", "b1", "w2", "b2")])
    return model


@pytest.fixture(scope="module")
def function(golden):
    w1, b1, w2, b2 = (tf.constant(golden[k]) for k in ("w1", "b1", "w2", "b2"))

    def tanh_network(x):
        return tf.tanh(x @ w1 + b1) @ w2 + b2

    return tanh_network


@pytest.fixture(scope="module", params=["keras", "function"])
def model(request, network, function):
    return network if request.param == "keras" else function


def curved(x):
    """A function without a network: (n, 3) to (n,)."""
    return tf.sin(x[:, 0]) * x[:, 1] + x[:, 2] ** 3


@pytest.fixture(scope="module")
def plain() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((60, 3)).astype(np.float32)
    return x, np.sin(x[:, 0]) + x[:, 2] + 0.3 * rng.standard_normal(60)


def same(a: xr.Dataset, b: xr.Dataset, tolerance: float) -> None:
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        np.testing.assert_allclose(a[name].values, b[name].values, rtol=0, atol=tolerance, err_msg=name)


# ------------------------------------------------------------------------------ the original package


@pytest.mark.parametrize("convention", [None, "igc2025"])
def test_golden_numbers(model, golden, convention):
    found = datasetwise.attribute(
        *(model, golden["x"], golden["y"], ALL),
        **{"baseline": 0.25, "low": -0.5, "high": 0.5, "convention": convention},
    )
    names = {"ig_std": "ig_std", "naive_correlation": "naive_corr", "naive_ttest": "naive_ttest_p"}
    if convention:
        names = {
            "ig_std": "package_ig_std",
            "naive_correlation": "package_naive_corr",
            "naive_ttest": "package_ttest_p",
        }
    for name, key in {"igc": "igc", "igac": "igac", "ig_mean": "ig_mean", **names}.items():
        np.testing.assert_allclose(found[name], golden[key], rtol=0, atol=1e-6, err_msg=name)
    assert found.igc.dims == ("output", "feature")


@pytest.mark.parametrize("n_iter", [1, 3])
def test_sum_of_bsc_is_the_correlation(model, golden, n_iter):
    found = datasetwise.bsc(model, golden["x"], golden["y"], baseline=0.25, n_iter=n_iter)
    predictions = np.asarray(model(golden["x"]), np.float64)
    expected = [np.corrcoef(predictions[:, k], golden["y"][:, k])[0, 1] for k in (0, 1)]
    np.testing.assert_allclose(found.bsc.sum("feature"), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.bsc_gap, 0, atol=1e-12)


# ---------------------------------------------------------------------------- naive loops in float64


def naive_gradients(x: np.ndarray, baseline: np.ndarray, steps: int) -> np.ndarray:
    """Integrated gradients of `curved` by its own derivatives, in float64."""
    found = np.zeros_like(x, dtype=np.float64)
    for i, (sample, start) in enumerate(zip(x.astype(np.float64), baseline, strict=True)):
        slopes = []
        for t in np.linspace(0, 1, steps):
            a, b, c = start + t * (sample - start)
            slopes.append([np.cos(a) * b, np.sin(a), 3 * c**2])
        weights = np.r_[0.5, np.ones(steps - 2), 0.5] / (steps - 1)
        found[i] = (sample - start) * (weights @ np.array(slopes))
    return found


def test_all_methods_against_naive_loops(plain):
    x, y = plain
    found = datasetwise.attribute(curved, x, y, ALL[:-1], steps=9, baseline=0.5, low=-0.4, high=0.6)
    ig = naive_gradients(x, np.full_like(x, 0.5), 9)
    p = np.sin(x[:, 0].astype(float)) * x[:, 1] + x[:, 2].astype(float) ** 3
    for i in range(3):
        covariance = np.mean((ig[:, i] - ig[:, i].mean()) * (y - y.mean()))
        assert found.igc[i] == pytest.approx(covariance / (p.std() * y.std()), abs=1e-6)
        covariance = np.mean((ig[:, i] - ig[:, i].mean()) * (p - p.mean()))
        assert found.igac[i] == pytest.approx(covariance / p.var(), abs=1e-6)
        assert found.ig_mean[i] == pytest.approx(ig[:, i].mean(), abs=1e-6)
        assert found.ig_std[i] == pytest.approx(ig[:, i].std(), abs=1e-6)
        assert found.naive_correlation[i] == pytest.approx(np.corrcoef(x[:, i], y)[0, 1], abs=1e-9)
        test = stats.ttest_ind(x[y <= -0.4, i].astype(float), x[y >= 0.6, i].astype(float))
        assert found.naive_ttest[i] == pytest.approx(test.pvalue, abs=1e-9)
    assert found.correlation == pytest.approx(np.corrcoef(p, y)[0, 1], abs=1e-6)
    assert found.igc_gap == pytest.approx(float(found.igc.sum() - found.correlation), abs=1e-12)


def test_baselines_drawn_for_each_sample_are_averaged(plain):
    x, y = plain
    pool = x[:7] + 1
    found = datasetwise.attribute(curved, x, y, FIELDS, steps=9, baseline=Drawn(3, of=pool), seed=4)
    again = datasetwise.attribute(curved, x, y, FIELDS, steps=9, baseline=Drawn(3, of=pool), seed=5)
    assert float(abs(found.igc - again.igc).max()) > 1e-4
    from xairt.keys import generator_of

    chosen = [generator_of((4, i)).choice(7, 3, replace=False) for i in range(len(x))]
    assert all(len(set(c)) == 3 for c in chosen)
    ig = np.mean([naive_gradients(x, pool[[c[j] for c in chosen]], 9) for j in range(3)], axis=0)
    np.testing.assert_allclose(found.ig_mean, ig.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.ig_std, ig.std(axis=0), atol=1e-6)


def test_shapley_values_are_the_mean_over_orders(plain):
    x, _ = plain
    found = datasetwise.baseline_shapley(curved, x[:4], n_iter=400, baseline=0.5)
    # sin(a) b is shared by features 0 and 1, half of both orders each; c is alone
    x = x[:4].astype(np.float64)
    first = (np.sin(x[:, 0]) - np.sin(0.5)) * (x[:, 1] + 0.5) / 2
    np.testing.assert_allclose(found.attribution[:, 2], x[:, 2] ** 3 - 0.125, atol=1e-5)
    spread = np.abs((np.sin(x[:, 0]) - np.sin(0.5)) * (x[:, 1] - 0.5) / 2)
    assert (np.abs(found.attribution[:, 0] - first) < 5 * spread / np.sqrt(400) + 1e-6).all()
    np.testing.assert_allclose(found.completeness_gap, 0, atol=1e-12)
    assert found.attribution.dims == ("sample", "feature")


# --------------------------------------------------------------------------------------- completeness


def test_sums_keep_their_promises():
    x = np.random.default_rng(1).standard_normal((200, 3)).astype(np.float32)
    y = x[:, 2] + x[:, 0]
    found = datasetwise.attribute(curved, x, y, steps=512)
    for name in ("igc", "igac", "ig_mean"):
        assert abs(float(found[f"{name}_gap"])) < 1e-3
    assert float(found.igc.sum()) == pytest.approx(float(found.correlation), abs=1e-3)
    assert float(found.igac.sum()) == pytest.approx(1, abs=1e-3)
    coarse = datasetwise.igc(curved, x, y, steps=3)
    assert abs(float(coarse.igc_gap)) > 10 * abs(float(found.igc_gap))


def test_gap_of_drawn_baselines_is_told_apart_from_that_of_the_integral(plain):
    found = datasetwise.attribute(
        curved, *plain, steps=512, baseline=Drawn(2), n_iter=1, methods=(*FIELDS, "bsc")
    )
    assert abs(float(found.igc_gap)) > 1e-2
    for name, tolerance in (("igc", 1e-4), ("igac", 1e-4), ("bsc", 1e-6)):
        assert float(found[f"{name}_gap"]) == pytest.approx(
            float(found[f"{name}_gap_of_baselines"]), abs=tolerance
        )


def test_linear_model_is_exact():
    x = np.random.default_rng(2).standard_normal((50, 4)).astype(np.float32)
    weights = np.array([1.0, -2.0, 0.0, 0.5], np.float32)
    y = x @ weights
    found = datasetwise.attribute(lambda x: tf.linalg.matvec(x, weights), x, y, steps=2)
    expected = [np.cov(x[:, i] * weights[i], y, ddof=0)[0, 1] / y.var() for i in range(4)]
    np.testing.assert_allclose(found.igc, expected, atol=1e-6)
    np.testing.assert_allclose(found.igac, expected, atol=1e-6)


# ------------------------------------------------------------------------------------------ streaming


def test_every_source_gives_the_same_numbers(golden, network, tmp_path):
    x, y = golden["x"], golden["y"]
    labelled = xr.DataArray(x, dims=("time", "cell"), name="x")
    labelled.to_netcdf(tmp_path / "x.nc")
    opts = {"methods": FIELDS, "baseline": Drawn(2, of=x[:9]), "seed": 3, "steps": 5}
    at_once = datasetwise.attribute(network, x, y, **opts)
    with xr.open_dataarray(tmp_path / "x.nc") as file:
        same(datasetwise.attribute(network, file, y, **opts), at_once, 0)
    same(datasetwise.attribute(network, labelled.chunk(time=17), y, **opts), at_once, 0)
    blocks = ((x[a : a + 13], y[a : a + 13]) for a in range(0, len(x), 13))
    same(datasetwise.attribute(network, blocks, **opts), at_once, 1e-6)
    for batch_size in (1, 7):
        same(datasetwise.attribute(network, x, y, batch_size=batch_size, **opts), at_once, 1e-6)


def test_large_arrays_are_read_in_blocks(plain, monkeypatch):
    from xairt.datasetwise import reading

    monkeypatch.setattr(reading, "READ_BYTES", 100)
    x, y = plain
    chunks = xr.DataArray(x, dims=("time", "cell")).chunk(time=5)
    assert [s.stop - s.start for s in reading._slices(chunks, 60, "time")] == [5] * 12
    assert [s.stop - s.start for s in reading._slices(x, 60, None)] == [8] * 7 + [4]
    opts = {"steps": 5, "batch_size": 16, "baseline": Drawn(2)}
    found = datasetwise.attribute(curved, chunks, y, **opts)
    monkeypatch.undo()
    same(found, datasetwise.attribute(curved, x, y, **opts), 0)


def test_drawn_baselines_come_from_a_part_of_many_data(monkeypatch, plain):
    from xairt.datasetwise import baselines

    monkeypatch.setattr(baselines, "POOL", 10)
    found = datasetwise.igc(curved, *plain, baseline=Drawn(8), steps=3)
    assert json.loads(found.identities)["igc"]["baseline"] == {"drawn": 8, "of": "data", "pool": 10}


# ---------------------------------------------------------------------------------- outputs and truths


def test_chosen_outputs(network, golden):
    x, y = golden["x"], golden["y"]
    both = datasetwise.igc(network, x, y, steps=5)
    one = datasetwise.igc(network, x, y, steps=5, outputs=1)
    turned = datasetwise.igc(network, x, y, steps=5, outputs=[1, 0])
    assert one.igc.dims == ("feature",)
    assert int(one.output) == 1
    np.testing.assert_allclose(one.igc, both.igc[1], atol=1e-12)
    np.testing.assert_allclose(turned.igc, both.igc[::-1], atol=1e-12)
    assert turned.output.values.tolist() == [1, 0]


def test_class_numbers_are_one_hot_truths(network, golden):
    classes = (golden["y"][:, 1] > golden["y"][:, 0]).astype(int)
    opts = {"methods": ("igc", "naive_correlation", "naive_ttest"), "steps": 5, "low": 0.5, "high": 0.5}
    by_number = datasetwise.attribute(network, golden["x"], classes, **opts)
    same(by_number, datasetwise.attribute(network, golden["x"], np.eye(2)[classes], **opts), 0)
    np.testing.assert_allclose(by_number.naive_correlation[0], -by_number.naive_correlation[1], atol=1e-12)


def test_softmax_is_explained_before_it(network, golden):
    classifier = tf.keras.Sequential([tf.keras.layers.InputLayer(10), network, tf.keras.layers.Softmax()])
    classes = (golden["y"][:, 1] > 0).astype(int)
    found = datasetwise.igc(classifier, golden["x"], classes, steps=5)
    np.testing.assert_allclose(
        found.igc, datasetwise.igc(network, golden["x"], classes, steps=5).igc, atol=1e-6
    )
    assert "before the final softmax" in found.correlation.long_name


def test_several_methods_in_one_pass_are_those_of_single_calls(plain):
    x, y = plain
    together = datasetwise.attribute(curved, x, y, ALL, steps=5, low=0, high=0, n_iter=1)
    alone = (
        *(f(curved, x, y, steps=5) for f in (datasetwise.igc, datasetwise.igac)),
        *(f(curved, x, steps=5) for f in (datasetwise.ig_mean, datasetwise.ig_std)),
        datasetwise.naive_correlation(x, y),
        datasetwise.naive_ttest(x, y, low=0, high=0),
        datasetwise.bsc(curved, x, y, n_iter=1),
    )
    for name, found in zip(ALL, alone, strict=True):
        np.testing.assert_allclose(found[name], together[name], rtol=0, atol=1e-12, err_msg=name)


# --------------------------------------------------------------------------------------- maps and labels


def test_maps_keep_lat_lon_and_land(network, golden):
    grid = Grid(np.arange(12).reshape(3, 4) < 10, lat=[50.0, 40.0, 30.0], lon=[0.0, 1.0, 2.0, 3.0])
    maps = xr.DataArray(
        grid.to_map(golden["x"]), dims=("time", "lat", "lon"), coords={"lat": grid.lat, "lon": grid.lon}
    )
    flat = datasetwise.attribute(network, golden["x"], golden["y"], ALL, steps=5, low=0, high=0, n_iter=1)
    found = datasetwise.attribute(network, maps, golden["y"], ALL, steps=5, low=0, high=0, n_iter=1)
    for name in ALL:
        assert found[name].dims == ("output", "lat", "lon")
        np.testing.assert_allclose(grid.to_vector(found[name]), flat[name], atol=1e-12)
        assert np.isnan(found[name].values[:, ~grid.mask]).all()
    last = maps.transpose("lat", "lon", "time")
    same(
        datasetwise.igc(network, last, golden["y"], steps=5),
        datasetwise.igc(network, maps, golden["y"], steps=5),
        0,
    )
    given = datasetwise.igc(network, grid.to_map(golden["x"]), golden["y"], steps=5, grid=grid)
    np.testing.assert_allclose(given.igc, found.igc, atol=1e-12)
    naive = datasetwise.naive_correlation(maps, golden["y"])
    np.testing.assert_allclose(naive.naive_correlation, found.naive_correlation, atol=1e-12)


def test_identity_tells_what_a_result_depends_on(network, function, golden):
    found = datasetwise.igc(network, golden["x"], golden["y"], steps=5, seed=7, baseline=Drawn(2))
    identity = json.loads(found.identities)["igc"]
    assert identity["parameters"] == {"steps": 5, "quadrature": "trapezoid"}
    assert (identity["seed"], identity["n_samples"], identity["outputs"]) == (7, 96, [0, 1])
    assert identity["baseline"] == {"drawn": 2, "of": "data", "pool": 96}
    assert {"model_sha256", "xairt", "tensorflow", "numpy", "dtype", "convention"} <= set(identity)
    other = datasetwise.ig_mean(function, golden["x"], steps=5)
    assert "tanh_network" in json.loads(other.identities)["ig_mean"]["model_sha256"]


def test_inputs_stay_untouched(network, golden):
    x, y = golden["x"].copy(), golden["y"].copy()
    x.flags.writeable = y.flags.writeable = False
    weights = network.get_weights()
    datasetwise.attribute(network, x, y, ALL, steps=3, low=0, high=0, n_iter=1)
    for before, after in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


# ------------------------------------------------------------------------------------------- functions


def pooled(x):
    flat = tf.reshape(x, (-1, 16))
    means = [tf.reduce_mean(tf.gather(flat, p, axis=1), axis=1) for p in ([0, 1, 2], [7, 8], [12])]
    return tf.reduce_max(tf.stack(means, axis=1), axis=1)


def test_affine_front_of_a_function_is_found():
    network = network_of_function(pooled, (4, 4, 1))
    front, rest = network.parts
    x = tf.constant(np.random.default_rng(0).standard_normal((5, 4, 4, 1)), tf.float32)
    assert sum(t.shape[1:].num_elements() for t in front(x)) == 3
    np.testing.assert_allclose(rest(*front(x))[0], pooled(x), atol=1e-6)


@pytest.mark.parametrize(
    "whole",
    [
        lambda x: tf.reduce_sum(x**2, axis=1),
        tf.function(lambda x: tf.reduce_sum(x, axis=1)),
        lambda x: tf.reduce_max(tf.transpose(x), axis=0),
        lambda x: tf.reduce_sum(tf.reshape(tf.tanh(tf.reshape(x, (-1, 2))), (-1, 3, 2)), axis=(1, 2)),
    ],
    ids=["square", "tf.function", "transposed", "other rows"],
)
def test_functions_without_a_front_are_taken_as_a_whole(whole):
    network = network_of_function(whole, (6,))
    front, rest = network.split()
    x = tf.constant(np.random.default_rng(0).standard_normal((5, 6)), tf.float32)
    np.testing.assert_allclose(rest(*front(x))[0], whole(x), atol=1e-6)
    y = np.asarray(whole(x)) + 0.1 * x[:, 0]
    assert abs(float(datasetwise.igc(whole, x.numpy(), y, steps=400).igc_gap)) < 2e-2


def test_network_without_a_graph():
    inputs = tf.keras.Input(3)
    hidden = tf.keras.layers.Lambda(lambda v: tf.sin(v))(tf.keras.layers.Dense(4)(inputs))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(hidden))
    x = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
    found = datasetwise.igc(model, x, x[:, 0], steps=256)
    assert abs(float(found.igc_gap)) < 1e-4


# ------------------------------------------------------------------------------------------- bad input


BAD = {
    "y of shape .* does not fit 60 samples: give one truth": {"y": np.zeros(59)},
    "y of shape .* does not fit 1 outputs": {"y": np.zeros((60, 2))},
    "the truth of output 0 is constant": {"y": np.ones(60)},
    "y holds 1 NaN": {"y": np.r_[np.nan, np.ones(59)]},
    "igc: no truth: give y": {"y": None},
    "outputs: 3 is out of range: there are 1": {"outputs": 3},
    "outputs 0.5: give the index": {"outputs": 0.5},
    "parameter 'steps' = 1": {"steps": 1},
    "no parameter 'stpes': use quadrature, steps": {"stpes": 3},
    "unknown dataset-wise method 'ig'.*did you mean": {"methods": "ig"},
    "name one twice": {"methods": ("igc", "igc")},
    "no method given": {"methods": ()},
    "convention 'igc2025' does not apply here": {"convention": "igc2025"},
    "seed -1 is not usable": {"seed": -1},
    "batch_size 0 is not usable": {"batch_size": 0},
    "dtype='float64' needs the canonical graph, but 'curved' is a TensorFlow function": {"dtype": "float64"},
    "unknown dtype 'half'": {"dtype": "half"},
    "baseline has shape": {"baseline": np.zeros(4)},
    "Drawn: n = 61 of 60 samples": {"baseline": Drawn(61)},
    "NoneType is no model|no model: give": {"model": None},
    "str is no model": {"model": "curved"},
    "function 'identity' returned float32 .3, 3, 1.": {"model": lambda x: x[..., None], "rename": "identity"},
    "gives a sample another number when": {"model": lambda x: x[:, 0] - tf.reduce_mean(x)},
    "function '<lambda>' fails on samples": {"model": lambda x: x @ tf.ones((5, 1))},
    "the prediction of output 0 is constant": {"model": lambda x: 0 * x[:, 0] + 2},
    "prediction of sample 0 is not finite": {"model": lambda x: x[:, 0] + np.nan},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(plain, message):
    changed = dict(BAD[message])
    if name := changed.pop("rename", None):
        changed["model"].__name__ = name
    given = {"model": curved, "x": plain[0], "y": plain[1], "methods": "igc", **changed}
    with pytest.raises((DataError, MethodError, ModelError), match=message) as told:
        datasetwise.attribute(**given)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((5, 3), np.nan), "x holds 3 NaNs, the first"),
        (np.zeros((1, 3)), "x holds 1 sample: give 2 or more"),
        (np.zeros((0, 3)), "holds no samples"),
        (3, "x 3 holds no samples"),
        ([], "iterable without blocks"),
        ([[1.0, 2.0]], "its items are no pairs"),
        (xr.Dataset({"a": 1}), "x is a Dataset of a"),
    ],
)
def test_bad_samples(x, message):
    y = np.arange(len(x)) if isinstance(x, np.ndarray) else None
    with pytest.raises(DataError, match=message):
        datasetwise.attribute(curved, x, y, "igac")


def test_bad_blocks_and_groups(plain, network):
    x, y = plain
    with pytest.raises(DataError, match="give the truth in its pairs"):
        datasetwise.igc(curved, iter([(x, y)]), y)
    with pytest.raises(MethodError, match="x comes in blocks: give the samples to draw from"):
        datasetwise.igc(curved, iter([(x, y)]), baseline=Drawn(2))
    with pytest.raises(DataError, match="x holds 1 sample"):
        datasetwise.igc(curved, iter([(x[:1], y[:1])]))
    with pytest.raises(DataError, match="y is missing in some blocks"):
        datasetwise.igac(curved, iter([(x, y), (x, None)]), batch_size=100)
    with pytest.raises(DataError, match="0 samples of output 0 have a high truth"):
        datasetwise.naive_ttest(x, y, low=0, high=99)
    with pytest.raises(MethodError, match="low must not exceed high"):
        datasetwise.naive_ttest(x, y, low=1, high=0)
    with pytest.raises(MethodError, match="naive_ttest: parameters low and high are missing"):
        datasetwise.attribute(None, x, y, "naive_ttest")
    with pytest.raises(MethodError, match="Drawn: n = 0: give a whole number"):
        Drawn(0)
    with pytest.raises(DataError, match="y holds 2, no class number of 2 outputs"):
        datasetwise.igc(network, np.zeros((3, 10)), [0, 1, 2])


def test_constant_features_have_no_naive_score(plain):
    x, y = plain
    x = np.column_stack([x, np.full(len(x), 0.1, np.float32)])
    found = datasetwise.attribute(None, x, y, ("naive_correlation", "naive_ttest"), low=0, high=0)
    assert np.isnan(found.naive_correlation.values).tolist() == [False, False, False, True]
    assert np.isnan(found.naive_ttest.values).tolist() == [False, False, False, True]


def test_interruption_passes_through(plain):
    x, y = plain

    def blocks():
        yield x, y
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        datasetwise.igc(curved, blocks(), steps=3, batch_size=20)


def test_example_on_the_page():
    page = read("datasetwise.md")
    examples = EXAMPLE.findall(page)
    assert len(examples) == 2
    names: dict = {}
    for code, shown in examples:
        assert printed(code, names) == shown
