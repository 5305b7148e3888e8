"""From points to verdicts: every filter clustered and judged, in the terms of the report."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from filterwatch.detection.capture import Layer
from filterwatch.detection.cluster import cluster_points
from filterwatch.detection.criteria import AnomalyCriteria, flag_anomalies, small_clusters
from filterwatch.detection.reduction import Reduced
from filterwatch.detection.report import AnomalyFilter, LayerReport
from filterwatch.detection.voting import vote

# Called with the step, the layer whose turn it is, what is done by then, and out of how much.
ProgressCallback = Callable[[str, str, int, int], None]


class Verdicts(NamedTuple):
    """What was decided of each filter.

    Attributes:
        layers: Layer name to its `LayerReport`, in the order given.
        anomalies: The flagged filters.
        isolations: Probe index to the number of filters, flagged or not, that isolate the sample.
    """

    layers: dict[str, LayerReport]
    anomalies: list[AnomalyFilter]
    isolations: dict[int, int]


def judge(
    layers: Mapping[str, Layer],
    reduced: Mapping[str, Reduced],
    *,
    criteria: AnomalyCriteria,
    max_clusters: int = 14,
    votes: int = 0,
    on_progress: ProgressCallback | None = None,
) -> Verdicts:
    """Cluster each filter's points and judge the clusterings, layer by layer (paper, section 3).

    Args:
        layers: The layers, in forward order.
        reduced: Their points and activations, under the same names, on the host.
        criteria: The thresholds.
        max_clusters: Largest number of clusters.
        votes: Number of random parts of the probe that vote on each filter; 0 lets the
            clustering of the whole probe decide.
        on_progress: Called as the clustering of the whole probe goes on.
    """
    if not layers:
        return Verdicts({}, [], {})
    points = torch.cat([reduced[name].points for name in layers])
    activation = torch.cat([reduced[name].activation for name in layers])
    lengths = [len(reduced[name].points) for name in layers]
    limit = criteria.small_cluster_limit(points.shape[1])
    whole = cluster_points(
        points,
        max_clusters=max_clusters,
        on_progress=_by_layer(on_progress, list(layers), lengths),
    )
    if votes:
        ballots = vote(
            points,
            activation,
            lengths,
            criteria=criteria,
            votes=votes,
            max_clusters=max_clusters,
        )
        shares, isolated = ballots.share.split(lengths), ballots.isolated
    else:
        shares, isolated = (
            (None,) * len(lengths),
            _isolated(whole.cluster_sizes, whole.labels, limit),
        )
    reports: dict[str, LayerReport] = {}
    for (name, layer), clustering, share in zip(
        layers.items(), whole.split(lengths), shares, strict=True
    ):
        sizes, ch_index = clustering.cluster_sizes, clustering.ch_index
        active = reduced[name].activation
        reports[name] = LayerReport(
            kind=layer.kind,
            ch_index=ch_index,
            n_clusters=clustering.n_clusters,
            cluster_sizes=sizes,
            activation=active,
            is_anomaly=share > 0.5
            if share is not None
            else flag_anomalies(sizes, ch_index, active, limit=limit, criteria=criteria),
            sources=layer.sources,
            points=reduced[name].points,
            labels=clustering.labels,
            votes=share,
        )
    anomalies = [
        _describe(name, report, channel, samples[channel])
        for (name, report), samples in zip(reports.items(), isolated.split(lengths), strict=True)
        for channel in report.is_anomaly.nonzero().flatten().tolist()
    ]
    counts = isolated.sum(0)
    isolations = {index: int(counts[index]) for index in counts.nonzero().flatten().tolist()}
    return Verdicts(reports, anomalies, isolations)


def _by_layer(
    on_progress: ProgressCallback | None, names: list[str], lengths: list[int]
) -> Callable[[int], None] | None:
    """Return what turns a number of filters into the layer that holds the next one."""
    if on_progress is None:
        return None
    ends = list(accumulate(lengths))

    def tell(n_done: int) -> None:
        name = names[min(bisect_right(ends, n_done), len(names) - 1)]
        on_progress("clustering", name, n_done, ends[-1])

    tell(0)
    return tell


def _isolated(cluster_sizes: Tensor, labels: Tensor, limit: int) -> Tensor:
    """Mark the samples [C, N] that lie in small clusters."""
    # A dead filter's labels are -1; its sizes are all 0, so that no cluster of it is small.
    return small_clusters(cluster_sizes, limit).gather(1, labels.clamp(min=0))


def _describe(name: str, layer: LayerReport, channel: int, isolated: Tensor) -> AnomalyFilter:
    sizes = layer.cluster_sizes[channel]
    source = layer.sources[channel]
    return AnomalyFilter(
        layer=name,
        channel=channel,
        source_layer=None if source is None else source[0],
        source_channel=None if source is None else source[1],
        ch_index=float(layer.ch_index[channel]),
        n_clusters=int(layer.n_clusters[channel]),
        cluster_sizes=sizes[sizes > 0].tolist(),
        activation=float(layer.activation[channel]),
        outliers=isolated.nonzero().flatten().tolist(),
    )
