"""`MaskFilters`: silencing flagged filters while a network trains."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from filterwatch._checks import check_flag, check_integer, check_number
from filterwatch._compat import callbacks_of, either, weight_averaging
from filterwatch.actions.action import Action, RunningFit
from filterwatch.actions.candidates import (
    FlaggedFilter,
    check_labels,
    cross_entropy,
    flagged_filters,
    judged_filters,
    maps_without_filter,
    probe_loss,
    room,
)
from filterwatch.actions.mask_record import MaskRecord, in_words
from filterwatch.actions.masks import FilterMasks
from filterwatch.actions.wiring import Filter, Wiring, trace_wiring
from filterwatch.detection import AnomalyCriteria, AnomalyReport, check_criteria

# In a layer at most this many candidates are tried for each filter that there is room for.
_TRIALS_PER_PLACE = 2
_SHARDING = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)


class MaskFilters(Action):
    """Silences filters that are flagged, as a regularization (paper, section 4.3).

    A mask is decided at the end of an epoch and takes effect at the start of the next one: the
    filter's weights and bias are zero from then on, and so are scale and shift of the normalization
    channels behind it. A checkpoint behaves masked wherever it is loaded. Masked filters are judged
    and counted as they would be unmasked. ``docs/actions.md`` has the details.

    ``masked_filters``, how many are masked now, is logged. What happened to which filter, when and
    why is text in TensorBoard, printed at the end of the fit, and in checkpoints. For a policy of
    one's own override `choose`; for other data than class labels, `verification_loss`.

    Args:
        start_epoch: First epoch whose probe may decide.
        patience: In how many probes in a row a filter must be flagged.
        max_fraction: Most filters of a convolution to mask, as a fraction of them, rounded down;
            never all of them.
        release: Whether a masked filter that is no longer flagged is given back: weights,
            normalization and the optimizer's elementwise state as they were when it was masked.
        criteria: Thresholds for masking, applied to the clusterings of the whole probe; ``None``
            takes the callback's verdicts. The paper's masking experiment has
            ``AnomalyCriteria.paper(3)``.
        verify: Whether to mask only what does not raise the loss on the probe's labels. Candidates
            are tried one after the other, on top of those accepted before.

    Raises:
        ValueError: At the start of a fit, if parameters are sharded or averaged, or no convolution
            has enough filters for ``max_fraction``.
    """

    def __init__(
        self,
        start_epoch: int = 0,
        patience: int = 1,
        max_fraction: float = 0.1,
        release: bool = False,
        criteria: AnomalyCriteria | None = None,
        verify: bool = False,
    ) -> None:
        check_integer("start_epoch", start_epoch, 0)
        check_integer("patience", patience, 1)
        check_number("max_fraction", max_fraction, above=0, below=1)
        check_flag("release", release)
        check_criteria(criteria, none_means="the callback's")
        check_flag("verify", verify)
        self.start_epoch = start_epoch
        self.patience = patience
        self.max_fraction = max_fraction
        self.release = release
        self.criteria = criteria
        self.verify = verify
        self._record = MaskRecord()
        self._restored: list[dict[str, Any]] = []
        self._masks: FilterMasks | None = None
        self._wiring = Wiring()
        self._hooks: list[RemovableHandle] = []
        self._maps_without_filter = 0

    def choose(
        self, flagged: Sequence[FlaggedFilter], report: AnomalyReport, fit: RunningFit
    ) -> list[Filter]:
        """Choose filters to mask, the most wanted first: the method to override.

        By default those flagged ``patience`` times in a row: most flagged maps first, then the
        highest Calinski-Harabasz index, relatively. What cannot be masked, is masked already,
        exceeds ``max_fraction`` or fails verification is left out afterwards. ``flagged`` has the
        filters that are flagged and not masked.
        """
        lasting = [entry for entry in flagged if entry.streak >= self.patience]
        lasting.sort(key=lambda entry: (-len(entry.maps), -entry.ch_ratio))
        return [entry.filter for entry in lasting]

    def verification_loss(self, pl_module: LightningModule, batch: Any) -> Tensor:
        """Return the mean loss of a batch of the probe, for ``verify``: a method to override.

        The module is in evaluation mode, and the batch is as its transfer hooks leave it.
        """
        return cross_entropy(pl_module, batch)

    def check(self, trainer: Trainer) -> None:
        """Refuse sharded and averaged parameters."""
        if isinstance(trainer.strategy, either(*_SHARDING)):
            raise ValueError(
                f"MaskFilters cannot work with {type(trainer.strategy).__name__}: a process holds "
                "a part of each parameter, not whole filters. Use strategy='ddp', or leave out the "
                "action"
            )
        for callback in callbacks_of(trainer):
            if isinstance(callback, weight_averaging()):
                raise ValueError(
                    f"MaskFilters cannot work with {type(callback).__name__}: the averaged weights "
                    "would keep what a filter was before it was masked. Leave out one of the two"
                )

    def start(self, fit: RunningFit, *, resumed: bool) -> None:
        """Find the network's filters, and take over the masks of the run that goes on."""
        if self.verify:
            check_labels(fit, self.verification_loss)
        self._wiring = trace_wiring(fit.module, fit.first_samples, forward=fit.forward)
        self._check_room()
        masks = self._masks
        if resumed:
            masks = FilterMasks(fit.module)
            if lost := masks.load_state_dict(self._restored):
                rank_zero_warn(f"MaskFilters: the network no longer has the masked filters {lost}")
        elif masks is None or masks.model is not fit.module or fit.trainer.current_epoch == 0:
            masks, self._record = FilterMasks(fit.module), MaskRecord()
        self._masks = masks
        optimizers = fit.trainer.optimizers
        self._hooks = [each.register_step_post_hook(self._after_step) for each in optimizers]

    def on_epoch_start(self, fit: RunningFit) -> None:
        """Carry out the last decision."""
        assert self._masks is not None
        optimizers, record = fit.trainer.optimizers, self._record
        for filter_ in record.to_release:
            self._masks.release(filter_, optimizers)
        for filter_ in record.to_mask:
            if (slots := self._wiring.slots.get(filter_)) is not None:
                self._masks.mask(filter_, slots, optimizers)
        record.to_mask, record.to_release = [], []

    def on_before_step(self, optimizer: Optimizer) -> None:
        """Take masked filters out of the gradients."""
        if self._masks is not None:
            self._masks.clear_gradients(optimizer)

    def judge(self, fit: RunningFit, report: AnomalyReport, epoch: int) -> None:
        """Decide which filters to mask, and which to give back."""
        self._maps_without_filter = maps_without_filter(report)
        self._record = fit.decide(lambda: self._decide(fit, report, epoch))

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
        """What was decided, a dict each: see `MaskRecord.add_event`."""
        return self._record.events

    def metrics(self) -> dict[str, float]:
        """Return how many filters are masked now."""
        return {"masked_filters": float(len(self._masks.filters)) if self._masks else 0.0}

    def events(self, epoch: int) -> list[str]:
        """Return what was decided in an epoch, a line each."""
        return [in_words(entry) for entry in self.history if entry["epoch"] == epoch]

    def summary(self) -> str:
        """Return all masks and releases, and what there is to say about them."""
        notes = [f"masked at the end: {int(self.metrics()['masked_filters'])} filters"]
        if self._maps_without_filter:
            notes.append(
                f"{self._maps_without_filter} flagged maps count but cannot be masked: no single "
                "filter is behind them (a residual addition, for instance)"
            )
        for (layer, index), obstacle in self._record.unmaskable.items():
            notes.append(f"filter {index} of {layer} cannot be masked: {obstacle}")
        return self._record.summary(notes)

    def state_dict(self) -> dict[str, Any]:
        """Return masks, the pending decision, and events."""
        masks = self._restored if self._masks is None else self._masks.state_dict()
        return {"masks": masks, **self._record.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the masks themselves when training starts."""
        self._restored = list(state_dict.get("masks", []))
        self._record = MaskRecord.from_state_dict(state_dict)
        self._masks = None

    def _decide(self, fit: RunningFit, report: AnomalyReport, epoch: int) -> MaskRecord:
        assert self._masks is not None
        masked = self._masks.filters
        flagged = flagged_filters(report, self.criteria, self._record.streaks)
        free = {filter_: entry for filter_, entry in flagged.items() if filter_ not in masked}
        decision = MaskRecord(
            streaks={filter_: entry.streak for filter_, entry in free.items()},
            events=list(self._record.events),
            unmaskable=dict(self._record.unmaskable),
        )
        if self.release:
            acquitted = judged_filters(report).keys() - flagged.keys()
            decision.to_release = [filter_ for filter_ in masked if filter_ in acquitted]
            for filter_ in decision.to_release:
                decision.add_event("released", filter_, epoch, "no longer flagged")
        if epoch < self.start_epoch:
            return decision
        kept = [filter_ for filter_ in masked if filter_ not in decision.to_release]
        wanted = self.choose(list(free.values()), report, fit)
        loss_without = partial(probe_loss, fit, self._wiring, self.verification_loss)
        loss = loss_without([]) if self.verify and wanted else math.nan
        taken, tried = Counter(layer for layer, _ in kept), Counter[str]()
        for filter_ in wanted:
            layer = filter_[0]
            if (obstacle := self._wiring.obstacle(filter_)) is not None:
                decision.unmaskable[filter_] = obstacle
                continue
            places = room(self._wiring, layer, self.max_fraction)
            if filter_ in (*kept, *decision.to_mask) or taken[layer] >= places:
                continue
            reason = "chosen though not flagged"
            if filter_ in free:
                reason = free[filter_].reason(self.criteria is not None)
            measured = {}
            if self.verify:
                if tried[layer] >= _TRIALS_PER_PLACE * places:
                    continue
                tried[layer] += 1
                new_loss = loss_without([*decision.to_mask, filter_])
                measured = {"loss_change": new_loss - loss}
                # Written so that a loss that is no number is a rejection.
                if not measured["loss_change"] <= 0:
                    decision.add_event("rejected", filter_, epoch, reason, **measured)
                    continue
                loss = new_loss
            decision.add_event("masked", filter_, epoch, reason, **measured)
            decision.to_mask.append(filter_)
            taken[layer] += 1
        return decision

    def _check_room(self) -> None:
        """Warn about convolutions too narrow for any of their filters to be masked."""
        layers = self._wiring.layers
        narrow = [layer for layer in layers if room(self._wiring, layer, self.max_fraction) == 0]
        if not narrow:
            return
        shown = ", ".join(f"{layer} ({layers[layer]} filters)" for layer in narrow)
        message = f"max_fraction={self.max_fraction} of the filters is none in {shown}"
        if len(narrow) == len(layers):
            raise ValueError(f"MaskFilters could mask nothing: {message}. Raise it")
        rank_zero_warn(f"MaskFilters never masks some layers: {message}")

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        assert self._masks is not None
        self._masks.enforce(optimizer)
