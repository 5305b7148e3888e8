"""Gaussian mixtures of every K, by expectation maximization (paper, equations 1 to 3).

Points are read in blocks whose densities fit the first-level cache, so that one pass over them does
both the E-step and the M-step; the exponential is written out, so that the compiler can vectorize
it. Arithmetic is float32 on standardized points, with differences from each cluster's center rather
than raw moments, and float64 sums. Rows are sliced before a loop runs over them: an index that the
compiler cannot prove to be non-negative keeps it from vectorizing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from filterwatch.detection.kernels.compiled import Array, kernel, kernel_part
from filterwatch.detection.kernels.kmeans import cluster_moments, grow, lloyd, measure

# Within-cluster scatter below this share of the total is rounding error: it is not divided by.
RELATIVE_FLOOR = 1e-12
# Over-relaxation: how far to go in the direction of an M-step, whose own result is at 1, and what
# share of its weights and standard deviations must be left. Longer strides reach a higher
# likelihood before a fit ends, and give other verdicts than plain steps do.
STRIDE = 1.5
LEAST_SHARE = 0.5
_BLOCK = 256
_LOG_2_PI = math.log(2 * math.pi)
_SMALLEST = np.float32(-1e30)


@kernel_part
def _exp(x: Any) -> Any:
    """Exponential of a float32 that is at most 0, to 2 units in the last place."""
    x = max(x, np.float32(-87.0))
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    bits = np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
    return p * bits.view(np.float32)


@kernel_part
def _bounded_covariance(xy: float, xx: float, yy: float, regularization: float) -> float:
    """Return a covariance that rounding has not made larger than points on a line could have."""
    limit = math.sqrt(max((xx - regularization) * (yy - regularization), 0.0))
    return min(max(xy, -limit), limit)


@kernel_part
def from_labels(
    x: Array, y: Array, labels: Array, centers: Array, regularization: float, mixture: Array
) -> None:
    """Take the M-step of a hard clustering. Columns: weight, mean x, y, covariance xx, xy, yy.

    The centers lie near the means: moments around them need no other pass for the means.
    """
    for k in range(centers.shape[0]):
        at_x, at_y = np.float32(centers[k, 0]), np.float32(centers[k, 1])
        size, dx, dy, xx, xy, yy = cluster_moments(x, y, labels, k, at_x, at_y)
        row = mixture[k]
        row[0] = size / x.shape[0]
        size = max(size, 1.0)
        dx, dy = dx / size, dy / size
        row[1], row[2] = at_x + dx, at_y + dy
        row[3] = max(xx / size - dx * dx, 0.0) + regularization
        row[5] = max(yy / size - dy * dy, 0.0) + regularization
        row[4] = _bounded_covariance(xy / size - dx * dy, row[3], row[5], regularization)


@kernel_part
def _factorize(mixture: Array, n_clusters: int, factors: Array) -> None:
    """Fill the inverse Cholesky factors and log norms: x, y, scale x, slope, scale y, log norm."""
    for k in range(n_clusters):
        weight, var_x, cov, var_y = mixture[k, 0], mixture[k, 3], mixture[k, 4], mixture[k, 5]
        scale_x, scale_y = 1 / math.sqrt(var_x), 1 / math.sqrt(var_y - cov * cov / var_x)
        factors[k, 0], factors[k, 1] = mixture[k, 1], mixture[k, 2]
        factors[k, 2], factors[k, 3], factors[k, 4] = scale_x, cov / var_x, scale_y
        density = weight * scale_x * scale_y  # at the mean, but for 2 pi
        factors[k, 5] = math.log(density) - _LOG_2_PI if density > 0 else _SMALLEST


@kernel_part
def _block_densities(x: Array, y: Array, factors: Array, density: Array, peak: Array) -> None:
    """Fill the joint log densities of a block of points, and each point's largest."""
    peak[:] = _SMALLEST
    for k in range(factors.shape[0]):
        mean_x, mean_y, scale_x = factors[k, 0], factors[k, 1], factors[k, 2]
        slope, scale_y, log_norm = factors[k, 3], factors[k, 4], factors[k, 5]
        row = density[k][: x.shape[0]]
        for i in range(x.shape[0]):
            dx, dy = x[i] - mean_x, y[i] - mean_y
            z_x, z_y = dx * scale_x, (dy - dx * slope) * scale_y
            value = log_norm - np.float32(0.5) * (z_x * z_x + z_y * z_y)
            row[i] = value
            peak[i] = max(peak[i], value)


