"""Images in rows, each with a caption below: one artist for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from filterwatch.visuals.figures import DPI, INK, Pixels

# Of captions, in points: type, and from one line to the next.
_TYPE, _LINE = 7.5, 8.8
_GAP = 0.04  # inches between an image and its caption


class Tiles(Artist):
    """Images and captions; as artists of their own they would take most of a figure's time.

    All lengths are in inches.

    Args:
        images: Pixels [h, w, 3] each.
        captions: Text for each image; may have several lines.
        left: Distance of the first image from the figure's left edge.
        top: Distance of the first image from the figure's upper edge.
        columns: Images in a row.
        side: Length of an image's longer side.
        pitch: Distance from one image to the next, across and down.
    """

    def __init__(
        self,
        images: Sequence[Pixels],
        captions: Sequence[str],
        *,
        left: float,
        top: float,
        columns: int,
        side: float,
        pitch: tuple[float, float],
    ) -> None:
        super().__init__()
        self.images = list(images)
        self.captions = list(captions)
        self._left, self._top = left, top
        self._columns = columns
        self._side = side
        self._pitch = pitch

    def draw(self, renderer: RendererBase) -> None:
        """Draw the images and write the captions."""
        graphics = renderer.new_gc()
        _, height = renderer.get_canvas_width_height()
        for position, (image, caption) in enumerate(zip(self.images, self.captions, strict=True)):
            row, column = divmod(position, self._columns)
            middle = (self._left + column * self._pitch[0] + self._side / 2) * DPI
            bottom = height - (self._top + row * self._pitch[1] + self._side) * DPI
            scaled = _scaled(image, round(self._side * DPI))
            above = (self._side * DPI - scaled.shape[0]) / 2
            _paint(renderer, graphics, scaled, middle, bottom + above)
            if caption:
                written = _written(caption)
                under = bottom - _GAP * DPI - written.shape[0]
                _paint(renderer, graphics, written, middle, under)
        graphics.restore()


def _paint(
    renderer: RendererBase, graphics: object, pixels: Pixels, middle: float, bottom: float
) -> None:
    """Paint pixels [h, w, 3 or 4] around a middle, above a lower edge, both in pixels."""
    if pixels.shape[2] == 3:
        opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
        pixels = np.concatenate([pixels, opaque], 2)
    left = round(middle - pixels.shape[1] / 2)
    renderer.draw_image(graphics, left, round(bottom), pixels[::-1])  # type: ignore[arg-type]


def _scaled(image: Pixels, side: int) -> Pixels:
    """Bring an image's longer side to so many pixels; small ones keep their pixels visible."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize(size, method))


def _written(text: str) -> Pixels:
    """Return centred lines as pixels [h, w, 4]."""
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
