"""The figures of a run: scores by method, examples with the true and the found box, and learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.chaos_media.figures import learning_curves, method_radar
from xairt.benchmarks.chaos_media.stages import DATA
from xairt.benchmarks.chaos_vision.backgrounds import IMAGE_SIDE
from xairt.benchmarks.chaos_vision.images import IMAGE
from xairt.benchmarks.chaos_vision.scoring import IOU, IOU_PUBLISHED, SAMPLE_SCORES
from xairt.benchmarks.chaos_vision.stages import explain
from xairt.benchmarks.smerf.figures import Bar, bars
from xairt.data.files import read_array, read_dataset
from xairt.metrics import blurred_magnitude
from xairt.runs import Case, Run
from xairt.runs.scores import short_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUE_COLOUR, FOUND_COLOUR = "tab:green", "tab:red"

SERIES_COLOURS = {"definition": "tab:blue", "as published": "0.7"}
_METRICS = {"definition": IOU, "as published": IOU_PUBLISHED}

_GAP = 16


class Tile(NamedTuple):
    """A picture (224, 224, 3) or a map (224, 224) from 0 to 1, a line above it, and boxes by their colours."""

    picture: NDArray[np.floating]
    boxes: Sequence[tuple[NDArray[np.integer], str]] = ()
    text: str = ""


def figures(run: Run, output: Path) -> None:
    """Draw the figures of a run over all cases that were scored.

    Writes ``scores.png`` (intersection over union by method, a panel for each case), ``methods.png`` (the same of all
    cases, a spoke for each method), ``learning.png`` and for each case ``examples-<case>.png``.

    Parameters
    ----------
    run : Run
    output : Path
        Folder of the figures.
    """
    from xairt.plots.style import save_figure

    scored = set(run.scores["case"])
    cases = [case for name, case in run.cases.items() if name in scored]
    if not cases:
        return
    save_figure(score_bars(run.scores), output / "scores.png", run.config.dpi)
    radar = method_radar(run.scores, IOU, "intersection over union")
    save_figure(radar, output / "methods.png", run.config.dpi)
    save_figure(learning_curves(cases), output / "learning.png", run.config.dpi)
    for case in cases:
        figure = example_grid(case, run.config.shown_images)
        save_figure(figure, output / f"examples-{case.name}.png", run.config.dpi)


def score_bars(scores: pd.DataFrame) -> Figure:
    """Draw the mean intersection over union by method, and its standard deviation over images.

    Parameters
    ----------
    scores : pandas.DataFrame
        Of a run.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each case.
    """
    panels = {}
    for case, own in scores[scores["metric"].isin(_METRICS.values())].groupby("case", sort=False):
        names = short_names(own["label"].unique())
        tables = {
            m: rows.pivot(index="label", columns="statistic", values="value")
            for m, rows in own.groupby("metric")
        }
        panels[str(case)] = {
            title: {
                name: Bar(tables[metric]["mean"][label], tables[metric]["sd"].fillna(0)[label])
                for label, name in names.items()
            }
            for title, metric in _METRICS.items()
        }
    columns = min(2, len(panels))
    figure = bars(panels, SERIES_COLOURS, columns=columns, ylabel="intersection over union", top=1.0)
    figure.set_size_inches(5.5 * columns, 0.5 + 3.0 * -(-len(panels) // columns))
    return figure


def example_grid(case: Case, count: int) -> Figure:
    """Draw explained images, and their blurred attribution by every method.

    Parameters
    ----------
    case : Case
        Scored.
    count : int
        Images, from the first one on.

    Returns
    -------
    matplotlib.figure.Figure
        Maps from the smallest (dark) to the largest magnitude of each. The foreground is framed green, the box found
        red; the number above is their intersection over union.
    """
    rows = slice(0, min(count, case.config.n_explained))
    titles = list(short_names(explanation.name for explanation in explain(case)).values())
    return _mosaic(_tiles(case, rows), ["image", *titles])


def _tiles(case: Case, rows: slice) -> list[list[Tile]]:
    data, scores = case.read(DATA), read_dataset(case.read(SAMPLE_SCORES)).isel(sample=rows)
    pictures, boxes = (read_array(data, name, select={"sample": rows}).values for name in (IMAGE, "box"))
    lines = [[Tile((x + 1) / 2, [(box, TRUE_COLOUR)])] for x, box in zip(pictures, boxes, strict=True)]
    for explanation in explain(case):
        own = scores.sel(label=explanation.name)
        values = read_array(case.read(explanation.file), "attribution", select={"sample": rows}).values
        planes = blurred_magnitude(np.nan_to_num(values), case.config.sigma)
        for k, (line, plane) in enumerate(zip(lines, planes, strict=True)):
            raised = plane - plane.min()
            framed = [(boxes[k], TRUE_COLOUR), (own["found_box"].values[k], FOUND_COLOUR)]
            line.append(Tile(raised / (raised.max() or 1.0), framed, f"{float(own[IOU][k]):.2f}"))
    return lines


def _mosaic(lines: Sequence[Sequence[Tile]], columns: Sequence[str]) -> Figure:
    """Draw tiles as one picture, which takes a tenth of the time of as many axes."""
    from matplotlib import colormaps

    from xairt.plots.style import TICK_SIZE, new_figure

    step = IMAGE_SIDE + _GAP
    canvas = np.ones((step * len(lines), step * len(columns), 3))
    figure = new_figure()
    figure.set_size_inches(0.6 + 1.2 * len(columns), 0.9 + 1.2 * len(lines))
    ax = figure.add_subplot()
    for i, line in enumerate(lines):
        for j, tile in enumerate(line):
            top, left = i * step + _GAP, j * step
            colours = tile.picture if tile.picture.ndim == 3 else colormaps["magma"](tile.picture)[..., :3]
            canvas[top : top + IMAGE_SIDE, left : left + IMAGE_SIDE] = colours
            ax.text(left, top - 3, tile.text, fontsize=TICK_SIZE - 2, va="bottom")
            _frame(ax, tile, top, left)
    ax.imshow(canvas, interpolation="nearest")
    ax.set_xticks(IMAGE_SIDE / 2 + step * np.arange(len(columns)), columns, fontsize=TICK_SIZE)
    ax.set_yticks([])
    ax.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    ax.set_frame_on(False)
    return figure


def _frame(ax: Axes, tile: Tile, top: int, left: int) -> None:
    from matplotlib.patches import Rectangle

    for (row0, row1, col0, col1), colour in tile.boxes:
        corner = (left + col0 - 0.5, top + row0 - 0.5)
        ax.add_patch(Rectangle(corner, col1 - col0, row1 - row0, fill=False, edgecolor=colour, linewidth=0.9))
