"""Sending a batch through a LightningModule the way the Trainer's own evaluation loop does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric


@contextmanager
def evaluation_stage(trainer: Trainer) -> Iterator[None]:
    """Let ``trainer.validating`` say so: a transfer hook may augment while ``trainer.training``."""
    stage = trainer.state.stage
    trainer.validating = True
    try:
        yield
    finally:
        trainer.state.stage = stage


Step = Callable[[LightningModule, Any], object]


def run_step(trainer: Trainer, pl_module: LightningModule, batch: Any, step: Step) -> object:
    """Bring a batch to the device and run a step on it in the Trainer's precision.

    Args:
        trainer: The Trainer.
        pl_module: Its module.
        batch: A batch on the CPU, which stays as it is.
        step: Called with the module and the batch on the device.

    Returns:
        What the step returned.
    """
    # A hook or an in-place operation may write into the batch, and it is used again.
    batch = copy.deepcopy(batch)
    batch = trainer.precision_plugin.convert_input(batch)
    batch = pl_module._on_before_batch_transfer(batch, dataloader_idx=0)
    batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
    with trainer.precision_plugin.forward_context(), _silent(pl_module):
        return step(pl_module, batch)


@contextmanager
def _silent(pl_module: LightningModule) -> Iterator[None]:
    """Let a forward pass that logs, or counts in a metric of its own, leave nothing behind."""
    metrics = [module for module in pl_module.modules() if isinstance(module, Metric)]
    kept = [(metric, _state(metric)) for metric in metrics]
    names = ("log", "log_dict")
    own = {name: pl_module.__dict__[name] for name in names if name in pl_module.__dict__}
    for name in names:
        pl_module.__dict__[name] = _nothing
    try:
        yield
    finally:
        for name in names:
            pl_module.__dict__.pop(name, None)
        pl_module.__dict__.update(own)
        for metric, state in kept:
            metric.__dict__.update(state)


def _state(metric: Metric) -> dict[str, Any]:
    """Return copies of what a metric has accumulated: a tensor or a list of tensors each."""
    state: dict[str, Any] = {}
    for name in metric._defaults:
        value = getattr(metric, name)
        state[name] = value.clone() if isinstance(value, Tensor) else list(value)
    counters = ("_update_count", "_computed", "_forward_cache")
    return {
        **state,
        **{name: metric.__dict__[name] for name in counters if name in metric.__dict__},
    }


def _nothing(*arguments: object, **options: object) -> None:
    """Take the place of `LightningModule.log`."""


def tried_step(trainer: Trainer, pl_module: LightningModule, step: Step) -> Callable[[Any], object]:
    """Return `run_step` on a batch, with an error that says what to do when the step fails."""

    def forward(batch: Any) -> object:
        try:
            return run_step(trainer, pl_module, batch, step)
        except Exception as error:
            raise ValueError(
                f"{type(pl_module).__name__} cannot run the probe ({error!r}). "
                "Give it a forward(images), or override probe_step(pl_module, batch) of "
                "AnomalyFilterCallback to say how a batch goes through the network"
            ) from error

    return forward
