"""`refine=True`: each K started again from the fit of K + 1, two of whose components are merged."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from clouds import assert_sensible, noise, separated
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import Tensor

from filterwatch.detection import cluster_points, clustering, gmm, tensor_clustering
from filterwatch.detection.fused_clustering import merge_cheapest, merging_costs


def random_mixture(n_clusters: int, *, n_problems: int = 3, seed: int = 0) -> gmm.Mixture:
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    weights = torch.rand(n_problems, n_clusters, **options) + 0.05
    roots = torch.randn(n_problems, n_clusters, 2, 2, **options)
    return gmm.Mixture(
        weights / weights.sum(1, keepdim=True),
        torch.randn(n_problems, n_clusters, 2, **options),
        roots @ roots.mT + 0.1 * torch.eye(2, dtype=torch.float64),
    )


def moments(mixture: gmm.Mixture) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight, mean and covariance of whole mixtures."""
    weights = mixture.weights.unsqueeze(-1)
    total = weights.sum(1)
    mean = (weights * mixture.means).sum(1) / total
    offset = (mixture.means - mean.unsqueeze(1)).unsqueeze(-1)
    spread = mixture.covariances + offset @ offset.mT
    return total, mean, (weights.unsqueeze(-1) * spread).sum(1) / total.unsqueeze(-1)


def rows(mixture: gmm.Mixture) -> NDArray[np.float64]:
    """Return mixtures as the compiled form has them: weight, mean x, y, covariance xx, xy, yy."""
    parts = mixture.covariances.flatten(2)[..., [0, 1, 3]]
    return torch.cat([mixture.weights.unsqueeze(-1), mixture.means, parts], dim=-1).numpy()


def test_two_components_merged_by_hand() -> None:
    identity = torch.eye(2, dtype=torch.float64)
    mixture = gmm.Mixture(
        torch.tensor([[0.3, 0.6, 0.1]], dtype=torch.float64),
        torch.tensor([[[0.0, 0.0], [50.0, 0.0], [4.0, 0.0]]], dtype=torch.float64),
        torch.stack([identity, 9 * identity, identity]).unsqueeze(0),
    )
    weights, means, covariances = gmm.merge_two(mixture)
    torch.testing.assert_close(weights, torch.tensor([[0.6, 0.4]], dtype=torch.float64))
    # (0.3 * 0 + 0.1 * 4) / 0.4, and a variance of 0.75 * 1 + 0.25 * 9 around it beside the 1.
    torch.testing.assert_close(means[0, 1], torch.tensor([1.0, 0.0], dtype=torch.float64))
    expected = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(covariances[0, 1], expected)
    torch.testing.assert_close(covariances[0, 0], 9 * identity)


