"""Optimal input: the descent and every regulariser re-derived in numpy, and cases with known answers."""

from __future__ import annotations

import json
import re

import llc_files
import matplotlib.pyplot as plt
import networks
import numpy as np
import pytest
import tensorflow as tf
import xarray as xr
from scipy.spatial.distance import mahalanobis

import xairt
from xairt import Grid, LLCGrid
from xairt.errors import DataError, DivergedError, MethodError
from xairt.models.architectures import linear
from xairt.optimal_input import (
    L1,
    L2,
    DistanceFromStart,
    Laplacian,
    Mahalanobis,
    Regulariser,
    TotalVariation,
    mean_of_correct,
)
from xairt.optimal_input import descent as searching
from xairt.optimal_input.regularisers import Space

RNG = np.random.default_rng(1)
LAT, LON = np.arange(-75.0, 80.0, 30.0), np.arange(0.0, 360.0, 40.0)
OCEAN = Grid(np.ones((6, 9), bool), LAT, LON)
LAND = Grid(RNG.random((6, 9)) < 0.7, LAT, LON)
TILES = llc_files.grid(3)
SHIFTED = LLCGrid(*(np.roll(part, 1, axis=0) for part in (TILES.mask, TILES.lat, TILES.lon)))
ELSEWHERE = xr.DataArray(np.ones((1, TILES.n_valid)), SHIFTED.cell_coordinates(), ("start", "cell"))
REGION = Grid(LAND.mask[:, :5], LAT, LON[:5] + 150.0)


@pytest.fixture(scope="module")
def classifier() -> tf.keras.Model:
    return networks.mlp(n_inputs=5, end="softmax")


def line(weights, bias: float | None = None) -> tf.keras.Model:
    """A linear network with given weights."""
    model = linear(len(weights), seed=0)
    model.set_weights([np.asarray(weights, np.float32)[:, None]])
    return model


def one_layer(n_inputs: int, n_outputs: int, end: str) -> tf.keras.Model:
    """A generalised linear network: its loss has no other minimum than the global one."""
    dense = networks.L.Dense(n_outputs, end)
    return networks.randomised(tf.keras.Sequential([networks.L.InputLayer(n_inputs), dense]))


def on_space(regulariser: Regulariser, x: np.ndarray, grid: Grid | None = None, start=None) -> np.ndarray:
    space = Space(x.shape[1:], grid, np.zeros_like(x) if start is None else start, "float64")
    return regulariser.bind(space)(tf.constant(x)).numpy()


# ------------------------------------------------------------------------------------------ descent


def naive_forward(model: tf.keras.Model, x: np.ndarray) -> list[np.ndarray]:
    """Return the activations of a network of dense ReLU layers, logits last, in float64."""
    weights = [w.astype(np.float64) for w in model.get_weights()]
    values = [x]
    for i in range(0, len(weights), 2):
        z = values[-1] @ weights[i] + weights[i + 1]
        values.append(z if i == len(weights) - 2 else np.maximum(z, 0))
    return values


def naive_descent(model, x, target, step, iterations, decay=0.0, momentum=0.0):
    """Plain gradient descent of the cross-entropy plus decay * |x|^2; returns x, losses and probabilities."""
    weights = [w.astype(np.float64) for w in model.get_weights()][::2]
    losses, probabilities, speed = [], [], np.zeros_like(x)
    for iteration in range(iterations + 1):
        values = naive_forward(model, x)
        shifted = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
        p = shifted / shifted.sum(axis=1, keepdims=True)
        losses.append(-np.log(p[:, target]))
        probabilities.append(p[:, target])
        if iteration == iterations:
            return x, np.array(losses), np.array(probabilities)
        slope = p - np.eye(p.shape[1])[target]
        for weight, activation in zip(weights[::-1], values[-2::-1], strict=True):
            slope = slope @ weight.T
            if activation is not values[0]:
                slope = slope * (activation > 0)
        speed = momentum * speed - step * (slope + 2 * decay * x)
        x = x + speed


@pytest.mark.parametrize("decay", [0.0, 0.03])
def test_descent_is_the_naive_one(classifier, decay):
    start = networks.samples(classifier, 3).astype(np.float64)
    terms = [L2(decay)] if decay else []
    found = xairt.optimal_input(
        classifier, 2, start=start, learning_rate=0.2, iterations=150, regularisers=terms, dtype="float64"
    )
    x, losses, probabilities = naive_descent(classifier, start, 2, float(np.float32(0.2)), 150, decay)
    np.testing.assert_allclose(found.optimal_input, x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.loss_history, losses, rtol=1e-9)
    np.testing.assert_allclose(found.probability_history, probabilities, rtol=1e-9)
    np.testing.assert_allclose(found.penalty, decay * (x**2).sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.prediction, naive_forward(classifier, x)[-1][:, 2], rtol=1e-9)


