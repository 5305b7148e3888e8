"""The part of `AnomalyFilterCallback` that takes the probe and sends it through the network."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from filterwatch.callbacks.acting import ActingCallback
from filterwatch.callbacks.agreement import first_process_outcome
from filterwatch.callbacks.arguments import smallest_probe
from filterwatch.callbacks.evaluation import evaluation_stage, run_step, tried_step
from filterwatch.callbacks.probe import Probe, find_source, take_probe
from filterwatch.callbacks.record import Record
from filterwatch.callbacks.resuming import SAMPLE_SETTINGS, changed_settings, plain_settings
from filterwatch.detection import (
    AnomalyCriteria,
    AnomalyReport,
    Workspace,
    compilation_note,
    detect_anomaly_filters,
    find_layers,
)
from filterwatch.detection.arguments import check_probe_size
from filterwatch.detection.budget import approximation_note, plan_layers
from filterwatch.detection.capture import Layer
from filterwatch.detection.isolation import undisturbed
from filterwatch.visuals.gallery import Gallery
from filterwatch.visuals.progress import probe_progress


class ProbingCallback(ActingCallback):
    """Takes the probe when training starts, and makes a report of it when told to.

    Attributes are those of `AnomalyFilterCallback`, which sets them.
    """

    probe_size: int
    layers: Sequence[str] | None
    criteria: AnomalyCriteria
    max_clusters: int
    pca: Literal["filter", "layer"]
    votes: int
    seed: int
    batch_size: int
    memory_budget: int
    report: AnomalyReport | None
    record: Record
    samples: Probe | None
    probe_indices: list[int] | None
    _dataset_size: int | None
    _settings_then: dict[str, Any]
    _earlier_probes: int
    _gallery: Gallery
    _workspace: Workspace

    @property
    def history(self) -> list[dict[str, Any]]:
        """One dict a probe, see `Record`."""
        return self.record.history

    def take_probe(self, trainer: Trainer, pl_module: LightningModule, *, again: bool) -> Probe:
        """Take the probe, without a trace in the global random state.

        Args:
            trainer: The Trainer.
            pl_module: Its module.
            again: Whether to take the samples of ``probe_indices``, if they are still there.

        Raises:
            UnequalImagesError: If its images differ in size.
            ValueError: If there is nothing to take, or too little.
        """
        # A data set may draw from the global random state, as random transforms do.
        with undisturbed(pl_module, seed=self.seed), evaluation_stage(trainer):
            loader, source = find_source(trainer, self.probe)
            size = self.probe_size
            if trainer.fast_dev_run:  # type: ignore[attr-defined]
                size = min(size, smallest_probe(self.max_clusters, self.criteria))
            samples = take_probe(
                trainer,
                loader,
                source,
                size=size,
                batch_size=self.batch_size,
                seed=self.seed,
                indices=self.probe_indices if again else None,
                dataset_size=self._dataset_size,
            )
        check_probe_size(samples.n_samples, self.max_clusters, self.criteria)
        self.probe_indices, self._dataset_size = samples.indices, samples.dataset_size
        return samples

    def let_go(self) -> None:
        """Keep nothing large when a fit is over."""
        self.samples = None
        self._workspace.clear()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let go of the fit, and of what is large."""
        super().on_exception(trainer, pl_module, exception)
        self.let_go()

    def heed_changed_settings(self) -> bool:
        """Begin anew what does not go with the settings of now; return whether there is any."""
        changed = changed_settings(self._settings_then, plain_settings(vars(self)))
        if not changed:
            return False
        parts = ["a new history begins"]
        self.record = Record()
        self._earlier_probes = 0
        if not changed.keys().isdisjoint(SAMPLE_SETTINGS):
            parts.append("a new probe is taken")
            self.probe_indices = None
        if len(self.actions):
            parts.append("masks, and what else actions have done, stay")
        rank_zero_warn(
            f"AnomalyFilterCallback goes on with other settings than the checkpoint's "
            f"({', '.join(changed.values())}), whose counts cannot be compared: {'; '.join(parts)}"
        )
        return True

    def find_layers(
        self, trainer: Trainer, pl_module: LightningModule, samples: Probe
    ) -> list[Layer]:
        """Return the layers that are watched, having tried the module on a sample or two.

        Raises:
            ValueError: If the module cannot run them, or there is no such layer.
        """
        with evaluation_stage(trainer):
            return find_layers(
                pl_module,
                samples.first_samples,
                layers=self.layers,
                forward=tried_step(trainer, pl_module, self.probe_step),
            )

    def check_memory(self, layers: list[Layer], samples: Probe) -> None:
        """Warn where ``memory_budget`` is small for the layers' maps.

        Raises:
            ValueError: If it is too small.
        """
        if len(samples.batches) == 1:
            return
        note = approximation_note(plan_layers(layers, samples.n_samples, self.memory_budget))
        if note is not None:
            self._warnings.warn("memory", f"AnomalyFilterCallback: {note}")

    def probe_network(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        """Make a new report, and let actions act; where that fails, everything stays as it was."""
        started = time.perf_counter()
        note = compilation_note()
        if note is not None:
            rank_zero_info(f"AnomalyFilterCallback: {note}")
        outcome = first_process_outcome(trainer, partial(self._detect, trainer, pl_module))
        if isinstance(outcome, Exception):
            if self.strict:
                raise outcome
            reason = f"{type(outcome).__name__}: {outcome}"
            self._warnings.warn(
                re.sub(r"\d+", "", reason),  # amounts of memory differ each time
                f"AnomalyFilterCallback could not probe the network in epoch {epoch}; training "
                f"goes on, and the last values are logged again. {reason}",
            )
            return
        for layer, reason in outcome.skipped.items():
            self._warnings.warn(layer, f"AnomalyFilterCallback skips the layer {layer}: {reason}")
        self.report = outcome
        self.record.add(epoch, outcome, time.perf_counter() - started)
        self.act(trainer, pl_module, outcome, epoch)

    def _detect(self, trainer: Trainer, pl_module: LightningModule) -> AnomalyReport:
        assert self.samples is not None
        with evaluation_stage(trainer), probe_progress(trainer) as on_progress:
            return detect_anomaly_filters(
                pl_module,
                self.samples.batches,
                layers=self.layers,
                criteria=self.criteria,
                max_clusters=self.max_clusters,
                pca=self.pca,
                votes=self.votes,
                seed=self.seed,
                memory_budget=self.memory_budget,
                forward=self._gallery.watching(
                    lambda batch: run_step(trainer, pl_module, batch, self.probe_step)
                ),
                masks=self.actions.masks,
                workspace=self._workspace,
                on_progress=on_progress,
            )
