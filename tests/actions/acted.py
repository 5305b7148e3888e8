"""A tiny network with batch normalization, tiny data, and a Trainer that is quiet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from filterwatch import AnomalyReport, MaskFilters
from filterwatch.actions import FlaggedFilter, RunningFit
from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.detection import AnomalyCriteria

SIZE = 8
N_CLASSES = 4
CONVOLUTIONS = ("network.0", "network.4")
Filter = tuple[str, int]


class TinyNet(LightningModule):
    """Two convolutions with batch normalization on images [B, 1, 8, 8]."""

    def __init__(self, optimizer: Any = None) -> None:
        super().__init__()
        self.make_optimizer = optimizer or partial(torch.optim.Adam, lr=0.01)
        self.network = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6 * 16, N_CLASSES),
        )

    def forward(self, images: Tensor) -> Any:
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch), sync_dist=True, batch_size=16)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self.make_optimizer(self.parameters())
        return optimizer

    def loss(self, batch: Any) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)


def dataset(n_samples: int = 64, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_samples) * N_CLASSES // n_samples
    images = torch.randn(n_samples, 1, SIZE, SIZE, generator=generator) + labels.view(-1, 1, 1, 1)
    return TensorDataset(images, labels)


def loader(n_samples: int = 64, *, seed: int = 0, **options: Any) -> DataLoader[Any]:
    return DataLoader(dataset(n_samples, seed), batch_size=16, **options)


class MaskThese(MaskFilters):
    """Masks given filters at given epochs, whatever is flagged."""

    def __init__(self, plan: Mapping[int, Sequence[Filter]], **options: Any) -> None:
        super().__init__(**{"max_fraction": 0.75, **options})
        self.plan = dict(plan)

    def choose(
        self, flagged: Sequence[FlaggedFilter], report: AnomalyReport, fit: RunningFit
    ) -> list[Filter]:
        return list(self.plan.get(fit.history[-1]["epoch"], []))


class EachStep(Callback):
    """Calls a function behind each optimizer step."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.steps = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step > self.steps:
            self.steps = trainer.global_step
            self.function(trainer, pl_module)


def watch(**options: Any) -> AnomalyFilterCallback:
    fast: dict[str, Any] = {
        "probe_size": 40,
        "print_summary": False,
        "pictures": False,
        "strict": True,
        "max_clusters": 6,
        "criteria": AnomalyCriteria(small_cluster_size=4),
    }
    return AnomalyFilterCallback(**{**fast, **options})


def trainer(*callbacks: Any, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 3,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(callbacks=list(callbacks), **{**quiet, **options})


def fit(
    *callbacks: Any,
    module: LightningModule | None = None,
    checkpoint: Any = None,
    **options: Any,
) -> Trainer:
    """Fit a network to tiny data in fixed order, the same way at each call."""
    seed_everything(0, verbose=False)
    fitted = trainer(*callbacks, **options)
    fitted.fit(
        TinyNet() if module is None else module, loader(seed=1), loader(), ckpt_path=checkpoint
    )
    return fitted


def relu_maps(module: Any, images: Tensor, layer: str) -> Tensor:
    """Return maps [B, C, h, w] behind the ReLU of a convolution of `TinyNet`."""
    end = int(layer.removeprefix("network.")) + 3
    return module.network[:end](images)


def bitwise_equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