def test_momentum_of_keras_is_the_naive_one(classifier):
    start = networks.samples(classifier, 2).astype(np.float64)
    for kind in (tf.keras.optimizers.SGD, tf.keras.optimizers.legacy.SGD):
        given = kind(0.1, momentum=0.8)
        found = xairt.optimal_input(
            classifier, 0, start=start, optimizer=given, iterations=40, dtype="float64"
        )
        x, *_ = naive_descent(classifier, start, 0, np.float32(0.1), 40, momentum=np.float32(0.8))
        np.testing.assert_allclose(found.optimal_input, x, rtol=1e-6, atol=1e-9)
        assert int(given.iterations) == 0


def test_default_is_the_published_step(classifier):
    found = xairt.optimal_input(classifier, 1, iterations=5, dtype="float64")
    x, *_ = naive_descent(classifier, np.zeros((1, 5)), 1, np.float32(0.9999), 5)
    np.testing.assert_allclose(found.optimal_input, x, rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "rmsprop", "nadam", "adagrad", "ftrl"])
def test_optimizers_by_name_fall_towards_the_optimum(classifier, name):
    found = xairt.optimal_input(classifier, 1, optimizer=name, learning_rate=0.05, iterations=60)
    assert (np.diff(found.loss_history[::10, 0]) < 0).all()


def test_first_step_of_adam_is_the_learning_rate():
    found = xairt.optimal_input(
        line([1.0, -3.0, 0.2]), value=5.0, optimizer="adam", learning_rate=0.1, iterations=1
    )
    np.testing.assert_allclose(found.optimal_input[0], [0.1, -0.1, 0.1], rtol=1e-4)


def test_linear_model_with_l2_has_the_exact_optimum():
    w = RNG.normal(size=7).astype(np.float32)
    found = xairt.optimal_input(
        line(w),
        value=[-1.0, 2.5],
        learning_rate=0.02,
        iterations=3000,
        regularisers=[L2(0.3)],
        dtype="float64",
    )
    w = w.astype(np.float64)
    expected = np.outer([-1.0, 2.5], w) / (0.3 + w @ w)
    np.testing.assert_allclose(found.optimal_input, expected, rtol=1e-6)


def test_linear_model_within_bounds_goes_to_the_corner_and_masked_values_stay():
    found = xairt.optimal_input(
        line([2.0, -1.0, 0.5, 1.0]),
        loss="maximise",
        start=np.array([0.1, 0.2, 0.3, 0.4]),
        bounds=(-1.0, np.array([1.0, 1.0, 0.7, 1.0])),
        mask=[True, True, True, False],
        iterations=20,
    )
    np.testing.assert_allclose(found.optimal_input[0], [1.0, -1.0, 0.7, 0.4], rtol=1e-6)
    down = xairt.optimal_input(line([2.0, -1.0]), loss="minimise", bounds=(-2, 3), iterations=20)
    np.testing.assert_allclose(down.optimal_input[0], [-2.0, 3.0])
    assert float(down.loss[0]) == float(down.prediction[0]) == pytest.approx(-7.0)


def test_one_open_side_of_the_bounds():
    found = xairt.optimal_input(
        line([1.0, -1.0]), value=8.0, bounds=(0, None), learning_rate=0.1, iterations=200
    )
    np.testing.assert_allclose(found.optimal_input[0], [8.0, 0.0], atol=1e-4)


def test_distance_from_start_keeps_the_exact_balance():
    start = np.array([1.0, 1.0])
    found = xairt.optimal_input(
        line([1.0, 2.0]),
        value=0.0,
        start=start,
        learning_rate=0.05,
        iterations=2000,
        regularisers=[DistanceFromStart(2.0)],
        dtype="float64",
    )
    w = np.array([1.0, 2.0])  # minimise (w x)^2 + 2 |x - start|^2
    expected = np.linalg.solve(np.outer(w, w) + 2 * np.eye(2), 2 * start)
    np.testing.assert_allclose(found.optimal_input[0], expected, rtol=1e-6)


def test_probability_that_underflows_has_a_slope():
    steep = one_layer(2, 2, "softmax")
    steep.set_weights([np.array([[200.0, -200.0], [0.0, 1.0]]), np.zeros(2)])
    found = xairt.optimal_input(steep, 1, start=[1.0, 0.0], learning_rate=0.001, iterations=1)
    assert float(found.probability_history[0, 0]) == 0
    assert float(found.loss_history[0, 0]) == 400
    np.testing.assert_allclose(found.optimal_input[0], [1.0 - 0.4, 0.001], rtol=1e-5)


