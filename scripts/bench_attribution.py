"""Time every attribution method against the packages that have it, on one model and the same samples.

    python scripts/bench_attribution.py [--model NAME|PATH|smerf-complex] [--methods gradient --methods lrp.z ...]

Each engine has a process of its own, and they take turns, method by method, so that a change in the machine's
speed meets all of them. A peer package is asked there directly, without the pipes that connect it to xairt
otherwise. Every method is called warm with several numbers of samples per call; the best of the repeats counts.
Printed are samples per second: ours, the peer's best, their ratio, both with one sample per call, and the
floor: what the multiply-adds of one sample would take in the largest matrix product that the machine was seen
to do. Let nothing else run meanwhile: a busy core halves every figure.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZES = (1, 16, 64, 256, 1024, 4096, 16384)
LONGEST_CALL = 1.0
"""Seconds: once a call took longer, more samples per call are not tried."""

ROUNDS, REPEATS, MEASURED_SECONDS = 4, 3, 0.4
BACKGROUNDS, COALITIONS = 100, 10_000

METHODS: dict[str, tuple[float, float]] = {
    "gradient": (2, 2),
    "input_t_gradient": (2, 2),
    "lrp.z": (2, 2),
    "lrp.epsilon": (2, 2),
    "lrp.w_square": (2, 2),
    "lrp.flat": (2, 2),
    "lrp.alpha_1_beta_0": (4, 3),
    "lrp.alpha_1_beta_0_IB": (4, 3),
    "lrp.alpha_2_beta_1": (9, 5),
    "lrp.alpha_2_beta_1_IB": (9, 5),
    "lrp.z_plus": (4, 3),
    "lrp.z_plus_fast": (3, 3),
    "lrp.sequential_preset_a": (2, 2),
    "lrp.sequential_preset_b": (2, 2),
    "lrp.sequential_preset_a_flat": (2, 2),
    "lrp.sequential_preset_b_flat": (2, 2),
    "deep_taylor": (4, 3),
    "integrated_gradients": (2, 2 * 64),
    "smoothgrad": (2 + 64 / 2, 2 * 64),
    "deeplift.rescale": (2, 2),
    "deeplift.reveal_cancel": (4, 4),
    "shap.deep": (1 + BACKGROUNDS, 1 + BACKGROUNDS),
    "shap.kernel": (COALITIONS / 2, COALITIONS),
    "occlusion": (1, np.nan),
}
"""How often one sample needs each weight of the affine front, and each weight behind it.

Occlusion needs the latter once per input. Of the presets the convolutions are counted like the dense layers,
so their floor is too high for networks with convolutions.
"""

PARAMETERS = {"shap.kernel": {"nsamples": COALITIONS}}

PEERS = {
    "innvestigate": "innvestigate",
    "deeplift": "deeplift",
    "deeplift (worker)": "deeplift",
    "shap": "shap",
}
"""Column name: engine. DeepLIFT as the package is, and as xairt's worker calls it, with operations reused."""

# --------------------------------------------------------------------------- in the processes of the engines

HELD: dict[str, Any] = {}
"""What a process keeps between its tasks."""


def load(model: str):
    """Return the model: of the registry, of a file, or the convolutional network of SMERF, untrained."""
    import xairt
    from xairt.models.architectures import smerf

    return smerf("complex", seed=0) if model == "smerf-complex" else xairt.load_model(model)


def samples(shape: tuple[int, ...], n: int, seed: int = 0) -> np.ndarray:
    """Return standard normal samples."""
    return np.random.default_rng(seed).standard_normal((n, *shape), dtype=np.float32)


