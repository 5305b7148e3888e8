"""`StopTraining`: ending a fit in which the count of anomaly filters, or memorization, rises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from filterwatch._checks import check_integer, check_number
from filterwatch.actions.action import Action, RunningFit
from filterwatch.detection import AnomalyReport
from filterwatch.memorization import METRICS, logged_values

_COUNT = "anomaly_filters"
# How much a value must rise, by what is monitored: maps, samples, or nats.
_MIN_RISE = {_COUNT: 5.0, "memorized_samples": 50.0}
_MIN_RISE_IN_NATS = 0.5


class StopTraining(Action):
    """Stops training when a value has risen over its minimum, and says so in one line.

    The value's mean over ``window`` probes must exceed its own minimum by a factor *and* by an
    amount: counts jump from epoch to epoch. There are runs that overfit and whose count
    does not rise; they are not stopped. Works beside Lightning's ``EarlyStopping``, and respects
    the Trainer's ``min_epochs``. For a rule of one's own override `reason_to_stop`.

    Args:
        start_epoch: First epoch whose value is looked at: the count also rises in early learning.
        rise: The factor, above 1.
        min_rise: The amount; ``None`` means 5 anomaly filters, 50 memorized samples, or 0.5 nats.
        patience: In how many probes in a row.
        window: Over how many probes the value is smoothed.
        monitor: What is watched: ``"anomaly_filters"``, ``"memorization"``,
            ``"memorization/<layer>"``, ``"generalization_gap"`` or ``"memorized_samples"``. Probes
            without that value do not count.

    Attributes:
        stopped_epoch: The epoch that ended training, ``None`` until then.
        reason: Why, in one line.
    """

    def __init__(
        self,
        start_epoch: int = 5,
        rise: float = 1.25,
        min_rise: float | None = None,
        patience: int = 3,
        window: int = 5,
        monitor: str = _COUNT,
    ) -> None:
        check_integer("start_epoch", start_epoch, 0)
        check_number("rise", rise, above=1)
        if min_rise is not None:
            check_number("min_rise", min_rise, above=-math.inf)
            if min_rise < 0:
                raise ValueError(f"min_rise={min_rise!r} is negative: pass 0 or more, or None")
        _check_monitor(monitor)
        check_integer("patience", patience, 1)
        check_integer("window", window, 1)
        self.start_epoch = start_epoch
        self.rise = rise
        self.min_rise = _MIN_RISE.get(monitor, _MIN_RISE_IN_NATS) if min_rise is None else min_rise
        self.monitor = monitor
        self.patience = patience
        self.window = window
        self.stopped_epoch: int | None = None
        self.reason: str | None = None
        self._has_warned = False

    def reason_to_stop(self, history: Sequence[dict[str, Any]]) -> str | None:
        """Return why training should stop, or ``None`` if it should not: the method to override.

        The history has the probes so far, see `AnomalyFilterCallback`; the newest one last.
        """
        watched = [
            (entry["epoch"], value)
            for entry in history
            if entry["epoch"] >= self.start_epoch
            and (value := _value(entry, self.monitor)) is not None
        ]
        # Means of fewer values would jump more, and a minimum among them be too low.
        means = [
            sum(value for _, value in watched[end - self.window : end]) / self.window
            for end in range(self.window, len(watched) + 1)
        ]
        minima = list(accumulate(means, min))
        risen = [
            mean > self.rise * lowest and mean - lowest >= self.min_rise
            for mean, lowest in zip(means, minima, strict=True)
        ]
        if len(risen) < self.patience or not all(risen[-self.patience :]):
            return None
        lowest = minima[-1]
        told = f"the {self.monitor.replace('_', ' ')}"
        has, its = ("have", "their") if told.endswith("s") else ("has", "its")
        digits = 1 if self.monitor in _MIN_RISE else 2
        # Times a minimum below zero, anything is more.
        above = f"above {self.rise} times" if lowest > 0 else f"{self.min_rise:g} or more above"
        since = watched[means.index(lowest) + self.window - 1][0]
        return (
            f"{told}, {means[-1]:.{digits}f} on average over {self.window} probes, {has} stayed "
            f"{above} {its} minimum of {lowest:.{digits}f} since epoch {since} for "
            f"{self.patience} probes"
        )

    def epoch_to_stop(self, history: Sequence[dict[str, Any]]) -> int | None:
        """Return the epoch at which a fit with such a history would have been stopped, if any."""
        parts = (history[: end + 1] for end in range(len(history)))
        return next((part[-1]["epoch"] for part in parts if self.reason_to_stop(part)), None)

    def judge(self, fit: RunningFit, report: AnomalyReport, epoch: int) -> None:
        """Stop training on every process if there is a reason to."""
        if _value(fit.history[-1], self.monitor) is None and not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"StopTraining(monitor={self.monitor!r}) has nothing to look at in epoch {epoch}: "
                "the probe did not measure that (is memorization on, and the layer's name right?)"
            )
        reason = self.reason_to_stop(fit.history)
        # Not `fit.decide`: a rule of one's own may see a reason on one process alone.
        if not fit.trainer.strategy.reduce_boolean_decision(reason is not None, all=False):
            return
        fit.trainer.should_stop = True
        if self.stopped_epoch is None:
            self.stopped_epoch, self.reason = epoch, reason
            rank_zero_info(f"StopTraining ends training at epoch {epoch}: {reason}")

    def start(self, fit: RunningFit, *, resumed: bool) -> None:
        """Forget why an earlier fit was stopped."""
        self.stopped_epoch, self.reason = None, None

    def summary(self) -> str | None:
        """Return why training was stopped."""
        if self.reason is None:
            return None
        return f"Stopped at epoch {self.stopped_epoch}: {self.reason}"

    def events(self, epoch: int) -> list[str]:
        """Return why training was stopped, if it was in this epoch."""
        return [f"stopped: {self.reason}"] if epoch == self.stopped_epoch else []


def _check_monitor(monitor: object) -> None:
    names = (_COUNT, *METRICS)
    if monitor not in names and not str(monitor).startswith("memorization/"):
        raise ValueError(
            f"monitor={monitor!r} is nothing that a probe measures: pass one of "
            f"{', '.join(names)}, or memorization/<layer>; EarlyStopping watches other metrics"
        )


def _value(entry: Mapping[str, Any], monitor: str) -> float | None:
    """Return what a probe measured, ``None`` where it did not."""
    return {_COUNT: float(entry["count"]), **logged_values(entry)}.get(monitor)
