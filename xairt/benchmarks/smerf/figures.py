"""The figures of a run: scores by method, by bucket and by background, examples, and the two further tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xairt.benchmarks.smerf.placing import SIDE
from xairt.benchmarks.smerf.rules import OBJECTS, setting_of
from xairt.benchmarks.smerf.scoring import ADDED, added_shares, bucket_table, fullest_bucket, reduction_of
from xairt.benchmarks.smerf.settings import reasoning_of
from xairt.benchmarks.smerf.stages import DATA, IMAGE, explain
from xairt.data.files import read_array
from xairt.metrics.localisation import ROLES, saliency_plane
from xairt.runs import Case, Run
from xairt.runs.scores import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWN_METRICS = {"iou": "IOU", "afl": "AFL", "mafl": "MAFL"}
ROLE_COLOURS = {"primary": "tab:green", "secondary": "tab:red"}

_GAP = 6


class Bar(NamedTuple):
    """Height of a bar, and its spread."""

    mean: float
    sd: float


Bars = Mapping[str, Mapping[str, Mapping[str, Bar]]]
"""Title of a panel -> series (one colour) -> category -> bar."""


class Tile(NamedTuple):
    """A picture (64, 64, 3) or a map (64, 64) from 0 to 1, and boxes by their colours."""

    picture: NDArray[np.floating]
    boxes: Sequence[tuple[NDArray[np.integer], str]] = ()


def figures(run: Run, output: Path) -> None:
    """Draw the figures of a run over all cases that were scored.

    Writes for each background and kind of training ``scores-...png`` (IOU, AFL and MAFL, primary beside secondary,
    simple and complex settings apart) and ``identity-...png`` (one image under several settings); for each case
    ``buckets-...png``, ``examples-...png`` and ``added-...png``; and ``backgrounds-...png`` where there are several.

    Parameters
    ----------
    run : Run
    output : Path
        Folder of the figures.
    """
    from xairt.plots.style import save_figure

    scored = set(run.scores["case"])
    cases = [case for name, case in run.cases.items() if name in scored]
    drawn: dict[str, Callable[[], Figure]] = {}
    for name, alike in _grouped(cases, "background", "training", "network").items():
        drawn[f"scores-{name}"] = partial(score_bars, alike)
        if len(identity_cases(alike)) > 1:
            drawn[f"identity-{name}"] = partial(identity_grid, alike, run.config.shown_image)
    for name, alike in _grouped(cases, "training", "network").items():
        if len({case.config.background for case in alike}) > 1:
            drawn[f"backgrounds-{name}"] = partial(background_bars, alike)
    for case in cases:
        drawn[f"buckets-{case.name}"] = partial(bucket_bars, case)
        drawn[f"examples-{case.name}"] = partial(example_grid, case, run.config.shown_image)
        if (case.folder / ADDED).exists():
            drawn[f"added-{case.name}"] = partial(added_curves, case)
    for name, draw in drawn.items():
        save_figure(draw(), output / f"{name}.png", run.config.dpi)


def pooled_scores(cases: Iterable[Case]) -> pd.DataFrame:
    """Return the scores of all buckets of several cases.

    Returns
    -------
    pandas.DataFrame
        Columns of ``bucket_scores.csv`` and ``case``, ``setting``, ``background``, ``reasoning`` ("simple" or
        "complex"); ``mean`` is NaN where a bucket has no such object.
    """
    tables = [
        bucket_table(case).assign(
            case=case.name,
            setting=case.config.setting,
            background=case.config.background,
            reasoning=reasoning_of(case.config.setting),
        )
        for case in cases
    ]
    return pd.concat(tables, ignore_index=True)


def score_bars(cases: Sequence[Case]) -> Figure:
    """Draw the mean scores by method, primary beside secondary, and their standard deviation over buckets.

    Parameters
    ----------
    cases : sequence of Case
        Scored cases; their buckets are pooled, of simple and of complex settings apart.

    Returns
    -------
    matplotlib.figure.Figure
    """
    scores = pooled_scores(cases)
    panels = {
        f"{title}, {reasoning} reasoning": _role_bars(rows[rows["metric"] == metric])
        for metric, title in DRAWN_METRICS.items()
        for reasoning, rows in scores.groupby("reasoning", sort=False)
    }
    columns = scores["reasoning"].nunique()
    figure = bars(panels, ROLE_COLOURS, columns=columns)
    for start in range(0, len(panels), columns):  # simple beside complex on one scale
        row = figure.axes[start : start + columns]
        highest = max(ax.get_ylim()[1] for ax in row)
        for ax in row:
            ax.set_ylim(0, highest)
    return figure


def bucket_bars(case: Case) -> Figure:
    """Draw the IOU of each bucket by method, primary beside secondary; a panel for each bucket."""
    scores = bucket_table(case)
    iou = scores[scores["metric"] == "iou"]
    panels = {str(bucket): _role_bars(rows) for bucket, rows in iou.groupby("bucket", sort=False)}
    return bars(panels, ROLE_COLOURS, columns=2, ylabel="IOU", top=1.0)


def background_bars(cases: Sequence[Case]) -> Figure:
    """Draw the IOU of primary and secondary objects by method, a colour for each background."""
    scores = pooled_scores(cases)
    iou = scores[scores["metric"] == "iou"]
    reasonings = " and ".join(scores["reasoning"].unique())
    panels = {
        f"IOU, {role}, {reasonings} reasoning": {
            str(background): _bars(of_background)
            for background, of_background in iou[iou["role"] == role].groupby("background", sort=False)
        }
        for role in ROLES
    }
    names = list(dict.fromkeys(chain.from_iterable(panels.values())))
    return bars(panels, {name: f"C{k}" for k, name in enumerate(names)}, columns=1)


def bars(
    panels: Bars, colours: Mapping[str, str], *, columns: int, ylabel: str = "score", top: float | None = None
) -> Figure:
    """Draw bars side by side with their spread, one panel for each title.

    Parameters
    ----------
    panels : mapping
        See `Bars`; NaN leaves a gap.
    colours : mapping
        Colour of each series.
    columns : int
        Panels in a row.
    ylabel : str
    top : float, optional
        End of the y axis; by default where the highest bar of the panel asks for it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from xairt.plots.distributions import panels_for
    from xairt.plots.style import LABEL_SIZE, TICK_SIZE

    figure, axes = panels_for(list(panels), columns, (5.2, 1.8))
    width = 0.8 / len(colours)
    found = chain.from_iterable(series.values() for series in panels.values())
    categories = list(dict.fromkeys(chain.from_iterable(found)))
    for number, (ax, series) in enumerate(zip(axes, panels.values(), strict=True)):
        for k, (name, heights) in enumerate(series.items()):
            places = [categories.index(c) + (k - (len(series) - 1) / 2) * width for c in heights]
            mean, sd = np.array(list(heights.values()), np.float64).T
            ax.bar(places, mean, width, color=colours[name], label=name)
            ax.vlines(places, mean - sd, mean + sd, color="0.2", linewidth=0.7)
        lowest = number >= len(axes) - columns
        shown = categories if lowest else [""] * len(categories)
        ax.set_xticks(range(len(categories)), shown, rotation=60, ha="right", fontsize=TICK_SIZE)
        ax.set_xlim(-0.6, len(categories) - 0.4)
        ax.set_ylim(0, top)
        ax.set_ylabel(ylabel, fontsize=LABEL_SIZE)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper right", ncol=len(colours), fontsize=TICK_SIZE, frameon=False
    )
    return figure


