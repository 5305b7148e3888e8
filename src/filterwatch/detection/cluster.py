"""Stage three: points to clusterings, by Gaussian mixtures of each K and the CH index."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from filterwatch.detection.kernels.compiled import spread
from filterwatch.detection.kernels.mixture import RELATIVE_FLOOR, fit_all_k
from filterwatch.detection.reduce import ProgressCallback, Reduced

# A fit ends when a step raises its mean log-likelihood per sample by less, or after so many steps:
# scikit-learn's defaults.
TOLERANCE = 1e-3
MAX_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class Clusterings:
    """The chosen clustering of each filter, and how likely each number of clusters made it.

    Attributes:
        labels: Cluster of each sample, [C, N]; 0 is the largest cluster. -1 in a dead filter, whose
            points are all the same.
        n_clusters: Number of non-empty clusters, [C]; 0 for a dead filter.
        cluster_sizes: Samples in each cluster, largest first, padded with 0, [C, max_clusters].
        ch_index: Calinski-Harabasz index, [C]; NaN for a dead filter.
        log_likelihood: Mean log-likelihood per sample for each K = 2, 3, …, [C, max_clusters - 1],
            in the units of the points as given; NaN for a dead filter.
    """

    labels: Tensor
    n_clusters: Tensor
    cluster_sizes: Tensor
    ch_index: Tensor
    log_likelihood: Tensor

    def split(self, sizes: Sequence[int]) -> list[Clusterings]:
        """Return the clusterings of consecutive groups of so many filters each."""
        columns = [getattr(self, column.name).split(list(sizes)) for column in fields(self)]
        return [Clusterings(*parts) for parts in zip(*columns, strict=True)]


def cluster_points(
    points: Tensor,
    *,
    max_clusters: int = 14,
    regularization: float = 1e-6,
    on_progress: Callable[[int], None] | None = None,
) -> Clusterings:
    """Cluster each filter's points by Gaussian mixtures of 2 … ``max_clusters`` clusters.

    Each fit starts from k-means, which starts from the fit before, and runs expectation
    maximization; the clustering with the highest Calinski-Harabasz index is kept (paper, sections
    3.1 to 3.3). Nothing is drawn at random. Points are standardized first, by one scale for both
    coordinates, so that nothing depends on the activations' unit and rotations change nothing. The
    fits run compiled on the host, over torch's number of threads.

    Args:
        points: [C, N, 2], any floating-point precision.
        max_clusters: Largest K, at least 2 and at most N.
        regularization: Added to the diagonal of every covariance, as a share of the filter's mean
            variance.
        on_progress: Called now and then with the index of a filter: those before it are done.

    Returns:
        The clusterings, on the device of the points.

    Raises:
        ValueError: If the points have another shape, hold NaN or infinity, or number fewer than
            ``max_clusters``; or an argument is out of range.
    """
    _validate(points, max_clusters, regularization)
    standardized, scale = _standardize(points.detach().cpu().double())
    alive = scale > 0
    standardized, scale = standardized[alive], scale[alive]

    def report(n_done: int) -> None:
        if on_progress is not None:
            on_progress(int((alive.cumsum(0) <= n_done).sum()))

    def among_all(values: Tensor, fill: float) -> Tensor:
        return spread_out(values, alive, fill).to(points.device)

    chosen, log_likelihood = _fit(standardized, max_clusters, regularization, report)
    labels, sizes = largest_first(chosen, max_clusters)
    return Clusterings(
        labels=among_all(labels, -1),
        n_clusters=among_all((sizes > 0).sum(1), 0),
        cluster_sizes=among_all(sizes, 0),
        # The compiled fits have it in the precision of their points.
        ch_index=among_all(calinski_harabasz(standardized, labels, max_clusters), torch.nan),
        # A density in the plane scales with the square of the unit.
        log_likelihood=among_all(log_likelihood - 2 * scale.log().unsqueeze(1), torch.nan),
    )


def calinski_harabasz(points: Tensor, labels: Tensor, n_clusters: int) -> Tensor:
    """Return the Calinski-Harabasz index [P] of P clusterings (paper, equations 4 to 6).

    Empty clusters do not count: K in the equation is the number of clusters that hold a point.
    Points that all lie on their cluster's center get a large finite index, not infinity. It is NaN
    where fewer than two clusters hold a point, or as many clusters as there are points.

    Args:
        points: [P, N, 2].
        labels: Cluster of each point, in 0 … ``n_clusters`` - 1, [P, N].
        n_clusters: Largest number of clusters.
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
    """Count the points of each cluster, [P, K], by labels [P, N]; negative ones do not count."""
    sizes = torch.zeros(len(labels), n_clusters + 1, dtype=torch.int64, device=labels.device)
    index = labels.long().where(labels >= 0, n_clusters)
    return sizes.scatter_add_(1, index, torch.ones_like(index))[:, :n_clusters]


