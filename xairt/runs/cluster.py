"""Where attributions are computed: here, or on a dask cluster."""

from __future__ import annotations

import logging
import os
import platform
import re
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from xairt._version import __version__
from xairt.errors import ClusterError, DataError, EngineError, XairtError, reason_of
from xairt.runs.explanations import Executor, Serial

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

log = logging.getLogger(__name__)

AHEAD = 3
"""Blocks for each worker that may be computed before they are used: what they take in memory is bounded."""

WORKER_BYTES = 2 * 2**30
"""Memory that a worker takes: TensorFlow, a network and the activations of a block."""

CROWD = 4
"""Largest number of local workers for each core."""

CONNECT_SECONDS = 20.0

PACKAGES = ("xairt", "tensorflow", "numpy")
"""Packages whose versions change numbers: they must be the same on every worker."""

INTRA_OP = "TF_NUM_INTRAOP_THREADS"

THREADS = "1"
"""Threads of a TensorFlow operation where that variable is not set.

Products of matrices are cut up, and so rounded, by the number of threads: explanations of the same network differ
between 1 and 4 threads (in single float32 digits; where LRP divides by small numbers, more). One number for all
processes gives the same results everywhere.
"""

PASSED_ON = ("XAIRT_DATA_DIR", "XAIRT_CACHE_DIR", "XAIRT_LEGACY_PYTHON")
"""Variables that workers get from here where they have none of their own."""

_one_at_a_time = threading.Lock()


@contextmanager
def executor(dask: str | None) -> Iterator[Executor]:
    """Give the executor for ``--dask``: None computes here.

    TensorFlow gets the same number of threads here as in workers, unless it has computed in this process before:
    one, or what the variable TF_NUM_INTRAOP_THREADS says.

    Parameters
    ----------
    dask : str or None
        As of `parse_dask`.

    Yields
    ------
    Executor

    Raises
    ------
    DataError, EngineError
        As `connected`.
    """
    before = {INTRA_OP: os.environ.get(INTRA_OP)}
    os.environ[INTRA_OP] = threads()
    try:
        if dask is None:
            yield Serial()
            return
        with connected(dask) as found:
            yield found
    finally:
        _restore(before)


def threads() -> str:
    """Return how many threads a TensorFlow operation gets, in all processes."""
    return os.environ.get(INTRA_OP, THREADS)


def parse_dask(text: str) -> int | str:
    """Read where to compute: ``local`` or ``local:N`` for N processes here, or a scheduler's address.

    Parameters
    ----------
    text : str
        ``local`` makes one process for each core, and fewer where memory is short.

    Returns
    -------
    int or str
        Number of local workers, or the address.

    Raises
    ------
    DataError
        If it is neither.

    Examples
    --------
    >>> parse_dask("local:2"), parse_dask("tcp://login1:8786")
    (2, 'tcp://login1:8786')
    """
    if text == "local":
        return default_workers()
    kind, _, rest = text.partition(":")
    if kind == "local":
        if not re.fullmatch("0*[1-9][0-9]{0,5}", rest):
            raise DataError(f"--dask {text!r}: '{rest}' is no number of processes; write local:2, or local")
        if int(rest) > CROWD * cores():
            raise DataError(
                f"--dask {text}: this machine has {cores()} cores; write local, or a smaller number"
            )
        return int(rest)
    address = re.fullmatch(r"(?:tcp|tls)://(?:[^\s/:\[\]]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", text)
    if address is None or not 0 < int(address[1]) < 2**16:
        raise DataError(
            f"--dask {text!r} is no place to compute: write local, local:N, or a scheduler's address such as "
            "tcp://host:8786"
        )
    return text


def cores() -> int:
    """Return the number of cores that this process may use."""
    from dask.system import CPU_COUNT

    return CPU_COUNT


