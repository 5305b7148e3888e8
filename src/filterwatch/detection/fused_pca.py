"""The CPU's form of `pca`: one filter at a time, compiled.

The same block power iteration. Its first rounds see a part of the samples. A filter's maps are
gathered, centred and projected by one thread in one go, while the cache still has them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from filterwatch.detection.fused_kmeans import FAST_MATH, Array
from filterwatch.detection.fused_power import BLOCK, advance_block, leading_plane


@njit(cache=True, fastmath=FAST_MATH, nogil=True, forceinline=True)
def _condition(
    x: Array, total: Array, mean: Array, extremes: Array
) -> tuple[float, np.float32, float]:
    """Bring samples [N, D] to unit size and centre them, in place.

    Returns:
        The sum of absolute values before, the largest of them, and the sum of squares after.
    """
    n_samples, width = x.shape
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
    if absolute == np.inf and extreme < np.inf:  # a row's sum left the range of float32
        absolute = 0.0
        for i in range(n_samples):
            for d in range(width):
                absolute += abs(float(x[i, d]))
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
    return absolute, extreme, squares


@njit(cache=True, fastmath=FAST_MATH, nogil=True)
def leading_scores(
    maps: Array,
    samples_first: bool,
    first: int,
    stop: int,
    start: Array,
    tolerance: float,
    max_rounds: int,
    pilot_step: int,
    pilot_rounds: int,
    least_variance: float,
    magnitude: Array,
    largest: Array,
    variance: Array,
    points: Array,
) -> None:
    """Project each filter's samples onto their two leading principal components.

    Args:
        maps: Float32 [N, P, D]; or [P, N, D], which are centred and brought to unit size in place.
        samples_first: Which of the two.
        first: First filter.
        stop: One past the last.
        start: Orthonormal rows to start from, float32 [BLOCK, D]; zeros beyond D rows.
        tolerance: Share of the captured variance that may be missed.
        max_rounds: Largest number of rounds.
        pilot_step: The pilot rounds see every so many-th sample.
        pilot_rounds: Number of pilot rounds.
        least_variance: Filters with no more than that have points 0.
        magnitude: Filled with the sum of absolute values, float64 [P].
        largest: Filled with the largest absolute value, float32 [P].
        variance: Filled with the sum of squares, in units of the largest value, float64 [P].
        points: Filled, in units of the largest value, float64 [P, N, 2].
    """
    n_samples = maps.shape[0] if samples_first else maps.shape[1]
    width = maps.shape[2]
    gathered = np.empty((n_samples if samples_first else 0, width), np.float32)
    total = np.empty(width)
    mean, extremes = np.empty(width, np.float32), np.empty(width, np.float32)
    scores = np.empty((n_samples, BLOCK), np.float32)
    block = np.empty((BLOCK, width), np.float32)
    image = np.empty((BLOCK, width), np.float32)
    directions = np.empty((2, width), np.float32)
    for problem in range(first, stop):
        if samples_first:
            for i in range(n_samples):
                gathered[i] = maps[i, problem]
            x = gathered
        else:
            x = maps[problem]
        magnitude[problem], largest[problem], variance[problem] = _condition(
            x, total, mean, extremes
        )
        if not (variance[problem] > least_variance and variance[problem] < np.inf):
            points[problem] = 0.0
            continue
        block[:] = start
        advance_block(x, pilot_step, pilot_rounds, block, scores, image)
        leading_plane(
            x, variance[problem], tolerance, max_rounds,
            block, scores, image, directions, points[problem],
        )  # fmt: skip
