"""What networks make of training and held-out images: features of whole sets, kept in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from filterwatch.datamodules import ImageDataModule, ImageDataset
from filterwatch.memorization import (
    BatchFeatures,
    DecodedLayer,
    HeldOut,
    MemorizationReport,
    TrainingRecord,
    find_decoded_layers,
    read_features,
)
from reproduction.cell_training import read_batch, unaugmented
from reproduction.kept_probes import code_version
from reproduction.result_files import plain
from reproduction.run_folder import write_json
from reproduction.trained_cells import TrainedCell

BATCH_SIZE = 250
# What is measured depends on the code in these; see `kept`.
_ENGINE = ("memorization", "observing")


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
    def of(cls, trained: TrainedCell, epoch: int, *, n_training: int, n_held_out: int) -> Features:
        """Run the first images of both sets, or all where there are fewer, through a network."""
        return cls.of_network(
            trained.network(epoch),
            trained.datamodule,
            n_training=n_training,
            n_held_out=n_held_out,
        )

    @classmethod
    def of_network(
        cls,
        network: nn.Module,
        datamodule: ImageDataModule,
        *,
        n_training: int,
        n_held_out: int,
    ) -> Features:
        """Run the first training and held-out images through a network in evaluation mode."""
        pool = datamodule.probe_dataset
        train = first(unaugmented(datamodule.train_dataset), n_training)
        layers = find_decoded_layers(network, read_batch(pool, torch.arange(2)))
        return cls(
            layers,
            follow(network, layers, train),
            follow(network, layers, first(pool, n_held_out)),
        )

    def report(self, n_judges: int | None = None) -> MemorizationReport:
        """Measure all training images against the first held-out ones; ``None`` takes all."""
        return measured(self.layers, self.training, chosen(self.held_out, slice(n_judges)))


def first(dataset: ImageDataset, n_images: int) -> ImageDataset:
    """Return the first images of a data set, or all where there are fewer."""
    return dataset.select(torch.arange(min(n_images, len(dataset))))


def follow(
    network: nn.Module, layers: Sequence[DecodedLayer], dataset: ImageDataset
) -> BatchFeatures:
    """Return the features of all images of a data set."""
    positions = torch.arange(len(dataset)).split(BATCH_SIZE)
    return read_features(network, (read_batch(dataset, part) for part in positions), layers)


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


def kept(trained: TrainedCell, name: str, compute: Callable[[], Any]) -> Any:
    """Return what was computed of a run before, from disk, unless the package has changed since.

    Args:
        trained: The run, in whose folder it is kept.
        name: Of what is computed; with whatever decides it, but for the run and the package.
        compute: Returns it, as what JSON can hold.
    """
    version = code_version(folders=_ENGINE)
    path = trained.folder.path / "memorization" / version / f"{name}.json"
    if not path.exists():
        write_json(path, plain(compute()))
    return json.loads(path.read_text(encoding="utf-8"))
