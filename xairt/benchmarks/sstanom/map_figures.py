"""Maps of a case: samples, slopes of the known function, attributions beside the truth, composites."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xairt.benchmarks.sstanom.archive import SHOWN_IN_THE_PAPER
from xairt.benchmarks.sstanom.generation import PRETRAINED
from xairt.benchmarks.sstanom.stages import DATA, explain, grid_of, vectors
from xairt.data.files import read_array
from xairt.runs import Case, Explanation

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

MOST_MAPS = 4
COLUMNS = 3
LEAST_OF_COMPOSITES = 20
"""Explained samples below which no composites are drawn: two for each decile."""

SIGNIFICANT_Z = 1.96
"""Magnitude of z beyond which a composite differs from the mean of all at the 5 % level."""

_BLOCK = 4096
_PANEL_WIDTH = 3.6


def attribution_maps(case: Case) -> Figure:
    """Draw true contribution and attributions of the shown samples of a case, with r in the titles.

    Parameters
    ----------
    case : Case
        With data and attributions.

    Returns
    -------
    matplotlib.figure.Figure
        Of the archive also the two samples of the paper's figures 3 and 4, where they were explained.
    """
    from xairt.plots.maps import maps

    chosen = _shown(case)
    first, last = chosen[0].first, chosen[0].last
    positions = [i for i in shown_positions(case) if first <= i < last] or [first]
    attributions = {e.name: _samples(case, e.file, "attribution", positions, e.first) for e in chosen}
    truth = _samples(case, DATA, "truth", positions, 0)
    attributions = {name: found.assign_coords(sample=truth["sample"]) for name, found in attributions.items()}
    title = f"{case.name}: true contribution of each ocean cell, attributions, and r between them"
    if case.config.network == PRETRAINED and case.config.source != "archive":
        title += " (cells of the archived network approximated)"
    return maps(attributions, truth, samples=range(len(positions)), share="panel", title=title)


def sample_maps(case: Case) -> Figure:
    """Draw the shown samples of a case, with the output of the known function in the titles.

    Parameters
    ----------
    case : Case
        With data.

    Returns
    -------
    matplotlib.figure.Figure
    """
    positions = shown_positions(case)
    x = _samples(case, DATA, "x", positions, 0)
    outputs = read_array(case.read(DATA), "y").values
    titles = [f"sample {i + _archived_before(case)}, y = {outputs[i]:.3g}" for i in positions]
    return _panels(
        dict(zip(titles, x, strict=True)), f"{case.name}: standardised SST anomaly of test samples"
    )


def slope_maps(case: Case) -> Figure:
    """Draw the slope of every piece of the known function.

    Parameters
    ----------
    case : Case
        With data.

    Returns
    -------
    matplotlib.figure.Figure
        Pieces from that of the lowest anomalies to that of the highest.
    """
    slopes = read_array(case.read(DATA), "piece_slopes")
    names = {0: " (lowest anomalies)", len(slopes) - 1: " (highest anomalies)"} if len(slopes) > 1 else {}
    titled = {f"piece {k + 1} of {len(slopes)}{names.get(k, '')}": part for k, part in enumerate(slopes)}
    found = {name: part.assign_attrs(long_name="slope") for name, part in titled.items()}
    return _panels(
        found, f"{case.name}: slope of each piece of the known function, divided by the number of cells"
    )


def composites(case: Case) -> Figure:
    """Draw means over the explained samples of the lowest and the highest decile of the output.

    Parameters
    ----------
    case : Case
        With data and attributions.

    Returns
    -------
    matplotlib.figure.Figure
        Of anomaly, true contribution and shown attributions; dots where the mean differs significantly from
        that of all, see `composite`.
    """
    from cartopy.crs import PlateCarree

    from xairt.plots.maps import maps

    data, chosen = case.read(DATA), _shown(case)
    first, last, grid = chosen[0].first, chosen[0].last, grid_of(data)
    members = deciles(read_array(data, "y", select={"sample": slice(first, last)}).values)
    sources = {"anomaly": (DATA, "x", first), "true contribution": (DATA, "truth", first)}
    sources |= {e.name: (e.file, "attribution", 0) for e in chosen}
    found = {
        name: composite(_blocks(case, file, variable, begin, last - first), members)
        for name, (file, variable, begin) in sources.items()
    }
    fields = {name: _labelled(case, mean) for name, (mean, _) in found.items()}
    count = int(members[0].sum())
    title = (
        f"{case.name}: mean of {count} samples of each outer decile of y; dots where |z| > {SIGNIFICANT_Z}"
    )
    figure = maps(fields, samples=(0, 1), share="column", robust=95, title=title)
    lat, lon = np.meshgrid(grid.lat, grid.lon, indexing="ij")
    for decile in range(2):
        for column, (_, z) in enumerate(found.values()):
            dots = grid.to_map(np.abs(z[decile])) > SIGNIFICANT_Z
            ax = figure.axes[decile * len(found) + column]
            ax.scatter(lon[dots], lat[dots], s=0.8, color="black", linewidths=0, transform=PlateCarree())
    return figure


def deciles(y: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return which samples are in the lowest and which in the highest decile of y, (2, samples)."""
    count = max(1, round(len(y) / 10))
    order = np.argsort(y, kind="stable")
    members = np.zeros((2, len(y)), bool)
    members[0, order[:count]] = True
    members[1, order[-count:]] = True
    return members


