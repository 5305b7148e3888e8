"""How early a signal warns, against EarlyStopping, at an equal rate of false alarms.

An alarm looks at the rise of a signal within its own run, behind early learning: levels differ
between runs that do not overfit. Thresholds are set on one half of the runs, and everything that is
reported comes from the other half.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from reproduction.rank_correlations import EARLY_EPOCHS, spearman
from reproduction.signals import SIGNALS, rises


@dataclass(frozen=True)
class Run:
    """One short run.

    Attributes:
        seed: Its training seed.
        overfits: Whether it was trained to overfit; the others are where alarms are false.
        rows: What `reproduction.signals.epoch_signals` returned.
    """

    seed: int
    overfits: bool
    rows: list[dict[str, Any]]

    def series(self, signal: str) -> list[float]:
        """Return a signal's values, one an epoch."""
        return [row[signal] for row in self.rows]

    @property
    def minimum(self) -> int:
        """The epoch of the lowest validation loss."""
        return int(min(self.rows, key=lambda row: row["val_loss"])["epoch"])


def compare_alarms(
    runs: list[Run], *, false_alarms: float = 0.1, calibration: float = 0.5
) -> dict[str, Any]:
    """Set each signal's threshold on the first runs, and count what it does on the others.

    Args:
        runs: Runs that overfit and runs that do not, of several seeds.
        false_alarms: Largest share of not overfitting calibration runs in which an alarm may go.
        calibration: Share of the seeds, the lowest ones, that thresholds are set on.

    Returns:
        ``calibration_seeds``, ``test_seeds``, and for each signal and ``early_stopping``: what
        `report_alarms` returns, with its ``threshold`` (or ``patience``) and ``direction``.
    """
    seeds = sorted({run.seed for run in runs})
    first = set(seeds[: max(1, round(calibration * len(seeds)))])
    known = [run for run in runs if run.seed in first]
    fresh = [run for run in runs if run.seed not in first]
    signals = [name for name in SIGNALS if name != "epoch"]
    alarms: dict[str, Any] = {}
    for signal in signals:
        direction = direction_of(signal, known)
        threshold = threshold_of(signal, direction, known, false_alarms)
        alarms[signal] = {
            "direction": direction,
            "threshold": threshold,
            **report_alarms(
                [(run, alarm(run.series(signal), direction, threshold)) for run in fresh]
            ),
        }
    patience = patience_of(known, false_alarms)
    stops = [(run, early_stop(run.series("val_loss"), patience)) for run in fresh]
    alarms["early_stopping"] = {"patience": patience, **report_alarms(stops)}
    return {
        "false_alarms_allowed": false_alarms,
        "calibration_seeds": sorted(first),
        "test_seeds": [seed for seed in seeds if seed not in first],
        "alarms": alarms,
    }


def direction_of(signal: str, runs: list[Run]) -> int:
    """Return 1 where the signal mostly goes up with the gap in overfitting runs, else -1."""
    found = [
        spearman(run.series(signal)[EARLY_EPOCHS:], run.series("gap")[EARLY_EPOCHS:])
        for run in runs
        if run.overfits
    ]
    defined = [value for value in found if not math.isnan(value)]
    return 1 if not defined or statistics.median(defined) >= 0 else -1


def excess(values: list[float], direction: int) -> list[float]:
    """Return how far each value lies beyond the best one since early learning ended.

    Values during early learning give 0.
    """
    early = min(EARLY_EPOCHS, len(values))
    return [0.0] * early + rises([direction * value for value in values[early:]])


def threshold_of(signal: str, direction: int, runs: list[Run], false_alarms: float) -> float:
    """Return the lowest threshold with at most that share of false alarms."""
    peaks = sorted(
        (max(excess(run.series(signal), direction)) for run in runs if not run.overfits),
        reverse=True,
    )
    allowed = int(false_alarms * len(peaks) + 1e-9)
    return peaks[allowed] if allowed < len(peaks) else 0.0


def alarm(values: list[float], direction: int, threshold: float) -> int | None:
    """Return the first epoch whose excess is above the threshold."""
    for epoch, value in enumerate(excess(values, direction)):
        if value > threshold:
            return epoch
    return None


def patience_of(runs: list[Run], false_alarms: float) -> int:
    """Return the smallest patience of EarlyStopping with at most that share of false alarms."""
    calm = [run for run in runs if not run.overfits]
    longest = max((len(run.rows) for run in runs), default=1)
    for patience in range(1, longest):
        stopped = sum(early_stop(run.series("val_loss"), patience) is not None for run in calm)
        if stopped <= false_alarms * len(calm) + 1e-9:
            return patience
    return longest


def early_stop(losses: list[float], patience: int) -> int | None:
    """Return the epoch in which EarlyStopping would end the run, as Lightning counts patience."""
    best, waited = math.inf, 0
    for epoch, loss in enumerate(losses):
        if loss < best:
            best, waited = loss, 0
        else:
            waited += 1
            if waited >= patience:
                return epoch
    return None


def report_alarms(alarms: list[tuple[Run, int | None]]) -> dict[str, Any]:
    """Return false-alarm rate, share of overfitting runs found, and lead times of those.

    A lead time is the epoch of the lowest validation loss less that of the alarm: positive where
    the alarm comes first.
    """
    calm = [epoch for run, epoch in alarms if not run.overfits]
    leads = [run.minimum - epoch for run, epoch in alarms if run.overfits and epoch is not None]
    overfitting = sum(run.overfits for run, _ in alarms)
    return {
        "false_alarm_rate": sum(epoch is not None for epoch in calm) / len(calm) if calm else None,
        "found": len(leads),
        "of": overfitting,
        "lead_times": leads,
        "median_lead_time": statistics.median(leads) if leads else None,
    }
