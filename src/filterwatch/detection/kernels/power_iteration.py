"""Two principal components of each filter's maps, by block power iteration.

A filter's maps are gathered, centered and projected by one thread in one go, while the cache still
has them; the first rounds see a part of the samples. Rows are read once a round: they are taken
four at a time and meet the block's vectors four at a time, so that sixteen dot products share eight
loads, and while the four rows are still in the first-level cache their contribution to the next
block is added.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from filterwatch.detection.kernels.compiled import Array, kernel, kernel_part, spread

# Vectors iterated at once, a multiple of four. With more of them fewer rounds are needed, and each
# takes longer.
BLOCK = 8
# Once a block is right, no direction outside it varies more than its last one; before that, this
# one is taken as the bound.
_BOUND = BLOCK // 2
MAX_ROUNDS = 50
# Share of what two directions capture that may be missed.
MOST_MISSED = 3e-5
# The first rounds see this many of the samples: a start nearly as good for a share of the price.
PILOT_SAMPLES = 128
PILOT_ROUNDS = 2


@kernel_part
def _advance(x: Array, step: int, block: Array, scores: Array, image: Array) -> None:
    """Fill the scores [N, b] of every ``step``-th row on the block [b, D], and its image [b, D]."""
    n_samples, width = x.shape
    n_rows = (n_samples + step - 1) // step
    image[:] = np.float32(0.0)
    for at in range(0, n_rows - n_rows % 4, 4):
        x0, x1, x2, x3 = x[at * step], x[(at + 1) * step], x[(at + 2) * step], x[(at + 3) * step]
        for j in range(0, block.shape[0], 4):
            v0, v1, v2, v3 = block[j], block[j + 1], block[j + 2], block[j + 3]
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


@kernel_part
def _dot(a: Array, b: Array) -> Any:
    result = np.float32(0.0)
    for d in range(a.shape[0]):
        result += a[d] * b[d]
    return result


@kernel_part
def _add_multiple(target: Array, factor: Any, vector: Array) -> None:
    for d in range(target.shape[0]):
        target[d] += factor * vector[d]


@kernel_part
def _scale(vector: Array, factor: Any) -> None:
    for d in range(vector.shape[0]):
        vector[d] *= factor


@kernel_part
def _rayleigh_ritz(block: Array, image: Array) -> tuple[Array, Array]:
    """Return the Ritz values, largest first, and how the block combines to their directions."""
    size = block.shape[0]
    gram = np.empty((size, size))
    for j in range(size):
        for k in range(j + 1):
            gram[j, k] = gram[k, j] = _dot(block[j], image[k])
    values, rotation = np.linalg.eigh(gram)
    return values[::-1].copy(), rotation[:, ::-1].astype(np.float32)


@kernel_part
def _next_block(image: Array, rotation: Array, block: Array) -> None:
    """Fill the block with an orthonormal basis of the image, leading directions first."""
    size = block.shape[0]
    for j in range(size):
        vector = block[j]
        vector[:] = np.float32(0.0)
        for k in range(size):
            _add_multiple(vector, rotation[k, j], image[k])
    for j in range(size):  # orthonormal, each to those before it
        vector = block[j]
        before = math.sqrt(_dot(vector, vector))
        for _ in range(2):
            for k in range(j):
                _add_multiple(vector, -_dot(block[k], vector), block[k])
        after = math.sqrt(_dot(vector, vector))
        # What rounding leaves of a vector that depends on those before is no direction.
        _scale(vector, np.float32(1.0 / after) if after > 1e-5 * before else np.float32(0.0))


@kernel_part
def _improve_two(
    block: Array, image: Array, values: Array, rotation: Array, left: float, directions: Array
) -> tuple[float, float]:
    """Fill two orthonormal directions [2, D], one shifted power step beyond the Ritz vectors.

    Returns how much variance the two leading Ritz vectors miss, by their residuals, and how much
    the new directions do, which are closer by the power step's damping. No direction outside the
    block is taken to vary less than ``left``.
    """
    left_out = max(values[_BOUND], left)
    shift = 0.5 * max(values[-1], 0.0)
    missed = 0.0
    for axis in range(2):
        vector = directions[axis]
        vector[:] = np.float32(0.0)
        for k in range(block.shape[0]):
            _add_multiple(vector, rotation[k, axis], image[k])
        residual = max(float(_dot(vector, vector)) - values[axis] ** 2, 0.0)
        if residual > 0.0:
            gap = values[axis] - left_out
            share = residual / (gap * values[axis]) if gap > 0.0 else np.inf
            missed = max(missed, share)
        for k in range(block.shape[0]):
            _add_multiple(vector, np.float32(-shift) * rotation[k, axis], block[k])
    for axis in range(2):
        vector = directions[axis]
        for _ in range(2 * axis):
            _add_multiple(vector, -_dot(directions[0], vector), directions[0])
        norm = math.sqrt(_dot(vector, vector))
        if not norm > 0.0:
            return missed, np.inf
        _scale(vector, np.float32(1.0 / norm))
    damping = (left_out - shift) / (values[1] - shift) if values[1] > shift else np.inf
    return missed, missed * damping * damping


@kernel_part
def _score_on_two(x: Array, directions: Array, points: Array) -> None:
    """Fill the coordinates [N, 2] of the rows on two directions, turned to principal axes."""
    u, v = directions[0], directions[1]
    xx, xy, yy = 0.0, 0.0, 0.0
    for i in range(x.shape[0]):
        row = x[i]
        along_x, along_y = np.float32(0.0), np.float32(0.0)
        for d in range(row.shape[0]):
            along_x += row[d] * u[d]
            along_y += row[d] * v[d]
        points[i, 0], points[i, 1] = along_x, along_y
        xx += points[i, 0] ** 2
        xy += points[i, 0] * points[i, 1]
        yy += points[i, 1] ** 2
    angle = 0.5 * math.atan2(2.0 * xy, xx - yy)
    cosine, sine = math.cos(angle), math.sin(angle)
    for i in range(x.shape[0]):
        along_x, along_y = points[i, 0], points[i, 1]
        points[i, 0] = cosine * along_x + sine * along_y
        points[i, 1] = cosine * along_y - sine * along_x


@kernel_part
def _project(x: Array, variance: float, tolerance: float, start: Array, points: Array) -> None:
    """Fill the coordinates [N, 2] of the rows [N, D] on the two leading right singular vectors."""
    n_samples, width = x.shape
    block, scores = start.copy(), np.empty((n_samples, BLOCK), np.float32)
    image, directions = np.empty_like(block), np.empty((2, width), np.float32)
    step = max(1, n_samples // PILOT_SAMPLES)
    n_pilots = PILOT_ROUNDS if step > 1 else 0
    left_dimensions = max(min(n_samples, width) - BLOCK, 1)
    for round_ in range(n_pilots + MAX_ROUNDS):
        _advance(x, step if round_ < n_pilots else 1, block, scores, image)
        values, rotation = _rayleigh_ritz(block, image)
        if round_ >= n_pilots:
            # What the block misses may be spread at best over all the dimensions that are left.
            outside = max(variance - values.sum(), 0.0) / left_dimensions
            missed, missed_next = _improve_two(block, image, values, rotation, outside, directions)
            if missed <= tolerance or round_ == n_pilots + MAX_ROUNDS - 1:
                along_x, along_y = rotation[:, 0].copy(), rotation[:, 1].copy()
                for i in range(points.shape[0]):
                    points[i, 0] = _dot(scores[i], along_x)
                    points[i, 1] = _dot(scores[i], along_y)
                return
            if missed_next <= tolerance:  # two vectors are a fraction of a round
                _score_on_two(x, directions, points)
                return
        _next_block(image, rotation, block)


@kernel_part
def _condition(
    x: Array, total: Array, mean: Array, extremes: Array
) -> tuple[float, np.float32, float]:
    """Bring samples [N, D] to unit size and center them, in place.

    Returns the sum of absolute values before, the largest of them, and the sum of squares after.
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