def default_workers() -> int:
    """Return the number of local workers: one for each core, but not more than fit the memory."""
    from distributed.system import MEMORY_LIMIT

    return max(1, min(cores(), MEMORY_LIMIT // WORKER_BYTES))


@dataclass(frozen=True)
class Conditions:
    """What every worker must meet, so that it computes the numbers that this process would.

    Attributes
    ----------
    versions : tuple of (str, str)
        Packages with their versions.
    threads : str
        Threads of a TensorFlow operation.
    variables : tuple of (str, str)
        Environment variables for workers that lack them.
    """

    versions: tuple[tuple[str, str], ...]
    threads: str
    variables: tuple[tuple[str, str], ...]

    @classmethod
    def here(cls) -> Conditions:
        """Return the conditions that this process sets."""
        found = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return cls(
            versions=tuple((name, installed(name)) for name in PACKAGES),
            threads=threads(),
            variables=tuple(found.items()),
        )


def installed(package: str) -> str:
    """Return the version of a package, or 'none'; it is not imported."""
    if package == "xairt":
        return __version__
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@cache
def prepare(conditions: Conditions) -> None:
    """Make this process, a worker, meet conditions.

    Raises
    ------
    EngineError
        If a version differs, or TensorFlow was loaded before with another number of threads.
    """
    where = f"dask worker on {platform.node()}"
    for package, expected in conditions.versions:
        found = installed(package)
        if found != expected:
            raise EngineError(
                f"{where}: {package} is {found}, but {expected} here, so numbers would differ; install the same"
            )
    if os.environ.get(INTRA_OP) != conditions.threads and "tensorflow" in sys.modules:
        raise EngineError(
            f"{where}: TensorFlow was loaded there without {INTRA_OP}={conditions.threads}, so numbers could "
            "differ; restart the workers"
        )
    os.environ[INTRA_OP] = conditions.threads
    for name, value in conditions.variables:
        os.environ.setdefault(name, value)


def vector_instructions() -> tuple[str, ...]:
    """Return the vector instructions of this processor, which rounding depends on; none where they are not known."""
    with suppress(OSError):
        cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        flags = re.search(r"^flags\s*:(.*)$", cpu, re.MULTILINE)
        return tuple(sorted(re.findall(r"\b(?:avx|fma|amx)\w*", flags[1]))) if flags else ()
    return ()


def dask_setup(worker: object) -> None:
    """Let a local worker ignore Ctrl-C, which this process handles; dask calls it when the worker starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def compute(task: Callable[[Any], Any], item: Any, conditions: Conditions) -> Any:
    """Return task(item) in a worker that meets the conditions, one task at a time."""
    with _one_at_a_time:
        prepare(conditions)
        return task(item)


@contextmanager
def connected(
    where: str, *, dashboard: str | None = None, timeout: float = CONNECT_SECONDS
) -> Iterator[DaskExecutor]:
    """Start local workers, or connect to a scheduler; end what was started when the block is left.

    Parameters
    ----------
    where : str
        As of `parse_dask`.
    dashboard : str, optional
        Address for the dashboard of local workers, such as ":8787"; it needs the package bokeh.
    timeout : float
        Seconds to wait for a scheduler.

    Yields
    ------
    DaskExecutor

    Raises
    ------
    DataError
        If `where` cannot be read.
    EngineError
        If no scheduler answers there, or a worker has other versions than this process.
    """
    import dask

    with dask.config.set({"logging.distributed": "warning"}):  # read once, at the first import
        import distributed  # noqa: F401
    place, conditions = parse_dask(where), Conditions.here()
    if isinstance(place, str):
        with _client(place, timeout) as client:
            _check_workers(client, place, conditions)
            yield DaskExecutor(client, conditions)
        return
    with _local(place, dashboard) as cluster, _client(cluster, timeout) as client:
        yield DaskExecutor(client, conditions)


@contextmanager
def _local(n_workers: int, dashboard: str | None) -> Iterator[LocalCluster]:
    import dask
    from distributed import LocalCluster

    # the nannies, which live in this process, put these into its environment for their children
    borrowed = [*dask.config.get("distributed.nanny.pre-spawn-environ"), "PYTHONHASHSEED"]
    before = {name: os.environ.get(name) for name in borrowed}
    try:
        with LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            dashboard_address=dashboard or "127.0.0.1:0",
            scheduler_kwargs={"dashboard": dashboard is not None},
            silence_logs=logging.CRITICAL,
            env={INTRA_OP: threads()},
            preload=[__name__],
        ) as cluster:
            _restore(before)
            yield cluster
    finally:
        _restore(before)


def _restore(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def _client(place: str | LocalCluster, timeout: float) -> Iterator[Client]:
    from distributed import Client

    # in a thread of its own: for a server that is no scheduler dask waits without end
    found: Queue[Client | BaseException] = Queue()

    def connect() -> None:
        try:
            found.put(Client(place, timeout=timeout, set_as_default=False))
        except BaseException as error:
            found.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        client = found.get(timeout=2 * timeout)
    except Empty:
        client = TimeoutError(f"nothing in {2 * timeout:g} s")
    if isinstance(client, BaseException):
        raise EngineError(
            f"{place}: no dask scheduler answers ({reason_of(client)}); start one with `dask scheduler`, or use "
            "--dask local"
        ) from None
    with client:
        yield client


def _check_workers(client: Client, address: str, conditions: Conditions) -> None:
    """Raise `EngineError` if a worker does not meet the conditions; later ones are checked when they compute."""
    if not client.nthreads():
        log.warning("%s has no workers yet; blocks wait for them", address)
    try:
        client.run(prepare, conditions)
        processors = client.run(vector_instructions).values()
    except XairtError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise EngineError(
            f"{address}: its workers cannot run xairt ({reason}); install xairt {__version__} there"
        ) from error
    if {*processors, vector_instructions()} != {vector_instructions()}:
        log.warning(
            "%s: processors differ from this one's kind; the last digits of numbers may, too", address
        )


@dataclass(frozen=True, eq=False)
class DaskExecutor:
    """Explains blocks on the workers of a dask cluster.

    A block whose worker dies is computed again elsewhere.

    Attributes
    ----------
    client : distributed.Client
        Connected.
    conditions : Conditions
        What workers must meet.
    """

    client: Client
    conditions: Conditions

    def map(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield task(item) for every item, in their order; a bounded number is computed ahead.

        Parameters
        ----------
        task : callable
            Importable by its name on the workers.
        items : sequence
            What can be pickled.

        Raises
        ------
        EngineError
            If an item ends each worker that computes it.
        ClusterError
            If the scheduler is gone.
        Exception
            What the task raised, as it was.
        """
        waiting: deque[tuple[Any, Future]] = deque()
        try:
            for item in items:
                waiting.append((item, self._submitted(task, item)))
                if len(waiting) >= AHEAD * max(1, self._n_workers()):
                    yield self._first(task, waiting)
            while waiting:
                yield self._first(task, waiting)
        finally:
            self._cancel(waiting)

    def _n_workers(self) -> int:
        with self._scheduler_needed():
            return len(self.client.nthreads())

    def _submitted(self, task: Callable[[Any], Any], item: Any) -> Future:
        key = f"{task.__name__}-{uuid4().hex}"
        with self._scheduler_needed():
            return self.client.submit(compute, task, item, self.conditions, key=key, pure=False)

    def _first(self, task: Callable[[Any], Any], waiting: deque[tuple[Any, Future]]) -> Any:
        """Return the result that has waited longest, and take it from those that wait."""
        from distributed.scheduler import KilledWorker

        item, future = waiting[0]
        try:
            result = self._result(future)
        except KilledWorker:
            # dask blames all that waited on a dying worker: only a block alone shows whether it is the cause
            others = [other for other, _ in waiting][1:]
            self._cancel(waiting)
            result = self._alone(task, item)
            waiting.extend((other, self._submitted(task, other)) for other in others)
            return result
        waiting.popleft()
        return result

    def _alone(self, task: Callable[[Any], Any], item: Any) -> Any:
        from distributed.scheduler import KilledWorker

        future = self._submitted(task, item)
        try:
            return self._result(future)
        except KilledWorker as error:
            what = " ".join(repr(item).split())[:300]
            raise EngineError(
                f"{what}: {error.allowed_failures + 1} workers died one after the other while they computed this "
                "alone; see their logs, and give workers more memory if they ran out of it"
            ) from None
        finally:
            self._cancel(deque([(item, future)]))

    def _result(self, future: Future) -> Any:
        with self._scheduler_needed(future):
            return future.result()

    @contextmanager
    def _scheduler_needed(self, future: Future | None = None) -> Iterator[None]:
        """Raise `ClusterError` in place of what dask raises when its scheduler is gone; errors of tasks stay."""
        from concurrent.futures import CancelledError

        from distributed.client import ClosedClientError

        try:
            yield
        except (CancelledError, ClosedClientError, OSError):
            if future is not None and future.status == "error":
                raise
            raise ClusterError(
                "the dask scheduler is gone; start it and run again: what is finished is kept"
            ) from None

    def _cancel(self, waiting: deque[tuple[Any, Future]]) -> None:
        """Give up what waits."""
        futures = [future for _, future in waiting]
        waiting.clear()
        if futures and self.client.status == "running":
            with suppress(OSError, TimeoutError, RuntimeError):
                self.client.cancel(futures, force=True)
