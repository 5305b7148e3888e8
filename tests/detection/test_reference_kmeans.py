"""Nearest centres and Lloyd's iterations against scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from clouds import noise, separated
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin_min

from reference import kmeans


@pytest.mark.parametrize("reference", [pairwise_distances_argmin_min])
def test_nearest_centres(reference: Callable[..., tuple[Any, Any]]) -> None:
    points = noise(4, 100)
    centers = noise(4, 7, seed=1)
    labels, distances = kmeans.assign(points, centers)
    for at in range(4):
        expected, expected_distances = reference(points[at].numpy(), centers[at].numpy())
        np.testing.assert_array_equal(labels[at], expected)
        np.testing.assert_allclose(distances[at], expected_distances**2, rtol=1e-9)


@pytest.mark.parametrize("reference", [KMeans])
def test_lloyd_s_iterations(reference: type[KMeans]) -> None:
    points = torch.cat([noise(3, 60), separated([30, 20, 10], n_problems=3)[0]])
    start = points[:, :3]
    centers = kmeans.lloyd(points, start)
    for at in range(len(points)):
        fitted = reference(
            3,
            init=start[at].numpy(),
            n_init=1,
            max_iter=kmeans.MAX_LLOYD_ITERATIONS,
            # It multiplies by the points' variance.
            tol=kmeans.LLOYD_TOLERANCE / float(points[at].var(0, correction=0).mean()),
        ).fit(points[at].numpy())
        np.testing.assert_allclose(centers[at], fitted.cluster_centers_, rtol=0, atol=1e-9)


def test_a_centre_that_loses_its_points_stays() -> None:
    points = noise(1, 30)
    centers = kmeans.lloyd(points, torch.tensor([[[0.0, 0.0], [100.0, 100.0]]]).double())
    assert centers[0, 1].tolist() == [100.0, 100.0]
    torch.testing.assert_close(centers[0, 0], points[0].mean(0))
