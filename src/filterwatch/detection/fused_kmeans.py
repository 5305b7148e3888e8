"""The CPU's form of `kmeans`: one problem at a time, all in cache.

The same algorithm, compiled. Arithmetic is float32 on standardised points, with float64 sums.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from filterwatch.detection.kmeans import LLOYD_TOLERANCE, MAX_LLOYD_ITERATIONS

Array = NDArray[Any]

# Reassociation and fused multiply-adds let reductions vectorise. Infinities stay what they are.
# Every kernel is compiled in one piece (`forceinline`): where a part stays a function of its own,
# the process that compiles runs a copy that was optimised alone, which rounds differently.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp", "afn"}


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def _assign(
    x: Array, y: Array, centers: Array, n_clusters: int, labels: Array, distances: Array
) -> None:
    """Find each point's nearest centre."""
    n_samples = x.shape[0]
    distances[:] = np.float32(1e30)
    for k in range(n_clusters):
        center_x, center_y = np.float32(centers[k, 0]), np.float32(centers[k, 1])
        for i in range(n_samples):
            dx, dy = x[i] - center_x, y[i] - center_y
            distance = dx * dx + dy * dy
            labels[i] = np.int32(k) if distance < distances[i] else labels[i]
            distances[i] = min(distance, distances[i])


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def lloyd(
    x: Array, y: Array, centers: Array, n_clusters: int, labels: Array, distances: Array
) -> None:
    """Refine centres [K, 2] in place; leave each point's nearest, and its squared distance."""
    sums = np.empty((n_clusters, 3))
    for _ in range(MAX_LLOYD_ITERATIONS):
        _assign(x, y, centers, n_clusters, labels, distances)
        sums[:] = 0.0
        for i in range(x.shape[0]):
            k = labels[i]
            sums[k, 0] += 1.0
            sums[k, 1] += x[i]
            sums[k, 2] += y[i]
        shift = 0.0
        for k in range(n_clusters):
            if sums[k, 0] > 0:
                center_x, center_y = sums[k, 1] / sums[k, 0], sums[k, 2] / sums[k, 0]
                shift += (center_x - centers[k, 0]) ** 2 + (center_y - centers[k, 1]) ** 2
                centers[k, 0], centers[k, 1] = center_x, center_y
        if shift <= LLOYD_TOLERANCE:
            break
    _assign(x, y, centers, n_clusters, labels, distances)


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def _gain(x: Array, y: Array, distances: Array, at_x: float, at_y: float) -> Any:
    """Return by how much one more centre lowers the within-cluster scatter."""
    gain = np.float32(0.0)
    for i in range(x.shape[0]):
        dx, dy = x[i] - at_x, y[i] - at_y
        gain += max(distances[i] - (dx * dx + dy * dy), np.float32(0.0))
    return gain


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def grow(
    x: Array, y: Array, centers: Array, n_clusters: int, labels: Array, distances: Array
) -> None:
    """Fill centre ``n_clusters`` with the one that lowers the within-cluster scatter most."""
    scatter = np.zeros((n_clusters, 4))
    farthest = np.zeros(n_clusters, np.int64)
    for i in range(x.shape[0]):
        k = labels[i]
        dx, dy = x[i] - centers[k, 0], y[i] - centers[k, 1]
        scatter[k, 0] += 1.0
        scatter[k, 1] += dx * dx
        scatter[k, 2] += dx * dy
        scatter[k, 3] += dy * dy
        if labels[farthest[k]] != k or distances[i] > distances[farthest[k]]:
            farthest[k] = i
    axis = np.empty((n_clusters, 2))
    for k in range(n_clusters):
        size = max(scatter[k, 0], 1.0)
        xx, xy, yy = scatter[k, 1] / size, scatter[k, 2] / size, scatter[k, 3] / size
        half = (xx - yy) / 2
        radius = math.sqrt(half * half + xy * xy)
        length = math.sqrt((xx + yy) / 2 + radius)
        # Cosine and sine of the longest axis's angle, from the cosine of twice that angle.
        twice = half / radius if radius > 0 else 1.0
        axis[k, 0] = length * math.sqrt(max(1 + twice, 0.0) / 2)
        axis[k, 1] = length * math.copysign(math.sqrt(max(1 - twice, 0.0) / 2), xy)
    best = np.float32(-1.0)
    best_x, best_y = np.float32(0.0), np.float32(0.0)
    for candidate in range(3):
        for k in range(n_clusters):
            if candidate == 0:
                at_x, at_y = x[farthest[k]], y[farthest[k]]
            else:
                sign = 1.0 if candidate == 1 else -1.0
                at_x = np.float32(centers[k, 0] + sign * axis[k, 0])
                at_y = np.float32(centers[k, 1] + sign * axis[k, 1])
            gain = _gain(x, y, distances, at_x, at_y)
            if gain > best:
                best, best_x, best_y = gain, at_x, at_y
    centers[n_clusters, 0], centers[n_clusters, 1] = best_x, best_y


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def center(
    x: Array, y: Array, labels: Array, n_clusters: int, centers: Array, distances: Array
) -> None:
    """Fill the centres of given clusters, and each point's squared distance from its own."""
    sums = np.zeros((n_clusters, 3))
    for i in range(x.shape[0]):
        row = sums[labels[i]]
        row[0] += 1.0
        row[1] += x[i]
        row[2] += y[i]
    for k in range(n_clusters):
        size = max(sums[k, 0], 1.0)
        centers[k, 0], centers[k, 1] = sums[k, 1] / size, sums[k, 2] / size
    for i in range(x.shape[0]):
        k = labels[i]
        dx, dy = x[i] - centers[k, 0], y[i] - centers[k, 1]
        distances[i] = np.float32(dx * dx + dy * dy)
