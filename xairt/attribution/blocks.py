"""What a native method is made of: a function that explains one block of samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from xairt.attribution.network import Front, Network, Outputs, Rest
from xairt.attribution.targets import Target
from xairt.keys import generator_of

BLOCK_BYTES = 256 * 2**20
"""Memory that the activations of the rows computed at once may take."""

MOST_ROWS = 4096
"""Most rows (samples, or points of a path, noisy copies, coalitions ... of samples) computed at once."""

FEW_ROWS, FEW_SAMPLES = 1024, 64
"""Rows and samples of the small blocks that serve requests of few samples."""

FAR_APART = 16
"""Large blocks of so many small ones are far apart; then there are blocks of a size between."""

FEW_MULTIPLY_ADDS = 2**19
"""Multiply-adds of a network from which on small blocks become smaller in proportion."""


FOLDS, FOLDED_FROM = 4, 256
"""How often the values of a row are added in pairs before they are summed in float64, and from how many on."""


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
    rows : int
        How many rows (samples, points, copies, coalitions) a method should compute at once.
    """

    network: Network
    target: Target
    baseline: np.ndarray
    dtype: str
    cells: np.ndarray
    convention: str | None = None
    rows: int = FEW_ROWS

    @property
    def outputs(self) -> Outputs:
        """The function from samples to outputs in this setting's dtype."""
        return self.network.outputs(self.dtype)

    @property
    def front_and_rest(self) -> tuple[Front, Rest]:
        """The affine front of the network and what follows it, see `Network.split`."""
        return self.network.split(self.dtype)

    @property
    def compiles_by_xla(self) -> bool:
        """Whether XLA computes the explained scalar: a callable target may run Python code, which it cannot."""
        return self.target.kind != "callable" and self.network.compiles_by_xla

    def scalar(self, outputs: Outputs) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Return the function from (samples, target indices) to the explained scalar (samples,)."""
        return lambda x, indices: self.target.select(outputs(x), indices)


@dataclass(frozen=True, eq=False)
class Block:
    """A block of samples with the network's forward pass, as a method receives it.

    Attributes
    ----------
    x : tf.Tensor
        Samples (b, ...).
    indices : tf.Tensor
        Index of the explained output of each sample (b,), resolved; see `Target.chosen`.
    value : tf.Tensor
        The explained scalar of each sample (b,).
    outputs : tuple of tf.Tensor
        All outputs of the network.
    values, products : list, dict
        Of every node of the canonical graph, see `Evaluator.forward`; empty without a graph.
    tape : tf.GradientTape
        The record of the forward pass, for gradients with respect to x and to values.
    noise : tf.Tensor or None
        Standard normal numbers (b, *shape) of the shape that the method asked for, see `Method.noise`;
        they depend on seed and sample alone.
    """

    x: tf.Tensor
    indices: tf.Tensor
    value: tf.Tensor
    outputs: tuple[tf.Tensor, ...]
    values: list[tf.Tensor]
    products: dict[int, tf.Tensor]
    tape: tf.GradientTape
    noise: tf.Tensor | None = None

    @classmethod
    def of(cls, setting: Setting, x: tf.Tensor, indices: tf.Tensor, noise: tf.Tensor | None = None) -> Block:
        """Compute the forward pass of samples; an index of -1 stands for the largest output."""
        network = setting.network
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            if network.graph is None:
                values, products, outputs = [], {}, network.outputs(setting.dtype)(x)
            else:
                values, products = network.evaluator(setting.dtype).forward(x)
                outputs = tuple(values[i] for i in network.graph.outputs)
            chosen = setting.target.chosen(outputs, indices)
            value = setting.target.select(outputs, chosen)
        return cls(x, chosen, value, outputs, values, products, tape, noise)

    def gradient(self) -> tf.Tensor:
        """Return the derivative of the explained scalar with respect to the samples (b, ...)."""
        return self.tape.gradient(self.value, self.x, unconnected_gradients="zero")


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


def rows_at_once(network: Network, dtype: str) -> int:
    """Return how many rows are computed at once: a power of two that keeps activations in bounds.

    It depends on the network alone, never on the number of samples.
    """
    return _power_of_two(min(samples_that_fit(network, dtype), MOST_ROWS))


def block_sizes(rows: int, evaluations: int, multiply_adds: int = 0) -> tuple[int, ...]:
    """Return the numbers of samples that a block may hold: a small, a large and, if far apart, one between.

    A request of one sample pays for a whole small block, which therefore holds the fewer samples the more
    the network computes; but two where that is possible, one of them for the probe of rounding.

    Parameters
    ----------
    rows : int
        Rows computed at once, see `rows_at_once`.
    evaluations : int
        Rows that a method needs for one sample.
    multiply_adds : int
        Of one row in the network, see `Graph.multiply_adds`.

    Examples
    --------
    >>> block_sizes(4096, 1), block_sizes(4096, 64), block_sizes(4096, 10_000)
    ((64, 512, 4096), (16, 64), (1,))
    >>> block_sizes(64, 1, multiply_adds=10**8)
    (2, 8, 64)
    """
    part = min(1.0, FEW_MULTIPLY_ADDS / max(multiply_adds, 1))
    many = _power_of_two(rows / evaluations)
    few = min(many, max(2, _power_of_two(min(part * FEW_SAMPLES, part * FEW_ROWS / evaluations))))
    between = few * _power_of_two((many / few) ** 0.5)
    return tuple(sorted({few, between, many} if many >= FAR_APART * few else {few, many}))


def with_largest(sizes: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return the sizes of blocks that are below the one asked for, and that one.

    Examples
    --------
    >>> with_largest((64, 512, 4096), 1000), with_largest((64, 512, 4096), 8)
    ((64, 512, 1000), (8,))
    """
    return (*(s for s in sizes if s < size), int(size))


