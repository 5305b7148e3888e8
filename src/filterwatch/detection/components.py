"""Feature maps to points in the plane, by principal component analysis (paper, section 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from filterwatch.detection.kernels.power_iteration import (
    BLOCK,
    MAX_ROUNDS,
    PILOT_ROUNDS,
    PILOT_SAMPLES,
    leading_scores,
)
from filterwatch.detection.kernels.threads import spread

# Of what two directions capture, the compiled form may miss that share. The other one stops when a
# round adds less than that.
MOST_MISSED = 3e-5
LEAST_GAIN = {torch.float32: 1e-4, torch.float64: 1e-13}
# Vectors iterated at once by tensor operations, where a round costs little more with many of them.
# The error shrinks by (variance 17 / variance 2) a round, squared.
_BLOCK = 16
# A covariance of at most this width is worth forming: it is smaller than the data by far.
_MAX_COVARIANCE = 128


class Conditioned(NamedTuple):
    """What P problems were like before their samples were brought to unit size and centred.

    Attributes:
        magnitude: Sum of absolute values, [P], float64; NaN or infinite where a value is.
        largest: Largest absolute value, [P].
        variance: Sum of squares after, [P], float64.
    """

    magnitude: Tensor
    largest: Tensor
    variance: Tensor


def principal_components(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Project each problem's samples onto their two leading principal components.

    Block power iteration with Rayleigh-Ritz, compiled for float32 on a CPU. Each problem stops by
    itself. The sign of a component makes its coordinate of largest magnitude positive.

    Args:
        samples: [P, N, D], float32 or float64, finite. It is centred and rescaled in place.

    Returns:
        Points [P, N, 2], float64 — the second coordinate is 0 where D is 1 — and the share of the
        variance that each component explains [P, 2], 0 for a problem without variance.
    """
    points, conditioned = reduce_samples(samples)
    scores = points / conditioned.largest.where(conditioned.largest > 0, 1.0).view(-1, 1, 1)
    variance = conditioned.variance.where(conditioned.variance > 0, 1.0)
    return points, scores.square().sum(1) / variance.unsqueeze(1)


def reduce_samples(samples: Tensor) -> tuple[Tensor, Conditioned]:
    """Return the points of samples [P, N, D], and what they were like; see `principal_components`.

    Samples that are not finite are known by their magnitude.
    """
    result = project_compiled(samples, samples_first=False)
    if result is not None:
        return result
    conditioned = _condition(samples)
    n_problems, n_samples, width = samples.shape
    alive = conditioned.variance > _least_variance(samples.dtype, n_samples * width)
    points = samples.new_zeros(n_problems, n_samples, 2, dtype=torch.float64)
    if bool(alive.any()):
        living = samples if bool(alive.all()) else samples[alive]
        points[alive] = _project(living, _start(width, _BLOCK).to(samples))
    return _in_units(points, conditioned), conditioned


def project_compiled(maps: Tensor, *, samples_first: bool) -> tuple[Tensor, Conditioned] | None:
    """Do `reduce_samples` in one go for each filter, where maps are contiguous float32 on a CPU.

    Args:
        maps: [N, P, D], which stay as they are; or [P, N, D], which may be overwritten.
        samples_first: Which of the two.

    Returns:
        Points [P, N, 2] and what the samples were like; ``None`` for other maps.
    """
    if not _is_compiled(maps):
        return None
    n_samples, n_problems, width = maps.shape if samples_first else maps.transpose(0, 1).shape
    magnitude, variance = np.empty(n_problems), np.empty(n_problems)
    largest = np.empty(n_problems, np.float32)
    points = np.empty((n_problems, n_samples, 2))
    array, start = maps.numpy(), np.zeros((BLOCK, width), np.float32)
    start[:width] = _start(width, BLOCK).T.numpy()
    limits = (MOST_MISSED, _least_variance(maps.dtype, n_samples * width))

    def work(first: int, stop: int) -> None:
        leading_scores(
            array, samples_first, first, stop, start, *limits, magnitude, largest, variance, points
        )

    spread(work, n_problems)
    conditioned = Conditioned(*map(torch.from_numpy, (magnitude, largest, variance)))
    return _in_units(torch.from_numpy(points), conditioned), conditioned


def _is_compiled(samples: Tensor) -> bool:
    return (
        samples.device.type == "cpu" and samples.dtype == torch.float32 and samples.is_contiguous()
    )


