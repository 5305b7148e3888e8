"""Where expectation maximization starts: k-means, from one cluster more than the fit before.

The start for K clusters are the centers of the mixture's own clustering of K - 1 plus the one, of
a few promising ones, that lowers the within-cluster scatter most, refined by Lloyd's iterations (a
greedy form of global k-means). No start draws random numbers, and consecutive K share the work.

Arithmetic is float32 on standardized points, with float64 sums of blocks. Sums over a cluster's
points run over all points, those of others at weight 0: that is vectorized, where adding each
point to its own cluster's sums is not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from filterwatch.detection.kernels.compiled import Array, kernel_part

MAX_LLOYD_ITERATIONS = 50
# Lloyd's iterations end when the squares of the centers' shifts add up to less, in squared units of
# the points: scikit-learn's default, for points of mean variance 1.
LLOYD_TOLERANCE = 1e-4
# Points whose sum is taken in float32, before it is added in float64.
_BLOCK = 1024


@kernel_part
def _assign(
    x: Array, y: Array, centers: Array, n_clusters: int, labels: Array, distances: Array
) -> None:
    """Find each point's nearest center."""
    n_samples = x.shape[0]
    distances[:] = np.float32(1e30)
    for k in range(n_clusters):
        center_x, center_y = np.float32(centers[k, 0]), np.float32(centers[k, 1])
        for i in range(n_samples):
            dx, dy = x[i] - center_x, y[i] - center_y
            distance = dx * dx + dy * dy
            labels[i] = np.int32(k) if distance < distances[i] else labels[i]
            distances[i] = min(distance, distances[i])


@kernel_part
def cluster_moments(
    x: Array, y: Array, labels: Array, cluster: int, at_x: Any, at_y: Any
) -> tuple[float, float, float, float, float, float]:
    """Return a cluster's size and its moments around a place: x, y, xx, xy, yy."""
    size, sum_x, sum_y, sum_xx, sum_xy, sum_yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for start in range(0, x.shape[0], _BLOCK):
        block_x, block_y = x[start : start + _BLOCK], y[start : start + _BLOCK]
        block_labels = labels[start : start + _BLOCK]
        n, s_x, s_y = np.float32(0), np.float32(0), np.float32(0)
        s_xx, s_xy, s_yy = np.float32(0), np.float32(0), np.float32(0)
        for i in range(block_x.shape[0]):
            inside = np.float32(1) if block_labels[i] == cluster else np.float32(0)
            dx, dy = block_x[i] - at_x, block_y[i] - at_y
            i_x, i_y = inside * dx, inside * dy
            n += inside
            s_x += i_x
            s_y += i_y
            s_xx += i_x * dx
            s_xy += i_x * dy
            s_yy += i_y * dy
        size += n
        sum_x += s_x
        sum_y += s_y
        sum_xx += s_xx
        sum_xy += s_xy
        sum_yy += s_yy
    return size, sum_x, sum_y, sum_xx, sum_xy, sum_yy


@kernel_part
def cluster_sums(x: Array, y: Array, labels: Array, cluster: int) -> tuple[float, float, float]:
    """Return a cluster's size and the sums of its points' coordinates."""
    size, sum_x, sum_y = 0.0, 0.0, 0.0
    for start in range(0, x.shape[0], _BLOCK):
        block_x, block_y = x[start : start + _BLOCK], y[start : start + _BLOCK]
        block_labels = labels[start : start + _BLOCK]
        n, s_x, s_y = np.float32(0), np.float32(0), np.float32(0)
        for i in range(block_x.shape[0]):
            inside = np.float32(1) if block_labels[i] == cluster else np.float32(0)
            n += inside
            s_x += inside * block_x[i]
            s_y += inside * block_y[i]
        size += n
        sum_x += s_x
        sum_y += s_y
    return size, sum_x, sum_y


