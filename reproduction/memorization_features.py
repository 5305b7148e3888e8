"""What networks make of training and held-out images: features of whole sets, kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from filterwatch.datamodules import ImageDataset
from filterwatch.memorization import (
    BatchFeatures,
    DecodedLayer,
    FeatureListener,
    HeldOut,
    MemorizationReport,
    TrainingRecord,
    find_decoded_layers,
    joined,
)
from filterwatch.observing import observe
from reproduction.cell_training import read_batch, unaugmented
from reproduction.trained_cells import TrainedCell

BATCH_SIZE = 250


@dataclass(frozen=True)
class Features:
    """Features of a trained cell's images, in one epoch.

    Attributes:
        layers: The hidden layers, in forward order.
        training: Of the training images, as evaluation sees them.
        held_out: Of the pool that probes are taken from.
    """

    layers: list[DecodedLayer]
    training: BatchFeatures
    held_out: BatchFeatures

    @classmethod
    def of(
        cls, trained: TrainedCell, epoch: int, *, n_training: int, n_held_out: int
    ) -> Features:
        """Run the first images of both sets, or all where there are fewer, through a network."""
        network = trained.network(epoch)
        train = unaugmented(trained.datamodule.train_dataset)
        pool = trained.datamodule.probe_dataset
        layers = find_decoded_layers(network, read_batch(pool, torch.arange(2)))
        return cls(
            layers,
            follow(network, layers, first(train, n_training)),
            follow(network, layers, first(pool, n_held_out)),
        )

    def measure(self, training: Tensor | slice, held_out: Tensor | slice) -> MemorizationReport:
        """Measure memorization of some training images against some held-out ones."""
        return measured(
            self.layers, chosen(self.training, training), chosen(self.held_out, held_out)
        )


def first(dataset: ImageDataset, n_images: int) -> ImageDataset:
    """Return the first images of a data set, or all where there are fewer."""
    return dataset.select(torch.arange(min(n_images, len(dataset))))


def follow(
    network: nn.Module, layers: Sequence[DecodedLayer], dataset: ImageDataset
) -> BatchFeatures:
    """Return the features of all images of a data set."""
    gathered: list[BatchFeatures] = []
    listener = FeatureListener({layer.name for layer in layers}, gathered.append)
    positions = torch.arange(len(dataset)).split(BATCH_SIZE)
    batches = (read_batch(dataset, part) for part in positions)
    observe(network, batches, lambda name, maps: None, layers=(), seed=0, listener=listener)
    return joined(gathered)


def chosen(features: BatchFeatures, samples: Tensor | slice) -> BatchFeatures:
    """Return the features of some samples."""
    logits, labels = features.logits, features.labels
    return BatchFeatures(
        {name: values[samples] for name, values in features.layers.items()},
        None if logits is None else logits[samples],
        None if labels is None else labels[samples],
    )


def measured(
    layers: Sequence[DecodedLayer],
    training: BatchFeatures,
    held_out: BatchFeatures,
    *,
    seed: int = 0,
) -> MemorizationReport:
    """Measure memorization from features; the same as `filterwatch.measure_memorization`."""
    record = TrainingRecord(HeldOut.fit(layers, held_out, seed=seed))
    record.add(training)
    return record.report()
