"""Which of the wanted filters are masked: those that can be, have room, and stand verification."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn

from filterwatch.actions.action import Watch
from filterwatch.actions.flags import FlaggedFilter, judged_filters
from filterwatch.actions.trials import LossStep, mean_loss, remaining_activation, silenced
from filterwatch.actions.wiring import Filter, Wiring
from filterwatch.detection import AnomalyReport

# In a layer at most this many candidates are tried for each filter that there is room for.
_TRIALS_PER_PLACE = 2


def room(wiring: Wiring, layer: str, max_fraction: float) -> int:
    """Return how many filters of a convolution may be masked: never all of them."""
    n_filters = wiring.n_filters(layer)
    # The nudge keeps 0.29 * 100 at 29: binary fractions fall just short of it.
    return min(math.floor(max_fraction * n_filters + 1e-9), n_filters - 1)


def check_room(wiring: Wiring, max_fraction: float) -> None:
    """Warn about convolutions too narrow for any of their filters to be masked.

    Raises:
        ValueError: If all of them are.
    """
    narrow = [
        f"{layer} ({wiring.n_filters(layer)} filters)"
        for layer in wiring.layers()
        if room(wiring, layer, max_fraction) == 0
    ]
    if not narrow:
        return
    message = f"max_fraction={max_fraction} of the filters is none in {', '.join(narrow)}"
    if len(narrow) == len(wiring.layers()):
        raise ValueError(f"MaskFilters could mask nothing: {message}. Raise it")
    rank_zero_warn(f"MaskFilters never masks some layers: {message}")


@dataclass
class Selection:
    """Filters that are to be masked, and those that are not.

    Attributes:
        accepted: Filter to what was measured of it.
        rejected: Those that verification turned down, likewise.
        unmaskable: Those that cannot be silenced, with the reason.
    """

    accepted: dict[Filter, dict[str, Any]] = field(default_factory=dict)
    rejected: dict[Filter, dict[str, Any]] = field(default_factory=dict)
    unmaskable: dict[Filter, str] = field(default_factory=dict)


def select(
    wanted: Iterable[Filter],
    masked: Collection[Filter],
    watch: Watch,
    wiring: Wiring,
    report: AnomalyReport,
    *,
    max_fraction: float,
    verification: Verification | None = None,
) -> Selection:
    """Go through the wanted filters in order.

    Args:
        wanted: The filters, the most wanted first.
        masked: Those masked by then, which take up room.
        watch: The fit.
        wiring: The network's filters.
        report: What the probe found.
        max_fraction: Most filters of a convolution to mask.
        verification: Tries each of them, if given.
    """
    selection = Selection()
    taken = Counter(layer for layer, _ in masked)
    tried: Counter[str] = Counter()
    for filter_ in wanted:
        obstacle = wiring.obstacle(filter_)
        if obstacle is not None:
            selection.unmaskable[filter_] = obstacle
            continue
        layer, places = filter_[0], room(wiring, filter_[0], max_fraction)
        if filter_ in masked or filter_ in selection.accepted or taken[layer] >= places:
            continue
        measured: dict[str, Any] = {}
        if verification is not None:
            if tried[layer] >= _TRIALS_PER_PLACE * places:
                continue
            tried[layer] += 1
            measured = verification.measure(filter_, list(selection.accepted))
            # Written so that a loss that is no number is a rejection.
            if not measured["loss_change"] <= 0:
                selection.rejected[filter_] = measured
                continue
        selection.accepted[filter_] = measured
        taken[layer] += 1
    _look_at_maps(selection, watch, wiring, report)
    return selection


class Verification:
    """Measures what silencing a filter does to the loss on the probe.

    Args:
        watch: The fit.
        wiring: The network's filters.
        loss_step: The loss of a batch.
        unflagged: For each convolution the filters to compare with.
        seed: Seed of the choice among them.
    """

    def __init__(
        self,
        watch: Watch,
        wiring: Wiring,
        loss_step: LossStep,
        unflagged: Sequence[Filter],
        seed: int,
    ) -> None:
        self._watch = watch
        self._wiring = wiring
        self._loss_step = loss_step
        self._unflagged = unflagged
        self._generator = torch.Generator().manual_seed(seed)
        self._losses: dict[tuple[Filter, ...], float] = {}

    def measure(self, filter_: Filter, accepted: Sequence[Filter]) -> dict[str, Any]:
        """Return the change of the loss, and that by a random unflagged filter of the layer.

        Args:
            filter_: The filter.
            accepted: Filters that are silenced in any case.
        """
        others = [other for other in self._unflagged if other[0] == filter_[0]]
        random_channel, random_change = None, None
        if others:
            chosen = torch.randint(len(others), (), generator=self._generator)
            random_filter = others[int(chosen)]
            random_channel = random_filter[1]
            random_change = self._change(random_filter, accepted)
        return {
            "loss_change": self._change(filter_, accepted),
            "random_channel": random_channel,
            "random_loss_change": random_change,
        }

    def _change(self, filter_: Filter, accepted: Sequence[Filter]) -> float:
        return self._loss((*accepted, filter_)) - self._loss(tuple(accepted))

    def _loss(self, filters: tuple[Filter, ...]) -> float:
        if filters not in self._losses:
            with silenced(self._watch, self._wiring, filters):
                self._losses[filters] = mean_loss(self._watch, self._loss_step)
        return self._losses[filters]


def comparable_filters(
    report: AnomalyReport, flagged: Collection[Filter], masked: Collection[Filter], wiring: Wiring
) -> list[Filter]:
    """Return filters to compare with: neither flagged nor masked, and none of their maps dead."""
    dead = {layer.sources[channel] for layer in report.layers.values() for channel in layer.dead}
    return [
        filter_
        for filter_ in judged_filters(report)
        if filter_ not in dead
        and filter_ not in flagged
        and filter_ not in masked
        and wiring.obstacle(filter_) is None
    ]


def reason(entry: FlaggedFilter | None, criteria_differ: bool) -> str:
    """Return in words why a filter is masked."""
    if entry is None:
        return "chosen though not flagged"
    layers = ", ".join(layer for layer, _ in entry.maps)
    times = "once" if entry.streak == 1 else f"{entry.streak} times in a row"
    return f"flagged {times}{', by its own criteria,' if criteria_differ else ''} in {layers}"


def _look_at_maps(
    selection: Selection, watch: Watch, wiring: Wiring, report: AnomalyReport
) -> None:
    """Note what is left in the maps of accepted filters, and drop those that are not silenced."""
    if not selection.accepted:
        return
    left = remaining_activation(watch, wiring, report, selection.accepted)
    for filter_, (largest, constant) in left.items():
        if not constant:
            del selection.accepted[filter_]
            selection.unmaskable[filter_] = "its maps still depend on the image when it is zero"
        elif largest > 0:
            selection.accepted[filter_]["remaining"] = largest
