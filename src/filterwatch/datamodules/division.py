"""Dividing images into training, validation and probe sets, and changing the training set."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from filterwatch.datamodules.dataset import ImageDataset
from filterwatch.datamodules.sampling import (
    Stream,
    add_label_noise,
    class_balanced_subset,
    seeded_generator,
    stratified_split,
)

ProbeSource = Literal["held_out", "train"]


class Divided(NamedTuple):
    """Pairwise disjoint sets, unless the probe was asked for from the training images."""

    train: ImageDataset
    val: ImageDataset
    probe: ImageDataset


@dataclass(frozen=True)
class Division:
    """How images are divided; every choice has a stream of random numbers of its own.

    Attributes:
        num_classes: Number of classes.
        seed: Seed of every choice.
        val_size: Images split off for validation; None takes a tenth.
        probe_size: Images of the probe; None takes 1,000, or a fifth where that is fewer.
        probe_source: ``"held_out"`` or ``"train"``, see
            :class:`~filterwatch.datamodules.base.ImageDataModule`.
        train_size: Training images to keep, class-balanced; None keeps all.
        label_noise: Share of the training labels to replace.
    """

    num_classes: int
    seed: int
    val_size: int | None
    probe_size: int | None
    probe_source: ProbeSource
    train_size: int | None
    label_noise: float

    def __call__(self, available: ImageDataset, validation: ImageDataset | None) -> Divided:
        """Divide the images that are ``available`` for training.

        Args:
            available: Official training images.
            validation: Official validation images; None splits them off ``available``.

        Raises:
            ValueError: More images are asked for than there are, or ``val_size`` is given beside
                official validation images.
        """
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
        for_validation, for_probe, for_training = stratified_split(
            available.labels,
            [val_size, probe_size, remaining],
            seeded_generator(self.seed, Stream.SPLIT),
        )
        train = self._add_noise(self._shrink(available.select(for_training)))
        return Divided(
            train=train,
            val=available.select(for_validation) if validation is None else validation,
            probe=(
                available.select(for_probe)
                if self.probe_source == "held_out"
                else self._draw_probe(train)
            ),
        )

    def _shrink(self, train: ImageDataset) -> ImageDataset:
        """Apply ``train_size``."""
        if self.train_size is None:
            return train
        if self.train_size > len(train):
            raise ValueError(
                f"train_size={self.train_size} exceeds the {len(train)} images left for "
                "training: lower it, or pass None for all of them"
            )
        generator = seeded_generator(self.seed, Stream.TRAIN_SUBSET)
        return train.select(class_balanced_subset(train.labels, self.train_size, generator))

    def _add_noise(self, train: ImageDataset) -> ImageDataset:
        """Apply ``label_noise``."""
        generator = seeded_generator(self.seed, Stream.LABEL_NOISE)
        noisy = add_label_noise(train.labels, self.label_noise, self.num_classes, generator)
        return replace(train, labels=noisy)

    def _draw_probe(self, train: ImageDataset) -> ImageDataset:
        """Draw the probe from the images that are trained on, with the labels they have there."""
        size = self.probe_size or min(1000, len(train))
        if size > len(train):
            raise ValueError(
                f"probe_size={size} exceeds the {len(train)} training images that "
                "probe_source='train' draws from: lower it"
            )
        generator = seeded_generator(self.seed, Stream.PROBE)
        drawn, _ = stratified_split(train.labels, [size, len(train) - size], generator)
        return train.select(drawn)
