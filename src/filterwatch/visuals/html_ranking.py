"""Which filters a reader wants to see first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from filterwatch.detection.criteria import AnomalyCriteria, flag_anomalies, mean_index
from filterwatch.detection.report import AnomalyReport, LayerReport


def rank_filters(reports: Sequence[AnomalyReport]) -> tuple[list[int], int]:
    """Order the filters of a network, the most anomalous first.

    Flagged ones come first, then those that meet most of the three criteria; among equals the
    Calinski-Harabasz index relative to the layer's mean decides. Dead filters are left out.

    Args:
        reports: One report, or several on the same layers, where the best of a filter's places
            counts.

    Returns:
        Positions of the filters among all filters of all layers in forward order, and how many of
        them are flagged in at least one report.
    """
    scores = torch.stack([_scores(report) for report in reports]).amax(0)
    flagged = torch.stack([_concatenated(report, "is_anomaly") for report in reports]).any(0)
    order = scores.argsort(descending=True, stable=True)
    order = torch.cat([order[flagged[order]], order[~flagged[order]]])
    return order[scores[order] > -torch.inf].tolist(), int(flagged.sum())


def _concatenated(report: AnomalyReport, attribute: str) -> Tensor:
    return torch.cat([getattr(layer, attribute) for layer in report.layers.values()])


def _scores(report: AnomalyReport) -> Tensor:
    parts = [
        _layer_scores(layer, report.criteria, report.small_cluster_limit)
        for layer in report.layers.values()
    ]
    return torch.cat(parts)


def _layer_scores(layer: LayerReport, criteria: AnomalyCriteria, limit: int) -> Tensor:
    """Return the number of criteria met, plus a share below 1 for the relative CH index, [C]."""
    met = torch.zeros(len(layer.ch_index), dtype=torch.float64)
    for alone in (
        AnomalyCriteria(limit, criteria.small_cluster_ratio, None, None),
        AnomalyCriteria(limit, None, criteria.ch_ratio, None),
        AnomalyCriteria(limit, None, None, criteria.activation_ratio),
    ):
        met += flag_anomalies(
            layer.cluster_sizes, layer.ch_index, layer.activation, limit=limit, criteria=alone
        )
    defined = ~torch.isnan(layer.ch_index)
    mean = mean_index(layer.ch_index, layer.cluster_sizes)
    relative = layer.ch_index / mean.clamp(min=1e-300)
    return torch.where(defined, met + relative / (1 + relative), -torch.inf)
