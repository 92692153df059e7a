"""Sizes of figures for print, figures that notebooks show, and saving."""

from __future__ import annotations

import os
import re
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


_BETWEEN_WORDS = re.compile(r"(?<=[\s(,])(?!\))")
_INSIDE_WORDS = re.compile(r"(?<=[_=])|(?<=\.)(?!\d)")


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


def wrap_label(text: str, width: int) -> str:
    """Break a title or a method label into lines, where a reader would.

    Lines end after a space, a comma or an opening bracket; a part that is longer than a line ends after an
    underscore, an equals sign or a dot, and only where it has none of these, inside a word.

    Parameters
    ----------
    text
        The text; its own line breaks stay.
    width
        Characters of a line, at least 1.

    Examples
    --------
    >>> print(wrap_label("lrp.alpha_beta(bias='ignore', alpha=1.0, beta=0.0)", 24))
    lrp.alpha_beta(
    bias='ignore',
    alpha=1.0, beta=0.0)
    >>> print(wrap_label("lrp.sequential_preset_a_flat", 24))
    lrp.sequential_preset_a_
    flat
    """
    lines = []
    for line in text.splitlines():
        row = ""
        for piece in (part for word in _BETWEEN_WORDS.split(line) for part in _fitting(word, width)):
            if row and len((row + piece).rstrip()) > width:
                lines.append(row.rstrip())
                row = piece.lstrip()
            else:
                row += piece
        lines.append(row.rstrip())
    return "\n".join(lines)


def _fitting(word: str, width: int) -> list[str]:
    """Return the word in parts that fit a line."""
    if len(word) <= width:
        return [word]
    parts = _INSIDE_WORDS.split(word)
    return [part[i : i + width] for part in parts for i in range(0, len(part), width)]


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = SAVE_DPI) -> Path:
    """Write a figure atomically, in the format that the suffix names (png, pdf, svg, ...).

    Parameters
    ----------
    figure : Figure
    path : file to write or replace
    dpi : int
        Resolution of pixels, dots per inch.

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
        figure.savefig(temporary, dpi=dpi)
    return target
