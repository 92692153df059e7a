"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

GOLDEN = Path(__file__).parent / "data" / "golden"


LONGEST = ("test_notebooks.py", "test_cluster.py")
"""Files that take minutes: they come first, so that no process is left alone with one at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder with the numbers that the original packages computed."""
    return GOLDEN


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of archived third-party files, named by XAIRT_DATA_DIR."""
    folder = os.environ.get("XAIRT_DATA_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("XAIRT_DATA_DIR does not name a folder of archived data")
    return Path(folder)


@pytest.fixture(scope="module")
def run_eagerly():
    """Run TensorFlow functions without compiling them: quicker where each is called once."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder; `{}` stands for the test module's `folder` of files."""
    from xairt import cli

    monkeypatch.chdir(tmp_path)

    def execute(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit, match=r"\d+|None|^$") as stopped:
            cli.main(shlex.split(line.replace("{}", str(folder))))
        output = capsys.readouterr()
        return int(stopped.value.code or 0), output.out, output.err

    return execute
