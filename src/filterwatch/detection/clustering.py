"""`cluster_points`: every filter's points clustered, K chosen by the Calinski-Harabasz index."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from filterwatch.detection import fused_clustering
from filterwatch.detection.reduce import ProgressCallback, Reduced
from filterwatch.detection.selection import calinski_harabasz, largest_first
from filterwatch.detection.tensor_clustering import Fits, fit_tensors
from filterwatch.detection.threads import spread


@dataclass(frozen=True, eq=False)
class Clusterings:
    """The chosen clustering of each filter, and how the other numbers of clusters fared.

    Attributes:
        labels: Cluster of each sample, [C, N]; 0 is the largest cluster. -1 in a dead filter, whose
            points are all the same.
        n_clusters: Number of non-empty clusters, [C]; 0 for a dead filter.
        cluster_sizes: Samples in each cluster, largest first, padded with 0, [C, max_clusters].
        ch_index: Calinski-Harabasz index, [C]; NaN for a dead filter.
        ch_by_k: The index for each K = 2, 3, …, [C, max_clusters - 1], on a CPU in single
            precision; NaN where undefined.
        log_likelihood: Mean log-likelihood per sample for each K, [C, max_clusters - 1], in the
            units of the points as given; NaN for a dead filter.
        converged: Whether each fit met the tolerance, [C, max_clusters - 1].
    """

    labels: Tensor
    n_clusters: Tensor
    cluster_sizes: Tensor
    ch_index: Tensor
    ch_by_k: Tensor
    log_likelihood: Tensor
    converged: Tensor

    def split(self, sizes: Sequence[int]) -> list[Clusterings]:
        """Return the clusterings of consecutive groups of so many filters each."""
        columns = [getattr(self, column.name).split(list(sizes)) for column in fields(self)]
        return [Clusterings(*parts) for parts in zip(*columns, strict=True)]


def cluster_points(
    points: Tensor,
    *,
    max_clusters: int = 14,
    regularization: float = 1e-6,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    refine: bool = False,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> Clusterings:
    """Cluster each filter's points by Gaussian mixtures of 2 … ``max_clusters`` clusters.

    Each fit starts from k-means, which starts from the fit before (see `kmeans`), and runs
    expectation maximisation (see `gmm.fit_mixture`); the clustering with the highest
    Calinski-Harabasz index is kept (paper, sections 3.1 to 3.3). Points are standardised first, by
    one scale for both coordinates, so that nothing depends on the activations' unit and rotations
    change nothing.

    On a CPU the fits run compiled, over torch's number of threads; on other devices, which must
    compute in double precision, in batched tensor operations that do not wait for the device.

    Args:
        points: [C, N, 2], any floating-point precision.
        max_clusters: Largest K, at least 2 and at most N.
        regularization: Added to the diagonal of every covariance, as a share of the filter's mean
            variance.
        tolerance: A fit ends when a step raises its mean log-likelihood per sample by less;
            scikit-learn's default.
        max_iterations: Largest number of steps of a fit.
        refine: Also start each K from the fit of K + 1 with two components merged, once for each
            of the two cheapest pairs (see `gmm.merge_two`), from one K beyond the largest (unless
            there are no more points) downwards. That is done where K + 1 is likelier by more than
            five tolerances, and such a fit is kept if it is likelier by more than one. Takes some
            1.5 times as long. The clusterings that it changes overlap more, and the index chooses
            other K. Few points are fitted the better with narrow components, down to the
            regularization's.
        seed: Accepted for the sake of a uniform interface: the start is deterministic.
        on_progress: Called now and then with the index of a filter: those before it are done.

    Returns:
        The clusterings, on the device of the points.

    Raises:
        ValueError: If the points have another shape, hold NaN or infinity, or number fewer than
            ``max_clusters``; or an argument is out of range.
    """
    _validate(points, max_clusters, regularization, tolerance, max_iterations)
    standardized, scale = _standardize(points.detach().double())
    alive = scale > 0
    fit = _fit_compiled if points.device.type == "cpu" else fit_tensors
    arguments = (max_clusters, bool(refine), regularization, tolerance, max_iterations)

    def tell(n_done: int) -> None:
        if on_progress is not None:
            on_progress(int((alive.cumsum(0) <= n_done).sum()))

    chosen, ch_by_k, log_likelihood, converged = fit(standardized[alive], *arguments, tell)
    chosen, sizes = largest_first(chosen, max_clusters)
    # The compiled fits have it in the precision of their points.
    ch_index = calinski_harabasz(standardized[alive], chosen, max_clusters)
    return Clusterings(
        labels=_among_all(chosen, alive, -1),
        n_clusters=_among_all((sizes > 0).sum(1), alive, 0),
        cluster_sizes=_among_all(sizes, alive, 0),
        ch_index=_among_all(ch_index, alive, torch.nan),
        ch_by_k=_among_all(ch_by_k, alive, torch.nan),
        # A density in the plane scales with the square of the unit.
        log_likelihood=_among_all(
            log_likelihood - 2 * scale[alive].log().unsqueeze(1), alive, torch.nan
        ),
        converged=_among_all(converged, alive, False),
    )


def cluster(
    reduced: Mapping[str, Reduced],
    *,
    max_clusters: int = 14,
    on_progress: ProgressCallback | None = None,
) -> dict[str, Clusterings]:
    """Cluster the points of all layers, as `cluster_points` does.

    Args:
        reduced: Layer name to its points, as `Reduction` returns them.
        max_clusters: Largest number of clusters.
        on_progress: Called while a layer's turn comes; see `detect_anomaly_filters`.
    """
    if not reduced:
        return {}
    lengths = [len(layer.points) for layer in reduced.values()]
    together = cluster_points(
        torch.cat([layer.points for layer in reduced.values()]),
        max_clusters=max_clusters,
        on_progress=_by_layer(on_progress, list(reduced), lengths),
    )
    return dict(zip(reduced, together.split(lengths), strict=True))


def _by_layer(
    on_progress: ProgressCallback | None, names: list[str], lengths: list[int]
) -> Callable[[int], None] | None:
    """Return what turns a number of filters into the layer that holds the next one."""
    if on_progress is None:
        return None
    ends = list(accumulate(lengths))

    def report(n_done: int) -> None:
        name = names[min(bisect_right(ends, n_done), len(names) - 1)]
        on_progress("clustering", name, n_done, ends[-1])

    report(0)
    return report


def _validate(
    points: Tensor, max_clusters: int, regularization: float, tolerance: float, max_iterations: int
) -> None:
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
    for name, value in (("regularization", regularization), ("tolerance", tolerance)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")


def _standardize(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return points [C, N, 2] of mean 0 and mean variance 1, and the scales [C] that did it.

    A scale of 0 marks a filter whose points are all the same, but for rounding.
    """
    largest = points.abs().amax((1, 2), keepdim=True)  # first, so that no square overflows
    unit = points / largest.where(largest > 0, 1.0)
    centered = unit - unit.mean(1, keepdim=True)
    spread = centered.square().mean((1, 2), keepdim=True).sqrt()
    alive = spread > 1e-12
    standardized = centered / spread.where(alive, 1.0)
    return standardized, (spread * largest).where(alive, 0.0).flatten()


def _among_all(values: Tensor, alive: Tensor, fill: float) -> Tensor:
    """Put the living filters' values back among all filters."""
    spread = torch.full(
        (len(alive), *values.shape[1:]), fill, dtype=values.dtype, device=values.device
    )
    spread[alive] = values
    return spread


def _fit_compiled(
    points: Tensor,
    max_clusters: int,
    refine: bool,
    regularization: float,
    tolerance: float,
    max_iterations: int,
    tell: Callable[[int], None],
) -> Fits:
    n_problems, n_samples, _ = points.shape
    array = points.float().mT.contiguous().numpy()
    labels = np.empty((n_problems, n_samples), np.int32)
    ch_by_k = np.empty((n_problems, max_clusters - 1))
    log_likelihood = np.empty_like(ch_by_k)
    converged = np.empty(ch_by_k.shape, np.bool_)

    def work(first: int, stop: int) -> None:
        fused_clustering.cluster(
            array,
            first,
            stop,
            max_clusters,
            refine,
            regularization,
            tolerance,
            max_iterations,
            labels,
            ch_by_k,
            log_likelihood,
            converged,
        )

    spread(work, n_problems, tell=tell)
    return Fits(*map(torch.from_numpy, (labels, ch_by_k, log_likelihood, converged)))
