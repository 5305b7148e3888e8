"""Feature maps to points in the plane, by principal component analysis (paper, section 3.1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from filterwatch.detection import fused_pca
from filterwatch.detection.threads import spread

# Vectors iterated at once. The error shrinks by (variance 17 / variance 2) a round, squared.
_BLOCK = fused_pca.BLOCK
_MAX_ROUNDS = 50
# A covariance of at most this width is worth forming: it is smaller than the data by far.
_MAX_COVARIANCE = 128
# The first rounds see this many of the samples: a start nearly as good for a share of the price.
_PILOT_SAMPLES = 128
_PILOT_ROUNDS = 2


def principal_components(
    samples: Tensor, *, tolerance: float | None = None, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Project each problem's samples onto their two leading principal components.

    Block power iteration with Rayleigh-Ritz, compiled for float32 on a CPU. Each problem stops by
    itself, when its captured variance rises by less than the tolerance. The sign of a component
    makes its coordinate of largest magnitude positive.

    Args:
        samples: [P, N, D], float32 or float64, finite. It is centred and rescaled in place.
        tolerance: Relative rise of the captured variance at which to stop. Default: 1e-4 in
            float32, 1e-13 in float64.
        seed: Seed of the starting block.

    Returns:
        Points [P, N, 2], float64 — the second coordinate is 0 where D is 1 — and the share of the
        variance that each component explains [P, 2], 0 for a problem without variance.
    """
    n_problems, n_samples, width = samples.shape
    if tolerance is None:
        tolerance = 1e-4 if samples.dtype == torch.float32 else 1e-13
    compiled = samples.device.type == "cpu" and samples.dtype == torch.float32
    condition = _condition_compiled if compiled else _condition
    project = _project_compiled if compiled else _project
    largest, variance = condition(samples)
    # Rounding noise around a constant is no variance.
    alive = variance > 1e3 * n_samples * width * torch.finfo(samples.dtype).eps ** 2
    points = samples.new_zeros(n_problems, n_samples, 2, dtype=torch.float64)
    living = samples if bool(alive.all()) else samples[alive]
    points[alive] = project(living, tolerance, _start(samples, seed))
    explained = points.square().sum(1) / variance.where(alive, 1.0).unsqueeze(1)
    extreme = points.gather(1, points.abs().argmax(1, keepdim=True))
    points *= torch.where(extreme < 0, -1.0, 1.0) * largest.double().view(-1, 1, 1)
    return points, explained


def _start(samples: Tensor, seed: int) -> Tensor:
    """Return orthonormal columns [D, b] to start from."""
    width = samples.shape[2]
    generator = torch.Generator().manual_seed(seed)
    size = min(_BLOCK, width)
    start = torch.randn(width, size, generator=generator, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(start)[0]
    return basis.to(samples)


def _condition(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Bring samples [P, N, D] to unit size and centre them, in place.

    Unit size first, so that no square leaves the range of the precision.

    Returns:
        The largest magnitude [P] before, and the sum of squares [P] after, in float64.
    """
    # One dimension after the other, which is vectorised; both at once is not.
    largest = samples.amax(2).amax(1).maximum(-samples.amin(2).amin(1))
    samples.div_(largest.where(largest > 0, 1.0).view(-1, 1, 1))
    samples.sub_(samples.mean(1, keepdim=True))
    return largest, torch.linalg.vector_norm(samples, dim=(1, 2)).double().square()


def _condition_compiled(samples: Tensor) -> tuple[Tensor, Tensor]:
    largest = np.empty(len(samples), np.float32)
    variance = np.empty(len(samples))
    array = samples.numpy()
    spread(
        lambda first, stop: fused_pca.condition(array, first, stop, largest, variance),
        len(samples),
    )
    return torch.from_numpy(largest), torch.from_numpy(variance)


def _project_compiled(samples: Tensor, tolerance: float, start: Tensor) -> Tensor:
    n_problems, n_samples, width = samples.shape
    points = np.empty((n_problems, n_samples, 2))
    array = samples.numpy()
    block = np.zeros((_BLOCK, width), np.float32)
    block[: start.shape[1]] = start.T.numpy()
    step = max(1, n_samples // _PILOT_SAMPLES)
    pilot_rounds = _PILOT_ROUNDS if step > 1 else 0

    def work(first: int, stop: int) -> None:
        fused_pca.leading_scores(
            array, first, stop, block, tolerance, _MAX_ROUNDS, step, pilot_rounds, points
        )

    spread(work, n_problems)
    return torch.from_numpy(points)


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
