"""Handwritten digits that come with scikit-learn: the data set that needs no download."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from filterwatch._checks import check_integer
from filterwatch.datamodules.image_datamodule import ImageDataModule, LabelledImages, Split
from filterwatch.datamodules.image_dataset import ImageDataset
from filterwatch.datamodules.seeded_choices import seeded_generator, stratified_split
from filterwatch.datamodules.stored_images import MemoryImages

_TEST_SIZE = 297  # leaves 1,500 of the 1,797 images


class DigitsDataModule(ImageDataModule):
    """The 1,797 handwritten digits of scikit-learn, 8x8 pixels, enlarged to 32x32.

    There are no official splits. 297 images are test whatever the seed; of the other 1,500, by
    default 300 are for validation, 500 for the probe (a cluster of 1% has 5) and 700 for training.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998.

    Args:
        image_size: See :class:`ImageDataModule`; None keeps 8x8.
        val_size: None takes 150.
        probe_size: None takes 300.
        blank_probe_images: The first so many images of the probe are replaced by white ones, as an
            overexposed camera gives: defects for filters to isolate. Their labels stay.
        **options: The other arguments of :class:`ImageDataModule`.

    Raises:
        TypeError, ValueError: As :class:`ImageDataModule`; on setup, if more images are to be
            blank than the probe has.
    """

    class_names = tuple("0123456789")
    mean = (0.3092,)  # of all images, enlarged to 32x32
    std = (0.3488,)
    native_size = 8
    horizontal_flip = False

    def __init__(
        self,
        *,
        image_size: int | None = 32,
        val_size: int | None = 300,
        probe_size: int | None = 500,
        blank_probe_images: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(image_size=image_size, val_size=val_size, probe_size=probe_size, **options)
        check_integer("blank_probe_images", blank_probe_images, 0)
        self.blank_probe_images = blank_probe_images

    def load_split(self, split: Split) -> LabelledImages | None:
        """Load the images of ``split`` from scikit-learn."""
        if split == "val":
            return None
        digits = load_digits()
        # 17 gray levels, from 0 to 16, over the range of a byte.
        pixels = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))
        labels = torch.from_numpy(digits.target.astype(np.int64))
        sizes = [_TEST_SIZE, len(labels) - _TEST_SIZE]
        test, rest = stratified_split(labels, sizes, seeded_generator(0))
        chosen = test if split == "test" else rest
        return LabelledImages(MemoryImages(pixels[chosen, None]), labels[chosen])

    def _divide(self) -> dict[str, ImageDataset]:
        """Divide the images, and blank some of the probe."""
        datasets = super()._divide()
        if self.blank_probe_images > 0:
            datasets["probe"] = self._with_blank(datasets["probe"])
        return datasets

    def _with_blank(self, probe: ImageDataset) -> ImageDataset:
        n_blank = self.blank_probe_images
        if n_blank > len(probe):
            raise ValueError(
                f"blank_probe_images={n_blank} exceeds the {len(probe)} images of the probe"
            )
        pixels = probe.source.read(probe.indices)
        pixels[:n_blank] = 255
        return replace(probe, source=MemoryImages(pixels), indices=torch.arange(len(probe)))
