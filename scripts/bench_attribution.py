"""Time every attribution method against the packages that have it, on one model and the same samples.

    python scripts/bench_attribution.py [--model NAME|PATH|smerf-complex] [--methods gradient --methods lrp.z ...]

Each engine runs in a process of its own, one after the other; a peer package runs there without the pipes
that connect it to xairt otherwise. Every method is called warm with several numbers of samples per call; the
best of the repeats counts. Printed are samples per second: ours, the peer's best, their ratio, the peer with
one sample per call, and the floor: what the multiply-adds of one sample would take in the largest matrix
product that the machine was seen to do. Let nothing else run meanwhile: a busy core halves every figure.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZES = (1, 64, 1024, 4096, 16384)
LONGEST_CALL = 6.0
"""Seconds: larger calls are not tried."""

MEASURED_SECONDS, REPEATS = 1.0, 3
BACKGROUNDS, COALITIONS = 100, 10_000

METHODS = {
    "gradient": lambda front, rest, n: 2 * (front + rest),
    "input_t_gradient": lambda front, rest, n: 2 * (front + rest),
    "lrp.z": lambda front, rest, n: 2 * (front + rest),
    "lrp.epsilon": lambda front, rest, n: 2 * (front + rest),
    "lrp.w_square": lambda front, rest, n: 2 * (front + rest),
    "lrp.flat": lambda front, rest, n: 2 * (front + rest),
    "lrp.alpha_1_beta_0": lambda front, rest, n: 4 * front + 3 * rest,
    "lrp.alpha_1_beta_0_IB": lambda front, rest, n: 4 * front + 3 * rest,
    "lrp.alpha_2_beta_1": lambda front, rest, n: 7 * front + 5 * rest,
    "lrp.alpha_2_beta_1_IB": lambda front, rest, n: 7 * front + 5 * rest,
    "lrp.z_plus": lambda front, rest, n: 4 * front + 3 * rest,
    "lrp.z_plus_fast": lambda front, rest, n: 3 * (front + rest),
    "lrp.sequential_preset_a": lambda front, rest, n: 2 * (front + rest),
    "lrp.sequential_preset_b": lambda front, rest, n: 2 * (front + rest),
    "lrp.sequential_preset_a_flat": lambda front, rest, n: 2 * (front + rest),
    "lrp.sequential_preset_b_flat": lambda front, rest, n: 2 * (front + rest),
    "deep_taylor": lambda front, rest, n: 4 * front + 3 * rest,
    "integrated_gradients": lambda front, rest, n: 2 * front + 64 * 2 * rest,
    "smoothgrad": lambda front, rest, n: (64 / 2 + 2) * front + 64 * 2 * rest,
    "deeplift.rescale": lambda front, rest, n: 2 * (front + rest),
    "deeplift.reveal_cancel": lambda front, rest, n: 8 * (front + rest),
    "shap.deep": lambda front, rest, n: (1 + BACKGROUNDS) * (front + rest),
    "shap.kernel": lambda front, rest, n: COALITIONS * (front + rest),
    "occlusion": lambda front, rest, n: front + n * rest,
}
"""Multiply-adds per sample by those of the affine front, of the rest, and the number of inputs.

Of the presets the convolutions are counted like the dense layers, so their floor is too high for networks
with convolutions.
"""

PARAMETERS = {"shap.kernel": {"nsamples": COALITIONS}}


def load(model: str):
    """Return the model: of the registry, of a file, or the convolutional network of SMERF, untrained."""
    import xairt
    from xairt.models.architectures import smerf

    return smerf("complex", seed=0) if model == "smerf-complex" else xairt.load_model(model)


def samples(shape: tuple[int, ...], n: int, seed: int = 0) -> np.ndarray:
    """Return standard normal samples."""
    return np.random.default_rng(seed).standard_normal((n, *shape), dtype=np.float32)


def request(method: str) -> dict[str, Any]:
    """Return the method's parameters and, where it needs them, a baseline."""
    return PARAMETERS.get(method, {})