@kernel_part
def _block_expectation(density: Array, peak: Array, total: Array) -> float:
    """Turn log densities into densities relative to the peak; return the log-likelihood's sum.

    ``total`` is left as the factor that makes them responsibilities.
    """
    total[:] = 0.0
    for k in range(density.shape[0]):
        row = density[k][: peak.shape[0]]
        for i in range(peak.shape[0]):
            value = _exp(row[i] - peak[i])
            row[i] = value
            total[i] += value
    log_likelihood = 0.0
    # Each total lies in [1, K]: the logarithm of a product of 64 saves 63 logarithms.
    for at in range(0, peak.shape[0], 64):
        product = 1.0
        for value in total[at : at + 64]:
            product *= value
        log_likelihood += math.log(product)
    for i in range(peak.shape[0]):
        log_likelihood += peak[i]
        total[i] = np.float32(1.0) / total[i]
    return log_likelihood


@kernel_part
def _block_moments(
    x: Array, y: Array, factors: Array, density: Array, scale: Array, moments: Array
) -> None:
    """Add a block's responsibility-weighted moments around each cluster's mean."""
    for k in range(factors.shape[0]):
        mean_x, mean_y = factors[k, 0], factors[k, 1]
        row = density[k][: x.shape[0]]
        m, m_x, m_y = np.float32(0), np.float32(0), np.float32(0)
        m_xx, m_xy, m_yy = np.float32(0), np.float32(0), np.float32(0)
        for i in range(x.shape[0]):
            responsibility = row[i] * scale[i]
            dx, dy = x[i] - mean_x, y[i] - mean_y
            r_x, r_y = responsibility * dx, responsibility * dy
            m += responsibility
            m_x += r_x
            m_y += r_y
            m_xx += r_x * dx
            m_xy += r_x * dy
            m_yy += r_y * dy
        sums = moments[k]
        sums[0] += m
        sums[1] += m_x
        sums[2] += m_y
        sums[3] += m_xx
        sums[4] += m_xy
        sums[5] += m_yy


@kernel_part
def _maximize(
    moments: Array, factors: Array, n_samples: int, regularization: float, plain: Array
) -> None:
    """Take the M-step from moments around the means that the densities used."""
    for k in range(factors.shape[0]):
        mass = moments[k, 0] + 1e-14
        shift_x, shift_y = moments[k, 1] / mass, moments[k, 2] / mass
        plain[k, 0] = mass / n_samples
        plain[k, 1] = factors[k, 0] + shift_x
        plain[k, 2] = factors[k, 1] + shift_y
        xx = moments[k, 3] / mass - shift_x * shift_x
        yy = moments[k, 5] / mass - shift_y * shift_y
        plain[k, 3] = max(xx, 0.0) + regularization
        plain[k, 5] = max(yy, 0.0) + regularization
        xy = moments[k, 4] / mass - shift_x * shift_y
        plain[k, 4] = _bounded_covariance(xy, plain[k, 3], plain[k, 5], regularization)


@kernel_part
def _overshoot(mixture: Array, plain: Array, stride: float, regularization: float) -> None:
    """Move a mixture towards the M-step's result and past it."""
    total = 0.0
    for k in range(plain.shape[0]):
        old, new = mixture[k], plain[k]
        weight = old[0] + stride * (new[0] - old[0])
        old[0] = max(weight, LEAST_SHARE * new[0])
        total += old[0]
        old[1] += stride * (new[1] - old[1])
        old[2] += stride * (new[2] - old[2])
        xx = old[3] + stride * (new[3] - old[3])
        xy = old[4] + stride * (new[4] - old[4])
        yy = old[5] + stride * (new[5] - old[5])
        determinant = new[3] * new[5] - new[4] * new[4]
        sound = xx >= regularization and yy >= regularization
        if sound and xx * yy - xy * xy >= LEAST_SHARE**2 * determinant:
            old[3], old[4], old[5] = xx, xy, yy
        else:
            old[3], old[4], old[5] = new[3], new[4], new[5]
    for k in range(plain.shape[0]):
        mixture[k, 0] /= total


@kernel_part
def _copy(source: Array, target: Array) -> None:
    """Copy rows; an assignment would be compiled with a message for arrays that do not match."""
    for k in range(source.shape[0]):
        for column in range(source.shape[1]):
            target[k, column] = source[k, column]