def composite(
    blocks: Iterable[NDArray[np.floating]], members: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return means of groups of samples, and how far they are from the mean of all.

    Parameters
    ----------
    blocks : iterable of numpy.ndarray
        (samples, cells), one block after the other; values that are not finite are left out.
    members : numpy.ndarray
        (groups, samples) booleans.

    Returns
    -------
    mean : numpy.ndarray
        (groups, cells).
    z : numpy.ndarray
        (groups, cells): (mean of the group - mean of all) / (standard deviation of all / sqrt(n of the group)).

    References
    ----------
    Mamalakis, Ebert-Uphoff and Barnes (2022), doi:10.1017/eds.2022.7.
    """
    groups = np.vstack([np.ones(members.shape[1], bool), members])
    counts, sums, squares, at = 0.0, 0.0, 0.0, 0
    for block in blocks:
        values = np.asarray(block, np.float64)
        there = np.isfinite(values)
        values = np.where(there, values, 0.0)
        part = groups[:, at : at + len(values)].astype(np.float64)
        counts, sums = counts + part @ there, sums + part @ values
        squares, at = squares + (values**2).sum(axis=0), at + len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts
        deviation = np.sqrt(np.maximum(squares / counts[0] - means[0] ** 2, 0.0))
        return means[1:], (means[1:] - means[0]) / (deviation / np.sqrt(counts[1:]))


def n_explained(case: Case) -> int:
    """Return how many samples of a case were explained."""
    first = explain(case)[0]
    return first.last - first.first


def shown_positions(case: Case) -> list[int]:
    """Return places in the data of the samples to be shown: those of the setting, then the paper's, of an archive."""
    first = explain(case)[0].first
    chosen = [first + i for i in case.config.shown_samples if first + i < case.config.n_samples] or [first]
    if case.config.source == "archive":
        before = _archived_before(case)
        chosen += [i - before for i in SHOWN_IN_THE_PAPER if 0 <= i - before < case.config.n_samples]
    return list(dict.fromkeys(chosen))


def _archived_before(case: Case) -> int:
    """Return how many samples the archive has before the first one of the case."""
    return case.config.first_sample


def _shown(case: Case) -> list[Explanation]:
    explanations = {e.name: e for e in explain(case)}
    shown = [name for name in case.config.shown_methods if name in explanations]
    return [explanations[name] for name in shown or list(explanations)[:MOST_MAPS]]


def _samples(case: Case, file: str, variable: str, positions: list[int], first: int) -> xr.DataArray:
    """Read maps at places in the data from a file that begins at the first one, labelled by their number."""
    import xarray as xr

    path = case.read(file)
    found = [
        read_array(path, variable, select={"sample": slice(i - first, i - first + 1)}) for i in positions
    ]
    return xr.concat(found, "sample").assign_coords(sample=[i + _archived_before(case) for i in positions])


def _blocks(case: Case, file: str, variable: str, first: int, count: int) -> Iterator[NDArray[np.floating]]:
    """Yield vectors block by block."""
    path, grid = case.read(file), grid_of(case.read(DATA))
    for start in range(first, first + count, _BLOCK):
        yield vectors(path, variable, grid, start, min(start + _BLOCK, first + count))


def _labelled(case: Case, means: NDArray[np.float64]) -> xr.DataArray:
    import xarray as xr

    found = grid_of(case.read(DATA)).to_map(xr.DataArray(means, dims=("y", "cell")))
    rows = ["in its lowest decile", "in its highest decile"]
    return found.assign_coords(y=rows).assign_attrs(long_name="mean", units="1")


def _panels(fields: dict[str, xr.DataArray], title: str) -> Figure:
    """Draw maps of one quantity with one colour scale, some in a row."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    from xairt.plots.maps import map as draw_map
    from xairt.plots.projections import resolve_projection
    from xairt.plots.style import LABEL_SIZE, TICK_SIZE, TITLE_SIZE, new_figure

    columns = min(COLUMNS, len(fields))
    rows = -(-len(fields) // columns)
    figure = new_figure()
    figure.set_size_inches(max(4.5, _PANEL_WIDTH * columns), 2.2 * rows + 1.0)
    largest = max(float(np.abs(part).max()) for part in fields.values())
    axes = []
    for place, (name, part) in enumerate(fields.items()):
        projection = resolve_projection("Robinson", None, part["lon"].values)
        ax = figure.add_subplot(rows, columns, place + 1, projection=projection)
        draw_map(part, ax=ax, vlim=(-largest, largest), colorbar=False, title=name)
        axes.append(ax)
    scale = ScalarMappable(Normalize(-largest, largest), "RdBu_r")
    bar = figure.colorbar(scale, ax=axes, location="bottom", shrink=0.5, aspect=40)
    bar.set_label(str(part.attrs.get("long_name", "")), fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    figure.suptitle(title, fontsize=TITLE_SIZE + 1)
    return figure
