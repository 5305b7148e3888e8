"""Stage four: verdicts on clusterings, in a report of plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from filterwatch.detection.cluster import Clusterings
from filterwatch.detection.criteria import AnomalyCriteria, flag_anomalies, small_clusters
from filterwatch.detection.memory import Plan
from filterwatch.detection.reduce import Reduced
from filterwatch.detection.report import (
    AnomalyFilter,
    AnomalyReport,
    LayerReport,
    small_integers,
)
from filterwatch.detection.votes import Votes


def judge(
    plan: Plan,
    reduced: Mapping[str, Reduced],
    clusterings: Mapping[str, Clusterings],
    *,
    criteria: AnomalyCriteria,
    ballots: Votes | None = None,
    skipped: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> AnomalyReport:
    """Judge every filter by the three criteria (paper, section 3).

    Args:
        plan: The layers that were observed.
        reduced: The points of those that can be judged.
        clusterings: Their clusterings.
        criteria: The thresholds.
        ballots: What random parts of the probe say, as `vote` returns it; without, the clustering
            of the whole probe decides.
        skipped: Why the other layers cannot be judged.
        settings: Arguments of the probe, for the report to say.
    """
    limit = criteria.small_cluster_limit(plan.n_samples)
    layers: dict[str, LayerReport] = {}
    anomalies: list[AnomalyFilter] = []
    isolations = torch.zeros(plan.n_samples, dtype=torch.int64)
    for layer in plan.layers:
        if layer.name not in reduced:
            continue
        (points, activation), found = reduced[layer.name], clusterings[layer.name]
        if ballots is None:
            share = None
            flagged = flag_anomalies(
                found.cluster_sizes, found.ch_index, activation, limit=limit, criteria=criteria
            )
            # A dead filter's labels are -1; its sizes are all 0, so that no cluster of it is small.
            small = small_clusters(found.cluster_sizes, limit)
            isolated = small.gather(1, found.labels.clamp(min=0))
        else:
            share, isolated = ballots.share[layer.name], ballots.isolated[layer.name]
            flagged = share > 0.5
        layers[layer.name] = LayerReport(
            kind=layer.kind,
            # Copies: what is cut from one tensor for all layers would be stored whole with each.
            ch_index=found.ch_index.clone(),
            n_clusters=found.n_clusters.clone(),
            cluster_sizes=found.cluster_sizes.clone(),
            activation=activation,
            is_anomaly=flagged,
            sources=layer.sources,
            points=points,
            labels=small_integers(found.labels),
            votes=share,
        )
        isolations += isolated.sum(0)
        for channel in flagged.nonzero().flatten().tolist():
            outliers = isolated[channel].nonzero().flatten().tolist()
            anomalies.append(layers[layer.name].described(layer.name, channel, outliers))
    return AnomalyReport(
        anomalies=anomalies,
        layers=layers,
        skipped=dict(skipped or {}),
        n_samples=plan.n_samples,
        criteria=criteria,
        small_cluster_limit=limit,
        settings=dict(settings or {}),
        isolations={at: int(isolations[at]) for at in isolations.nonzero().flatten().tolist()},
    )
