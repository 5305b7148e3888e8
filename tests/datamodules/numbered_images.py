"""Images that carry their own number, so that a test can tell which ones a loader gave."""

import torch
from torch import Tensor

from filterwatch.datamodules import ImageDataModule, LabelledImages, MemoryImages

N_TRAIN, N_TEST, N_CLASSES = 600, 100, 4


class NumberedDataModule(ImageDataModule):
    """600 training and 100 test images of 8x8 pixels; image i holds the number i (test: 1000 + i).

    The first half of the training images is of class 0, the rest is shared by the other classes,
    sorted by class as an image folder would be.
    """

    class_names = ("a", "b", "c", "d")
    mean = (0.0,)
    std = (1 / 255,)  # the network's input is then the stored byte
    native_size = 8
    horizontal_flip = True
    n_val = 0

    def __init__(self, **options):
        super().__init__(**options)
        self.loaded = []

    def load_split(self, split):
        self.loaded.append(split)
        if split == "train":
            labels = torch.tensor([0] * 300 + [1] * 100 + [2] * 100 + [3] * 100)
            return LabelledImages(MemoryImages(numbered(range(N_TRAIN))), labels)
        if split == "val" and not self.n_val:
            return None
        first, n = (1000, N_TEST) if split == "test" else (2000, self.n_val)
        images = numbered(range(first, first + n))
        return LabelledImages(MemoryImages(images), torch.arange(n) % N_CLASSES)


class ValidatedDataModule(NumberedDataModule):
    """The same with 50 official validation images, numbered from 2000."""

    n_val = 50


def numbered(values) -> Tensor:
    values = torch.tensor(list(values))
    images = torch.zeros(len(values), 1, 8, 8, dtype=torch.uint8)
    images[:, 0, 4, 4] = (values % 256).to(torch.uint8)
    images[:, 0, 4, 5] = (values // 256).to(torch.uint8)
    return images


def numbers_of(images: Tensor) -> list[int]:
    return (images[:, 0, 4, 4] + 256 * images[:, 0, 4, 5]).round().int().tolist()


def read(images_or_loader):
    """The numbers of a batch of images [B, 1, 8, 8], or of everything that a loader gives."""
    if isinstance(images_or_loader, Tensor):
        return numbers_of(images_or_loader)
    return [number for images, _ in images_or_loader for number in numbers_of(images)]
