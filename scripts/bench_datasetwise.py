"""Time dataset-wise attribution against loops of integrated gradients of one image after the other.

    python scripts/bench_datasetwise.py [--steps 64] [--images 4096] [--repeats 3]

The loop is what one writes first in TensorFlow: for each image all points of its path in one GradientTape, as
Python says it ("eager loop") or compiled once by tf.function ("compiled loop"). All give the integrated gradient
correlation of the same images; that of the eager loop and of xairt are compared. Measured are images times steps
per second on 64 x 64 images: of the loops over a few images after a warm-up, of xairt over many, once with all
that a call costs (reading, tracing, compiling) and once without. Loops and call take turns; medians count.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZE = 64
LOOPED = 16
"""Images that the loop explains in one repeat."""


def discs(radius: float, centres: tuple[tuple[float, float], ...]) -> list[np.ndarray]:
    """Return the flat places of the pixels of discs, in units of the image size."""
    y, x = ((np.indices((SIZE, SIZE)) - (SIZE - 1) / 2) / SIZE).astype(np.float32)
    return [np.flatnonzero((x - a) ** 2 + (y - b) ** 2 <= radius**2) for a, b in centres]


def largest_mean() -> Callable:
    """Return the largest of the means of three discs."""
    import tensorflow as tf

    places = discs(0.27, ((0.0, 0.13), (-0.156, -0.14), (0.156, -0.14)))

    def largest_disc_mean(x):
        flat = tf.reshape(x, (-1, SIZE * SIZE))
        means = [tf.reduce_mean(tf.gather(flat, p, axis=1), axis=1) for p in places]
        return tf.reduce_max(tf.stack(means, axis=1), axis=1)

    return largest_disc_mean


def largest_similarity() -> Callable:
    """Return the larger of the cosine similarities of two pairs of discs."""
    import tensorflow as tf

    places = discs(0.2, ((-0.25, 0.22), (0.25, 0.22), (-0.25, -0.22), (0.25, -0.22)))
    size = min(map(len, places))

    def largest_disc_similarity(x):
        flat = tf.reshape(x, (-1, SIZE * SIZE))
        a, b, c, d = (tf.math.l2_normalize(tf.gather(flat, p[:size], axis=1), axis=1) for p in places)
        both = tf.stack([tf.reduce_sum(a * c, axis=1), tf.reduce_sum(b * d, axis=1)], axis=1)
        return tf.reduce_max(both, axis=1)

    return largest_disc_similarity


def mlp() -> Callable:
    """Return a multilayer perceptron of random weights."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = [tf.keras.layers.Dense(n, activation="relu") for n in (256, 128, 64, 32, 16)]
    ends = [tf.keras.layers.InputLayer((SIZE, SIZE, 1)), tf.keras.layers.Flatten()]
    return tf.keras.Sequential([*ends, *layers, tf.keras.layers.Dense(1)], name="mlp")


def of_one_image(model: Callable, steps: int) -> Callable:
    """Return the function from an image (64, 64, 1) to its integrated gradients and prediction."""
    import tensorflow as tf

    t = tf.reshape(tf.linspace(0.0, 1.0, steps), (-1, 1, 1, 1))
    weights = np.full(steps, 1 / (steps - 1), np.float32)
    weights[[0, -1]] /= 2

    def explain(image):
        path = t * image[None]
        with tf.GradientTape() as tape:
            tape.watch(path)
            values = model(path)
        slopes = tape.gradient(values, path)
        return image * tf.tensordot(weights, slopes, axes=1), tf.reshape(values, (-1,))[-1]

    return explain


def compiled_of_one_image(model: Callable, steps: int) -> Callable:
    """Return `of_one_image` compiled by one tf.function."""
    import tensorflow as tf

    spec = tf.TensorSpec((SIZE, SIZE, 1), tf.float32)
    return tf.function(of_one_image(model, steps), input_signature=[spec])


def one_by_one(explain: Callable, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return integrated gradients and predictions of images, one after the other."""
    import tensorflow as tf

    found = [[part.numpy() for part in explain(tf.constant(image))] for image in images]
    values, predictions = zip(*found, strict=True)
    return np.array(values, np.float64), np.array(predictions, np.float64)


def timed(function: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def largest_difference(model: Callable, images: np.ndarray, y: np.ndarray, steps: int) -> float:
    """Return how far both ways' integrated gradient correlations are apart, in units of the largest."""
    from xairt import datasetwise

    values, predictions = one_by_one(of_one_image(model, steps), images)
    deviations = y - y.mean()
    products = np.tensordot(deviations, values - values.mean(axis=0), axes=1) / len(y)
    naive = products / (predictions.std() * y.std())
    ours = datasetwise.igc(model, images, y, steps=steps).igc.values
    return float(np.abs(naive - ours).max() / np.abs(naive).max())


def main(
    steps: Annotated[int, typer.Option(help="points of the path")] = 64,
    images: Annotated[int, typer.Option(help="images that xairt explains in one repeat")] = 4096,
    repeats: Annotated[int, typer.Option(help="repeats, of which the median counts")] = 3,
) -> None:
    """Print a table: images x steps per second of the loops and of xairt, and its ratios to the eager loop."""
    from xairt import datasetwise

    rng = np.random.default_rng(0)
    x = rng.standard_normal((images, SIZE, SIZE, 1), dtype=np.float32)
    y = x.mean(axis=(1, 2, 3)) + 0.01 * rng.standard_normal(images)
    part = max(2, images // 8)
    print(
        f"{'model':26}{'eager loop':>12}{'compiled loop':>15}{'xairt':>11}{'whole call':>12}"
        f"{'ratio':>8}{'whole':>8}{'difference':>12}"
    )
    for model in (largest_mean(), largest_similarity(), mlp()):
        difference = largest_difference(model, x[:LOOPED], y[:LOOPED], steps)
        loops = [of_one_image(model, steps), compiled_of_one_image(model, steps)]
        one_by_one(loops[1], x[:1])
        rates = []
        for _ in range(repeats):
            single = [timed(lambda e=explain: one_by_one(e, x[:LOOPED])) / LOOPED for explain in loops]
            whole = timed(lambda m=model: datasetwise.igc(m, x, y, steps=steps))
            few = timed(lambda m=model: datasetwise.igc(m, x[:part], y[:part], steps=steps))
            both = steps * (images - part) / (whole - few), steps * images / whole
            rates.append((*(steps / seconds for seconds in single), *both))
        eager, fast, steady, whole = (statistics.median(r) for r in zip(*rates, strict=True))
        ratios = (statistics.median(r[i] / r[0] for r in rates) for i in (2, 3))
        name = getattr(model, "__name__", None) or model.name
        print(
            f"{name:26}{eager:12,.0f}{fast:15,.0f}{steady:11,.0f}{whole:12,.0f}",
            *(f"{r:7.1f}" for r in ratios),
            f"{difference:11.1e}",
        )


if __name__ == "__main__":
    typer.run(main)
