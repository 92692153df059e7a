"""Initial weights that follow from one seed, whatever builds the network, and the global random state left alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf
from keras.src import backend as keras_backend

from xairt.models.architectures import layer_seeds

_DRAWN = (
    ("kernel", "kernel_initializer"),
    ("depthwise_kernel", "depthwise_initializer"),
    ("recurrent_kernel", "recurrent_initializer"),
    ("bias", "bias_initializer"),
)
"""Weights of Keras's layers that may be random, and the initializers that draw them."""


@contextmanager
def global_state_kept() -> Iterator[None]:
    """Restore the random states that Keras draws layer seeds from."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one is kept
    generator = getattr(keras_backend._SEED_GENERATOR, "generator", None)
    keras = generator.getstate() if generator is not None else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        if generator is not None:
            generator.setstate(keras)


def seeded(build: Callable[[], tf.keras.Model], seed: int) -> tf.keras.Model:
    """Return a new network whose random weights are drawn once more, each from a seed of its own.

    Parameters
    ----------
    build : callable
        Makes the network. Its layers keep their initializers, of which only the seeds are replaced; they may be
        layers of layers, such as those of attention, which Keras would give equal weights from one seed.
    seed : int
        Not negative; the same seed gives the same weights. Global random state is left alone.

    Returns
    -------
    tensorflow.keras.Model

    Raises
    ------
    ModelError
        If ``seed`` is negative.

    Examples
    --------
    >>> def build():
    ...     return tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(1)])
    >>> one, two = (seeded(build, seed=3).get_weights()[0] for _ in range(2))
    >>> bool((one == two).all())
    True
    """
    layer_seeds(1, seed, 1)  # tells a seed that is none before the work
    with global_state_kept():
        model = build()
    drawn = list(_random_weights(model))
    for (weight, initializer), own in zip(drawn, layer_seeds(1, seed, len(drawn)), strict=True):
        config = {**initializer.get_config(), "seed": own}
        weight.assign(type(initializer).from_config(config)(weight.shape, weight.dtype))
    return model


def _random_weights(
    model: tf.keras.Model,
) -> Iterator[tuple[tf.Variable, tf.keras.initializers.Initializer]]:
    """Yield every weight that a seed decides, with its initializer, once and in the order of the layers."""
    seen: set[int] = set()
    for layer in model.layers:
        for part in (layer, *layer.submodules):
            for name, initializer_name in _DRAWN:
                weight, initializer = getattr(part, name, None), getattr(part, initializer_name, None)
                if not isinstance(weight, tf.Variable) or id(weight) in seen:
                    continue
                if "seed" in getattr(initializer, "get_config", dict)():
                    seen.add(id(weight))
                    yield weight, initializer
