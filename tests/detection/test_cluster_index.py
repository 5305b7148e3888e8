"""The index against scikit-learn's, and the edges that scikit-learn leaves out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import calinski_harabasz_score
from torch import Tensor

from filterwatch.detection.cluster import calinski_harabasz, cluster_sizes, largest_first
from reference.clustering import best_clustering


def clustering(
    n_samples: int, n_clusters: int, *, scale: float = 1.0, shift: float = 0.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return points [3, N, 2] and labels [3, N] in which every cluster holds a point."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(3, n_samples, 2, generator=generator, dtype=torch.float64)
    labels = torch.randint(n_clusters, (3, n_samples), generator=generator)
    labels[:, :n_clusters] = torch.arange(n_clusters)
    points += 0.5 * labels.unsqueeze(-1)
    return scale * points + shift, labels


@pytest.mark.parametrize("reference", [calinski_harabasz_score])
@pytest.mark.parametrize(
    ("n_samples", "n_clusters"), [(50, 2), (50, 5), (1000, 14), (15, 14), (3, 2)]
)
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-9, 0.0), (1e9, 0.0), (1.0, 100.0)])
def test_parity(
    reference: Callable[..., float], n_samples: int, n_clusters: int, scale: float, shift: float
) -> None:
    points, labels = clustering(n_samples, n_clusters, scale=scale, shift=shift)
    index = calinski_harabasz(points, labels, n_clusters)
    expected = [reference(p.numpy(), c.numpy()) for p, c in zip(points, labels, strict=True)]
    np.testing.assert_allclose(index.numpy(), expected, rtol=1e-9)


def test_a_case_computed_by_hand() -> None:
    points = torch.tensor([[[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 2.0]]])
    labels = torch.tensor([[0, 0, 1, 1]])
    # SSB = 2 * 25 + 2 * 25, SSW = 4 * 1; (100 / 1) / (4 / 2).
    assert calinski_harabasz(points, labels, 2).tolist() == [50.0]


def test_empty_clusters_do_not_count_in_k() -> None:
    points, labels = clustering(40, 3)
    spread = torch.tensor([0, 4, 7])[labels]
    expected = calinski_harabasz(points, labels, 3)
    torch.testing.assert_close(calinski_harabasz(points, spread, 9), expected)


def test_undefined_for_one_cluster_or_as_many_as_points() -> None:
    points, _ = clustering(5, 2)
    assert calinski_harabasz(points, torch.zeros(3, 5, dtype=torch.int64), 2).isnan().all()
    assert calinski_harabasz(points, torch.arange(5).expand(3, -1), 5).isnan().all()


def test_points_on_their_centres_get_a_large_finite_index() -> None:
    points = torch.tensor([[[0.0, 0.0]] * 3 + [[1.0, 1.0]] * 3], dtype=torch.float64)
    index = calinski_harabasz(points, torch.tensor([[0, 0, 0, 1, 1, 1]]), 2)
    assert math.isfinite(index.item())
    assert index.item() > 1e9


def test_points_that_are_all_the_same_get_no_nonsense() -> None:
    index = calinski_harabasz(torch.ones(1, 6, 2), torch.tensor([[0, 0, 0, 1, 1, 1]]), 2)
    assert not index.isinf().any()


def test_sizes_leave_out_negative_labels() -> None:
    labels = torch.tensor([[0, 2, 2, -1], [-1, -1, -1, -1]])
    assert cluster_sizes(labels, 4).tolist() == [[1, 0, 2, 0], [0, 0, 0, 0]]


def test_largest_first_renumbers_and_keeps_negative_labels() -> None:
    labels = torch.tensor([[3, 1, 1, 3, 1, 0, -1], [-1] * 7])
    renumbered, sizes = largest_first(labels, 4)
    assert renumbered.tolist() == [[1, 0, 0, 1, 0, 2, -1], [-1] * 7]
    assert sizes.tolist() == [[3, 2, 1, 0], [0, 0, 0, 0]]


def test_largest_first_keeps_the_order_of_equal_sizes() -> None:
    renumbered, sizes = largest_first(torch.tensor([[2, 2, 0, 0, 1, 1]]), 3)
    assert renumbered.tolist() == [[2, 2, 0, 0, 1, 1]]
    assert sizes.tolist() == [[2, 2, 2]]


def test_the_highest_index_wins_the_smaller_k_at_a_tie() -> None:
    nan = math.nan
    index = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 1.0], [nan, nan, 4.0], [nan, nan, nan]])
    assert best_clustering(index).tolist() == [1, 0, 2, 0]