@kernel_part
def lloyd(
    x: Array, y: Array, centers: Array, n_clusters: int, labels: Array, distances: Array
) -> None:
    """Refine centers [K, 2] in place; leave each point's nearest, and its squared distance."""
    for _ in range(MAX_LLOYD_ITERATIONS):
        _assign(x, y, centers, n_clusters, labels, distances)
        shift = 0.0
        for k in range(n_clusters):
            size, sum_x, sum_y = cluster_sums(x, y, labels, k)
            if size > 0:
                center_x, center_y = sum_x / size, sum_y / size
                shift += (center_x - centers[k, 0]) ** 2 + (center_y - centers[k, 1]) ** 2
                centers[k, 0], centers[k, 1] = center_x, center_y
        if shift <= LLOYD_TOLERANCE:
            break
    _assign(x, y, centers, n_clusters, labels, distances)


@kernel_part
def _gain(x: Array, y: Array, distances: Array, at_x: Any, at_y: Any) -> Any:
    """Return by how much one more center lowers the within-cluster scatter."""
    gain = np.float32(0.0)
    for i in range(x.shape[0]):
        dx, dy = x[i] - at_x, y[i] - at_y
        gain += max(distances[i] - (dx * dx + dy * dy), np.float32(0.0))
    return gain


@kernel_part
def measure(
    x: Array,
    y: Array,
    labels: Array,
    n_clusters: int,
    centers: Array,
    sizes: Array,
    distances: Array,
) -> None:
    """Fill the centers and sizes of clusters, and each point's squared distance from its own."""
    for k in range(n_clusters):
        sizes[k], sum_x, sum_y = cluster_sums(x, y, labels, k)
        centers[k, 0] = sum_x / max(sizes[k], 1.0)
        centers[k, 1] = sum_y / max(sizes[k], 1.0)
        at_x, at_y = np.float32(centers[k, 0]), np.float32(centers[k, 1])
        for i in range(x.shape[0]):
            dx, dy = x[i] - at_x, y[i] - at_y
            distances[i] = dx * dx + dy * dy if labels[i] == k else distances[i]


@kernel_part
def _farthest(labels: Array, distances: Array, cluster: int) -> int:
    """Return the first of a cluster's points that are farthest from its center."""
    # The bits of floats that are not negative are ordered like them, and a largest integer is found
    # several at a time.
    bits = distances.view(np.int32)
    n_samples = np.int32(labels.shape[0])
    largest = np.int32(-1)
    for i in range(n_samples):
        largest = max(largest, bits[i] if labels[i] == cluster else np.int32(-1))
    first = n_samples
    for i in range(n_samples):
        reached = (bits[i] == largest) & (labels[i] == cluster)
        first = min(first, np.int32(i) if reached else n_samples)
    found: int = first % n_samples  # of an empty cluster, the very first
    return found


@kernel_part
def grow(
    x: Array, y: Array, labels: Array, n_clusters: int, centers: Array, distances: Array
) -> None:
    """Fill center ``n_clusters`` with the one that lowers the within-cluster scatter most."""
    best = np.float32(-1.0)
    for k in range(n_clusters):
        at_x, at_y = np.float32(centers[k, 0]), np.float32(centers[k, 1])
        size, _, _, xx, xy, yy = cluster_moments(x, y, labels, k, at_x, at_y)
        size = max(size, 1.0)
        xx, xy, yy = xx / size, xy / size, yy / size
        half = (xx - yy) / 2
        radius = math.sqrt(half * half + xy * xy)
        length = math.sqrt((xx + yy) / 2 + radius)
        # Cosine and sine of the longest axis's angle, from the cosine of twice that angle.
        twice = half / radius if radius > 0 else 1.0
        axis_x = np.float32(length * math.sqrt(max(1 + twice, 0.0) / 2))
        axis_y = np.float32(length * math.copysign(math.sqrt(max(1 - twice, 0.0) / 2), xy))
        farthest = _farthest(labels, distances, k)
        for candidate in range(3):
            if candidate == 0:
                new_x, new_y = x[farthest], y[farthest]
            elif candidate == 1:
                new_x, new_y = at_x + axis_x, at_y + axis_y
            else:
                new_x, new_y = at_x - axis_x, at_y - axis_y
            gain = _gain(x, y, distances, new_x, new_y)
            if gain > best:
                best = gain
                centers[n_clusters, 0], centers[n_clusters, 1] = new_x, new_y
