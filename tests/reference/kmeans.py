"""K-means from one cluster more than the fit before, batched over problems."""

from __future__ import annotations

import torch
from torch import Tensor

from filterwatch.detection.kernels.kmeans import LLOYD_TOLERANCE, MAX_LLOYD_ITERATIONS


def assign(points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Return each point's nearest centre.

    Args:
        points: [P, N, 2].
        centers: [P, K, 2].

    Returns:
        Labels [P, N] and squared distances [P, N].
    """
    distances = (points.unsqueeze(2) - centers.unsqueeze(1)).square().sum(-1)
    nearest = distances.min(-1)
    return nearest.indices, nearest.values


def lloyd(points: Tensor, centers: Tensor) -> Tensor:
    """Refine centres [P, K, 2] on points [P, N, 2]; a centre that loses all its points stays."""
    active = torch.ones_like(centers[:, 0, 0], dtype=torch.bool)
    for _ in range(MAX_LLOYD_ITERATIONS):
        if not bool(active.any()):
            break
        labels, _ = assign(points, centers)
        sums, sizes = _accumulate(points, labels, centers.shape[1])
        refined = torch.where(sizes > 0, sums / sizes.clamp(min=1), centers)
        shift = (refined - centers).square().sum((1, 2))
        centers = refined.where(active.view(-1, 1, 1), centers)
        active = active & (shift > LLOYD_TOLERANCE)
    return centers


def center(points: Tensor, labels: Tensor, n_clusters: int) -> Tensor:
    """Return the centres [P, K, 2] of clusters; 0 where one is empty.

    Args:
        points: [P, N, 2].
        labels: Cluster of each point, [P, N].
        n_clusters: K.
    """
    sums, sizes = _accumulate(points, labels, n_clusters)
    return sums / sizes.clamp(min=1)


def grow(points: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Add the centre that lowers the within-cluster scatter most.

    The candidates, three for each cluster: its farthest point, and the points one standard
    deviation from its centre along its longest axis, either way.

    Args:
        points: [P, N, 2].
        labels: Cluster of each point, [P, N].
        centers: [P, K, 2].

    Returns:
        Centres [P, K + 1, 2], the old ones unchanged.
    """
    own = centers.gather(1, labels.unsqueeze(-1).expand(-1, -1, 2))
    distances = (points - own).square().sum(-1)
    candidates = torch.cat(
        [
            _farthest(points, labels, distances, centers.shape[1]),
            *_ends(points, labels, centers),
        ],
        dim=1,
    )
    to_candidate = (points.unsqueeze(2) - candidates.unsqueeze(1)).square().sum(-1)
    gain = (distances.unsqueeze(-1) - to_candidate).clamp(min=0).sum(1)  # [P, 3 K]
    new = candidates.gather(1, gain.argmax(1).view(-1, 1, 1).expand(-1, 1, 2))
    return torch.cat([centers, new], dim=1)


def _accumulate(values: Tensor, labels: Tensor, n_clusters: int) -> tuple[Tensor, Tensor]:
    """Return sums [P, K, d] of values [P, N, d] by cluster, and cluster sizes [P, K, 1]."""
    shape = (len(values), n_clusters, values.shape[-1])
    sums = torch.zeros(shape, dtype=values.dtype, device=values.device)
    sums.scatter_add_(1, labels.unsqueeze(-1).expand_as(values), values)
    sizes = torch.zeros(shape[:2], dtype=values.dtype, device=values.device)
    sizes.scatter_add_(1, labels, torch.ones_like(values[..., 0]))
    return sums, sizes.unsqueeze(-1)


def _farthest(points: Tensor, labels: Tensor, distances: Tensor, n_clusters: int) -> Tensor:
    members = torch.nn.functional.one_hot(labels, n_clusters).bool()  # [P, N, K]
    index = distances.unsqueeze(-1).where(members, -1.0).argmax(1)
    return points.gather(1, index.unsqueeze(-1).expand(-1, -1, 2))


def _ends(points: Tensor, labels: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    offsets = points - centers.gather(1, labels.unsqueeze(-1).expand(-1, -1, 2))
    dx, dy = offsets.unbind(-1)
    sums, sizes = _accumulate(
        torch.stack([dx * dx, dx * dy, dy * dy], dim=-1), labels, centers.shape[1]
    )
    xx, xy, yy = (sums / sizes.clamp(min=1)).unbind(-1)
    # The larger eigenvalue and its direction, of a symmetric 2 x 2 matrix.
    longest = (xx + yy) / 2 + ((xx - yy) / 2).hypot(xy)
    angle = torch.atan2(2 * xy, xx - yy) / 2
    axis = torch.stack([angle.cos(), angle.sin()], dim=-1) * longest.clamp(min=0).sqrt()[..., None]
    return centers + axis, centers - axis
