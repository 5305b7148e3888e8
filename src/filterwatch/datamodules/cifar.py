"""CIFAR-10 and CIFAR-100."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import datasets

from filterwatch.datamodules.downloaded import DownloadedDataModule


class CIFAR10DataModule(DownloadedDataModule):
    """CIFAR-10: 32x32 colour photographs of 10 classes, 50,000 for training and 10,000 for test.

    By default 44,000 images are trained on, 5,000 are for validation and 1,000 are the probe.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Args:
        root: Folder with ``cifar-10-python.tar.gz`` or what it unpacks to; downloaded if absent.
        **options: Arguments of :class:`ImageDataModule`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or ``root`` is a file.
    """

    dataset_class = datasets.CIFAR10
    class_names: tuple[str, ...] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)
    native_size = 32
    horizontal_flip = True

    @property
    def urls(self) -> Sequence[str]:
        """Where the archive is downloaded from."""
        return [self.dataset_class.url]

    @property
    def archive_folder(self) -> Path:
        """Folder in which the archive is looked for."""
        return Path(self.root)

    def to_tensor(self, data: Any) -> Tensor:
        """Bring an array ``[N, H, W, C]`` to a tensor ``[N, C, H, W]``."""
        return torch.from_numpy(data).permute(0, 3, 1, 2).contiguous()


class CIFAR100DataModule(CIFAR10DataModule):
    """CIFAR-100: 32x32 colour photographs of 100 classes, 50,000 for training, 10,000 for test.

    By default 44,000 images are trained on, 5,000 are for validation and 1,000 are the probe.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Args:
        root: Folder with ``cifar-100-python.tar.gz`` or what it unpacks to; downloaded if absent.
        **options: Arguments of :class:`ImageDataModule`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or ``root`` is a file.
    """

    dataset_class = datasets.CIFAR100
    class_names = (
        *("apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle"),
        *("bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle"),
        *("caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch"),
        *("crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest"),
        *("fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower"),
        *("leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain"),
        *("mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear"),
        *("pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine", "possum"),
        *("rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew"),
        *("skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar"),
        *("sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger"),
        *("tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree"),
        *("wolf", "woman", "worm"),
    )
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
