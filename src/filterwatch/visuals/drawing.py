"""What every figure shares: colors, type, rows of images, and rendering without pyplot."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

# M. Okabe and K. Ito's set, told apart by color-blind eyes; without the yellow, too faint on
# white, and the black, which is for type and rings.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
INK = "#1f2328"
FAINT = "#6b7280"
GRID = "#e5e7eb"
# Opaque, so that a figure looks the same on a light page and on a dark one.
PAPER = "#ffffff"
_EDGE = 200  # gray of the edge round an image
DPI = 100
MARGIN = 0.2  # inches

# Of captions, in points: type, and from one line to the next.
_TYPE, _LINE = 7.5, 8.8
_GAP = 0.04  # inches between an image and its caption

_STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5"
    "text.hinting": "none",  # a fifth of the time that a figure takes
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
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
    with style.context(["default", _STYLE]):
        yield


class InlineFigure(Figure):
    """A figure that a notebook shows, though pyplot, which would see to it, does not know it."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches, at `DPI` pixels an inch, known to nobody else."""
    figure = InlineFigure(figsize=(width, height), dpi=DPI)
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


def note_figure(heading: str, lines: str) -> Figure:
    """Return a figure that says why there is nothing to draw."""
    with drawing():
        figure = new_figure(8.6, 0.8)
        draw_heading(figure, heading, lines)
    return figure


def shortened(text: str, length: int) -> str:
    """Cut a text that is longer than so many characters, with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


class Grid(NamedTuple):
    """Where images are in a figure, in inches from its left and its upper edge."""

    left: float
    top: float
    columns: int
    side: float  # the longer one of an image
    pitch: tuple[float, float]  # from one image to the next, across and down


class Tiles(Artist):
    """Images [h, w, 3] with captions of several lines; artists of their own would be slow."""

    def __init__(self, images: Sequence[Pixels], captions: Sequence[str], grid: Grid) -> None:
        super().__init__()
        self.images = list(images)
        self.captions = list(captions)
        self._grid = grid

    def draw(self, renderer: RendererBase) -> None:
        """Draw the images and write the captions."""
        graphics, grid = renderer.new_gc(), self._grid
        _, height = renderer.get_canvas_width_height()
        for position, (image, caption) in enumerate(zip(self.images, self.captions, strict=True)):
            row, column = divmod(position, grid.columns)
            middle = (grid.left + column * grid.pitch[0] + grid.side / 2) * DPI
            bottom = height - (grid.top + row * grid.pitch[1] + grid.side) * DPI
            scaled = _scaled(image, round(grid.side * DPI))
            above = (grid.side * DPI - scaled.shape[0]) / 2
            _paint(renderer, graphics, _framed(scaled), middle, bottom + above)
            if caption:
                written = _written(caption)
                under = bottom - _GAP * DPI - written.shape[0]
                _paint(renderer, graphics, written, middle, under)
        graphics.restore()


def _framed(pixels: Pixels) -> Pixels:
    """Return an image [h, w, 4] with an edge: a white one is an image, too."""
    framed = np.full_like(pixels, _EDGE)
    framed[1:-1, 1:-1] = pixels[1:-1, 1:-1]
    framed[..., 3] = 255
    return framed


def _paint(
    renderer: RendererBase, graphics: object, pixels: Pixels, middle: float, bottom: float
) -> None:
    """Paint pixels [h, w, 4] around a middle, above a lower edge, both in pixels."""
    left = round(middle - pixels.shape[1] / 2)
    renderer.draw_image(graphics, left, round(bottom), pixels[::-1])  # type: ignore[arg-type]


def _scaled(image: Pixels, side: int) -> Pixels:
    """Bring an image's longer side to so many pixels; small ones keep their pixels visible."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize(size, method).convert("RGBA"))


def _written(text: str) -> Pixels:
    """Return centered lines as pixels [h, w, 4]."""
    font, lines = _font(), text.split("\n")
    widths = [font.getlength(line) for line in lines]
    size, pitch = _TYPE * DPI / 72, _LINE * DPI / 72
    area = (max(1, math.ceil(max(widths))), math.ceil(pitch * len(lines)))
    mask = Image.new("L", area)
    pen = ImageDraw.Draw(mask)
    for number, (line, width) in enumerate(zip(lines, widths, strict=True)):
        # "ls": from the left end of the baseline; what hangs below it has the room between lines.
        pen.text(((area[0] - width) / 2, number * pitch + 0.9 * size), line, 255, font, anchor="ls")
    pixels = np.empty((area[1], area[0], 4), np.uint8)
    pixels[..., :3] = np.round(255 * np.array(to_rgb(INK)))
    pixels[..., 3] = np.asarray(mask)
    return pixels


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    path = findfont(FontProperties(family="DejaVu Sans"))  # comes with matplotlib, which uses it
    return ImageFont.truetype(path, _TYPE * DPI / 72, layout_engine=ImageFont.Layout.BASIC)
