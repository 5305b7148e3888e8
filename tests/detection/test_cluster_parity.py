"""The compiled form and the tensor form are one algorithm: same labels, same likelihoods."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from clouds import noise, same_partition, separated
from torch import Tensor

from filterwatch.detection import Clusterings, cluster_points
from reference.clustering import cluster_by_tensors, stopping


def grouped() -> Tensor:
    """Return points of 18 filters in tight groups of any sizes."""
    sizes = [[30, 30, 30, 30], [80, 36, 3, 1], [40, 40, 38, 2]]
    return torch.cat([separated(size, seed=sum(size), n_problems=6)[0] for size in sizes])


def assert_agree(found: Clusterings, expected: Clusterings) -> None:
    assert torch.equal(found.cluster_sizes.cpu(), expected.cluster_sizes)
    for labels, others in zip(found.labels.cpu(), expected.labels, strict=True):
        assert same_partition(labels, others)  # clusters of one size may change numbers
    torch.testing.assert_close(found.ch_index.cpu(), expected.ch_index, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        found.log_likelihood.cpu(), expected.log_likelihood, rtol=0, atol=1e-3
    )


def test_on_groups_that_lie_apart() -> None:
    points = grouped()
    by_tensors = cluster_by_tensors(points, max_clusters=4)
    assert_agree(by_tensors, cluster_points(points, max_clusters=4))


@pytest.mark.parametrize("n_samples", [30, 64, 100, 256, 300, 700])
def test_on_points_without_groups(n_samples: int) -> None:
    # Single and double precision may part ways where two clusterings are as good, the sooner for
    # long strides: in under a tenth of fits to noise, and then for a fit that is as good. Block
    # sizes of the compiled form are met and missed.
    points = noise(40, n_samples)
    by_tensors = cluster_by_tensors(points, max_clusters=5)
    compiled = cluster_points(points, max_clusters=5)
    same = (by_tensors.labels == compiled.labels).double().mean()
    assert same >= 0.9
    difference = (by_tensors.log_likelihood - compiled.log_likelihood).abs()
    assert (difference < 1e-3).double().mean() >= 0.9
    mean = (by_tensors.log_likelihood - compiled.log_likelihood).mean().abs()
    assert float(mean) < 0.5 / n_samples


@pytest.mark.parametrize("setting", [{"max_iterations": 3}, {"tolerance": 1e-6}])
def test_settings_mean_the_same(setting: dict[str, Any]) -> None:
    points = noise(20, 120)
    with stopping(**setting):
        by_tensors = cluster_by_tensors(points, max_clusters=4)
        compiled = cluster_points(points, max_clusters=4)
    difference = (by_tensors.log_likelihood - compiled.log_likelihood).abs()
    assert (difference < 1e-3).double().mean() >= 0.95


def test_a_coarse_regularization_means_the_same() -> None:
    points = torch.cat([noise(5, 100), grouped()[:5, :100]])
    by_tensors = cluster_by_tensors(points, max_clusters=3, regularization=0.1)
    compiled = cluster_points(points, max_clusters=3, regularization=0.1)
    torch.testing.assert_close(
        by_tensors.log_likelihood, compiled.log_likelihood, rtol=0, atol=2e-3
    )


def test_extreme_points() -> None:
    duplicates = noise(1, 60)
    duplicates[:, 10:] = 0.0
    line = noise(1, 60) * torch.tensor([1.0, 0.0])
    outlier = noise(1, 60)
    outlier[:, 5] += 1e3
    points = torch.cat([duplicates, line, outlier, torch.ones(1, 60, 2), 1e20 * noise(1, 60)])
    by_tensors = cluster_by_tensors(points, max_clusters=4)
    compiled = cluster_points(points, max_clusters=4)
    assert torch.equal(by_tensors.n_clusters == 0, compiled.n_clusters == 0)
    assert torch.equal(by_tensors.log_likelihood.isnan(), compiled.log_likelihood.isnan())
    assert (by_tensors.labels[2] == by_tensors.labels[2, 5]).sum() == 1
    assert (compiled.labels[2] == compiled.labels[2, 5]).sum() == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu() -> None:
    points = grouped()
    found = cluster_points(points.cuda(), max_clusters=4)
    assert found.labels.is_cuda
    assert_agree(found, cluster_points(points, max_clusters=4))
