"""Clusters on a line: their covariance is singular but for the regularisation."""

from __future__ import annotations

import pytest
import torch

from filterwatch.detection import cluster_points


@pytest.mark.parametrize("exponent", [1, 3, 5, 9])
@pytest.mark.parametrize("slope", [0.3, 0.7, 1.0])
def test_points_on_a_line_far_from_each_other(exponent: int, slope: float) -> None:
    generator = torch.Generator().manual_seed(exponent)
    along = torch.randn(20, 300, generator=generator).double() ** exponent
    points = torch.stack([along, slope * along], dim=-1)
    clusterings = cluster_points(points, max_clusters=8)
    assert clusterings.log_likelihood.isfinite().all()
    assert clusterings.ch_index.isfinite().all()


@pytest.mark.parametrize("power", [4, 8])
def test_a_filter_that_hardly_fires(power: int) -> None:
    # All but a few maps coincide; the others lie on two rays, the farthest of them very far.
    generator = torch.Generator().manual_seed(0)
    lengths = torch.rand(100, 66, 1, generator=generator).double() ** power
    ray = torch.randint(0, 2, (100, 66), generator=generator)
    rays = lengths * torch.tensor([[1.0, 0.97], [1.0, -1.15]]).double()[ray]
    points = torch.cat([torch.zeros(100, 2900, 2).double(), rays], dim=1)
    clusterings = cluster_points(points, max_clusters=10)
    assert clusterings.log_likelihood.isfinite().all()
    assert clusterings.ch_index.isfinite().all()
