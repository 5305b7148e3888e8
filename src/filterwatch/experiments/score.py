"""Numbers for a whole network, from the clusterings that the count is made of or from less."""

from __future__ import annotations

import torch
from torch import Tensor

from filterwatch.detection.criteria import AnomalyCriteria
from filterwatch.experiments.maps import LayerMaps, Maps
from filterwatch.experiments.verdicts import Clusters, LayerClusters, isolated_samples


def isolation_scores(layer: LayerMaps, clusters: LayerClusters) -> Tensor:
    """Return how far a filter's small clusters lie from its others, the small ones weighing most.

    The sum over all clusters but the largest of separation / size. The separation is the distance
    of a cluster's centre from the nearest centre of a larger cluster, in units of the points' root
    mean square distance from their mean. There is no threshold: a cluster of a tenth of the probe
    adds next to nothing, a single point far away adds its distance.

    Args:
        layer: C filters' points.
        clusters: Their clusterings.

    Returns:
        [C]; NaN for a dead filter.
    """
    points = layer.points.double()
    labels = clusters.labels.long()
    sizes = clusters.cluster_sizes
    alive = ~torch.isnan(clusters.ch_index)
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


def scatter_share(maps: Maps, clusters: Clusters, *, small_cluster_size: float = 0.01) -> float:
    """Return how much of the points' scatter lies in small clusters.

    Args:
        maps: What `filterwatch.experiments.maps.probe_maps` returned.
        clusters: Its clusterings.
        small_cluster_size: The paper's lambda, as a fraction of the probe.

    Returns:
        Share of the squared distances from the mean, of active filters (see `anomaly_score`),
        averaged over each layer's filters and then over the layers; NaN without any.
    """
    shares = {}
    for name, layer in maps.items():
        points = layer.points.double()
        limit = AnomalyCriteria(small_cluster_size).small_cluster_limit(points.shape[1])
        squares = (points - points.mean(1, keepdim=True)).square().sum(2)
        isolated = isolated_samples(clusters[name], limit)
        alive = ~torch.isnan(clusters[name].ch_index)
        share = (squares * isolated).sum(1) / squares.sum(1)
        shares[name] = share.where(alive, torch.nan)
    return _mean_of_active(maps, shares)


def anomaly_score(maps: Maps, clusters: Clusters, *, activation_ratio: float = 0.2) -> float:
    """Return the mean isolation score of a network's active filters.

    Args:
        maps: What `filterwatch.experiments.maps.probe_maps` returned.
        clusters: Its clusterings.
        activation_ratio: Criterion 3: a filter below this times its layer's mean activation does
            not enter.

    Returns:
        The mean over layers of the mean over each layer's active filters; NaN without any.
    """
    scores = {name: isolation_scores(layer, clusters[name]) for name, layer in maps.items()}
    return _mean_of_active(maps, scores, activation_ratio)


def _mean_of_active(maps: Maps, values: dict[str, Tensor], activation_ratio: float = 0.2) -> float:
    """Average over each layer's active filters, then over the layers; NaN marks dead filters."""
    means = []
    for name, layer in maps.items():
        alive = ~torch.isnan(values[name])
        if bool(alive.any()):
            threshold = activation_ratio * layer.activation[alive].mean()
            active = alive & (layer.activation >= threshold)
            means.append(float(values[name][active].mean()))
    return sum(means) / len(means) if means else float("nan")


def rival_signals(maps: Maps) -> dict[str, float]:
    """Return what cheaper statistics than a clustering say of a network.

    Returns:
        ``kurtosis`` and ``max_to_median``: medians over all live filters of the statistics of a
        map's mean absolute activation over the samples; ``sparsity``: the mean share of silent
        elements. See `filterwatch.experiments.maps.LayerMaps`.
    """
    gathered = {
        name: torch.cat([getattr(layer, name).double() for layer in maps.values()])
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
