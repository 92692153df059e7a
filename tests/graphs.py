"""Small models by layers, and checks of the canonical graph against a float64 evaluation by Keras."""

from __future__ import annotations

import networks
import numpy as np
import tensorflow as tf

from xairt.models.graph import Evaluator, Graph, convert

L = tf.keras.layers


def chain(shape, *layers, seed=0) -> tf.keras.Model:
    return networks.randomised(tf.keras.Sequential([L.InputLayer(shape), *layers]), seed)


def functional(shape, connect, seed=0) -> tf.keras.Model:
    x = tf.keras.Input(shape)
    return networks.randomised(tf.keras.Model(x, connect(x)), seed)


def evaluate(graph: Graph, x: np.ndarray, dtype: str = "float32") -> tuple[np.ndarray, ...]:
    return tuple(y.numpy() for y in Evaluator(graph, dtype)(tf.constant(x, dtype)))


def doubled(config):
    """Return a model's configuration with float64 in place of float32."""
    if isinstance(config, dict):
        return {k: "float64" if k == "dtype" else doubled(v) for k, v in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(doubled(v) for v in config)
    return config


def keras_in_float64(model: tf.keras.Model, x: np.ndarray) -> np.ndarray:
    known = {"square": tf.math.square, "sin": tf.math.sin}
    with tf.keras.utils.custom_object_scope(known):
        clone = type(model).from_config(doubled(model.get_config()))
    clone.set_weights(model.get_weights())
    output = clone(x.astype(float), training=False)
    assert output.dtype == tf.float64
    return output.numpy()


def check_forward(model: tf.keras.Model, double: bool = True) -> None:
    """Compare the graph in both precisions with Keras; without `double` both with Keras in float32."""
    x, graph = networks.samples(model), convert(model)
    assert graph.final_activations == (None,)
    (single,), (exact,) = evaluate(graph, x), evaluate(graph, x, "float64")
    if double:
        np.testing.assert_allclose(exact, keras_in_float64(model, x), rtol=1e-11, atol=1e-12)
    else:
        np.testing.assert_allclose(exact, model(x), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(single, model(x), rtol=2e-5, atol=2e-6)
    assert graph.nodes[graph.outputs[0]].shape == model.output_shape[1:]


def check_front(model: tf.keras.Model) -> None:
    """Check that front and rest make up the network, and that the front is affine."""
    evaluator = Evaluator(convert(model), "float64")
    x, y = (tf.constant(networks.samples(model, seed=seed).astype(float)) for seed in (1, 2))
    values, _ = evaluator.forward(x)
    whole = [values[i] for i in evaluator.graph.outputs]
    np.testing.assert_allclose(evaluator.rest(*evaluator.front(x))[0], whole[0], rtol=1e-12, atol=1e-13)
    mixed = evaluator.front(0.3 * x + 0.7 * y)
    for at_x, at_y, between in zip(evaluator.front(x), evaluator.front(y), mixed, strict=True):
        np.testing.assert_allclose(between, 0.3 * at_x + 0.7 * at_y, rtol=1e-11, atol=1e-12)


def check_nodes(model: tf.keras.Model) -> None:
    """Compare the shape that each node declares, and its sign, with what it computes."""
    graph = convert(model)
    x = 5 * np.random.default_rng(3).normal(size=(50, *model.input_shape[1:]))
    values, _ = Evaluator(graph, "float64").forward(tf.constant(x))
    for node, value in zip(graph.nodes, values, strict=True):
        assert tuple(value.shape[1:]) == node.shape, node.name
        assert not node.nonnegative or value.numpy().min() >= 0, node.name
