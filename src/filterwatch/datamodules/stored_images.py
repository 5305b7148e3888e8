"""Images as they are stored: in memory, or in files decoded one by one."""

import os
import sys
from collections.abc import Iterable, Sequence
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

_IN_MEMORY = 2 * 1024**3  # most bytes of decoded images to keep in memory, in each process
_CHUNK = 16  # files that a thread decodes before it reports
_MANY = 2000  # files to show a progress bar for: some seconds on a few cores


class ImageSource(Protocol):
    """Images by row number, as stored: uint8, neither resized to a network nor normalized."""

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
            ValueError: If a file cannot be decoded, or the files differ in size.
        """
        images = [self.decode(row) for row in rows.tolist()]
        shape = images[0].shape
        for row, image in zip(rows.tolist(), images, strict=True):
            if image.shape != shape:
                raise MixedSizesError(
                    f"{self.paths[int(rows[0])]} has {shape[2]}x{shape[1]} pixels and "
                    f"{self.paths[row]} {image.shape[2]}x{image.shape[1]}: "
                    "pass image_size to bring all images to one size"
                )
        return torch.stack(images)

    def decode(self, row: int) -> Tensor:
        """Decode one file to uint8 ``[C, H, W]``."""
        path = self.paths[row]
        try:
            with Image.open(path) as file:
                eight_bits = _in_eight_bits(file)
                pixels = np.array(eight_bits.convert("L" if self.grayscale else "RGB"))
        except (OSError, SyntaxError, _UnscaledError) as error:
            raise ValueError(
                f"{path} cannot be decoded as an image ({error}): repair or remove it"
            ) from error
        image = torch.from_numpy(pixels)
        image = image[None] if self.grayscale else image.permute(2, 0, 1)
        return image if self.size is None else resize(image, self.size)


class MixedSizesError(ValueError):
    """Files that should share one size do not."""


class _UnscaledError(Exception):
    """The pixels' range is not known."""


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Scale gray pixels of 16 bits to 8: Pillow would clip them, to white nearly everywhere."""
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if sixteen_bits:
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise _UnscaledError(
            f"pixels of mode {image.mode}, whose range is not known: scale them to 8 or 16 bits"
        )
    return image


def open_images(
    paths: Sequence[str], size: int | None, grayscale: bool
) -> MemoryImages | FileImages:
    """Decode image files into memory where they fit, else leave them to be decoded when read.

    Files that share one size below ``size`` are kept as they are, to be enlarged batch by batch;
    all others are kept resized.

    Args:
        paths: At least one file.
        size: Side in pixels that the network takes; None keeps the files' own, common size.
        grayscale: Whether to decode to one channel instead of three.

    Raises:
        ValueError: If a file cannot be decoded, or ``size`` is None and the files differ in size.
    """
    as_stored, resized = FileImages(paths, None, grayscale), FileImages(paths, size, grayscale)
    channels, height, width = as_stored.decode(0).shape
    # Tried in this order: the files' own size, if it is the smaller; then the network's.
    smaller = size is None or min(height, width) <= size
    for files in (as_stored, resized) if smaller else (resized,):
        pixels = height * width if files.size is None else files.size**2
        if len(paths) * channels * pixels > _IN_MEMORY:
            break
        try:
            return MemoryImages(_decode_all(files))
        except MixedSizesError:
            if size is None:
                raise
    return resized


def _decode_all(files: FileImages) -> Tensor:
    """Decode every file in parallel threads to uint8 ``[N, C, H, W]``, with a progress bar."""
    n_files = len(files)
    images = torch.empty((n_files, *files.decode(0).shape), dtype=torch.uint8)

    def decode(start: int) -> None:
        rows = range(start, min(start + _CHUNK, n_files))
        # Beside the first file, whose size all must share.
        images[start : rows.stop] = files.read(torch.tensor([0, *rows]))[1:]

    starts = range(0, n_files, _CHUNK)
    first_process = getattr(rank_zero_only, "rank", 0) == 0
    watched = first_process and sys.stderr.isatty() and not os.environ.get("CI")
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # Leaving map's iterator, also by an error, cancels the chunks that have not begun.
        decoded: Iterable[None] = pool.map(decode, starts)
        if watched and n_files >= _MANY:  # a disabled bar of rich < 14 still prints a line
            decoded = track(
                decoded,
                total=len(starts),
                description=f"Decoding {n_files:,} images into memory",
                console=Console(stderr=True),
                transient=True,
            )
        for _ in decoded:
            pass
    return images
