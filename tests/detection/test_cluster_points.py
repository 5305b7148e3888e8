"""`cluster_points`: what it finds, what it returns, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from clouds import assert_sensible, noise, same_partition, separated
from sklearn.metrics import calinski_harabasz_score
from sklearn.mixture import GaussianMixture
from torch import Tensor

from filterwatch.detection import cluster_points
from reference.clustering import stopping


@pytest.mark.parametrize(
    "sizes",
    [
        [50, 50],
        [40, 40, 40],
        [60, 2, 1],
        [1, 1, 1, 97],
        [30, 3, 30, 2, 30, 1],
        [100, 50, 25, 12, 6, 3, 2, 1],
        [20] * 10,
    ],
)
def test_groups_that_lie_apart_are_found(sizes: list[int]) -> None:
    points, group = separated(sizes, n_problems=5)
    found = cluster_points(points, max_clusters=len(sizes))
    assert_sensible(found, points, len(sizes))
    for at in range(5):
        assert same_partition(found.labels[at], group)
        assert found.cluster_sizes[at].tolist() == sorted(sizes, reverse=True)


def test_k_beyond_the_number_of_groups_is_not_chosen() -> None:
    points, group = separated([40, 40, 40, 40], n_problems=5)
    found = cluster_points(points, max_clusters=8)
    assert found.n_clusters.tolist() == [4] * 5
    assert same_partition(found.labels[0], group)


def test_the_index_is_that_of_the_labels() -> None:
    points = torch.cat([noise(5, 200), separated([90, 90, 15, 5], n_problems=5)[0]])
    found = cluster_points(points, max_clusters=9)
    expected = [
        calinski_harabasz_score(x.numpy(), labels.numpy())
        for x, labels in zip(points, found.labels, strict=True)
    ]
    np.testing.assert_allclose(found.ch_index.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e4])
def test_the_log_likelihood_is_in_the_units_of_the_points(unit: float) -> None:
    points, _ = separated([80, 70, 50], n_problems=3, spread=0.2)
    points = unit * points + unit
    with stopping(tolerance=1e-6):
        found = cluster_points(points, max_clusters=3)
    for at, problem in enumerate(points.numpy()):
        variance = problem.var(0).mean()
        reference = GaussianMixture(
            3, reg_covar=1e-6 * variance, n_init=5, tol=1e-6, random_state=0
        ).fit(problem)
        assert float(found.log_likelihood[at, 1]) == pytest.approx(
            reference.score(problem), abs=1e-3
        )


# On points without groups every start ends elsewhere: only the mean can be compared. Where most
# points crowd in the middle it varies by tenths, scikit-learn's from seed to seed likewise.
@pytest.mark.parametrize(("crowding", "allowance"), [(0, 0.005), (2, 0.05)])
def test_fits_are_as_good_as_scikit_learn_s(crowding: int, allowance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    points = noise(12, 300) * torch.rand(12, 300, 1, generator=generator) ** crowding
    with stopping(tolerance=1e-4, max_iterations=500):
        found = cluster_points(points, max_clusters=6)
    difference = []
    for at, problem in enumerate(points.numpy()):
        for n_clusters in (2, 4, 6):
            reference = GaussianMixture(
                n_clusters,
                reg_covar=1e-6 * problem.var(0).mean(),
                tol=1e-4,
                max_iter=500,
                random_state=0,
            ).fit(problem)
            ours = float(found.log_likelihood[at, n_clusters - 2])
            difference.append(ours - reference.score(problem))
    assert np.mean(difference) > -allowance


def test_more_clusters_fit_better_and_never_much_worse() -> None:
    with stopping(tolerance=1e-5, max_iterations=1000):
        found = cluster_points(noise(10, 300), max_clusters=8)
    gain = found.log_likelihood.diff(dim=1)
    assert (gain.mean(0) > 0).all()
    assert (gain > -0.04).all()  # scikit-learn's fits of these points lose up to 0.043


def test_all_points_equal_make_a_dead_filter() -> None:
    for value in (0.0, 0.1, -3e20, 7e-21):
        points = torch.full((2, 30, 2), value, dtype=torch.float64)
        found = cluster_points(points, max_clusters=5)
        assert_sensible(found, points, 5)
        assert found.n_clusters.tolist() == [0, 0]


def test_points_that_differ_by_rounding_alone_make_a_dead_filter() -> None:
    points = 7.0 + 1e-15 * noise(1, 40)
    assert cluster_points(points, max_clusters=4).n_clusters.tolist() == [0]


def test_a_dead_filter_changes_nothing_for_the_others() -> None:
    points = noise(4, 60)
    with_dead = points[[0, 1, 1, 2, 3]].clone()
    with_dead[2] = 5.0
    alone = cluster_points(points, max_clusters=5)
    together = cluster_points(with_dead, max_clusters=5)
    assert_sensible(together, with_dead, 5)
    alive = [0, 1, 3, 4]
    assert torch.equal(together.labels[alive], alone.labels)
    assert torch.equal(together.ch_index[alive], alone.ch_index)
    assert together.n_clusters[2] == 0


def test_no_filters_at_all() -> None:
    found = cluster_points(torch.zeros(0, 20, 2), max_clusters=4)
    assert found.labels.shape == (0, 20)
    assert found.ch_index.shape == (0,)


def test_a_single_far_outlier_is_a_cluster_of_its_own() -> None:
    for distance in (30.0, 1e3, 1e6):
        points = noise(3, 100)
        points[:, 17] += distance
        found = cluster_points(points, max_clusters=6)
        assert_sensible(found, points, 6)
        for labels, sizes in zip(found.labels, found.cluster_sizes, strict=True):
            assert sizes[labels[17]] == 1


def test_duplicates() -> None:
    # Most maps behind a ReLU are all zero: 70 points in one place, the others anywhere.
    points = noise(4, 100)
    points[:, :70] = 0.0
    found = cluster_points(points, max_clusters=8)
    assert_sensible(found, points, 8)
    for labels in found.labels:
        assert len(labels[:70].unique()) == 1


def test_fewer_places_than_clusters() -> None:
    place = torch.arange(60) % 3
    points = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 5.0]]])[:, place]
    found = cluster_points(points, max_clusters=10)
    assert_sensible(found, points, 10)
    assert found.n_clusters.tolist() == [3]
    assert same_partition(found.labels[0], place)


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.0, 1.0), (1.0, -2.0)])
def test_collinear_points(direction: tuple[float, float]) -> None:
    along, group = separated([30, 30, 30], n_problems=2)
    # Three groups on a line through the plane.
    line = along[..., :1] * 0.1 + group.view(1, -1, 1)
    points = line * torch.tensor(direction, dtype=torch.float64)
    found = cluster_points(points, max_clusters=3)
    assert_sensible(found, points, 3)
    for labels in found.labels:
        assert same_partition(labels, group)


@pytest.mark.parametrize("n_samples", [2, 3, 5, 6, 7])
def test_as_many_clusters_as_points_or_nearly(n_samples: int) -> None:
    points = noise(6, n_samples)
    for max_clusters in range(2, n_samples + 1):
        assert_sensible(cluster_points(points, max_clusters=max_clusters), points, max_clusters)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_precision(dtype: torch.dtype) -> None:
    points, group = separated([30, 30, 3, 2], n_problems=4)
    found = cluster_points(points.to(dtype), max_clusters=4)
    for labels in found.labels:
        assert same_partition(labels, group)


def test_single_precision_changes_no_labels() -> None:
    points, _ = separated([40, 30, 20, 3, 2, 1], n_problems=10)
    double = cluster_points(points, max_clusters=6)
    single = cluster_points(points.float(), max_clusters=6)
    assert torch.equal(single.labels, double.labels)
    torch.testing.assert_close(single.ch_index, double.ch_index, rtol=1e-4, atol=0)
    torch.testing.assert_close(single.log_likelihood, double.log_likelihood, rtol=0, atol=1e-3)


def test_the_same_points_give_the_same_bits() -> None:
    points = noise(20, 80)
    first, second = (cluster_points(points, max_clusters=7) for _ in range(2))
    for name in vars(first):
        assert torch.equal(getattr(first, name).nan_to_num(), getattr(second, name).nan_to_num())


def test_the_number_of_threads_changes_nothing() -> None:
    points = noise(40, 80)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(cluster_points(points, max_clusters=7))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for name in vars(other):
            assert torch.equal(getattr(results[0], name), getattr(other, name))


def test_global_random_state_and_the_points_are_left_alone() -> None:
    points = noise(3, 50)
    before, state = points.clone(), torch.get_rng_state()
    cluster_points(points, max_clusters=4)
    assert torch.equal(points, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_points_that_are_not_contiguous() -> None:
    points = noise(4, 60)
    strided = points.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    expected = cluster_points(points, max_clusters=5)
    assert torch.equal(cluster_points(strided, max_clusters=5).labels, expected.labels)


def test_a_looser_tolerance_ends_earlier() -> None:
    points = noise(10, 200)
    with stopping(tolerance=1e-12, max_iterations=1):
        one_step = cluster_points(points, max_clusters=6)
    with stopping(tolerance=1e-3, max_iterations=1000):
        patient = cluster_points(points, max_clusters=6)
    # Later fits start from other clusterings.
    assert (patient.log_likelihood[:, 0] >= one_step.log_likelihood[:, 0] - 1e-6).all()
    assert (patient.log_likelihood.mean(0) > one_step.log_likelihood.mean(0)).all()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(10, 2), r"\[C, N, 2\], got torch.float32 \[10, 2\]"),
        (torch.zeros(3, 10, 3), r"\[C, N, 2\], got torch.float32 \[3, 10, 3\]"),
        (torch.zeros(3, 10, 2, dtype=torch.int64), r"got torch.int64 \[3, 10, 2\]"),
        (torch.full((3, 10, 2), math.nan), "NaN or infinity: leave those filters out"),
        (torch.full((3, 10, 2), -math.inf), "NaN or infinity: leave those filters out"),
    ],
)
def test_points_that_are_none_are_refused(points: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_points(points, max_clusters=4)


def test_fewer_points_than_clusters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"13 samples .* max_clusters=14 .* larger probe, or low"):
        cluster_points(noise(2, 13))


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("max_clusters", 1, "max_clusters must be at least 2, got 1"),
        ("max_clusters", -3, "max_clusters must be at least 2, got -3"),
        ("regularization", 0.0, "regularization must be positive, got 0.0"),
        ("regularization", -1e-6, "regularization must be positive, got -1e-06"),
        ("regularization", math.nan, "regularization must be positive, got nan"),
    ],
)
def test_arguments_out_of_range_are_refused(argument: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_points(noise(2, 20), **{argument: value})
