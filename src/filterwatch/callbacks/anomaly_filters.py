"""`AnomalyFilterCallback`: the number of anomaly filters as a training metric."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console

from filterwatch._failures import Failures
from filterwatch.actions import Action, ActionList
from filterwatch.callbacks.arguments import check_arguments
from filterwatch.callbacks.collating import UnequalImagesError
from filterwatch.callbacks.monitors import warn_about_early_readers
from filterwatch.callbacks.probe import Probe, ProbeSource
from filterwatch.callbacks.probing import ProbingCallback
from filterwatch.callbacks.record import NAME, Record, log_metrics, show_monitors
from filterwatch.callbacks.resuming import plain_settings, refuse_lost_masks
from filterwatch.callbacks.summary import summary_table
from filterwatch.detection import AnomalyCriteria, AnomalyReport, Workspace, find_images
from filterwatch.visuals import Gallery, Pictures, chosen_pictures


class AnomalyFilterCallback(ProbingCallback):
    """Counts a CNN's anomaly filters at the end of each epoch and logs the count like a loss.

    Logged, the same on every process:

    - ``anomaly_filters``: flagged (layer, channel) maps; also in the progress bar,
    - ``anomaly_filters_distinct``: the distinct convolution filters behind them,
    - ``anomaly_filters_by_layer/<layer>``: flagged maps of one layer,
    - ``outlier_samples``: samples of the probe that a flagged filter isolates,
    - ``anomaly_filters_seconds``: what the newest probe cost,
    - pictures of the most anomalous filters and their outlier images, see ``pictures``.

    The probe is a fixed set of samples, taken once: from ``probe_dataloader()`` of the datamodule
    where there is one, else at random from the data set of the first validation dataloader, the
    classes in proportion, whatever ``limit_val_batches`` says. It goes through the network in
    evaluation mode, by way of the module's transfer hooks and in the Trainer's precision, and
    leaves no trace: training goes on bit by bit as it would without the callback.

    ``EarlyStopping`` and ``ModelCheckpoint`` read this epoch's value, wherever they stand in the
    list. With ``val_check_interval`` below 1 or ``check_val_every_n_epoch`` above 1 they read too
    early, unless given ``check_on_train_epoch_end=True`` and ``save_on_train_epoch_end=True``.

    And what an action logs, such as ``masked_filters``.

    A failure while watching warns, and training goes on with the last values logged again.

    Example::

        trainer = Trainer(callbacks=[AnomalyFilterCallback(), EarlyStopping("anomaly_filters")])

    For a module whose ``forward`` does not take the images of a batch, say how a batch goes
    through it::

        class DiscriminatorWatch(AnomalyFilterCallback):
            def probe_step(self, pl_module, batch):
                return pl_module.discriminator(batch["real"])

    Args:
        probe_size: Number of samples in the probe. A source with fewer is taken whole, and
            ``fast_dev_run`` takes no more than the method needs.
        layers: Glob patterns over module names; ``None`` means every convolution, and the
            activations and max-pools that follow one.
        criteria: Thresholds of the method; ``None`` means ``AnomalyCriteria()``.
        max_clusters: Largest number of clusters tried for a filter, at least 2.
        every_n_epochs: Probe in epochs divisible by this number, and in the first that is watched;
            in between the last values are logged again.
        action: What to do about flagged filters: `MaskFilters`, `StopTraining`, an `Action` of
            one's own, or a list of such; ``None`` only watches.
        seed: Seed of the choice of samples, and of what the network draws in evaluation mode, from
            0 to 2**32 - 1.
        strict: Whether a failure while watching ends the training.
        votes: 0 lets the clustering of the whole probe decide, as in the paper; otherwise so many
            random quarters of the probe vote on each filter, which steadies what is flagged: 16
            cost three to four times as much.
        pca: ``"filter"`` reduces each filter's maps to their own two principal components,
            ``"layer"`` to those that a layer's filters share.
        batch_size: Number of samples in one forward pass.
        memory_budget: Bytes that feature maps may take beside the network's own, see
            `detect_anomaly_filters`; 1 GiB. On a CPU they are kept until the fit ends.
        probe: Where samples come from instead of the validation data: images [N, C, H, W], a data
            set, a dataloader or another iterable of batches; ``"train"`` takes training samples,
            which are never taken unless asked for.
        prefix: Begins the name of every metric, and so tells several of these callbacks apart.
        print_summary: Whether to print a table at the end of the fit.
        pictures: What is drawn for the Trainer's loggers, or without one as PNG files: ``True``
            every 5 epochs, a number every so many, `Pictures` what it says, ``False`` nothing.

    Attributes:
        report: The newest `AnomalyReport`; ``None`` before the first, also after a resume. Points
            and labels are in the first process's alone.
        history: One dict a probe with ``epoch``, ``count``, ``distinct``, ``by_layer`` and
            ``outlier_samples``; kept in checkpoints.
        record: The history with what each probe cost, and which maps the newest one flagged.
        probe_indices: The probe's samples as indices of their data set, ``None`` where that has
            none; kept in checkpoints, so that a resumed run takes the same.
        samples: The `Probe` while a fit runs.
        gallery: What draws the pictures.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range; at the start of a fit, if there is nothing to
            probe with, the module cannot run the probe or has no convolution, ``layers`` matches
            nothing, the probe is too small for ``max_clusters`` or the criteria,
            ``memory_budget`` is too small for the layers' maps, or the probe's images differ in
            size (without ``strict`` and actions that is a warning, and the fit goes on
            unwatched).
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
        prefix: str = "",
        print_summary: bool = True,
        pictures: Pictures | bool | int = True,
    ) -> None:
        super().__init__()
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
        check_arguments(vars(self))
        self.actions = ActionList(action)

        self.report: AnomalyReport | None = None
        self.record = Record()
        self.probe_indices: list[int] | None = None
        self.samples: Probe | None = None
        self._dataset_size: int | None = None
        self._workspace = Workspace()
        self._layers: list[str] = []
        self._warnings = Failures("AnomalyFilterCallback", strict)
        self.gallery = Gallery(chosen_pictures(pictures), prefix + NAME, self._warnings)
        self._restored = False
        self._settings_then: dict[str, Any] = {}
        self._earlier_probes = 0
        self._fit_started = 0.0
        self._fit_seconds = 0.0

    def probe_step(self, pl_module: LightningModule, batch: Any) -> object:
        """Send a batch of the probe through the network: the one method to override.

        Args:
            pl_module: The module, in evaluation mode and without gradients.
            batch: A batch of the probe as the module's transfer hooks leave it.

        Returns:
            Anything: all that counts is which layers ran.
        """
        return pl_module(find_images(batch))

    @property
    def state_key(self) -> str:
        """Identifies the state in a checkpoint by the prefix alone: masks outlast settings."""
        return f"AnomalyFilterCallback{{'prefix': {self.prefix!r}}}"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse two callbacks that would log under the same names, and what actions cannot do."""
        if stage == "fit":
            self.actions.check(trainer)
        for other in trainer.callbacks:  # type: ignore[attr-defined]
            namesake = isinstance(other, AnomalyFilterCallback) and other.prefix == self.prefix
            if namesake and other is not self:
                raise ValueError(
                    f"two {type(self).__name__} would log under the same names, with "
                    f"prefix={self.prefix!r}: give each a prefix of its own"
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the probe, and try the module on a sample or two of it."""
        self._fit_started = time.perf_counter()
        # Neither a previous fit's epochs, nor those that a resumed one goes through again.
        self.record.keep_before(trainer.current_epoch)
        self._earlier_probes = len(self.history)
        self.report = None
        changed = self.heed_changed_settings() if self._restored else False
        # Only a resumed run goes on with the same data; another fit may have another split.
        try:
            self.samples = self.take_probe(trainer, pl_module, again=self._restored)
        except UnequalImagesError as error:
            if self.strict or len(self.actions):
                raise
            self._warnings.warn(
                "unequal images",
                f"AnomalyFilterCallback does not watch this fit; training goes on. {error}",
            )
            self.samples, self._restored = None, False
            return
        layers = self.find_layers(trainer, pl_module, self.samples)
        self.check_memory(layers, self.samples)
        self._layers = [layer.name for layer in layers]
        self.gallery.start(
            trainer,
            batches=self.samples.batches,
            indices=self.samples.indices,
            layers=self._layers,
        )
        self.actions.start(self.watch(trainer, pl_module), resumed=self._restored)
        metrics = {**self.record.metrics(self._layers), **self.actions.metrics()}
        warn_about_early_readers(trainer, {self.prefix + name for name in metrics})
        if self._restored and not changed:
            self._make_up_for(trainer, pl_module, trainer.current_epoch - 1)
        self._restored = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Probe the network where it is due, and log."""
        due = trainer.current_epoch % self.every_n_epochs == 0 or not self.history
        if due and self.samples is not None:
            self.probe_network(trainer, pl_module, trainer.current_epoch)
        metrics = {**self.record.metrics(self._layers), **self.actions.metrics()}
        if self.history:
            log_metrics(pl_module, self.prefix, metrics)
        else:
            show_monitors(trainer, self.prefix, metrics)
        self.gallery.end_epoch(trainer, self.report, self.history)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the whole fit, and stop the clock."""
        self.gallery.finish(trainer, self.history)
        self._fit_seconds = time.perf_counter() - self._fit_started
        self.actions.end()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the summary, now that the progress bar is gone, and let go of the samples."""
        if self.print_summary and self.report is not None and trainer.is_global_zero:
            summary = summary_table(
                self.history,
                self.report,
                self.samples,
                probe_seconds=self.record.seconds[self._earlier_probes :],
                fit_seconds=self._fit_seconds,
            )
            Console().print(summary, *self.actions.summaries(), sep="\n")
        self.let_go()

    def state_dict(self) -> dict[str, Any]:
        """Return the record and the samples' indices as plain values."""
        return {
            # Of the counts in the record: those of a checkpoint until a fit goes on from it.
            "settings": self._settings_then if self._restored else plain_settings(vars(self)),
            **self.record.state_dict(),
            "probe_indices": self.probe_indices,
            "dataset_size": self._dataset_size,
            **self.actions.state_dict(),
            **self.gallery.curves.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; what is missing there starts anew."""
        self.record.load_state_dict(state_dict)
        self.probe_indices = state_dict.get("probe_indices")
        self._dataset_size = state_dict.get("dataset_size")
        self.actions.load_state_dict(state_dict)
        self.gallery.curves.load_state_dict(state_dict)
        self._settings_then = state_dict.get("settings", {})
        self._restored = True

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to go on with training where masks would be lost."""
        if trainer.state.fn == TrainerFn.FITTING:
            refuse_lost_masks(trainer, checkpoint)

    def _make_up_for(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        """Probe for an epoch whose end went missing between a checkpoint and the resumed run.

        A checkpoint written behind the last batch of an epoch has its weights, but not its probe,
        and Lightning goes on with the next epoch.
        """
        due = epoch >= 0 and epoch % self.every_n_epochs == 0
        if due and all(entry["epoch"] != epoch for entry in self.history):
            self.probe_network(trainer, pl_module, epoch)
            # Lightning takes the next epoch for one that has begun already.
            self.on_train_epoch_start(trainer, pl_module)
