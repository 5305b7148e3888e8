"""`Action`: what can be done about the anomaly filters that a probe found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lightning.pytorch import LightningModule, Trainer
from rich.console import RenderableType
from torch import Tensor
from torch.optim import Optimizer

from filterwatch._failures import first_process_outcome
from filterwatch.actions.masks import FilterMasks
from filterwatch.detection import AnomalyReport
from filterwatch.observing import undisturbed

T = TypeVar("T")
Step = Callable[[LightningModule, Any], Any]
LossStep = Callable[[LightningModule, Any], Tensor]


@dataclass(frozen=True)
class RunningFit:
    """What an action gets to see of the fit that is running.

    Attributes:
        trainer: The Trainer.
        module: Its module.
        batches: The probe, in batches on the CPU, with their labels.
        first_samples: A batch of its first one or two samples.
        holds_training_data: Whether the probe is known to be of training samples.
        probe_step: Sends a batch through the network.
        run: Runs a step on a batch, moved to the device and in the Trainer's precision.
        history: The probes so far, the newest last; see `AnomalyFilterCallback`.
    """

    trainer: Trainer
    module: LightningModule
    batches: Sequence[Any]
    first_samples: Any
    holds_training_data: bool
    probe_step: Step
    run: Callable[[Any, Step], Any]
    history: Sequence[dict[str, Any]]

    def forward(self, batch: Any) -> object:
        """Send a batch through the network, in evaluation mode, and leave no trace in it."""
        with undisturbed(self.module):
            return self.run(batch, self.probe_step)

    def decide(self, decision: Callable[[], T]) -> T:
        """Make a decision on every process, and return the first one's, or raise its error."""
        return first_process_outcome(self.trainer, decision)


class Action(ABC):
    """Acts on what the probes of a fit find; passed as ``action=`` to `AnomalyFilterCallback`.

    An action of one's own overrides `judge`; the other methods do nothing unless overridden::

        class HalveLearningRate(Action):
            def judge(self, fit, report, epoch):
                if report.count > 100:
                    for group in fit.trainer.optimizers[0].param_groups:
                        group["lr"] /= 2

    With several processes, every one of them calls `judge` with the same report and history.
    """

    @abstractmethod
    def judge(self, fit: RunningFit, report: AnomalyReport, epoch: int) -> None:
        """Decide what to do about the report of an epoch's probe, at the epoch's end.

        Masked filters are in the report as they would be unmasked.
        """

    def check(self, trainer: Trainer) -> None:
        """Raise ``ValueError`` for a Trainer that the action cannot work with, before a fit."""

    def start(self, fit: RunningFit, *, resumed: bool) -> None:
        """Prepare, when training starts; ``resumed`` if `load_state_dict` was called for it."""

    def on_epoch_start(self, fit: RunningFit) -> None:
        """Carry out what was decided at the end of the epoch before."""

    def on_before_step(self, optimizer: Optimizer) -> None:
        """See gradients before they are clipped."""

    def end(self) -> None:
        """Let go of the fit, whether it has ended well or not."""

    @property
    def masks(self) -> FilterMasks | None:
        """The masks on the network, for the probe to judge masked filters without them."""
        return None

    def metrics(self) -> dict[str, float]:
        """Return what to log at the end of each epoch, by name."""
        return {}

    def summary(self) -> RenderableType | None:
        """Return what to print at the end of a fit."""
        return None

    def events(self, epoch: int) -> list[str]:
        """Return what happened in an epoch, a line each, for the loggers that show text."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and tensors for a checkpoint."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; what is missing there starts anew."""