def _least_variance(dtype: torch.dtype, n_values: int) -> float:
    """Return the sum of squares up to which so many values only round around a constant."""
    return 1e3 * n_values * torch.finfo(dtype).eps ** 2


def _start(width: int, size: int) -> Tensor:
    """Return up to so many orthonormal columns [D, b] to start from, float64."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(width, min(size, width), generator=generator, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(start)[0]
    return basis


def _in_units(points: Tensor, conditioned: Conditioned) -> Tensor:
    """Return points [P, N, 2] in the samples' unit, the farthest one on each axis positive."""
    extreme = points.gather(1, points.abs().argmax(1, keepdim=True))
    signed = points * torch.where(extreme < 0, -1.0, 1.0)
    return signed * conditioned.largest.double().view(-1, 1, 1)


def _condition(samples: Tensor) -> Conditioned:
    """Bring samples [P, N, D] to unit size and centre them, in place.

    Unit size first, so that no square leaves the range of the precision.
    """
    absolute = samples.abs().sum(2).double().sum(1)
    if not bool(torch.isfinite(absolute).all()):
        # Unless it was the sum that left the range of the precision.
        absolute = samples.double().abs().sum((1, 2))
    # One dimension after the other, which is vectorised; both at once is not.
    extreme = samples.amax(2).amax(1).maximum(-samples.amin(2).amin(1))
    samples.div_(extreme.where(extreme > 0, 1.0).view(-1, 1, 1))
    samples.sub_(samples.mean(1, keepdim=True))
    squares = torch.linalg.vector_norm(samples, dim=(1, 2)).double().square()
    return Conditioned(absolute, extreme, squares)


def _project(samples: Tensor, start: Tensor) -> Tensor:
    """Return the coordinates [P, N, 2] of centred samples [P, N, D] on their leading directions."""
    directions = _leading_directions(samples, start)[:, :, :2]
    scores = (samples @ torch.nn.functional.normalize(directions, dim=1)).double()
    return torch.nn.functional.pad(scores, (0, 2 - scores.shape[2]))


def _leading_directions(samples: Tensor, start: Tensor) -> Tensor:
    """Return an orthonormal basis [P, D, b] whose first two columns are the leading directions."""
    n_problems, n_samples, width = samples.shape
    block = start.expand(n_problems, -1, -1)
    # The covariance has the directions of the samples, and their squared singular values.
    matrix = samples.mT @ samples if width <= min(_MAX_COVARIANCE, n_samples) else samples
    if len(matrix[0]) > 2 * PILOT_SAMPLES:
        pilot = matrix[:, :: n_samples // PILOT_SAMPLES]
        for _ in range(PILOT_ROUNDS):
            block = _improved(pilot, block)[0]
    directions = torch.empty_like(block)
    left = torch.arange(n_problems, device=samples.device)
    previous = torch.zeros(n_problems, dtype=torch.float64, device=samples.device)
    for _ in range(MAX_ROUNDS):
        improved, ritz, captured = _improved(matrix, block)
        done = captured - previous <= LEAST_GAIN[samples.dtype] * captured
        directions[left[done]] = ritz[done]
        if bool(done.all()):
            return directions
        if 2 * int(done.sum()) >= len(done):  # worth the copy
            left, matrix, improved, captured, ritz = (
                kept[~done] for kept in (left, matrix, improved, captured, ritz)
            )
        block, previous = improved, captured
    directions[left] = ritz
    return directions


def _improved(matrix: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take one round of power iteration on matrices [P, M, D] from orthonormal blocks [P, D, b].

    Returns the next block; the directions of the Ritz values in the given one, largest first; and
    what the first two of them capture [P].
    """
    scores = matrix @ block  # [P, M, b]
    values, rotation = torch.linalg.eigh((scores.mT @ scores).double())
    values, rotation = values.flip(1).clamp(min=0), rotation.flip(2).to(block.dtype)
    image = matrix.mT @ (scores @ rotation)
    norm = torch.linalg.vector_norm(image, dim=1, keepdim=True)
    image = image / norm.where(norm > 0, 1.0)
    # A Cholesky factor of the Gram matrix orthonormalises; the addend is for dependent columns.
    gram = (image.mT @ image).double()
    gram.diagonal(dim1=1, dim2=2).add_(64 * torch.finfo(image.dtype).eps)
    factor = torch.linalg.cholesky(gram).to(image.dtype)
    improved = torch.linalg.solve_triangular(factor.mT, image, upper=True, left=False)
    return improved, block @ rotation, values[:, :2].sum(1)
