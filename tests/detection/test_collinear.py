"""Clusters on a line: their covariance is singular but for the regularisation."""

from __future__ import annotations

import pytest
import torch

from filterwatch.detection.clustering import cluster_points


@pytest.mark.parametrize("exponent", [1, 3, 5, 9])
@pytest.mark.parametrize("slope", [0.3, 0.7, 1.0])
def test_points_on_a_line_far_from_each_other(exponent: int, slope: float) -> None:
    generator = torch.Generator().manual_seed(exponent)
    along = torch.randn(20, 300, generator=generator).double() ** exponent
    points = torch.stack([along, slope * along], dim=-1)
    clusterings = cluster_points(points, max_clusters=8)
    assert clusterings.log_likelihood.isfinite().all()
    assert clusterings.ch_index.isfinite().all()


def test_two_points_of_a_cluster_far_apart() -> None:
    # Whatever their direction, the cluster of two is a line.
    angles = torch.linspace(0, 3.1, 200, dtype=torch.float64)
    directions = torch.stack([angles.cos(), angles.sin()], dim=-1).unsqueeze(1)
    generator = torch.Generator().manual_seed(0)
    near = 1e-3 * torch.randn(200, 100, 2, generator=generator).double()
    points = torch.cat([near, 50 * directions, 90 * directions], dim=1)
    clusterings = cluster_points(points, max_clusters=4)
    assert clusterings.log_likelihood.isfinite().all()
