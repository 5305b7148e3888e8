"""All images of a probe as one picture, to be cut up in the page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
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
    side = math.ceil(min(images.side, _side_that_fits(n_images)) / _BLOCK) * _BLOCK
    side = max(_BLOCK, min(side, _LARGEST_SHEET // columns))
    budget = _SHEET_BYTES * max(n_images / 1000, 1)
    while True:
        sheet = Image.fromarray(_drawn(images, side, columns))
        for quality in _QUALITIES:
            encoded = _encoded(sheet, quality)
            if len(encoded) <= budget:
                break
        if len(encoded) <= budget or side <= _BLOCK:
            uri = f"data:image/webp;base64,{encoded}"
            return SpriteSheet(uri, side, columns, math.ceil(n_images / columns))
        side = max(_BLOCK, side - _BLOCK)


def _side_that_fits(n_images: int) -> int:
    """Return a side that keeps the sheet within some megabytes."""
    return 64 if n_images <= 2000 else 48 if n_images <= 5000 else 32


def _drawn(images: PageImages, side: int, columns: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    n_images = len(images.files)
    sheet = np.zeros((math.ceil(n_images / columns) * side, columns * side, 3), np.uint8)
    for rows in torch.arange(n_images).split(_AT_ONCE):
        cells = images.thumbnails(rows, side).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        for position, pixels in zip(rows.tolist(), cells, strict=True):
            top, left = position // columns * side, position % columns * side
            sheet[top : top + side, left : left + side] = pixels
    return sheet


def _encoded(sheet: Image.Image, quality: int) -> str:
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=quality, method=4)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
