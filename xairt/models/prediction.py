"""A Keras network as a function of numpy arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from xairt.errors import ModelError


def predictor(model: tf.keras.Model, output: int | None = None) -> Callable[[ArrayLike], NDArray[np.float32]]:
    """Return the compiled function from inputs to one output, as the scores of `xairt.metrics` take it.

    Faster than ``model.predict`` where it is called often. The model is left as it is; weights that change
    later are seen.

    Parameters
    ----------
    model : tensorflow.keras.Model
        Of one input (samples, ...) and one output (samples, outputs).
    output : int, optional
        Which output; None where there is only one. With a final softmax it is the probability.

    Returns
    -------
    callable
        Maps (n, ...), taken as float32, to (n,) float32 numpy.

    Raises
    ------
    ModelError
        If the model has several inputs or output arrays, or does not have that output.

    Examples
    --------
    >>> from xairt.models.architectures import linear
    >>> network = linear(3, seed=0)
    >>> network.set_weights([np.array([[1.0], [2.0], [3.0]])])
    >>> predictor(network)([[1.0, 1.0, 1.0], [0.0, 0.0, 2.0]])
    array([6., 6.], dtype=float32)
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1 or model.outputs[0].shape.rank != 2:
        raise ModelError(
            f"model '{model.name}': not of one input and one output (samples, outputs); give such a model"
        )
    width = model.outputs[0].shape[1]
    if output is None and width != 1:
        raise ModelError(f"model '{model.name}': has {width} outputs; say which with output=0 to {width - 1}")
    column = 0 if output is None else output
    if not 0 <= column < width:
        raise ModelError(f"output {output}: model '{model.name}' has no such; give 0 to {width - 1}")
    rows = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    compiled = tf.function(lambda x: model(x, training=False)[:, column], input_signature=[rows])
    return lambda x: compiled(np.asarray(x, np.float32)).numpy()
