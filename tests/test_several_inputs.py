"""Models of several inputs: the same numbers as one long vector gives, in the user's own shapes and labels."""

from __future__ import annotations

import json

import networks
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import xarray as xr

import xairt
from xairt import Grid, attribute, explainer
from xairt.attribution.network import Network, input_names
from xairt.attribution.registry import METHODS
from xairt.data.files import read_dataset, write_dataset
from xairt.errors import DataError, MethodError
from xairt.models.graph import Evaluator, convert
from xairt.models.graph.nodes import Slice
from xairt.models.graph.packing import pack, unpack

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers
FEW = {"integrated_gradients": {"steps": 5}, "smoothgrad": {"augment_by_n": 3}}
NEEDS_ROWS = ("edge", "grad_cam")
NATIVE = [name for name, method in METHODS.items() if method.build is not None and name not in NEEDS_ROWS]


def joined(**options) -> tf.keras.Model:
    """An MLP of 3 + 4 inputs; `networks.mlp()` with its weights takes them as one vector."""
    a, b = tf.keras.Input(3, name="ocean"), tf.keras.Input(4, name="air")
    x = L.Concatenate()([a, b])
    for layer in (L.Dense(11, "relu"), L.Dense(6, "relu"), L.Dense(3)):
        x = layer(x)
    model = tf.keras.Model([a, b], x, **options)
    model.set_weights(networks.mlp().get_weights())
    return model


def mixed() -> tf.keras.Model:
    """An image branch and a vector branch, one weighted layer each before they meet."""
    image, vector = tf.keras.Input((5, 4, 2), name="image"), tf.keras.Input(3, name="vector")
    seen = L.Flatten()(L.Conv2D(3, 3, activation="relu", name="first_image")(image))
    known = L.Dense(4, "relu", name="first_vector")(vector)
    x = L.Dense(2, name="last")(L.Concatenate()([seen, known]))
    return networks.randomised(tf.keras.Model([image, vector], x))


