"""Feature maps to points in the plane, by principal component analysis (paper, section 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from filterwatch.detection import fused_few, fused_pca, fused_power
from filterwatch.detection.fused_kmeans import Array
from filterwatch.detection.threads import spread

# Vectors iterated at once by tensor operations, where a round costs little more with many of them.
# The error shrinks by (variance 17 / variance 2) a round, squared.
_BLOCK = 16
_MAX_ROUNDS = 50
# Of what two directions capture, the compiled form may miss that share.
_MOST_MISSED = 3e-5
# A covariance of at most this width is worth forming: it is smaller than the data by far.
_MAX_COVARIANCE = 128
# The first rounds see this many of the samples: a start nearly as good for a share of the price.
_PILOT_SAMPLES = 128
_PILOT_ROUNDS = 2
# Up to so many samples, the matrix of their products is the shorter way.
_FEW = 128
# Between these magnitudes the sum of squares of a layer's maps stays within float32.
_SAFE = (1e-12, 1e12)


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


def principal_components(
    samples: Tensor, *, tolerance: float | None = None, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Project each problem's samples onto their two leading principal components.

    Block power iteration with Rayleigh-Ritz, compiled for float32 on a CPU. Each problem stops by
    itself. The sign of a component makes its coordinate of largest magnitude positive.

    Args:
        samples: [P, N, D], float32 or float64, finite. It is centred and rescaled in place.
        tolerance: Share of the captured variance at which to stop: in the compiled form the most
            that may be missed, by default 3e-5; in the other what a round adds, by default 1e-4 in
            float32 and 1e-13 in float64.
        seed: Seed of the starting block.

    Returns:
        Points [P, N, 2], float64 — the second coordinate is 0 where D is 1 — and the share of the
        variance that each component explains [P, 2], 0 for a problem without variance.
    """
    points, conditioned = reduce_samples(samples, tolerance=tolerance, seed=seed)
    scores = points / conditioned.largest.where(conditioned.largest > 0, 1.0).view(-1, 1, 1)
    variance = conditioned.variance.where(conditioned.variance > 0, 1.0)
    return points, scores.square().sum(1) / variance.unsqueeze(1)


def reduce_samples(
    samples: Tensor, *, tolerance: float | None = None, seed: int = 0
) -> tuple[Tensor, Conditioned]:
    """Return the points of samples [P, N, D], and what they were like; see `principal_components`.

    Samples that are not finite are told by their magnitude.
    """
    result = project_compiled(samples, samples_first=False, tolerance=tolerance, seed=seed)
    if result is not None:
        return result
    conditioned = _condition(samples)
    n_problems, n_samples, width = samples.shape
    alive = conditioned.variance > _least_variance(samples.dtype, n_samples * width)
    points = samples.new_zeros(n_problems, n_samples, 2, dtype=torch.float64)
    if bool(alive.any()):
        living = samples if bool(alive.all()) else samples[alive]
        start = _start(width, _BLOCK, seed).to(samples)
        if tolerance is None:
            tolerance = 1e-4 if samples.dtype == torch.float32 else 1e-13
        points[alive] = _project(living, tolerance, start)
    return _signed(points) * conditioned.largest.double().view(-1, 1, 1), conditioned