@pytest.mark.parametrize("aim", [1.0, 0.0, 0.3])
def test_sigmoid_reaches_the_probability(aim):
    model = one_layer(4, 1, "sigmoid")
    found = xairt.optimal_input(model, value=aim, iterations=600, learning_rate=2.0)
    p = float(found.probability[0])
    assert p == pytest.approx(float(model(found.optimal_input.values)[0, 0]), abs=1e-5)
    assert abs(p - aim) < 0.02
    q = 1 / (1 + np.exp(-float(found.prediction[0])))
    assert float(found.loss[0]) == pytest.approx(-aim * np.log(q) - (1 - aim) * np.log(1 - q), rel=1e-3)


def test_logits_without_a_final_softmax_can_be_classes():
    with_end, without = networks.mlp(end="softmax"), networks.mlp()
    without.set_weights(with_end.get_weights())
    one = xairt.optimal_input(with_end, 1, iterations=30)
    other = xairt.optimal_input(without, 1, loss="crossentropy", iterations=30)
    np.testing.assert_array_equal(one.optimal_input, other.optimal_input)


def test_callable_target_and_a_network_without_canonical_graph():
    class Own(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = networks.L.Dense(2)

        def call(self, x):
            return self.dense(x) * 2.0

    model = Own()
    model(np.zeros((1, 3), np.float32))
    kernel = model.dense.get_weights()[0].sum(axis=1) * 2
    found = xairt.optimal_input(
        model, lambda y: y[:, 0] + y[:, 1], value=1.5, learning_rate=0.02, iterations=500
    )
    np.testing.assert_allclose(found.optimal_input[0], 1.5 * kernel / (kernel @ kernel), rtol=1e-4)


def test_network_of_the_publication_reaches_its_class():
    tf.keras.utils.set_random_seed(0)
    dense = [
        networks.L.Dense(n, a, kernel_initializer="he_normal")
        for n, a in ((8, "relu"), (8, "relu"), (2, "softmax"))
    ]
    model = tf.keras.Sequential([networks.L.InputLayer(31_811), *dense])
    found = xairt.optimal_input(model, 1, start="random")
    assert float(found.probability[0]) > 0.999
    assert float(model(found.optimal_input.values)[0, 1]) > 0.999
    assert found.iteration.values[[0, 1, -1]].tolist() == [0, 50, 10_000]


def test_start_without_a_slope_is_told(caplog):
    dead = tf.keras.Sequential(
        [networks.L.InputLayer(3), networks.L.Dense(4, "relu"), networks.L.Dense(2, "softmax")]
    )
    found = xairt.optimal_input(dead, 0, iterations=3)
    np.testing.assert_array_equal(found.optimal_input, 0)
    assert "start 0 has not moved: the loss has no slope there" in caplog.text


# --------------------------------------------------------------------------------- starts and results


def test_starts_are_descended_each_for_itself(classifier):
    together = xairt.optimal_input(classifier, 1, start="random", n_starts=4, iterations=50, seed=3)
    alone = xairt.optimal_input(classifier, 1, start="random", iterations=50, seed=3)
    again = xairt.optimal_input(classifier, 1, start=together.starting_input[2], iterations=50)
    np.testing.assert_array_equal(together.starting_input[0], alone.starting_input[0])
    np.testing.assert_allclose(together.optimal_input[0], alone.optimal_input[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together.optimal_input[2], again.optimal_input[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together.spread, together.optimal_input.values.std(axis=0), rtol=1e-6)
    other = xairt.optimal_input(classifier, 1, start="random", iterations=1, seed=4)
    assert not np.array_equal(other.starting_input[0], alone.starting_input[0])


def test_a_target_for_each_start():
    classifier = one_layer(5, 3, "softmax")
    found = xairt.optimal_input(classifier, [0, 1, 2], iterations=300)
    assert (found.probability > 0.9).all()
    assert "spread" not in found
    assert classifier(found.optimal_input.values).numpy().argmax(axis=1).tolist() == [0, 1, 2]


def test_history_runs_from_the_start_to_the_last_iteration(classifier):
    found = xairt.optimal_input(classifier, 0, iterations=1003)
    assert found.iteration.values[[0, 1, -1]].tolist() == [0, 6, 1003]
    assert len(found.iteration) <= searching.RECORDS + 1
    for name in ("loss", "penalty", "prediction", "probability"):
        np.testing.assert_array_equal(found[f"{name}_history"][-1], found[name])
    first = naive_forward(classifier, np.zeros((1, 5)))[-1][0, 0]
    assert float(found.prediction_history[0, 0]) == pytest.approx(first, abs=1e-6)


def test_tolerance_ends_early():
    options = {"value": 1.0, "learning_rate": 0.1, "iterations": 2000}
    found = xairt.optimal_input(line([1.0, 1.0]), regularisers=[L2(1.0)], tolerance=1e-6, **options)
    assert 0 < found.iteration[-1] < 100
    np.testing.assert_allclose(found.optimal_input, 1 / 3, rtol=1e-3)
    assert xairt.optimal_input(line([1.0, 1.0]), **options).iteration[-1] == 2000


def test_the_model_stays_as_it_is(classifier):
    model = tf.keras.models.clone_model(classifier)
    model.set_weights(classifier.get_weights())
    model.compile("adam", "categorical_crossentropy")
    before, compiled = [w.copy() for w in model.get_weights()], model.optimizer
    x = networks.samples(model, 2)
    kept = x.copy()
    xairt.optimal_input(model, 1, start=x, optimizer=model.optimizer, iterations=20)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(x, kept)
    assert model.optimizer is compiled
    assert int(compiled.iterations) == 0


def test_maps_come_back_as_maps():
    model = networks.mlp(n_inputs=LAND.n_valid, end="softmax")
    found = xairt.optimal_input(model, 1, grid=LAND, iterations=20, regularisers=[TotalVariation(0.01)])
    assert found.optimal_input.dims == ("start", "lat", "lon")
    np.testing.assert_array_equal(np.isnan(found.optimal_input[0]), ~LAND.mask)
    start = found.optimal_input[0, ::-1].rename(lat="latitude")
    again = xairt.optimal_input(model, 1, start=start, grid=LAND, iterations=20)
    assert again.starting_input.dims == ("start", "latitude", "lon")
    np.testing.assert_array_equal(again.starting_input[0], start)
    vectors = xairt.optimal_input(model, 1, start=LAND.to_vector(found.optimal_input.values), iterations=20)
    np.testing.assert_allclose(
        LAND.to_vector(again.optimal_input.values[:, ::-1]), vectors.optimal_input, rtol=1e-5, atol=1e-6
    )
    inferred = xairt.optimal_input(
        model, 1, start=found.optimal_input, regularisers=[Laplacian(0.1)], iterations=2
    )
    assert inferred.optimal_input.dims == ("start", "lat", "lon")


def naive_maps_of_tiles(grid: LLCGrid, vectors: np.ndarray) -> np.ndarray:
    """Lay vectors out as maps (..., tile, j, i), cell by cell."""
    maps = np.full((*vectors.shape[:-1], *grid.shape), np.nan)
    for n, place in enumerate(np.argwhere(grid.mask)):
        maps[(..., *place)] = vectors[..., n]
    return maps


def test_llc_tiles_come_back_as_cells_with_their_places():
    model, x = networks.mlp(n_inputs=TILES.n_valid, end="softmax"), RNG.normal(size=(30, TILES.n_valid))
    free = np.arange(TILES.n_valid) % 3 > 0
    own = {"iterations": 15, "learning_rate": 0.1}
    wanted = xairt.optimal_input(
        model,
        1,
        start=x[:2],
        bounds=(-x.max(axis=0) - 9, None),
        mask=free,
        regularisers=[Mahalanobis(0.01, samples=x, modes=3)],
        **own,
    )
    maps = naive_maps_of_tiles(TILES, x)
    for start in (x[:2], maps[:2], TILES.to_map(xr.DataArray(x[:2], dims=("start", "cell")))):
        found = xairt.optimal_input(
            model,
            1,
            start=start,
            grid=TILES,
            bounds=(naive_maps_of_tiles(TILES, -x.max(axis=0) - 9), None),
            mask=TILES.to_map(free, fill=False),
            regularisers=[Mahalanobis(0.01, samples=maps, modes=3)],
            **own,
        )
        assert found.optimal_input.dims == ("start", "cell")
        np.testing.assert_array_equal(found.optimal_input, wanted.optimal_input)
        assert LLCGrid.from_dataarray(found.optimal_input).n_valid == TILES.n_valid
        np.testing.assert_array_equal(found.optimal_input.lat, TILES.places[0])
        np.testing.assert_array_equal(found.spread.tile, TILES.indices[0])
    figure = xairt.plots.map(found.optimal_input[0])
    assert figure.axes
    plt.close(figure)


def test_llc_areas_weigh_the_size():
    x = RNG.normal(size=(2, TILES.n_valid))
    weights = TILES.area[TILES.mask] / TILES.area[TILES.mask].mean()
    np.testing.assert_allclose(on_space(L2(1.0, by_area=True), x, TILES), (x**2 * weights).sum(1), rtol=1e-12)
    np.testing.assert_allclose(
        on_space(L1(1.0, by_area=True), x, TILES), (abs(x) * weights).sum(1), rtol=1e-12
    )
    flat = LLCGrid(TILES.mask, TILES.lat, TILES.lon)
    with pytest.raises(DataError, match="LLC grid has no areas"):
        on_space(L2(1.0, by_area=True), x, flat)


def test_mean_of_correct_on_llc_tiles_has_places():
    model = networks.mlp(n_inputs=TILES.n_valid, end="softmax")
    x = RNG.normal(size=(40, TILES.n_valid)).astype(np.float32)
    labels = model(x).numpy().argmax(axis=1)
    target = int(np.bincount(labels).argmax())
    found = mean_of_correct(model, naive_maps_of_tiles(TILES, x), labels, target, grid=TILES)
    np.testing.assert_allclose(found, x[labels == target].mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.lon, TILES.places[1])
    again = xairt.optimal_input(model, target, start=found, grid=TILES, iterations=2)
    np.testing.assert_array_equal(again.starting_input[0], found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"regularisers": [TotalVariation(1.0)]},
            "TotalVariation knows the neighbours of regular grids only.*L2",
        ),
        (
            {"regularisers": [Laplacian(1.0)]},
            "Laplacian knows the neighbours of regular grids only.*to_regular",
        ),
        ({"start": np.ones((1, 7))}, r"start has shape \(1, 7\): give vectors \(..., \d+\) of the LLC grid"),
        ({"start": LAND.to_map(xr.DataArray(np.ones((1, LAND.n_valid))))}, r"start has shape \(1, 6, 9\)"),
        ({"mask": np.ones((13, 2, 3))}, r"mask has shape \(13, 2, 3\): give vectors"),
        ({"start": ELSEWHERE}, r"start: its cells \(tile, j, i\) are not those of the LLC grid"),
    ],
)
def test_what_llc_tiles_cannot_do_is_told(options, message):
    model = networks.mlp(n_inputs=TILES.n_valid, end="softmax")
    with pytest.raises(DataError, match=message) as caught:
        xairt.optimal_input(model, 1, grid=TILES, iterations=2, **options)
    assert "\n" not in str(caught.value)


