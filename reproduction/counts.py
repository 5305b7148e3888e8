"""Experiment 1: do anomaly filters increase in overfitting networks (paper, section 4.1)?"""

from __future__ import annotations

from typing import Any

from reproduction.options import Options
from reproduction.result_files import ResultFile
from reproduction.signals import anomaly_score
from reproduction.trained_cells import READINGS, TrainedCell, measured_cells

# Table 2 of the paper: (well-trained, overfitting); a dash there is None here.
PAPER_TABLE_2: dict[str, dict[str, tuple[int, int | None]]] = {
    "simple_cnn": {"cifar10": (6, 15), "cifar100": (4, 26), "fashion_mnist": (1, 5)},
    "alexnet": {"cifar10": (12, 55), "cifar100": (32, 36), "fashion_mnist": (1, None)},
    "lenet5": {"cifar10": (3, 10), "cifar100": (11, 16), "fashion_mnist": (1, 3)},
}


def table2(options: Options) -> None:
    """Count anomaly filters at the well-trained and at the overfit epoch."""
    result = ResultFile(options, "table2", "The number of anomaly filters in models")
    cells = measured_cells(options, _pair)
    result.write({"readings": _titles(), "cells": cells, "paper": PAPER_TABLE_2})


def fig4(options: Options) -> None:
    """Follow losses, accuracies and the count over the epochs of each run."""
    result = ResultFile(options, "fig4", "Training curve and number of anomaly filters")
    result.write({"readings": _titles(), "cells": measured_cells(options, _course)})


def _course(trained: TrainedCell) -> dict[str, Any]:
    return {
        "well_trained_epoch": trained.well_trained,
        "curves": trained.curves,
        "counts": [_counts(trained, epoch) for epoch in trained.kept_epochs],
    }


def _pair(trained: TrainedCell) -> dict[str, Any]:
    return {
        "well_trained": _state(trained, trained.well_trained),
        "overfit": _state(trained, trained.last),
    }


def _state(trained: TrainedCell, epoch: int) -> dict[str, Any]:
    losses = {name: trained.curves[epoch][name] for name in ("val_loss", "val_accuracy")}
    return {**losses, **_counts(trained, epoch)}


def _counts(trained: TrainedCell, epoch: int) -> dict[str, Any]:
    counts = {name: trained.verdict(epoch, reading).count for name, reading in READINGS.items()}
    score = anomaly_score(trained.probed(epoch, READINGS["default"].configuration).report)
    return {"epoch": epoch, "counts": counts, "anomaly_score": score}


def _titles() -> dict[str, str]:
    return {name: reading.title for name, reading in READINGS.items()}
