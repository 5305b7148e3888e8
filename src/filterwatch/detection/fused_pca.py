"""The CPU's form of `pca`: one filter at a time, its maps read once a round.

The same block power iteration, compiled. Rows of the samples are taken four at a time and meet the
block's vectors four at a time: sixteen dot products share eight loads, and while the four rows are
still in the first-level cache their contribution to the next block is added.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from filterwatch.detection.fused_kmeans import FAST_MATH, Array

# Vectors iterated at once, a multiple of four.
BLOCK = 16


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def condition(
    samples: Array, first: int, stop: int, magnitude: Array, largest: Array, variance: Array
) -> None:
    """Bring samples to unit size and centre them, in place.

    Args:
        samples: Float32 [P, N, D].
        first: First problem.
        stop: One past the last.
        magnitude: Filled with the sum of absolute values before, float64 [P].
        largest: Filled with the largest absolute value before, float32 [P].
        variance: Filled with the sum of squares after, float64 [P].
    """
    _, n_samples, width = samples.shape
    total = np.empty(width)
    mean = np.empty(width, np.float32)
    for problem in range(first, stop):
        x = samples[problem]
        extreme, absolute = np.float32(0.0), 0.0
        for i in range(n_samples):
            row = x[i]
            of_row = np.float32(0.0)
            for d in range(width):
                extreme = max(extreme, abs(row[d]))
                of_row += abs(row[d])
            absolute += of_row
        magnitude[problem], largest[problem] = absolute, extreme
        scale = np.float32(1.0) / extreme if extreme > 0 else np.float32(1.0)
        total[:] = 0.0
        for i in range(n_samples):
            row = x[i]
            for d in range(width):
                row[d] *= scale
                total[d] += row[d]
        for d in range(width):
            mean[d] = np.float32(total[d] / n_samples)
        squares = 0.0
        for i in range(n_samples):
            row = x[i]
            of_row = np.float32(0.0)
            for d in range(width):
                row[d] -= mean[d]
                of_row += row[d] * row[d]
            squares += of_row
        variance[problem] = squares


@njit(inline="always", fastmath=FAST_MATH)
def dots_of_four(
    x0: Array,
    x1: Array,
    x2: Array,
    x3: Array,
    v0: Array,
    v1: Array,
    v2: Array,
    v3: Array,
    width: int,
) -> tuple[Any, ...]:
    """Return the sixteen dot products of four rows with four vectors, row after row."""
    s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = np.float32(0.0)
    s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = np.float32(0.0)
    for d in range(width):
        p0, p1, p2, p3 = x0[d], x1[d], x2[d], x3[d]
        q0, q1, q2, q3 = v0[d], v1[d], v2[d], v3[d]
        s00 += p0 * q0
        s01 += p0 * q1
        s02 += p0 * q2
        s03 += p0 * q3
        s10 += p1 * q0
        s11 += p1 * q1
        s12 += p1 * q2
        s13 += p1 * q3
        s20 += p2 * q0
        s21 += p2 * q1
        s22 += p2 * q2
        s23 += p2 * q3
        s30 += p3 * q0
        s31 += p3 * q1
        s32 += p3 * q2
        s33 += p3 * q3
    return s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def advance(x: Array, step: int, block: Array, scores: Array, image: Array) -> None:
    """Fill the scores [N, b] of every ``step``-th row on the block [b, D], and its image [b, D]."""
    n_samples, width = x.shape
    n_rows = (n_samples + step - 1) // step
    image[:] = np.float32(0.0)
    for at in range(0, n_rows - n_rows % 4, 4):
        x0, x1, x2, x3 = x[at * step], x[(at + 1) * step], x[(at + 2) * step], x[(at + 3) * step]
        for j in range(0, block.shape[0], 4):
            v0, v1, v2, v3 = block[j], block[j + 1], block[j + 2], block[j + 3]
            s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33 = (
                dots_of_four(x0, x1, x2, x3, v0, v1, v2, v3, width)
            )
            t0, t1, t2, t3 = scores[at], scores[at + 1], scores[at + 2], scores[at + 3]
            t0[j], t0[j + 1], t0[j + 2], t0[j + 3] = s00, s01, s02, s03
            t1[j], t1[j + 1], t1[j + 2], t1[j + 3] = s10, s11, s12, s13
            t2[j], t2[j + 1], t2[j + 2], t2[j + 3] = s20, s21, s22, s23
            t3[j], t3[j + 1], t3[j + 2], t3[j + 3] = s30, s31, s32, s33
            w0, w1, w2, w3 = image[j], image[j + 1], image[j + 2], image[j + 3]
            for d in range(width):
                p0, p1, p2, p3 = x0[d], x1[d], x2[d], x3[d]
                w0[d] += s00 * p0 + s10 * p1 + s20 * p2 + s30 * p3
                w1[d] += s01 * p0 + s11 * p1 + s21 * p2 + s31 * p3
                w2[d] += s02 * p0 + s12 * p1 + s22 * p2 + s32 * p3
                w3[d] += s03 * p0 + s13 * p1 + s23 * p2 + s33 * p3
    for at in range(n_rows - n_rows % 4, n_rows):
        row = x[at * step]
        for j in range(block.shape[0]):
            vector, target = block[j], image[j]
            score = np.float32(0.0)
            for d in range(width):
                score += row[d] * vector[d]
            scores[at, j] = score
            for d in range(width):
                target[d] += score * row[d]


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def _dot(a: Array, b: Array) -> Any:
    result = np.float32(0.0)
    for d in range(a.shape[0]):
        result += a[d] * b[d]
    return result


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def _add_multiple(target: Array, factor: Any, vector: Array) -> None:
    for d in range(target.shape[0]):
        target[d] += factor * vector[d]


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def rayleigh_ritz(block: Array, image: Array) -> tuple[Array, Array]:
    """Return the Ritz values, largest first, and how the block combines to their directions."""
    size = block.shape[0]
    gram = np.empty((size, size))
    for j in range(size):
        for k in range(j + 1):
            gram[j, k] = gram[k, j] = _dot(block[j], image[k])
    values, rotation = np.linalg.eigh(gram)
    return values[::-1].copy(), rotation[:, ::-1].astype(np.float32)


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def next_block(image: Array, rotation: Array, block: Array) -> None:
    """Fill the block with an orthonormal basis of the image, leading directions first."""
    size = block.shape[0]
    for j in range(size):
        vector = block[j]
        vector[:] = np.float32(0.0)
        for k in range(size):
            _add_multiple(vector, rotation[k, j], image[k])
        before = math.sqrt(_dot(vector, vector))
        for _ in range(2):
            for k in range(j):
                _add_multiple(vector, -_dot(block[k], vector), block[k])
        after = math.sqrt(_dot(vector, vector))
        # What rounding leaves of a vector that depends on those before is no direction.
        vector *= np.float32(1.0 / after) if after > 1e-5 * before else np.float32(0.0)


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def leading_scores(
    samples: Array,
    first: int,
    stop: int,
    start: Array,
    tolerance: float,
    max_rounds: int,
    pilot_step: int,
    pilot_rounds: int,
    points: Array,
) -> None:
    """Project each problem's samples onto their two leading principal components.

    Args:
        samples: Centred, float32 [P, N, D].
        first: First problem.
        stop: One past the last.
        start: Orthonormal rows to start from, float32 [BLOCK, D]; zeros beyond D rows.
        tolerance: Relative rise of the captured variance at which a problem stops.
        max_rounds: Largest number of rounds.
        pilot_step: The pilot rounds see every so many-th sample.
        pilot_rounds: Number of pilot rounds.
        points: Filled, float64 [P, N, 2].
    """
    _, n_samples, width = samples.shape
    scores = np.empty((n_samples, BLOCK), np.float32)
    block = np.empty((BLOCK, width), np.float32)
    image = np.empty((BLOCK, width), np.float32)
    for problem in range(first, stop):
        x = samples[problem]
        block[:] = start
        for _ in range(pilot_rounds):
            advance(x, pilot_step, block, scores, image)
            _, rotation = rayleigh_ritz(block, image)
            next_block(image, rotation, block)
        previous = 0.0
        for round_ in range(max_rounds):
            advance(x, 1, block, scores, image)
            values, rotation = rayleigh_ritz(block, image)
            captured = values[0] + values[1]
            if captured - previous <= tolerance * captured or round_ == max_rounds - 1:
                break
            previous = captured
            next_block(image, rotation, block)
        along_x, along_y = rotation[:, 0].copy(), rotation[:, 1].copy()
        for i in range(n_samples):
            points[problem, i, 0] = _dot(scores[i], along_x)
            points[problem, i, 1] = _dot(scores[i], along_y)