def baseline(method: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the samples that a method compares with: many for shap.deep, zeros otherwise."""
    return samples(shape, BACKGROUNDS, seed=1) if method == "shap.deep" else np.zeros((1, *shape), np.float32)


def best_rates(call: Callable[[np.ndarray], Any], sizes: list[int]) -> dict[int, float]:
    """Return samples per second for each number of samples per call, best of several repeats, warm."""
    rates: dict[int, float] = {}
    for n in sizes:
        x = HELD["samples"][:n]
        call(x)
        took, begin = [], time.perf_counter()
        while len(took) < REPEATS or time.perf_counter() - begin < MEASURED_SECONDS:
            start = time.perf_counter()
            call(x)
            took.append(time.perf_counter() - start)
        rates[n] = n / min(took)
        if min(took) > LONGEST_CALL:
            break
    return rates


def open_native(model: str) -> tuple[int, int, tuple[int, ...]]:
    """Load the model; return its multiply-adds in the affine front and behind it, and a sample's shape."""
    from xairt.models.graph import convert

    logging.getLogger("xairt").setLevel(logging.ERROR)
    HELD["model"], graph = load(model), convert(load(model))
    HELD["samples"] = samples(graph.input_shape, SIZES[-1])
    front = graph.multiply_adds(graph.affine)
    return front, graph.multiply_adds() - front, graph.input_shape


def time_native(method: str, sizes: list[int]) -> dict[int, float]:
    """Return the rates of the native engine."""
    import xairt

    model = HELD["model"]
    references = (
        baseline(method, model.input_shape[1:]) if method.startswith(("shap.", "deeplift.")) else None
    )
    return best_rates(
        xairt.explainer(model, method, baseline=references, **PARAMETERS.get(method, {})), sizes
    )


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


def order(engine: str, method: str) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """Return what a peer needs to build its explainer; None where it has none, with a line that says why."""
    from xairt.attribution.blocks import Setting
    from xairt.attribution.engines import PEERS as KNOWN
    from xairt.attribution.legacy import orders
    from xairt.attribution.network import Network
    from xairt.attribution.registry import resolve
    from xairt.attribution.targets import Target
    from xairt.errors import XairtError

    network, call = Network.of(HELD["model"]), resolve(method, PARAMETERS.get(method, {}))
    if call.method.name not in KNOWN[engine].methods:
        return None
    if engine in call.method.conventions:
        call = resolve(method, PARAMETERS.get(method, {}), engine)
    references, cells = baseline(method, network.input_shape), np.indices(network.input_shape)
    setting = Setting(network, Target.of(0, network), references, "float32", cells, call.convention)
    try:
        made = getattr(orders, engine)(setting, call)
    except XairtError as error:
        log(f"{engine} {method}: {error}")
        return None
    return {"layers": made.layers, "name": made.name, "parameters": made.parameters}, [
        *made.weights,
        references,
    ]


def open_peer(peer: str, shape: tuple[int, ...]) -> None:
    """Import a peer package."""
    from xairt.attribution.legacy import worker

    if peer == "deeplift":
        worker.reuse_task_operations = lambda v1, layer: None
    HELD["samples"], HELD["explainers"] = samples(shape, SIZES[-1]), worker.Explainers(PEERS[peer])


def build_peer(method: str, header: dict[str, Any], arrays: list[np.ndarray]) -> None:
    """Let the peer package build its explainer, in place of the one before."""
    for known in list(HELD["explainers"].made):
        HELD["explainers"].forget(known)
    HELD["explainers"].build(key=method, arrays=arrays, seed=0, **header)


def time_peer(method: str, sizes: list[int]) -> dict[int, float]:
    """Return the rates of a peer package, asked directly."""

    def call(rows: np.ndarray) -> np.ndarray:
        zeros = np.zeros(len(rows), np.int32)
        return HELD["explainers"].analyze(method, rows, zeros, zeros)

    return best_rates(call, sizes)


# --------------------------------------------------------------------------- in the process that directs them


def log(text: str) -> None:
    """Write progress to standard error."""
    print(text, file=sys.stderr, flush=True)


class Processes:
    """The engines' processes, which start when they are first asked."""

    def __init__(self, model: str, peers: list[str]) -> None:
        self.peers, self.pools = peers, {}
        *self.multiply_adds, self.shape = self.ask("native", open_native, model)

    def ask(self, name: str, task: Callable, *arguments: Any) -> Any:
        """Carry out a task in the process of an engine and return its result."""
        if name not in self.pools:
            self.pools[name] = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            if name != "native":
                self.ask(name, open_peer, name, self.shape)
        return self.pools[name].submit(task, *arguments).result()

    def stop(self) -> None:
        """End the processes."""
        for pool in self.pools.values():
            pool.shutdown()

    def rates(self, method: str) -> dict[str, dict[int, float]]:
        """Return the rates of every engine that has a method; they take turns."""
        found: dict[str, dict[int, float]] = {"native": {}}
        for peer in self.peers:
            made = self.ask("native", order, PEERS[peer], method)
            if made is not None:
                self.ask(peer, build_peer, method, *made)
                found[peer] = {}
        for _ in range(ROUNDS):
            for name, best in found.items():
                rates = self.ask(
                    name, time_native if name == "native" else time_peer, method, sizes_for(best)
                )
                best.update({n: max(rate, best.get(n, 0)) for n, rate in rates.items()})
        log(method + ": " + ", ".join(f"{name} {max(best.values()):.4g}/s" for name, best in found.items()))
        return found


def sizes_for(known: dict[int, float]) -> list[int]:
    """Return the numbers of samples per call to try: all at first, then 1 and the two best."""
    return sorted({1, *sorted(known, key=known.get)[-2:]}) if known else list(SIZES)


def rows(method: str, found: dict[str, dict[int, float]], floor: float) -> list[list[str]]:
    """Return the printed rows of a method, one for each peer."""
    at, ours = max(found["native"].items(), key=lambda item: item[1])
    first = [method, f"{ours:,.1f}", str(at), f"{found['native'][1]:,.1f}"]
    last = [f"{floor:,.0f}", f"{ours / floor:.2f}"]
    made = []
    for peer, rates in found.items():
        if peer != "native":
            at, best = max(rates.items(), key=lambda item: item[1])
            made.append(
                [*first, peer, f"{best:,.1f}", str(at), f"{ours / best:.2f}", f"{rates[1]:,.1f}", *last]
            )
    return made or [[*first, *[""] * 5, *last]]


COLUMNS = (
    "method",
    "ours",
    "at",
    "1 per call",
    "peer",
    "its best",
    "at",
    "ratio",
    "1 per call",
    "floor",
    "ours/floor",
)


def main(
    model: Annotated[str, typer.Option(help="registry name, path, or smerf-complex")] = "mamalakis2022-sst",
    methods: Annotated[list[str] | None, typer.Option(help="method; repeat for several")] = None,
    peers: Annotated[list[str] | None, typer.Option(help="peer; repeat for several")] = None,
    output: Annotated[Path | None, typer.Option(help="write all rates as JSON here")] = None,
) -> None:
    """Time attribution methods against the packages that have them."""
    from rich.console import Console
    from rich.table import Table

    for kind, asked, known in (("method", methods, METHODS), ("peer", peers, PEERS)):
        for name in asked or ():
            if name not in known:
                raise typer.BadParameter(f"no {kind} '{name}' here: use {', '.join(known)}")
    processes = Processes(model, peers or list(PEERS))
    products = [processes.ask("native", measured_product)]
    found = {method: processes.rates(method) for method in methods or METHODS}
    products.append(processes.ask("native", measured_product))
    processes.stop()
    if output:
        output.write_text(json.dumps({"model": model, "rates": found, "multiply_adds_per_second": products}))
    table = Table(title=f"samples per second; floor at {2 * max(products) / 1e9:.0f} GFLOP/s")
    for i, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if i in (0, 4) else "right", no_wrap=True)
    n_inputs = int(np.prod(processes.shape))
    for method, rates in found.items():
        uses = [n_inputs if np.isnan(f) else f for f in METHODS[method]]
        for cells in rows(method, rates, max(products) / float(np.dot(uses, processes.multiply_adds))):
            table.add_row(*cells)
    Console(width=170).print(table)


if __name__ == "__main__":
    typer.run(main)