def example_grid(case: Case, position: int = 0) -> Figure:
    """Draw one image of each bucket, and its map by every method.

    Parameters
    ----------
    case : Case
    position : int
        Of the image in its bucket; the last one where there are fewer.

    Returns
    -------
    matplotlib.figure.Figure
        Maps from the smallest (dark) to the largest value of each. Primary objects are framed green, secondary
        ones red.
    """
    rows, labels = position_rows(case, position), _bucket_names(case)
    return _mosaic(_tiles(case, rows), labels, ["image", *_titles(case)])


def identity_cases(cases: Sequence[Case]) -> list[Case]:
    """Return the cases, one for each setting, that hold the images of a bucket in common."""
    shared = fullest_bucket(cases[0].config.setting)
    return [case for case in cases if shared in _bucket_names(case)]


def identity_grid(cases: Sequence[Case], position: int = 0) -> Figure:
    """Draw the maps of the same image by the networks of several settings (identity test).

    Parameters
    ----------
    cases : sequence of Case
        Of one background; those without the bucket with the most objects of the first are left out.
    position : int
        Of the image in its bucket.

    Returns
    -------
    matplotlib.figure.Figure
        As `example_grid`, a row for each setting.
    """
    shared = fullest_bucket(cases[0].config.setting)
    chosen = identity_cases(cases)
    lines = []
    for case in chosen:
        row = position_rows(case, position)[_bucket_names(case).index(shared)]
        lines += _tiles(case, [row])
    return _mosaic(lines, [case.config.setting for case in chosen], ["image", *_titles(chosen[0])])


