"""The CPU's form of `cluster_points`: all numbers of clusters for one problem after another."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from filterwatch.detection.fused import BLOCK, fit, from_labels
from filterwatch.detection.fused_kmeans import FAST_MATH, Array, grow, lloyd, measure
from filterwatch.detection.gmm import LEAST_GAIN, MERGED_PAIRS
from filterwatch.detection.selection import RELATIVE_FLOOR

_SMALLEST = float(np.finfo(np.float64).tiny)


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def _calinski_harabasz(centers: Array, sizes: Array, distances: Array, n_clusters: int) -> float:
    """Return the index of equation 4, NaN where it is undefined; see `selection`."""
    n_samples = distances.shape[0]
    mean_x = mean_y = 0.0
    effective = 0
    for k in range(n_clusters):
        mean_x += sizes[k] * centers[k, 0] / n_samples
        mean_y += sizes[k] * centers[k, 1] / n_samples
        effective += sizes[k] > 0
    between = 0.0
    for k in range(n_clusters):
        dx, dy = centers[k, 0] - mean_x, centers[k, 1] - mean_y
        between += sizes[k] * (dx * dx + dy * dy)
    within = 0.0
    for start in range(0, n_samples, BLOCK):
        of_block = np.float32(0)
        for distance in distances[start : start + BLOCK]:
            of_block += distance
        within += of_block
    if effective < 2 or effective >= n_samples:
        return np.nan
    within = max(within, RELATIVE_FLOOR * (between + within))
    index: float = (between / (effective - 1)) / (within / (n_samples - effective))
    return index


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def _merge(first: Array, second: Array, merged: Array) -> None:
    """Fill the component that has the weight, mean and covariance of two; see `gmm.merge_two`."""
    weight = first[0] + second[0]
    share = first[0] / weight if weight > 0 else 0.5
    rest = 1 - share
    dx, dy = first[1] - second[1], first[2] - second[2]
    merged[0] = weight
    merged[1] = share * first[1] + rest * second[1]
    merged[2] = share * first[2] + rest * second[2]
    merged[3] = share * first[3] + rest * second[3] + share * rest * dx * dx
    merged[4] = share * first[4] + rest * second[4] + share * rest * dx * dy
    merged[5] = share * first[5] + rest * second[5] + share * rest * dy * dy


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def _weighted_log_determinant(component: Array) -> float:
    """Return a component's weight times the logarithm of its covariance's determinant."""
    determinant = component[3] * component[5] - component[4] * component[4]
    weighted: float = component[0] * math.log(max(determinant, _SMALLEST))
    return weighted


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def merging_costs(mixture: Array, n_clusters: int, costs: Array) -> None:
    """Fill what merging each pair of components costs, below the diagonal; see `gmm.merge_two`."""
    merged = np.empty(6)
    for i in range(n_clusters):
        costs[i, i] = _weighted_log_determinant(mixture[i])
        for j in range(i):
            _merge(mixture[i], mixture[j], merged)
            costs[i, j] = _weighted_log_determinant(merged) - costs[i, i] - costs[j, j]


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def merge_cheapest(mixture: Array, n_clusters: int, costs: Array, fewer: Array) -> None:
    """Fill a mixture of one component less, and let the pair cost too much for another time."""
    one, other = 1, 0
    for i in range(1, n_clusters):
        for j in range(i):
            if costs[i, j] < costs[one, other]:
                one, other = i, j
    costs[one, other] = np.inf
    at = 0
    for k in range(n_clusters):
        if k != one and k != other:
            fewer[at] = mixture[k]
            at += 1
    _merge(mixture[one], mixture[other], fewer[at])


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def cluster(
    points: Array,
    first: int,
    stop: int,
    max_clusters: int,
    refine: bool,
    regularization: float,
    tolerance: float,
    max_iterations: int,
    labels: Array,
    ch_by_k: Array,
    log_likelihood: Array,
    converged: Array,
) -> None:
    """Fit K = 2 … ``max_clusters`` for the problems ``first`` … ``stop`` - 1.

    Args:
        points: Standardised, float32 [P, 2, N].
        first: First problem.
        stop: One past the last.
        max_clusters: Largest K.
        refine: Whether to start each K again from the fit of K + 1, with one K more to begin with.
        regularization: Added to every covariance's diagonal.
        tolerance: Least gain in mean log-likelihood that keeps a fit going.
        max_iterations: Largest number of steps.
        labels: Filled with those of the highest index, the smaller K at a tie, int32 [P, N].
        ch_by_k: Filled with the Calinski-Harabasz index, float64 [P, max_clusters - 1].
        log_likelihood: Filled, float64 [P, max_clusters - 1].
        converged: Filled, bool [P, max_clusters - 1].
    """
    n_samples = points.shape[2]
    # One K more has no meaning with as many clusters as samples.
    largest = max_clusters + 1 if refine and n_samples > max_clusters else max_clusters
    n_up = largest - 1
    n_down = MERGED_PAIRS * (n_up - 1) if refine else 0
    margin = LEAST_GAIN * tolerance
    centers, sizes = np.empty((largest, 2)), np.empty(largest)
    mixture = np.empty((largest, 6))
    own, nearest = np.empty(n_samples, np.int32), np.empty(n_samples, np.int32)
    distances = np.empty(n_samples, np.float32)
    # Of the best fit of each K.
    mixtures = np.empty((largest + 1, largest, 6))
    clusterings = np.empty((largest + 1, n_samples), np.int32)
    likelihoods, indices = np.empty(largest + 1), np.empty(largest + 1)
    costs = np.empty((largest, largest))
    for problem in range(first, stop):
        x, y = points[problem, 0], points[problem, 1]
        own[:] = 0
        measure(x, y, own, 1, centers, sizes, distances)
        for step in range(n_up + n_down):  # in one loop, so that the fit is compiled once
            if step < n_up:
                n_clusters = step + 2
                grow(x, y, own, n_clusters - 1, centers, distances)
                lloyd(x, y, centers, n_clusters, nearest, distances)
                from_labels(x, y, nearest, centers[:n_clusters], regularization, mixture)
            else:
                n_clusters = largest - 1 - (step - n_up) // MERGED_PAIRS
                larger = mixtures[n_clusters + 1]
                if not likelihoods[n_clusters + 1] > likelihoods[n_clusters] + margin:
                    continue  # too little to gain from there
                if (step - n_up) % MERGED_PAIRS == 0:  # a later pair's turn never comes alone
                    merging_costs(larger, n_clusters + 1, costs)
                merge_cheapest(larger, n_clusters + 1, costs, mixture)
            found, has_converged = fit(
                x, y, mixture, n_clusters, regularization, tolerance, max_iterations, own
            )
            if step >= n_up and not found > likelihoods[n_clusters] + tolerance:
                continue
            measure(x, y, own, n_clusters, centers, sizes, distances)
            likelihoods[n_clusters] = found
            indices[n_clusters] = _calinski_harabasz(centers, sizes, distances, n_clusters)
            mixtures[n_clusters, :n_clusters] = mixture[:n_clusters]
            clusterings[n_clusters] = own
            if n_clusters <= max_clusters:
                converged[problem, n_clusters - 2] = has_converged
        labels[problem] = 0
        best = -1.0
        for n_clusters in range(2, max_clusters + 1):
            at = n_clusters - 2
            log_likelihood[problem, at] = likelihoods[n_clusters]
            ch_by_k[problem, at] = indices[n_clusters]
            if indices[n_clusters] > best:  # never true of NaN
                best = indices[n_clusters]
                labels[problem] = clusterings[n_clusters]
