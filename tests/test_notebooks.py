"""The notebooks run from top to bottom, with archived data and without."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SECONDS_PER_CELL = 300
READING_ARCHIVES = [
    p for p in NOTEBOOKS if re.search("cobe_correlation|mamalakis2022-", p.read_text("utf-8"))
]


@pytest.mark.parametrize(
    ("path", "archived"),
    [(p, True) for p in READING_ARCHIVES] + [(p, False) for p in NOTEBOOKS],
    ids=[f"archived-{p.stem}" for p in READING_ARCHIVES] + [f"embedded-{p.stem}" for p in NOTEBOOKS],
)
def test_notebook_runs(path, archived, request, monkeypatch, tmp_path):
    if archived:
        request.getfixturevalue("data_dir")
    else:
        monkeypatch.delenv("XAIRT_DATA_DIR", raising=False)
    monkeypatch.setenv("XAIRT_CACHE_DIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "stored without outputs"
    client = NotebookClient(
        notebook, timeout=SECONDS_PER_CELL, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    figures = [
        o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    assert len(figures) >= 2
