"""The side of this process: starting workers, asking them, and the engines that do so."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import tensorflow as tf

from xairt.attribution.blocks import Setting, compiled, with_largest
from xairt.attribution.legacy import worker
from xairt.attribution.legacy.orders import Order
from xairt.attribution.network import Outputs
from xairt.errors import EngineError

PYTHON_VARIABLE = "XAIRT_LEGACY_PYTHON"
STOP_SECONDS = 5
WORKER_SIZES = (16, 1024)
"""Samples in a small and in a large block."""

NOISY_BLOCK = 128

DISTRIBUTIONS = {"yaml": "pyyaml"}
"""Modules that are installed under another name."""


def interpreter() -> str:
    """Return the Python that runs the workers: XAIRT_LEGACY_PYTHON, or this one."""
    return os.environ.get(PYTHON_VARIABLE) or sys.executable


@dataclass(eq=False)
class Worker:
    """One worker process; starts when asked first and again after it died.

    Attributes
    ----------
    engine : str
        Which package it serves.
    python : str
        The interpreter.
    generation : int
        How often it was started; explainers of an earlier generation are gone.
    ready : bool
        Whether the process has imported its packages.
    dropped : deque of str
        Explainers whose engine is gone; they are forgotten before the next request, never in the middle
        of one.
    """

    engine: str
    python: str
    generation: int = 0
    ready: bool = False
    process: subprocess.Popen | None = field(default=None, repr=False)
    dropped: deque[str] = field(default_factory=deque, repr=False)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    log: IO[bytes] | None = field(default=None, repr=False)
    folder: tempfile.TemporaryDirectory | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process unless it runs.

        Raises
        ------
        EngineError
            If the interpreter is missing, or it lacks tensorflow or the engine's package.
        """
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self._launch()

    def _launch(self) -> None:
        self.stop()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        # TensorFlow leaves generated source files behind where a process is killed
        self.folder = tempfile.TemporaryDirectory(prefix="xairt-worker-", ignore_cleanup_errors=True)
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        environment.pop("TF2_BEHAVIOR", None)  # set by TensorFlow 2 here; TensorFlow 1 would follow it
        command = [self.python, "-I", str(Path(worker.__file__).resolve()), self.engine, self.folder.name]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=environment
            )
        except OSError as error:
            self.stop()
            raise EngineError(
                f"the worker's interpreter '{self.python}' cannot be started ({error.strerror}): {self._needs}"
            ) from None
        self.generation, self.ready = self.generation + 1, False
        with self._in_step():
            self._reply("start")
        self.ready = True

    @property
    def _needs(self) -> str:
        return f"set {PYTHON_VARIABLE} to a Python with tensorflow and {self.engine}"

    def ask(self, request: str, arrays: tuple[np.ndarray, ...] | list[np.ndarray] = (), **header: Any):
        """Send a request and return the reply's header and arrays.

        Raises
        ------
        EngineError
            If the worker reports an error or dies; the next request starts it again.
        """
        with self.lock:
            self.start()
            while self.dropped:
                self._exchange("forget", (), key=self.dropped.popleft())
            return self._exchange(request, arrays, **header)

    def _exchange(self, request: str, arrays: tuple[np.ndarray, ...] | list[np.ndarray], **header: Any):
        with self._in_step():
            try:
                worker.send(self.process.stdin, {"request": request, **header}, arrays)
            except OSError:
                raise self._died(request) from None
            return self._reply(request)

    @contextlib.contextmanager
    def _in_step(self) -> Iterator[None]:
        """End the process where a request breaks off: its answer would be taken for the next request's."""
        try:
            yield
        except EngineError:
            raise
        except BaseException:
            if self.process is not None:
                self.process.kill()
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
        if "missing" in header:
            self.stop()
            raise EngineError(self._lacks(header["missing"], header["error"]))
        if "error" in header:
            raise EngineError(
                f"engine '{self.engine}' ({self.python}) failed at '{request}': {header['error']}"
            )
        return header, arrays

    def _lacks(self, module: str | None, error: str) -> str:
        package = DISTRIBUTIONS.get(module, module) or self.engine
        return (
            f"engine '{self.engine}' cannot start in {self.python} ({error}): install '{package}' there, "
            f"or {self._needs}"
        )

    def _died(self, request: str) -> EngineError:
        code = _wait(self.process)
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        last = f"; it last wrote: {lines[-1].strip()[:200]}" if lines else ""
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        remedy = "call again to restart it" if self.ready else self._needs
        self.stop()
        return EngineError(
            f"the worker of engine '{self.engine}' died at '{request}' ({how}){last}; {remedy}"
        )

    def stop(self) -> None:
        """End the process, release its pipes and remove its temporary files."""
        process, self.process = self.process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
            _wait(process)
        if self.log is not None:
            self.log.close()
            self.log = None
        if self.folder is not None:
            self.folder.cleanup()
            self.folder = None


