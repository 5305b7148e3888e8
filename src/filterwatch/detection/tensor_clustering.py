"""The tensor form of `cluster_points`: a chunk of problems at a time, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from filterwatch.detection import gmm, kmeans
from filterwatch.detection.selection import best_clustering, calinski_harabasz

# Problems that one call of the tensor form handles at once: bounds its memory.
_ELEMENTS_PER_CHUNK = 2**25


class Fits(NamedTuple):
    """Of P problems: labels of the highest index [P, N]; index, likelihood, convergence [P, Ks]."""

    labels: Tensor
    ch_by_k: Tensor
    log_likelihood: Tensor
    converged: Tensor


def fit_tensors(
    points: Tensor,
    max_clusters: int,
    refine: bool,
    regularization: float,
    tolerance: float,
    max_iterations: int,
    tell: Callable[[int], None],
) -> Fits:
    """Fit K = 2 … ``max_clusters``, chunk by chunk.

    Args:
        points: Standardised, [P, N, 2].
        max_clusters: Largest K.
        refine: Whether to start each K again from the fit of K + 1, with one K more to begin with.
        regularization: Added to every covariance's diagonal.
        tolerance: Least gain in mean log-likelihood that keeps a fit going.
        max_iterations: Largest number of steps.
        tell: Called with the number of problems done.
    """
    chunk = max(1, _ELEMENTS_PER_CHUNK // (points.shape[1] * (max_clusters + refine) * 3))
    arguments = (max_clusters, refine, regularization, tolerance, max_iterations)
    parts, n_done = [], 0
    for part in points.split(chunk):
        parts.append(fit_chunk(part, *arguments))
        n_done += len(part)
        tell(n_done)
    return Fits(*(torch.cat(column) for column in zip(*parts, strict=True)))


def fit_chunk(
    points: Tensor,
    max_clusters: int,
    refine: bool,
    regularization: float,
    tolerance: float,
    max_iterations: int,
) -> Fits:
    """Fit all problems [P, N, 2] at once; see `fit_tensors`."""
    options: dict[str, Any] = {
        "regularization": regularization,
        "tolerance": tolerance,
        "max_iterations": max_iterations,
        "accelerate": True,
    }
    own = torch.zeros(points.shape[:2], dtype=torch.int64, device=points.device)
    fits: list[_Fitted] = []
    one_more = refine and points.shape[1] > max_clusters
    for n_clusters in range(2, max_clusters + (2 if one_more else 1)):
        centers = kmeans.grow(points, own, kmeans.center(points, own, n_clusters - 1))
        start, _ = kmeans.assign(points, kmeans.lloyd(points, centers))
        one_hot = torch.nn.functional.one_hot(start, n_clusters).to(points.dtype)
        fits.append(_without_responsibilities(gmm.fit_mixture(points, one_hot, **options)))
        own = fits[-1].labels
    if refine:
        _refine(points, fits, **options)
    columns = [
        (fit.labels, calinski_harabasz(points, fit.labels, n), fit.log_likelihood, fit.converged)
        for n, fit in enumerate(fits[: max_clusters - 1], start=2)
    ]
    labels, ch_by_k, log_likelihood, converged = (
        torch.stack(column, dim=1) for column in zip(*columns, strict=True)
    )
    best = best_clustering(ch_by_k)
    chosen = labels[torch.arange(len(labels), device=labels.device), best]
    return Fits(chosen, ch_by_k, log_likelihood, converged)


def _refine(points: Tensor, fits: list[_Fitted], *, tolerance: float, **options: Any) -> None:
    """Start each fit but the last again from the next one with two components merged."""
    for at in range(len(fits) - 2, -1, -1):
        larger = fits[at + 1]
        for rank in range(gmm.MERGED_PAIRS):
            merged = gmm.merge_two(larger.mixture, rank)
            fit = gmm.fit_mixture(points, merged, tolerance=tolerance, **options)
            own = fits[at].log_likelihood
            better = fit.log_likelihood > own + tolerance
            better &= larger.log_likelihood > own + gmm.LEAST_GAIN * tolerance
            fits[at] = _choose(better, _without_responsibilities(fit), fits[at])


class _Fitted(NamedTuple):
    """What is kept of fits to P problems: labels [P, N]; likelihood and convergence [P]."""

    mixture: gmm.Mixture
    labels: Tensor
    log_likelihood: Tensor
    converged: Tensor


def _without_responsibilities(fit: gmm.MixtureFit) -> _Fitted:
    return _Fitted(fit.mixture, fit.responsibilities.argmax(-1), fit.log_likelihood, fit.converged)


def _choose(first: Tensor, fit: _Fitted, other: _Fitted) -> _Fitted:
    """Return one fit where ``first`` [P] says so, the other elsewhere."""
    return _Fitted(
        gmm.choose(first, fit.mixture, other.mixture),
        fit.labels.where(first.unsqueeze(1), other.labels),
        fit.log_likelihood.where(first, other.log_likelihood),
        fit.converged.where(first, other.converged),
    )
