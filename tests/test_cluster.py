"""Explaining on dask: the numbers of a serial run, in order, whatever becomes of the workers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cluster_tasks as tasks
import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cluster_tasks import Explained, Item
from distributed import LocalCluster

from xairt.errors import ClusterError, DataError, EngineError
from xairt.runs import cluster
from xairt.runs.cluster import AHEAD, connected, executor, parse_dask
from xairt.runs.explanations import Serial

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def two_workers():
    with connected("local:2") as found:
        yield found


@pytest.fixture
def foreign():
    """Give a cluster of one worker that another program started."""
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as found:
        yield found.scheduler_address


# ------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("local:1", 1),
        ("local:02", 2),
        ("tcp://login1:8786", "tcp://login1:8786"),
        ("tls://10.0.0.1:8786", "tls://10.0.0.1:8786"),
        ("tcp://[fe80::1]:8786", "tcp://[fe80::1]:8786"),
    ],
)
def test_places_are_read(text, place):
    assert parse_dask(text) == place


def test_local_alone_is_a_worker_for_each_core_as_far_as_memory_goes(monkeypatch):
    monkeypatch.setattr(cluster, "cores", lambda: 8)
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 7 * 2**30)
    assert parse_dask("local") == 3
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 2**40)
    assert parse_dask("local") == 8
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 2**20)
    assert parse_dask("local") == 1


@pytest.mark.parametrize("text", ["local:", "local:0", "local:-1", "local:two", "local:2:3", "local:1.5"])
def test_a_wrong_number_of_workers_is_refused(text):
    with pytest.raises(DataError, match=r"is no number of processes; write local:2, or local$"):
        parse_dask(text)


def test_far_more_workers_than_cores_are_refused():
    with pytest.raises(DataError, match=r"local:8786: this machine has \d+ cores; write local, or a smaller"):
        parse_dask("local:8786")


@pytest.mark.parametrize(
    "text",
    [
        *("", "Local", "host", "host:8786", "tcp://host", "tcp://:8786", "tcp://host:0", "tcp://host:99999"),
        *("http://host:80", "tcp://ho st:1", "tcp://host:8786/x", "tcp://host:8786\n"),
    ],
)
def test_a_wrong_address_is_refused_in_one_line(text):
    with pytest.raises(
        DataError, match=r"is no place to compute: write local, local:N, or .* tcp://host:8786$"
    ):
        parse_dask(text)


def test_an_address_where_nobody_answers_is_told_soon():
    begun = time.perf_counter()
    with (
        pytest.raises(
            EngineError, match=r"^tcp://127.0.0.1:9: no dask scheduler answers \([^\n]*\); start one"
        ),
        connected("tcp://127.0.0.1:9", timeout=1),
    ):
        pass
    assert time.perf_counter() - begun < 15


def test_without_dask_blocks_are_computed_here():
    with executor(None) as found:
        assert isinstance(found, Serial)
        assert list(found.map(tasks.process_id, [1])) == [os.getpid()]


# ------------------------------------------------------------------------------------------------ map


def test_results_come_in_the_order_of_the_items(two_workers):
    items = [Item(i, seconds=0.3 if i % 3 == 0 else 0.0) for i in range(10)]
    assert list(two_workers.map(tasks.square, items)) == [i**2 for i in range(10)]
    assert list(two_workers.map(tasks.square, [])) == []


def test_every_item_is_computed_once_and_few_are_computed_ahead(two_workers, tmp_path):
    items = [Item(i, str(tmp_path)) for i in range(20)]
    for i, result in enumerate(two_workers.map(tasks.square, items)):
        time.sleep(0.05)  # so that workers could run far ahead
        assert result == i**2
        assert len(list(tmp_path.iterdir())) <= i + 2 * AHEAD
    computed = sorted(int(path.name.partition("-")[0]) for path in tmp_path.iterdir())
    assert computed == list(range(20))


def test_blocks_that_nobody_waits_for_are_given_up(two_workers, tmp_path):
    results = two_workers.map(tasks.square, [Item(i, str(tmp_path), 0.4) for i in range(6)])
    assert next(results) == 0
    results.close()
    time.sleep(1.2)
    assert len(list(tmp_path.iterdir())) <= 4  # two done, two more begun meanwhile


def test_an_error_of_a_task_is_raised_as_it_was(two_workers):
    with pytest.raises(DataError, match=r"^block 2: holds NaN; mask it$") as caught:
        list(two_workers.map(tasks.fail_at_two, [Item(i) for i in range(5)]))
    assert type(caught.value) is DataError
    assert list(two_workers.map(tasks.square, [Item(3)])) == [9]


# ------------------------------------------------------------------------------------------- deaths


def test_a_killed_worker_changes_nothing(two_workers):
    items = [Item(i, seconds=0.2) for i in range(14)]
    before = list(two_workers.client.run(os.getpid).values())
    results, found = two_workers.map(tasks.square, items), []
    for result in results:
        found.append(result)
        if len(found) == 3:
            os.kill(before[0], signal.SIGKILL)
    assert found == [i**2 for i in range(14)]
    two_workers.client.wait_for_workers(2, timeout=30)
    after = list(two_workers.client.run(os.getpid).values())
    assert before[0] not in after
    assert before[1] in after


@pytest.fixture
def unforgiving():
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), connected("local:2") as found:
        yield found


def test_a_block_that_ends_every_worker_is_named(unforgiving):
    results = unforgiving.map(tasks.die_at_two, [Item(i) for i in range(5)])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(
        EngineError,
        match=r"^Item\(number=2, .*\): 1 workers died one after the other .* alone; see their logs",
    ):
        next(results)


def test_blocks_that_waited_on_a_dying_worker_are_not_blamed(unforgiving, tmp_path):
    items = [Item(i, str(tmp_path)) for i in range(8)]
    assert list(unforgiving.map(tasks.die_once_at_two, items)) == [i**2 for i in range(8)]


# ----------------------------------------------------------------------------------- the end of things


def session(leader: int) -> list[int]:
    """Return the processes of a session that live."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


