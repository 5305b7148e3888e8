"""Data sets that torchvision downloads: CIFAR-10, CIFAR-100 and Fashion-MNIST."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torchvision import datasets

from filterwatch.datamodules.image_datamodule import ImageDataModule, LabelledImages, Split
from filterwatch.datamodules.stored_images import MemoryImages

_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""


class DownloadedDataModule(ImageDataModule):
    """A data set of torchvision with official training and test images, kept in memory.

    It is downloaded on first use, with a progress bar. Archives that are already in place are
    unpacked, and unpacked files used as they are.

    Args:
        root: Folder to download to and read from.
        **options: Arguments of :class:`ImageDataModule`.

    Raises:
        TypeError, ValueError: As :class:`ImageDataModule`; also if ``root`` is a file.
    """

    dataset_class: ClassVar[Any]  # of torchvision
    urls: ClassVar[Sequence[str]]  # of the archives
    _archive_folder: ClassVar[str] = "."  # where they are looked for, below the root

    def __init__(self, root: str = "data", **options: Any) -> None:
        super().__init__(**options)
        self.root = str(Path(root).expanduser())
        if Path(self.root).is_file():
            raise ValueError(f"root={root!r} is a file: pass a folder")
        self.archive_folder = Path(self.root, self._archive_folder)

    def prepare_data(self) -> None:
        """Download and unpack what is missing; ``RuntimeError`` with a remedy if that fails."""
        self._open(train=True, download=True)

    def load_split(self, split: Split) -> LabelledImages | None:
        """Read the images of ``split``; ``RuntimeError`` if they are missing or damaged."""
        if split == "val":
            return None
        dataset = self._open(train=split == "train", download=False)
        pixels = torch.as_tensor(dataset.data)  # [N, H, W], or with colors [N, H, W, C]
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
        labels = torch.as_tensor(dataset.targets, dtype=torch.int64)
        return LabelledImages(MemoryImages(pixels), labels)

    def _open(self, train: bool, download: bool) -> Any:
        """Return torchvision's data set, or raise what says how to get it by hand."""
        try:
            return self.dataset_class(self.root, train=train, download=download)
        except (OSError, RuntimeError) as error:
            problem = (
                f"is not in {self.root!r} and could not be downloaded ({error})"
                if download
                else f"is missing or damaged in {self.root!r}: call prepare_data() to download it"
            )
            urls = "\n".join(f"    {url}" for url in self.urls)
            raise RuntimeError(
                f"{self.dataset_class.__name__} {problem}.\n"
                f"Without network access, download\n{urls}\n"
                "elsewhere and put what you get, without unpacking it, into the folder\n"
                f"    {self.archive_folder.resolve()}\nor name the folder that has it: root=…"
            ) from error


class CIFAR10DataModule(DownloadedDataModule):
    """CIFAR-10: 32x32 color photographs of 10 classes, 50,000 for training and 10,000 for test.

    By default 44,000 images are trained on, 5,000 are for validation and 1,000 are the probe.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    dataset_class = datasets.CIFAR10
    urls = (datasets.CIFAR10.url,)
    class_names: tuple[str, ...] = tuple(_CIFAR10_CLASSES.split())
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)
    native_size = 32
    horizontal_flip = True


class CIFAR100DataModule(CIFAR10DataModule):
    """CIFAR-100: the same as CIFAR-10, of 100 classes."""

    dataset_class = datasets.CIFAR100
    urls = (datasets.CIFAR100.url,)
    class_names = tuple(_CIFAR100_CLASSES.split())
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)


class FashionMNISTDataModule(DownloadedDataModule):
    """Fashion-MNIST: 28x28 gray pictures of 10 kinds of clothes, 60,000 and 10,000 for test.

    By default 53,000 images are trained on, 6,000 are for validation and 1,000 are the probe.

    Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms, 2017.
    """

    dataset_class = datasets.FashionMNIST
    urls = tuple(
        datasets.FashionMNIST.mirrors[0] + name for name, _ in datasets.FashionMNIST.resources
    )
    _archive_folder = "FashionMNIST/raw"
    class_names = tuple(datasets.FashionMNIST.classes)
    mean = (0.2860,)
    std = (0.3530,)
    native_size = 28
    horizontal_flip = True
