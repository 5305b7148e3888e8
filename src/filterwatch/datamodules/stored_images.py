"""Images as they are stored: in memory, or in files decoded one by one."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from filterwatch.datamodules.preprocessing import resize

_CHUNK = 256  # most files that a thread decodes before it reports
_MANY_BYTES = 200_000_000  # of compressed files: some seconds on a few cores


class ImageSource(Protocol):
    """Images by row number, as stored: uint8, neither resized to a network nor normalised."""

    def __len__(self) -> int:
        """Return how many images there are."""

    def read(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows`` (int64 ``[B]``), uint8 ``[B, C, H, W]``."""


@dataclass(frozen=True, eq=False)
class MemoryImages:
    """Images kept in memory, uint8 ``[N, C, H, W]``."""

    images: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows`` (int64 ``[B]``), uint8 ``[B, C, H, W]``."""
        return self.images[rows]


@dataclass(frozen=True, eq=False)
class FileImages:
    """Image files, decoded each time they are asked for (by the loader's workers).

    Attributes:
        paths: The N files, in any format that Pillow reads.
        size: Side in pixels to resize to; None keeps each file's own size.
        grayscale: Whether to decode to one channel instead of three.
    """

    paths: Sequence[str]
    size: int | None
    grayscale: bool

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows`` (int64 ``[B]``), uint8 ``[B, C, H, W]``.

        Raises:
            ValueError: A file is no readable image, or the files differ in size and no size to
                resize to was given.
        """
        first, *others = rows.tolist()
        image = self.decode(first)
        return torch.stack([image, *(self.decode_like(image, first, row) for row in others)])

    def decode(self, row: int) -> Tensor:
        """Decode one file to uint8 ``[C, H, W]``."""
        path = self.paths[row]
        try:
            with Image.open(path) as file:
                pixels = np.array(file.convert("L" if self.grayscale else "RGB"))
        except (OSError, SyntaxError) as error:
            raise ValueError(
                f"{path} cannot be decoded as an image ({error}): repair or remove it"
            ) from error
        image = torch.from_numpy(pixels)
        image = image[None] if self.grayscale else image.permute(2, 0, 1)
        return image if self.size is None else resize(image, self.size)

    def decode_like(self, first: Tensor, first_row: int, row: int) -> Tensor:
        """Decode one file, and raise `MixedSizesError` unless it has the size of another."""
        image = self.decode(row)
        if image.shape != first.shape:
            (first_height, first_width), (height, width) = first.shape[1:], image.shape[1:]
            raise MixedSizesError(
                f"{self.paths[first_row]} has {first_width}x{first_height} pixels and "
                f"{self.paths[row]} {width}x{height}: "
                "pass image_size to bring all images to one size"
            )
        return image


class MixedSizesError(ValueError):
    """Files that should share one size do not."""


def open_images(
    paths: Sequence[str], size: int | None, grayscale: bool, max_memory_bytes: int
) -> MemoryImages | FileImages:
    """Decode image files into memory where they fit, else leave them to be decoded when read.

    Files that share one size below ``size`` are kept as they are, to be enlarged batch by batch;
    all others are kept resized. Nothing is written to disk.

    Args:
        paths: At least one file.
        size: Side in pixels that the network takes; None keeps the files' own, common size.
        grayscale: Whether to decode to one channel instead of three.
        max_memory_bytes: Budget of the decoded images, one byte a channel of a pixel.

    Raises:
        ValueError: A file is no readable image, or the files differ in size and ``size`` is None.
    """
    as_stored, resized = FileImages(paths, None, grayscale), FileImages(paths, size, grayscale)
    channels, height, width = as_stored.decode(0).shape
    # Tried in this order: the files' own size, if it is the smaller; then the network's.
    own_size_first = size is None or min(height, width) <= size
    for files in (as_stored, resized) if own_size_first else (resized,):
        pixels = height * width if files.size is None else files.size**2
        if len(paths) * channels * pixels > max_memory_bytes:
            break
        try:
            return MemoryImages(_decode_all(files))
        except MixedSizesError:
            if size is None:
                raise
    return resized


def _decode_all(files: FileImages) -> Tensor:
    """Decode every file in parallel threads to uint8 ``[N, C, H, W]``, with a progress bar."""
    paths = files.paths
    first = files.decode(0)
    images = torch.empty((len(paths), *first.shape), dtype=torch.uint8)

    def decode(rows: range) -> None:
        for row in rows:
            images[row] = files.decode_like(first, 0, row)

    chunk = max(1, min(_CHUNK, len(paths) // 50))
    chunks = [range(start, min(start + chunk, len(paths))) for start in range(0, len(paths), chunk)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # Leaving map's iterator, also by an error, cancels the chunks that have not begun.
        progress = track(
            pool.map(decode, chunks),
            total=len(chunks),
            description=f"Decoding {len(paths):,} images into memory",
            console=Console(stderr=True),
            transient=True,
            disable=not _shows_progress(paths),
        )
        for _ in progress:
            pass
    return images


def _shows_progress(paths: Sequence[str]) -> bool:
    """Return whether decoding takes long enough for a bar, and somebody watches."""
    watched = sys.stderr.isatty() and not os.environ.get("CI")
    if not watched or getattr(rank_zero_only, "rank", 0) != 0:
        return False
    return len(paths) >= 10_000 or sum(map(os.path.getsize, paths)) > _MANY_BYTES
