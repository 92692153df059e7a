"""The demonstration's summary: one HTML file that needs nothing else."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pandas as pd

from xairt.data.files import atomic_write
from xairt.runs.report.page import document, grid, picture
from xairt.runs.report.tables import Cell, Column, Row, Table, number

EXPLANATION = """
The output of the synthetic task is a sum over ocean cells of known piecewise-linear functions, so the
contribution of every cell to every output is known. Each attribution is correlated with it over the ocean
cells of each map. The gradient is a slope, not a contribution: it is compared with both. Random numbers show
what no method should score below.
"""


def write_page(
    path: Path,
    facts: dict[str, str],
    scores: pd.DataFrame,
    figures: list[tuple[str, str]],
    identities: dict[str, Any],
) -> Path:
    """Write the summary page with its figures inside, atomically.

    Parameters
    ----------
    path : Path
        File to write; the figures lie in its folder.
    facts : dict
        What was done, one row each.
    scores : pandas.DataFrame
        Table of correlations, indexed by method.
    figures : list of (file name, caption)
        PNG files to embed.
    identities : dict
        Label of each method: everything its result depends on.

    Returns
    -------
    Path
    """
    rows = tuple(Row((Cell(name), Cell(value))) for name, value in facts.items())
    forms = "".join(
        f"<li><code>{html.escape(identity['form'])}</code></li>" for identity in identities.values()
    )
    body = f"""<h1>xairt demonstration</h1>
{grid(Table("What was done", (Column("what"), Column("value")), rows))}
<h2>Correlation of attribution and truth</h2>
<p>{EXPLANATION}</p>
{grid(_table(scores))}
{"".join(_figure(path.parent / name, caption) for name, caption in figures)}
<h2>Methods</h2>
<p>Each method in full; <code>attributions.nc</code> holds the same with baseline, seed and the model's sha256.</p>
<ul>{forms}</ul>
"""
    with atomic_write(path) as temporary:
        temporary.write_text(document("xairt demonstration", body), encoding="utf-8")
    return path


def _table(scores: pd.DataFrame) -> Table:
    """Return the correlations as a table: texts as they are, numbers with two digits."""
    full = scores.reset_index()
    numeric = [pd.api.types.is_numeric_dtype(full[name]) for name in full]
    columns = tuple(Column(str(name), numeric=n) for name, n in zip(full, numeric, strict=True))
    rows = tuple(
        Row(
            tuple(
                number(v, "{:.2f}".format) if n else Cell(str(v)) for v, n in zip(row, numeric, strict=True)
            )
        )
        for row in full.itertuples(index=False)
    )
    return Table("Correlation of attribution and truth", columns, rows)


def _figure(path: Path, caption: str) -> str:
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="{picture(path)}"><figcaption>{text}</figcaption></figure>'
