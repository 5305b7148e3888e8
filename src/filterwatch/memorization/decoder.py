"""A decoder of labels from a layer's features: linear discriminant analysis, cross-fitted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Evidence against a label counts down to here, in nats: what lies below says nothing more.
EVIDENCE_FLOOR = -20.0
# Samples of a class that each half needs.
FEWEST_IN_HALF = 5
# Directions that are kept of a layer with more features.
_MOST_DIRECTIONS = 256
# Samples or features, whichever are fewer, that principal components are computed exactly for.
_MOST_EXACT = 600


@dataclass(frozen=True)
class Decoder:
    """Linear discriminant analysis with shrinkage, on standardized features.

    Everything in it comes from the samples that it was fitted on, so that all other samples are
    alike to it: the ground on which a memorization of zero stands.

    Attributes:
        classes: The labels that it knows, ascending, int64 [K].
        weights: [F, K].
        bias: [K].
    """

    classes: Tensor
    weights: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor) -> Decoder:
        """Fit on features [N, F] and labels [N], int64, of at least two classes.

        The covariance within classes, common to all, is shrunk toward a multiple of the identity as
        Ledoit and Wolf (2004) do. Features that do not vary count for nothing. Where there are more
        than half as many as samples, or than 256, their leading principal components take their
        place.
        """
        values = features.double()
        mean = values.mean(0)
        centered = values - mean
        scale = centered.square().mean(0).sqrt()
        varies = scale > 1e-6 * mean.abs().clamp(min=1e-30)  # else it is how float32 rounds
        standard = centered[:, varies] / scale[varies]
        basis = _leading_directions(standard, min(len(values) // 2, _MOST_DIRECTIONS))
        points = standard if basis is None else (standard.float() @ basis).double()
        classes, member = labels.unique(return_inverse=True)
        counts = member.bincount().double()
        sums = torch.zeros(len(classes), points.shape[1], dtype=torch.float64)
        means = sums.index_add_(0, member, points) / counts.unsqueeze(1)
        covariance = shrunk_covariance(points - means[member])
        covariance *= len(points) / max(len(points) - len(classes), 1)
        weights = torch.linalg.solve(covariance, means.T)  # [D, K]
        bias = (counts / counts.sum()).log() - 0.5 * (means.T * weights).sum(0)
        if basis is not None:
            weights = basis.double() @ weights
        spread = torch.zeros(len(mean), len(classes), dtype=torch.float64)
        spread[varies] = weights / scale[varies].unsqueeze(1)
        return cls(classes, spread, bias - mean @ spread)

    def log_posterior(self, features: Tensor) -> Tensor:
        """Return the log probability of each class, in nats, [N, K], of features [N, F]."""
        return (features.double() @ self.weights + self.bias).log_softmax(1)


def halve(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Divide samples into halves at random, each class evenly.

    Args:
        labels: Class of each sample, int64 [N].
        generator: Source of all randomness.

    Returns:
        0 or 1 for each sample, int64 [N]; -1 in classes of fewer than ten, and for labels below 0.
    """
    halves = torch.full_like(labels, -1)
    for at, label in enumerate(labels.unique().tolist()):
        members = (labels == label).nonzero().flatten()
        if label >= 0 and len(members) >= 2 * FEWEST_IN_HALF:
            order = torch.randperm(len(members), generator=generator)
            halves[members[order]] = (torch.arange(len(members)) + at) % 2
    return halves


def evidence_of(
    log_posterior: Tensor, classes: Tensor, labels: Tensor, *, floor: float = EVIDENCE_FLOOR
) -> Tensor:
    """Return the log posterior of each sample's own label, floored; NaN where that is unknown.

    Args:
        log_posterior: [N, K], in nats.
        classes: The K labels, ascending.
        labels: [N].
        floor: The least that counts, in nats.
    """
    place = torch.searchsorted(classes, labels).clamp(max=len(classes) - 1)
    evidence = log_posterior.gather(1, place.unsqueeze(1)).squeeze(1)
    evidence = evidence.clamp(min=floor)  # NaN stays
    return evidence.where(classes[place] == labels, torch.nan)


def shrunk_covariance(centered: Tensor) -> Tensor:
    """Return the covariance [D, D] of centered points [N, D], shrunk toward c times the identity.

    By the intensity of Ledoit and Wolf, "A well-conditioned estimator for large-dimensional
    covariance matrices" (2004), which needs no choice.
    """
    n_samples, n_dimensions = centered.shape
    covariance = centered.T @ centered / n_samples
    average = covariance.diagonal().mean()
    target = average * torch.eye(n_dimensions, dtype=centered.dtype)
    distance = (covariance - target).square().sum()
    # Sum over samples of the squared distance between x xᵀ and the covariance, over n².
    spread = centered.square().sum(1).square().sum() / n_samples - covariance.square().sum()
    spread = (spread / n_samples).clamp(min=0.0)
    intensity = (spread / distance.clamp(min=torch.finfo(centered.dtype).tiny)).clamp(max=1.0)
    # A covariance that is singular beyond what shrinking mends is one of repeated samples.
    floor = 1e-9 * average.clamp(min=1e-30) * torch.eye(n_dimensions, dtype=centered.dtype)
    return (1 - intensity) * covariance + intensity * target + floor


def _leading_directions(standard: Tensor, n_directions: int) -> Tensor | None:
    """Return principal directions [F, D] of standardized features [N, F]; None where F <= D."""
    n_samples, n_features = standard.shape
    if n_features <= n_directions:
        return None
    values = standard.float()
    directions: Tensor
    if n_features <= min(n_samples, _MOST_EXACT):
        directions = torch.linalg.eigh(values.T @ values)[1][:, -n_directions:]
    elif n_samples <= _MOST_EXACT:
        squares, vectors = torch.linalg.eigh(values @ values.T)
        lengths = squares.clamp(min=1e-6 * float(squares[-1])).sqrt()
        directions = values.T @ (vectors / lengths)[:, -n_directions:]
    else:  # two steps from random directions miss little, for a fraction of the time
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(n_features, n_directions, generator=generator)
        basis = torch.linalg.qr(values.T @ (values @ start))[0]
        directions = torch.linalg.qr(values.T @ (values @ basis))[0]
    return directions