def chunks(n: int, at_once: int) -> np.ndarray:
    """Return 0 ... n-1 in rows of `at_once`, the last one padded with -1, as (chunks, at_once) int32.

    Examples
    --------
    >>> chunks(5, 3)
    array([[ 0,  1,  2],
           [ 3,  4, -1]], dtype=int32)
    """
    at_once = min(n, at_once)
    padded = np.full(-(-n // at_once) * at_once, -1, np.int32)
    padded[:n] = np.arange(n)
    return padded.reshape(-1, at_once)


def _power_of_two(number: float) -> int:
    return 2 ** max(0, int(np.log2(max(number, 1))))


def compiled(function: Callable, *signature: tf.TensorSpec, jit: bool = False) -> Callable:
    """Return the function compiled for one signature, by XLA if `jit`.

    TensorFlow counts traces by the address of a function, which is reused when explainers come and go;
    its warning of frequent retracing would be wrong here and is switched off.
    """
    made = tf.function(function, input_signature=signature, jit_compile=jit or None)
    made._omit_frequent_tracing_warning = True
    return made


def over_samples(value: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return value (b,) with axes of one added, so that it broadcasts against `like` (b, ...)."""
    return tf.reshape(value, (-1, *[1] * (like.shape.rank - 1)))


def weighted_sum(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Return the sum over the second axis of values (b, c, ...), each multiplied by its weight (c,)."""
    return tf.einsum("c,bc...->b...", weights, values)  # a sum over an axis may round by a row's place


def sum_in_float64(values: tf.Tensor) -> tf.Tensor:
    """Return the sum of each sample's values (b, ...) as float64 (b,).

    In rows of many values pairs are added first, four times over, in the precision of the values, which costs
    a few units in the last digit of these partial sums: XLA adds the numbers of a row one after the other, so
    that they take half the time.
    """
    rest = tf.reshape(values, (values.shape[0], -1))
    total = tf.zeros(values.shape[:1], tf.float64)
    for _ in range(FOLDS if rest.shape[1] >= FOLDED_FROM else 0):
        half = rest.shape[1] // 2
        total += tf.reduce_sum(tf.cast(rest[:, 2 * half :], tf.float64), axis=1)
        rest = rest[:, :half] + rest[:, half : 2 * half]
    return total + tf.reduce_sum(tf.cast(rest, tf.float64), axis=1)


def noise(keys: np.ndarray, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return standard normal noise (b, *shape) that depends on each sample's key alone.

    Drawn in float32 whatever the dtype, so that float64 evaluations see the same noise.

    Parameters
    ----------
    keys : numpy.ndarray
        (b, 2) integers (seed, sample index), not negative.
    shape : tuple of int
        Shape of the noise of a sample.
    dtype : str
        Of the result.
    """
    drawn = np.empty((len(keys), *shape), np.float32)
    for place, key in zip(drawn, keys.tolist(), strict=True):
        generator_of(key).standard_normal(out=place, dtype=np.float32)
    return drawn.astype(dtype, copy=False)
