"""What all image datamodules share: how images are divided, changed on purpose, and loaded."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import Sampler

from filterwatch._checks import (
    check_flag,
    check_fraction,
    check_integer,
    check_optional_integer,
)
from filterwatch.datamodules.dataset import ImageDataset
from filterwatch.datamodules.division import Division, ProbeSource
from filterwatch.datamodules.loaders import DeferredDataLoader, EpochSampler
from filterwatch.datamodules.preprocessing import Preprocessing
from filterwatch.datamodules.sampling import Stream, seeded_generator
from filterwatch.datamodules.sources import ImageSource

Split = Literal["train", "val", "test"]
Batch = tuple[Tensor, Tensor]


class LabelledImages(NamedTuple):
    """One official split of a data set: N images and the class of each, int64 ``[N]``."""

    images: ImageSource
    labels: Tensor


class ImageDataModule(LightningDataModule, ABC):
    """Train, validation, probe and test images, pairwise disjoint, of one data set.

    The *probe* is the fixed set of held-out images whose feature maps are clustered to watch the
    filters. It is stratified by class and never shuffled or augmented.

    **Where the images come from.** An official test split is test and nothing else; an official
    validation split is validation and nothing else. The probe, and validation where the data set
    has none, are split off the training images, seeded and stratified by class. So nothing that
    selects a model, a stopping epoch or a filter ever sees a test image.

    **Provoking overfitting.** ``train_size`` and ``label_noise`` act on what then remains for
    training. Validation, probe and test keep their images and their true labels. Afterwards
    ``train_dataset.is_mislabelled`` tells which training samples carry a wrong label.

    **What repeats.** The division, the subset, the noise, the order of epoch e and its
    augmentation depend on ``seed`` and e alone: neither on global random state (which loading
    never draws from) nor on the number of workers. A run resumed at the end of an epoch goes on
    as if it had never stopped. Resumed within an epoch, Lightning begins that epoch's order again
    and takes as many batches as were missing. With several processes Lightning puts its own
    ``DistributedSampler`` in place, whose order depends on ``seed_everything``'s seed and e.

    A subclass defines the class attributes below and :meth:`load_split`.

    Attributes:
        class_names: Name of each class, in the order of the labels.
        mean: Mean of each channel of the training images, of pixels in ``[0, 1]``.
        std: Standard deviation of each channel, likewise.
        native_size: Side of the stored images in pixels; None where it varies.
        horizontal_flip: Whether a mirrored image is still one of its class.
        image_size: Side of the images that the network gets, in pixels; None where the stored
            size is kept and not known beforehand.

    Args:
        batch_size: Images a batch, in every loader.
        num_workers: Processes that prepare batches beside the training; 0 prepares them in the
            training process, which is fastest for small images kept in memory.
        seed: Seed of everything random here, non-negative.
        image_size: Side in pixels to resize images to by bicubic interpolation (the shorter side
            is scaled, the longer one cropped); None keeps the stored size.
        val_size: Images split off for validation; None takes a tenth of the training images. Only
            where the data set has no validation split of its own.
        probe_size: Images of the probe; None takes 1,000, or a fifth of the training images where
            that is fewer.
        probe_source: ``"held_out"`` splits the probe off the training images. ``"train"`` draws it
            from the images that are trained on, with the labels that training sees, noise
            included, as the paper's experiment 2 (section 4.2) needs; the probe and the training
            set then overlap on purpose. The held-out images stay out of training in both cases,
            so that two such runs differ in the probe alone.
        train_size: Number of training images to keep, as many of each class; None keeps all.
            A smaller subset is contained in a larger one of the same seed.
        label_noise: Share of the training labels to replace by another class, in ``[0, 1)``.
        augment: Whether training images are cropped at random after padding by an eighth of their
            side (4 pixels at 32x32) and, where the data set allows, mirrored.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.
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
        probe_source: ProbeSource = "held_out",
        train_size: int | None = None,
        label_noise: float = 0.0,
        augment: bool = False,
    ) -> None:
        super().__init__()
        check_integer("batch_size", batch_size, 1)
        check_integer("num_workers", num_workers, 0)
        check_integer("seed", seed, 0)
        check_optional_integer("image_size", image_size, 1, "the stored size")
        check_optional_integer("val_size", val_size, 1, "a tenth of the training images")
        check_optional_integer("probe_size", probe_size, 1, "1,000 or a fifth of the images")
        check_optional_integer("train_size", train_size, 1, "all training images")
        check_fraction("label_noise", label_noise)
        check_flag("augment", augment)
        if probe_source not in ("held_out", "train"):
            raise ValueError(
                f"probe_source={probe_source!r} is unknown: pass 'held_out' or 'train'"
            )
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.image_size = self.native_size if image_size is None else image_size
        self.val_size = val_size
        self.probe_size = probe_size
        self.probe_source: ProbeSource = probe_source
        self.train_size = train_size
        self.label_noise = label_noise
        self.augment = augment
        self._datasets: dict[str, ImageDataset | None] = {}

    @abstractmethod
    def load_split(self, split: Split) -> LabelledImages | None:
        """Load one official split, on every process; None where the data set has none.

        Called at most once for each split. ``"train"`` always exists.
        """

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
        """Load and divide the images; does nothing the second time.

        Args:
            stage: ``"test"`` loads the test images, None loads everything, and any other stage
                loads all but the test images.

        Raises:
            ValueError: A size asked for exceeds what there is.
        """
        if stage != "test" and "train" not in self._datasets:
            self._datasets.update(self._divide())
        if stage in ("test", None) and "test" not in self._datasets:
            self._datasets["test"] = self._load("test")

    def train_dataloader(self) -> DeferredDataLoader[Batch]:
        """Return a loader of the training images, shuffled anew in each epoch."""
        dataset = self.train_dataset
        return self._loader(dataset, sampler=EpochSampler(dataset, self.seed))

    def val_dataloader(self) -> DeferredDataLoader[Batch]:
        """Return a loader of the validation images."""
        return self._loader(self.val_dataset)

    def probe_dataloader(self) -> DeferredDataLoader[Batch]:
        """Return a loader of the probe, never shuffled; its workers end with the iteration."""
        return self._loader(self.probe_dataset, persistent=False)

    def test_dataloader(self) -> DeferredDataLoader[Batch]:
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
        differing = {
            name: saved for name, saved in state_dict.items() if saved != now.get(name, saved)
        }
        if differing:
            consequence = (
                "its images were prepared otherwise"
                if list(differing) == ["preprocessing"]
                else "it has seen images that are held out now"
            )
            rank_zero_warn(
                f"The checkpoint was trained with {differing} in {type(self).__name__}, other than "
                f"now: {consequence}. Pass the same values."
            )

    def _missing(self, split: str) -> str:
        """Say why there is no such split, and what to do."""
        return f"{type(self).__name__} has no {split} images"

    def _dataset(self, name: str) -> ImageDataset:
        """Return a data set that :meth:`setup` made."""
        if name not in self._datasets:
            raise RuntimeError(
                f"The {name} images are not loaded yet: call prepare_data() and setup() first"
            )
        dataset = self._datasets[name]
        if dataset is None:
            raise RuntimeError(self._missing(name))
        return dataset

    def _load(self, split: Split) -> ImageDataset | None:
        """Load an official split, as a network sees it outside training."""
        loaded = self.load_split(split)
        if loaded is None:
            return None
        preprocessing = Preprocessing(
            self.image_size, self.mean, self.std, flip=self.horizontal_flip, seed=self.seed
        )
        return ImageDataset.of(loaded.images, loaded.labels, preprocessing)

    def _divide(self) -> dict[str, ImageDataset]:
        """Load the training images and make the training, validation and probe sets of them."""
        available = self._load("train")
        if available is None:
            raise RuntimeError(self._missing("train"))
        divide = Division(
            num_classes=self.num_classes,
            seed=self.seed,
            val_size=self.val_size,
            probe_size=self.probe_size,
            probe_source=self.probe_source,
            train_size=self.train_size,
            label_noise=self.label_noise,
        )
        train, val, probe = divide(available, self._load("val"))
        augmented = replace(train.preprocessing, augment=self.augment)
        return {"train": replace(train, preprocessing=augmented), "val": val, "probe": probe}

    def _loader(
        self,
        dataset: ImageDataset,
        sampler: Sampler[int] | None = None,
        persistent: bool = True,
    ) -> DeferredDataLoader[Batch]:
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
