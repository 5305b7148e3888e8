"""What pictures and pages say where bare numbers would mislead: of none, of all, of chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from filterwatch.detection import AnomalyFilter, AnomalyReport, nearly_dead, small_clusters

_UNUSED = {"small_cluster_ratio": None, "ch_ratio": None, "activation_ratio": None}


def met_criteria(report: AnomalyReport) -> list[dict[str, Tensor]]:
    """Return for each of the three criteria which filters meet it, by layer, each bool [C].

    A filter that is dead meets none; what is not asked for is met.
    """
    criteria = report.criteria
    return [
        report.flags(replace(criteria, **(_UNUSED | {name: getattr(criteria, name)})))
        for name in _UNUSED
    ]


@dataclass(frozen=True)
class Nearest:
    """The filter that comes nearest to an anomaly filter, and in words what it misses."""

    filter: AnomalyFilter
    missing: list[str]


def nearest_filter(report: AnomalyReport) -> Nearest | None:
    """Return the filter that comes nearest to the criteria; ``None`` if all are dead, or nearly.

    A criterion counts 1 where it is met, else by what share of its threshold is reached.
    """
    criteria, limit = report.criteria, report.small_cluster_limit
    best: tuple[float, str, int] | None = None
    met = met_criteria(report)
    for name, layer in report.layers.items():
        small = small_clusters(layer.cluster_sizes, limit).sum(1)
        judged = ~(layer.ch_index.isnan() | nearly_dead(layer.ch_index, layer.cluster_sizes))
        if not bool(judged.any()):
            continue
        values = (
            small / layer.n_clusters.clamp(min=1),
            layer.ch_index / layer.mean_ch_index,
            layer.activation / layer.activation[~layer.ch_index.isnan()].mean(),
        )
        score = torch.zeros(len(judged), dtype=torch.float64)
        for value, key, of_layers in zip(values, _UNUSED, met, strict=True):
            reached = (value.double() / (getattr(criteria, key) or 1.0)).clamp(max=1 - 1e-9)
            score += torch.where(of_layers[name], 1.0, reached)
        score[~judged] = -1.0
        channel = int(score.argmax())
        if best is None or float(score[channel]) > best[0]:
            best = (float(score[channel]), name, channel)
    if best is None:
        return None
    _, name, channel = best
    return Nearest(_as_anomaly(report, name, channel), list(_missing(report, met, name, channel)))


def _as_anomaly(report: AnomalyReport, name: str, channel: int) -> AnomalyFilter:
    layer = report.layers[name]
    outliers: list[int] = []
    if layer.labels is not None:
        small = small_clusters(layer.cluster_sizes[channel], report.small_cluster_limit)
        outliers = small[layer.labels[channel].long()].nonzero().flatten().tolist()
    return layer.described(name, channel, outliers)


def _missing(
    report: AnomalyReport, met: Sequence[dict[str, Tensor]], name: str, channel: int
) -> Iterator[str]:
    layer, criteria = report.layers[name], report.criteria
    unbalanced, separated, active = (bool(of_layers[name][channel]) for of_layers in met)
    clusters = int(layer.n_clusters[channel])
    if not unbalanced:
        small = small_clusters(layer.cluster_sizes[channel], report.small_cluster_limit).sum()
        share = criteria.small_cluster_ratio
        yield f"{int(small)} of its {clusters} clusters are small, not more than {share:.0%}"
    if not separated:
        relative = float(layer.ch_index[channel]) / layer.mean_ch_index
        threshold = criteria.ch_ratio
        yield f"its CH index is {relative:.2g} times its layer's mean, not more than {threshold:g}"
    if not active:
        mean = float(layer.activation[~layer.ch_index.isnan()].mean())
        relative = float(layer.activation[channel]) / mean
        threshold = criteria.activation_ratio
        yield f"its activation is {relative:.2g} times its layer's mean, not {threshold:g} or more"
    if unbalanced and separated and active:
        yield "it is an anomaly filter on the whole probe, but not on most of its random parts"


def crowding(report: AnomalyReport) -> str | None:
    """Return why isolated samples say little, where they are more than half of the probe."""
    n_samples, isolated = report.n_samples, len(report.outlier_samples())
    if 2 * isolated <= n_samples:
        return None
    clusters = sorted(anomaly.n_clusters for anomaly in report.anomalies)
    usual, limit = clusters[len(clusters) // 2], report.small_cluster_limit
    if 4 * limit * usual < n_samples:
        return (
            f"{isolated} of {n_samples} are isolated by one filter or another, which says little: "
            "look at those that most filters isolate."
        )
    return (
        f"{isolated} of {n_samples} are isolated, which says little: lambda is too large for "
        f"K = {usual}.\nClusters have {n_samples / usual:.0f} samples on average, and up to "
        f"{limit} count as small. Lower small_cluster_size, or use a larger probe."
    )


def untrained_note(accuracy: float, labels: Tensor, predictions: Tensor) -> str | None:
    """Return that a network does hardly better than guessing, ``None`` where it does.

    Guessing means predictions of the same classes, as often, without a look at the images. Better
    is less than twice that and less than a tenth of the way from there to 1, or what chance does.

    Args:
        accuracy: Share of predictions that are right.
        labels: Classes, int64 [N].
        predictions: The network's, int64 [N].
    """
    classes = int(torch.maximum(labels.max(), predictions.max())) + 1
    shares = (values.bincount(minlength=classes) / len(labels) for values in (labels, predictions))
    guessing = float(torch.stack(list(shares)).prod(0).sum())
    by_chance = 2 * (guessing * (1 - guessing) / len(labels)) ** 0.5
    if accuracy > guessing + max(by_chance, min(guessing, 0.1 * (1 - guessing))):
        return None
    return (
        f"looks untrained: {accuracy:.1%} of the images get their label, guessing would give "
        f"{guessing:.1%}. What is shown here says nothing of training. If the network is trained, "
        "images reach it in another size or normalization than they did then, or its classes are "
        "in another order."
    )
