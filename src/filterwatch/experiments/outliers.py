"""Experiment 2: do outlier samples have larger gradients (paper, section 4.2)?"""

from __future__ import annotations

from typing import Any

import torch

from filterwatch.detection.criteria import AnomalyCriteria
from filterwatch.experiments.analysis import Reading, TrainedCell, trained_cells
from filterwatch.experiments.cache import Configuration, probe_images
from filterwatch.experiments.gradients import mean_absolute_gradients
from filterwatch.experiments.options import Options
from filterwatch.experiments.results import ResultFile

# Table 3 of the paper: ((outlier, normal) well-trained, (outlier, normal) overfitting).
PAPER_TABLE_3 = {
    "simple_cnn": {
        "cifar10": ((0.063, 0.022), (0.283, 0.065)),
        "cifar100": ((0.068, 0.019), (0.384, 0.161)),
    },
    "alexnet": {
        "cifar10": ((0.005, 0.001), (0.013, 0.003)),
        "cifar100": ((0.010, 0.002), (0.052, 0.009)),
    },
    "lenet5": {
        "cifar10": ((0.455, 0.048), (2.758, 0.221)),
        "cifar100": ((0.149, 0.033), (0.261, 0.161)),
    },
}
PROBE_SIZE = 3000
SOURCES = ("train", "held_out")


def table3(options: Options) -> None:
    """Compare gradients of outlier and normal samples, lambda = 5 and no other criterion."""
    result = ResultFile(options, "table3", "Mean gradients of the samples on different models")
    rows = []
    for row, trained in trained_cells(options, options.cells()):
        if trained is not None:
            states = {"well_trained": trained.well_trained, "overfit": trained.last}
            for state, epoch in states.items():
                row[state] = {
                    "epoch": epoch,
                    **{source: _compare(trained, epoch, source) for source in SOURCES},
                }
        rows.append(row)
    result.write({"probe_size": PROBE_SIZE, "cells": rows, "paper": PAPER_TABLE_3})


def _compare(trained: TrainedCell, epoch: int, source: str) -> dict[str, Any]:
    configuration = Configuration(probe_size=PROBE_SIZE, source=source)
    reading = Reading("Table 1's row 2", configuration, AnomalyCriteria.paper(2))
    isolated = trained.verdict(epoch, reading).isolated
    images, labels = probe_images(trained.datamodule, configuration)
    device = trained.session.options.device
    gradients = mean_absolute_gradients(
        trained.network(epoch), images.to(device), labels.to(device)
    ).cpu()
    return compare_gradients(gradients, sorted(isolated))


def compare_gradients(gradients: torch.Tensor, outliers: list[int]) -> dict[str, Any]:
    """Return the mean gradient of outlier samples, that of the others, and their ratio.

    Args:
        gradients: One number a sample, [N].
        outliers: The outlier samples.

    Returns:
        ``n_samples``, ``n_outliers``, ``outlier``, ``normal``, ``ratio``; the share of normal
        samples with a smaller gradient than an outlier's, averaged (``rank``: 0.5 is no
        difference); NaN without outliers.
    """
    is_outlier = torch.zeros(len(gradients), dtype=torch.bool)
    is_outlier[outliers] = True
    outlier, normal = gradients[is_outlier], gradients[~is_outlier]
    order = normal.sort().values
    below = torch.searchsorted(order, outlier).double()
    at_most = torch.searchsorted(order, outlier, right=True).double()
    return {
        "n_samples": len(gradients),
        "n_outliers": len(outlier),
        "outlier": float(outlier.mean()),
        "normal": float(normal.mean()),
        "ratio": float(outlier.mean() / normal.mean()),
        "rank": float(((below + at_most) / 2 / max(len(normal), 1)).mean()),
    }