@given(st.integers(2, 9), st.integers(0, 2**16))
def test_merging_keeps_the_moments_of_the_whole(n_clusters: int, seed: int) -> None:
    mixture = random_mixture(n_clusters, seed=seed)
    fewer = gmm.merge_two(mixture)
    assert fewer.weights.shape == (3, n_clusters - 1)
    for found, expected in zip(moments(fewer), moments(mixture), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_pairs_of_least_cost_are_merged(rank: int) -> None:
    mixture = random_mixture(6, n_problems=20)
    kept = gmm.merge_two(mixture, rank).means[:, :-1]
    weights, means, covariances = (part.numpy() for part in mixture)
    for at in range(20):
        costs = {}
        for i, j in combinations(range(6), 2):
            w_i, w_j = weights[at, i], weights[at, j]
            w = w_i + w_j
            offset = means[at, i] - means[at, j]
            merged = (w_i * covariances[at, i] + w_j * covariances[at, j]) / w
            merged = merged + w_i * w_j / w**2 * np.outer(offset, offset)
            costs[i, j] = (
                w * np.linalg.slogdet(merged)[1]
                - w_i * np.linalg.slogdet(covariances[at, i])[1]
                - w_j * np.linalg.slogdet(covariances[at, j])[1]
            )
        pair = sorted(costs, key=costs.__getitem__)[rank]
        expected = np.delete(means[at], pair, axis=0)
        np.testing.assert_allclose(kept[at].numpy(), expected)


@pytest.mark.parametrize("n_clusters", [3, 4, 11])
def test_both_forms_merge_alike(n_clusters: int) -> None:
    mixture = random_mixture(n_clusters, n_problems=10)
    expected = [rows(gmm.merge_two(mixture, rank)) for rank in range(gmm.MERGED_PAIRS)]
    for at, components in enumerate(rows(mixture)):
        costs = np.empty((n_clusters, n_clusters))
        fewer = np.empty((n_clusters - 1, 6))
        merging_costs(components, n_clusters, costs)
        for fewer_expected in expected:
            merge_cheapest(components, n_clusters, costs, fewer)
            np.testing.assert_allclose(fewer, fewer_expected[at], rtol=1e-12, atol=1e-12)


def test_components_on_a_line_merge_to_one_on_it() -> None:
    # Nearly no width: a covariance that were bounded by anything would leave the line.
    covariance = torch.tensor([[1.0, 9e-4], [9e-4, 1e-6]], dtype=torch.float64)
    mixture = gmm.Mixture(
        torch.tensor([[0.2, 0.2, 0.6]], dtype=torch.float64),
        torch.tensor([[[0.0, 0.0], [0.0, 0.0], [5.0, 5.0]]], dtype=torch.float64),
        covariance.expand(1, 3, 2, 2),
    )
    components, costs, fewer = rows(mixture)[0], np.empty((3, 3)), np.empty((2, 6))
    merging_costs(components, 3, costs)
    merge_cheapest(components, 3, costs, fewer)
    np.testing.assert_allclose(fewer[1, 3:], [1.0, 9e-4, 1e-6])
    torch.testing.assert_close(gmm.merge_two(mixture).covariances[0, 1], covariance)


def test_an_empty_component_goes_first() -> None:
    mixture = random_mixture(4, n_problems=1)
    mixture.weights[0, 2] = 0.0
    fewer = gmm.merge_two(mixture)
    others = mixture.weights[0, [0, 1, 3]]
    torch.testing.assert_close(fewer.weights[0].sort().values, others.sort().values)


@pytest.mark.parametrize("crowding", [0, 2])
def test_no_fit_is_less_likely_and_many_are_more(crowding: int) -> None:
    generator = torch.Generator().manual_seed(0)
    points = noise(30, 300) * torch.rand(30, 300, 1, generator=generator) ** crowding
    plain = cluster_points(points, max_clusters=8)
    refined = cluster_points(points, max_clusters=8, refine=True)
    gain = refined.log_likelihood - plain.log_likelihood
    assert (gain >= 0).all()
    assert (gain > 0.01).double().mean() > 0.1
    assert refined.converged.all()


def test_it_comes_up_to_the_best_of_several_starts_of_scikit_learn() -> None:
    points, _ = separated([60, 40, 20, 10, 5, 3], n_problems=20, spread=0.45)
    best = torch.tensor(
        [
            [
                GaussianMixture(
                    n_clusters, reg_covar=1e-6 * problem.var(0).mean(), n_init=5, random_state=0
                )
                .fit(problem)
                .score(problem)
                for n_clusters in range(2, 7)
            ]
            for problem in points.numpy()
        ],
        dtype=torch.float64,
    )
    plain, refined = (
        cluster_points(points, max_clusters=6, refine=refine).log_likelihood - best
        for refine in (False, True)
    )
    assert plain.mean() < 0 < refined.mean()
    assert (refined >= -0.01).double().mean() > (plain >= -0.01).double().mean() + 0.1


@pytest.mark.parametrize("n_samples", [8, 9, 10, 11])
def test_as_many_samples_as_clusters_and_few_more(n_samples: int) -> None:
    points = noise(10, n_samples)
    found = cluster_points(points, max_clusters=8, refine=True)
    assert_sensible(found, points, 8)


def test_odd_points() -> None:
    duplicates = noise(1, 60)
    duplicates[:, 10:] = 0.0
    line = noise(1, 60) * torch.tensor([1.0, 0.0])
    outlier = noise(1, 60)
    outlier[:, 5] += 1e6
    points = torch.cat(
        [duplicates, line, outlier, torch.ones(1, 60, 2), 1e20 * noise(1, 60), 1e-20 * noise(1, 60)]
    )
    found = cluster_points(points, max_clusters=6, refine=True)
    assert_sensible(found, points, 6)
    assert (found.n_clusters == 0).tolist() == [False, False, False, True, False, False]


@pytest.mark.parametrize(
    ("n_samples", "max_clusters", "share"), [(64, 5, 0.9), (300, 5, 0.9), (100, 14, 0.8)]
)
def test_both_forms_do_it_alike(
    monkeypatch: pytest.MonkeyPatch, n_samples: int, max_clusters: int, share: float
) -> None:
    # Single and double precision part ways where two fits are as good; on the way down from many
    # clusters on few points that adds up, and then for fits that are as good.
    points = torch.cat([noise(20, n_samples), noise(20, n_samples, seed=1) ** 3])
    compiled = cluster_points(points, max_clusters=max_clusters, refine=True)
    monkeypatch.setattr(clustering, "_fit_compiled", tensor_clustering.fit_tensors)
    by_tensors = cluster_points(points, max_clusters=max_clusters, refine=True)
    difference = by_tensors.log_likelihood - compiled.log_likelihood
    assert (difference.abs() < 1e-3).double().mean() >= share
    assert float(difference.mean().abs()) < 0.005


def test_both_forms_say_alike_which_fits_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    points = noise(40, 100)
    options: dict[str, Any] = {"max_clusters": 6, "max_iterations": 6, "refine": True}
    compiled = cluster_points(points, **options).converged
    plain = cluster_points(points, **{**options, "refine": False}).converged
    monkeypatch.setattr(clustering, "_fit_compiled", tensor_clustering.fit_tensors)
    by_tensors = cluster_points(points, **options).converged
    assert (compiled == by_tensors).double().mean() >= 0.85
    assert (compiled != plain).double().mean() >= 0.1  # the kept fit's, not the first one's


def test_a_fit_is_kept_only_where_it_is_likelier_by_more_than_the_tolerance() -> None:
    points = noise(30, 300)
    gains = {}
    for tolerance in (1e-3, 4e-3):
        plain, refined = (
            cluster_points(points, max_clusters=8, tolerance=tolerance, refine=refine)
            for refine in (False, True)
        )
        gain = refined.log_likelihood - plain.log_likelihood
        gains[tolerance] = gain[gain > 0]
    # In float64, but for the rounding of sums in float32.
    assert all(float(gain.min()) > 0.999 * tolerance for tolerance, gain in gains.items())
    assert len(gains[1e-3]) > len(gains[4e-3]) > 0