def test_an_llc_grid_of_another_model_is_refused(classifier):
    with pytest.raises(DataError, match=r"valid cells, but the model takes 5 inputs"):
        xairt.optimal_input(classifier, 1, grid=TILES, iterations=2)
    with pytest.raises(DataError, match=r"grid is a LLCGrid: give vectors \(sample, cell\)"):
        xairt.attribute(classifier, np.ones((1, 5)), "gradient", grid=TILES)


def test_images_on_a_grid_are_regularised_per_channel():
    x = RNG.normal(size=(2, 6, 9, 3))
    for term in (TotalVariation(1.0), Laplacian(1.0), L2(1.0, by_area=True)):
        expected = sum(on_space(term, LAND.to_vector(x[..., k]), LAND) for k in range(3))
        np.testing.assert_allclose(on_space(term, x, LAND), expected, rtol=1e-12)


def test_identity_holds_what_the_result_depends_on(classifier):
    samples = networks.samples(classifier, 30)
    found = xairt.optimal_input(
        classifier,
        1,
        iterations=3,
        optimizer="adam",
        regularisers=[L1(0.1), Mahalanobis(0.2, samples=samples, modes=2)],
        bounds=(None, 2.0),
    )
    told = json.loads(found.attrs["identities"])["optimal_input"]
    assert (told["target"], told["loss"], told["start"], told["bounds"]) == (
        1,
        "crossentropy",
        "zeros",
        [None, 2.0],
    )
    assert told["regularisers"][0] == {"regulariser": "L1", "weight": 0.1, "by_area": False}
    assert told["regularisers"][1]["samples"]["shape"] == [30, 5]
    assert told["optimizer"]["name"] == "Adam"
    assert len(told["model_sha256"]) == 64


