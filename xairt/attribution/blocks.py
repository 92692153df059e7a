"""What a native method is made of: a function that explains one block of samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from xairt.attribution.network import Network, Outputs
from xairt.attribution.targets import Target

BLOCK_BYTES = 64 * 2**20
"""Memory that the activations of one block may take."""

LARGEST_BLOCK = 128


@dataclass(frozen=True, eq=False)
class Setting:
    """Everything a method needs besides the samples.

    Attributes
    ----------
    network : Network
        The model.
    target : Target
        The explained scalar.
    baseline : numpy.ndarray
        One or more reference samples (m, ...).
    dtype : str
        "float32" or "float64".
    cells : numpy.ndarray
        Integer position of every feature of a sample along the axes that patches move over,
        shape (axes, ...): array indices, or rows and columns of the map where a grid is given.
    convention : str or None
        The registered convention to follow in place of the definition.
    """

    network: Network
    target: Target
    baseline: np.ndarray
    dtype: str
    cells: np.ndarray
    convention: str | None = None

    @property
    def outputs(self) -> Outputs:
        """The function from samples to outputs in this setting's dtype."""
        return self.network.outputs(self.dtype)

    def scalar(self, outputs: Outputs) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Return the function from (samples, target indices) to the explained scalar (samples,)."""
        return lambda x, indices: self.target.select(outputs(x), indices)


@dataclass(frozen=True, eq=False)
class Block:
    """A block of samples as a method receives it.

    Attributes
    ----------
    x : tf.Tensor
        Samples (b, ...).
    indices : tf.Tensor
        Index of the explained output of each sample (b,), resolved; see `Target.chosen`.
    keys : tf.Tensor
        (b, 2) integers (seed, sample index): what noise is keyed by.
    """

    x: tf.Tensor
    indices: tf.Tensor
    keys: tf.Tensor


@dataclass(frozen=True, eq=False)
class Explained:
    """What a method returns for a block.

    Attributes
    ----------
    attribution : tf.Tensor
        Shaped like the block's samples.
    promised : tf.Tensor or None
        What the sum of the attribution should be, (b,); None where the method promises nothing.
    ledger : dict
        Totals of relevance kept back, each (b,); empty unless the method is LRP.
    """

    attribution: tf.Tensor
    promised: tf.Tensor | None = None
    ledger: dict[str, tf.Tensor] = field(default_factory=dict)


BlockMethod = Callable[[Block], Explained]
"""A method bound to its setting and parameters."""


def samples_that_fit(network: Network, dtype: str) -> int:
    """Return how many samples' activations, there and back, take the memory of one block; at least 1."""
    graph = network.graph
    shapes = [network.input_shape] if graph is None else [node.shape for node in graph.nodes]
    numbers = sum(int(np.prod(shape)) for shape in shapes)
    return max(1, BLOCK_BYTES // (4 * numbers * np.dtype(dtype).itemsize))


def block_size(network: Network, dtype: str) -> int:
    """Return the number of samples explained at once: a power of two that keeps activations in bounds.

    It depends on the network alone, never on the number of samples, so that results do not either.
    """
    return 2 ** int(np.log2(min(samples_that_fit(network, dtype), LARGEST_BLOCK)))


def compiled(function: Callable, *signature: tf.TensorSpec) -> Callable:
    """Return the function compiled for one signature.

    TensorFlow counts traces by the address of a function, which is reused when explainers come and go;
    its warning of frequent retracing would be wrong here and is switched off.
    """
    made = tf.function(function, input_signature=signature)
    made._omit_frequent_tracing_warning = True
    return made


def over_samples(value: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return value (b,) with axes of one added, so that it broadcasts against `like` (b, ...)."""
    return tf.reshape(value, (-1, *[1] * (like.shape.rank - 1)))


def noise(keys: tf.Tensor, shape: tuple[int, ...], dtype: str) -> tf.Tensor:
    """Return standard normal noise (b, *shape) that depends on each sample's key alone.

    Drawn in float32 whatever the dtype, so that float64 evaluations see the same noise.
    """
    drawn = tf.map_fn(
        lambda key: tf.random.stateless_normal(shape, key),
        keys,
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )
    return tf.cast(drawn, dtype)
