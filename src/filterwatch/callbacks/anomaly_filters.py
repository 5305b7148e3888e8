"""`AnomalyFilterCallback`: the number of anomaly filters as a training metric."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer

from filterwatch._checks import check_flag, check_integer, check_text
from filterwatch._compat import callbacks_of, keeps_metrics_as_files
from filterwatch._failures import Failures
from filterwatch.actions import (
    Action,
    RunningFit,
    action_states,
    checked_actions,
    load_action_states,
    refuse_lost_masks,
)
from filterwatch.batches import find_images
from filterwatch.callbacks.evaluation import tried_step
from filterwatch.callbacks.memorization_watch import MemorizationWatch
from filterwatch.callbacks.monitors import show_monitors, warn_about_early_readers
from filterwatch.callbacks.probe import (
    Probe,
    ProbeSource,
    UnequalImagesError,
    check_probe,
    running_fit,
    take_probe,
)
from filterwatch.callbacks.readouts import Readouts
from filterwatch.callbacks.record import (
    NAME,
    SAMPLE_SETTINGS,
    UNKNOWN,
    Record,
    changed_settings,
    count_settings,
)
from filterwatch.callbacks.summary import FitTime, print_summary
from filterwatch.callbacks.training_probe import TrainingSource, check_training_probe
from filterwatch.detection import (
    AnomalyCriteria,
    AnomalyReport,
    Compilation,
    Workspace,
    check_detection,
    check_probe_size,
    plan_detection,
    start_compiling,
)
from filterwatch.memorization import METRICS, MemorizationReport
from filterwatch.visuals import (
    Gallery,
    Pictures,
    chosen_pictures,
    send_text,
)


class AnomalyFilterCallback(Callback):
    """Measures memorization and counts anomaly filters at the end of each epoch, and logs both.

    Logged, the same on every process:

    - ``anomaly_filters``: flagged (layer, channel) maps; also in the progress bar,
    - ``anomaly_filters_distinct``: the distinct convolution filters behind them,
    - ``anomaly_filters_by_layer/<layer>``: flagged maps of one layer,
    - ``outlier_samples``: samples of the probe that a flagged filter isolates,
    - ``anomaly_filters_seconds``: what the newest probe cost,
    - ``memorization``: how much more the deepest hidden layer knows of training labels than of new
      ones, in nats, 0 where nothing is memorized; ``memorization/<layer>``; ``generalization_gap``:
      the same of the output; ``memorized_samples``: training samples learned by heart,
    - what an action logs, such as ``masked_filters``; and pictures, see ``pictures``.

    The probe is a fixed set of held-out samples, taken once. It goes through the network in
    evaluation mode and leaves no trace: training goes on bit by bit as it would without the
    callback. A failure while watching warns, and the last values are logged again.

    For example:

        trainer = Trainer(callbacks=[AnomalyFilterCallback(), EarlyStopping("val_loss")])

    For a module whose ``forward`` does not take the images of a batch, override `probe_step`.

    Args:
        probe_size: Number of samples in the probe; a source with fewer is taken whole.
        layers: Glob patterns over the names of modules whose filters are counted; ``None`` means
            all that the method looks at. Memorization is measured in all layers.
        criteria: Thresholds of the method; ``None`` means ``AnomalyCriteria()``.
        max_clusters: Largest number of clusters tried for a filter, at least 2.
        every_n_epochs: Probe every so many epochs; in between the last values are logged again.
        action: `MaskFilters`, `StopTraining`, an `Action` of one's own, or a list of such.
        seed: Seed of the choice of samples, and of what the network draws in evaluation mode.
        strict: Whether a failure while watching ends the training.
        votes: How many random quarters of the probe vote on each filter; with 0 none do.
        pca: ``"filter"``: principal components of each filter's own maps; ``"layer"``: common ones.
        batch_size: Number of samples in one forward pass.
        memory_budget: Bytes that feature maps may take beside the network's own; 1 GiB.
        probe: Images [N, C, H, W], a data set, a dataloader, or ``"train"``. ``None`` means the
            datamodule's ``probe_dataloader()``, or the first validation dataloader's data.
        memorization: Whether to measure memorization, too; see `measure_memorization`.
        training_probe: Its training samples, as evaluation sees them: (images, labels), a data set
            or a dataloader. ``None`` means the datamodule's ``training_probe_dataloader()``, or the
            training data, with the transform of the validation data where it can be replaced.
        prefix: Begins the name of every metric, and so tells several of these callbacks apart.
        print_summary: Whether to print a table at the end of the fit.
        pictures: What is drawn for the Trainer's loggers, or without one as PNG files: ``True``
            every 5 epochs, a number every so many, `Pictures` what it says, ``False`` nothing.

    Attributes:
        report: The newest `AnomalyReport`; points and labels are in the first process's alone.
        memorization: The newest `MemorizationReport`, ``None`` before the first.
        record: What all probes found and cost; ``history`` is its list of counts.
        probe_indices: The probe's samples as indices of their data set, ``None`` for a stream.

    Raises:
        TypeError, ValueError: If an argument cannot be right; when a fit starts, if the probe
            cannot be had, is too small, or does not go through the module.
    """

    def __init__(
        self,
        probe_size: int = 1000,
        layers: Sequence[str] | None = None,
        criteria: AnomalyCriteria | None = None,
        max_clusters: int = 14,
        every_n_epochs: int = 1,
        action: Action | Sequence[Action] | None = None,
        seed: int = 0,
        strict: bool = False,
        votes: int = 0,
        pca: Literal["filter", "layer"] = "filter",
        batch_size: int = 64,
        memory_budget: int = 2**30,
        probe: ProbeSource = None,
        memorization: bool = True,
        training_probe: TrainingSource = None,
        prefix: str = "",
        print_summary: bool = True,
        pictures: Pictures | bool | int = True,
    ) -> None:
        super().__init__()
        check_integer("probe_size", probe_size, 1)
        check_integer("every_n_epochs", every_n_epochs, 1)
        check_detection(layers, criteria, max_clusters, pca, votes, seed, batch_size, memory_budget)
        check_flag("strict", strict)
        check_flag("print_summary", print_summary)
        check_flag("memorization", memorization)
        check_probe(probe)
        check_training_probe(training_probe)
        check_text("prefix", prefix, "what metric names begin with")
        self.probe_size = probe_size
        self.layers = layers
        self.criteria = AnomalyCriteria() if criteria is None else criteria
        self.max_clusters = max_clusters
        self.every_n_epochs = every_n_epochs
        self.seed = seed
        self.strict = strict
        self.votes = votes
        self.pca = pca
        self.batch_size = batch_size
        self.memory_budget = memory_budget
        self.probe = probe
        self.prefix = prefix
        self.print_summary = print_summary
        self.pictures = pictures
        check_probe_size(probe_size, max_clusters, self.criteria)
        self.actions = checked_actions(action)
        self.report: AnomalyReport | None = None
        self.memorization: MemorizationReport | None = None
        self.record = Record()
        self.probe_indices: list[int] | None = None
        self.samples: Probe | None = None
        self._dataset_size: int | None = None
        self._readouts: Readouts | None = None
        self._fit: RunningFit | None = None
        self._failures = Failures("AnomalyFilterCallback", strict)
        self.gallery = Gallery(
            chosen_pictures(pictures),
            prefix + NAME,
            self._failures,
            memorization=prefix + METRICS[0],
        )
        self._memorizing = MemorizationWatch(
            training_probe, self._failures, batch_size=batch_size, seed=seed, enabled=memorization
        )
        self._restored_settings: dict[str, Any] | None = None
        self._compilation = Compilation()
        self._started = 0.0

    def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
        """Send a batch of the probe, as the transfer hooks leave it, through the network.

        The one method to override, by ``return pl_module.discriminator(batch["real"])`` for
        example. The module is in evaluation mode. Logits [N, classes] that are returned show what
        the output has memorized; anything else does not matter.
        """
        return pl_module(find_images(batch))

    @property
    def training_probe_indices(self) -> list[int] | None:
        """The training samples of memorization as indices of the training data set."""
        return self._memorizing.indices

    @property
    def history(self) -> list[dict[str, Any]]:
        """For each probe ``epoch``, ``count``, ``distinct``, ``by_layer``, ``outlier_samples``."""
        return self.record.history

    @property
    def state_key(self) -> str:
        """Identifies the state in a checkpoint by the prefix alone: masks outlast settings."""
        return f"AnomalyFilterCallback{{'prefix': {self.prefix!r}}}"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be, and have compiled what is not yet."""
        if stage == "fit":
            for action in self.actions:
                action.check(trainer)
        if (
            sum(getattr(each, "state_key", "") == self.state_key for each in callbacks_of(trainer))
            > 1
        ):
            raise ValueError(
                f"two {type(self).__name__} would log under the same names, with "
                f"prefix={self.prefix!r}: give each a prefix of its own"
            )
        if stage == "fit" and trainer.local_rank == 0:
            self._compilation = start_compiling()
            if self._compilation.processes:
                rank_zero_info(
                    "AnomalyFilterCallback has its kernels compiled beside the training, once on a "
                    f"machine; they are kept in {self._compilation.folder}"
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the probe, and begin to watch."""
        self._started = time.perf_counter()
        if keeps_metrics_as_files(trainer):
            self._failures.warn(
                "names",
                "logs memorization/<layer> as memorization_by_layer/<layer>: MLflow's file store "
                "cannot hold it beside memorization. A database (sqlite:///mlflow.db) can",
            )
        self.record.start(trainer.current_epoch)
        self.report = self.memorization = None
        restored, self._restored_settings = self._restored_settings, None
        resumed = restored is not None
        changed = changed_settings(restored or {}, count_settings(self), acting=bool(self.actions))
        if changed:
            self.record = Record()
        if changed & SAMPLE_SETTINGS:
            self.probe_indices = self._memorizing.indices = None
        try:
            # Only a resumed run goes on with the same data; another fit may have another split.
            self.samples = take_probe(
                trainer,
                pl_module,
                self.probe,
                size=self.probe_size,
                max_clusters=self.max_clusters,
                criteria=self.criteria,
                batch_size=self.batch_size,
                seed=self.seed,
                indices=self.probe_indices if resumed else None,
                dataset_size=self._dataset_size,
            )
        except UnequalImagesError as error:
            if self.strict or self.actions:
                raise
            self._failures.warn(
                "unequal images", f"does not watch this fit; training goes on. {error}"
            )
            return
        self._begin(trainer, pl_module, self.samples, resumed=resumed)
        missed = trainer.current_epoch - 1
        if resumed and not changed and self.record.lacks(missed, self.every_n_epochs):
            self._probe_network(trainer, pl_module, missed)
            # Lightning takes the next epoch for one that has begun already.
            self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let actions do what they decided at the end of the epoch before."""
        if self._fit is not None:
            for action in self.actions:
                action.on_epoch_start(self._fit)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Show actions the gradients, before they are clipped."""
        for action in self.actions:
            action.on_before_step(optimizer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probe the network where it is due, and log."""
        due = trainer.current_epoch % self.every_n_epochs == 0 or not self.history
        if due and self.samples is not None:
            self._probe_network(trainer, pl_module, trainer.current_epoch)
        if self.history:
            for name, value in self._metrics(trainer).items():
                bar = name in (NAME, METRICS[0])
                pl_module.log(self.prefix + name, value, prog_bar=bar, sync_dist=True, batch_size=1)
        show_monitors(trainer, self.prefix, self._stand_ins(trainer))
        measured = bool(self.history) and "memorization" in self.history[-1]
        memorization = self.memorization if measured else None
        self.gallery.end_epoch(trainer, self.report, self.history, memorization)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the whole fit."""
        self.gallery.finish(trainer, self.history)
        for action in self.actions:
            action.end()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the summary, now that the progress bar is gone, and let go of the samples."""
        if self.print_summary and self.report is not None and trainer.is_global_zero:
            seconds = time.perf_counter() - self._started
            print_summary(
                self.record,
                self.report,
                self.memorization,
                self.samples,
                self._memorizing.training,
                FitTime(seconds, self._compilation.seconds_waited),
                self.actions,
            )
        self._let_go()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let go of the fit."""
        for action in self.actions:
            action.end()
        self._let_go()

    def state_dict(self) -> dict[str, Any]:
        """Return the record and the samples' indices as plain values."""
        restored = self._restored_settings
        return {
            # Of the counts in the record: those of a checkpoint until a fit goes on from it.
            "settings": count_settings(self) if restored is None else restored,
            **self.record.state_dict(),
            "probe_indices": self.probe_indices,
            "dataset_size": self._dataset_size,
            "training_probe_indices": self._memorizing.indices,
            **action_states(self.actions),
            **self.gallery.curves.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; what is missing there starts anew."""
        self.record.load_state_dict(state_dict)
        self.probe_indices = state_dict.get("probe_indices")
        self._dataset_size = state_dict.get("dataset_size")
        self._memorizing.indices = state_dict.get("training_probe_indices")
        load_action_states(self.actions, state_dict)
        self.gallery.curves.load_state_dict(state_dict)
        self._restored_settings = state_dict.get("settings", {})

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to go on with training where masks would be lost."""
        if trainer.state.fn == TrainerFn.FITTING:
            refuse_lost_masks(trainer, checkpoint)

    def _begin(
        self, trainer: Trainer, pl_module: LightningModule, samples: Probe, *, resumed: bool
    ) -> None:
        """Try the module on a sample or two, and begin to watch."""
        self.probe_indices, self._dataset_size = samples.indices, samples.dataset_size
        forward = tried_step(trainer, pl_module, self.probe_step)
        plan = plan_detection(
            pl_module,
            samples.first_samples,
            samples.n_samples,
            layers=self.layers,
            forward=forward,
            seed=self.seed,
            memory_budget=self.memory_budget,
            in_one_batch=len(samples.batches) == 1,
            workspace=Workspace(),  # kept until the fit ends
        )
        if plan.warning is not None:
            self._failures.warn("memory", plan.warning)
        self._memorizing.start(trainer, pl_module, self.probe, samples, forward, resumed=resumed)
        names = ("criteria", "max_clusters", "pca", "votes", "seed")
        self._readouts = Readouts(
            trainer,
            pl_module,
            samples,
            plan,
            {name: getattr(self, name) for name in names},
            self.probe_step,
            self._memorizing,
            self._failures,
            self._compilation,
        )
        training = self._memorizing.training
        self.gallery.start(
            trainer,
            samples.batches,
            samples.indices,
            None if training is None else (training.batches, training.indices),
        )
        self._fit = running_fit(trainer, pl_module, self.probe_step, samples, self.history)
        for action in self.actions:
            action.start(self._fit, resumed=resumed)
        names_of_all = {*self._metrics(trainer), *self._stand_ins(trainer)}
        warn_about_early_readers(trainer, {self.prefix + name for name in names_of_all})

    def _let_go(self) -> None:
        self._compilation.stop()
        self.samples = self._readouts = self._fit = None
        self._memorizing.stop()

    def _metrics(self, trainer: Trainer) -> dict[str, float]:
        """Return what is logged at the end of an epoch."""
        metrics = self.record.metrics(() if self._readouts is None else self._readouts.plan.names)
        if self._memorizing.training is not None:
            flat = keeps_metrics_as_files(trainer)
            by_layer = "memorization_by_layer" if flat else "memorization"
            metrics.update(self.record.memorization_metrics(by_layer))
        for action in self.actions:
            metrics.update(action.metrics())
        return metrics

    def _stand_ins(self, trainer: Trainer) -> dict[str, float]:
        """Return what monitors see in place of values that are not known."""
        metrics = self._metrics(trainer)
        missing = {name: UNKNOWN for name in METRICS if name not in metrics}
        watched = self._memorizing.training is not None
        return ({} if self.history else metrics) | (missing if watched else {})

    def _probe_network(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        """Make a new report, and let actions act; where that fails, everything stays as it was."""
        masks = next((each.masks for each in self.actions if each.masks is not None), None)
        assert self._readouts is not None
        self._readouts.wait_for_kernels()
        started = time.perf_counter()
        found = self._readouts.take(epoch, masks, self.gallery.noting_predictions)
        if found is None:
            return
        report, memorization = found
        self.report, self.memorization = report, memorization or self.memorization
        self.record.add(epoch, report, memorization, time.perf_counter() - started)
        if self._fit is None or not self.actions:
            return
        with self._failures.softly(f"act in epoch {epoch}"):
            for action in self.actions:
                action.judge(self._fit, report, epoch)
            events = [event for action in self.actions for event in action.events(epoch)]
            send_text(trainer, f"{self.prefix}actions", events)
