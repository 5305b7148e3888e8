"""Sending a batch through a LightningModule the way the Trainer's own evaluation loop does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer


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
    with trainer.precision_plugin.forward_context():
        return step(pl_module, batch)


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