def test_mean_of_correct_is_the_naive_mean(classifier):
    x = networks.samples(classifier, 60)
    predicted = naive_forward(classifier, x)[-1].argmax(axis=1)
    target = int(np.bincount(predicted).argmax())
    labels = np.where(np.arange(60) % 3 == 0, (predicted + 1) % 3, predicted)
    expected = np.mean([s for s, p, t in zip(x, predicted, labels, strict=True) if p == t == target], axis=0)
    mean = mean_of_correct(classifier, x, labels, target)
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
    assert mean.dims == ("feature",)
    found = xairt.optimal_input(classifier, target, start=mean, iterations=1)
    np.testing.assert_array_equal(found.starting_input[0], mean)
    with pytest.raises(DataError, match="class 7: no sample of it is classified correctly"):
        mean_of_correct(classifier, x, labels, 7)
    with pytest.raises(DataError, match=r"labels of shape \(3,\)"):
        mean_of_correct(classifier, x, [0, 1, 2], 1)


def test_module_is_called_like_the_function(classifier):
    from xairt.optimal_input import optimal_input

    one = xairt.optimal_input(classifier, 1, iterations=2)
    xr.testing.assert_identical(one, optimal_input(classifier, 1, iterations=2))


# --------------------------------------------------------------------------------------- regularisers


