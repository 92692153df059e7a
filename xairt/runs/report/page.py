"""The page: one HTML file that needs nothing else, no network and no second file."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from xairt._version import __version__
from xairt.data.files import atomic_write
from xairt.data.provenance import utc_time
from xairt.errors import DataError
from xairt.runs.report import content
from xairt.runs.report.facts import Facts, names, read
from xairt.runs.report.findings import FAIL, findings
from xairt.runs.report.tables import MISSING, Table
from xairt.runs.runner import Run

LARGEST_WIDTH = 1600
"""Pixels; wider figures are scaled down."""


def write_report(runs: Sequence[Run], path: str | os.PathLike[str]) -> Path:
    """Write what runs of one benchmark did and found as one self-contained HTML file, atomically.

    Every file that a run's manifest knows is checked by its hash; the arrays of attributions are not read.

    Parameters
    ----------
    runs : sequence of Run
        Several stand side by side.
    path : file to write or replace

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If there is no run, one is given twice, they are of different benchmarks, or the file cannot be
        written.
    """
    if not runs:
        raise DataError("report: no run given; name at least one folder")
    facts = [read(run, name) for run, name in zip(runs, names(runs), strict=True)]
    content.check_comparable(facts)
    benchmark = runs[0].benchmark
    body = _environment().get_template("report.html").render(_context(facts))
    with atomic_write(path) as temporary:
        temporary.write_text(document(f"{benchmark.title}: report", body), encoding="utf-8")
    return Path(path)


def document(title: str, body: str) -> str:
    """Return a whole page: its body in xairt's style, with tables that can be sorted.

    A browser that opens it loads nothing else and runs no other script: the page's own policy forbids it.

    Parameters
    ----------
    title : str
        Text of the window.
    body : str
        HTML, in which all text has been escaped.
    """
    style, script = _resource("style.css"), _resource("tables.js")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    return (
        _environment()
        .get_template("document.html")
        .render(
            title=title,
            body=body,
            style=style,
            script=script,
            policy=policy,
            version=__version__,
            time=utc_time(),
        )
    )


def grid(table: Table) -> str:
    """Return the HTML of a table, in a box of its own that scrolls where the page is narrow."""
    return str(_environment().get_template("tables.html").module.grid(table))


def picture(path: Path) -> str:
    """Return a PNG file as a data URI; one wider than `LARGEST_WIDTH` is scaled down.

    Raises
    ------
    DataError
        If the file is no picture.
    """
    from PIL import Image

    try:
        content_bytes = path.read_bytes()
        with Image.open(io.BytesIO(content_bytes)) as image:
            if image.width > LARGEST_WIDTH:
                height = max(1, round(image.height * LARGEST_WIDTH / image.width))
                colours = image.convert("RGBA" if image.has_transparency_data else "RGB")
                kept = io.BytesIO()
                colours.resize((LARGEST_WIDTH, height), Image.Resampling.LANCZOS).save(kept, "PNG")
                content_bytes = kept.getvalue()
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no picture ({type(error).__name__}); draw it again") from None
    return f"data:image/png;base64,{base64.b64encode(content_bytes).decode('ascii')}"


def _context(runs: Sequence[Facts]) -> dict[str, Any]:
    """Return what the template shows."""
    benchmark = runs[0].run.benchmark
    found = findings(runs)
    return {
        "benchmark": benchmark,
        "findings": found,
        "failures": sum(f.severity == FAIL for f in found),
        "several": len(runs) > 1,
        "abouts": [content.about(facts) for facts in runs],
        "differing": content.differing_settings(runs) if len(runs) > 1 else None,
        "leaderboards": content.leaderboards(runs),
        "networks": content.networks(runs),
        "runs": [_of_run(facts) for facts in runs],
        "figures": [_figure(file, paths) for file, paths in content.figures(runs).items()],
        "versions": content.versions(runs),
        "citations": content.citations(benchmark),
        "citation_file": content.citation_file(),
    }


def _of_run(facts: Facts) -> dict[str, Any]:
    stages, steps = content.timing(facts)
    return {
        "name": facts.name,
        "scores": content.case_scores(facts),
        "attributions": content.attributions(facts),
        "stages": stages,
        "steps": steps,
    }


def _figure(file: str, paths: Mapping[str, Path | None]) -> dict[str, Any]:
    """Return what the template shows of one figure of all runs."""
    shown = []
    for run, path in paths.items():
        try:
            shown.append({"run": run, "source": picture(path) if path else "", "error": MISSING})
        except DataError as error:
            shown.append({"run": run, "source": "", "error": str(error)})
    return {"caption": content.caption(file), "shown": shown}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("xairt.runs.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["segments"] = _segments
    return environment


def _segments(text: str) -> list[str]:
    """Return a text in parts that a browser may break it into: behind the dots, underscores and slashes of names.

    A file keeps its ending.
    """
    return re.split(r"(?<=[_/])(?=[^\W\d_])|(?<=\.)(?=[^\W\d_]{4})", text)


def _resource(name: str) -> str:
    return files("xairt.runs.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode('ascii')}'"