def added_curves(case: Case) -> Figure:
    """Draw the share of attribution in each object's box as objects are added; a panel for each method."""
    from xairt.plots.distributions import Curve, curves

    found = added_shares(case)
    steps = np.arange(found.sizes["step"])
    panels = {}
    for label in found["label"].values:
        share = found["share"].sel(label=label)
        low, high = (share.mean("sample") + sign * share.std("sample") for sign in (-1, 1))
        panels[str(label)] = {
            f"in the box of the {name}": Curve(
                steps, *(part.sel(object=name).values for part in (share.mean("sample"), low, high))
            )
            for name in OBJECTS
            if share.sel(object=name).notnull().any()
        }
    added = [str(name) for name in found["step"].values]
    return curves(panels, xlabel="last object added", ylabel="AFL, mean and sd", names=added)


def position_rows(case: Case, position: int) -> list[int]:
    """Return the index of one image of each bucket, in the order of the buckets."""
    bucket = read_array(case.read(DATA), "bucket").values
    rows = [np.flatnonzero(bucket == index) for index in range(len(_bucket_names(case)))]
    return [int(own[min(position, len(own) - 1)]) for own in rows]


def _bucket_names(case: Case) -> list[str]:
    return [bucket.name for bucket in setting_of(case.config.setting).buckets]


def _grouped(cases: Iterable[Case], *names: str) -> dict[str, list[Case]]:
    """Return cases by the values of settings; each network that is published for its setting is "published"."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        known = dict(case.config)
        if known["network"] == reasoning_of(known["setting"]):
            known["network"] = "published"
        found.setdefault("-".join(str(known[name]) for name in names), []).append(case)
    return found


def _role_bars(rows: pd.DataFrame) -> dict[str, dict[str, Bar]]:
    return {role: _bars(rows[rows["role"] == role]) for role in ROLES}


def _bars(rows: pd.DataFrame) -> dict[str, Bar]:
    """Return mean and standard deviation over buckets by method."""
    names = short_names(rows["label"].unique())
    return {
        names[label]: Bar(own["mean"].mean(), own["mean"].std(ddof=0))
        for label, own in rows.groupby("label", sort=False)
    }


def _titles(case: Case) -> list[str]:
    return list(short_names(explanation.name for explanation in explain(case)).values())


def _tiles(case: Case, rows: Sequence[int]) -> list[list[Tile]]:
    """Return the pictures of images, and their maps by every method, with the boxes of their objects."""
    data = case.read(DATA)
    pictures, boxes, *masks = (read_array(data, name).values[rows] for name in (IMAGE, "box", *ROLES))
    lines = [[Tile(picture)] for picture in pictures]
    framed = [
        [(box[k], ROLE_COLOURS[r]) for r, m in zip(ROLES, own, strict=True) for k in np.flatnonzero(m)]
        for box, *own in zip(boxes, *masks, strict=True)
    ]
    for explanation in explain(case):
        values = read_array(case.read(explanation.file), "attribution").values[rows]
        planes = saliency_plane(
            np.nan_to_num(values), reduction_of(case.config.reduction, explanation.method)
        )
        for line, plane, frames in zip(lines, planes, framed, strict=True):
            raised = plane - plane.min()
            line.append(Tile(raised / (raised.max() or 1.0), frames))
    return lines


def _mosaic(lines: Sequence[Sequence[Tile]], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Draw tiles as one picture, which takes a tenth of the time of as many axes."""
    from matplotlib import colormaps

    from xairt.plots.style import TICK_SIZE, new_figure

    step = SIDE + _GAP
    canvas = np.ones((step * len(rows), step * len(columns), 3))
    figure = new_figure()
    figure.set_size_inches(1.2 + 0.75 * len(columns), 1.2 + 0.75 * len(rows))
    ax = figure.add_subplot()
    for i, line in enumerate(lines):
        for j, tile in enumerate(line):
            colours = tile.picture if tile.picture.ndim == 3 else colormaps["magma"](tile.picture)[..., :3]
            canvas[i * step : i * step + SIDE, j * step : j * step + SIDE] = colours
            _frame(ax, tile, i * step, j * step)
    ax.imshow(canvas, interpolation="nearest")
    middle = SIDE / 2
    ax.set_xticks(
        middle + step * np.arange(len(columns)), columns, rotation=60, ha="left", fontsize=TICK_SIZE
    )
    ax.set_yticks(middle + step * np.arange(len(rows)), rows, fontsize=TICK_SIZE)
    ax.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    ax.set_frame_on(False)
    return figure


def _frame(ax: Axes, tile: Tile, top: int, left: int) -> None:
    from matplotlib.patches import Rectangle

    for (row0, row1, col0, col1), colour in tile.boxes:
        corner = (left + col0 - 0.5, top + row0 - 0.5)
        ax.add_patch(Rectangle(corner, col1 - col0, row1 - row0, fill=False, edgecolor=colour, linewidth=0.7))
