"""Clusterings of kept points, and the verdicts of any criteria on them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from filterwatch.detection.cluster import cluster_points
from filterwatch.detection.criteria import AnomalyCriteria, flag_anomalies, small_clusters
from filterwatch.experiments.maps import Maps

CHReference: TypeAlias = Literal["mean", "median", "active"]


@dataclass(frozen=True)
class LayerClusters:
    """The chosen clustering of each of a layer's C filters over N samples.

    Attributes:
        labels: Cluster of each sample, 0 the largest, -1 in a dead filter, [C, N].
        cluster_sizes: Samples in each cluster, largest first, padded with 0, [C, K].
        ch_index: Calinski-Harabasz index, NaN for a dead filter, [C].
    """

    labels: Tensor
    cluster_sizes: Tensor
    ch_index: Tensor


Clusters = dict[str, LayerClusters]


def cluster_maps(maps: Maps, *, max_clusters: int) -> Clusters:
    """Cluster the points of all layers, as `filterwatch.detect_anomaly_filters` does.

    Args:
        maps: What `probe_maps` returned.
        max_clusters: Largest number of clusters tried.
    """
    points = torch.cat([layer.points for layer in maps.values()])
    found = cluster_points(points, max_clusters=max_clusters)
    sizes = [len(layer.points) for layer in maps.values()]
    parts = zip(
        maps,
        found.labels.split(sizes),
        found.cluster_sizes.split(sizes),
        found.ch_index.split(sizes),
        strict=True,
    )
    return {
        name: LayerClusters(labels=labels.to(torch.int8), cluster_sizes=counts, ch_index=index)
        for name, labels, counts, index in parts
    }


@dataclass(frozen=True)
class Verdict:
    """Which filters are anomaly filters, and which samples their small clusters hold.

    Attributes:
        flagged: Layer name to a boolean tensor [C].
        sources: The distinct convolution filters behind the flagged maps, in forward order.
        outliers: Sample to the number of flagged filters that isolate it.
        isolated: Sample to the number of filters, flagged or not, that isolate it.
    """

    flagged: dict[str, Tensor]
    sources: list[tuple[str, int]]
    outliers: dict[int, int]
    isolated: dict[int, int]

    @property
    def count(self) -> int:
        """Number of flagged maps, as the paper counts."""
        return sum(int(flagged.sum()) for flagged in self.flagged.values())


def judge(
    maps: Maps,
    clusters: Clusters,
    criteria: AnomalyCriteria,
    *,
    ch_reference: CHReference = "mean",
) -> Verdict:
    """Apply criteria to clusterings.

    Args:
        maps: What `probe_maps` returned.
        clusters: What `cluster_maps` made of it.
        criteria: The thresholds.
        ch_reference: What criterion 2 compares a filter's CH index with, times beta: the layer's
            ``"mean"`` (the paper), its ``"median"``, or the mean over its ``"active"`` filters, of
            criterion 3. A filter that one or two samples awake has an index of any size, up to
            1e14, and lifts the mean above all others of its layer.
    """
    n_samples = next(iter(maps.values())).points.shape[1]
    limit = criteria.small_cluster_limit(n_samples)
    flagged: dict[str, Tensor] = {}
    sources: dict[tuple[str, int], None] = {}
    outliers: Counter[int] = Counter()
    isolated: Counter[int] = Counter()
    for name, layer in clusters.items():
        sizes = layer.cluster_sizes
        mask = flag_anomalies(
            sizes,
            layer.ch_index,
            maps[name].activation,
            limit=limit,
            criteria=criteria if ch_reference == "mean" else replace(criteria, ch_ratio=None),
        )
        if ch_reference != "mean" and criteria.ch_ratio is not None:
            reference = _reference(layer.ch_index, maps[name].activation, criteria, ch_reference)
            mask &= layer.ch_index > criteria.ch_ratio * reference
        flagged[name] = mask
        small = isolated_samples(layer, limit)
        isolated.update(_counts(small))
        outliers.update(_counts(small[mask]))
        for channel in mask.nonzero().flatten().tolist():
            source = maps[name].sources[channel]
            if source is not None:
                sources[source] = None
    return Verdict(flagged, list(sources), dict(outliers), dict(isolated))


def _reference(
    ch_index: Tensor, activation: Tensor, criteria: AnomalyCriteria, ch_reference: CHReference
) -> Tensor:
    """Return the layer's CH index that a filter's is compared with; NaN without live filters."""
    if ch_reference == "median":
        return ch_index.nanmedian()
    alive = ~torch.isnan(ch_index)
    active = alive & (activation >= (criteria.activation_ratio or 0.0) * activation[alive].mean())
    return ch_index[active].mean()


def isolated_samples(layer: LayerClusters, limit: int) -> Tensor:
    """Mark the samples [C, N] that lie in clusters of at most ``limit``."""
    small = small_clusters(layer.cluster_sizes, limit)
    return small.gather(1, layer.labels.long().clamp(min=0))


def _counts(isolated: Tensor) -> Counter[int]:
    counts = isolated.sum(0)
    return Counter({index: int(counts[index]) for index in counts.nonzero().flatten().tolist()})
