"""All images of a probe as one picture, to be cut up in the page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

_BLOCK = 16  # lossy compression works on blocks of this side: cells of whole blocks do not mix
_LARGEST_SHEET = 16383  # pixels a side that WebP can hold
_AT_ONCE = 256
# Of the picture of up to 1,000 images, in proportion for more. Photographs take 1.8 million.
_SHEET_BYTES = 2_000_000
_QUALITIES = (75, 50)  # of the WebP compression, tried in this order


@dataclass(frozen=True)
class PageImages:
    """The images of a probe as a page shows them."""

    files: list[str]
    labels: list[int] | None
    class_names: list[str]  # in the order of the labels
    thumbnails: Callable[[Tensor, int], Tensor]  # rows [B] and a side to uint8 [B, C, side, side]
    side: int = 64  # in pixels; beyond it a thumbnail shows no more


@dataclass(frozen=True)
class SpriteSheet:
    """Thumbnails in rows, left to right and top to bottom."""

    data_uri: str  # the WebP picture
    side: int  # of a thumbnail, in pixels
    columns: int
    rows: int


def sprite_sheet(images: PageImages) -> SpriteSheet:
    """Draw thumbnails of up to 64 pixels a side.

    They are smaller in probes of many thousands, and where the images have so much detail that the
    picture would take too many bytes.
    """
    n_images = len(images.files)
    columns = math.ceil(math.sqrt(n_images))
    blocks = math.ceil(min(images.side, _side_that_fits(n_images)) / _BLOCK)
    blocks = max(1, min(blocks, _LARGEST_SHEET // columns // _BLOCK))
    budget = _SHEET_BYTES * max(n_images / 1000, 1)
    for side in range(blocks * _BLOCK, 0, -_BLOCK):
        encoded = _encoded(_drawn(images, side, columns), budget)
        if len(encoded) <= budget:
            break
    uri = f"data:image/webp;base64,{encoded}"
    return SpriteSheet(uri, side, columns, math.ceil(n_images / columns))


def _side_that_fits(n_images: int) -> int:
    """Return a side that keeps the sheet within some megabytes."""
    return 64 if n_images <= 2000 else 48 if n_images <= 5000 else 32


def _drawn(images: PageImages, side: int, columns: int) -> Image.Image:
    n_images = len(images.files)
    n_rows = math.ceil(n_images / columns)
    cells = torch.zeros(n_rows * columns, 3, side, side, dtype=torch.uint8)
    for some in torch.arange(n_images).split(_AT_ONCE):
        cells[some] = images.thumbnails(some, side)
    lines = cells.view(n_rows, columns, 3, side, side).permute(0, 3, 1, 4, 2)
    return Image.fromarray(lines.reshape(n_rows * side, columns * side, 3).numpy())


def _encoded(sheet: Image.Image, budget: float) -> str:
    """Return the picture in the first quality that keeps within a budget, else in the last."""
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        sheet.save(buffer, "WEBP", quality=quality, method=4)
        encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
        if len(encoded) <= budget:
            break
    return encoded
