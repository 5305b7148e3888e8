"""Image data sets with training, validation, probe and test images that never overlap."""

from typing import TYPE_CHECKING

from filterwatch._lazy import lazy_names

if TYPE_CHECKING:
    from filterwatch.datamodules.digits import DigitsDataModule
    from filterwatch.datamodules.downloaded import (
        CIFAR10DataModule,
        CIFAR100DataModule,
        DownloadedDataModule,
        FashionMNISTDataModule,
    )
    from filterwatch.datamodules.image_datamodule import ImageDataModule, LabelledImages, Split
    from filterwatch.datamodules.image_dataset import ImageDataset
    from filterwatch.datamodules.image_folder import ImageFolderDataModule
    from filterwatch.datamodules.preprocessing import Preprocessing, imagenet_statistics, resize
    from filterwatch.datamodules.seeded_choices import (
        Stream,
        add_label_noise,
        class_balanced_subset,
        seeded_generator,
        stratified_split,
    )
    from filterwatch.datamodules.stored_images import (
        FileImages,
        ImageSource,
        MemoryImages,
        open_images,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        digits=["DigitsDataModule"],
        downloaded=[
            *("CIFAR10DataModule", "CIFAR100DataModule", "DownloadedDataModule"),
            "FashionMNISTDataModule",
        ],
        image_datamodule=["ImageDataModule", "LabelledImages", "Split"],
        image_dataset=["ImageDataset"],
        image_folder=["ImageFolderDataModule"],
        preprocessing=["Preprocessing", "imagenet_statistics", "resize"],
        seeded_choices=[
            *("Stream", "add_label_noise", "class_balanced_subset"),
            *("seeded_generator", "stratified_split"),
        ],
        stored_images=["FileImages", "ImageSource", "MemoryImages", "open_images"],
    )

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
    "Preprocessing",
    "Split",
    "Stream",
    "add_label_noise",
    "class_balanced_subset",
    "imagenet_statistics",
    "open_images",
    "resize",
    "seeded_generator",
    "stratified_split",
]
