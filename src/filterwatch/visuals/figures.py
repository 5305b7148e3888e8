"""What every figure shares: colours, type, and rendering without pyplot."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

# M. Okabe and K. Ito's set, told apart by colour-blind eyes; without the yellow, too faint on
# white, and the black, which is for type and rings.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
INK = "#1f2328"
FAINT = "#6b7280"
GRID = "#e5e7eb"
# Opaque, so that a figure looks the same on a light page and on a dark one.
PAPER = "#ffffff"
DPI = 100
MARGIN = 0.2  # inches

_STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5"
    "text.hinting": "none",  # a fifth of the time that a figure takes
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.limits": (-3, 4),
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the project's style, whatever the user's own settings are; these come back after."""
    defaults = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(("backend", "interactive", "toolbar", "date."))
    }
    style: Any = {**defaults, **_STYLE}  # its own type would be one of 300 literal names
    with matplotlib.rc_context(style):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches, at `DPI` pixels an inch, known to nobody else."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def render(figure: Figure) -> Pixels:
    """Return a figure's pixels [H, W, 3]; the figure keeps no copy of them."""
    with drawing(), warnings.catch_warnings():
        # A class name in a script that the font lacks shows as boxes, and is no reason to warn.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels: Pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    # Figure, canvas and axes refer to each other, so they live on until the collector comes.
    # Without the renderer's buffer, which is most of their memory, that may take its time.
    del canvas.renderer
    return pixels


def draw_heading(figure: Figure, heading: str, lines: str, color: str = FAINT) -> None:
    """Write a heading and lines of smaller type below it into a figure's upper left corner."""
    width, height = figure.get_size_inches()
    x = MARGIN / width
    figure.text(x, 1 - 0.25 / height, heading, fontsize=11, fontweight="bold", va="center")
    figure.text(x, 1 - 0.42 / height, lines, fontsize=8.5, color=color, va="top", linespacing=1.35)


def shortened(text: str, length: int) -> str:
    """Cut a text that is longer than so many characters, with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"
