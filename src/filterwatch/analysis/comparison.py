"""Two models on one probe: which filters turned anomalous, and which ceased to be."""

from __future__ import annotations

from dataclasses import dataclass, replace

from filterwatch.analysis.errors import InputError, first_few
from filterwatch.analysis.run import Analysis

Filter = tuple[str, int]


@dataclass(frozen=True)
class Comparison:
    """What changed from a first model to a second.

    Attributes:
        first: What was found in the first, on the layers that both have.
        second: What was found in the second, on the same layers.
        turned: Maps (layer, channel) that are anomalous in the second only, in forward order.
        ceased: Maps that are anomalous in the first only.
        kept: Maps that are anomalous in both.
        unmatched: Layers that are not compared because only one model has them, or has them with
            that number of channels.
    """

    first: Analysis
    second: Analysis
    turned: list[Filter]
    ceased: list[Filter]
    kept: list[Filter]
    unmatched: list[str]

    def isolated_by(self, filters: list[Filter], analysis: Analysis) -> dict[int, int]:
        """Return how many of some filters isolate each image, most isolated first.

        Args:
            filters: Maps that are flagged in ``analysis``.
            analysis: ``first`` or ``second``.
        """
        wanted = set(filters)
        counts: dict[int, int] = {}
        for anomaly in analysis.report.anomalies:
            if (anomaly.layer, anomaly.channel) in wanted:
                for index in anomaly.outliers:
                    counts[index] = counts.get(index, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def compare(first: Analysis, second: Analysis) -> Comparison:
    """Match the filters of two models by layer and channel.

    Args:
        first: The one model on the probe.
        second: The other on the same probe.

    Raises:
        InputError: If the models have no layer in common, or the probes differ.
    """
    if first.images.files != second.images.files:
        raise InputError("the two models saw different images: compare them on one probe")
    common = [
        name
        for name, layer in first.report.layers.items()
        if name in second.report.layers
        and len(layer.ch_index) == len(second.report.layers[name].ch_index)
    ]
    if not common:
        raise InputError(
            f"{first.model.path} and {second.model.path} have no layer in common: the one has "
            f"{first_few(list(first.report.layers))}, the other "
            f"{first_few(list(second.report.layers))}"
        )
    names = dict.fromkeys([*first.report.layers, *second.report.layers])
    first, second = _restricted(first, common), _restricted(second, common)
    before, after = _flagged(first), _flagged(second)
    return Comparison(
        first,
        second,
        turned=[found for found in after if found not in before],
        ceased=[found for found in before if found not in after],
        kept=[found for found in after if found in before],
        unmatched=[name for name in names if name not in common],
    )


def _flagged(analysis: Analysis) -> dict[Filter, None]:
    return {(anomaly.layer, anomaly.channel): None for anomaly in analysis.report.anomalies}


def _restricted(analysis: Analysis, names: list[str]) -> Analysis:
    report = analysis.report
    if len(names) == len(report.layers):
        return analysis
    kept = replace(
        report,
        anomalies=[anomaly for anomaly in report.anomalies if anomaly.layer in names],
        layers={name: report.layers[name] for name in names},
    )
    return replace(analysis, report=kept)