def _wait(process: subprocess.Popen) -> int:
    """Return the exit code of a process that is about to end; kill it if it does not."""
    try:
        return process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


_workers: dict[tuple[str, str], Worker] = {}
_keys = itertools.count()


def shared_worker(engine: str, python: str | None = None) -> Worker:
    """Return the worker of an engine and an interpreter; one for each serves the whole program."""
    key = engine, python or interpreter()
    return _workers.setdefault(key, Worker(*key))


@atexit.register
def stop_workers() -> None:
    """End all workers."""
    for running in _workers.values():
        running.stop()


class WorkerEngine:
    """One method computed by another package in its worker process.

    Parameters
    ----------
    name : str
        Name of the engine.
    order : callable
        From setting and method call to what the worker is asked to build; see `orders`.
    setting : Setting
        Model, target and baseline.
    call : MethodCall
        The method and its parameters.
    size : int or None
        Samples per block; None leaves it to the engine.
    python : str, optional
        The worker's interpreter; by default the one that XAIRT_LEGACY_PYTHON names when it is asked, or
        this one.

    Raises
    ------
    EngineError
        If the target is a callable, or the package cannot take the baseline.
    MethodError
        If the package lacks this variant of the method.
    UnsupportedLayerError
        If the model has no canonical graph, or a layer that cannot be handed over.
    """

    def __init__(
        self,
        name: str,
        order: Callable[[Setting, Any], Order],
        setting: Setting,
        call: Any,
        size: int | None,
        python: str | None = None,
    ) -> None:
        if setting.target.kind == "callable":
            raise EngineError(
                f"engine '{name}' explains one output by its index: give target=INDEX, or use engine='native'"
            )
        self._order = order(setting, call)
        self.name, self.setting, self._python = name, setting, python
        self.sizes, self.threads = _sizes(self._order, size), 1
        self._key, self._built = f"{self._order.name}-{next(_keys)}", None
        outputs = setting.outputs
        # every method with a baseline that another package has promises f(x) - mean f(baseline)
        start = _mean_outputs(setting) if call.method.baseline else None
        self._forward = compiled(
            lambda x, indices: _forward(setting, outputs, start, x, indices),
            tf.TensorSpec((None, *setting.network.input_shape), setting.dtype),
            tf.TensorSpec((None,), tf.int32),
        )

    def __call__(self, x: np.ndarray, indices: np.ndarray, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Explain one block; see `NativeEngine`. No ledger is kept, and LRP's gap is not known (NaN)."""
        computed = {k: v.numpy() for k, v in self._forward(tf.constant(x), tf.constant(indices)).items()}
        seeds = [int(np.random.SeedSequence(key.tolist()).generate_state(1)[0] >> 1) for key in keys]
        running = self._ready(seeds[0])
        arrays = [x, np.maximum(computed["target"], 0), np.array(seeds)]
        _, (attribution,) = running.ask("analyze", arrays, key=self._key)
        return computed | {"attribution": attribution}

    def _ready(self, seed: int) -> Worker:
        """Return the running worker after the explainer was built in it, anew where noise needs that."""
        running, order = shared_worker(self.name, self._python), self._order
        running.start()
        if self._built is None or self._built[0] is not running:
            weakref.finalize(self, running.dropped.append, self._key)
        if self._built != (running, running.generation) or order.noise_when_built:
            running.ask(
                "build",
                [*order.weights, self.setting.baseline],
                key=self._key,
                layers=order.layers,
                name=order.name,
                parameters=order.parameters,
                seed=seed,
            )
            self._built = running, running.generation
        return running


def _sizes(order: Order, size: int | None) -> tuple[int, ...]:
    """Return the numbers of samples that a block may hold, in rising order; noise of the package itself is drawn per block."""
    if order.sample_by_sample:
        return (1,)
    if order.noise_when_built:
        return (size or NOISY_BLOCK,)
    return WORKER_SIZES if size is None else with_largest(WORKER_SIZES, size)


def _mean_outputs(setting: Setting) -> tuple[tf.Tensor, ...]:
    """Return the mean of each output over the baseline, with a sample axis of one."""
    outputs = setting.outputs(tf.constant(setting.baseline))
    return tuple(tf.reduce_mean(output, axis=0, keepdims=True) for output in outputs)


def _forward(setting: Setting, outputs: Outputs, start: Any, x: tf.Tensor, indices: tf.Tensor):
    """Return what is known of a block before it is explained, as `NativeEngine` returns it."""
    values = outputs(x)
    chosen = setting.target.chosen(values, indices)
    prediction = setting.target.select(values, chosen)
    known = {"prediction": prediction, "target": chosen}
    if start is not None:
        repeated = tuple(tf.repeat(output, tf.shape(x)[0], axis=0) for output in start)
        known["promised"] = prediction - setting.target.select(repeated, chosen)
    return known
