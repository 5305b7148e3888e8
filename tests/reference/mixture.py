"""Full-covariance Gaussian mixtures in the plane, batched over problems (paper, equations 1-3).

A problem is one filter's points; nothing here loops over problems, points or clusters.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from filterwatch.detection.kernels.mixture import LEAST_SHARE, STRIDE

# Keeps the mean of an empty component finite; too small to move any other.
_TINY = 10 * torch.finfo(torch.float64).eps


class Mixture(NamedTuple):
    """Parameters of P mixtures of K Gaussians in the plane.

    Attributes:
        weights: pi_k of equation 1, [P, K].
        means: mu_k, [P, K, 2].
        covariances: Sigma_k, [P, K, 2, 2].
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor


class MixtureFit(NamedTuple):
    """P fitted mixtures, and what they say of their points.

    Attributes:
        mixture: The parameters.
        responsibilities: Posterior of each cluster (equation 2) under them, [P, N, K].
        log_likelihood: Mean log-likelihood per sample under them, [P].
        n_iterations: Number of M-steps taken, [P].
        converged: Whether the last step raised the log-likelihood by less than the tolerance, [P].
    """

    mixture: Mixture
    responsibilities: Tensor
    log_likelihood: Tensor
    n_iterations: Tensor
    converged: Tensor


def joint_log_density(points: Tensor, mixture: Mixture) -> Tensor:
    """Return log pi_k + log N(x | mu_k, Sigma_k) for each point and cluster.

    Args:
        points: [P, N, 2].
        mixture: Parameters of P mixtures of K clusters.

    Returns:
        [P, N, K]; minus infinity for a cluster of weight 0.
    """
    dx, dy = (points.unsqueeze(2) - mixture.means.unsqueeze(1)).unbind(-1)  # [P, N, K] each
    var_x, cov = mixture.covariances[..., 0, 0], mixture.covariances[..., 0, 1]
    # The inverse Cholesky factor of a 2 x 2 matrix, written out.
    scale_x = var_x.rsqrt()
    scale_y = (mixture.covariances[..., 1, 1] - cov * cov / var_x).rsqrt()
    z_x = dx * scale_x.unsqueeze(1)
    z_y = (dy - dx * (cov / var_x).unsqueeze(1)) * scale_y.unsqueeze(1)
    log_norm = mixture.weights.log() + scale_x.log() + scale_y.log() - math.log(2 * math.pi)
    return log_norm.unsqueeze(1) - 0.5 * (z_x * z_x + z_y * z_y)


def expectation(points: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """Take an E-step: the posterior of each cluster (equation 2).

    Args:
        points: [P, N, 2].
        mixture: Parameters of P mixtures of K clusters.

    Returns:
        Responsibilities [P, N, K] and the mean log-likelihood per sample [P].
    """
    joint = joint_log_density(points, mixture)
    evidence = joint.logsumexp(-1, keepdim=True)
    return (joint - evidence).exp(), evidence.squeeze(-1).mean(-1)


def maximization(points: Tensor, responsibilities: Tensor, regularization: float) -> Mixture:
    """Take an M-step: the parameters that maximise the expected log-likelihood (equation 3).

    Args:
        points: [P, N, 2].
        responsibilities: [P, N, K].
        regularization: Added to the diagonal of every covariance, in squared units of the points.
    """
    mass = responsibilities.sum(1) + _TINY  # [P, K]
    means = responsibilities.mT @ points / mass.unsqueeze(-1)
    offsets = points.unsqueeze(2) - means.unsqueeze(1)  # [P, N, K, 2]
    weighted = offsets * (responsibilities / mass.unsqueeze(1)).unsqueeze(-1)
    covariances = torch.einsum("pnki,pnkj->pkij", weighted, offsets)
    identity = torch.eye(2, dtype=points.dtype, device=points.device)
    return Mixture(mass / points.shape[1], means, covariances + regularization * identity)


def overshoot(mixture: Mixture, plain: Mixture, stride: Tensor, regularization: float) -> Mixture:
    """Move mixtures towards the results of an M-step and past them, by strides [P].

    A component keeps at least half the weight that the M-step gave it, and takes the M-step's
    covariance where its own would be indefinite or have less than a quarter of its determinant.
    """
    weight_stride, matrix_stride = stride.view(-1, 1), stride.view(-1, 1, 1, 1)
    weights = torch.lerp(mixture.weights, plain.weights, weight_stride)
    weights = weights.maximum(LEAST_SHARE * plain.weights)
    means = torch.lerp(mixture.means, plain.means, stride.view(-1, 1, 1))
    covariances = torch.lerp(mixture.covariances, plain.covariances, matrix_stride)
    diagonal = covariances.diagonal(dim1=2, dim2=3)
    sound = (diagonal >= regularization).all(-1)
    sound &= _determinant(covariances) >= LEAST_SHARE**2 * _determinant(plain.covariances)
    return Mixture(
        weights / weights.sum(-1, keepdim=True),
        means,
        covariances.where(sound[..., None, None], plain.covariances),
    )


def fit_mixture(
    points: Tensor,
    start: Tensor,
    *,
    regularization: float = 1e-6,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    accelerate: bool = False,
) -> MixtureFit:
    """Fit P mixtures by expectation maximisation from given responsibilities.

    Each problem stops by itself when a step raises its mean log-likelihood by less than the
    tolerance. Ends on an E-step, so that responsibilities and likelihood match the parameters.

    Args:
        points: [P, N, 2].
        start: Responsibilities [P, N, K], one-hot for a hard clustering.
        regularization: Added to the diagonal of every covariance, in squared units of the points.
        tolerance: Least gain in mean log-likelihood per sample that keeps a problem going.
        max_iterations: Largest number of steps.
        accelerate: Go past the M-step's result (over-relaxation), and back to it where the
            likelihood falls. Reaches the same maxima in fewer steps.
    """
    mixture = plain = maximization(points, start, regularization)
    active = torch.ones(len(points), dtype=torch.bool, device=points.device)
    n_iterations = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    previous = torch.full_like(points[:, 0, 0], -torch.inf)
    stride = torch.ones_like(previous)
    for _ in range(max_iterations):
        responsibilities, log_likelihood = expectation(points, mixture)
        overshot = (log_likelihood < previous) & (stride > 1)
        active = active & (overshot | ((log_likelihood - previous).abs() >= tolerance))
        if not bool(active.any()):
            break
        updated = maximization(points, responsibilities, regularization)
        further = overshoot(mixture, updated, stride, regularization) if accelerate else updated
        mixture = choose(active, choose(overshot, plain, further), mixture)
        plain = choose(overshot, plain, updated)
        n_iterations = n_iterations + active
        previous = previous.where(overshot, log_likelihood)
        if accelerate:
            stride = torch.where(overshot, 1.0, STRIDE).to(stride.dtype)
    responsibilities, log_likelihood = expectation(points, mixture)
    return MixtureFit(mixture, responsibilities, log_likelihood, n_iterations, ~active)


def choose(first: Tensor, mixture: Mixture, other: Mixture) -> Mixture:
    """Return one mixture where ``first`` [P] says so, the other elsewhere."""
    return Mixture(
        *(
            torch.where(first.view(-1, *[1] * (here.ndim - 1)), here, there)
            for here, there in zip(mixture, other, strict=True)
        )
    )


def _determinant(matrices: Tensor) -> Tensor:
    return matrices[..., 0, 0] * matrices[..., 1, 1] - matrices[..., 0, 1] * matrices[..., 1, 0]
