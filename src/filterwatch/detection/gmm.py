"""Full-covariance Gaussian mixtures in the plane, batched over problems (paper, equations 1-3).

The reference form of the mathematics, in plain tensor operations for any device and precision. A
problem is one filter's points; nothing here loops over problems, points or clusters.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Keeps the mean of an empty component finite; too small to move any other.
_TINY = 10 * torch.finfo(torch.float64).eps

# Over-relaxation: how far to go in the direction of an M-step, whose own result is at 1, and what
# share of its weights and standard deviations must be left. Longer strides reach a higher
# likelihood before a fit ends, and give other verdicts than plain steps do.
STRIDE = 1.5
LEAST_SHARE = 0.5

# Second starts: how many pairs of a mixture's components are merged in turn, and by how many
# tolerances the mixture must be likelier than that of one component less, for that to be worth it.
MERGED_PAIRS = 2
LEAST_GAIN = 5.0


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
    start: Tensor | Mixture,
    *,
    regularization: float = 1e-6,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
    accelerate: bool = False,
) -> MixtureFit:
    """Fit P mixtures by expectation maximisation from given responsibilities or parameters.

    Each problem stops by itself when a step raises its mean log-likelihood by less than the
    tolerance. Ends on an E-step, so that responsibilities and likelihood match the parameters.
    On a GPU the loop never waits for the device: it runs ``max_iterations`` steps.

    Args:
        points: [P, N, 2].
        start: Responsibilities [P, N, K], one-hot for a hard clustering; or parameters.
        regularization: Added to the diagonal of every covariance, in squared units of the points.
        tolerance: Least gain in mean log-likelihood per sample that keeps a problem going.
        max_iterations: Largest number of steps.
        accelerate: Go past the M-step's result (over-relaxation), and back to it where the
            likelihood falls. Reaches the same maxima in fewer steps.
    """
    if isinstance(start, Tensor):
        start = maximization(points, start, regularization)
    mixture = plain = start
    active = torch.ones(len(points), dtype=torch.bool, device=points.device)
    n_iterations = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    previous = torch.full_like(points[:, 0, 0], -torch.inf)
    stride = torch.ones_like(previous)
    for _ in range(max_iterations):
        responsibilities, log_likelihood = expectation(points, mixture)
        overshot = (log_likelihood < previous) & (stride > 1)
        active = active & (overshot | ((log_likelihood - previous).abs() >= tolerance))
        if points.device.type == "cpu" and not bool(active.any()):
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


def merge_two(mixture: Mixture, rank: int = 0) -> Mixture:
    """Replace two components of each mixture by one of their weight, mean and covariance.

    The two are those whose merging costs least, or next to least, by Runnalls' bound on what it
    changes: ``w log |S| - w_i log |S_i| - w_j log |S_j|``, halved, with weights w and covariances S
    (A. Runnalls, Kullback-Leibler approach to Gaussian mixture reduction, 2007, equation 21).

    Args:
        mixture: Parameters of P mixtures of K clusters, K at least 2.
        rank: 0 merges the cheapest pair, 1 the second cheapest; below the number of pairs.

    Returns:
        P mixtures of K - 1 clusters; the merged one is last.
    """
    n_clusters = mixture.weights.shape[1]
    one, other = torch.tril_indices(
        n_clusters, n_clusters, offset=-1, device=mixture.weights.device
    )
    pairs = _merged(mixture, one, other)
    apart, together = _weighted_log_determinants(mixture), _weighted_log_determinants(pairs)
    cost = together - apart[:, one] - apart[:, other]  # [P, number of pairs]
    chosen = cost.argsort(dim=1, stable=True)[:, rank]
    # What is kept of the K, as positions: all but the two, in order.
    positions = torch.arange(n_clusters, device=chosen.device).expand(len(chosen), -1)
    taken = (positions == one[chosen, None]) | (positions == other[chosen, None])
    kept = taken.long().argsort(dim=1, stable=True)[:, : n_clusters - 2]
    return Mixture(
        *(
            torch.cat([_take(components, kept), _take(merged, chosen.unsqueeze(1))], dim=1)
            for components, merged in zip(mixture, pairs, strict=True)
        )
    )


def _merged(mixture: Mixture, one: Tensor, other: Tensor) -> Mixture:
    """Return what merging each of R pairs of components gives, as R components."""
    weights = mixture.weights[:, one] + mixture.weights[:, other]
    share = torch.where(weights > 0, mixture.weights[:, one] / weights, 0.5).unsqueeze(-1)
    means = mixture.means[:, other].lerp(mixture.means[:, one], share)
    offset = (mixture.means[:, one] - mixture.means[:, other]).unsqueeze(-1)
    share = share.unsqueeze(-1)
    covariances = mixture.covariances[:, other].lerp(mixture.covariances[:, one], share)
    return Mixture(weights, means, covariances + share * (1 - share) * (offset @ offset.mT))


def _weighted_log_determinants(mixture: Mixture) -> Tensor:
    """Return the components' weights times the logarithms of their determinants, [P, K]."""
    determinants = _determinant(mixture.covariances)
    smallest = torch.finfo(determinants.dtype).tiny
    return mixture.weights * determinants.clamp(min=smallest).log()


def _take(values: Tensor, positions: Tensor) -> Tensor:
    """Take from values [P, K, …] those at positions [P, R]."""
    index = positions.view(*positions.shape, *[1] * (values.ndim - 2))
    return values.gather(1, index.expand(-1, -1, *values.shape[2:]))


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
