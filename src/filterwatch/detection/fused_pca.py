"""The CPU's form of `pca`: one filter at a time, compiled.

The same block power iteration. Its first rounds see a part of the samples.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from filterwatch.detection.fused_kmeans import FAST_MATH, Array
from filterwatch.detection.fused_power import BLOCK, advance_block, leading_plane


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
    extremes = np.empty(width, np.float32)
    for problem in range(first, stop):
        x = samples[problem]
        absolute = 0.0
        total[:] = 0.0
        extremes[:] = np.float32(0.0)
        for i in range(n_samples):
            row = x[i]
            of_row = np.float32(0.0)
            for d in range(width):
                size = abs(row[d])
                of_row += size
                # One for each column: a maximum over the row would be taken one by one.
                extremes[d] = size if size > extremes[d] else extremes[d]
                total[d] += row[d]
            absolute += of_row
        extreme = extremes.max()
        magnitude[problem], largest[problem] = absolute, extreme
        scale = np.float32(1.0) / extreme if extreme > 0 else np.float32(1.0)
        for d in range(width):
            mean[d] = np.float32(total[d] / n_samples * scale)
        squares = 0.0
        for i in range(n_samples):
            row = x[i]
            of_row = np.float32(0.0)
            for d in range(width):
                row[d] = row[d] * scale - mean[d]
                of_row += row[d] * row[d]
            squares += of_row
        variance[problem] = squares


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def leading_scores(
    samples: Array,
    variance: Array,
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
        variance: Their sums of squares, float64 [P].
        first: First problem.
        stop: One past the last.
        start: Orthonormal rows to start from, float32 [BLOCK, D]; zeros beyond D rows.
        tolerance: Share of the captured variance that may be missed.
        max_rounds: Largest number of rounds.
        pilot_step: The pilot rounds see every so many-th sample.
        pilot_rounds: Number of pilot rounds.
        points: Filled, float64 [P, N, 2].
    """
    _, n_samples, width = samples.shape
    scores = np.empty((n_samples, BLOCK), np.float32)
    block = np.empty((BLOCK, width), np.float32)
    image = np.empty((BLOCK, width), np.float32)
    directions = np.empty((2, width), np.float32)
    for problem in range(first, stop):
        x = samples[problem]
        block[:] = start
        advance_block(x, pilot_step, pilot_rounds, block, scores, image)
        leading_plane(
            x, variance[problem], tolerance, max_rounds,
            block, scores, image, directions, points[problem],
        )  # fmt: skip
