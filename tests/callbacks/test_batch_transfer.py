"""The probe goes through the module as a validation batch does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import MeanMetric
from watched import FAST, TinyNet, fit, loader, trainer, watch

from filterwatch.callbacks import AnomalyFilterCallback

LOW = {"bf16-mixed": torch.bfloat16, "bf16-true": torch.bfloat16, "64-true": torch.float64}


class DtypeWatch(AnomalyFilterCallback):
    """Notes the precision that the network computes in."""

    def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
        logits = super().probe_step(pl_module, batch)
        assert isinstance(logits, Tensor)
        self.dtype = logits.dtype
        return logits


@pytest.mark.parametrize("precision", LOW)
def test_runs_in_the_trainers_precision(precision: Any) -> None:
    callback = DtypeWatch(**FAST)
    fit(callback, precision=precision, max_epochs=1)
    assert callback.dtype == LOW[precision]
    assert list(callback.history[0]["by_layer"])


class Hooked(TinyNet):
    """Normalises in a transfer hook, and augments there while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.probed: list[tuple[float, int]] = []
        self.flags: set[tuple[bool, bool, bool]] = set()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = batch
        return images - 100, labels

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = batch
        if self.trainer.training:
            images = images * 0
        return images, labels


class HookWatch(AnomalyFilterCallback):
    def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
        images, _ = batch
        pl_module.probed.append((float(images[0, 0, 0, 0]), len(images)))
        trainer = pl_module.trainer
        pl_module.flags.add((trainer.validating, trainer.training, pl_module.training))
        return super().probe_step(pl_module, batch)


def test_goes_through_the_transfer_hooks_of_evaluation() -> None:
    module = Hooked()
    callback = HookWatch(**{**FAST, "probe_size": 64})
    fitted = fit(callback, module=module)
    assert {first for first, _ in module.probed} == {-100.0}  # number 0, shifted, not augmented
    assert module.flags == {(True, False, False)}
    assert module.training
    assert fitted.state.stage is None


def test_a_forward_that_logs() -> None:
    class Talkative(TinyNet):
        def forward(self, images: Tensor) -> Any:
            if self._fabric is None and self.trainer.training:
                self.log("seen", float(len(images)), on_step=True, on_epoch=False)
            return super().forward(images)

    callback = watch()
    fit(callback, module=Talkative())
    assert len(callback.history) == 2


class Counting(TinyNet):
    """Logs and counts in every forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.brightness = MeanMetric()

    def forward(self, images: Tensor) -> Any:
        maps = self.network[0](images)
        self.brightness.update(maps.abs().mean())  # reads a flag out of a tensor
        self.log("seen", maps.mean(), on_step=False, on_epoch=True)
        return super().forward(images)


def test_what_a_forward_logs_and_counts_is_that_of_training_alone() -> None:
    def trained(callbacks: list[Any]) -> tuple[float, float, float]:
        torch.manual_seed(0)
        module = Counting()
        fitted = trainer(*callbacks)
        fitted.fit(module, loader(), loader(seed=1))
        seen = float(fitted.callback_metrics["seen"])
        return seen, float(module.brightness.compute()), float(module.brightness._update_count)

    assert trained([watch()]) == trained([])
