"""What all image datamodules share: how images are divided, changed on purpose, and loaded."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import Sampler

from filterwatch._checks import (
    check_flag,
    check_fraction,
    check_integer,
    check_optional_integer,
    check_seed,
)
from filterwatch._compat import is_older_trainer
from filterwatch.datamodules.image_dataset import DeferredDataLoader, EpochSampler, ImageDataset
from filterwatch.datamodules.preprocessing import Preprocessing
from filterwatch.datamodules.seeded_choices import (
    Stream,
    add_label_noise,
    class_balanced_subset,
    seeded_generator,
    stratified_split,
)
from filterwatch.datamodules.stored_images import ImageSource

Split = Literal["train", "val", "test"]


class LabelledImages(NamedTuple):
    """One official split of a data set: N images and the class of each, int64 ``[N]``."""

    images: ImageSource
    labels: Tensor


class ImageDataModule(LightningDataModule, ABC):
    """Train, validation, probe and test images, pairwise disjoint, of one data set.

    Official test and validation splits are test and validation and nothing else. The *probe*, the
    fixed images whose feature maps are clustered to watch the filters, and validation where the
    data set has none, are split off the training images, stratified by class. So nothing that
    selects a model, a stopping epoch or a filter ever sees a test image. The paper's experiment 2
    (section 4.2) needs a probe of training images: ``probe="train"`` of `AnomalyFilterCallback`.

    To provoke overfitting, ``train_size`` and ``label_noise`` act on what then remains for
    training; ``train_dataset.is_mislabelled`` says which samples carry a wrong label.

    The division, the subset, the noise, the order of epoch e and its augmentation depend on
    ``seed`` and e alone: neither on global random state, which loading never draws from, nor on the
    number of workers. A run resumed at the end of an epoch goes on as if it had never stopped. With
    several processes Lightning's ``DistributedSampler`` decides the order, by
    ``seed_everything``'s seed and e.

    A subclass defines the first five attributes and :meth:`load_split`.

    Attributes:
        class_names: Name of each class, in the order of the labels.
        mean: Mean of each channel of the training images, of pixels in ``[0, 1]``; likewise std.
        native_size: Side of the stored images in pixels; None where it varies.
        horizontal_flip: Whether a mirrored image is still one of its class.
        image_size: Side of the images that the network gets; None where unknown beforehand.

    Args:
        batch_size: Images a batch, in every loader.
        num_workers: Processes that prepare batches; 0, the training process alone, is fastest for
            small images kept in memory.
        seed: Seed of everything random here, from 0 to 2**32 - 1.
        image_size: Side in pixels to resize images to by bicubic interpolation (the shorter side
            is scaled, the longer one cropped); None keeps the stored size.
        val_size: Images split off for validation where the data set has no validation split of its
            own; None takes a tenth of the training images.
        probe_size: Images of the probe; None takes 1,000, or a fifth of the training images where
            that is fewer.
        train_size: Number of training images to keep, as many of each class; None keeps all.
            A smaller subset is contained in a larger one of the same seed.
        label_noise: Share of the training labels to replace by another class, in ``[0, 1)``.
        augment: Whether training images are shifted at random by up to an eighth of their side
            and, where the data set allows, mirrored.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    native_size: int | None = None
    horizontal_flip: bool = False

    def __init__(
        self,
        *,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        image_size: int | None = None,
        val_size: int | None = None,
        probe_size: int | None = None,
        train_size: int | None = None,
        label_noise: float = 0.0,
        augment: bool = False,
    ) -> None:
        super().__init__()
        check_integer("batch_size", batch_size, 1)
        check_integer("num_workers", num_workers, 0)
        check_seed(seed)
        check_optional_integer("image_size", image_size, 1, "the stored size")
        check_optional_integer("val_size", val_size, 1, "a tenth of the training images")
        check_optional_integer("probe_size", probe_size, 1, "1,000 or a fifth of the images")
        check_optional_integer("train_size", train_size, 1, "all training images")
        check_fraction("label_noise", label_noise)
        check_flag("augment", augment)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.image_size = self.native_size if image_size is None else image_size
        self.val_size = val_size
        self.probe_size = probe_size
        self.train_size = train_size
        self.label_noise = label_noise
        self.augment = augment
        self._datasets: dict[str, ImageDataset | None] = {}

    @abstractmethod
    def load_split(self, split: Split) -> LabelledImages | None:
        """Load one official split, on every process, once; None where the data set has none."""

    @property
    def trainer(self) -> Trainer | None:
        """The Trainer whose data this is; set by the Trainer itself."""
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        if is_older_trainer(trainer):
            raise TypeError(
                f"{type(self).__name__} is a datamodule of lightning.pytorch, and this Trainer is "
                "of pytorch_lightning, another package: import the Trainer and the module's class "
                "from lightning.pytorch, or call prepare_data() and setup('fit') and pass "
                "train_dataloader() and val_dataloader() to Trainer.fit"
            )
        self._trainer = trainer

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        """Number of channels of an image."""
        return len(self.mean)

    @property
    def train_dataset(self) -> ImageDataset:
        """The images to train on, with label noise if any."""
        return self._dataset("train")

    @property
    def val_dataset(self) -> ImageDataset:
        """The images to validate on."""
        return self._dataset("val")

    @property
    def probe_dataset(self) -> ImageDataset:
        """The images to watch the filters with, in fixed order with the classes interleaved."""
        return self._dataset("probe")

    @property
    def test_dataset(self) -> ImageDataset:
        """The images to report on."""
        return self._dataset("test")

    def setup(self, stage: str | None = None) -> None:
        """Load and divide the images that a stage needs and that are not loaded yet.

        Args:
            stage: ``"test"`` for the test images, None for all, any other for all but those.

        Raises:
            RuntimeError: If there are no training images.
            ValueError: If the sizes ask for more images than there are, or ``val_size`` is given
                and the data set has validation images of its own.
        """
        if stage != "test" and "train" not in self._datasets:
            self._datasets.update(self._divide())
        if stage in ("test", None) and "test" not in self._datasets:
            self._datasets["test"] = self._load("test")

    def train_dataloader(self) -> DeferredDataLoader:
        """Return a loader of the training images, shuffled anew in each epoch."""
        return self._loader(self.train_dataset, EpochSampler(self.train_dataset, self.seed))

    def val_dataloader(self) -> DeferredDataLoader:
        """Return a loader of the validation images."""
        return self._loader(self.val_dataset)

    def probe_dataloader(self) -> DeferredDataLoader:
        """Return a loader of the probe, never shuffled; its workers end with the iteration."""
        return self._loader(self.probe_dataset, persistent=False)

    def training_probe_dataloader(self) -> DeferredDataLoader:
        """Return a loader of the training images as evaluation sees them: not augmented."""
        prepared = replace(self.train_dataset.preprocessing, augment=False)
        dataset = replace(self.train_dataset, preprocessing=prepared)
        return self._loader(dataset, persistent=False)

    def test_dataloader(self) -> DeferredDataLoader:
        """Return a loader of the test images."""
        return self._loader(self.test_dataset, persistent=False)

    def state_dict(self) -> dict[str, Any]:
        """Return what decides which images are held out, and how images are prepared."""
        mean, std = list(map(float, self.mean)), list(map(float, self.std))
        return {
            "seed": self.seed,
            "val_size": self.val_size,
            "probe_size": self.probe_size,
            # ``filterwatch analyze`` reads it from the checkpoint.
            "preprocessing": {"image_size": self.image_size, "mean": mean, "std": std},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Warn when a checkpoint was trained with other held-out or otherwise prepared images."""
        now = self.state_dict()
        differing = {name: was for name, was in state_dict.items() if was != now.get(name, was)}
        if differing:
            consequence = "it has seen images that are held out now"
            if list(differing) == ["preprocessing"]:
                consequence = "its images were prepared otherwise"
            rank_zero_warn(
                f"The checkpoint was trained with {differing} in {type(self).__name__}, other than "
                f"now: {consequence}. Pass the same values."
            )

    def _missing(self, split: str) -> str:
        """Say why there is no such split, and what to do."""
        return f"{type(self).__name__} has no {split} images"

    def _dataset(self, name: str) -> ImageDataset:
        """Return a data set that :meth:`setup` made; ``RuntimeError`` if there is none."""
        if name not in self._datasets:
            raise RuntimeError(
                f"The {name} images are not loaded yet: call prepare_data() and setup() first"
            )
        if (dataset := self._datasets[name]) is None:
            raise RuntimeError(self._missing(name))
        return dataset

    def _load(self, split: Split) -> ImageDataset | None:
        """Load an official split, as a network sees it outside training."""
        loaded = self.load_split(split)
        if loaded is None:
            return None
        images, labels = loaded
        prepared = Preprocessing(
            self.image_size, self.mean, self.std, flip=self.horizontal_flip, seed=self.seed
        )
        return ImageDataset(images, torch.arange(len(images)), labels, labels, prepared)

    def _divide(self) -> dict[str, ImageDataset]:
        """Load the training images and make the training, validation and probe sets of them."""
        available, validation = self._load("train"), self._load("val")
        if available is None:
            raise RuntimeError(self._missing("train"))
        if validation is not None and self.val_size is not None:
            raise ValueError(
                f"val_size={self.val_size} but the data set has {len(validation)} validation "
                "images of its own: pass val_size=None to use them"
            )
        n_available = len(available)
        val_size = 0 if validation is not None else self.val_size or max(1, n_available // 10)
        probe_size = self.probe_size or min(1000, max(1, n_available // 5))
        remaining = n_available - val_size - probe_size
        if remaining < 1:
            raise ValueError(
                f"Validation takes {val_size} and the probe {probe_size} of {n_available} "
                "training images, which leaves none to train on: lower val_size or probe_size"
            )
        split_off, held_out, kept = stratified_split(
            available.labels,
            [val_size, probe_size, remaining],
            seeded_generator(self.seed, Stream.SPLIT),
        )
        train = self._provoke(available.select(kept))
        augmented = replace(train.preprocessing, augment=self.augment)
        return {
            "train": replace(train, preprocessing=augmented),
            "val": available.select(split_off) if validation is None else validation,
            "probe": available.select(held_out),
        }

    def _provoke(self, train: ImageDataset) -> ImageDataset:
        """Apply ``train_size`` and ``label_noise``."""
        if self.train_size is not None:
            if self.train_size > len(train):
                raise ValueError(
                    f"train_size={self.train_size} exceeds the {len(train)} images left for "
                    "training: lower it, or pass None for all of them"
                )
            generator = seeded_generator(self.seed, Stream.TRAIN_SUBSET)
            train = train.select(class_balanced_subset(train.labels, self.train_size, generator))
        generator = seeded_generator(self.seed, Stream.LABEL_NOISE)
        noisy = add_label_noise(train.labels, self.label_noise, self.num_classes, generator)
        return replace(train, labels=noisy)

    def _loader(
        self, dataset: ImageDataset, sampler: Sampler[int] | None = None, persistent: bool = True
    ) -> DeferredDataLoader:
        """Return a loader with a generator of its own for what seeds its workers."""
        return DeferredDataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=persistent and self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=seeded_generator(self.seed, Stream.WORKERS),
        )
