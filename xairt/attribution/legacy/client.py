"""The side of this process: starting workers, asking them, and the engine that does so."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import weakref
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import tensorflow as tf

from xairt.attribution.blocks import Setting, compiled
from xairt.attribution.legacy import export, worker
from xairt.attribution.legacy.analyzers import ANALYZERS, STOCHASTIC
from xairt.errors import EngineError

PYTHON_VARIABLE = "XAIRT_LEGACY_PYTHON"
STOP_SECONDS = 5


def interpreter() -> str:
    """Return the Python that runs the worker: XAIRT_LEGACY_PYTHON, or this one."""
    return os.environ.get(PYTHON_VARIABLE) or sys.executable


@dataclass(eq=False)
class Worker:
    """One worker process; starts when asked first and again after it died.

    Attributes
    ----------
    python : str
        The interpreter.
    generation : int
        How often it was started; analyzers of an earlier generation are gone.
    """

    python: str
    generation: int = 0
    process: subprocess.Popen | None = field(default=None, repr=False)
    log: IO[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process unless it runs.

        Raises
        ------
        EngineError
            If the interpreter is missing, or it lacks tensorflow or innvestigate.
        """
        if self.process is not None and self.process.poll() is None:
            return
        self.stop()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        command = [self.python, "-I", str(Path(worker.__file__).resolve())]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=environment
            )
        except OSError as error:
            raise EngineError(
                f"the worker's interpreter '{self.python}' cannot be started ({error.strerror}): "
                f"set {PYTHON_VARIABLE} to a Python with tensorflow and innvestigate"
            ) from None
        self.generation += 1
        self._reply("start")

    def ask(self, request: str, arrays: tuple[np.ndarray, ...] | list[np.ndarray] = (), **header: Any):
        """Send a request and return the reply's header and arrays.

        Raises
        ------
        EngineError
            If the worker reports an error or dies; the next request starts it again.
        """
        self.start()
        while _dropped:
            self._exchange("forget", (), key=_dropped.popleft())
        return self._exchange(request, arrays, **header)

    def _exchange(self, request: str, arrays: tuple[np.ndarray, ...] | list[np.ndarray], **header: Any):
        try:
            worker.send(self.process.stdin, {"request": request, **header}, arrays)
        except (BrokenPipeError, OSError):
            raise self._died(request) from None
        try:
            return self._reply(request)
        except KeyboardInterrupt:
            self.process.kill()  # an answer nobody read would be taken for the next request's
            self.stop()
            raise

    def _reply(self, request: str):
        try:
            message = worker.receive(self.process.stdout)
        except (OSError, ValueError, EOFError):
            message = None
        if message is None:
            raise self._died(request)
        header, arrays = message
        if "error" in header:
            raise EngineError(f"iNNvestigate ({self.python}) failed at '{request}': {header['error']}")
        return header, arrays

    def _died(self, request: str) -> EngineError:
        code = self.process.wait(timeout=STOP_SECONDS)
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        last = f"; it last wrote: {lines[-1].strip()[:200]}" if lines else ""
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        self.stop()
        return EngineError(
            f"the worker of engine 'innvestigate' died at '{request}' ({how}){last}; call again to restart it"
        )

    def stop(self) -> None:
        """End the process and release its pipes."""
        process, self.process = self.process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.log is not None:
            self.log.close()
            self.log = None


_dropped: deque[str] = deque()
"""Analyzers whose engine is gone; they are forgotten before the next request, never in the middle of one."""

_workers: dict[str, Worker] = {}
_keys = itertools.count()


def shared_worker(python: str | None = None) -> Worker:
    """Return the worker of an interpreter; one per interpreter serves the whole program."""
    python = python or interpreter()
    return _workers.setdefault(python, Worker(python))


@atexit.register
def stop_workers() -> None:
    """End all workers."""
    for running in _workers.values():
        running.stop()


class InnvestigateEngine:
    """One method computed by iNNvestigate in the worker process.

    Parameters
    ----------
    setting : Setting
        Model, target and baseline.
    call : MethodCall
        The method and its parameters.
    size : int
        Samples per block.

    Raises
    ------
    UnsupportedLayerError
        If the model has no canonical graph, or a layer that cannot be handed over.
    """

    name = "innvestigate"

    def __init__(self, setting: Setting, call: Any, size: int) -> None:
        if setting.target.kind == "callable":
            raise EngineError(
                "engine 'innvestigate' explains one output by its index: give target=INDEX, or use engine='native'"
            )
        self.setting, self.size = setting, size
        name, translate = ANALYZERS[call.method.name]
        self._stochastic = call.method.name in STOCHASTIC
        graph = setting.network.require_graph()
        export.refuse_for_innvestigate(graph)
        self._layers, self._weights = export.describe(graph)
        self._request = {"analyzer": name, "parameters": translate(call.parameters)}
        self._difference = call.method.name == "integrated_gradients"
        if self._difference:
            self._request["parameters"]["reference_inputs"] = _one_number(setting.baseline)
        self._key, self._built = f"{name}-{next(_keys)}", None
        weakref.finalize(self, _dropped.append, self._key)
        outputs = setting.outputs
        self._forward = compiled(
            lambda x, indices: _forward(setting, outputs, x, indices),
            tf.TensorSpec((size, *setting.network.input_shape), setting.dtype),
            tf.TensorSpec((size,), tf.int32),
        )

    def __call__(self, x: np.ndarray, indices: np.ndarray, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Explain one block; see `NativeEngine`. No ledger is kept, and LRP's gap is not known (NaN)."""
        prediction, chosen, at_baseline = (
            v.numpy() for v in self._forward(tf.constant(x), tf.constant(indices))
        )
        running = shared_worker()
        running.start()
        seed = (
            int(np.random.SeedSequence(keys[0].tolist()).generate_state(1)[0] >> 1) if self._stochastic else 0
        )
        if self._built != (running, running.generation, seed):
            running.ask(
                "build", self._weights, key=self._key, layers=self._layers, seed=seed, **self._request
            )
            self._built = (running, running.generation, 0 if not self._stochastic else None)
        _, (attribution,) = running.ask("analyze", [x, np.maximum(chosen, 0)], key=self._key)
        computed = {"attribution": attribution, "prediction": prediction, "target": chosen}
        if self._difference:
            computed["promised"] = prediction - at_baseline
        return computed


def _forward(setting: Setting, outputs, x: tf.Tensor, indices: tf.Tensor):
    chosen = setting.target.chosen(outputs(x), indices)
    scalar = setting.scalar(outputs)
    start = tf.zeros_like(x) + tf.constant(setting.baseline[0], setting.dtype)
    return scalar(x, chosen), chosen, scalar(start, chosen)


def _one_number(baseline: np.ndarray) -> float:
    """Return the baseline's only value; iNNvestigate takes one number for all inputs."""
    if np.ptp(baseline) != 0:
        raise EngineError(
            "engine 'innvestigate' takes one number as baseline: use engine='native' for an array"
        )
    return float(baseline.flat[0])