def largest_first(labels: Tensor, n_clusters: int) -> tuple[Tensor, Tensor]:
    """Return labels [P, N] numbered by size, 0 the largest, and the sizes [P, K].

    Negative labels stay.
    """
    sizes, order = cluster_sizes(labels, n_clusters).sort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(n_clusters, device=labels.device).expand_as(order))
    renumbered = rank.gather(1, labels.clamp(min=0).long())
    return renumbered.where(labels >= 0, labels.long()), sizes


def spread_out(values: Tensor, chosen: Tensor, fill: float) -> Tensor:
    """Put the values of the filters that ``chosen`` [C] marks back among all filters."""
    among_all = values.new_full((len(chosen), *values.shape[1:]), fill)
    among_all[chosen] = values
    return among_all


def cluster_layers(
    reduced: Mapping[str, Reduced],
    *,
    max_clusters: int = 14,
    on_progress: ProgressCallback | None = None,
) -> dict[str, Clusterings]:
    """Cluster the points of all layers, as `cluster_points` does.

    Args:
        reduced: Layer name to its points, as `Reduction` returns them.
        max_clusters: Largest number of clusters.
        on_progress: Called with the layer being clustered; see `detect_anomaly_filters`.
    """
    if not reduced:
        return {}
    names, lengths = list(reduced), [len(layer.points) for layer in reduced.values()]
    ends = list(accumulate(lengths))

    def report(n_done: int) -> None:
        if on_progress is not None:  # with the layer that holds the next filter
            name = names[min(bisect_right(ends, n_done), len(names) - 1)]
            on_progress("clustering", name, n_done, ends[-1])

    report(0)
    together = cluster_points(
        torch.cat([layer.points for layer in reduced.values()]),
        max_clusters=max_clusters,
        on_progress=report,
    )
    return dict(zip(reduced, together.split(lengths), strict=True))


def _validate(points: Tensor, max_clusters: int, regularization: float) -> None:
    if points.ndim != 3 or points.shape[2] != 2 or not points.is_floating_point():
        raise ValueError(
            f"points must be floating-point [C, N, 2], got {points.dtype} {list(points.shape)}"
        )
    if not bool(torch.isfinite(points).all()):
        raise ValueError("points hold NaN or infinity: leave those filters out")
    if max_clusters < 2:
        raise ValueError(f"max_clusters must be at least 2, got {max_clusters}")
    if points.shape[1] < max_clusters:
        raise ValueError(
            f"{points.shape[1]} samples cannot form max_clusters={max_clusters} clusters: "
            "use a larger probe, or lower max_clusters"
        )
    if not regularization > 0:
        raise ValueError(f"regularization must be positive, got {regularization}")


def _standardize(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return points [C, N, 2] of mean 0 and mean variance 1, and the scales [C] that did it.

    A scale of 0 marks a filter whose points are all the same, but for rounding.
    """
    largest = points.abs().amax((1, 2), keepdim=True)  # first, so that no square overflows
    unit = points / largest.where(largest > 0, 1.0)
    centered = unit - unit.mean(1, keepdim=True)
    spread_of_points = centered.square().mean((1, 2), keepdim=True).sqrt()
    alive = spread_of_points > 1e-12
    standardized = centered / spread_of_points.where(alive, 1.0)
    return standardized, (spread_of_points * largest).where(alive, 0.0).flatten()


def _fit(
    points: Tensor, max_clusters: int, regularization: float, on_progress: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    """Return labels [P, N] of the highest index, and log-likelihoods by K, [P, Ks]."""
    n_problems, n_samples, _ = points.shape
    array = points.float().mT.contiguous().numpy()
    labels = np.empty((n_problems, n_samples), np.int32)
    log_likelihood = np.empty((n_problems, max_clusters - 1))
    settings = (max_clusters, regularization, TOLERANCE, MAX_ITERATIONS)

    def work(first: int, stop: int) -> None:
        fit_all_k(array, first, stop, *settings, labels, log_likelihood)

    spread(work, n_problems, on_progress)
    return torch.from_numpy(labels), torch.from_numpy(log_likelihood)
