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
from filterwatch.detection.fused_pca import BLOCK, advance, dots_of_four, next_block, rayleigh_ritz

# Columns centred at once: a strip of 128 samples fills half of a second-level cache.
_STRIP = 512


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
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


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def _products(
    maps: Array, problem: int, samples_first: bool, strip: Array, products: Array
) -> tuple[float, float]:
    """Fill the products of one filter's centred samples; return sum and largest magnitude."""
    n_samples = maps.shape[0] if samples_first else maps.shape[1]
    columns = np.empty(strip.shape[1], np.float32)
    magnitude, largest = 0.0, np.float32(0.0)
    products[:] = 0.0
    for start in range(0, maps.shape[2], _STRIP):
        width = min(_STRIP, maps.shape[2] - start)
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
                of_row += abs(value)
                largest = max(largest, abs(value))
            magnitude += of_row
        for d in range(width):
            columns[d] /= np.float32(n_samples)
        for i in range(n_samples):
            row = strip[i]
            for d in range(width):
                row[d] -= columns[d]
        _add_products(strip, width, products)
    return magnitude, largest


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
        tolerance: Relative rise of the captured variance at which a filter stops.
        max_rounds: Largest number of rounds.
        magnitude: Filled with the sum of absolute values, float64 [P].
        largest: Filled with the largest absolute value, float32 [P].
        variance: Filled with the centred sum of squares, float64 [P].
        points: Filled, float64 [P, N, 2].
    """
    n_samples = maps.shape[0] if samples_first else maps.shape[1]
    padded = start.shape[1]
    strip = np.zeros((padded, _STRIP), np.float32)
    products = np.empty((padded, padded))
    matrix = np.empty((padded, padded), np.float32)
    scores = np.empty((padded, BLOCK), np.float32)
    block = np.empty((BLOCK, padded), np.float32)
    image = np.empty((BLOCK, padded), np.float32)
    for problem in range(first, stop):
        magnitude[problem], largest[problem] = _products(
            maps, problem, samples_first, strip, products
        )
        total = 0.0
        for i in range(padded):
            total += products[i, i]
        variance[problem] = total
        points[problem] = 0.0
        if not (total > 0.0 and total < np.inf):
            continue
        for i in range(padded):
            for j in range(i + 1):
                matrix[i, j] = matrix[j, i] = np.float32(products[i, j] / total)
        block[:] = start
        previous = 0.0
        for round_ in range(max_rounds):
            advance(matrix, 1, block, scores, image)
            values, rotation = rayleigh_ritz(block, image)
            captured = values[0] + values[1]
            if captured - previous <= tolerance * captured or round_ == max_rounds - 1:
                break
            previous = captured
            next_block(image, rotation, block)
        # A direction of the samples' space is a unit vector of coordinates; the root of its
        # squared singular value brings it to the coordinates' scale.
        for axis in range(2):
            scale = math.sqrt(math.sqrt(max(values[axis], 0.0)) * total)
            for i in range(n_samples):
                coordinate = np.float32(0.0)
                for k in range(BLOCK):
                    coordinate += rotation[k, axis] * block[k, i]
                points[problem, i, axis] = coordinate * scale
