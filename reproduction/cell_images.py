"""The experiments' images: loaded once a process, divided anew for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from filterwatch.datamodules import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    DownloadedDataModule,
    FashionMNISTDataModule,
    ImageDataModule,
    ImageDataset,
    ImageFolderDataModule,
    LabelledImages,
    Split,
    Stream,
    seeded_generator,
)
from reproduction.cells import REGIMES, Cell

_DOWNLOADED: dict[str, type[DownloadedDataModule]] = {
    "cifar10": CIFAR10DataModule,
    "cifar100": CIFAR100DataModule,
    "fashion_mnist": FashionMNISTDataModule,
}
# Held out for probes: six draws of 1,000, or one of 5,000; a fifth where images are few.
POOL_SIZE = 6000
# Classes of CIFAR-10 that are confused, in pairs.
_PAIRS = (
    ("airplane", "ship"),
    ("automobile", "truck"),
    ("bird", "frog"),
    ("cat", "dog"),
    ("deer", "horse"),
)
LIKENESS = dict((*_PAIRS, *(pair[::-1] for pair in _PAIRS)))
_IMAGE_SIZES = {"alexnet": 227}  # bicubic (section 4, "Datasets")


class DividedImages(ImageDataModule):
    """The images of another datamodule, divided by a seed and options of its own.

    Args:
        original: Where images come from; it loads each split when it is first wanted, once.
        cache: The splits loaded so far.
        alike: Share of the training labels to replace by the class most like them; see `LIKENESS`.
        without: Positions of training images that are left out, as they would be without this.
        **options: Arguments of `ImageDataModule`.

    Raises:
        ValueError: If labels are to be replaced and a class has none that is like it.
    """

    def __init__(
        self,
        original: ImageDataModule,
        cache: dict[Split, LabelledImages | None],
        *,
        alike: float = 0.0,
        without: Sequence[int] = (),
        **options: Any,
    ) -> None:
        self.class_names = original.class_names
        self.mean = original.mean
        self.std = original.std
        self.native_size = original.native_size
        self.horizontal_flip = original.horizontal_flip
        super().__init__(**options)
        self._original = original
        self._cache = cache
        self._alike = alike
        self._without = without
        unlike = [name for name in self.class_names if alike and name not in LIKENESS]
        if unlike:
            raise ValueError(
                f"no class is known to be like {', '.join(unlike)}: take labels that are wrong by "
                "chance, or CIFAR-10"
            )

    @property
    def train_dataset(self) -> ImageDataset:
        """The images to train on."""
        dataset = self._likened(super().train_dataset)
        kept = torch.ones(len(dataset), dtype=torch.bool)
        kept[list(self._without)] = False
        return dataset if bool(kept.all()) else dataset.select(kept.nonzero().flatten())

    def _likened(self, dataset: ImageDataset) -> ImageDataset:
        """Return training images, some with the label of a class that is like theirs."""
        generator = seeded_generator(self.seed, Stream.LABEL_NOISE)
        chosen = torch.randperm(len(dataset), generator=generator)
        chosen = chosen[: round(self._alike * len(dataset))]
        if not len(chosen):
            return dataset
        names = self.class_names
        like = torch.tensor([names.index(LIKENESS[name]) for name in names])
        labels = dataset.labels.clone()
        labels[chosen] = like[labels[chosen]]
        return replace(dataset, labels=labels)

    def load_split(self, split: Split) -> LabelledImages | None:
        """Return a split of the original, which reads it the first time."""
        if split not in self._cache:
            self._cache[split] = self._original.load_split(split)
        return self._cache[split]


class Images:
    """One data set, decoded once and shared by all cells of a process.

    Args:
        dataset: ``"cifar10"``, ``"cifar100"`` or ``"fashion_mnist"``.
        data: Folder. Images are read from ``data/<dataset>/train/<class>`` and
            ``data/<dataset>/test/<class>`` where these folders exist, else from
            ``data/train/<class>``, else torchvision's archives are looked for in ``data`` and
            downloaded where they are absent.
    """

    def __init__(self, dataset: str, data: Path) -> None:
        downloaded = _DOWNLOADED[dataset]
        folders = [folder for folder in (data / dataset, data) if (folder / "train").is_dir()]
        self._cache: dict[Split, LabelledImages | None] = {}
        self._original: ImageDataModule
        if folders:
            self._original = ImageFolderDataModule(
                str(folders[0]),
                grayscale=len(downloaded.mean) == 1,
                mean=downloaded.mean,
                std=downloaded.std,
                horizontal_flip=downloaded.horizontal_flip,
            )
            self._original.native_size = downloaded.native_size
        else:
            self._original = downloaded(str(data))
            self._original.prepare_data()

    def divided(self, cell: Cell, **options: Any) -> ImageDataModule:
        """Return the images of a cell: training, validation, probe and test, disjoint.

        The probe set is a pool of `POOL_SIZE` images, in random order with the classes interleaved,
        from which experiments take their probes.

        Args:
            cell: The run; its seed decides the division.
            **options: Further arguments of `DividedImages`, such as ``val_size``.
        """
        regime = REGIMES[cell.regime]
        n_classes = self._original.num_classes
        options.setdefault("probe_size", self._pool_size())
        noise = regime.wrong_labels if regime.wrong_by == "chance" else 0.0
        if regime.shuffled_labels:
            # So many wrong labels, drawn uniformly, leave every label independent of the image.
            noise = 1 - 1 / n_classes
        return DividedImages(
            self._original,
            self._cache,
            batch_size=cell.batch_size,
            seed=cell.seed,
            image_size=_IMAGE_SIZES.get(cell.model),
            train_size=cell.train_size,
            augment=regime.augment,
            label_noise=noise,
            alike=regime.wrong_labels if regime.wrong_by == "likeness" else 0.0,
            **options,
        )

    def _pool_size(self) -> int:
        if "train" not in self._cache:
            self._cache["train"] = self._original.load_split("train")
        train = self._cache["train"]
        return min(POOL_SIZE, max(1, (0 if train is None else len(train.images)) // 5))