def naive_pairs(grid: Grid):
    """Yield (i, j, edge, distance) of each pair of valid cells that share an edge, by loops over the map."""
    rad = np.deg2rad
    cells = {(int(r), int(c)): k for k, (r, c) in enumerate(np.argwhere(grid.mask))}
    columns = grid.shape[1]
    step_lat, step_lon = rad(abs(grid.lat[1] - grid.lat[0])), rad(abs(grid.lon[1] - grid.lon[0]))
    closed = np.isclose(columns * step_lon, 2 * np.pi)
    for (r, c), k in cells.items():
        east = (r, (c + 1) % columns if closed else c + 1)
        if east in cells:
            yield k, cells[east], step_lat, np.cos(rad(grid.lat[r])) * step_lon
        if (r + 1, c) in cells:
            middle = rad((grid.lat[r] + grid.lat[r + 1]) / 2)
            yield k, cells[r + 1, c], np.cos(middle) * step_lon, step_lat


@pytest.mark.parametrize("grid", [OCEAN, LAND, REGION], ids=["ocean", "land", "region"])
def test_total_variation_is_the_naive_sum(grid):
    x = RNG.normal(size=(3, grid.n_valid))
    expected = sum(edge * np.abs(x[:, i] - x[:, j]) for i, j, edge, _ in naive_pairs(grid))
    np.testing.assert_allclose(on_space(TotalVariation(1.0), x, grid), expected, rtol=1e-12)
    smooth = sum(e * (np.hypot(x[:, i] - x[:, j], 0.3) - 0.3) for i, j, e, _ in naive_pairs(grid))
    np.testing.assert_allclose(on_space(TotalVariation(1.0, smoothing=0.3), x, grid), smooth, rtol=1e-12)


@pytest.mark.parametrize("grid", [OCEAN, LAND, REGION], ids=["ocean", "land", "region"])
def test_laplacian_is_the_naive_sum(grid):
    x = RNG.normal(size=(2, grid.n_valid))
    total, weight = np.zeros_like(x), np.zeros(grid.n_valid)
    for i, j, edge, distance in naive_pairs(grid):
        for a, b in ((i, j), (j, i)):
            total[:, a] += edge / distance * x[:, b]
            weight[a] += edge / distance
    known = weight > 0
    roughness = x[:, known] - total[:, known] / weight[known]
    expected = (grid.area_weights[known] * roughness**2).sum(axis=1)
    np.testing.assert_allclose(on_space(Laplacian(1.0), x, grid), expected, rtol=1e-12)


@pytest.mark.parametrize("term", [TotalVariation(1.0), Laplacian(1.0)], ids=["total variation", "Laplacian"])
@pytest.mark.parametrize("columns", [1, 4, 8])
def test_rotation_in_longitude_changes_nothing(term, columns):
    field = RNG.normal(size=(1, *OCEAN.shape))
    patch = np.zeros_like(field)
    patch[:, 2:4, 3:5] = 1.0  # in the middle of the map; rotated by 4 it lies across its border
    for maps in (field, patch):
        x, turned = (OCEAN.to_vector(m) for m in (maps, np.roll(maps, columns, axis=2)))
        np.testing.assert_allclose(on_space(term, x, OCEAN), on_space(term, turned, OCEAN), rtol=1e-12)


def test_rotation_holds_on_a_grid_that_begins_at_the_date_line():
    shifted = Grid(np.roll(LAND.mask, 4, axis=1), LAT, np.roll(LON, 4))
    maps = np.where(LAND.mask, RNG.normal(size=(1, *LAND.shape)), np.nan)
    here, there = LAND.to_vector(maps), shifted.to_vector(np.roll(maps, 4, axis=2))
    for term in (TotalVariation(1.0), Laplacian(1.0)):
        np.testing.assert_allclose(on_space(term, here, LAND), on_space(term, there, shifted), rtol=1e-12)


def test_total_variation_of_a_hemisphere_is_the_length_of_the_equator():
    north = OCEAN.to_vector(np.broadcast_to(LAT[:, None] > 0, OCEAN.shape).astype(float))
    assert on_space(TotalVariation(1.0), north[None], OCEAN) == pytest.approx(2 * np.pi)
    flipped = Grid(OCEAN.mask, LAT[::-1], LON[::-1])
    assert on_space(TotalVariation(1.0), north[None, ::-1], flipped) == pytest.approx(2 * np.pi)