def parts(model, n: int = 5, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = Network.of(model).input_shapes
    return {
        name: rng.normal(size=(n, *shape)).astype(np.float32)
        for name, shape in zip(input_names(model), shapes, strict=True)
    }


def side_by_side(x: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([v.reshape(len(v), -1) for v in x.values()], axis=1)


def packed_result(out: xr.Dataset) -> np.ndarray:
    found = [v.values for name, v in out.data_vars.items() if name.startswith("attribution_")]
    return np.concatenate([v.reshape(len(v), -1) for v in found], axis=1)


# --------------------------------------------------------------------------- the packed graph


@pytest.mark.parametrize("make", [joined, mixed])
def test_packed_graph_computes_what_keras_does(make):
    model = make()
    x, graph = parts(model), pack(convert(model))
    (packed,) = Evaluator(graph, "float64")(tf.constant(side_by_side(x), tf.float64))
    np.testing.assert_allclose(packed, model(list(x.values())), rtol=1e-5, atol=1e-6)
    assert graph.input_shape == (side_by_side(x).shape[1],)
    assert [n.name for n in graph.nodes if isinstance(n.op, Slice)] == list(x)


def test_unpack_is_the_way_back():
    x = parts(mixed())
    shapes = [v.shape[1:] for v in x.values()]
    for part, want in zip(unpack(tf.constant(side_by_side(x)), shapes), x.values(), strict=True):
        np.testing.assert_array_equal(part, want)


def test_first_layers_are_found_behind_slices():
    graph = pack(convert(mixed()))
    assert [graph.nodes[i].name for i in graph.first_layers] == ["first_image", "first_vector"]
    graph = pack(convert(joined()))
    assert len(graph.first_layers) == 1
    assert graph.nodes[graph.first_layers[0]].op.kernel.shape == (7, 11)


def test_packing_keeps_outputs_and_removed_activations():
    a, b = tf.keras.Input(2), tf.keras.Input(2)
    hidden = L.Add()([a, b])
    graph = convert(tf.keras.Model([a, b], [L.Dense(3, "softmax")(hidden), b, hidden]))
    packed = pack(graph)
    assert packed.final_activations == graph.final_activations == ("softmax", None, None)
    assert [packed.nodes[i].shape for i in packed.outputs] == [(3,), (2,), (2,)]
    assert packed.affine >= {0, 1, 2}


def test_network_knows_its_inputs():
    network = Network.of(mixed())
    assert network.input_names == ("image", "vector")
    assert network.input_shapes == ((5, 4, 2), (3,))
    assert network.input_shape == (43,)
    assert network.packed
    assert not Network.of(networks.mlp()).packed


# --------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("method", NATIVE)
def test_every_method_gives_what_it_gives_for_one_vector(method):
    several, single = joined(), networks.mlp()
    x = parts(several)
    options = FEW.get(method, {}) | {"seed": 3}
    out = attribute(several, x, method, **options)
    want = attribute(single, side_by_side(x), method, **options)
    np.testing.assert_allclose(packed_result(out), want.attribution, rtol=1e-5, atol=1e-6)
    others = [name for name in want.data_vars if name != "attribution"]
    assert [name for name in out.data_vars if not name.startswith("attribution_")] == others
    for name in others:
        np.testing.assert_allclose(out[name], want[name], rtol=1e-5, atol=1e-5)
        assert out[name].dims == ("sample",)


@pytest.mark.parametrize("rule", ["Flat", "WSquare", "Bounded(low=-3, high=3)"])
def test_input_layer_rules_reach_the_first_layers(rule):
    several, single = joined(), networks.mlp()
    x = parts(several)
    out = attribute(several, x, "lrp.epsilon", input_layer_rule=rule)
    want = attribute(single, side_by_side(x), "lrp.epsilon", input_layer_rule=rule)
    np.testing.assert_allclose(packed_result(out), want.attribution, rtol=1e-5, atol=1e-6)


def test_gradient_of_image_and_vector():
    model = mixed()
    x = parts(model)
    tensors = [tf.constant(v) for v in x.values()]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = model(tensors)[:, 1]
    out = attribute(model, x, "gradient", target=1)
    for name, want in zip(x, tape.gradient(y, tensors), strict=True):
        np.testing.assert_allclose(out[f"attribution_{name}"], want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out.prediction, y, rtol=1e-5)


def test_relevance_of_all_inputs_and_the_ledger_add_up_to_the_output():
    model = mixed()
    out = attribute(model, parts(model), "lrp.alpha_2_beta_1", dtype="float64")
    kept = out.absorbed_by_bias + out.lost_to_stabiliser + out.lost_to_empty_pot
    np.testing.assert_allclose(packed_result(out).sum(axis=1) + kept, out.prediction, rtol=1e-9)
    np.testing.assert_array_equal(out.status, 0)


def test_integrated_gradients_follow_the_definition_with_a_baseline_per_input():
    model = joined()
    x = parts(model)
    baseline = {"air": np.full(4, 0.5), "ocean": [[0.0, 1, 2], [1, 1, 1]]}
    out = attribute(model, x, "integrated_gradients", baseline=baseline, steps=9, target=0, dtype="float64")
    flat, wanted = side_by_side(x).astype(float), 0
    weights = np.full(9, 1 / 8)
    weights[[0, -1]] /= 2
    w = [v.astype(float) for v in model.get_weights()]
    for start in np.concatenate([baseline["ocean"], np.full((2, 4), 0.5)], axis=1):
        for t, weight in zip(np.linspace(0, 1, 9), weights, strict=True):
            p = start + t * (flat - start)
            h1 = p @ w[0] + w[1]
            h2 = np.maximum(h1, 0) @ w[2] + w[3]
            slope = ((h2 > 0) * w[4][:, 0]) @ w[2].T * (h1 > 0) @ w[0].T
            wanted = wanted + weight * (flat - start) * slope / 2
    np.testing.assert_allclose(packed_result(out), wanted, rtol=1e-6, atol=1e-9)


def test_forms_of_samples_and_baselines_agree():
    model = joined()
    x = parts(model)
    labelled = xr.Dataset({name: (("sample", f"{name}_cell"), v) for name, v in x.items()} | {"year": 1})
    reference = [np.ones(3), 0.5 * np.ones(4)]
    outs = [
        attribute(model, given, "integrated_gradients", baseline=baseline, steps=4)
        for given, baseline in [
            (x, dict(zip(x, reference, strict=True))),
            ({name: x[name] for name in reversed(x)}, reference),
            (list(x.values()), tuple(reference)),
            (labelled, xr.Dataset({k: (f"{k}_cell", v) for k, v in zip(x, reference, strict=True)})),
        ]
    ]
    for out in outs:
        np.testing.assert_array_equal(packed_result(out), packed_result(outs[0]))
    number = attribute(model, x, "integrated_gradients", baseline=0.25, steps=4)
    each = attribute(model, x, "integrated_gradients", baseline={"ocean": 0.25, "air": 0.25}, steps=4)
    np.testing.assert_array_equal(packed_result(number), packed_result(each))


def test_large_baselines_are_told_apart():
    a, b = tf.keras.Input(2000, name="a"), tf.keras.Input(3, name="b")
    model = networks.randomised(tf.keras.Model([a, b], L.Dense(1)(L.Concatenate()([a, b]))))
    x, zero, one = parts(model, 2), np.zeros(2000), np.zeros(2000)
    one[1000] = 1
    for form in (list, lambda v: dict(zip("ab", v, strict=True))):
        outs = [
            attribute(model, x, "integrated_gradients", baseline=form([v, np.zeros(3)]), steps=3)
            for v in (zero, one)
        ]
        assert (outs[0].attribution_a != outs[1].attribution_a).any()
        assert outs[0].attrs["identities"] != outs[1].attrs["identities"]


def test_blocks_and_probes_do_not_change_results():
    model = joined()
    x = parts(model, 7)
    whole = attribute(model, x, "lrp.alpha_1_beta_0")
    cut = attribute(model, x, "lrp.alpha_1_beta_0", batch_size=2)
    np.testing.assert_allclose(packed_result(cut), packed_result(whole), rtol=1e-5, atol=1e-7)
    for name, value in parts(model, 7).items():
        np.testing.assert_array_equal(x[name], value)


def test_ledger_of_every_layer():
    model = mixed()
    ledger = (
        explainer(model, "lrp.alpha_1_beta_0")(parts(model)),
        explainer(model, "lrp.alpha_1_beta_0").ledger(parts(model)),
    )
    np.testing.assert_allclose(
        ledger[1].absorbed_by_bias.sum("layer"), ledger[0].absorbed_by_bias, rtol=1e-4, atol=1e-6
    )
    assert {"first_image", "first_vector", "last"} <= set(ledger[1].layer.values)


# --------------------------------------------------------------------------- models without a canonical graph


class Own(tf.keras.Model):
    """A model of its own class that takes a dict or a list."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = L.Dense(2)

    def call(self, x):
        u, v = (x["u"], x["v"]) if isinstance(x, dict) else x
        return self.dense(tf.concat([tf.sin(u), tf.reshape(v, (-1, 6))], axis=1))


@pytest.mark.parametrize("form", [list, tuple, dict])
def test_models_of_their_own_class(form):
    rng = np.random.default_rng(0)
    u, v = (rng.normal(size=(3, *shape)).astype(np.float32) for shape in ((4,), (2, 3)))
    model = Own(name="own")
    model({"v": v, "u": u} if form is dict else form([u, v]))
    names = input_names(model)
    assert names == (("u", "v") if form is dict else ("input_1", "input_2"))
    out = attribute(model, dict(zip(names, (u, v), strict=True)), "gradient", target=1)
    kernel = model.dense.kernel.numpy()[:, 1]
    np.testing.assert_allclose(out[f"attribution_{names[0]}"], np.cos(u) * kernel[:4], rtol=1e-4, atol=1e-6)
    rest = np.broadcast_to(kernel[4:].reshape(2, 3), v.shape)
    np.testing.assert_allclose(out[f"attribution_{names[1]}"], rest, rtol=1e-5)


def test_functional_model_without_a_graph_ends_at_its_logit():
    a, b = tf.keras.Input(3, name="a"), tf.keras.Input((2, 2), name="b")
    merged = L.Concatenate()([L.LayerNormalization()(a), L.Flatten()(b)])
    model = networks.randomised(tf.keras.Model({"p": a, "q": b}, L.Dense(3, "softmax")(merged)))
    x = parts(model)
    logits = np.stack([attribute(model, x, "occlusion", target=k).prediction for k in range(3)], axis=1)
    np.testing.assert_allclose(tf.nn.softmax(logits), model({"p": x["a"], "q": x["b"]}), rtol=1e-5)
    with pytest.raises(xairt.errors.UnsupportedLayerError, match=r"\(LayerNormalization\) has no canonical"):
        explainer(model, "lrp.z")


# --------------------------------------------------------------------------- labels


def test_plain_arrays_keep_their_dimensions_apart():
    model = mixed()
    out = attribute(model, parts(model), "gradient")
    assert out.attribution_image.dims == ("sample", "y", "x", "channel")
    assert out.attribution_vector.dims == ("sample", "feature")
    out = attribute(joined(), parts(joined()), "gradient")
    assert out.attribution_ocean.dims == ("sample", "ocean_feature")
    assert out.attribution_air.dims == ("sample", "air_feature")
    np.testing.assert_array_equal(out.sample, np.arange(5))
    assert out.attribution_air.attrs["long_name"] == "attribution of input air"


def test_labels_of_each_input_are_kept():
    model = joined()
    x = parts(model)
    time = pd.date_range("2001-01-01", periods=5)
    given = {
        "ocean": xr.DataArray(x["ocean"], {"time": time, "depth": [1.0, 2, 3]}, ("time", "depth")),
        "air": xr.DataArray(x["air"], {"time": time, "depth": [4.0, 5, 6, 7]}, ("time", "depth")),
    }
    out = attribute(model, given, "gradient")
    assert out.attribution_ocean.dims == ("time", "ocean_depth")
    np.testing.assert_array_equal(out.air_depth, [4, 5, 6, 7])
    np.testing.assert_array_equal(out.time, time)
    assert out.prediction.dims == ("time",)
    half = attribute(model, {"ocean": x["ocean"], "air": given["air"]}, "gradient")
    assert half.attribution_ocean.dims == ("time", "feature")
    assert half.attribution_air.dims == ("time", "depth")
    np.testing.assert_array_equal(half.time, time)


def test_a_dimension_that_both_inputs_share_stays_one():
    a, b = tf.keras.Input(3, name="a"), tf.keras.Input(3, name="b")
    model = networks.randomised(tf.keras.Model([a, b], L.Dense(1)(L.Add()([a, b]))))
    x = parts(model)
    coords = {"level": [1, 2, 3]}
    out = attribute(
        model, xr.Dataset({k: (("sample", "level"), v) for k, v in x.items()}, coords), "gradient"
    )
    assert out.attribution_a.dims == out.attribution_b.dims == ("sample", "level")
    np.testing.assert_array_equal(out.level, [1, 2, 3])


LAND = np.array([[False, True], [False, False]])
WIDE = np.array([[False, False, True], [True, False, False]])


def on_maps(sample_dim: str = "sample") -> dict[str, xr.DataArray]:
    x = parts(joined())
    grids = {"ocean": Grid(~LAND, [10, -10], [0, 90]), "air": Grid(~WIDE, [60, 50], [10, 20, 30])}
    return {
        name: xr.DataArray(
            grid.to_map(x[name]), {"lat": grid.lat, "lon": grid.lon}, (sample_dim, "lat", "lon")
        )
        for name, grid in grids.items()
    }


def test_maps_of_each_input_with_their_land():
    model = joined()
    out = attribute(model, on_maps(), "lrp.alpha_1_beta_0")
    want = attribute(model, parts(model), "lrp.alpha_1_beta_0")
    assert out.attribution_ocean.dims == ("sample", "ocean_lat", "ocean_lon")
    np.testing.assert_array_equal(out.attribution_ocean.isnull().all("sample"), LAND)
    np.testing.assert_array_equal(out.attribution_ocean.values[:, ~LAND], want.attribution_ocean)
    np.testing.assert_array_equal(out.attribution_air.values[:, ~WIDE], want.attribution_air)
    np.testing.assert_array_equal(out.air_lon, [10, 20, 30])
    np.testing.assert_array_equal(out.completeness_gap, want.completeness_gap)


def test_grids_are_given_by_name_or_where_they_fit():
    model, x = joined(), parts(joined())
    grid = Grid(~LAND, [10, -10], [0, 90])
    by_name = attribute(model, x, "gradient", grid={"ocean": grid})
    fitting = attribute(model, x, "gradient", grid=grid)
    xr.testing.assert_identical(by_name, fitting)
    assert by_name.attribution_ocean.dims == ("sample", "lat", "lon")
    assert by_name.attribution_air.dims == ("sample", "feature")
    maps = on_maps()
    reference = {"ocean": maps["ocean"][0], "air": 0.0}
    got = attribute(
        model, maps | {"air": x["air"]}, "integrated_gradients", baseline=reference, steps=4, grid=grid
    )
    plain = {"ocean": x["ocean"][0], "air": 0.0}
    want = attribute(model, x, "integrated_gradients", baseline=plain, steps=4)
    np.testing.assert_array_equal(got.attribution_ocean.values[:, ~LAND], want.attribution_ocean)
    inferred = attribute(model, maps, "integrated_gradients", baseline=reference, steps=4)
    np.testing.assert_array_equal(inferred.attribution_ocean, got.attribution_ocean)


def test_several_methods_in_one_file(tmp_path):
    model = joined()
    out = attribute(model, parts(model), ["gradient", "lrp.z"])
    assert out.attribution_air.dims == ("method", "sample", "air_feature")
    assert json.loads(out.attrs["status_report"]).keys() == {"gradient", "lrp.z"}
    write_dataset(out, tmp_path / "out.nc", title="t")
    back = read_dataset(tmp_path / "out.nc")
    np.testing.assert_array_equal(back.attribution_air, out.attribution_air)


# --------------------------------------------------------------------------- refusals

TAKES = r"model 'two' takes 2 inputs \(ocean, air\)"
OCEAN, AIR = np.zeros((2, 3)), np.zeros((2, 4))


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        ({"ocean": OCEAN}, f"x has nothing for air: {TAKES}"),
        ({"ocean": OCEAN, "airs": AIR}, f"x has nothing for air: {TAKES}; did you mean 'airs'"),
        ({"ocean": OCEAN, "air": AIR, "ice": 1}, f"x has 'ice', which is no input: {TAKES}"),
        ([OCEAN], f"x is 1 arrays, but {TAKES}: give a dict by name"),
        (OCEAN, f"x is one ndarray, but {TAKES}"),
        ([OCEAN, OCEAN], r"x\['air'\] has shape \(2, 3\), but the model takes \(samples, 4\)"),
        ([OCEAN, AIR[:1]], r"x has unequal numbers of samples \(ocean 2, air 1\)"),
        ([OCEAN, AIR * np.nan], r"x\['air'\] holds 8 NaNs, the first at index \(0, 0\)"),
        ([OCEAN, AIR[0]], r"for one sample give x\['air'\]\[None\], shape \(1, 4\)"),
        ([OCEAN, np.full((2, 4), "a")], r"x\['air'\] has dtype"),
        (
            [
                xr.DataArray(OCEAN, {"t": [1, 2]}, ("t", "i")),
                xr.DataArray(AIR, {"t": [1, 3]}, ("t", "j")),
            ],
            r"x\['air'\] and x\['ocean'\] have other 't' coordinates: align the inputs",
        ),
    ],
)
def test_bad_samples_are_refused_in_one_line(x, reason):
    with pytest.raises(DataError, match=reason) as caught:
        attribute(joined(name="two"), x, "gradient")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("baseline", "reason"),
    [
        ({"ocean": 0.0}, f"baseline has nothing for air: {TAKES}"),
        (np.zeros(7), f"baseline is one ndarray, but {TAKES}"),
        ([np.zeros(3), np.zeros(3)], r"baseline\['air'\] has shape \(3,\): give a number, one sample \(4\)"),
        ([np.zeros((2, 3)), np.zeros((3, 4))], r"baseline\['ocean'\] is a set of 2, another input's of 3"),
        ([0, np.full(4, np.inf)], r"baseline\['air'\] holds 4 infinite values"),
    ],
)
def test_bad_baselines_are_refused_in_one_line(baseline, reason):
    with pytest.raises(DataError, match=reason):
        attribute(joined(name="two"), [OCEAN, AIR], "integrated_gradients", baseline=baseline)


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        (Grid(np.ones((1, 5), bool), [0], range(5)), "the grid has 5 valid cells"),
        ({"ocean": Grid(~WIDE, [60, 50], [10, 20, 30])}, "the grid has 4 valid cells, but the model takes 3"),
        ({"ice": None}, "grid for 'ice': model 'two' has no such input that is a vector: it has ocean, air"),
        ("land", "grid is a str: give a Grid"),
    ],
)
def test_bad_grids_are_refused(grid, reason):
    with pytest.raises(DataError, match=reason):
        explainer(joined(name="two"), "gradient", grid=grid)


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("edge", {}, r"edge takes models of one input, but model 'two' has 2 \(ocean, air\): use random"),
        ("grad_cam", {}, "grad_cam takes models of one input, .*: use input_t_gradient"),
        ("occlusion", {"patch": 2}, "occlusion with a patch of several cells takes .*: use patch=1"),
        (
            "lrp.z",
            {"engine": "innvestigate"},
            "engine 'innvestigate' takes models of one input, .*: use engine='native'",
        ),
    ],
)
def test_methods_that_need_one_input_refuse(method, options, reason):
    with pytest.raises(MethodError, match=reason):
        explainer(joined(name="two"), method, **options)


def test_patch_of_one_cell_is_occlusion_of_one_feature():
    model, x = joined(), parts(joined())
    out = attribute(model, x, "occlusion", patch=(1,), target=0, value=0.5)
    flat = side_by_side(x)
    single = networks.mlp()
    wanted = np.empty_like(flat)
    for i in range(7):
        changed = flat.copy()
        changed[:, i] = 0.5
        wanted[:, i] = (single(flat) - single(changed))[:, 0]
    np.testing.assert_allclose(packed_result(out), wanted, rtol=1e-4, atol=1e-5)