@kernel_part
def fit(
    x: Array,
    y: Array,
    mixture: Array,
    n_clusters: int,
    regularization: float,
    tolerance: float,
    max_iterations: int,
    labels: Array,
) -> float:
    """Iterate from a mixture, in place; return the mean log-likelihood."""
    n_samples: int = x.shape[0]
    factors = np.empty((n_clusters, 6), np.float32)
    density = np.empty((n_clusters, _BLOCK), np.float32)
    peak, total = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    moments, plain = np.empty((n_clusters, 6)), np.empty((n_clusters, 6))
    previous = -1e300
    stride = 1.0
    steps = 0
    while True:
        _factorize(mixture, n_clusters, factors)
        moments[:] = 0.0
        log_likelihood = 0.0
        for start in range(0, n_samples, _BLOCK):
            block_x, block_y = x[start : start + _BLOCK], y[start : start + _BLOCK]
            size = block_x.shape[0]
            _block_densities(block_x, block_y, factors, density, peak[:size])
            log_likelihood += _block_expectation(density, peak[:size], total[:size])
            _block_moments(block_x, block_y, factors, density, total[:size], moments)
        log_likelihood /= n_samples
        overshot = log_likelihood < previous and stride > 1.0
        converged = not overshot and abs(log_likelihood - previous) < tolerance
        if converged or steps == max_iterations:
            break
        steps += 1
        if overshot:
            _copy(plain, mixture)
            stride = 1.0
            continue
        previous = log_likelihood
        _maximize(moments, factors, n_samples, regularization, plain)
        if stride > 1.0:
            _overshoot(mixture, plain, stride, regularization)
        else:
            _copy(plain, mixture)
        stride = STRIDE
    for start in range(0, n_samples, _BLOCK):
        block_x, block_y = x[start : start + _BLOCK], y[start : start + _BLOCK]
        size = block_x.shape[0]
        _block_densities(block_x, block_y, factors, density, peak[:size])
        block_labels = labels[start : start + _BLOCK]
        for k in range(n_clusters - 1, -1, -1):
            row = density[k][:size]
            for i in range(size):
                block_labels[i] = np.int32(k) if row[i] == peak[i] else block_labels[i]
    return log_likelihood


@kernel_part
def _calinski_harabasz(centers: Array, sizes: Array, distances: Array, n_clusters: int) -> float:
    """Return the index of equation 4, NaN where it is undefined."""
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
    for start in range(0, n_samples, _BLOCK):
        of_block = np.float32(0)
        for distance in distances[start : start + _BLOCK]:
            of_block += distance
        within += of_block
    if effective < 2 or effective >= n_samples:
        return np.nan
    within = max(within, RELATIVE_FLOOR * (between + within))
    index: float = (between / (effective - 1)) / (within / (n_samples - effective))
    return index


@kernel
def fit_all_k(
    points: Array,
    first: int,
    stop: int,
    max_clusters: int,
    regularization: float,
    tolerance: float,
    max_iterations: int,
    labels: Array,
    log_likelihood: Array,
) -> None:
    """Fit K = 2 … ``max_clusters`` for the problems ``first`` … ``stop`` - 1.

    Args:
        points: Standardized, float32 [P, 2, N].
        first: First problem.
        stop: One past the last.
        max_clusters: Largest K.
        regularization: Added to every covariance's diagonal.
        tolerance: Least gain in mean log-likelihood that keeps a fit going.
        max_iterations: Largest number of steps.
        labels: Filled with those of the highest index, the smaller K at a tie, int32 [P, N].
        log_likelihood: Filled with the mean of each K, float64 [P, max_clusters - 1].
    """
    n_samples = points.shape[2]
    centers, sizes = np.empty((max_clusters, 2)), np.empty(max_clusters)
    mixture = np.empty((max_clusters, 6))
    own, nearest = np.empty(n_samples, np.int32), np.empty(n_samples, np.int32)
    distances = np.empty(n_samples, np.float32)
    for problem in range(first, stop):
        x, y = points[problem, 0], points[problem, 1]
        own[:] = 0
        measure(x, y, own, 1, centers, sizes, distances)
        labels[problem] = 0
        best = -1.0
        for n_clusters in range(2, max_clusters + 1):
            grow(x, y, own, n_clusters - 1, centers, distances)
            lloyd(x, y, centers, n_clusters, nearest, distances)
            from_labels(x, y, nearest, centers[:n_clusters], regularization, mixture)
            log_likelihood[problem, n_clusters - 2] = fit(
                x, y, mixture, n_clusters, regularization, tolerance, max_iterations, own
            )
            measure(x, y, own, n_clusters, centers, sizes, distances)
            index = _calinski_harabasz(centers, sizes, distances, n_clusters)
            if index > best:  # never true of NaN
                best = index
                for i in range(n_samples):
                    labels[problem, i] = own[i]
