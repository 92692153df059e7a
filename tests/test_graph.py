"""The canonical graph computes what Keras computes, folds what may be folded, and refuses the rest."""

from __future__ import annotations

import graphs
import networks
import numpy as np
import pytest
import tensorflow as tf
from graphs import chain, evaluate, functional

from xairt import attribute
from xairt.errors import ModelError
from xairt.models.graph import Evaluator, convert
from xairt.models.graph.convert import CONVERTERS
from xairt.models.graph.nodes import Activation, Identity

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers
VECTOR, SEQUENCE, IMAGE, VOLUME = (5,), (10, 3), (7, 6, 2), (5, 4, 6, 2)


def parallel(merge, *shape, branches=2):
    """Return a model that merges dense layers that read the same input."""
    return lambda: functional(shape, lambda x: merge([L.Dense(4)(x) for _ in range(branches)]))


def alone(shape, *layers):
    return lambda: chain(shape, *(make() for make in layers))


def each(shape, make, *options):
    """Return one builder for each set of options."""
    return [lambda o=o: chain(shape, make(**o)) for o in options]


WINDOWS = [
    {"padding": padding, "strides": strides, "pool_size": size}
    for padding in ("valid", "same")
    for strides, size in ((None, 2), (1, 3), (3, 2))
]
CONVOLUTIONS = [
    {"filters": 4, "kernel_size": 3},
    {"filters": 4, "kernel_size": 3, "padding": "same"},
    {"filters": 4, "kernel_size": 3, "padding": "same", "strides": 2, "use_bias": False},
    {"filters": 4, "kernel_size": 2, "strides": 3, "activation": "relu"},
    {"filters": 4, "kernel_size": 2, "dilation_rate": 2},
    {"filters": 4, "kernel_size": 2, "dilation_rate": 3, "padding": "same", "activation": "tanh"},
]
IMAGE_WINDOWS = [{"padding": p, "pool_size": (2, 3), "strides": (2, 1)} for p in ("valid", "same")]
VOLUME_WINDOWS = [{"padding": p, "pool_size": (2, 1, 3), "strides": (2, 1, 2)} for p in ("valid", "same")]
DEPTHWISE = [
    {"kernel_size": 3, "depth_multiplier": 2, "activation": "relu"},
    {"kernel_size": 3, "strides": 2, "padding": "same", "use_bias": False},
    {"kernel_size": 2, "dilation_rate": 2, "padding": "same"},
]
SEPARABLE = [{"filters": 4, **options} for options in DEPTHWISE]
TRANSPOSED = [
    {"filters": 4, "kernel_size": 3, "activation": "relu"},
    {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same", "use_bias": False},
    {"filters": 4, "kernel_size": 2, "strides": 3},
    {"filters": 4, "kernel_size": 2, "strides": 3, "padding": "same", "output_padding": 2},
    {"filters": 4, "kernel_size": 3, "strides": 2, "output_padding": 1},
]
DILATED = {"filters": 4, "kernel_size": 3, "dilation_rate": 2}
KEEP = [{"keepdims": False}, {"keepdims": True}]
DENSE = [
    {},
    {"activation": "relu"},
    {"use_bias": False},
    {"activation": "gelu"},
    {"activation": tf.math.square},
]

CASES = {
    "Dense": [
        make
        for shape in (VECTOR, SEQUENCE, IMAGE)
        for make in each(shape, lambda **o: L.Dense(4, **o), *DENSE)
    ],
    "Conv1D": [
        *each(SEQUENCE, L.Conv1D, *CONVOLUTIONS),
        *each(
            SEQUENCE,
            L.Conv1D,
            *[{"filters": 2, "kernel_size": 3, "padding": "causal", "dilation_rate": d} for d in (1, 2)],
        ),
        *each(SEQUENCE, L.Conv1D, {"filters": 2, "kernel_size": 3, "padding": "causal", "strides": 2}),
        *each(SEQUENCE, L.Conv1D, {"filters": 6, "kernel_size": 3, "groups": 3}),
    ],
    "Conv2D": [
        *each(IMAGE, L.Conv2D, *CONVOLUTIONS[:-1]),
        *each(
            IMAGE,
            L.Conv2D,
            {"filters": 3, "kernel_size": (2, 3), "dilation_rate": (1, 2), "padding": "same"},
            {"filters": 3, "kernel_size": (1, 4), "strides": (2, 1), "padding": "same"},
            {"filters": 6, "kernel_size": 2, "groups": 2, "strides": 2, "padding": "same"},
        ),
    ],
    "Conv3D": each(VOLUME, L.Conv3D, *CONVOLUTIONS[:-1]),
    "DepthwiseConv1D": each(SEQUENCE, L.DepthwiseConv1D, *DEPTHWISE),
    "DepthwiseConv2D": each(
        IMAGE,
        L.DepthwiseConv2D,
        *DEPTHWISE,
        {"kernel_size": (3, 2), "dilation_rate": (1, 2)},
        *[{"kernel_size": 2, "strides": (2, 3), "padding": padding} for padding in ("valid", "same")],
    ),
    "SeparableConv1D": [
        *each(SEQUENCE, L.SeparableConv1D, *SEPARABLE),
        *each(
            SEQUENCE,
            L.SeparableConv1D,
            {"filters": 2, "kernel_size": 3, "padding": "causal", "dilation_rate": 2, "activation": "tanh"},
        ),
    ],
    "SeparableConv2D": each(IMAGE, L.SeparableConv2D, *SEPARABLE),
    "Conv1DTranspose": each(SEQUENCE, L.Conv1DTranspose, *TRANSPOSED, DILATED, DILATED | {"padding": "same"}),
    "Conv2DTranspose": each(IMAGE, L.Conv2DTranspose, *TRANSPOSED, DILATED, DILATED | {"padding": "same"}),
    "Conv3DTranspose": each(VOLUME, L.Conv3DTranspose, *TRANSPOSED, DILATED),
    "AveragePooling1D": each(SEQUENCE, L.AveragePooling1D, *WINDOWS),
    "AveragePooling2D": each(IMAGE, L.AveragePooling2D, *WINDOWS, *IMAGE_WINDOWS),
    "AveragePooling3D": each(VOLUME, L.AveragePooling3D, *WINDOWS, *VOLUME_WINDOWS),
    "MaxPooling1D": each(SEQUENCE, L.MaxPooling1D, *WINDOWS),
    "MaxPooling2D": each(IMAGE, L.MaxPooling2D, *WINDOWS, *IMAGE_WINDOWS),
    "MaxPooling3D": each(VOLUME, L.MaxPooling3D, *WINDOWS, *VOLUME_WINDOWS),
    "GlobalAveragePooling1D": each(SEQUENCE, L.GlobalAveragePooling1D, *KEEP),
    "GlobalAveragePooling2D": each(IMAGE, L.GlobalAveragePooling2D, *KEEP),
    "GlobalAveragePooling3D": each(VOLUME, L.GlobalAveragePooling3D, *KEEP),
    "GlobalMaxPooling1D": each(SEQUENCE, L.GlobalMaxPooling1D, *KEEP),
    "GlobalMaxPooling2D": each(IMAGE, L.GlobalMaxPooling2D, *KEEP),
    "GlobalMaxPooling3D": each(VOLUME, L.GlobalMaxPooling3D, *KEEP),
    "BatchNormalization": [
        *each(VECTOR, L.BatchNormalization, {}, {"scale": False}, {"center": False}, {"epsilon": 0.5}),
        *each(IMAGE, L.BatchNormalization, {}, {"axis": 1}, {"axis": 2, "scale": False}),
    ],
    "Activation": [
        alone(VECTOR, lambda name=name: L.Activation(name), lambda: L.Dense(2))
        for name in ("linear", "relu", "tanh", "sigmoid", "softmax", "softplus", "elu", "swish", tf.math.sin)
    ],
    "ReLU": each(VECTOR, L.ReLU, {}, {"max_value": 0.5}, {"negative_slope": 0.2}, {"threshold": 0.3}),
    "LeakyReLU": each(VECTOR, L.LeakyReLU, {}, {"alpha": 0.1}),
    "ELU": each(VECTOR, L.ELU, {}, {"alpha": 0.4}),
    "ThresholdedReLU": each(VECTOR, L.ThresholdedReLU, {"theta": 0.4}),
    "PReLU": each(IMAGE, L.PReLU, {}, {"shared_axes": [1, 2]}),
    "Softmax": [
        alone(SEQUENCE, lambda axis=axis: L.Softmax(axis), lambda: L.Dense(2)) for axis in (-1, 1, 2)
    ],
    "Flatten": each(IMAGE, L.Flatten, {}),
    "Reshape": [*each(IMAGE, L.Reshape, {"target_shape": (14, 6)}, {"target_shape": (-1, 2)})],
    "Permute": each(IMAGE, L.Permute, {"dims": (2, 1, 3)}, {"dims": (3, 1, 2)}),
    "RepeatVector": each(VECTOR, L.RepeatVector, {"n": 3}),
    "ZeroPadding1D": each(SEQUENCE, L.ZeroPadding1D, {}, {"padding": (2, 0)}),
    "ZeroPadding2D": each(IMAGE, L.ZeroPadding2D, {}, {"padding": (2, 1)}, {"padding": ((0, 3), (1, 0))}),
    "ZeroPadding3D": each(VOLUME, L.ZeroPadding3D, {}, {"padding": ((0, 3), (1, 0), (2, 1))}),
    "Cropping1D": each(SEQUENCE, L.Cropping1D, {}, {"cropping": (2, 0)}),
    "Cropping2D": each(IMAGE, L.Cropping2D, {"cropping": 1}, {"cropping": ((0, 3), (1, 0))}),
    "Cropping3D": each(VOLUME, L.Cropping3D, {"cropping": ((0, 3), (1, 0), (2, 1))}),
    "UpSampling1D": each(SEQUENCE, L.UpSampling1D, {"size": 3}),
    "UpSampling2D": each(IMAGE, L.UpSampling2D, {}, {"size": (3, 1)}),
    "UpSampling3D": each(VOLUME, L.UpSampling3D, {}, {"size": (3, 1, 2)}),
    "Add": [
        parallel(L.Add(), *VECTOR),
        parallel(L.Add(), *IMAGE, branches=3),
        lambda: functional(VECTOR, lambda x: L.Add()([x, x])),
        lambda: functional(SEQUENCE, lambda x: L.Add()([L.Dense(4)(x), L.Dense(1)(x)])),
        lambda: functional(SEQUENCE, lambda x: L.Add()([x, L.GlobalMaxPooling1D()(x)])),
    ],
    "Average": [
        parallel(L.Average(), *VECTOR),
        parallel(L.Average(), *IMAGE, branches=3),
        lambda: functional(SEQUENCE, lambda x: L.Average()([x, L.GlobalMaxPooling1D()(x)])),
    ],
    "Concatenate": [
        parallel(L.Concatenate(), *VECTOR),
        parallel(L.Concatenate(axis=1), *IMAGE, branches=3),
        parallel(L.Concatenate(axis=-2), *IMAGE),
        lambda: functional(VECTOR, lambda x: L.Concatenate()([x, x])),
    ],
    "Dropout": each(VECTOR, L.Dropout, {"rate": 0.5}),
    "SpatialDropout1D": each(SEQUENCE, L.SpatialDropout1D, {"rate": 0.5}),
    "SpatialDropout2D": each(IMAGE, L.SpatialDropout2D, {"rate": 0.5}),
    "SpatialDropout3D": each(VOLUME, L.SpatialDropout3D, {"rate": 0.5}),
    "GaussianNoise": each(VECTOR, L.GaussianNoise, {"stddev": 1.0}),
    "GaussianDropout": each(VECTOR, L.GaussianDropout, {"rate": 0.5}),
    "AlphaDropout": each(VECTOR, L.AlphaDropout, {"rate": 0.5}),
    "ActivityRegularization": each(VECTOR, L.ActivityRegularization, {"l1": 0.5}),
}
# Keras has no float64 operation on the CPU for these
SINGLE = {
    *(f"{kind}Pooling3D-{i}" for kind in ("Average", "Max") for i in range(8)),
    *("DepthwiseConv2D-4", "DepthwiseConv2D-5", "Conv1DTranspose-5", "Conv1DTranspose-6"),
}
LAYER_MODELS = {f"{name}-{i}": make for name, makers in CASES.items() for i, make in enumerate(makers)}


def with_shared_dense():
    dense, last = L.Dense(4, "relu"), L.Dense(2)
    return functional(SEQUENCE, lambda x: last(L.Add()([dense(x), dense(L.ReLU()(x))])))


def with_nested_model_twice():
    inner = tf.keras.Sequential([L.InputLayer(4), L.Dense(4, "relu"), L.BatchNormalization()], name="inner")
    return functional(VECTOR, lambda x: L.Dense(2)(inner(inner(L.Dense(4)(x)))))


def with_functional_inside_sequential():
    inner = tf.keras.Input(IMAGE)
    body = tf.keras.Model(inner, L.Add()([L.Conv2D(2, 3, padding="same")(inner), inner]), name="body")
    return chain(IMAGE, body, L.ReLU(), L.Flatten(), L.Dense(3))


NETWORKS = {
    "mlp": networks.mlp,
    "cnn": networks.cnn,
    "cnn_1d": networks.cnn_1d,
    "volume": networks.volume,
    "separable": networks.separable,
    "decoder": networks.decoder,
    "averaged": networks.averaged,
    "layer used twice": with_shared_dense,
    "nested model used twice": with_nested_model_twice,
    "functional inside sequential": with_functional_inside_sequential,
}


ALL = LAYER_MODELS | NETWORKS


def test_every_convertible_class_is_covered():
    assert set(CASES) == set(CONVERTERS)


@pytest.mark.parametrize("case", ALL)
def test_forward_equals_keras(case):
    graphs.check_forward(ALL[case](), double=case not in SINGLE | {"volume"})


@pytest.mark.parametrize("case", ALL)
def test_front_and_rest_are_the_network(case):
    graphs.check_front(ALL[case]())


@pytest.mark.parametrize("case", ALL)
def test_node_shapes_and_signs_are_what_the_nodes_give(case):
    graphs.check_nodes(ALL[case]())


@pytest.mark.parametrize("merge", [L.Add, L.Concatenate])
@pytest.mark.parametrize("method", ["lrp.z", "input_t_gradient"])
def test_tensor_merged_with_itself_counts_once(merge, method):
    model = functional(VECTOR, lambda x: L.Dense(1, use_bias=False)(merge()([x, x])))
    x, weights = networks.samples(model), model.get_weights()[0][:, 0]
    slope = 2 * weights if merge is L.Add else weights[:5] + weights[5:]
    np.testing.assert_allclose(attribute(model, x, method).attribution, x * slope, rtol=1e-5, atol=1e-6)


# --------------------------------------------------------------------------- ends


def fed_on():
    """Two outputs: a softmax, and a dense layer that reads the softmax."""
    x = tf.keras.Input(VECTOR)
    first = L.Dense(3, "softmax")(x)
    return networks.randomised(tf.keras.Model(x, [first, L.Dense(2)(first)]))


ENDS = {
    "activation": lambda name: [L.Dense(3, name)],
    "activation layer": lambda name: [L.Dense(3), L.Activation(name)],
    "followed by dropout": lambda name: [L.Dense(3, name), L.Dropout(0.5)],
    "after dropout": lambda name: [L.Dense(3), L.Dropout(0.5), L.Activation(name), L.Activation("linear")],
    "nested": lambda name: [tf.keras.Sequential([L.InputLayer(VECTOR), L.Dense(3, name)])],
}


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
@pytest.mark.parametrize("end", ENDS)
def test_final_activation_is_taken_off(end, name):
    model = chain(VECTOR, *ENDS[end](name))
    graph, x = convert(model), networks.samples(model)
    assert graph.final_activations == (name,)
    assert not any(isinstance(node.op, Activation) for node in graph.nodes)
    (logit,) = evaluate(graph, x)
    np.testing.assert_allclose(getattr(tf.nn, name)(logit), model(x), rtol=1e-5, atol=1e-6)
    assert np.ptp(logit) > 1


def test_softmax_layer_is_taken_off():
    model = chain(VECTOR, L.Dense(3), L.Softmax())
    graph, x = convert(model), networks.samples(model)
    assert graph.final_activations == ("softmax",)
    np.testing.assert_allclose(tf.nn.softmax(evaluate(graph, x)[0]), model(x), rtol=1e-5)


def test_only_the_last_activation_is_taken_off():
    model = chain(VECTOR, L.Dense(3, "sigmoid"), L.Softmax())
    graph, x = convert(model), networks.samples(model)
    assert graph.final_activations == ("softmax",)
    np.testing.assert_allclose(tf.nn.softmax(evaluate(graph, x)[0]), model(x), rtol=1e-5)


def test_each_of_several_outputs_has_its_end():
    model = fed_on()
    graph, x = convert(model), networks.samples(model)
    assert graph.final_activations == ("softmax", None)
    logit, second = evaluate(graph, x)
    np.testing.assert_allclose(tf.nn.softmax(logit), model(x)[0], rtol=1e-5)
    np.testing.assert_allclose(second, model(x)[1], rtol=1e-5, atol=1e-6)


def test_several_inputs_are_computed_in_order():
    a, b = tf.keras.Input(2), tf.keras.Input(3)
    model = networks.randomised(tf.keras.Model([a, b], L.Concatenate()([L.Dense(2)(b), a])))
    values = [np.ones((4, 2), np.float32), 2 * np.ones((4, 3), np.float32)]
    graph = convert(model)
    np.testing.assert_allclose(Evaluator(graph)(*map(tf.constant, values))[0], model(values), rtol=1e-6)
    with pytest.raises(ModelError, match="the model has 2 inputs: only models of one input"):
        graph.input_shape  # noqa: B018 - the access raises


# --------------------------------------------------------------------------- structure


def residual():
    return functional(VECTOR, lambda x: L.Dense(2, name="end")(L.Add()([x, L.Dense(5, name="branch")(x)])))


FIRST = {
    "mlp": (lambda: chain(VECTOR, L.Dense(3, "relu", name="one"), L.Dense(2)), ["one"]),
    "pooled": (
        lambda: chain(
            IMAGE,
            L.AveragePooling2D(2),
            L.ZeroPadding2D(1),
            L.Conv2D(2, 2, name="one"),
            L.Flatten(),
            L.Dense(2),
        ),
        ["one"],
    ),
    "two branches": (parallel(L.Add(), *VECTOR), None),
    "skip connection": (residual, ["branch"]),
    "normalised": (
        lambda: chain(VECTOR, L.BatchNormalization(), L.Dense(3, "relu", name="one"), L.Dense(2)),
        ["one"],
    ),
    "separable": (
        lambda: chain(IMAGE, L.SeparableConv2D(2, 2, name="one"), L.Flatten(), L.Dense(2)),
        ["one/depthwise"],
    ),
    "transposed": (
        lambda: chain(IMAGE, L.Conv2DTranspose(2, 2, activation="relu", name="one"), L.Flatten(), L.Dense(2)),
        ["one"],
    ),
    "volume": (lambda: chain(VOLUME, L.ZeroPadding3D(), L.Conv3D(2, 2, name="one")), ["one"]),
    "behind a relu": (lambda: chain(VECTOR, L.ReLU(), L.Dense(2)), []),
}


@pytest.mark.parametrize("case", FIRST)
def test_first_layers(case):
    make, names = FIRST[case]
    model = make()
    graph = convert(model)
    wanted = [layer.name for layer in model.layers if isinstance(layer, L.Dense)] if names is None else names
    assert sorted(graph.nodes[i].name for i in graph.first_layers) == sorted(wanted)


OF_INNVESTIGATE = {
    "reshaped": ([L.Permute((2, 1)), L.Dropout(0.1), L.Reshape((6, 5)), L.Dense(2, name="one")], ["one"]),
    "padded": ([L.ZeroPadding1D(1), L.Conv1D(2, 2)], []),
    "cropped": ([L.Cropping1D(1), L.Conv1D(2, 2)], []),
    "repeated": ([L.UpSampling1D(2), L.Conv1D(2, 2)], []),
    "pooled": ([L.AveragePooling1D(2), L.Conv1D(2, 2)], []),
}


@pytest.mark.parametrize("case", OF_INNVESTIGATE)
def test_first_layers_of_innvestigate_have_nothing_but_reshaping_before_them(case):
    layers, names = OF_INNVESTIGATE[case]
    graph = convert(chain(SEQUENCE, *layers))
    assert [graph.nodes[i].name for i in graph.first_layers_of_innvestigate] == names
    assert len(graph.first_layers) == 1


def test_nested_layers_are_named_by_their_path():
    names = [n.name for n in convert(with_functional_inside_sequential()).nodes]
    assert any(name.startswith("body/conv2d") for name in names)


def test_the_parts_of_a_separable_layer_are_named():
    graph = convert(chain(IMAGE, L.SeparableConv2D(3, 2, activation="relu", name="split")))
    assert [n.name for n in graph.nodes][1:] == ["split/depthwise", "split/pointwise", "split"]


def test_layers_that_no_output_reads_are_left_out():
    x = tf.keras.Input(VECTOR)
    hidden = L.Dense(3, name="hidden")(x)
    whole = tf.keras.Model(x, [L.Dense(2, name="wanted")(hidden), L.Dense(2, name="other")(hidden)])
    graph = convert(tf.keras.Model(x, whole.outputs[0]))
    assert [n.name for n in graph.nodes][1:] == ["hidden", "wanted"]


def test_nodes_follow_what_they_read():
    for make in (*NETWORKS.values(), *CASES["SeparableConv2D"], *CASES["RepeatVector"]):
        for position, node in enumerate(convert(make()).nodes):
            assert all(i < position for i in node.inputs)


def test_dropout_becomes_an_identity():
    graph = convert(chain(VECTOR, L.Dropout(0.5), L.Dense(1)))
    assert isinstance(graph.nodes[1].op, Identity)


def state(model) -> tuple:
    flags = [(layer.name, layer.trainable, len(layer._inbound_nodes)) for layer in model.layers]
    optimizer = [v.numpy().tolist() for v in model.optimizer.variables]
    return model.get_config(), flags, model.loss, optimizer, [w.tobytes() for w in model.get_weights()]


@pytest.mark.parametrize("case", NETWORKS)
def test_conversion_leaves_the_model_alone(case):
    model = NETWORKS[case]()
    model.compile("adam", "mse")
    model.layers[-1].trainable = False
    x = networks.samples(model)
    model.fit(x, np.zeros(model(x).shape), verbose=0)
    before = state(model)
    convert(model)
    assert state(model) == before


def test_the_graph_keeps_its_weights_when_the_model_changes():
    model = networks.mlp()
    evaluator, x = Evaluator(convert(model)), tf.constant(networks.samples(model))
    before = evaluator(x)[0].numpy()
    model.set_weights([0 * w for w in model.get_weights()])
    np.testing.assert_array_equal(evaluator(x)[0], before)
    assert np.any(before)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: L.Conv2D(5, 3), 6 * 6 * 3 * 3 * 4 * 5),
        (lambda: L.Conv2D(6, 3, groups=2, padding="same"), 8 * 8 * 3 * 3 * 2 * 6),
        (lambda: L.DepthwiseConv2D(3, depth_multiplier=2), 6 * 6 * 3 * 3 * 4 * 2),
        (lambda: L.Conv2DTranspose(5, 2, strides=2), 8 * 8 * 2 * 2 * 4 * 5),
        (L.BatchNormalization, 0),
    ],
)
def test_multiply_adds(layer, expected):
    model = tf.keras.Sequential([L.InputLayer((8, 8, 4)), layer(), L.GlobalMaxPool2D(), L.Dense(2)])
    graph = convert(model)
    dense = graph.nodes[graph.outputs[0]].op.kernel.size
    assert graph.multiply_adds() == expected + dense
    assert graph.multiply_adds(graph.affine) == expected