def best_rates(call: Callable[[np.ndarray], Any], x: np.ndarray) -> dict[int, float]:
    """Return samples per second for each number of samples per call, best of several repeats, warm."""
    rates: dict[int, float] = {}
    for n in (n for n in SIZES if n <= len(x)):
        if rates and n / max(rates.values()) > LONGEST_CALL:
            break
        call(x[:n])
        took, begin = [], time.perf_counter()
        while len(took) < REPEATS or time.perf_counter() - begin < MEASURED_SECONDS:
            start = time.perf_counter()
            call(x[:n])
            took.append(time.perf_counter() - start)
        rates[n] = n / min(took)
    return rates


def measure_native(model: str, methods: list[str]) -> dict[str, dict[int, float]]:
    """Return the rates of the native engine."""
    import xairt

    network, found = load(model), {}
    x = samples(network.input_shape[1:], SIZES[-1])
    for method in methods:
        baseline = samples(x.shape[1:], BACKGROUNDS, seed=1) if method == "shap.deep" else None
        explain = xairt.explainer(network, method, baseline=baseline, **request(method))
        found[method] = best_rates(explain, x)
        log(f"native {method}: {max(found[method].values()):.0f}/s")
    return found


def write_orders(model: str, engine: str, methods: list[str], folder: Path) -> list[str]:
    """Write what the peer needs to build its explainers; return the methods that it has."""
    from xairt.attribution import engines
    from xairt.attribution.blocks import Setting
    from xairt.attribution.legacy import orders
    from xairt.attribution.network import Network
    from xairt.attribution.registry import resolve
    from xairt.attribution.targets import Target
    from xairt.errors import XairtError

    network, written = Network.of(load(model)), []
    for method in methods:
        call = resolve(method, request(method))
        if call.method.name not in engines.PEERS[engine].methods:
            continue
        if engine in call.method.conventions:
            call = resolve(method, request(method), engine)
        count = BACKGROUNDS if method == "shap.deep" else 1
        background = samples(network.input_shape, count, seed=1) * (count > 1)
        cells = np.indices(network.input_shape)
        setting = Setting(network, Target.of(0, network), background, "float32", cells, call.convention)
        try:
            order = getattr(orders, engine)(setting, call)
        except XairtError as error:
            log(f"{engine} {method}: {error}")
            continue
        header = {"layers": order.layers, "name": order.name, "parameters": order.parameters}
        (folder / f"{method}.json").write_text(json.dumps(header))
        np.savez(folder / f"{method}.npz", *order.weights, background)
        written.append(method)
    return written


def measure_peer(engine: str, methods: list[str], shape: tuple[int, ...], folder: Path):
    """Return the rates of a peer package, asked directly."""
    from xairt.attribution.legacy.worker import Explainers

    explainers, found, x = Explainers(engine), {}, samples(shape, SIZES[-1])
    for method in methods:
        header = json.loads((folder / f"{method}.json").read_text())
        with np.load(folder / f"{method}.npz") as stored:
            arrays = [stored[name] for name in stored.files]
        explainers.build(key=method, arrays=arrays, seed=0, **header)

        def call(rows: np.ndarray, method: str = method) -> np.ndarray:
            zeros = np.zeros(len(rows), np.int32)
            return explainers.analyze(method, rows, zeros, zeros)

        found[method] = best_rates(call, x)
        log(f"{engine} {method}: {max(found[method].values()):.0f}/s")
        explainers.forget(method)
    return found


def multiply_adds(model: str) -> tuple[int, int, list[int]]:
    """Return the multiply-adds of one sample in the affine front and behind it, and its shape."""
    from xairt.models.graph import convert
    from xairt.models.graph.nodes import Linear

    graph = convert(load(model))
    counts = {True: 0, False: 0}
    for position, node in enumerate(graph.nodes):
        if isinstance(node.op, Linear) and node.op.kernel.ndim > 1:
            counts[position in graph.affine] += int(node.op.kernel.size * np.prod(node.shape[:-1], dtype=int))
    return counts[True], counts[False], list(graph.input_shape)


