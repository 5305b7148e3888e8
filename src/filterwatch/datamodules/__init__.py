"""Image data sets with training, validation, probe and test images that never overlap."""

from typing import TYPE_CHECKING

from filterwatch._lazy import lazy_names

if TYPE_CHECKING:
    from filterwatch.datamodules.digits import DigitsDataModule as DigitsDataModule
    from filterwatch.datamodules.downloaded import CIFAR10DataModule as CIFAR10DataModule
    from filterwatch.datamodules.downloaded import CIFAR100DataModule as CIFAR100DataModule
    from filterwatch.datamodules.downloaded import DownloadedDataModule as DownloadedDataModule
    from filterwatch.datamodules.downloaded import FashionMNISTDataModule as FashionMNISTDataModule
    from filterwatch.datamodules.image_datamodule import ImageDataModule as ImageDataModule
    from filterwatch.datamodules.image_datamodule import LabelledImages as LabelledImages
    from filterwatch.datamodules.image_datamodule import Split as Split
    from filterwatch.datamodules.image_dataset import ImageDataset as ImageDataset
    from filterwatch.datamodules.image_folder import ImageFolderDataModule as ImageFolderDataModule
    from filterwatch.datamodules.preprocessing import Preprocessing as Preprocessing
    from filterwatch.datamodules.preprocessing import imagenet_statistics as imagenet_statistics
    from filterwatch.datamodules.preprocessing import resize as resize
    from filterwatch.datamodules.seeded_choices import Stream as Stream
    from filterwatch.datamodules.seeded_choices import (
        class_balanced_subset as class_balanced_subset,
    )
    from filterwatch.datamodules.seeded_choices import seeded_generator as seeded_generator
    from filterwatch.datamodules.seeded_choices import stratified_split as stratified_split
    from filterwatch.datamodules.stored_images import ImageSource as ImageSource
    from filterwatch.datamodules.stored_images import MemoryImages as MemoryImages
    from filterwatch.datamodules.stored_images import open_images as open_images
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        digits=["DigitsDataModule"],
        downloaded=[
            "CIFAR10DataModule",
            "CIFAR100DataModule",
            "DownloadedDataModule",
            "FashionMNISTDataModule",
        ],
        image_datamodule=["ImageDataModule", "LabelledImages", "Split"],
        image_dataset=["ImageDataset"],
        image_folder=["ImageFolderDataModule"],
        preprocessing=["Preprocessing", "imagenet_statistics", "resize"],
        seeded_choices=["Stream", "class_balanced_subset", "seeded_generator", "stratified_split"],
        stored_images=["ImageSource", "MemoryImages", "open_images"],
    )
