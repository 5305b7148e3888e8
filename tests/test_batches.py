"""Images are found in whatever a DataLoader yields."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from filterwatch.batches import find_images

IMAGES = torch.rand(5, 3, 4, 4)
LABELS = torch.arange(5)
MASKS = torch.zeros(5, 1, 4, 4)

Pair = namedtuple("Pair", ["label", "image"])


@dataclass
class Batch:
    label: Tensor
    pixels: Tensor


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        (IMAGES, LABELS),
        [LABELS, IMAGES],
        {"label": LABELS, "image": IMAGES},
        {"label": LABELS, "anything": IMAGES},
        {"heat": MASKS, "pixel_values": IMAGES},  # the usual names go first
        {"meta": {"mask": MASKS}, "x": IMAGES},
        ((LABELS, {"inputs": IMAGES}), "name"),
        {"image": {"left": IMAGES}},
        Pair(LABELS, IMAGES),
        Batch(LABELS, IMAGES),
        [None, "name", b"bytes", 3, IMAGES],
    ],
)
def test_found(batch: Any) -> None:
    assert find_images(batch) is IMAGES or torch.equal(find_images(batch), IMAGES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_point_precision(dtype: torch.dtype) -> None:
    assert find_images([IMAGES.to(dtype)]).dtype == dtype


@pytest.mark.parametrize(
    ("batch", "described"),
    [
        (LABELS, r"torch.int64 tensor \[5\]"),
        ((255 * IMAGES).to(torch.uint8), r"torch.uint8 tensor \[5, 3, 4, 4\]"),
        (
            [IMAGES[0], LABELS],
            r"list\(torch.float32 tensor \[3, 4, 4\], torch.int64 tensor \[5\]\)",
        ),
        ({"x": LABELS, "name": "a"}, r"\{'x': torch.int64 tensor \[5\], 'name': str\}"),
        ((1, 2, 3, 4, 5, 6), r"tuple\(int, int, int, int, …\)"),
        (np.zeros((5, 3, 4, 4)), "ndarray"),
        (None, "NoneType"),
        ("image", "str"),
    ],
)
def test_what_was_found_instead_is_described(batch: Any, described: str) -> None:
    with pytest.raises(ValueError, match=rf"in a batch of {described}: convert the images to"):
        find_images(batch)
