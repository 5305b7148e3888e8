"""Fashion-MNIST."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision import datasets

from filterwatch.datamodules.downloaded import DownloadedDataModule


class FashionMNISTDataModule(DownloadedDataModule):
    """Fashion-MNIST: 28x28 grey pictures of 10 kinds of clothes, 60,000 and 10,000 for test.

    By default 53,000 images are trained on, 6,000 are for validation and 1,000 are the probe.

    Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms, 2017.

    Args:
        root: Folder with ``FashionMNIST/raw/*-ubyte.gz`` or what they unpack to; downloaded if
            absent.
        **options: Arguments of :class:`ImageDataModule`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or ``root`` is a file.
    """

    dataset_class = datasets.FashionMNIST
    class_names = tuple(datasets.FashionMNIST.classes)
    mean = (0.2860,)
    std = (0.3530,)
    native_size = 28
    horizontal_flip = True

    @property
    def urls(self) -> Sequence[str]:
        """Where the archives are downloaded from."""
        mirror = self.dataset_class.mirrors[0]
        return [mirror + file_name for file_name, _ in self.dataset_class.resources]

    @property
    def archive_folder(self) -> Path:
        """Folder in which the archives are looked for."""
        return Path(self.root) / "FashionMNIST" / "raw"

    def to_tensor(self, data: Any) -> Tensor:
        """Give the tensor ``[N, H, W]`` a channel dimension."""
        images: Tensor = data[:, None]
        return images
