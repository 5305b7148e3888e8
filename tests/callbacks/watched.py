"""A tiny network, tiny images, and a Trainer that is quiet: what the callback's tests train."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.detection import AnomalyCriteria

SIZE = 8
N_CLASSES = 4
LAYERS = ["network.0", "network.1", "network.2", "network.3", "network.4"]


class TinyNet(LightningModule):
    """Two convolutions on images [B, 1, 8, 8]."""

    def __init__(self, learning_rate: float = 0.01) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6 * 16, N_CLASSES),
        )

    def forward(self, images: Tensor) -> Any:
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch), sync_dist=True, batch_size=16)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)

    def loss(self, batch: Any) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)


class TrainOnly(TinyNet):
    """A network that is never validated."""

    validation_step = LightningModule.validation_step


def dataset(n_samples: int = 64, seed: int = 0) -> TensorDataset:
    """Return noisy images in four classes, sorted by class; image i shows the number i."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_samples) * N_CLASSES // n_samples
    images = torch.randn(n_samples, 1, SIZE, SIZE, generator=generator) + labels.view(-1, 1, 1, 1)
    images[:, 0, 0, 0] = torch.arange(n_samples)
    return TensorDataset(images, labels)


def loader(n_samples: int = 64, *, seed: int = 0, **options: Any) -> DataLoader[Any]:
    return DataLoader(dataset(n_samples, seed), batch_size=16, **options)


# Counts that are not 0 and change from epoch to epoch, on data as small as this.
DETECTION: dict[str, Any] = {"max_clusters": 6, "criteria": AnomalyCriteria(small_cluster_size=4)}
# Settings of a Trainer.
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "max_epochs": 2,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
FAST: dict[str, Any] = {"probe_size": 40, "print_summary": False, "pictures": False, **DETECTION}


def watch(**options: Any) -> AnomalyFilterCallback:
    """Return a callback that is fast on tiny data, prints nothing and draws nothing."""
    return AnomalyFilterCallback(**{**FAST, **options})


def trainer(*callbacks: Any, **options: Any) -> Trainer:
    """Return a Trainer on the CPU for two epochs that writes nothing."""
    return Trainer(callbacks=list(callbacks), **{**QUIET, **options})


def fit(*callbacks: Any, module: LightningModule | None = None, **options: Any) -> Trainer:
    """Fit a network to tiny data, the same way at each call; return the Trainer."""
    seed_everything(0, verbose=False)
    fitted = trainer(*callbacks, **options)
    fitted.fit(module or TinyNet(), loader(seed=1, shuffle=True), loader())
    return fitted


def numbers(batches: list[Any]) -> list[int]:
    """Return the numbers that `dataset` put into images of batches [images, labels]."""
    return [int(number) for images, _ in batches for number in images[:, 0, 0, 0]]
