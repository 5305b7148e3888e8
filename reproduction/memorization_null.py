"""The null: values over standard errors where nothing can have been memorized."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any

import torch

from reproduction.memorization_features import Features, chosen, measured

# Those of the callback's defaults.
N_SAMPLES = 1000


def held_out_draws(features: Features, n_draws: int) -> list[float]:
    """Return value / standard error of every row, of held-out against other held-out images.

    Args:
        features: Of a network, trained or not.
        n_draws: How many times two sets are drawn from the pool.
    """
    labels = features.held_out.labels
    assert labels is not None
    ratios = []
    for draw in range(n_draws):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(draw))
        size = min(N_SAMPLES, len(order) // 2)
        here, there = order[:size], order[size : 2 * size]
        report = measured(
            features.layers,
            chosen(features.held_out, here),
            chosen(features.held_out, there),
            seed=draw,
        )
        ratios += _ratios(report.layers.values())
    return ratios


def untrained_draws(features: Features, n_draws: int) -> list[float]:
    """Return value / standard error of every row, of training against held-out images.

    Args:
        features: Of an untrained network.
        n_draws: How many times samples are drawn from both.
    """
    here, there = features.training.labels, features.held_out.labels
    assert here is not None
    assert there is not None
    ratios = []
    for draw in range(n_draws):
        generator = torch.Generator().manual_seed(draw)
        report = measured(
            features.layers,
            chosen(features.training, torch.randperm(len(here), generator=generator)[:N_SAMPLES]),
            chosen(features.held_out, torch.randperm(len(there), generator=generator)[:N_SAMPLES]),
            seed=draw,
        )
        ratios += _ratios(report.layers.values())
    return ratios


def summarized(ratios: list[float], n_draws: int) -> dict[str, Any]:
    """Return what is said of many ratios: how many, mean, deviation, share beyond three."""
    return {
        "draws": n_draws,
        "ratios": len(ratios),
        "mean": statistics.fmean(ratios),
        "std": statistics.pstdev(ratios),
        "beyond_three": sum(abs(ratio) > 3 for ratio in ratios) / len(ratios),
    }


def _ratios(rows: Iterable[Any]) -> list[float]:
    return [row.value / row.standard_error for row in rows if math.isfinite(row.value)]
