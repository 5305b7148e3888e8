"""`cluster_points` by tensor operations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from filterwatch.detection import Clusterings, cluster_points
from reference import kmeans, mixture

ENGINE = sys.modules[cluster_points.__module__]


@contextmanager
def stopping(
    *, tolerance: float = ENGINE.TOLERANCE, max_iterations: int = ENGINE.MAX_ITERATIONS
) -> Iterator[None]:
    """Let fits, of either form, end at another tolerance or number of steps."""
    with patch.multiple(ENGINE, TOLERANCE=tolerance, MAX_ITERATIONS=max_iterations):
        yield


def cluster_by_tensors(points: Tensor, **options: Any) -> Clusterings:
    """Do what `cluster_points` does, with other fits."""
    with patch.object(ENGINE, "_fit", fit_tensors):
        return cluster_points(points, **options)


def fit_tensors(
    points: Tensor, max_clusters: int, regularization: float, on_progress: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    """Fit standardised points [P, N, 2]: labels of the highest index; likelihood by K."""
    own = torch.zeros(points.shape[:2], dtype=torch.int64)
    by_k = []
    for n_clusters in range(2, max_clusters + 1):
        centers = kmeans.grow(points, own, kmeans.center(points, own, n_clusters - 1))
        start, _ = kmeans.assign(points, kmeans.lloyd(points, centers))
        fit = mixture.fit_mixture(
            points,
            torch.nn.functional.one_hot(start, n_clusters).to(points.dtype),
            regularization=regularization,
            tolerance=ENGINE.TOLERANCE,
            max_iterations=ENGINE.MAX_ITERATIONS,
            accelerate=True,
        )
        own = fit.responsibilities.argmax(-1)
        index = ENGINE.calinski_harabasz(points, own, n_clusters)
        by_k.append((own, index, fit.log_likelihood))
    labels, index, log_likelihood = (
        torch.stack(column, dim=1) for column in zip(*by_k, strict=True)
    )
    chosen = labels[torch.arange(len(labels)), best_clustering(index)]
    return chosen, log_likelihood


def best_clustering(ch_index: Tensor) -> Tensor:
    """Return the position of the highest index over K (section 3.3), the smaller K at a tie.

    Args:
        ch_index: Index for each number of clusters, [P, number of Ks]; NaN where undefined.

    Returns:
        [P]; 0 where none is defined.
    """
    return ch_index.nan_to_num(nan=-torch.inf).argmax(1)
