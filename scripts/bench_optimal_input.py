"""Time the optimal input of a 31,811-8-8-2 classifier with plain gradient descent, as published.

    python scripts/bench_optimal_input.py [--iterations 10000] [--starts 1]

Weights are seeded (He normal). Printed are the seconds of the whole call, compilation included, those of a
second call, and the probability that the target reaches.
"""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CELLS = 31_811


def main(
    iterations: Annotated[int, typer.Option(min=1, help="steps of the descent")] = 10_000,
    starts: Annotated[int, typer.Option(min=1, help="random starts, descended at once")] = 1,
) -> None:
    """Time two calls."""
    import tensorflow as tf

    from xairt.optimal_input import optimal_input

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential(
        [
            layers.InputLayer(CELLS),
            layers.Dense(8, "relu", kernel_initializer="he_normal"),
            layers.Dense(8, "relu", kernel_initializer="he_normal"),
            layers.Dense(2, "softmax", kernel_initializer="he_normal"),
        ]
    )
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for call in ("first call", "second call"):
        begun = time.perf_counter()
        found = optimal_input(model, 1, start="random", n_starts=starts, iterations=iterations)
        seconds = time.perf_counter() - begun
        least = float(found.probability.min())
        print(f"{call}: {seconds:.2f} s for {iterations:,} iterations, least probability {least:.6f}")


if __name__ == "__main__":
    typer.run(main)
