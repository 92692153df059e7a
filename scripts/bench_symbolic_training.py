"""Time of full-batch training of small networks: one after the other, several epochs per call, several at once.

Run from the repository: ``python scripts/bench_symbolic_training.py [--threads 1]``. Prints milliseconds for an epoch
of one network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import tensorflow as tf

from xairt import training
from xairt.models.perceptrons import mlp

SIZES = {"large": (110, 8000, 8), "small": (10, 800, 60)}
"""Inputs, samples, and epochs of one measurement."""

WIDTH, RATE = 100, 1e-3
Epochs = Callable[[int], float]
"""From a number of epochs to the seconds that they took."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads of TensorFlow")
    parser.add_argument("--together", type=int, nargs="*", default=[5], help="networks trained at once")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, taken in turns")
    given = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(given.threads)
    print(f"{given.threads} threads; best of {given.rounds}, ms per epoch of one network")
    for name, (n_inputs, n, epochs) in SIZES.items():
        x = np.random.default_rng(0).normal(size=(n, n_inputs)).astype(np.float32) / 3
        ways = _ways(x, (x[:, :1] ** 2).astype(np.float32), given.together)
        for run, _ in ways.values():
            run(2)  # compiles
        taken = dict.fromkeys(ways, np.inf)
        for _ in range(given.rounds):
            for way, (run, count) in ways.items():
                taken[way] = min(taken[way], 1000 * run(epochs) / epochs / count)
        print(f"\n{name}: {n_inputs} inputs, {n} samples")
        for way, milliseconds in taken.items():
            print(f"  {way:32} {milliseconds:8.2f}  x{taken['training.fit'] / milliseconds:.2f}")


def _ways(x: np.ndarray, y: np.ndarray, together: Sequence[int]) -> dict[str, tuple[Epochs, int]]:
    """Return every way to train, with the number of networks that it trains."""
    ways = {
        "training.fit": (_fit(x, y), 1),
        "several epochs per call": (_many_epochs(x, y), 1),
        "several epochs per call, by XLA": (_many_epochs(x, y, jit=True), 1),
    }
    for count in together:
        ways[f"{count} networks stacked"] = (_stacked(x, y, count), count)
        ways[f"{count} networks stacked, by XLA"] = (_stacked(x, y, count, jit=True), count)
    return ways


def _fit(x: np.ndarray, y: np.ndarray) -> Epochs:
    """Return what trains a network anew, without the time of its first epochs, which compile."""
    optimizer, model = tf.keras.optimizers.legacy.Adam(RATE), mlp(x.shape[1], 0)

    def run(epochs: int) -> float:
        history = training.fit(model, x, y, epochs=epochs + 2, batch_size=len(x), optimizer=optimizer)
        return float(np.sum(history["seconds"][2:]))

    return run


def _many_epochs(x: np.ndarray, y: np.ndarray, jit: bool = False) -> Epochs:
    model = mlp(x.shape[1], 0)
    return _compiled(model.trainable_variables, lambda data: model(data, training=True), x, y, jit)


def _stacked(x: np.ndarray, y: np.ndarray, count: int, jit: bool = False) -> Epochs:
    """Return what trains networks of data of their own, whose weights are stacked as (network, inputs, units)."""
    random = np.random.default_rng(0)
    sizes = [x.shape[1], WIDTH, WIDTH, WIDTH, 1]
    variables = []
    for inputs, units in pairwise(sizes):
        kernel = random.uniform(-1, 1, (count, inputs, units)) / np.sqrt(inputs)
        variables += [tf.Variable(kernel, dtype=tf.float32), tf.Variable(tf.zeros((count, 1, units)))]

    def outputs(data: tf.Tensor) -> tf.Tensor:
        for layer in range(len(sizes) - 1):
            data = data @ variables[2 * layer] + variables[2 * layer + 1]
            data = tf.nn.gelu(data) if layer < len(sizes) - 2 else data
        return data

    return _compiled(variables, outputs, *(np.stack([array] * count) for array in (x, y)), jit)


def _compiled(
    variables: Sequence[tf.Variable], outputs: Callable, x: np.ndarray, y: np.ndarray, jit: bool
) -> Epochs:
    """Return epochs of an Adam written out, all in one compiled call."""
    first, second = ([tf.Variable(tf.zeros_like(v)) for v in variables] for _ in range(2))
    step, inputs, targets = tf.Variable(0.0), tf.constant(x), tf.constant(y)

    @tf.function(jit_compile=jit)
    def train(count: tf.Tensor) -> None:
        for _ in tf.range(count):
            step.assign_add(1.0)
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.reduce_mean((outputs(inputs) - targets) ** 2, axis=(-2, -1)))
            rate = RATE * tf.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            gradients = tape.gradient(loss, variables)
            for variable, gradient, m, v in zip(variables, gradients, first, second, strict=True):
                m.assign(0.9 * m + 0.1 * gradient)
                v.assign(0.999 * v + 0.001 * gradient**2)
                variable.assign_sub(rate * m / (tf.sqrt(v) + 1e-7))

    def run(epochs: int) -> float:
        started = time.perf_counter()
        train(tf.constant(epochs))
        return time.perf_counter() - started

    return run


if __name__ == "__main__":
    main()
