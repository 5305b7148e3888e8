"""Any folder of images that is sorted by split and class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from filterwatch._checks import check_channels, check_flag
from filterwatch.datamodules.image_datamodule import ImageDataModule, LabelledImages, Split
from filterwatch.datamodules.preprocessing import imagenet_statistics
from filterwatch.datamodules.stored_images import open_images


class ImageFolderDataModule(ImageDataModule):
    """Images in ``root/train/<class>``, and optionally ``root/val`` and ``root/test/<class>``.

    Classes are the folders in ``root/train``, sorted by name. Without ``root/val``, validation
    images are split off the training images. Without ``root/test``, there is nothing to test on:
    validation images, which have selected the model, are no substitute.

    The images of a folder that take up to 2 GiB decoded are decoded once, at the start, and kept
    in memory. Others are decoded as they are needed: set ``num_workers`` then.

    Args:
        root: The folder that holds ``train``.
        image_size: Side in pixels to resize images to, see :class:`ImageDataModule`; None keeps the
            stored size, which all images must then share.
        grayscale: Whether to decode images to one channel instead of three.
        mean: Mean of each channel, of pixels in ``[0, 1]``; None takes ImageNet's.
        std: Standard deviation of each channel, likewise.
        horizontal_flip: Whether augmentation may mirror images; False for digits, letters and
            whatever else has a left and a right.
        **options: The other arguments of :class:`ImageDataModule`.

    Raises:
        FileNotFoundError: If ``root/train`` does not exist or has no class folders.
        TypeError, ValueError: If an argument has the wrong type or is out of range.
    """

    def __init__(
        self,
        root: str,
        *,
        image_size: int | None = None,
        grayscale: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        horizontal_flip: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(image_size=image_size, **options)
        check_flag("grayscale", grayscale)
        check_flag("horizontal_flip", horizontal_flip)
        self.root = str(Path(root).expanduser())
        self.grayscale = grayscale
        n_channels = 1 if grayscale else 3
        usual_mean, usual_std = imagenet_statistics(n_channels)
        self.mean = tuple(mean or usual_mean)
        self.std = tuple(std or usual_std)
        check_channels("mean", self.mean, n_channels, positive=False)
        check_channels("std", self.std, n_channels, positive=True)
        self.horizontal_flip = horizontal_flip
        self.class_names = self._find_classes("train")

    def load_split(self, split: Split) -> LabelledImages | None:
        """Read the images of ``split``, or None where there is no such folder.

        Raises:
            FileNotFoundError: If the folder has no class folders, or no images in them.
            ValueError: If it has classes that ``root/train`` has not, or `open_images` raises.
        """
        folder = Path(self.root, split)
        if not folder.is_dir():
            return None
        unknown = sorted(set(self._find_classes(split)) - set(self.class_names))
        if unknown:
            raise ValueError(
                f"{folder} has classes that {Path(self.root, 'train')} has not: "
                f"{', '.join(unknown)}. Add them there or remove them here"
            )
        files: list[tuple[str, int]] = make_dataset(
            folder,
            {name: label for label, name in enumerate(self.class_names)},
            extensions=IMG_EXTENSIONS,
            allow_empty=split != "train",
        )
        if not files:
            raise FileNotFoundError(
                f"{folder} has class folders but no images in them: add images or remove it"
            )
        paths, labels = zip(*files, strict=True)
        images = open_images(paths, self.image_size, self.grayscale)
        return LabelledImages(images, torch.tensor(labels))

    def _find_classes(self, split: Split) -> tuple[str, ...]:
        """Return the sorted names of the class folders of ``split``."""
        folder = Path(self.root, split)
        try:
            names, _ = find_classes(folder)
        except OSError as error:
            raise FileNotFoundError(
                f"root={self.root!r}: no class folders in {folder}. "
                f"Images are expected as {folder}/<class>/<name>.png (or .jpg, …)"
            ) from error
        return tuple(names)

    def _missing(self, split: str) -> str:
        folder = Path(self.root, split)
        return (
            f"There is no folder {folder}, so there are no {split} images: put some into "
            f"{folder}/<class>, or leave out the {split} run"
        )
