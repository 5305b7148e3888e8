"""Image data sets with training, validation, probe and test images that never overlap."""

from filterwatch.datamodules.base import ImageDataModule, LabelledImages, Split
from filterwatch.datamodules.cifar import CIFAR10DataModule, CIFAR100DataModule
from filterwatch.datamodules.dataset import ImageDataset
from filterwatch.datamodules.digits import DigitsDataModule
from filterwatch.datamodules.downloaded import DownloadedDataModule
from filterwatch.datamodules.fashion_mnist import FashionMNISTDataModule
from filterwatch.datamodules.image_folder import ImageFolderDataModule
from filterwatch.datamodules.sampling import (
    add_label_noise,
    class_balanced_subset,
    seeded_generator,
    stratified_split,
)
from filterwatch.datamodules.sources import FileImages, ImageSource, MemoryImages

__all__ = [
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "DigitsDataModule",
    "DownloadedDataModule",
    "FashionMNISTDataModule",
    "FileImages",
    "ImageDataModule",
    "ImageDataset",
    "ImageFolderDataModule",
    "ImageSource",
    "LabelledImages",
    "MemoryImages",
    "Split",
    "add_label_noise",
    "class_balanced_subset",
    "seeded_generator",
    "stratified_split",
]
