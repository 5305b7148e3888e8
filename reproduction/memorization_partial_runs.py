"""Runs without some of the training images: of a cell, trained again or read from disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from filterwatch.datamodules import ImageDataModule
from reproduction.cell_training import train_cell
from reproduction.kept_probes import load_network
from reproduction.run_folder import RunFolder, write_json
from reproduction.trained_cells import TrainedCell


@dataclass(frozen=True)
class PartialRun:
    """A finished run on part of a cell's training images, all else being equal.

    Attributes:
        folder: Where it is kept.
        datamodule: Its images, loaded.
        epochs: How many epochs it has.
        left_out: Positions of the images that it was not trained on, in the cell's training set.
    """

    folder: RunFolder
    datamodule: ImageDataModule
    epochs: int
    left_out: list[int]

    @property
    def best(self) -> int:
        """Epoch of the lowest validation loss, the first at a tie."""
        curves = self.folder.curves()[: self.epochs]
        return int(min(curves, key=lambda row: row["val_loss"])["epoch"])

    def network(self, epoch: int) -> torch.nn.Module:
        """Return the network of an epoch, in evaluation mode."""
        return load_network(self.folder, epoch, self.datamodule)


def partial_run(
    trained: TrainedCell, name: str, left_out: Callable[[], Sequence[int]], epochs: int
) -> PartialRun | None:
    """Train a cell without some of its images, from where it stopped, unless it has finished.

    Args:
        trained: The cell.
        name: Of the folder within the cell's.
        left_out: Returns the positions to leave out; asked once, then they are on disk.
        epochs: How many epochs to train.

    Returns:
        The run; ``None`` where it has not finished and nothing is to be trained.
    """
    folder = RunFolder(trained.folder.path / name)
    options = trained.session.options
    if len(folder.curves()) < epochs and not options.train:
        return None
    path = folder.path / "left_out.json"
    if not path.exists():
        write_json(path, sorted(int(position) for position in left_out()))
    positions: list[int] = json.loads(path.read_text(encoding="utf-8"))
    cell = replace(trained.cell, epochs=epochs)
    datamodule = trained.session.images(cell.dataset).divided(cell, without=positions)
    datamodule.setup("fit")
    if len(folder.curves()) < epochs:
        train_cell(cell, datamodule, folder, accelerator=options.device, keep_every=epochs)
    return PartialRun(folder, datamodule, epochs, positions)
