"""Sending a batch through a LightningModule the way the Trainer's own evaluation loop does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torchmetrics import Metric

from filterwatch._compat import metric_state, transferred
from filterwatch.batches import channels_last_remedy, find_images

Step = Callable[[LightningModule, Any], Any]


@contextmanager
def evaluation_stage(trainer: Trainer) -> Iterator[None]:
    """Set ``trainer.validating``: a transfer hook may augment images while training."""
    stage = trainer.state.stage
    trainer.validating = True
    try:
        yield
    finally:
        trainer.state.stage = stage


def evaluate(trainer: Trainer, pl_module: LightningModule, batch: Any, step: Step) -> Any:
    """Bring a batch to the device and run a step on it in the Trainer's precision.

    Args:
        trainer: The Trainer.
        pl_module: Its module.
        batch: A batch on the CPU, which stays as it is.
        step: Called with the module and the batch on the device.

    Returns:
        What the step returned.
    """
    with evaluation_stage(trainer):
        # A hook or an in-place operation may write into the batch, and it is used again.
        batch = transferred(trainer, pl_module, copy.deepcopy(batch))
        with trainer.precision_plugin.forward_context(), _silent(pl_module):
            return step(pl_module, batch)


def tried_step(trainer: Trainer, pl_module: LightningModule, step: Step) -> Callable[[Any], object]:
    """Return `evaluate` of a batch, with an error that says what to do when the step fails."""

    def forward(batch: Any) -> object:
        try:
            return evaluate(trainer, pl_module, batch, step)
        except Exception as error:
            remedy = "Give it a forward(images)"
            with suppress(ValueError):
                if last := channels_last_remedy(find_images(batch)):
                    remedy = f"{last}. Or give it a forward that takes such images"
            raise ValueError(
                f"{type(pl_module).__name__} cannot run the probe ({error!r}). {remedy}, or "
                "override probe_step(pl_module, batch) of AnomalyFilterCallback to say how a batch "
                "goes through the network"
            ) from error

    return forward


@contextmanager
def _silent(pl_module: LightningModule) -> Iterator[None]:
    """Let a forward pass that logs, or counts in a metric of its own, leave nothing behind."""
    metrics = [module for module in pl_module.modules() if isinstance(module, Metric)]
    kept = [(metric, metric_state(metric)) for metric in metrics]
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


def _nothing(*arguments: object, **options: object) -> None:
    """Take the place of `LightningModule.log`."""