def test_norms_are_those_of_numpy():
    x = RNG.normal(size=(2, LAND.n_valid))
    areas = LAND.area_weights
    np.testing.assert_allclose(on_space(L1(1.0), x), np.abs(x).sum(axis=1))
    np.testing.assert_allclose(on_space(L2(1.0), x), (x**2).sum(axis=1))
    np.testing.assert_allclose(on_space(L2(1.0, norm=2.0), x), (np.linalg.norm(x, axis=1) - 2) ** 2)
    np.testing.assert_allclose(on_space(L1(1.0, by_area=True), x, LAND), np.abs(x) @ areas)
    np.testing.assert_allclose(on_space(L2(1.0, by_area=True), x, LAND), x**2 @ areas)
    np.testing.assert_allclose(on_space(DistanceFromStart(1.0), x, start=x + 2), 4 * np.full(2, x.shape[1]))


def test_norm_is_reached_from_zeros():
    found = xairt.optimal_input(
        line([3.0, 4.0]),
        loss="maximise",
        learning_rate=0.01,
        iterations=2000,
        regularisers=[L2(10.0, norm=2.0)],
    )
    # -5 r + 10 (r - 2)^2 along the weights is least at r = 2.25
    np.testing.assert_allclose(found.optimal_input[0], [0.6 * 2.25, 0.8 * 2.25], rtol=1e-4)


def test_mahalanobis_in_a_covariance_is_that_of_scipy():
    factor = RNG.normal(size=(6, 6))
    covariance, mean, x = factor @ factor.T, RNG.normal(size=6), RNG.normal(size=(3, 6))
    inverse = np.linalg.inv(covariance)
    expected = [mahalanobis(row, mean, inverse) ** 2 for row in x]
    np.testing.assert_allclose(
        on_space(Mahalanobis(1.0, covariance=covariance, mean=mean), x), expected, rtol=1e-6
    )


@pytest.mark.parametrize(("n", "modes"), [(200, 2), (200, 6), (5, 3)])
def test_mahalanobis_of_samples_is_that_of_their_modes(n, modes):
    samples, x = RNG.normal(size=(n, 6)) * [5, 3, 2, 1, 0.5, 0.2] + 1, RNG.normal(size=(3, 6))
    empirical = np.cov(samples.T, bias=True)
    values, vectors = np.linalg.eigh(empirical)
    values[: 6 - modes] = values[: 6 - modes].mean() if modes < 6 else values[: 6 - modes]
    inverse = vectors @ np.diag(1 / values) @ vectors.T
    expected = [mahalanobis(row, samples.mean(axis=0), inverse) ** 2 for row in x]
    np.testing.assert_allclose(
        on_space(Mahalanobis(1.0, samples=samples, modes=modes), x), expected, rtol=1e-6
    )


def test_default_modes_hold_nine_tenths_of_the_variance():
    samples = RNG.normal(size=(500, 5)) * [3, 3, 3, 0.5, 0.5]
    x = RNG.normal(size=(1, 5))
    three = on_space(Mahalanobis(1.0, samples=samples, modes=3), x)
    np.testing.assert_allclose(on_space(Mahalanobis(1.0, samples=samples), x), three)


@pytest.mark.parametrize(
    "term", [L1(0.1), L2(0.1, norm=1.0), TotalVariation(0.05), Laplacian(0.2), DistanceFromStart(0.1)]
)
def test_slopes_are_those_of_finite_differences(term):
    x = RNG.normal(size=(2, LAND.n_valid))
    space = Space(x.shape[1:], LAND, np.zeros_like(x), "float64")
    penalty, variable = term.bind(space), tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = tf.reduce_sum(penalty(variable))
    slope, h = tape.gradient(value, variable).numpy(), 1e-6
    for i in (0, 5, LAND.n_valid - 1):
        moved = [penalty(tf.constant(x + sign * h * np.eye(LAND.n_valid)[i])).numpy() for sign in (1, -1)]
        np.testing.assert_allclose(slope[:, i], (moved[0] - moved[1]) / (2 * h), rtol=1e-5, atol=1e-8)


def test_smoothing_makes_the_optimal_input_smoother():
    model = one_layer(LAND.n_valid, 3, "softmax")
    rough, smooth = (
        xairt.optimal_input(
            model, 1, grid=LAND, start="random", learning_rate=0.1, iterations=400, regularisers=r
        )
        for r in ([], [TotalVariation(0.05, smoothing=0.01)])
    )
    lengths = [
        on_space(TotalVariation(1.0), LAND.to_vector(f.optimal_input.values).astype(float), LAND)
        for f in (rough, smooth)
    ]
    assert lengths[1] < lengths[0] / 2
    assert float(smooth.probability[0]) > 0.9


