"""The figures of a run: shares of the channels by method, scores by method and network, and learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xairt.benchmarks.chaos_audio.scoring import CHANCE, SAMPLE_SCORES, SHARE, shares_from_word
from xairt.benchmarks.chaos_media.figures import learning_curves, method_radar
from xairt.benchmarks.chaos_media.stages import DATA
from xairt.benchmarks.smerf.figures import Bar, bars
from xairt.data.files import read_array, read_dataset
from xairt.runs import Case, Run
from xairt.runs.scores import short_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORD, OTHERS = "channel of the word", "other channels"
COLOURS = {WORD: "tab:green", OTHERS: "0.7"}


def figures(run: Run, output: Path) -> None:
    """Draw the figures of a run over all cases that were scored.

    Writes ``channels-<case>.png`` (share of each channel by method) for each case, ``methods.png`` (share of the
    word's channel by method, all cases) and ``learning.png``.

    Parameters
    ----------
    run : Run
    output : Path
        Folder of the figures.
    """
    from xairt.plots.style import save_figure

    scored = set(run.scores["case"])
    cases = [case for name, case in run.cases.items() if name in scored]
    radar = method_radar(run.scores, SHARE, "share of the word's channel", CHANCE)
    save_figure(radar, output / "methods.png", run.config.dpi)
    save_figure(learning_curves(cases), output / "learning.png", run.config.dpi)
    for case in cases:
        save_figure(channel_bars(case), output / f"channels-{case.name}.png", run.config.dpi)


def channel_bars(case: Case) -> Figure:
    """Draw the mean share of each channel, with its standard deviation over sounds, a panel for each method.

    Parameters
    ----------
    case : Case
        Scored.

    Returns
    -------
    matplotlib.figure.Figure
        The channel of the word first, the others by their distance from it, counted on from channel 9 to 0.
    """
    scores = read_dataset(case.read(SAMPLE_SCORES))
    position = read_array(case.read(DATA), "position").values
    names = short_names(str(label) for label in scores["label"].values)
    panels: dict[str, Mapping[str, Mapping[str, Bar]]] = {}
    for label, name in names.items():
        shares = shares_from_word(scores["share_by_channel"].sel(label=label).values, position)
        known = shares[np.isfinite(shares).all(axis=1)]
        mean = known.mean(axis=0) if len(known) else np.full(shares.shape[1], np.nan)
        sd = known.std(axis=0, ddof=1) if len(known) > 1 else np.zeros(shares.shape[1])
        heights = {f"+{k}" if k else "word": Bar(*pair) for k, pair in enumerate(zip(mean, sd, strict=True))}
        panels[name] = {WORD: {"word": heights.pop("word")}, OTHERS: heights}
    return bars(panels, COLOURS, columns=min(2, len(panels)), ylabel="share")
