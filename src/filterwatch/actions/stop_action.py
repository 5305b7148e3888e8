"""`StopTraining`: ending a fit whose count of anomaly filters rises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from filterwatch.actions.action import Action, Watch
from filterwatch.actions.arguments import check_stopping_arguments
from filterwatch.actions.rises import has_risen, smoothed
from filterwatch.detection import AnomalyReport


class StopTraining(Action):
    """Stops training when the count has risen over its minimum, and says so in one line.

    The count also rises in early learning, from next to nothing, with no overfitting near; and its
    level says nothing between runs. So what counts is its rise within a run, from ``start_epoch``
    on: the mean over the last ``window`` probes must exceed its own minimum by a factor *and* by a
    number of maps, in ``patience`` probes in a row. Counts jump from epoch to epoch, by a third and
    more: the defaults keep that from stopping a run. Where the count does not rise with
    overfitting, and there are such runs, nothing is stopped.

    Works beside Lightning's ``EarlyStopping``: whichever is first stops. ``min_epochs`` of the
    Trainer is respected.

    For a rule of one's own override `reason_to_stop`.

    Args:
        start_epoch: First epoch whose count is looked at: one behind early learning.
        rise: The factor, above 1.
        min_rise: The number of maps.
        patience: In how many probes in a row.
        window: Over how many probes the count is smoothed.

    Attributes:
        stopped_epoch: The epoch that ended training, ``None`` until then.
        reason: Why, in one line.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        start_epoch: int = 5,
        rise: float = 1.25,
        min_rise: int = 5,
        patience: int = 3,
        window: int = 5,
    ) -> None:
        self.start_epoch = start_epoch
        self.rise = rise
        self.min_rise = min_rise
        self.patience = patience
        self.window = window
        check_stopping_arguments(vars(self))
        self.stopped_epoch: int | None = None
        self.reason: str | None = None

    def reason_to_stop(self, history: Sequence[dict[str, Any]]) -> str | None:
        """Return why training should stop, or ``None`` if it should not: the method to override.

        Args:
            history: The probes so far, see `AnomalyFilterCallback`; the newest one last.
        """
        watched = [entry for entry in history if entry["epoch"] >= self.start_epoch]
        counts = smoothed([entry["count"] for entry in watched], self.window)
        if not has_risen(counts, factor=self.rise, amount=self.min_rise, patience=self.patience):
            return None
        lowest = min(counts)
        return (
            f"the anomaly filters, {counts[-1]:.1f} on average over {self.window} probes, have "
            f"stayed above {self.rise} times their minimum of {lowest:.1f} since epoch "
            f"{watched[counts.index(lowest) + self.window - 1]['epoch']} for {self.patience} probes"
        )

    def epoch_to_stop(self, history: Sequence[dict[str, Any]]) -> int | None:
        """Return the epoch at which a recorded fit would have been stopped, ``None`` if at none.

        Args:
            history: `AnomalyFilterCallback.history` of the fit.
        """
        for end in range(1, len(history) + 1):
            if self.reason_to_stop(history[:end]) is not None:
                epoch: int = history[end - 1]["epoch"]
                return epoch
        return None

    def judge(self, watch: Watch, report: AnomalyReport, epoch: int) -> None:
        """Stop training on every process if there is a reason to."""
        reason = self.reason_to_stop(watch.history)
        trainer = watch.trainer
        if not trainer.strategy.reduce_boolean_decision(reason is not None, all=False):
            return
        trainer.should_stop = True
        if self.stopped_epoch is None:
            self.stopped_epoch, self.reason = epoch, reason
            rank_zero_info(f"StopTraining ends training at epoch {epoch}: {reason}")

    def start(self, watch: Watch, *, resumed: bool) -> None:
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
