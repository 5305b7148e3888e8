"""Does a signal follow overfitting, or only time? Rank correlations within one run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from reproduction.signals import SIGNALS

# Epochs of early learning, which a signal's behaviour after it is told apart from.
EARLY_EPOCHS = 3
TARGETS = ("rise", "gap")


def correlations(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Correlate each signal with each target over the epochs behind early learning.

    Args:
        rows: What `reproduction.signals.epoch_signals` returned.

    Returns:
        Signal to: ``rise`` and ``gap``, Spearman's rank correlation with the target;
        ``rise_partial`` and ``gap_partial``, the same with the epoch number held fixed; ``time``,
        its correlation with the epoch number. NaN where one of both does not vary.
    """
    later = [row for row in rows if row["epoch"] >= EARLY_EPOCHS]
    epochs = [row["epoch"] for row in later]
    found: dict[str, dict[str, float]] = {}
    for signal in SIGNALS:
        values = [row[signal] for row in later]
        found[signal] = {"time": spearman(values, epochs)}
        for target in TARGETS:
            wanted = [row[target] for row in later]
            found[signal][target] = spearman(values, wanted)
            found[signal][f"{target}_partial"] = partial_spearman(values, wanted, epochs)
    return found


def spearman(first: list[float], second: list[float]) -> float:
    """Return Spearman's rank correlation, ties by their mean rank; NaN without variation."""
    return _pearson(rankdata(first), rankdata(second))


def partial_spearman(first: list[float], second: list[float], fixed: list[float]) -> float:
    """Return the rank correlation of two series with a third one held fixed.

    The correlation of what remains of both ranks after regression on the third's ranks; NaN where
    nothing remains.
    """
    if len(fixed) < 2:
        return float("nan")
    third = rankdata(fixed)
    return _pearson(_residual(rankdata(first), third), _residual(rankdata(second), third))


def _residual(ranks: NDArray[np.float64], fixed: NDArray[np.float64]) -> NDArray[np.float64]:
    centered = fixed - fixed.mean()
    variance = (centered**2).sum()
    slope = (centered * ranks).sum() / variance if variance > 0 else 0.0
    residual: NDArray[np.float64] = ranks - ranks.mean() - slope * centered
    return residual


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    if len(first) < 2:
        return float("nan")
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    # What regression leaves of equal ranks is rounding, not variation.
    return float((first * second).sum() / scale) if scale > 1e-9 * len(first) else float("nan")
