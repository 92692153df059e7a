"""Networks as functions of arrays."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from xairt.errors import ModelError
from xairt.metrics import faithfulness_correlation
from xairt.models.architectures import linear, mamalakis2022
from xairt.models.prediction import predictor

L = tf.keras.layers


def test_predictor_gives_what_the_network_predicts():
    model = mamalakis2022(20, seed=0, units=(8, 4))
    x = np.random.default_rng(0).standard_normal((50, 20))
    found = predictor(model)(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, model.predict(x, verbose=0)[:, 0], rtol=1e-5)
    assert not model.optimizer


def test_predictor_sees_new_weights_and_takes_any_number_of_rows():
    model = linear(3, seed=0)
    ask = predictor(model)
    model.set_weights([np.array([[1.0], [2.0], [3.0]])])
    np.testing.assert_array_equal(ask(np.eye(3)), [1, 2, 3])
    np.testing.assert_array_equal(ask(np.ones((1, 3))), [6])
    assert ask(np.ones((0, 3))).shape == (0,)


def test_predictor_of_one_output_of_several():
    model = tf.keras.Sequential([L.Input((4,)), L.Dropout(0.5), L.Dense(3, activation="softmax")])
    x = np.random.default_rng(0).standard_normal((5, 4))
    np.testing.assert_allclose(predictor(model, 2)(x), model.predict(x, verbose=0)[:, 2], rtol=1e-6)


def test_contributions_of_a_linear_network_are_faithful():
    model = linear(60, seed=1)
    x = np.random.default_rng(0).standard_normal((4, 60)).astype(np.float32)
    contribution = x * model.get_weights()[0][:, 0]
    np.testing.assert_allclose(faithfulness_correlation(predictor(model), x, contribution), 1.0, atol=1e-9)


def test_predictor_refuses_what_it_cannot_ask():
    several = tf.keras.Sequential([L.Input((4,)), L.Dense(3)], name="classes")
    with pytest.raises(ModelError, match="model 'classes': has 3 outputs; say which with output=0 to 2"):
        predictor(several)
    with pytest.raises(ModelError, match="output 3: model 'classes' has no such; give 0 to 2"):
        predictor(several, 3)
    both = tf.keras.Model([a := L.Input((2,)), b := L.Input((2,))], L.Add()([a, b]), name="both")
    with pytest.raises(ModelError, match="model 'both': not of one input and one output"):
        predictor(both)
    image = tf.keras.Sequential([L.Input((4, 4, 1)), L.Conv2D(1, 3)], name="image")
    with pytest.raises(
        ModelError, match=r"model 'image': not of one input and one output \(samples, outputs\)"
    ):
        predictor(image)
