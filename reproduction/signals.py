"""Every number that could tell overfitting: of one probe, and epoch by epoch of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from filterwatch import AnomalyCriteria, AnomalyReport
from filterwatch.detection import LayerReport
from reproduction.points_and_verdicts import MapStatistics, isolated_samples, points_and_labels
from reproduction.trained_cells import READINGS, TrainedCell

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


def epoch_signals(trained: TrainedCell) -> list[dict[str, Any]]:
    """Return one row for each epoch whose weights were kept.

    Returns:
        ``epoch``, ``val_loss``, ``gap`` (validation loss less training loss, both in evaluation
        mode), ``rise`` (see `rises`) and the `SIGNALS`.
    """
    default = READINGS["default"]
    rise = rises([row["val_loss"] for row in trained.curves])
    rows = []
    for epoch in trained.kept_epochs:
        curves = trained.curves[epoch]
        probed = trained.probed(epoch, default.configuration)
        rows.append(
            {
                "epoch": epoch,
                "val_loss": curves["val_loss"],
                "gap": curves["val_loss"] - curves["train_eval_loss"],
                "rise": rise[epoch],
                "count": trained.verdict(epoch, default).count,
                "paper_count": trained.verdict(epoch, READINGS["paper"]).count,
                "active_count": trained.verdict(
                    epoch, replace(default, ch_reference="active")
                ).count,
                "score": anomaly_score(probed.report),
                "scatter": scatter_share(probed.report),
                **rival_signals(probed.statistics),
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


def isolation_scores(layer: LayerReport) -> Tensor:
    """Return how far a filter's small clusters lie from its others, the small ones weighing most.

    The sum over all clusters but the largest of separation / size. The separation is the distance
    of a cluster's centre from the nearest centre of a larger cluster, in units of the points' root
    mean square distance from their mean. There is no threshold: a cluster of a tenth of the probe
    adds next to nothing, a single point far away adds its distance.

    Args:
        layer: C filters' points and clusterings.

    Returns:
        [C]; NaN for a dead filter.
    """
    points, labels = points_and_labels(layer)
    sizes = layer.cluster_sizes
    alive = ~torch.isnan(layer.ch_index)
    centered = points - points.mean(1, keepdim=True)
    scale = centered.square().sum(2).mean(1).sqrt()
    index = labels.clamp(min=0).unsqueeze(2).expand_as(points)
    sums = torch.zeros(len(points), sizes.shape[1], 2, dtype=torch.float64)
    centers = sums.scatter_add_(1, index, points) / sizes.clamp(min=1).unsqueeze(2)
    distance = torch.cdist(centers, centers)  # [C, K, K]
    # Clusters are numbered by size: those before a cluster are the larger ones.
    earlier = torch.ones(distance.shape[1:], dtype=torch.bool).tril(-1)
    nearest = distance.where(earlier, torch.inf).amin(2)[:, 1:]
    counted = sizes[:, 1:]
    share = (nearest / counted.clamp(min=1)).where(counted > 0, 0.0)
    return (share.sum(1) / scale).where(alive, torch.nan)


def scatter_share(report: AnomalyReport, *, small_cluster_size: float = 0.01) -> float:
    """Return how much of the points' scatter lies in small clusters.

    Args:
        report: With its points' labels.
        small_cluster_size: The paper's lambda, as a fraction of the probe.

    Returns:
        Share of the squared distances from the mean, of active filters (see `anomaly_score`),
        averaged over each layer's filters and then over the layers; NaN without any.
    """
    shares = {}
    limit = AnomalyCriteria(small_cluster_size).small_cluster_limit(report.n_samples)
    for name, layer in report.layers.items():
        points, _ = points_and_labels(layer)
        squares = (points - points.mean(1, keepdim=True)).square().sum(2)
        isolated = isolated_samples(layer, limit)
        alive = ~torch.isnan(layer.ch_index)
        share = (squares * isolated).sum(1) / squares.sum(1)
        shares[name] = share.where(alive, torch.nan)
    return _mean_of_active(report, shares)


def anomaly_score(report: AnomalyReport, *, activation_ratio: float = 0.2) -> float:
    """Return the mean isolation score of a network's active filters.

    Args:
        report: With its points' labels.
        activation_ratio: Criterion 3: a filter below this times its layer's mean activation does
            not enter.

    Returns:
        The mean over layers of the mean over each layer's active filters; NaN without any.
    """
    scores = {name: isolation_scores(layer) for name, layer in report.layers.items()}
    return _mean_of_active(report, scores, activation_ratio)


def _mean_of_active(
    report: AnomalyReport, values: dict[str, Tensor], activation_ratio: float = 0.2
) -> float:
    """Average over each layer's active filters, then over the layers; NaN marks dead filters."""
    means = []
    for name, layer in report.layers.items():
        alive = ~torch.isnan(values[name])
        if bool(alive.any()):
            threshold = activation_ratio * layer.activation[alive].mean()
            active = alive & (layer.activation >= threshold)
            means.append(float(values[name][active].mean()))
    return sum(means) / len(means) if means else float("nan")


def rival_signals(statistics: Mapping[str, MapStatistics]) -> dict[str, float]:
    """Return what cheaper statistics than a clustering say of a network.

    Returns:
        ``kurtosis`` and ``max_to_median``: the mean and the median, over all filters that have
        one, of these statistics of a map's mean absolute activation; ``sparsity``: the mean share
        of silent elements. See `reproduction.points_and_verdicts.MapStatistics`.
    """
    gathered = {
        name: torch.cat([getattr(layer, name).double() for layer in statistics.values()])
        for name in ("kurtosis", "max_to_median", "sparsity")
    }
    return {
        "kurtosis": float(gathered["kurtosis"].nanmean()),
        "max_to_median": _finite(gathered["max_to_median"].nanmedian()),
        "sparsity": float(gathered["sparsity"].mean()),
    }


def _finite(value: Tensor) -> float:
    """Return a number that JSON can hold; infinity, of mostly silent filters, becomes 1e6."""
    return float(value.clamp(max=1e6))