BUSY = """
import sys
sys.path.insert(0, {tests!r})
from cluster_tasks import Item, square
from xairt.runs.cluster import connected
if __name__ == "__main__":
    with connected("local:2") as executor:
        for result in executor.map(square, [Item(i, sys.argv[1], 0.3) for i in range(1000)]):
            print(result, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_program_leaves_no_process_behind(tmp_path, how):
    script, marks = tmp_path / "busy.py", tmp_path / "marks"
    script.write_text(BUSY.format(tests=str(TESTS)), encoding="utf-8")
    marks.mkdir()
    program = subprocess.Popen(
        [sys.executable, str(script), str(marks)],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True},
        env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
    )
    assert [program.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
    assert len(session(program.pid)) >= 3
    if how == signal.SIGINT:
        os.killpg(program.pid, how)  # a terminal sends it to all processes
    else:
        program.send_signal(how)
    _, errors = program.communicate(timeout=30)
    assert program.returncode == -how
    assert errors.count("Traceback") == (how == signal.SIGINT)
    until = time.monotonic() + 10
    while session(program.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert session(program.pid) == []


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("__DASK")}


def test_the_environment_here_stays_as_it_was():
    before = environment()
    with connected("local:1") as found:
        assert environment() == before
        os.kill(*found.client.run(os.getpid).values(), signal.SIGKILL)
        assert list(found.map(tasks.variable, ["TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"])) == ["1", "1"]
    assert environment() == before


# ---------------------------------------------------------------------------------------- conditions


def test_workers_get_what_they_need_before_tensorflow_is_loaded(foreign, monkeypatch):
    monkeypatch.setenv("XAIRT_LEGACY_PYTHON", "/opt/old/python")
    monkeypatch.delenv("XAIRT_CACHE_DIR", raising=False)
    with connected(foreign) as found:
        names = ["TF_NUM_INTRAOP_THREADS", "XAIRT_LEGACY_PYTHON", "XAIRT_CACHE_DIR"]
        assert list(found.map(tasks.variable, names)) == ["1", "/opt/old/python", None]


@pytest.mark.parametrize("package", ["xairt", "tensorflow", "numpy"])
def test_workers_with_another_version_are_refused(foreign, monkeypatch, package):
    known = cluster.installed
    monkeypatch.setattr(cluster, "installed", lambda name: "0.0" if name == package else known(name))
    with (
        pytest.raises(
            EngineError, match=rf"dask worker on .*: {package} is [\d.]+, but 0.0 here, so numbers"
        ),
        connected(foreign),
    ):
        pass


def test_workers_that_loaded_tensorflow_with_other_threads_are_refused(foreign):
    from distributed import Client

    with Client(foreign, set_as_default=False) as client:
        client.run(tasks.load_tensorflow, None)
    with (
        pytest.raises(
            EngineError, match=r"loaded there without TF_NUM_INTRAOP_THREADS=1.*restart the workers"
        ),
        connected(foreign),
    ):
        pass


def test_other_processors_are_told(foreign, monkeypatch, caplog, tmp_path):
    caplog.set_level("WARNING")
    with connected(foreign):
        assert caplog.text == ""
    other = tmp_path / "cpuinfo"
    other.write_text("processor : 0\nflags : fpu avx1024 fma4\n", encoding="utf-8")
    monkeypatch.setattr(cluster, "Path", lambda path: other)
    assert cluster.vector_instructions() == ("avx1024", "fma4")
    with connected(foreign):
        assert f"{foreign}: processors differ from this one's kind" in caplog.text


def test_a_scheduler_without_workers_is_told(caplog):
    with (
        LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as found,
        connected(found.scheduler_address),
    ):
        assert "has no workers yet; blocks wait for them" in caplog.text


def test_a_server_that_is_no_scheduler_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with (
            pytest.raises(EngineError, match=f"^{address}: no dask scheduler answers"),
            connected(address, timeout=1),
        ):
            pass


def test_a_scheduler_that_is_gone_is_told():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as found,
        connected(found.scheduler_address) as there,
    ):
        results = there.map(tasks.square, [Item(i, seconds=0.2) for i in range(9)])
        assert next(results) == 0
        found.close()
        with pytest.raises(ClusterError, match=r"^the dask scheduler is gone; start it and run again"):
            list(results)
        with pytest.raises(ClusterError, match=r"^the dask scheduler is gone; start it and run again"):
            list(there.map(tasks.square, [Item(1)]))


# ------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("given", [None, "3"])
@pytest.mark.parametrize("where", [None, "local:1"])
def test_tensorflow_gets_one_number_of_threads_everywhere(monkeypatch, where, given):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if given:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", given)
    with executor(where) as found:
        assert list(found.map(tasks.variable, ["TF_NUM_INTRAOP_THREADS"])) == [given or "1"]
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == given


SERIAL = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np
from test_cluster import BLOCKS
from cluster_tasks import explained
from xairt.runs.cluster import executor
with executor(None) as here:
    np.savez(sys.argv[1], *here.map(explained, BLOCKS))
"""