# ------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "has 3 outputs: give target="),
        ({"target": 3}, "target 3 is out of range"),
        ({"target": 1, "loss": "maximize"}, "loss 'maximize' is unknown; choose .*did you mean 'maximise'"),
        ({"target": 1, "value": 2.0}, "loss 'crossentropy' takes none"),
        ({"target": 1, "loss": "squared_error"}, "needs value="),
        ({"target": 1, "loss": "squared_error", "value": np.nan}, "value nan is not finite"),
        ({"target": lambda y: y[:, 0]}, "needs the index of a class"),
        ({"target": 1, "start": "zero"}, "start 'zero' is unknown.*did you mean 'zeros'"),
        ({"target": 1, "start": np.ones((2, 4))}, r"start has shape \(2, 4\)"),
        ({"target": 1, "start": [np.nan] * 5}, "start holds 5 NaNs"),
        ({"target": 1, "n_starts": 3}, "all starts are alike"),
        ({"target": [0, 1], "start": "random", "n_starts": 3}, "3 by n_starts, 2 by target"),
        ({"target": 1, "n_starts": 0}, "n_starts=0: out of range"),
        ({"target": 1, "iterations": 0}, "iterations=0: out of range"),
        ({"target": 1, "seed": -1}, "seed -1 is not usable"),
        ({"target": 1, "dtype": "float16"}, "dtype 'float16' is unknown"),
        ({"target": 1, "tolerance": 0.0}, "tolerance=0.0: out of range"),
        ({"target": 1, "optimizer": "adamm"}, "optimizer 'adamm' is unknown to Keras"),
        ({"target": 1, "learning_rate": -1.0}, "learning_rate=-1.0: out of range"),
        (
            {"target": 1, "optimizer": tf.keras.optimizers.SGD(), "learning_rate": 1.0},
            "the optimizer has its own",
        ),
        ({"target": 1, "bounds": 3}, "give a pair"),
        ({"target": 1, "bounds": (1, -1)}, "lower lies above the upper"),
        ({"target": 1, "bounds": (1, None)}, "5 value.s. lie outside of the bounds"),
        ({"target": 1, "mask": [0, 0, 0, 0, 0]}, "at least one True"),
        ({"target": 1, "mask": [0, 2, 0, 0, 0]}, "mask: give booleans"),
        ({"target": 1, "regularisers": [TotalVariation(1.0)]}, "TotalVariation needs the places"),
        ({"target": 1, "regularisers": [L2(1.0, by_area=True)]}, r"L2\(by_area=True\) needs the places"),
        (
            {"target": 1, "regularisers": [Mahalanobis(1.0, covariance=np.eye(4))]},
            r"no finite symmetric \(5, 5\)",
        ),
        (
            {"target": 1, "regularisers": [Mahalanobis(1.0, covariance=np.ones((5, 5)))]},
            "covariance is singular",
        ),
        ({"target": 1, "regularisers": [Mahalanobis(1.0, samples=np.ones((3, 5)))]}, "give more samples"),
        ({"target": 1, "regularisers": [Mahalanobis(1.0, samples=np.eye(5), modes=4)]}, "give 1 to 3"),
        (
            {"target": 1, "regularisers": L2(1.0)},
            r"regularisers L2\(.*: no list of them; give a list such as",
        ),
        ({"target": 1, "regularisers": "tv"}, "regularisers 'tv': no list of them"),
        ({"target": 1, "regularisers": 3}, "regularisers 3: no list of them"),
        ({"target": 1, "regularisers": ["tv"]}, "regularisers: 'tv' is none; give a list such as"),
    ],
)
def test_mistakes_are_told(classifier, options, message):
    with pytest.raises(DataError, match=message):
        xairt.optimal_input(classifier, **{"iterations": 2, **options})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L1(0.0), "L1: weight 0.0 is no positive number"),
        (lambda: L2(1.0, norm=-1.0), "L2: norm -1.0 is out of range"),
        (lambda: TotalVariation(1.0, smoothing=np.inf), "smoothing inf is out of range"),
        (lambda: Mahalanobis(1.0), "give either samples= or covariance="),
        (lambda: Mahalanobis(1.0, samples=[[1.0]], mean=[0.0]), "mean= goes with covariance="),
        (lambda: Mahalanobis(1.0, covariance=[[1.0]], modes=1), "modes= goes with samples="),
    ],
)
def test_parameters_of_regularisers_are_checked(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_divergence_is_told():
    with pytest.raises(DivergedError, match=re.escape("lower the learning rate")):
        xairt.optimal_input(line([30.0, 40.0]), value=1.0, iterations=500)


def test_several_inputs_are_refused():
    inputs = [networks.L.Input(2), networks.L.Input(3)]
    model = tf.keras.Model(inputs, networks.L.Dense(1)(networks.L.Concatenate()(inputs)))
    with pytest.raises(MethodError, match="optimal_input takes models of one input"):
        xairt.optimal_input(model, 0)
