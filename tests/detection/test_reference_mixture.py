"""Mixtures against scikit-learn's: each step from given parameters, then whole fits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.mixture._gaussian_mixture import (
    _compute_precision_cholesky,
    _estimate_gaussian_parameters,
    _estimate_log_gaussian_prob,
)
from torch import Tensor

from reference.mixture import (
    Mixture,
    expectation,
    fit_mixture,
    joint_log_density,
    maximization,
)

Array = NDArray[np.float64]


def blobs(n_samples: int = 200, *, n_problems: int = 3, scale: float = 1.0) -> Tensor:
    """Return points [P, N, 2] in four overlapping, tilted groups."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(n_problems, n_samples, 2, generator=generator, dtype=torch.float64)
    group = torch.randint(4, (n_problems, n_samples), generator=generator)
    centers = 2 * torch.randn(n_problems, 4, 2, generator=generator, dtype=torch.float64)
    tilt = torch.tensor([[1.0, 0.6], [0.0, 0.5]], dtype=torch.float64)
    return scale * (points @ tilt + centers.gather(1, group.unsqueeze(-1).expand(-1, -1, 2)))


def heavy_tailed(n_samples: int = 200) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    factor = torch.randn(3, n_samples, 1, generator=generator, dtype=torch.float64).abs()
    return blobs(n_samples) / factor.clamp(min=1e-2)


def soft_start(points: Tensor, n_clusters: int, seed: int = 0) -> Tensor:
    """Return responsibilities [P, N, K] that lean towards some clusters."""
    generator = torch.Generator().manual_seed(seed)
    centers = points[:, torch.randperm(points.shape[1], generator=generator)[:n_clusters]]
    unit = points.flatten(1).std(1).view(-1, 1, 1)
    return (-(torch.cdist(points, centers) / unit)).softmax(-1)


def mixtures(n_clusters: int, points: Tensor) -> Mixture:
    """Return mixtures with tilted covariances of different sizes."""
    generator = torch.Generator().manual_seed(2)
    shape = (len(points), n_clusters)
    factors = torch.randn(*shape, 2, 2, generator=generator, dtype=torch.float64)
    covariances = factors @ factors.mT + 0.1 * torch.eye(2)
    weights = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.05
    return Mixture(
        weights / weights.sum(1, keepdim=True), points[:, :n_clusters].clone(), covariances
    )


def fitted(mixture: Mixture, at: int) -> GaussianMixture:
    """Return scikit-learn's object with the parameters of one mixture."""
    reference = GaussianMixture(mixture.weights.shape[1])
    reference.weights_ = mixture.weights[at].numpy()
    reference.means_ = mixture.means[at].numpy()
    reference.covariances_ = mixture.covariances[at].numpy()
    reference.precisions_cholesky_ = _compute_precision_cholesky(reference.covariances_, "full")
    return reference


def log_gaussian(points: Array, means: Array, covariances: Array) -> Array:
    cholesky = _compute_precision_cholesky(covariances, "full")
    return np.asarray(_estimate_log_gaussian_prob(points, means, cholesky, "full"))


