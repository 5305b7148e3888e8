"""The part of `AnomalyFilterCallback` that lets actions act."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim import Optimizer

from filterwatch._compat import scalar_step
from filterwatch._failures import Failures
from filterwatch.actions import ActionList, Watch
from filterwatch.callbacks.evaluation import Step, evaluation_stage, run_step
from filterwatch.callbacks.probe import Probe, ProbeSource
from filterwatch.detection import AnomalyReport


class ActingCallback(Callback, ABC):
    """Tells actions what happens in a fit.

    Attributes:
        actions: What to do about flagged filters.
        samples: The probe while a fit runs.
        probe: Where samples come from, as the user asked for it.
        prefix: Begins the name of what is logged.
        strict: Whether a failure ends the training.
    """

    actions: ActionList
    samples: Probe | None
    probe: ProbeSource
    prefix: str
    strict: bool
    _warnings: Failures

    @property
    @abstractmethod
    def history(self) -> list[dict[str, Any]]:
        """One dict a probe."""

    @abstractmethod
    def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
        """Send a batch of the probe through the network."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let actions do what they decided at the end of the epoch before."""
        if len(self.actions):
            self.actions.on_epoch_start(self.watch(trainer, pl_module))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Show actions the gradients, before they are clipped."""
        self.actions.on_before_step(optimizer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let go of the fit."""
        self.actions.end()

    def act(
        self, trainer: Trainer, pl_module: LightningModule, report: AnomalyReport, epoch: int
    ) -> None:
        """Let actions decide what to do about a report; where that fails, nothing is done."""
        try:
            self.actions.judge(self.watch(trainer, pl_module), report, epoch)
            self._log_events(trainer, epoch)
        except Exception as error:
            if self.strict:
                raise
            reason = f"{type(error).__name__}: {error}"
            self._warnings.warn(
                re.sub(r"\d+", "", reason)[:60],  # numbers and what follows differ each time
                f"AnomalyFilterCallback could not act in epoch {epoch}: {reason}",
            )

    def _log_events(self, trainer: Trainer, epoch: int) -> None:
        """Put what actions did into the loggers that show text."""
        lines = self.actions.events(epoch)
        step = scalar_step(trainer)
        if not lines or not trainer.is_global_zero:
            return
        text = "\n".join(f"- {line}" for line in lines)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text(f"{self.prefix}actions", text, step)

    def watch(self, trainer: Trainer, pl_module: LightningModule) -> Watch:
        """Return what actions get to see."""
        assert self.samples is not None
        return Watch(
            trainer=trainer,
            module=pl_module,
            batches=self.samples.batches,
            first_samples=self.samples.first_samples,
            holds_training_data=_is_of_training_data(trainer, self.probe),
            probe_step=self.probe_step,
            run=partial(_evaluate, trainer, pl_module),
            history=self.history,
        )


def _is_of_training_data(trainer: Trainer, probe: ProbeSource) -> bool:
    if probe is None:  # the bundled datamodules can be asked for such a probe, too
        return getattr(getattr(trainer, "datamodule", None), "probe_source", None) == "train"
    return isinstance(probe, str)


def _evaluate(trainer: Trainer, pl_module: LightningModule, batch: Any, step: Step) -> Any:
    with evaluation_stage(trainer):
        return run_step(trainer, pl_module, batch, step)
