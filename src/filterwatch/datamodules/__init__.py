"""Image data sets with training, validation, probe and test images that never overlap."""

from filterwatch.datamodules.base import ImageDataModule, LabelledImages
from filterwatch.datamodules.cifar import CIFAR10DataModule, CIFAR100DataModule
from filterwatch.datamodules.dataset import ImageDataset
from filterwatch.datamodules.digits import DigitsDataModule
from filterwatch.datamodules.fashion_mnist import FashionMNISTDataModule
from filterwatch.datamodules.image_folder import ImageFolderDataModule
from filterwatch.datamodules.preprocessing import Preprocessing, imagenet_statistics, resize
from filterwatch.datamodules.sampling import (
    Stream,
    add_label_noise,
    class_balanced_subset,
    seeded_generator,
    stratified_split,
)
from filterwatch.datamodules.sources import FileImages, ImageSource, MemoryImages, open_images

__all__ = [
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "DigitsDataModule",
    "FashionMNISTDataModule",
    "FileImages",
    "ImageDataModule",
    "ImageDataset",
    "ImageFolderDataModule",
    "ImageSource",
    "LabelledImages",
    "MemoryImages",
    "Preprocessing",
    "Stream",
    "add_label_noise",
    "class_balanced_subset",
    "imagenet_statistics",
    "open_images",
    "resize",
    "seeded_generator",
    "stratified_split",
]
