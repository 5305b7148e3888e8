"""Both readouts of one probe: the anomaly filters, and what has been memorized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer

from filterwatch._failures import Failures, first_process_outcome
from filterwatch.callbacks.evaluation import Step, evaluate
from filterwatch.callbacks.memorization_watch import MemorizationWatch
from filterwatch.callbacks.probe import Probe
from filterwatch.detection import AnomalyReport, Compilation, Plan, detect_as_planned
from filterwatch.memorization import MemorizationReport
from filterwatch.observing import Masks
from filterwatch.visuals import probe_progress

Forward = Callable[[Any], object]

_GOING_ON = "training goes on, and the last values are logged again"
Noting = Callable[[Forward], Forward]


class Readout(NamedTuple):
    """What a probe found; ``memorization`` is ``None`` where it was not measured."""

    report: AnomalyReport
    memorization: MemorizationReport | None


@dataclass(frozen=True)
class Readouts:
    """Takes both readouts, at most once an epoch.

    Attributes:
        trainer: The Trainer.
        module: Its module.
        samples: The probe.
        plan: What was planned for it.
        settings: Arguments of `detect_as_planned`.
        step: Sends a batch through the network.
        memorizing: What measures memorization.
        failures: What becomes of a readout that fails.
        compilation: The kernels that were not compiled yet.
    """

    trainer: Trainer
    module: LightningModule
    samples: Probe
    plan: Plan
    settings: dict[str, Any]
    step: Step
    memorizing: MemorizationWatch
    failures: Failures
    compilation: Compilation

    def wait_for_kernels(self) -> None:
        """Return when everything is compiled, once on a machine; every process waits for that."""
        with self.failures.softly("compile its kernels"):
            with probe_progress(self.trainer) as on_progress:
                self.compilation.wait(partial(on_progress, "compiling", "once on this machine"))
            self.trainer.strategy.barrier()

    def take(self, epoch: int, masks: Masks | None, noting: Noting) -> Readout | None:
        """Return what the first process found in an epoch; warn where that is ``None`` or less.

        Args:
            epoch: The epoch.
            masks: Masks on the network's filters.
            noting: Makes a forward pass of the probe note what is to be noted of it.
        """
        found: Readout | None = None
        with self.failures.softly(f"probe the network in epoch {epoch}", _GOING_ON):
            found = first_process_outcome(
                self.trainer,
                partial(self._take, epoch, masks, noting),
                pack=lambda found: tuple(each and each.to_dict() for each in found),
                unpack=lambda found: Readout(
                    AnomalyReport.from_dict(found[0]),
                    found[1] and MemorizationReport.from_dict(found[1]),
                ),
            )
        if found is not None:
            self._say_what_is_skipped(found)
        return found

    def _say_what_is_skipped(self, found: Readout) -> None:
        skipped = found.report.skipped
        for layer, reason in skipped.items():
            self.failures.warn(layer, f"skips the layer {layer}: {reason}")
        unmeasured = {} if found.memorization is None else found.memorization.skipped
        for layer in unmeasured.keys() - skipped.keys():
            self.failures.inform(
                f"memorization of {layer}",
                f"measures no memorization of {layer}: {unmeasured[layer]}",
            )

    def _take(self, epoch: int, masks: Masks | None, noting: Noting) -> Readout:
        forward = partial(evaluate, self.trainer, self.module, step=self.step)
        with probe_progress(self.trainer) as on_progress:
            report = detect_as_planned(
                self.module,
                self.samples.batches,
                self.plan,
                **self.settings,
                forward=noting(forward),
                masks=masks,
                on_progress=on_progress,
                listener=self.memorizing.listener(),
            )
        if not report.layers:  # a count of 0 would look like the best network there is
            raise RuntimeError(f"no layer can be judged: {report.skipped}")
        memorization = None
        with self.failures.softly(f"measure memorization in epoch {epoch}", _GOING_ON):
            memorization = self.memorizing.measure(self.module, forward)
        return Readout(report, memorization)
