"""The demonstration's summary: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any

import pandas as pd

from xairt._version import __version__
from xairt.data.files import atomic_write
from xairt.data.provenance import utc_time

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child, td:nth-child(2) { text-align: left; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #555; }
code { font-size: .85em; overflow-wrap: anywhere; }
"""

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
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
    forms = "".join(
        f"<li><code>{html.escape(identity['form'])}</code></li>" for identity in identities.values()
    )
    body = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>xairt demonstration</title><style>{STYLE}</style></head><body>
<h1>xairt demonstration</h1>
<table>{rows}</table>
<h2>Correlation of attribution and truth</h2>
<p>{EXPLANATION}</p>
{scores.reset_index().to_html(index=False, border=0, float_format="{:.2f}".format)}
{"".join(_figure(path.parent / name, caption) for name, caption in figures)}
<h2>Methods</h2>
<p>Each method in full; <code>attributions.nc</code> holds the same with baseline, seed and the model's sha256.</p>
<ul>{forms}</ul>
<p>xairt {__version__}, {utc_time()}</p>
</body></html>
"""
    with atomic_write(path) as temporary:
        temporary.write_text(body, encoding="utf-8")
    return path


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
