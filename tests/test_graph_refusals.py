"""What the canonical graph cannot hold is refused with the layer, the reason and the methods that do work."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from graphs import chain, functional

from xairt.errors import ModelError, UnsupportedLayerError
from xairt.models.graph import convert

pytestmark = pytest.mark.usefixtures("run_eagerly")

L = tf.keras.layers
VECTOR, SEQUENCE, IMAGE = (5,), (10, 3), (7, 6, 2)


class Own(tf.keras.Model):
    """A model whose layers Keras does not know."""

    def __init__(self):
        super().__init__()
        self.dense = L.Dense(1)

    def call(self, x):
        return self.dense(x)


class Dense(L.Layer):
    """A layer of the caller that has the name of a Keras layer."""

    def call(self, x):
        return x + 1


def channels_first():
    x = tf.keras.Input(IMAGE)
    return tf.keras.Model(x, L.GlobalAveragePooling2D(data_format="channels_first", name="odd")(x))


def unknown_size():
    x = tf.keras.Input((None, 3))
    return tf.keras.Model(x, L.Dense(2, name="odd")(x))


REFUSED = {
    "LSTM": lambda: chain(SEQUENCE, L.LSTM(2, name="odd"), L.Dense(1)),
    "Lambda": lambda: chain(VECTOR, L.Lambda(tf.abs, name="odd")),
    "Conv2DTranspose": lambda: chain((None, 6, 2), L.Conv2DTranspose(2, 3, name="odd")),
    "UpSampling2D": lambda: chain(IMAGE, L.UpSampling2D(2, interpolation="bilinear", name="odd")),
    "LayerNormalization": lambda: chain(VECTOR, L.LayerNormalization(name="odd")),
    "Dense": unknown_size,
    "GlobalAveragePooling2D": channels_first,
    "TFOpLambda": lambda: functional(VECTOR, lambda x: tf.abs(x, name="odd")),
}
REASONS = {
    "Conv2DTranspose": "unknown size",
    "UpSampling2D": "interpolates",
    "Dense": "unknown size",
    "GlobalAveragePooling2D": "channels first",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusal_names_layer_class_and_remedy(kind):
    model = REFUSED[kind]()
    with pytest.raises(
        UnsupportedLayerError, match=rf"layer '\S*' \({kind}\) .*{REASONS.get(kind, 'has no canonical form')}"
    ) as e:
        convert(model)
    assert "odd" in str(e.value) or kind == "TFOpLambda"
    assert "gradient" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_layer_of_the_caller_is_not_taken_for_keras():
    with pytest.raises(UnsupportedLayerError, match=r"layer 'mine' \(Dense\) has no canonical form"):
        convert(tf.keras.Sequential([L.InputLayer(3), Dense(name="mine")]))


def test_layer_of_a_nested_model_is_named_by_its_path():
    inner = tf.keras.Sequential([L.InputLayer(5), L.LayerNormalization(name="odd")], name="inner")
    with pytest.raises(UnsupportedLayerError, match="layer 'inner/odd'"):
        convert(chain(VECTOR, inner))


def test_models_without_a_layer_graph_are_refused():
    own = Own()
    own(np.zeros((1, 3)))
    with pytest.raises(ModelError, match=r"\(Own\) has no known layer graph: write it as a Functional model"):
        convert(own)
    with pytest.raises(ModelError, match=r"\(Sequential\) has no known layer graph: build it"):
        convert(tf.keras.Sequential([L.Dense(2)]))
    with pytest.raises(ModelError, match=r"str is not a Keras model: give a tf.keras.Model"):
        convert("model.h5")
