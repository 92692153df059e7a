"""Occlusion and feature ablation against plain loops over patches and groups."""

from __future__ import annotations

import itertools

import networks
import numpy as np
import pytest
import tensorflow as tf

from xairt import Grid, attribute, explainer
from xairt.attribution import explainer as explainers
from xairt.attribution import perturbation
from xairt.errors import MethodError

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers
MASK = np.array([[0, 0, 0, 0, 0], [0, 1, 0, 1, 1], [0, 1, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool)
LAT, LON = np.array([60.0, 30.0, 0.0, -30.0, -60.0]), np.array([0.0, 72.0, 144.0, 216.0, 288.0])


def logits(model: tf.keras.Model, samples: np.ndarray, target: int) -> np.ndarray:
    return model(samples.astype(np.float32), training=False).numpy()[:, target]


def occluded(f, field: np.ndarray, patch: tuple[int, ...], value: float, valid: np.ndarray | None = None):
    """Return the mean difference over all patches that lie inside and cover a cell that counts."""
    windows = []
    for corner in itertools.product(
        *[range(n - edge + 1) for n, edge in zip(field.shape, patch, strict=True)]
    ):
        window = tuple(slice(c, c + edge) for c, edge in zip(corner, patch, strict=True))
        if valid is None or valid[window].any():
            windows.append(window)
    changed = np.stack([field] * (1 + len(windows)))
    for i, window in enumerate(windows):
        changed[(1 + i, *window)] = value
    results = f(changed)
    total, count = np.zeros(field.shape), np.zeros(field.shape)
    for i, window in enumerate(windows):
        total[window] += results[0] - results[1 + i]
        count[window] += 1
    return total / np.maximum(count, 1)


@pytest.mark.parametrize(("patch", "edges"), [(1, (1,)), (3, (3,)), ((7,), (7,))])
@pytest.mark.parametrize("value", [0.0, -1.5])
def test_vectors_equal_the_loop(patch, edges, value):
    model = networks.mlp()
    x = networks.samples(model, 2)
    out = attribute(model, x, "occlusion", target=1, patch=patch, value=value)
    for got, sample in zip(out.attribution.values, x, strict=True):
        want = occluded(lambda v: logits(model, v, 1), sample, edges, value)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("patch", "edges"), [(1, (1, 1, 1)), (2, (2, 2, 1)), ((2, 1, 2), (2, 1, 2)), ((9, 8, 1), None)]
)
def test_images_equal_the_loop(patch, edges):
    model = networks.cnn()
    x = networks.samples(model, 1)
    out = attribute(model, x, "occlusion", target=2, patch=patch, value=0.5)
    want = occluded(lambda v: logits(model, v, 2), x[0], edges or patch, 0.5)
    np.testing.assert_allclose(out.attribution.values[0], want, rtol=1e-4, atol=2e-6)


def test_sequences_keep_channels_apart():
    model = networks.cnn_1d()
    x = networks.samples(model, 1)
    out = attribute(model, x, "occlusion", target=0, patch=4)
    want = occluded(lambda v: logits(model, v, 0), x[0], (4, 1), 0)
    np.testing.assert_allclose(out.attribution.values[0], want, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(("patch", "edges"), [(1, (1, 1)), (2, (2, 2)), ((1, 3), (1, 3)), ((3, 4), (3, 4))])
def test_patches_move_over_rows_and_columns_of_a_map(patch, edges):
    model, grid = networks.mlp(), Grid(MASK, LAT, LON)
    x = networks.samples(model, 1)
    out = attribute(model, x, "occlusion", target=0, patch=patch, value=0.25, grid=grid)
    box = (slice(1, 4), slice(1, 5))  # rows and columns that hold valid cells
    field = grid.to_map(x[0], fill=0)[box]
    inside = MASK[box]
    want = occluded(lambda m: logits(model, m[:, inside], 0), field, edges, 0.25, inside)
    np.testing.assert_allclose(out.attribution.values[0][box][inside], want[inside], rtol=1e-4, atol=1e-6)
    assert np.isnan(out.attribution.values[0][~MASK]).all()


def test_land_around_the_cells_and_the_order_of_rows_change_nothing():
    model = networks.mlp()
    x = networks.samples(model, 2)
    whole = attribute(model, x, "occlusion", patch=2, grid=Grid(MASK, LAT, LON))
    cut = attribute(model, x, "occlusion", patch=2, grid=Grid(MASK[1:4, 1:], LAT[1:4], LON[1:]))
    np.testing.assert_array_equal(whole.attribution[:, 1:4, 1:], cut.attribution)
    south_first = whole.attribution[:, ::-1].where(True)
    maps = Grid(MASK, LAT, LON).to_map(x)[:, ::-1]
    turned = attribute(
        networks_reading_north_first(model), maps, "occlusion", patch=2, grid=Grid(MASK[::-1], LAT[::-1], LON)
    )
    np.testing.assert_allclose(turned.attribution, south_first, rtol=1e-4, atol=1e-6)


def networks_reading_north_first(model: tf.keras.Model) -> tf.keras.Model:
    """Return a model of vectors with the southern row first that computes the same."""
    order = np.flatnonzero(MASK[::-1])
    rows, columns = np.divmod(order, 5)
    places = np.searchsorted(np.flatnonzero(MASK), (4 - rows) * 5 + columns)
    turn = tf.keras.layers.Dense(7, use_bias=False)
    turned = tf.keras.Sequential([L.InputLayer(7), turn, model])
    turn.set_weights([np.eye(7)[places]])
    return turned


def test_linear_model_gives_weight_times_input():
    model = networks.randomised(tf.keras.Sequential([L.InputLayer(6), L.Dense(1)]))
    x, weights = networks.samples(model).astype(float), model.get_weights()[0][:, 0]
    out = attribute(model, x, "occlusion", dtype="float64")
    np.testing.assert_allclose(out.attribution, x * weights, rtol=1e-12)
    shifted = attribute(model, x, "occlusion", value=2.0, dtype="float64")
    np.testing.assert_allclose(shifted.attribution, (x - 2.0) * weights, rtol=1e-12)


def test_few_copies_at_once_give_the_same(monkeypatch):
    model = networks.cnn_1d()
    x = networks.samples(model, 3)
    want = attribute(model, x, "occlusion", patch=2, batch_size=3)
    singles = attribute(model, x, "occlusion", batch_size=3)
    monkeypatch.setattr(explainers, "rows_at_once", lambda network, dtype: 15)
    got = explainer(model, "occlusion", patch=2, batch_size=3)(x)
    np.testing.assert_allclose(got.attribution, want.attribution, rtol=1e-5, atol=1e-7)
    got = explainer(model, "occlusion", batch_size=3)(x)
    np.testing.assert_allclose(got.attribution, singles.attribution, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("patch", [0, 8, (8,)])
def test_patch_that_does_not_fit(patch):
    with pytest.raises(
        MethodError, match=r"occlusion: patch edge \d does not fit an axis of 7 cells: choose 1 to 7"
    ):
        explainer(networks.mlp(), "occlusion", patch=patch)


def test_patch_must_have_an_edge_for_every_axis():
    with pytest.raises(
        MethodError, match=r"patch \(2, 2\) has 2 edges, but a sample has 3 axes: give one per axis"
    ):
        explainer(networks.cnn(), "occlusion", patch=(2, 2))
    with pytest.raises(MethodError, match="patch edge 4 does not fit an axis of 3 cells"):
        explainer(networks.mlp(), "occlusion", patch=4, grid=Grid(MASK, LAT, LON))


# ------------------------------------------------------------------------------- one feature at a time


def two_readers() -> tf.keras.Model:
    """A model whose affine front ends in two tensors."""
    x = tf.keras.Input(6)
    sides = [L.Dense(4, "tanh")(x), L.Dense(3, "relu")(x)]
    return networks.randomised(tf.keras.Model(x, L.Dense(2)(L.Concatenate()(sides))))


def recurrent() -> tf.keras.Model:
    return networks.randomised(tf.keras.Sequential([L.InputLayer((4, 2)), L.LSTM(3), L.Dense(2)]))


@pytest.mark.parametrize("make", [networks.mlp, networks.cnn, networks.branched, two_readers, recurrent])
@pytest.mark.parametrize("method", ["occlusion", "feature_ablation"])
@pytest.mark.parametrize("largest_front", [0, 4_000_000])
def test_single_features_equal_the_loop(make, method, largest_front, monkeypatch):
    monkeypatch.setattr(perturbation, "LARGEST_FRONT", largest_front)
    model = make()
    x = networks.samples(model, 2)
    before = tf.keras.Model(model.inputs, model.outputs)
    end = model.layers[-1]
    if end.activation is tf.keras.activations.softmax:
        kernel, bias = end.get_weights()
        before = tf.keras.Model(model.inputs, end.input)
    out = explainer(model, method, target=0, value=0.5)(x)
    for got, sample in zip(out.attribution.values, x, strict=True):
        changed = np.stack([sample] * (1 + sample.size))
        for i, place in enumerate(np.ndindex(sample.shape)):
            changed[(1 + i, *place)] = 0.5
        results = before(changed, training=False).numpy()
        if before.output is not model.output:
            results = results @ kernel + bias
        want = (results[0, 0] - results[1:, 0]).reshape(sample.shape)
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=2e-6)


# ------------------------------------------------------------------------------- groups


def ablated(f, sample: np.ndarray, labels: np.ndarray, value: float) -> np.ndarray:
    """Return for every feature f(x) - f(x with its group replaced)."""
    whole, result = f(sample[None])[0], np.zeros(sample.shape)
    for label in np.unique(labels):
        result[labels == label] = whole - f(np.where(labels == label, value, sample)[None])[0]
    return result


@pytest.mark.parametrize("method", ["occlusion", "feature_ablation"])
def test_groups_of_an_image_equal_the_loop(method):
    model = networks.cnn()
    x = networks.samples(model, 2)
    labels = np.random.default_rng(0).integers(-2, 7, x.shape[1:])
    out = attribute(model, x, method, target=1, groups=labels, value=0.25)
    for got, sample in zip(out.attribution.values, x, strict=True):
        want = ablated(lambda v: logits(model, v, 1), sample, labels, 0.25)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-6)


def test_groups_of_single_features_in_another_order():
    model = networks.mlp()
    x, labels = networks.samples(model, 2), np.array([6, 5, 4, 3, 2, 1, 0])
    np.testing.assert_allclose(
        attribute(model, x, "feature_ablation", groups=labels).attribution,
        attribute(model, x, "feature_ablation").attribution,
        rtol=1e-4,
        atol=1e-6,
    )


def test_linear_model_gives_every_feature_the_whole_group():
    model = networks.randomised(tf.keras.Sequential([L.InputLayer(4), L.Dense(1)]))
    x, weights = networks.samples(model).astype(float), model.get_weights()[0][:, 0]
    out = attribute(model, x, "feature_ablation", groups=[0, 1, 1, 0], value=1.0, dtype="float64")
    each = (x - 1) * weights
    want = np.stack([each[:, [0, 3]].sum(1), each[:, [1, 2]].sum(1)], axis=1)[:, [0, 1, 1, 0]]
    np.testing.assert_allclose(out.attribution, want, rtol=1e-12)


def test_patches_and_groups_exclude_each_other():
    with pytest.raises(MethodError, match="groups take the place of patches: leave patch out"):
        explainer(networks.mlp(), "occlusion", patch=2, groups=[0, 0, 1, 1, 1, 2, 2])