def measured_product() -> float:
    """Return the multiply-adds per second of large matrix products, the best of several sizes."""
    import tensorflow as tf

    best = 0.0
    for n in (1024, 2048, 4096):
        a = tf.random.normal((n, n))
        product = tf.function(lambda a: a @ a)
        product(a)
        for _ in range(5):
            start = time.perf_counter()
            product(a).numpy()
            best = max(best, n**3 / (time.perf_counter() - start))
    return best


def log(text: str) -> None:
    """Write progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def in_process(**task: Any) -> Any:
    """Run a task of `TASKS` in a process of its own and return its JSON result."""
    with tempfile.NamedTemporaryFile(suffix=".json") as answer:
        command = [sys.executable, __file__, "--task", json.dumps(task), "--answer", answer.name]
        subprocess.run(command, check=True, stderr=None)
        return json.loads(Path(answer.name).read_text())


TASKS: dict[str, Callable[..., Any]] = {
    "native": measure_native,
    "orders": write_orders,
    "peer": measure_peer,
    "count": multiply_adds,
    "product": measured_product,
}


def carry_out(task: dict[str, Any]) -> Any:
    """Carry out a task of this process."""
    name = task.pop("name")
    if "folder" in task:
        task["folder"] = Path(task["folder"])
    return TASKS[name](**task)


def table(found: dict[str, dict[str, dict[str, float]]], counts, product: float):
    """Return the printed table."""
    from rich.table import Table

    made = Table(title=f"samples per second; floor at {2 * product / 1e9:.0f} GFLOP/s")
    for name in (
        "method",
        "ours",
        "at",
        "peer",
        "its best",
        "at",
        "ratio",
        "peer, 1 per call",
        "floor",
        "ours/floor",
    ):
        made.add_column(name, justify="left" if name in ("method", "peer") else "right", no_wrap=True)
    for method, ours in found["native"].items():
        at, rate = max(ours.items(), key=lambda item: item[1])
        floor = product / METHODS[method](*counts)
        peers = {e: rates[method] for e, rates in found.items() if e != "native" and method in rates}
        for peer, rates in peers.items() or [("", {})]:
            best = max(rates.items(), key=lambda item: item[1]) if rates else ("", float("nan"))
            cells = (
                [f"{best[1]:,.1f}", best[0], f"{rate / best[1]:.2f}", f"{rates['1']:,.1f}"]
                if rates
                else [""] * 4
            )
            made.add_row(method, f"{rate:,.1f}", at, peer, *cells, f"{floor:,.0f}", f"{rate / floor:.2f}")
    return made


def main(
    model: Annotated[str, typer.Option(help="registry name, path, or smerf-complex")] = "mamalakis2022-sst",
    methods: Annotated[list[str] | None, typer.Option(help="method; repeat for several")] = None,
    engines: Annotated[list[str] | None, typer.Option(help="peer; repeat for several")] = None,
    output: Annotated[Path | None, typer.Option(help="write all rates as JSON here")] = None,
    task: Annotated[str | None, typer.Option(hidden=True)] = None,
    answer: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time attribution methods against the packages that have them."""
    if task is not None:
        answer.write_text(json.dumps(carry_out(json.loads(task))))
        return
    from rich.console import Console

    chosen = methods or list(METHODS)
    unknown = [m for m in chosen if m not in METHODS]
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]} has no known count of multiply-adds: use {', '.join(METHODS)}"
        )
    *counts, shape = in_process(name="count", model=model)
    found = {"native": in_process(name="native", model=model, methods=chosen)}
    products = [in_process(name="product")]
    for engine in engines or ("innvestigate", "deeplift", "shap"):
        with tempfile.TemporaryDirectory() as folder:
            known = in_process(name="orders", model=model, engine=engine, methods=chosen, folder=folder)
            if known:
                found[engine] = in_process(
                    name="peer", engine=engine, methods=known, shape=shape, folder=folder
                )
    products.append(in_process(name="product"))
    if output:
        output.write_text(json.dumps({"model": model, "rates": found, "multiply_adds_per_second": products}))
    Console(width=150).print(table(found, (*counts, int(np.prod(shape))), statistics.fmean(products)))


if __name__ == "__main__":
    typer.run(main)