def project_compiled(
    maps: Tensor, *, samples_first: bool, tolerance: float | None = None, seed: int = 0
) -> tuple[Tensor, Conditioned] | None:
    """Condition and project at once, each filter by one thread.

    Args:
        maps: [N, P, D], which stay as they are; or [P, N, D], which may be overwritten.
        samples_first: Which of the two.
        tolerance: See `principal_components`.
        seed: See `principal_components`.

    Returns:
        Points [P, N, 2] and what the samples were like; ``None`` where this way is not open: on
        other devices and precisions than contiguous float32 on a CPU.
    """
    if not _is_compiled(maps):
        return None
    result = project_few(maps, samples_first=samples_first, tolerance=tolerance, seed=seed)
    if result is not None:
        return result
    n_samples, n_problems, width = _sizes(maps, samples_first)
    room = _room(n_problems, n_samples)
    block = _start_rows(width, width, seed)
    step = max(1, n_samples // _PILOT_SAMPLES)
    array, most_missed = maps.numpy(), _MOST_MISSED if tolerance is None else tolerance
    least_variance = _least_variance(maps.dtype, n_samples * width)

    def work(first: int, stop: int) -> None:
        fused_pca.leading_scores(
            array, samples_first, first, stop, block, most_missed, _MAX_ROUNDS,
            step, _PILOT_ROUNDS if step > 1 else 0, least_variance, *room,
        )  # fmt: skip

    spread(work, n_problems)
    conditioned = Conditioned(*map(torch.from_numpy, room[:3]))
    unit = conditioned.largest.double().view(-1, 1, 1)
    return _signed(torch.from_numpy(room.points)) * unit, conditioned


def project_few(
    maps: Tensor, *, samples_first: bool, tolerance: float | None = None, seed: int = 0
) -> tuple[Tensor, Conditioned] | None:
    """Condition and project at once where samples are few and their maps large.

    Args:
        maps: [N, P, D] or [P, N, D]; they stay as they are.
        samples_first: Which of the two.
        tolerance: See `principal_components`.
        seed: Seed of the starting block.

    Returns:
        Points [P, N, 2] and what the samples were like; ``None`` where this way is not open: where
        `project_compiled` is not, with too many samples or too small maps, or where squares leave
        the range of float32.
    """
    n_samples, n_problems, width = _sizes(maps, samples_first)
    if not _is_compiled(maps) or n_samples > _FEW or width < 2 * n_samples:
        return None
    room = _room(n_problems, n_samples)
    block = _start_rows(n_samples, -(-n_samples // 4) * 4, seed)
    array, most_missed = maps.numpy(), _MOST_MISSED if tolerance is None else tolerance

    def work(first: int, stop: int) -> None:
        fused_few.leading_scores(
            array, samples_first, first, stop, block, most_missed, _MAX_ROUNDS, *room
        )

    spread(work, n_problems)
    magnitude, largest, variance, points = room
    # In units of the largest value, as `_condition` leaves them.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        relative = np.where(largest > 0, variance / largest.astype(np.float64) ** 2, 0.0)
    unsafe = (largest < _SAFE[0]) & (magnitude > 0) | (largest > _SAFE[1])
    if unsafe.any() or not np.isfinite(variance).all():
        return None
    conditioned = Conditioned(*map(torch.from_numpy, (magnitude, largest, relative)))
    alive = conditioned.variance > _least_variance(maps.dtype, n_samples * width)
    return _signed(torch.from_numpy(points).where(alive.view(-1, 1, 1), 0.0)), conditioned


class _Room(NamedTuple):
    """What the compiled forms fill, in the order in which they take it."""

    magnitude: Array
    largest: Array
    variance: Array
    points: Array


def _room(n_problems: int, n_samples: int) -> _Room:
    magnitude, variance = np.empty(n_problems), np.empty(n_problems)
    largest = np.empty(n_problems, np.float32)
    return _Room(magnitude, largest, variance, np.empty((n_problems, n_samples, 2)))


def _sizes(maps: Tensor, samples_first: bool) -> tuple[int, int, int]:
    """Return N, P and D of maps [N, P, D] or [P, N, D]."""
    first, second, width = maps.shape
    return (first, second, width) if samples_first else (second, first, width)


def _least_variance(dtype: torch.dtype, n_values: int) -> float:
    """Return the sum of squares up to which so many values only round around a constant."""
    return 1e3 * n_values * torch.finfo(dtype).eps ** 2


def _is_compiled(samples: Tensor) -> bool:
    return (
        samples.device.type == "cpu" and samples.dtype == torch.float32 and samples.is_contiguous()
    )


def _start_rows(width: int, padded: int, seed: int) -> Array:
    """Return what the compiled forms start from, rows [b, M], zero beyond D columns and D rows."""
    start = _start(width, fused_power.BLOCK, seed)
    rows = np.zeros((fused_power.BLOCK, padded), np.float32)
    rows[: start.shape[1], :width] = start.T.numpy()
    return rows


def _start(width: int, size: int, seed: int) -> Tensor:
    """Return up to so many orthonormal columns [D, b] to start from, float64."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(width, min(size, width), generator=generator, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(start)[0]
    return basis


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


def _signed(points: Tensor) -> Tensor:
    """Turn the axes of points [P, N, 2] so that the farthest coordinate on each is positive."""
    extreme = points.gather(1, points.abs().argmax(1, keepdim=True))
    return points * torch.where(extreme < 0, -1.0, 1.0)


def _project(samples: Tensor, tolerance: float, start: Tensor) -> Tensor:
    """Return the coordinates [P, N, 2] of centred samples [P, N, D] on their leading directions."""
    directions = _leading_directions(samples, tolerance, start)[:, :, :2]
    scores = (samples @ torch.nn.functional.normalize(directions, dim=1)).double()
    return torch.nn.functional.pad(scores, (0, 2 - scores.shape[2]))


def _leading_directions(samples: Tensor, tolerance: float, start: Tensor) -> Tensor:
    """Return an orthonormal basis [P, D, b] whose first two columns are the leading directions."""
    n_problems, n_samples, width = samples.shape
    block = start.expand(n_problems, -1, -1)
    # The covariance has the directions of the samples, and their squared singular values.
    matrix = samples.mT @ samples if width <= min(_MAX_COVARIANCE, n_samples) else samples
    if len(matrix[0]) > 2 * _PILOT_SAMPLES:
        pilot = matrix[:, :: n_samples // _PILOT_SAMPLES]
        for _ in range(_PILOT_ROUNDS):
            block = _improved(pilot, block)[0]
    directions = torch.empty_like(block)
    left = torch.arange(n_problems, device=samples.device)
    previous = torch.zeros(n_problems, dtype=torch.float64, device=samples.device)
    for _ in range(_MAX_ROUNDS):
        improved, ritz, captured = _improved(matrix, block)
        done = captured - previous <= tolerance * captured
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

    Returns:
        The next orthonormal block [P, D, b]; the directions of the Ritz values in the given one,
        largest first, [P, D, b]; and what the first two of them capture [P].
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