METHODS = ("lrp.epsilon", "smoothgrad(augment_by_n=4)")
BLOCKS = [Explained(method, first, first + 80) for method in METHODS for first in (0, 80)]


def test_attributions_are_those_of_a_serial_run(two_workers, tmp_path):
    path, code = tmp_path / "serial.npz", SERIAL.format(tests=str(TESTS))
    subprocess.run([sys.executable, "-c", code, path], cwd=TESTS.parent, check=True)
    with np.load(path) as serial:
        for i, there in enumerate(two_workers.map(tasks.explained, BLOCKS)):
            assert np.abs(there).max() > 0
            np.testing.assert_array_equal(there, serial[f"arr_{i}"])


RUN = """
import os, signal, sys
from pathlib import Path
from xairt.benchmarks.sstanom import BENCHMARK
from xairt.runs import execute, explanations
from xairt.runs.cluster import executor

explanations.block_size = lambda explainer: 64

class KillsAWorker:
    def __init__(self, cluster):
        self.cluster, self.n_results = cluster, 0

    def map(self, task, items):
        for result in self.cluster.map(task, items):
            self.n_results += 1
            if self.n_results == 4:
                os.kill(next(iter(self.cluster.client.run(os.getpid).values())), signal.SIGKILL)
                print("killed")
            yield result

if __name__ == "__main__":
    folder, where = Path(sys.argv[1]), sys.argv[2] or None
    chosen = {"n_samples": 1200, "test_share": 0.5, "epochs": 1, "linear_epochs": 1, "n_explained": 600}
    chosen |= {"methods": ["lrp.epsilon", "smoothgrad(augment_by_n=4)", "shap.deep", "random"]}
    settings = BENCHMARK.configured(chosen, "quick")
    with executor(where) as found:
        stages = ("generate", "train", "explain", "score") if where is None else ("explain", "score")
        for stage in stages:
            done = execute(BENCHMARK, settings, folder, only=stage,
                           executor=found if where is None else KillsAWorker(found))
            assert not done.failed, done.failed
"""


def run_in_new_python(script: Path, folder: Path, where: str) -> str:
    command = [sys.executable, script, folder, where]
    return subprocess.run(command, cwd=TESTS.parent, check=True, capture_output=True, text=True).stdout


def test_a_run_in_which_a_worker_is_killed_equals_a_serial_run(tmp_path):
    script, serial, killed = tmp_path / "run.py", tmp_path / "serial", tmp_path / "killed"
    script.write_text(RUN, encoding="utf-8")
    run_in_new_python(script, serial, "")
    shutil.copytree(serial, killed)
    (attributions,) = killed.glob("cases/*/attributions")
    names = sorted(path.name for path in attributions.glob("*.nc"))
    assert len(names) == 5
    shutil.rmtree(attributions)  # as if they had not been made
    assert "killed" in run_in_new_python(script, killed, "local:2")
    for name in names:
        counterpart = serial / attributions.relative_to(killed) / name
        with xr.open_dataset(attributions / name) as there, xr.open_dataset(counterpart) as here:
            xr.testing.assert_equal(there, here)
    scores = [pd.read_csv(folder / "scores.csv").drop(columns="seconds") for folder in (serial, killed)]
    pd.testing.assert_frame_equal(*scores)


def test_an_engine_in_a_worker_process_ends_with_the_dask_worker():
    block = Explained("lrp.z", 0, 20, engine="innvestigate")
    with connected("local:1") as found:
        ((there, processes),) = found.map(tasks.explained_by_another_package, [block])
        assert len(processes) == 1
        assert Path(f"/proc/{processes[0]}").exists()
    assert np.abs(there).max() > 0
    assert not Path(f"/proc/{processes[0]}").exists()
