"""`MaskFilters`: silencing flagged filters while a network trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import RenderableType
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from filterwatch.actions.action import Action, Watch
from filterwatch.actions.arguments import check_masking_arguments
from filterwatch.actions.compatibility import refuse_for_masking
from filterwatch.actions.events import describe, event, events_table
from filterwatch.actions.flags import (
    FlaggedFilter,
    flagged_filters,
    judged_filters,
    maps_without_filter,
    with_streaks,
)
from filterwatch.actions.mask_state import MaskDecision, MaskState
from filterwatch.actions.masks import FilterMasks
from filterwatch.actions.rises import has_risen, smoothed
from filterwatch.actions.selection import (
    Verification,
    check_room,
    comparable_filters,
    reason,
    select,
)
from filterwatch.actions.trials import check_labels, cross_entropy
from filterwatch.actions.wiring import Filter, Wiring, trace_wiring
from filterwatch.detection import AnomalyCriteria, AnomalyReport

# The count of a single probe jumps: its mean over so many probes says whether it rises.
_COUNT_WINDOW = 3


class MaskFilters(Action):
    """Silences filters that are flagged, as a regularisation (paper, section 4.3).

    Logged: ``masked_filters``, how many filters are masked now. What happened to which filter,
    when and why is text in TensorBoard, a table at the end of the fit, and in checkpoints.

    A mask is decided at the end of an epoch and takes effect at the start of the next one, so that
    a checkpoint's metrics belong to its weights. From then on the filter's weights and bias are
    zero, and so are scale and shift of the normalization channels behind it, whatever optimizer,
    weight decay, gradient accumulation or clipping would make of them. A checkpoint behaves masked
    wherever it is loaded. Only the filter itself is silenced: a depthwise convolution behind it
    gives a constant then, like any layer that is fed nothing.

    Masked filters are judged, and counted in ``anomaly_filters``, as they would be unmasked: the
    probe goes through a second time with all masks lifted, and their maps are taken from there.

    With ``verify`` candidates are tried one after the other, on top of those accepted before, on
    the labelled samples of the probe. What a random unflagged filter of the same layer would have
    done is recorded beside it. With the bundled datamodules these samples are in neither training
    nor validation; where they are validation data, only test metrics are independent of the masks.

    For a policy of one's own override `choose`; for other data than class labels, the loss.

    Args:
        start_epoch: First epoch whose probe may decide.
        patience: In how many probes in a row a filter must be flagged.
        max_fraction: Most filters of a convolution to mask, as a fraction of them, rounded down;
            never all of them.
        release: Whether a masked filter that is no longer flagged is given back: weights,
            normalization and the optimizer's elementwise state as they were when it was masked.
        criteria: Thresholds for masking, applied to the clusterings of the whole probe; ``None``
            takes the callback's verdicts. The row of Table 1 for the paper's masking experiment is
            ``AnomalyCriteria.paper(3)``.
        when: ``"always"``; ``"count"`` only while the count, its mean over three probes, is above
            ``rise`` times its minimum since ``start_epoch``; ``"loss"`` likewise by ``monitor``.
        rise: That factor, above 1.
        monitor: The metric that ``when="loss"`` looks at.
        verify: Whether to mask only what does not raise the loss on the probe's labels.
        seed: Seed of the choice of random filters to compare with.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range; at the start of a fit, if parameters are
            sharded or averaged, or no convolution has enough filters for ``max_fraction``.
    """

    def __init__(
        self,
        start_epoch: int = 0,
        patience: int = 1,
        max_fraction: float = 0.1,
        release: bool = False,
        criteria: AnomalyCriteria | None = None,
        when: Literal["always", "count", "loss"] = "always",
        rise: float = 1.25,
        monitor: str = "val_loss",
        verify: bool = False,
        seed: int = 0,
    ) -> None:
        self.start_epoch = start_epoch
        self.patience = patience
        self.max_fraction = max_fraction
        self.release = release
        self.criteria = criteria
        self.when = when
        self.rise = rise
        self.monitor = monitor
        self.verify = verify
        self.seed = seed
        check_masking_arguments(vars(self))
        self._state = MaskState()
        self._restored: list[dict[str, Any]] = []
        self._masks: FilterMasks | None = None
        self._wiring = Wiring()
        self._hooks: list[RemovableHandle] = []
        self._maps_without_filter = 0

    def choose(
        self, flagged: Sequence[FlaggedFilter], report: AnomalyReport, watch: Watch
    ) -> list[Filter]:
        """Choose filters to mask: the method to override.

        What cannot be masked, is masked already, exceeds ``max_fraction`` or fails verification is
        left out afterwards.

        Args:
            flagged: The flagged filters that are not masked.
            report: What the probe found.
            watch: The fit.

        Returns:
            The filters, the most wanted first. By default those flagged ``patience`` times in a
            row: most flagged maps first, then the highest Calinski-Harabasz index, relatively.
        """
        lasting = [entry for entry in flagged if entry.streak >= self.patience]
        lasting.sort(key=lambda entry: (-len(entry.maps), -entry.ch_ratio))
        return [entry.filter for entry in lasting]

    def verification_loss(self, pl_module: LightningModule, batch: Any) -> Tensor:
        """Return the mean loss of a batch of the probe, for ``verify``.

        Args:
            pl_module: The module, in evaluation mode and without gradients.
            batch: A batch of the probe as the module's transfer hooks leave it.
        """
        return cross_entropy(pl_module, batch)

    def check(self, trainer: Trainer) -> None:
        """Refuse sharded and averaged parameters."""
        refuse_for_masking(trainer)

    def start(self, watch: Watch, *, resumed: bool) -> None:
        """Find the network's filters, and take over the masks of the run that goes on."""
        if self.verify:
            check_labels(watch, self.verification_loss)
        self._wiring = trace_wiring(watch.module, watch.first_samples, forward=watch.forward)
        check_room(self._wiring, self.max_fraction)
        goes_on = self._masks is not None and self._masks.model is watch.module
        if resumed:
            self._masks = FilterMasks(watch.module)
            if lost := self._masks.load_state_dict(self._restored):
                rank_zero_warn(f"MaskFilters: the network no longer has the masked filters {lost}")
        elif not goes_on or watch.trainer.current_epoch == 0:
            self._masks, self._state = FilterMasks(watch.module), MaskState()
        self._hooks = [
            optimizer.register_step_post_hook(self._after_step)
            for optimizer in watch.trainer.optimizers
        ]

    def on_epoch_start(self, watch: Watch) -> None:
        """Carry out the last decision."""
        assert self._masks is not None
        optimizers, pending = watch.trainer.optimizers, self._state.pending
        for filter_ in pending.to_release:
            self._masks.release(filter_, optimizers)
        for filter_ in pending.to_mask:
            if (slots := self._wiring.slots.get(filter_)) is not None:
                self._masks.mask(filter_, slots, optimizers)
        self._state.done()

    def on_before_step(self, optimizer: Optimizer) -> None:
        """Take masked filters out of the gradients."""
        if self._masks is not None:
            self._masks.clear_gradients(optimizer)

    def judge(self, watch: Watch, report: AnomalyReport, epoch: int) -> None:
        """Decide which filters to mask, and which to give back."""
        self._follow_monitor(watch.trainer)
        self._maps_without_filter = maps_without_filter(report)
        self._state.take(watch.decide(lambda: self._decide(watch, report, epoch)))

    def end(self) -> None:
        """Let go of the optimizers."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @property
    def masks(self) -> FilterMasks | None:
        """The masks in effect; ``None`` before a fit."""
        return self._masks

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was decided about which filter, when and why; see `events.event`."""
        return self._state.events

    def metrics(self) -> dict[str, float]:
        """Return how many filters are masked now."""
        return {"masked_filters": float(len(self._masks.filters)) if self._masks else 0.0}

    def events(self, epoch: int) -> list[str]:
        """Return what was decided in an epoch, a line each."""
        return [describe(entry) for entry in self.history if entry["epoch"] == epoch]

    def summary(self) -> RenderableType | None:
        """Return a table of all decisions."""
        notes = [f"masked at the end: {int(self.metrics()['masked_filters'])} filters"]
        if self._maps_without_filter:
            notes.append(
                f"{self._maps_without_filter} flagged maps count but cannot be masked: no single "
                "filter is behind them (a residual addition, for instance)"
            )
        for (layer, index), obstacle in self._state.unmaskable.items():
            notes.append(f"filter {index} of {layer} cannot be masked: {obstacle}")
        return events_table(self.history, notes) if self.history else "\n".join(notes)

    def state_dict(self) -> dict[str, Any]:
        """Return masks, the pending decision, and events."""
        masks = self._restored if self._masks is None else self._masks.state_dict()
        return {"masks": masks, **self._state.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the masks themselves when training starts."""
        self._restored = list(state_dict.get("masks", []))
        self._state = MaskState.from_state_dict(state_dict)
        self._masks = None

    def _decide(self, watch: Watch, report: AnomalyReport, epoch: int) -> MaskDecision:
        assert self._masks is not None
        masked = self._masks.filters
        flagged = flagged_filters(report, self.criteria)
        free = {filter_: entry for filter_, entry in flagged.items() if filter_ not in masked}
        free = with_streaks(free, self._state.pending.streaks)
        decision = MaskDecision(streaks={filter_: e.streak for filter_, e in free.items()})
        if self.release:
            acquitted = judged_filters(report).keys() - flagged.keys()
            decision.to_release = [filter_ for filter_ in masked if filter_ in acquitted]
            for filter_ in decision.to_release:
                decision.events.append(event("released", filter_, epoch, "no longer flagged"))
        if epoch < self.start_epoch or not self._is_time(watch):
            return decision
        others = comparable_filters(report, flagged, masked, self._wiring)
        seed = self.seed * 2**20 + epoch
        verification = Verification(watch, self._wiring, self.verification_loss, others, seed)
        selection = select(
            self.choose(list(free.values()), report, watch),
            [filter_ for filter_ in masked if filter_ not in decision.to_release],
            watch,
            self._wiring,
            report,
            max_fraction=self.max_fraction,
            verification=verification if self.verify else None,
        )
        decision.to_mask = list(selection.accepted)
        decision.unmaskable = selection.unmaskable
        for kind, filters in (("masked", selection.accepted), ("rejected", selection.rejected)):
            for filter_, measured in filters.items():
                why = reason(free.get(filter_), self.criteria is not None)
                decision.events.append(event(kind, filter_, epoch, why, **measured))
        return decision

    def _is_time(self, watch: Watch) -> bool:
        if self.when == "count":
            counts = [
                entry["count"] for entry in watch.history if entry["epoch"] >= self.start_epoch
            ]
            return has_risen(smoothed(counts, _COUNT_WINDOW), factor=self.rise)
        if self.when == "loss":
            return has_risen(self._state.monitored, factor=self.rise)
        return True

    def _follow_monitor(self, trainer: Trainer) -> None:
        metrics = trainer.callback_metrics
        # A resumed run may judge before anything was logged.
        if self.when != "loss" or not metrics:
            return
        if self.monitor not in metrics:
            raise ValueError(
                f"MaskFilters(monitor={self.monitor!r}): no such metric, only {sorted(metrics)}"
            )
        self._state.monitored.append(float(metrics[self.monitor]))

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        assert self._masks is not None
        self._masks.enforce(optimizer)
