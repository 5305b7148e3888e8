"""The points of a network, the report on their clusterings, and verdicts by any criteria on it.

Points are what costs time, and the clustering is what varies between configurations. So points are
kept on disk, once for each weights and probe, and clustered as often as a question asks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from filterwatch import AnomalyCriteria, AnomalyReport
from filterwatch.detection import (
    PCA,
    Clusterings,
    LayerReport,
    Plan,
    Reduced,
    Reduction,
    cluster_layers,
    judge,
    plan_detection,
    small_clusters,
)
from filterwatch.observing import Layer, observe

CHReference: TypeAlias = Literal["mean", "median", "active"]

# Below this share of a filter's largest activation a map's element counts as silent.
_SILENT = 0.01


@dataclass(frozen=True)
class MapStatistics:
    """What cheaper statistics than a clustering say of one layer's C filters.

    Attributes:
        kurtosis: Kurtosis over the samples of a map's mean absolute activation, [C]; 3 for a
            normal distribution, NaN for a constant filter.
        max_to_median: Largest over median of the same, [C]; infinite where half the samples leave
            the filter silent, NaN where all do.
        sparsity: Share of silent elements of the maps: below 1% of the filter's largest, [C].
    """

    kurtosis: Tensor
    max_to_median: Tensor
    sparsity: Tensor


@dataclass(frozen=True)
class LayerPoints:
    """What remains of a layer's maps.

    Attributes:
        layer: Where they were seen.
        reduced: Their points and activations.
        statistics: What a clustering is compared with.
    """

    layer: Layer
    reduced: Reduced
    statistics: MapStatistics


Points: TypeAlias = dict[str, LayerPoints]


@dataclass(frozen=True)
class Probed:
    """What a probe of a network found.

    Attributes:
        report: Its clusterings; what it flags itself, by the default criteria, is not looked at.
        statistics: Layer name to statistics of its maps.
    """

    report: AnomalyReport
    statistics: dict[str, MapStatistics]


def probe_points(network: nn.Module, images: Tensor, *, pca: PCA = "filter") -> Points:
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
    return {
        layer.name: LayerPoints(layer, reduced[layer.name], statistics[layer.name].finish())
        for layer in plan.layers
        if layer.name in reduced
    }


def cluster(points: Points, *, max_clusters: int) -> dict[str, Clusterings]:
    """Cluster the points of all layers, as `filterwatch.detect_anomaly_filters` does."""
    return cluster_layers(_reduced(points), max_clusters=max_clusters)


def report_on(points: Points, clusterings: Mapping[str, Clusterings]) -> Probed:
    """Return the report of `filterwatch.detect_anomaly_filters`, from points and clusterings."""
    n_samples = next(iter(points.values())).reduced.points.shape[1]
    # The maps are gone: how they were kept no longer matters.
    plan = Plan([found.layer for found in points.values()], n_samples, memory_budget=0, ranks={})
    report = judge(plan, _reduced(points), clusterings, criteria=AnomalyCriteria())
    return Probed(report, {name: found.statistics for name, found in points.items()})


def _reduced(points: Points) -> dict[str, Reduced]:
    return {name: found.reduced for name, found in points.items()}


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


def verdict_of(
    report: AnomalyReport, criteria: AnomalyCriteria, *, ch_reference: CHReference = "mean"
) -> Verdict:
    """Return what criteria say of a report's clusterings, and the samples behind it.

    Args:
        report: With its points' labels.
        criteria: The thresholds.
        ch_reference: What criterion 2 compares a filter's CH index with, times beta: the layer's
            ``"mean"`` (`AnomalyReport.flags`), its ``"median"``, or the mean over its ``"active"``
            filters, of criterion 3. A filter that one or two samples awake has an index of any
            size, up to 1e14, and lifts the mean above all others of its layer.
    """
    limit = criteria.small_cluster_limit(report.n_samples)
    flagged = _flags(report, criteria, ch_reference)
    sources: dict[tuple[str, int], None] = {}
    outliers: Counter[int] = Counter()
    isolated: Counter[int] = Counter()
    for name, layer in report.layers.items():
        small = isolated_samples(layer, limit)
        isolated.update(_counts(small))
        outliers.update(_counts(small[flagged[name]]))
        for channel in flagged[name].nonzero().flatten().tolist():
            source = layer.sources[channel]
            if source is not None:
                sources[source] = None
    return Verdict(flagged, list(sources), dict(outliers), dict(isolated))


def _flags(
    report: AnomalyReport, criteria: AnomalyCriteria, ch_reference: CHReference
) -> dict[str, Tensor]:
    if ch_reference == "mean" or criteria.ch_ratio is None:
        return report.flags(criteria)
    by_others = report.flags(replace(criteria, ch_ratio=None))
    return {
        name: by_others[name]
        & (layer.ch_index > criteria.ch_ratio * _reference(layer, criteria, ch_reference))
        for name, layer in report.layers.items()
    }


def _reference(layer: LayerReport, criteria: AnomalyCriteria, ch_reference: CHReference) -> Tensor:
    """Return the layer's CH index that a filter's is compared with; NaN without live filters."""
    ch_index, activation = layer.ch_index, layer.activation
    if ch_reference == "median":
        return ch_index.nanmedian()
    alive = ~torch.isnan(ch_index)
    active = alive & (activation >= (criteria.activation_ratio or 0.0) * activation[alive].mean())
    return ch_index[active].mean()


def isolated_samples(layer: LayerReport, limit: int) -> Tensor:
    """Mark the samples [C, N] that lie in clusters of at most ``limit``."""
    _, labels = points_and_labels(layer)
    return small_clusters(layer.cluster_sizes, limit).gather(1, labels.clamp(min=0))


def points_and_labels(layer: LayerReport) -> tuple[Tensor, Tensor]:
    """Return a layer's points [C, N, 2] and their clusters [C, N].

    Raises:
        ValueError: If the report was read from a file without them.
    """
    if layer.points is None or layer.labels is None:
        raise ValueError("a report without points and labels says nothing of samples")
    return layer.points, layer.labels.long()


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

    def finish(self) -> MapStatistics:
        means = torch.cat(self._means).T  # [C, N]
        elements = torch.cat(self._kept).float()  # [N, C, positions]
        largest = elements.amax((0, 2), keepdim=True)
        sparsity = (elements <= _SILENT * largest).double().mean((0, 2))
        max_to_median = means.amax(1) / means.median(1).values
        return MapStatistics(kurtosis(means), max_to_median, sparsity)
