"""`StopTraining`: ending a fit whose count of anomaly filters rises."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from filterwatch._checks import check_integer, check_number
from filterwatch.actions.action import Action, RunningFit
from filterwatch.detection import AnomalyReport


class StopTraining(Action):
    """Stops training when the count has risen over its minimum, and says so in one line.

    The count's mean over ``window`` probes must exceed its own minimum by a factor *and* by a
    number of maps: counts jump from epoch to epoch. There are runs that overfit and whose count
    does not rise; they are not stopped. Works beside Lightning's ``EarlyStopping``, and respects
    the Trainer's ``min_epochs``. For a rule of one's own override `reason_to_stop`.

    Args:
        start_epoch: First epoch whose count is looked at: the count also rises in early learning.
        rise: The factor, above 1.
        min_rise: The number of maps.
        patience: In how many probes in a row.
        window: Over how many probes the count is smoothed.

    Attributes:
        stopped_epoch: The epoch that ended training, ``None`` until then.
        reason: Why, in one line.
    """

    def __init__(
        self,
        start_epoch: int = 5,
        rise: float = 1.25,
        min_rise: int = 5,
        patience: int = 3,
        window: int = 5,
    ) -> None:
        check_integer("start_epoch", start_epoch, 0)
        check_number("rise", rise, above=1)
        check_integer("min_rise", min_rise, 0)
        check_integer("patience", patience, 1)
        check_integer("window", window, 1)
        self.start_epoch = start_epoch
        self.rise = rise
        self.min_rise = min_rise
        self.patience = patience
        self.window = window
        self.stopped_epoch: int | None = None
        self.reason: str | None = None

    def reason_to_stop(self, history: Sequence[dict[str, Any]]) -> str | None:
        """Return why training should stop, or ``None`` if it should not: the method to override.

        The history has the probes so far, see `AnomalyFilterCallback`; the newest one last.
        """
        watched = [entry for entry in history if entry["epoch"] >= self.start_epoch]
        # Means of fewer values would jump more, and a minimum among them be too low.
        counts = [
            sum(entry["count"] for entry in watched[end - self.window : end]) / self.window
            for end in range(self.window, len(watched) + 1)
        ]
        minima = list(accumulate(counts, min))
        risen = [
            count > self.rise * lowest and count - lowest >= self.min_rise
            for count, lowest in zip(counts, minima, strict=True)
        ]
        if len(risen) < self.patience or not all(risen[-self.patience :]):
            return None
        lowest = minima[-1]
        return (
            f"the anomaly filters, {counts[-1]:.1f} on average over {self.window} probes, have "
            f"stayed above {self.rise} times their minimum of {lowest:.1f} since epoch "
            f"{watched[counts.index(lowest) + self.window - 1]['epoch']} for {self.patience} probes"
        )

    def epoch_to_stop(self, history: Sequence[dict[str, Any]]) -> int | None:
        """Return the epoch at which a fit with such a history would have been stopped, if any."""
        parts = (history[: end + 1] for end in range(len(history)))
        return next((part[-1]["epoch"] for part in parts if self.reason_to_stop(part)), None)

    def judge(self, fit: RunningFit, report: AnomalyReport, epoch: int) -> None:
        """Stop training on every process if there is a reason to."""
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