@pytest.mark.parametrize("reference", [log_gaussian])
@pytest.mark.parametrize("n_clusters", [1, 2, 7])
def test_joint_log_density(reference: Callable[..., Array], n_clusters: int) -> None:
    points = blobs()
    mixture = mixtures(n_clusters, points)
    joint = joint_log_density(points, mixture)
    for at, problem in enumerate(points.numpy()):
        expected = reference(problem, mixture.means[at].numpy(), mixture.covariances[at].numpy())
        expected = expected + np.log(mixture.weights[at].numpy())
        np.testing.assert_allclose(joint[at].numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("reference", [fitted])
@pytest.mark.parametrize("n_clusters", [1, 2, 7])
@pytest.mark.parametrize("generate", [blobs, heavy_tailed])
def test_one_expectation_step(
    reference: Callable[..., GaussianMixture], n_clusters: int, generate: Callable[[], Tensor]
) -> None:
    points = generate()
    mixture = mixtures(n_clusters, points)
    responsibilities, log_likelihood = expectation(points, mixture)
    for at, problem in enumerate(points.numpy()):
        expected = reference(mixture, at)
        np.testing.assert_allclose(
            responsibilities[at].numpy(), expected.predict_proba(problem), rtol=0, atol=1e-10
        )
        np.testing.assert_allclose(log_likelihood[at], expected.score(problem), rtol=1e-10)


@pytest.mark.parametrize("reference", [_estimate_gaussian_parameters])
@pytest.mark.parametrize("n_clusters", [1, 2, 7])
@pytest.mark.parametrize("generate", [blobs, heavy_tailed])
@pytest.mark.parametrize("regularization", [1e-6, 1e-2])
def test_one_maximization_step(
    reference: Callable[..., tuple[Any, Any, Any]],
    n_clusters: int,
    generate: Callable[[], Tensor],
    regularization: float,
) -> None:
    points = generate()
    responsibilities = soft_start(points, n_clusters)
    mixture = maximization(points, responsibilities, regularization)
    for at, problem in enumerate(points.numpy()):
        mass, means, covariances = reference(
            problem, responsibilities[at].numpy(), regularization, "full"
        )
        np.testing.assert_allclose(mixture.weights[at], mass / len(problem), rtol=1e-10)
        np.testing.assert_allclose(mixture.means[at], means, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(mixture.covariances[at], covariances, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("reference", [_estimate_gaussian_parameters])
def test_a_maximization_step_with_an_empty_cluster(
    reference: Callable[..., tuple[Any, Any, Any]],
) -> None:
    points = blobs()
    responsibilities = torch.nn.functional.one_hot(torch.arange(200) % 2, 3).double()
    mixture = maximization(points, responsibilities.expand(3, -1, -1), 1e-6)
    _, means, covariances = reference(points[0].numpy(), responsibilities.numpy(), 1e-6, "full")
    np.testing.assert_allclose(mixture.means[0], means, atol=1e-12)
    np.testing.assert_allclose(mixture.covariances[0], covariances, atol=1e-12)
    responsibilities, log_likelihood = expectation(points, mixture)
    assert responsibilities.isfinite().all()
    assert log_likelihood.isfinite().all()


def scikit_learn_fit(
    points: Array,
    start: Array,
    *,
    regularization: float,
    tolerance: float,
    max_iterations: int,
) -> GaussianMixture:
    """Fit from given responsibilities [N, K], through the parameters that they imply."""
    mass, means, covariances = _estimate_gaussian_parameters(points, start, regularization, "full")
    reference = GaussianMixture(
        start.shape[1],
        reg_covar=regularization,
        tol=tolerance,
        max_iter=max_iterations,
        weights_init=mass / mass.sum(),
        means_init=means,
        precisions_init=np.linalg.inv(covariances),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return reference.fit(points)


@pytest.mark.parametrize("reference", [scikit_learn_fit])
@pytest.mark.parametrize("n_clusters", [2, 5, 9])
@pytest.mark.parametrize("generate", [blobs, heavy_tailed])
def test_a_fit_from_given_responsibilities(
    reference: Callable[..., GaussianMixture], n_clusters: int, generate: Callable[[], Tensor]
) -> None:
    points = generate()
    start = soft_start(points, n_clusters)
    settings: dict[str, Any] = {
        "regularization": 1e-6, "tolerance": 1e-10, "max_iterations": 5000,
    }  # fmt: skip
    fit = fit_mixture(points, start, **settings)
    assert fit.converged.all()
    for at, problem in enumerate(points.numpy()):
        expected = reference(problem, start[at].numpy(), **settings)
        assert expected.converged_
        assert float(fit.log_likelihood[at]) == pytest.approx(expected.score(problem), abs=1e-6)
        labels = fit.responsibilities[at].argmax(-1).numpy()
        assert (labels == expected.predict(problem)).mean() >= 0.995


@pytest.mark.parametrize("reference", [scikit_learn_fit])
@pytest.mark.parametrize("max_iterations", [1, 2, 25])
def test_a_fit_of_so_many_steps(
    reference: Callable[..., GaussianMixture], max_iterations: int
) -> None:
    points = blobs()
    start = soft_start(points, 4)
    fit = fit_mixture(
        points, start, regularization=1e-6, tolerance=1e-300, max_iterations=max_iterations
    )
    assert fit.n_iterations.tolist() == [max_iterations] * 3
    assert not fit.converged.any()
    for at, problem in enumerate(points.numpy()):
        expected = reference(
            problem,
            start[at].numpy(),
            regularization=1e-6,
            tolerance=0.0,
            max_iterations=max_iterations,
        )
        np.testing.assert_allclose(fit.log_likelihood[at], expected.score(problem), atol=1e-9)
        np.testing.assert_allclose(fit.mixture.means[at], expected.means_, atol=1e-8)
        np.testing.assert_allclose(fit.mixture.covariances[at], expected.covariances_, atol=1e-8)
        np.testing.assert_allclose(fit.mixture.weights[at], expected.weights_, atol=1e-8)


def test_responsibilities_and_likelihood_match_the_parameters() -> None:
    points = blobs()
    fit = fit_mixture(points, soft_start(points, 4))
    responsibilities, log_likelihood = expectation(points, fit.mixture)
    assert torch.equal(fit.responsibilities, responsibilities)
    assert torch.equal(fit.log_likelihood, log_likelihood)
    torch.testing.assert_close(responsibilities.sum(-1), torch.ones(3, 200, dtype=torch.float64))


def test_each_problem_stops_by_itself() -> None:
    # Two far groups are found in a step or two; overlapping ones take many.
    easy = torch.cat([blobs(100, n_problems=1) * 0.01, blobs(100, n_problems=1) * 0.01 + 9], dim=1)
    hard = blobs(200, n_problems=1)
    points = torch.cat([easy, hard])
    start = soft_start(points, 2)
    together = fit_mixture(points, start, tolerance=1e-6)
    assert together.n_iterations[0] < together.n_iterations[1]
    for at in range(2):
        alone = fit_mixture(points[at : at + 1], start[at : at + 1], tolerance=1e-6)
        assert alone.n_iterations[0] == together.n_iterations[at]
        torch.testing.assert_close(alone.log_likelihood[0], together.log_likelihood[at])


def test_steps_never_lower_the_likelihood() -> None:
    points = heavy_tailed()
    start = soft_start(points, 5)
    by_steps = torch.stack(
        [
            fit_mixture(points, start, tolerance=1e-300, max_iterations=steps).log_likelihood
            for steps in range(1, 12)
        ]
    )
    assert (by_steps.diff(dim=0) > -1e-6).all()


def test_float32_follows_float64() -> None:
    points = blobs()
    start = soft_start(points, 3)
    settings: dict[str, Any] = {"regularization": 1e-5, "tolerance": 1e-5}
    precise = fit_mixture(points, start, **settings)
    single = fit_mixture(points.float(), start.float(), **settings)
    assert single.log_likelihood.dtype == torch.float32
    torch.testing.assert_close(
        single.log_likelihood.double(), precise.log_likelihood, rtol=0, atol=2e-3
    )