def is_compiled(maps: Tensor) -> bool:
    """Return whether `project_filters` takes such maps; others are for tensor operations."""
    return maps.device.type == "cpu" and maps.dtype == torch.float32 and maps.is_contiguous()


def project_filters(maps: Tensor, *, samples_first: bool) -> tuple[Tensor, Tensor]:
    """Project each filter's maps onto their two leading principal components.

    Args:
        maps: Contiguous float32 on a CPU: [N, P, D]; or [P, N, D], which are overwritten.
        samples_first: Which of the two.

    Returns:
        Points [P, N, 2], and the sums of absolute values [P], float64: NaN or infinite for a filter
        with a value that is, and whose points are 0 like those of one without variance.
    """
    n_samples, n_problems, width = maps.shape if samples_first else maps.transpose(0, 1).shape
    magnitude, largest = np.empty(n_problems), np.empty(n_problems, np.float32)
    points = np.empty((n_problems, n_samples, 2))
    array, start = maps.numpy(), np.zeros((BLOCK, width), np.float32)
    start[:width] = start_directions(width, BLOCK).T.numpy()
    limits = (MOST_MISSED, least_variance(maps.dtype, n_samples * width))

    def work(first: int, stop: int) -> None:
        project_range(array, samples_first, first, stop, start, *limits, magnitude, largest, points)

    spread(work, n_problems)
    in_map_units = in_units(torch.from_numpy(points), torch.from_numpy(largest))
    return in_map_units, torch.from_numpy(magnitude)


def start_directions(width: int, size: int) -> Tensor:
    """Return up to so many orthonormal columns [D, b] to start from, float64."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(width, min(size, width), generator=generator, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(start)[0]
    return basis


def least_variance(dtype: torch.dtype, n_values: int) -> float:
    """Return the sum of squares up to which so many values are constant but for rounding."""
    return 1e3 * n_values * torch.finfo(dtype).eps ** 2


def in_units(points: Tensor, largest: Tensor) -> Tensor:
    """Return points [P, N, 2] in units of ``largest`` [P], the farthest on each axis positive."""
    extreme = points.gather(1, points.abs().argmax(1, keepdim=True))
    signed = points * torch.where(extreme < 0, -1.0, 1.0)
    return signed * largest.double().view(-1, 1, 1)


@kernel
def project_range(
    maps: Array,
    samples_first: bool,
    first: int,
    stop: int,
    start: Array,
    tolerance: float,
    least_variance: float,
    magnitude: Array,
    largest: Array,
    points: Array,
) -> None:
    """Do `project_filters` for the filters ``first`` … ``stop`` - 1.

    ``start`` [BLOCK, D] has zeros beyond D rows; points are in units of the filter's ``largest``.
    """
    n_samples = maps.shape[0] if samples_first else maps.shape[1]
    width = maps.shape[2]
    gathered = np.empty((n_samples if samples_first else 0, width), np.float32)
    total = np.empty(width)
    mean, extremes = np.empty(width, np.float32), np.empty(width, np.float32)
    for problem in range(first, stop):
        if samples_first:
            for i in range(n_samples):
                row, of_sample = gathered[i], maps[i, problem]
                for d in range(width):
                    row[d] = of_sample[d]
            x = gathered
        else:
            x = maps[problem]
        magnitude[problem], largest[problem], variance = _condition(x, total, mean, extremes)
        points[problem] = 0.0
        if variance > least_variance and variance < np.inf:
            _project(x, variance, tolerance, start, points[problem])
