"""Sizes of figures for print, figures that notebooks show, and saving."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from xairt.data.files import atomic_write
from xairt.errors import DataError

TITLE_SIZE = 9
LABEL_SIZE = 8
TICK_SIZE = 7
COAST_WIDTH = 0.4
SAVE_DPI = 200
CHARACTERS_PER_INCH = 12
"""How much text of `TITLE_SIZE` fits; longer text is wrapped."""


class MapFigure(Figure):
    """Figure outside pyplot (nothing to close, no global state) that a notebook shows as a picture."""

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


def new_figure() -> MapFigure:
    """Return an empty figure that keeps titles, labels and colour bars apart (constrained layout)."""
    figure = MapFigure(layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.08)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure atomically, in the format that the suffix names (png, pdf, svg, ...).

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    DataError
        If the suffix is not a format of matplotlib, or the file cannot be written.
    """
    target = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if target.suffix.lower().lstrip(".") not in formats:
        raise DataError(
            f"{target}: '{target.suffix}' is not a figure format; use one of {', '.join(formats)}"
        )
    with atomic_write(target) as temporary:
        figure.savefig(temporary, dpi=SAVE_DPI)
    return target
