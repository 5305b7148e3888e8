"""The Calinski-Harabasz index and the number of clusters it chooses (paper, equations 4-6)."""

from __future__ import annotations

import torch
from torch import Tensor

# Within-cluster scatter below this share of the total is rounding error: it is not divided by.
RELATIVE_FLOOR = 1e-12


def calinski_harabasz(points: Tensor, labels: Tensor, n_clusters: int) -> Tensor:
    """Return the Calinski-Harabasz index of P clusterings (equation 4).

    Empty clusters do not count: K in the equation is the number of clusters that hold a point.
    Points that all lie on their cluster's centre get a large finite index, not infinity.

    Args:
        points: [P, N, 2].
        labels: Cluster of each point, in 0 … ``n_clusters`` - 1, [P, N].
        n_clusters: Largest number of clusters.

    Returns:
        [P], in the points' precision; NaN where fewer than two clusters hold a point, or as many
        clusters as there are points.
    """
    n_samples = points.shape[1]
    sizes = cluster_sizes(labels, n_clusters).to(points.dtype)  # [P, K]
    index = labels.unsqueeze(-1).expand(-1, -1, 2)
    sums = torch.zeros(len(points), n_clusters, 2, dtype=points.dtype, device=points.device)
    centers = sums.scatter_add_(1, index, points) / sizes.clamp(min=1).unsqueeze(-1)
    mean = points.mean(1, keepdim=True)
    between = (sizes.unsqueeze(-1) * (centers - mean).square()).sum((1, 2))  # SSB, equation 6
    within = (points - centers.gather(1, index)).square().sum((1, 2))  # SSW, equation 5
    within = within.clamp(min=0).maximum(RELATIVE_FLOOR * (between + within))
    effective = (sizes > 0).sum(1)
    index_value = (between / (effective - 1)) / (within / (n_samples - effective))
    defined = (effective >= 2) & (effective < n_samples)
    return index_value.where(defined, torch.nan)


def cluster_sizes(labels: Tensor, n_clusters: int) -> Tensor:
    """Count the points of each cluster.

    Args:
        labels: Cluster of each point, [P, N]; negative labels are not counted.
        n_clusters: Number of clusters.

    Returns:
        [P, n_clusters].
    """
    sizes = torch.zeros(len(labels), n_clusters + 1, dtype=torch.int64, device=labels.device)
    index = labels.long().where(labels >= 0, n_clusters)
    return sizes.scatter_add_(1, index, torch.ones_like(index))[:, :n_clusters]


def largest_first(labels: Tensor, n_clusters: int) -> tuple[Tensor, Tensor]:
    """Number clusters by size, so that 0 is the largest, and empty ones come last.

    Args:
        labels: Cluster of each point, [P, N]; negative labels stay.
        n_clusters: Number of clusters.

    Returns:
        The renumbered labels [P, N] and the sizes [P, n_clusters].
    """
    sizes, order = cluster_sizes(labels, n_clusters).sort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(n_clusters, device=labels.device).expand_as(order))
    renumbered = rank.gather(1, labels.clamp(min=0).long())
    return renumbered.where(labels >= 0, labels.long()), sizes


def best_clustering(ch_index: Tensor) -> Tensor:
    """Return the position of the highest index over K (section 3.3), the smaller K at a tie.

    Args:
        ch_index: Index for each number of clusters, [P, number of Ks]; NaN where undefined.

    Returns:
        [P]; 0 where none is defined.
    """
    return ch_index.nan_to_num(nan=-torch.inf).argmax(1)
