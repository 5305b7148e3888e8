"""Watching changes nothing: a run with the callback is the run without it, bit by bit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, seed_everything
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from watched import FAST, TinyNet, dataset, trainer, watch

from filterwatch.callbacks import AnomalyFilterCallback


class Noisy(Dataset[Any]):
    """Augments with random numbers of the process."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        image, label = dataset()[index]
        return image + 0.1 * torch.randn(image.shape), label


class Delicate(LightningModule):
    """BatchNorm, one of them frozen; Dropout; an in-place ReLU; momentum; a transfer hook."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.2),
            nn.Conv2d(4, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(96, 4),
        )
        self.frozen = self.network[5]

    def on_train_epoch_start(self) -> None:
        self.frozen.eval()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = batch
        images.add_(0.1 * torch.randn_like(images))
        return images, labels

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        noise = float(np.random.rand()) + random.random()  # noqa: NPY002
        return F.cross_entropy(self(images + noise), labels)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01, weight_decay=0.01)


def trained(*callbacks: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Return weights and buffers, optimizer state, and random state, after three epochs."""
    seed_everything(0, verbose=False)
    module = Delicate()
    loaders = [
        DataLoader(Noisy(), batch_size=16, shuffle=True, num_workers=2),
        DataLoader(Noisy(), batch_size=16),
    ]
    fitted = trainer(*callbacks, max_epochs=3, **options)
    fitted.fit(module, *loaders)
    random_state = [torch.get_rng_state(), random.getstate(), np.random.get_state()]  # noqa: NPY002
    assert not module.frozen.training
    assert module.network[1].training
    return module.state_dict(), fitted.optimizers[0].state_dict(), random_state


def assert_equal(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, np.ndarray):
        assert np.array_equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for left, right in zip(first, second, strict=True):
            assert_equal(left, right)
    else:
        assert first == second


@pytest.mark.parametrize("options", [{}, {"num_sanity_val_steps": 2, "limit_val_batches": 1}])
def test_weights_and_optimizer_are_bit_identical(options: Any) -> None:
    callback = watch()
    assert_equal(trained(callback, **options), trained(**options))
    assert len(callback.history) == 3


@pytest.mark.parametrize("logger", [TensorBoardLogger, CSVLogger])
def test_pictures_do_not_disturb_either(logger: Any, tmp_path: Any) -> None:
    callback = watch(pictures=1)
    drawn = trained(callback, logger=logger(tmp_path), log_every_n_steps=1)
    assert_equal(drawn, trained())
    written = "events*" if logger is TensorBoardLogger else "training.png"
    assert len(list(tmp_path.rglob(written))) == 1


def test_also_when_watching_fails() -> None:
    class Failing(AnomalyFilterCallback):
        calls = 0

        def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
            self.calls += 1
            super().probe_step(pl_module, batch)
            if self.calls > 1:
                torch.rand(1)
                raise RuntimeError("in the middle of the probe")
            return None

    failing = Failing(**FAST)
    with pytest.warns(UserWarning, match="in the middle of the probe"):
        observed = trained(failing)
    assert_equal(observed, trained())


def test_the_comparison_notices_a_disturbance() -> None:
    class Careless(AnomalyFilterCallback):
        def on_train_epoch_end(self, trainer: Any, pl_module: LightningModule) -> None:
            torch.rand(1)
            super().on_train_epoch_end(trainer, pl_module)

    with pytest.raises(AssertionError):
        assert_equal(trained(Careless(**FAST)), trained())


def test_the_probe_itself_stays_as_it_was() -> None:
    """Hooks and in-place operations that write into a batch must not wear the probe out."""
    callback = watch(probe=dataset())
    kept: list[Tensor] = []

    class Worn(TinyNet):
        def forward(self, images: Tensor) -> Any:
            return super().forward(images.mul_(0.5))

        def on_train_epoch_start(self) -> None:
            assert callback.samples is not None
            kept.append(callback.samples.batches[0][0].clone())

    trainer(callback).fit(Worn(), DataLoader(dataset(), 16), DataLoader(dataset(), 16))
    assert torch.equal(*kept)
