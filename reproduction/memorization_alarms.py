"""In time: how early memorization warns, against EarlyStopping on validation loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reproduction.lead_time import (
    Run,
    alarm,
    direction_of,
    early_stop,
    patience_of,
    report_alarms,
    threshold_of,
)
from reproduction.memorization_features import Features
from reproduction.trained_cells import TrainedCell

# Name of a signal to that of its standard error.
SIGNALS = {
    "memorization": "memorization_error",
    "generalization_gap": "generalization_gap_error",
    "memorized_samples": "memorized_samples_error",
}
# The callback's defaults.
N_SAMPLES = 1000
# A value of so many standard errors is said to differ from 0.
SIGNIFICANT = 3.0

Rule = Callable[[Run], int | None]


def memorization_by_epoch(trained: TrainedCell) -> list[dict[str, Any]]:
    """Return one row for each epoch: validation loss, its gap, and the signals with their errors.

    The gap is validation loss less training loss, both in evaluation mode.
    """
    rows = []
    for epoch in trained.kept_epochs:
        curves = trained.curves[epoch]
        features = Features.of(trained, epoch, n_training=N_SAMPLES, n_held_out=N_SAMPLES)
        report = features.report()
        deepest, output = list(report.hidden.values())[-1], report.layers["output"]
        rows.append(
            {
                "epoch": epoch,
                "val_loss": curves["val_loss"],
                "gap": curves["val_loss"] - curves["train_eval_loss"],
                "memorization": deepest.value,
                "memorization_error": deepest.standard_error,
                "generalization_gap": output.value,
                "generalization_gap_error": output.standard_error,
                "memorized_samples": report.memorized_samples,
                "memorized_samples_error": report.memorized_error,
            }
        )
    return rows


def compare_memorization_alarms(runs: list[Run]) -> dict[str, Any]:
    """Set each rule on all seeds but one, and count what it does on that one, each in turn.

    Thresholds are the lowest that no regularised run of the other seeds exceeds. Three rules a
    signal: its rise since early learning, its level, and (nothing to be set) a value beyond three
    standard errors.

    Args:
        runs: Runs that overfit and runs that do not, of several seeds.

    Returns:
        Rule to what `reproduction.lead_time.report_alarms` returns, with the values that were set.
    """
    alarms: dict[str, list[tuple[Run, int | None]]] = {}
    chosen: dict[str, list[float]] = {}
    for seed in sorted({run.seed for run in runs}):
        known = [run for run in runs if run.seed != seed]
        fresh = [run for run in runs if run.seed == seed]
        for name, (value, rule) in _rules(known).items():
            alarms.setdefault(name, []).extend((run, rule(run)) for run in fresh)
            chosen.setdefault(name, []).append(value)
    return {
        name: {"set_to": chosen[name], **report_alarms(found)} for name, found in alarms.items()
    }


def _rules(known: list[Run]) -> dict[str, tuple[float, Rule]]:
    """Return each rule with what was set on known runs."""
    patience = patience_of(known, 0.0)
    rules: dict[str, tuple[float, Rule]] = {
        "early_stopping": (patience, lambda run: early_stop(run.series("val_loss"), patience))
    }
    for signal, error in SIGNALS.items():
        rules[f"{signal}:rise"] = _rise_rule(signal, known)
        level = max(
            (max(run.series(signal)) for run in known if not run.overfits), default=float("inf")
        )
        rules[f"{signal}:level"] = level, _level_rule(signal, level)
        rules[f"{signal}:significant"] = SIGNIFICANT, _significance_rule(signal, error)
    return rules


def _rise_rule(signal: str, known: list[Run]) -> tuple[float, Rule]:
    direction = direction_of(signal, known)
    threshold = threshold_of(signal, direction, known, 0.0)
    return threshold, lambda run: alarm(run.series(signal), direction, threshold)


def _level_rule(signal: str, level: float) -> Rule:
    return lambda run: _first(value > level for value in run.series(signal))


def _significance_rule(signal: str, error: str) -> Rule:
    return lambda run: _first(
        value > SIGNIFICANT * spread
        for value, spread in zip(run.series(signal), run.series(error), strict=True)
    )


def _first(true: Any) -> int | None:
    return next((epoch for epoch, found in enumerate(true) if found), None)
