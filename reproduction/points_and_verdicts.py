"""The points of a network, their clusterings, and the verdicts of any criteria on them.

Points are what costs time, and the clustering is what varies between configurations. So points are
kept on disk, once for each weights and probe, and clustered as often as a question asks for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from filterwatch import AnomalyCriteria, cluster_points
from filterwatch.detection import (
    PCA,
    Reduction,
    flag_anomalies,
    plan_detection,
    small_clusters,
)
from filterwatch.observing import observe

CHReference: TypeAlias = Literal["mean", "median", "active"]

# Below this share of a filter's largest activation a map's element counts as silent.
_SILENT = 0.01


@dataclass(frozen=True)
class LayerMaps:
    """One layer of a probed network; C filters, N samples.

    Attributes:
        points: Feature maps reduced to two dimensions, [C, N, 2].
        activation: Mean absolute activation, [C].
        sources: The convolution filter behind each channel, or ``None``.
        kurtosis: Kurtosis over the samples of a map's mean absolute activation, [C]; 3 for a
            normal distribution, NaN for a constant filter.
        max_to_median: Largest over median of the same, [C]; infinite where half the samples leave
            the filter silent, NaN where all do.
        sparsity: Share of silent elements of the maps: below 1% of the filter's largest, [C].
    """

    points: Tensor
    activation: Tensor
    sources: list[tuple[str, int] | None]
    kurtosis: Tensor
    max_to_median: Tensor
    sparsity: Tensor


Maps: TypeAlias = dict[str, LayerMaps]


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


Clusters: TypeAlias = dict[str, LayerClusters]


def probe_maps(network: nn.Module, images: Tensor, *, pca: PCA = "filter") -> Maps:
    """Send a probe through a network and reduce its feature maps: where all points are made.

    Args:
        network: Any network with 2-D convolutions; comes back as it went in.
        images: [N, C, H, W].
        pca: See `filterwatch.detect_anomaly_filters`.

    Returns:
        Layer name to what is left of its maps, in forward order.
    """
    batches = images.split(256)
    plan = plan_detection(network, images[:2], len(images), in_one_batch=len(batches) == 1)
    reduction = Reduction(plan, pca=pca)
    statistics = {name: _Statistics() for name in plan.names}

    def consume(name: str, maps: Tensor) -> None:
        statistics[name].add(maps)
        reduction.add(name, maps)

    observe(network, batches, consume, layers=plan.layers)
    reduced, _ = reduction.finish()
    found = {}
    for layer in plan.layers:
        if layer.name not in reduced:
            continue
        kurtosis, max_to_median, sparsity = statistics[layer.name].finish()
        found[layer.name] = LayerMaps(
            points=reduced[layer.name].points,
            activation=reduced[layer.name].activation,
            sources=layer.sources,
            kurtosis=kurtosis,
            max_to_median=max_to_median,
            sparsity=sparsity,
        )
    return found


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
    """Apply criteria to clusterings: the one place where filters are judged.

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


def kurtosis(values: Tensor) -> Tensor:
    """Return the kurtosis over the last dimension; NaN where the values are constant."""
    centered = values.double() - values.double().mean(-1, keepdim=True)
    variance = centered.square().mean(-1)
    return (centered.pow(4).mean(-1) / variance.square()).where(variance > 0, torch.nan)


class _Statistics:
    def __init__(self) -> None:
        self._means: list[Tensor] = []
        self._kept: list[Tensor] = []

    def add(self, maps: Tensor) -> None:
        magnitude = maps.detach().abs().flatten(2)  # [B, C, D]
        self._means.append(magnitude.mean(2, dtype=torch.float64).cpu())
        # A map's elements matter by their histogram alone: 1,000 levels of the batch's largest
        # would be biased between batches, so a fixed sample of positions is kept instead.
        width = magnitude.shape[2]
        positions = torch.linspace(0, width - 1, min(width, 64)).round().long()
        self._kept.append(magnitude[:, :, positions].half().cpu())

    def finish(self) -> tuple[Tensor, Tensor, Tensor]:
        means = torch.cat(self._means).T  # [C, N]
        elements = torch.cat(self._kept).float()  # [N, C, positions]
        largest = elements.amax((0, 2), keepdim=True)
        sparsity = (elements <= _SILENT * largest).double().mean((0, 2))
        return kurtosis(means), means.amax(1) / means.median(1).values, sparsity
