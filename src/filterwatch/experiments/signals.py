"""Every number that could tell overfitting, epoch by epoch of one run."""

from __future__ import annotations

from typing import Any

from filterwatch.experiments.analysis import READINGS, Reading, TrainedCell
from filterwatch.experiments.score import anomaly_score, rival_signals, scatter_share
from filterwatch.experiments.verdicts import judge

# Names of the signals, and what tables call them.
SIGNALS = {
    "count": "anomaly filters, defaults",
    "paper_count": "anomaly filters, the paper's row 1",
    "active_count": "anomaly filters, CH index against the mean of active filters",
    "score": "anomaly score",
    "scatter": "scatter in small clusters",
    "kurtosis": "kurtosis of activations",
    "max_to_median": "max / median of activations",
    "sparsity": "sparsity of activations",
    "val_loss": "validation loss",
    "epoch": "epoch number",
}


def epoch_signals(
    trained: TrainedCell, readings: dict[str, Reading] = READINGS
) -> list[dict[str, Any]]:
    """Return one row for each epoch whose weights were kept.

    Returns:
        ``epoch``, ``val_loss``, ``gap`` (validation loss less training loss, both in evaluation
        mode), ``rise`` (see `rises`) and the `SIGNALS`.
    """
    rise = rises([row["val_loss"] for row in trained.curves])
    rows = []
    for epoch in trained.kept_epochs:
        curves = trained.curves[epoch]
        maps, clusters = trained.probed(epoch, readings["default"].configuration)
        rows.append(
            {
                "epoch": epoch,
                "val_loss": curves["val_loss"],
                "gap": curves["val_loss"] - curves["train_eval_loss"],
                "rise": rise[epoch],
                "count": judge(maps, clusters, readings["default"].criteria).count,
                "paper_count": trained.verdict(epoch, readings["paper"]).count,
                "active_count": judge(
                    maps, clusters, readings["default"].criteria, ch_reference="active"
                ).count,
                "score": anomaly_score(maps, clusters),
                "scatter": scatter_share(maps, clusters),
                **rival_signals(maps),
            }
        )
    return rows


def rises(values: list[float]) -> list[float]:
    """Return how far each value lies above the lowest one up to it.

    >>> rises([3.0, 1.0, 2.0, 0.5])
    [0.0, 0.0, 1.0, 0.0]
    """
    lowest = float("inf")
    found = []
    for value in values:
        lowest = min(lowest, value)
        found.append(value - lowest)
    return found
