"""Training a cell: every epoch's weights and losses kept, an interrupted run taken up again."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn

from filterwatch.datamodules import ImageDataModule, ImageDataset, seeded_generator
from filterwatch.models import ImageClassifier
from reproduction.cells import Cell
from reproduction.networks import build
from reproduction.run_folder import UNTRAINED, RunFolder

# Training images on which loss and accuracy are taken in evaluation mode, without augmentation.
_EVALUATED = 4000
_METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


def train_cell(
    cell: Cell,
    datamodule: ImageDataModule,
    folder: RunFolder,
    *,
    accelerator: str = "cpu",
    keep_every: int = 1,
) -> RunFolder:
    """Train a cell, from where it stopped; do nothing where it has finished.

    What is random in an epoch depends on the cell's seed and the epoch alone, so that a run that
    was interrupted ends with the same weights as one that was not. At most one epoch is lost.

    Args:
        cell: What to train.
        datamodule: Its images.
        folder: Where the run is kept.
        accelerator: Lightning's name of the device.
        keep_every: Keep the weights of epochs divisible by this number; the one of the lowest
            validation loss and the last one are kept in any case.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder holds a run of other settings.
    """
    settings = {**cell.settings(), "images": _fingerprint(datamodule)}
    check_settings(folder, settings)
    if len(folder.curves()) >= cell.epochs and folder.checkpoint.exists():
        return folder
    folder.write_settings(settings)
    torch.manual_seed(cell.seed)
    network = build(
        cell.model, datamodule.num_classes, datamodule.in_channels, datamodule.image_size
    )
    classifier = ImageClassifier(
        network,
        num_classes=datamodule.num_classes,
        learning_rate=cell.learning_rate,
        weight_decay=settings["weight_decay"],
    )
    # Twice as fast on a CPU as the default order, with the same values up to rounding.
    classifier.network.to(memory_format=torch.channels_last)
    folder.write_weights(UNTRAINED, classifier.network.state_dict())
    # Weights come before the checkpoint that says their epoch is done.
    recorder = _Recorder(folder, datamodule, cell, keep_every)
    trainer = Trainer(
        max_epochs=cell.epochs,
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[_SeededEpochs(cell.seed), recorder],
    )
    checkpoint = str(folder.checkpoint) if folder.checkpoint.exists() else None
    trainer.fit(classifier, datamodule=datamodule, ckpt_path=checkpoint)
    return folder


def check_settings(folder: RunFolder, settings: dict[str, Any]) -> None:
    """Refuse a folder that holds a run of other settings.

    Args:
        folder: The folder; an empty one is fine.
        settings: What is asked for; other settings of the run are not compared.

    Raises:
        ValueError: If one of them differs.
    """
    present = folder.settings()
    if present is None:
        return
    differing = {
        key: (present.get(key), value)
        for key, value in settings.items()
        if present.get(key) != value
    }
    if differing:
        raise ValueError(
            f"{folder.path} holds a run of other settings (there, asked for): {differing}: "
            "delete it, or name another folder (--runs)"
        )


@torch.no_grad()
def evaluate(
    network: nn.Module, dataset: ImageDataset, *, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """Return mean cross entropy and accuracy over a data set, in evaluation mode.

    Args:
        network: From images to logits; its training flags come back as they were.
        dataset: The images, in batches of 250, whose maps stay in the cache.
        device: Where the network is.
    """
    training = [(module, module.training) for module in network.modules()]
    network.eval()
    loss, correct = 0.0, 0
    for positions in torch.arange(len(dataset)).split(250):
        images, labels = read_batch(dataset, positions)
        logits = network(images.to(device))
        labels = labels.to(device)
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        correct += int((logits.argmax(1) == labels).sum())
    for module, flag in training:
        module.training = flag
    return loss / len(dataset), correct / len(dataset)


def read_batch(dataset: ImageDataset, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return images [B, C, H, W] as the network sees them, and labels [B]."""
    rows = dataset.indices[positions]
    images = dataset.preprocessing(dataset.source.read(rows), rows)
    return images, dataset.labels[positions]


def unaugmented(dataset: ImageDataset) -> ImageDataset:
    """Return a training set as evaluation sees it."""
    return replace(dataset, preprocessing=replace(dataset.preprocessing, augment=False))


class _SeededEpochs(Callback):
    """Makes what is random in an epoch (dropout) a function of seed and epoch."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        generator = seeded_generator(self._seed, trainer.current_epoch)
        torch.manual_seed(int(generator.initial_seed() % 2**63))


class _Recorder(Checkpoint):
    """Keeps an epoch's weights, losses and checkpoint. As a `Checkpoint` it runs last."""

    def __init__(
        self, folder: RunFolder, datamodule: ImageDataModule, cell: Cell, keep_every: int
    ) -> None:
        self._folder = folder
        self._datamodule = datamodule
        self._cell = cell
        self._keep_every = keep_every
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch
        assert isinstance(pl_module, ImageClassifier)
        row: dict[str, float] = {"epoch": epoch}
        row.update({name: float(trainer.callback_metrics[name]) for name in _METRICS})
        train = unaugmented(self._datamodule.train_dataset)
        sample = train.select(torch.arange(min(_EVALUATED, len(train))))
        row["train_eval_loss"], row["train_eval_accuracy"] = evaluate(
            pl_module.network, sample, device=pl_module.device
        )
        row["seconds"] = time.monotonic() - self._started
        curves = [*self._folder.curves()[:epoch], row]
        self._folder.write_weights(epoch, pl_module.network.state_dict())
        self._folder.write_curves(curves)
        self._save(trainer)
        self._forget(curves)
        self._show(row)

    def _save(self, trainer: Trainer) -> None:
        partial = self._folder.checkpoint.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        partial.replace(self._folder.checkpoint)

    def _forget(self, curves: list[dict[str, float]]) -> None:
        """Delete weights that are neither wanted, nor the best, nor the newest."""
        best = min(curves, key=lambda row: row["val_loss"])["epoch"]
        for epoch in range(len(curves) - 1):
            if epoch % self._keep_every and epoch != best:
                self._folder.weights_path(epoch).unlink(missing_ok=True)

    def _show(self, row: dict[str, Any]) -> None:
        values = " ".join(f"{key}={value:.4g}" for key, value in row.items())
        print(f"{self._cell.name} {values}", file=sys.stderr, flush=True)


def _fingerprint(datamodule: ImageDataModule) -> dict[str, Any]:
    """Say which images these are, so that a run is not taken up with others."""
    datamodule.setup("fit")
    return {
        "train": len(datamodule.train_dataset),
        "val": len(datamodule.val_dataset),
        "probe": len(datamodule.probe_dataset),
        "label_sum": int((datamodule.train_dataset.labels * 7919 % 10007).sum()),
    }


def run_folder(runs: Path, cell: Cell) -> RunFolder:
    """Return the folder of a cell among all runs."""
    return RunFolder(runs / cell.name)
