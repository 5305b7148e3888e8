"""Where images are read from: memory, or files decoded one by one."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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


class MemoryImages:
    """Images kept in memory, decoded once.

    Args:
        images: uint8 ``[N, C, H, W]``.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows`` (int64 ``[B]``), uint8 ``[B, C, H, W]``."""
        return self.images[rows]


class FileImages:
    """Image files, decoded each time they are asked for (by the loader's workers).

    Args:
        paths: The N files.
        size: Side in pixels to resize to; None keeps each file's own size.
        grayscale: Whether to decode to one channel instead of three.
    """

    def __init__(self, paths: Sequence[str], size: int | None, grayscale: bool) -> None:
        self.paths = paths
        self.size = size
        self.grayscale = grayscale

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows`` (int64 ``[B]``), uint8 ``[B, C, H, W]``.

        Raises:
            ValueError: A file is no readable image, or the files differ in size and no size to
                resize to was given.
        """
        paths = [self.paths[row] for row in rows.tolist()]
        images = [decode_image(path, self.size, self.grayscale) for path in paths]
        for path, image in zip(paths, images, strict=True):
            if image.shape != images[0].shape:
                raise ValueError(_mixed_sizes_message(paths[0], images[0], path, image))
        return torch.stack(images)


def decode_image(path: str, size: int | None, grayscale: bool) -> Tensor:
    """Decode one image file.

    Args:
        path: The file, in any format that Pillow reads.
        size: Side in pixels to resize to (:func:`~filterwatch.datamodules.preprocessing.resize`);
            None keeps the file's own size.
        grayscale: Whether to decode to one channel instead of three.

    Returns:
        uint8 ``[C, H, W]``.

    Raises:
        ValueError: The file is no readable image.
    """
    try:
        with Image.open(path) as file:
            pixels = np.array(file.convert("L" if grayscale else "RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} cannot be decoded as an image ({error}): repair or remove it"
        ) from error
    image = torch.from_numpy(pixels)
    image = image[None] if grayscale else image.permute(2, 0, 1)
    return image if size is None else resize(image, size)


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

    Returns:
        The images, row for row as in ``paths``.

    Raises:
        ValueError: A file is no readable image, or the files differ in size and ``size`` is None.
    """
    lazy = FileImages(paths, size, grayscale)
    height, width = decode_image(paths[0], None, grayscale).shape[1:]
    channels = 1 if grayscale else 3
    # Tried in this order: the files' own size, if it is the smaller; then the network's.
    own_size_first = size is None or min(height, width) <= size
    for stored_size in (None, size) if own_size_first else (size,):
        pixels = height * width if stored_size is None else stored_size**2
        if len(paths) * channels * pixels > max_memory_bytes:
            return lazy
        try:
            return MemoryImages(_decode_all(FileImages(paths, stored_size, grayscale)))
        except _MixedSizesError:
            if size is None:
                raise
    return lazy


class _MixedSizesError(ValueError):
    """Files that should share one size do not."""


def _decode_all(files: FileImages) -> Tensor:
    """Decode every file in parallel threads, reporting progress on the first process.

    Returns:
        uint8 ``[N, C, H, W]``.

    Raises:
        _MixedSizesError: A file has another size than the first one.
    """
    paths = files.paths
    first = decode_image(paths[0], files.size, files.grayscale)
    images = torch.empty((len(paths), *first.shape), dtype=torch.uint8)

    def decode(rows: range) -> None:
        for row in rows:
            image = decode_image(paths[row], files.size, files.grayscale)
            if image.shape != first.shape:
                raise _MixedSizesError(_mixed_sizes_message(paths[0], first, paths[row], image))
            images[row] = image

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


def _mixed_sizes_message(path: str, image: Tensor, other_path: str, other_image: Tensor) -> str:
    """Say which two files differ in size, and what to do."""
    height, width = image.shape[1:]
    other_height, other_width = other_image.shape[1:]
    return (
        f"{path} has {width}x{height} pixels and {other_path} {other_width}x{other_height}: "
        "pass image_size to bring all images to one size"
    )
