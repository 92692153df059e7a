"""Train the SST benchmark's network with xairt's compiled loop and with `model.fit`, side by side.

    python scripts/bench_training.py [--samples 50000] [--epochs 8] [--batch-size 32]

Both start from the same weights, take the same batches' number and size, and take turns epoch by epoch, so that
what else the machine does slows both. Printed are the samples per second of each (median over the epochs but the
first, which compiles), their ratio epoch by epoch, and the loss on maps that were not trained with.
"""

from __future__ import annotations

import os
import time
from typing import Annotated

import numpy as np
import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def maps(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return anomalies of all ocean cells (n, cells) and the output of a known function (n,)."""
    from xairt import fields

    correlation, _ = fields.correlation_of("analytic")
    x = fields.sample_gaussian(correlation, n, seed=0)
    return x, fields.draw(correlation, seed=0).output(x).astype(np.float32)


def main(
    samples: Annotated[int, typer.Option(min=100, help="maps to train with")] = 50_000,
    epochs: Annotated[int, typer.Option(min=3, help="epochs of each; the first is not timed")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, help="maps per step")] = 32,
) -> None:
    """Time both epoch by epoch."""
    import tensorflow as tf
    from rich.console import Console
    from rich.table import Table

    from xairt.models.architectures import mamalakis2022
    from xairt.training import loop, trainer

    x, y = maps(samples + samples // 10)
    train, test = (x[:samples], y[:samples]), (x[samples:], y[samples:])
    ours, plain = (mamalakis2022(x.shape[1], seed=0) for _ in range(2))
    plain.compile(tf.keras.optimizers.SGD(trainer.SGD_LEARNING_RATE), "mse")
    seconds: dict[str, list[float]] = {"xairt": [], "model.fit": []}

    def plain_epoch(epoch: int, record: dict[str, float]) -> None:
        seconds["xairt"].append(record["seconds"])
        begun = time.perf_counter()
        plain.fit(*train, batch_size=batch_size, epochs=epoch, initial_epoch=epoch - 1, verbose=0)
        seconds["model.fit"].append(time.perf_counter() - begun)

    loop.fit(ours, *train, epochs=epochs, batch_size=batch_size, callback=plain_epoch)
    table = Table("loop", "samples/s", "test loss", title=f"{samples:,} maps, batches of {batch_size}")
    for name, model in (("xairt", ours), ("model.fit", plain)):
        loss = float(np.mean((model.predict(test[0], batch_size=1024, verbose=0)[:, 0] - test[1]) ** 2))
        table.add_row(name, f"{samples / np.median(seconds[name][1:]):,.0f}", f"{loss:.3e}")
    ratios = np.divide(seconds["model.fit"][1:], seconds["xairt"][1:])
    console = Console(width=100)
    console.print(table)
    console.print(f"ratio: median {np.median(ratios):.2f}, {ratios.min():.2f} to {ratios.max():.2f}")


if __name__ == "__main__":
    typer.run(main)
