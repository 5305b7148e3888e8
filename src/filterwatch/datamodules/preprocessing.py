"""From stored pixels to what a network sees: resizing, augmentation, normalization, in batches."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from filterwatch.datamodules.seeded_choices import Stream, seeded_generator


def resize(images: Tensor, size: int) -> Tensor:
    """Bring images to ``size`` by ``size`` pixels by bicubic interpolation.

    The shorter side is scaled and the longer one cropped around its center: proportions stay.
    Images ``[..., C, H, W]`` stay in uint8, where bicubic overshoot is clamped.
    """
    if images.shape[-2:] == (size, size):
        return images
    resized: Tensor = vision.resize(
        images, [size], interpolation=vision.InterpolationMode.BICUBIC, antialias=True
    )
    cropped: Tensor = vision.center_crop(resized, [size, size])
    return cropped


def random_crop_and_flip(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift each image ``[B, C, H, W]`` by a few pixels and, with ``flip``, mirror about half.

    A random crop after padding with black by an eighth of the side, rounded up: 4 pixels at
    32x32, the usual choice for CIFAR, and in proportion at other sizes.
    """
    n, _, height, width = images.shape
    padding = math.ceil(min(height, width) / 8)
    top, left = torch.randint(2 * padding + 1, (2, n), generator=generator)
    # A view of every crop there is, [B, C, 2P+1, 2P+1, H, W]; indexing copies only those drawn.
    crops = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    cropped = crops[torch.arange(n), :, top, left]
    if not flip:
        return cropped
    mirrored = torch.rand(n, generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], cropped.flip(-1), cropped)


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Bring pixels, uint8 ``[B, C, H, W]``, to float32 by means and deviations as in [0, 1]."""
    offset = torch.tensor(mean).mul(255).view(-1, 1, 1)
    scale = torch.tensor(std).mul(255).view(-1, 1, 1)
    return images.float().sub_(offset).div_(scale)


def imagenet_statistics(n_channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of ImageNet's 3 channels, or of its images in 1, gray."""
    if n_channels == 1:
        return (0.449,), (0.226,)
    return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a batch of stored images on its way to the network.

    Attributes:
        image_size: Side in pixels to resize to; None keeps the stored size.
        mean: Mean of each channel, of pixels in ``[0, 1]``.
        std: Standard deviation of each channel, likewise.
        augment: Whether to crop (and flip) at random.
        flip: Whether augmentation may mirror images.
        seed: Seed of the augmentation.
    """

    image_size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: bool = False
    flip: bool = False
    seed: int = 0

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return the network's input, float32 ``[B, C, H, W]``, of stored images.

        The random numbers of a batch depend on the seed and on which samples it holds in which
        order (``indices``): a reshuffled epoch is augmented anew and a repeated one repeats
        exactly, whatever the number of workers and wherever a run was resumed.
        """
        if self.image_size is not None:
            images = resize(images, self.image_size)
        if self.augment:
            generator = seeded_generator(self.seed, Stream.AUGMENTATION, *indices.tolist())
            images = random_crop_and_flip(images, self.flip, generator)
        return normalize(images, self.mean, self.std)
