"""Principal components of a filter with few samples and large maps, compiled.

With N samples of D values each, N far below D, everything is in the N x N matrix of products of
centred samples. The maps are read once, where the network left them: a strip of columns at a time
is centred in the cache, which needs nothing but that strip, and its products are added.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from filterwatch.detection.fused_kmeans import FAST_MATH, Array
from filterwatch.detection.fused_power import BLOCK, advance_blindly, dots_of_four, leading_plane

# Bytes of the columns centred at once: half of a small second-level cache. The wider the strip, the
# longer are the stretches of memory that are read.
_STRIP_BYTES = 2**18
# A matrix of trace 1 whose eigenvalues' squares add up to less has none that stands out: up to 128
# samples, the second is at least 1/154 of the first, whose square single precision tells apart.
_FLAT = 0.3
_MOST_SQUARINGS = 6
_BLIND_ROUNDS = 2


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def _add_products(strip: Array, width: int, products: Array) -> None:
    """Add the products of the strip's rows to the lower triangle, four rows by four at a time."""
    n_rows = strip.shape[0]
    for i in range(0, n_rows, 4):
        x0, x1, x2, x3 = strip[i], strip[i + 1], strip[i + 2], strip[i + 3]
        for j in range(0, i + 4, 4):
            y0, y1, y2, y3 = strip[j], strip[j + 1], strip[j + 2], strip[j + 3]
            s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33 = (
                dots_of_four(x0, x1, x2, x3, y0, y1, y2, y3, width)
            )
            r0, r1, r2, r3 = products[i], products[i + 1], products[i + 2], products[i + 3]
            r0[j] += s00
            r0[j + 1] += s01
            r0[j + 2] += s02
            r0[j + 3] += s03
            r1[j] += s10
            r1[j + 1] += s11
            r1[j + 2] += s12
            r1[j + 3] += s13
            r2[j] += s20
            r2[j + 1] += s21
            r2[j + 2] += s22
            r2[j + 3] += s23
            r3[j] += s30
            r3[j + 1] += s31
            r3[j + 2] += s32
            r3[j + 3] += s33


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def _products(
    maps: Array, problem: int, samples_first: bool, strip: Array, products: Array
) -> tuple[float, float]:
    """Fill the products of one filter's centred samples; return sum and largest magnitude."""
    n_samples = maps.shape[0] if samples_first else maps.shape[1]
    most = strip.shape[1]
    columns, extremes = np.empty(most, np.float32), np.zeros(most, np.float32)
    magnitude = 0.0
    products[:] = 0.0
    for start in range(0, maps.shape[2], most):
        width = min(most, maps.shape[2] - start)
        columns[:] = np.float32(0.0)
        for i in range(n_samples):
            source = maps[i, problem] if samples_first else maps[problem, i]
            values = source[start : start + width]
            row = strip[i]
            of_row = np.float32(0.0)
            for d in range(width):
                value = values[d]
                row[d] = value
                columns[d] += value
                size = abs(value)
                of_row += size
                # One for each column: a maximum over the row would be taken one by one.
                extremes[d] = size if size > extremes[d] else extremes[d]
            magnitude += of_row
        for d in range(width):
            columns[d] /= np.float32(n_samples)
        for i in range(n_samples):
            row = strip[i]
            for d in range(width):
                row[d] -= columns[d]
        _add_products(strip, width, products)
    return magnitude, extremes.max()


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def _normalize(products: Array, matrix: Array) -> tuple[float, float]:
    """Fill a symmetric matrix of trace 1 from a lower triangle; return the trace, and the squares.

    The sum of the matrix's squares is its eigenvalues' concentration: 1 where one is all there is,
    1 / N where all are equal.
    """
    trace, squares = 0.0, 0.0
    for i in range(products.shape[0]):
        trace += products[i, i]
    if not (trace > 0.0 and trace < np.inf):
        return trace, 1.0
    for i in range(products.shape[0]):
        row = matrix[i]
        of_row = 0.0
        for j in range(i):
            value = products[i, j] / trace
            of_row += value * value
            row[j] = np.float32(value)
            matrix[j, i] = row[j]
        value = products[i, i] / trace
        row[i] = np.float32(value)
        squares += 2.0 * of_row + value * value
    return trace, squares


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def _flat_start(
    matrix: Array,
    concentration: float,
    power: Array,
    spare: Array,
    products: Array,
    block: Array,
    scores: Array,
    image: Array,
) -> None:
    """Bring the block closer to the leading eigenvectors where many eigenvalues are alike.

    Rounds with a power of the matrix are so many rounds at once. It is squared as long as what
    comes out is still flat, which keeps its second direction within single precision.
    """
    if concentration > _FLAT:
        return
    power[:] = matrix
    for _ in range(_MOST_SQUARINGS):
        products[:] = 0.0
        _add_products(power, power.shape[1], products)
        _, concentration = _normalize(products, spare)
        if concentration > _FLAT:
            break
        power, spare = spare, power
    advance_blindly(power, _BLIND_ROUNDS, block, scores, image)


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def leading_scores(
    maps: Array,
    samples_first: bool,
    first: int,
    stop: int,
    start: Array,
    tolerance: float,
    max_rounds: int,
    magnitude: Array,
    largest: Array,
    variance: Array,
    points: Array,
) -> None:
    """Project each filter's samples onto their two leading principal components.

    Args:
        maps: Float32 [N, P, D], or [P, N, D].
        samples_first: Which of the two.
        first: First filter.
        stop: One past the last.
        start: Orthonormal rows to start from, float32 [BLOCK, M], with M the next multiple of
            four from N; zeros beyond M rows.
        tolerance: Share of the captured variance that may be missed.
        max_rounds: Largest number of rounds.
        magnitude: Filled with the sum of absolute values, float64 [P].
        largest: Filled with the largest absolute value, float32 [P].
        variance: Filled with the centred sum of squares, float64 [P].
        points: Filled, float64 [P, N, 2].
    """
    n_samples = maps.shape[0] if samples_first else maps.shape[1]
    padded = start.shape[1]
    strip = np.zeros((padded, min(_STRIP_BYTES // (4 * padded), maps.shape[2])), np.float32)
    products = np.empty((padded, padded))
    matrix = np.empty((padded, padded), np.float32)
    power = np.empty((padded, padded), np.float32)
    spare = np.empty((padded, padded), np.float32)
    scores = np.empty((padded, BLOCK), np.float32)
    block = np.empty((BLOCK, padded), np.float32)
    image = np.empty((BLOCK, padded), np.float32)
    directions = np.empty((2, padded), np.float32)
    plane = np.empty((padded, 2))
    for problem in range(first, stop):
        magnitude[problem], largest[problem] = _products(
            maps, problem, samples_first, strip, products
        )
        total, squares = _normalize(products, matrix)
        variance[problem] = total
        points[problem] = 0.0
        if not (total > 0.0 and total < np.inf):
            continue
        block[:] = start
        _flat_start(matrix, squares, power, spare, products, block, scores, image)
        leading_plane(
            matrix, squares, tolerance, max_rounds, block, scores, image, directions, plane
        )
        # A coordinate is a singular value times that of a unit vector; the matrix of products
        # gives the square of that value, relative to the total, times the vector.
        for axis in range(2):
            norm = 0.0
            for i in range(padded):
                norm += plane[i, axis] * plane[i, axis]
            norm = math.sqrt(norm)
            scale = math.sqrt(total / norm) if norm > 0.0 else 0.0
            for i in range(n_samples):
                points[problem, i, axis] = plane[i, axis] * scale
