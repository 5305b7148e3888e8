"""From flagged maps to the convolution filters behind them: who, how badly, for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from filterwatch.actions.wiring import Filter
from filterwatch.detection import AnomalyCriteria, AnomalyReport
from filterwatch.detection.criteria import flag_anomalies, mean_index


@dataclass(frozen=True)
class FlaggedFilter:
    """A convolution filter with flagged maps.

    Attributes:
        filter: The filter, as (module name of the convolution, index).
        maps: The flagged maps that it is behind, as (layer, channel).
        ch_ratio: The largest Calinski-Harabasz index among them, relative to its layer's mean.
        streak: In how many probes in a row it was flagged, this one included.
    """

    filter: Filter
    maps: tuple[tuple[str, int], ...]
    ch_ratio: float
    streak: int = 1


def flagged_filters(
    report: AnomalyReport, criteria: AnomalyCriteria | None = None
) -> dict[Filter, FlaggedFilter]:
    """Return the filters behind a report's flagged maps.

    Args:
        report: The report.
        criteria: Thresholds to judge the same clusterings by; ``None`` means the report's.
    """
    limit = (criteria or report.criteria).small_cluster_limit(report.n_samples)
    found: dict[Filter, FlaggedFilter] = {}
    for name, layer in report.layers.items():
        flags = layer.is_anomaly
        if criteria is not None:
            flags = flag_anomalies(
                layer.cluster_sizes,
                layer.ch_index,
                layer.activation,
                limit=limit,
                criteria=criteria,
            )
        mean = mean_index(layer.ch_index, layer.cluster_sizes)
        for channel in flags.nonzero().flatten().tolist():
            source = layer.sources[channel]
            if source is None:
                continue
            earlier = found.get(source, FlaggedFilter(source, (), 0.0))
            found[source] = FlaggedFilter(
                source,
                (*earlier.maps, (name, channel)),
                max(earlier.ch_ratio, float(layer.ch_index[channel] / mean)),
            )
    return found


def judged_filters(report: AnomalyReport) -> dict[Filter, None]:
    """Return the filters that have a map in a report, flagged or not, in forward order."""
    sources = (source for layer in report.layers.values() for source in layer.sources)
    return {source: None for source in sources if source is not None}


def maps_without_filter(report: AnomalyReport) -> int:
    """Return how many flagged maps have no single filter behind them, and so cannot be masked."""
    return sum(anomaly.source_layer is None for anomaly in report.anomalies)


def with_streaks(
    flagged: Mapping[Filter, FlaggedFilter], earlier: Mapping[Filter, int]
) -> dict[Filter, FlaggedFilter]:
    """Return filters with their streaks, of which ``earlier`` has the ones up to the last probe."""
    return {
        filter_: FlaggedFilter(
            entry.filter, entry.maps, entry.ch_ratio, earlier.get(filter_, 0) + 1
        )
        for filter_, entry in flagged.items()
    }
