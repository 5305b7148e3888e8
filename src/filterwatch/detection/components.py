"""Principal components by tensor operations: on GPUs, in double precision, of factorized maps.

Float32 on a CPU is compiled; see `kernels.power_iteration`. Both are block power iteration with
Rayleigh-Ritz.
"""

from __future__ import annotations

import torch
from torch import Tensor

from filterwatch.detection.kernels.power_iteration import (
    MAX_ROUNDS,
    PILOT_ROUNDS,
    PILOT_SAMPLES,
    in_units,
    is_compiled,
    least_variance,
    project_filters,
    start_directions,
)

# A problem is done when a round adds less than this share of what two directions capture.
LEAST_GAIN = {torch.float32: 1e-4, torch.float64: 1e-13}
# Vectors iterated at once: here a round costs little more with many of them. The error shrinks by
# (variance 17 / variance 2) a round, squared.
_BLOCK = 16
# A covariance of at most this width is worth forming: it is smaller than the data by far.
_MAX_COVARIANCE = 128
# Samples merged at once: work per sample grows with it, the number of eigenproblems falls.
MERGED_SAMPLES = 32


def principal_components(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Project each problem's samples onto their two leading principal components.

    The sign of a component makes its coordinate of largest magnitude positive.

    Args:
        samples: [P, N, D], float32 or float64. They are centered and rescaled in place.

    Returns:
        Points [P, N, 2], float64, and the sums of absolute values [P], float64, which are NaN or
        infinite where a value is. The second coordinate is 0 where D is 1, and both are where
        samples do not vary or are not finite.
    """
    if is_compiled(samples):
        return project_filters(samples, samples_first=False)
    n_problems, n_samples, width = samples.shape
    magnitude = absolute_sums(samples)
    # Unit size first, so that no square leaves the range of the precision. One dimension after the
    # other, which is vectorized; both at once is not.
    largest = samples.amax(2).amax(1).maximum(-samples.amin(2).amin(1))
    samples.div_(largest.where(largest > 0, 1.0).view(-1, 1, 1))
    samples.sub_(samples.mean(1, keepdim=True))
    variance = torch.linalg.vector_norm(samples, dim=(1, 2)).double().square()
    alive = variance > least_variance(samples.dtype, n_samples * width)
    points = samples.new_zeros(n_problems, n_samples, 2, dtype=torch.float64)
    if bool(alive.any()):
        living = samples if bool(alive.all()) else samples[alive]
        directions = _leading_directions(living)[:, :, :2]
        scores = (living @ torch.nn.functional.normalize(directions, dim=1)).double()
        points[alive] = torch.nn.functional.pad(scores, (0, 2 - scores.shape[2]))
    return in_units(points, largest), magnitude


def absolute_sums(samples: Tensor) -> Tensor:
    """Return the sum [P] of absolute values [P, N, D], float64; NaN or infinite where one is."""
    sums = samples.abs().sum(2).double().sum(1)
    if bool(torch.isfinite(sums).all()):
        return sums
    return samples.double().abs().sum((1, 2))  # unless it was the sum that left float32's range


def _leading_directions(samples: Tensor) -> Tensor:
    """Return an orthonormal basis [P, D, b] whose first two columns are the leading directions."""
    n_problems, n_samples, width = samples.shape
    block = start_directions(width, _BLOCK).to(samples).expand(n_problems, -1, -1)
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
    # A Cholesky factor of the Gram matrix orthonormalizes; the addend is for dependent columns.
    gram = (image.mT @ image).double()
    gram.diagonal(dim1=1, dim2=2).add_(64 * torch.finfo(image.dtype).eps)
    factor = torch.linalg.cholesky(gram).to(image.dtype)
    improved = torch.linalg.solve_triangular(factor.mT, image, upper=True, left=False)
    return improved, block @ rotation, values[:, :2].sum(1)


class TruncatedFactors:
    """Samples [C, N, D] as scores [C, N, r] times an orthonormal basis [C, r, D].

    Each merge keeps the r leading right singular vectors of what is kept and what is new (an
    incremental singular value decomposition), so that memory for the basis does not grow with N.
    The mean is not removed: it takes one of the r directions and leaves with it when the scores are
    centered.

    Args:
        basis_room: Where the basis is kept, [C, r, D].
        scores_room: Where the scores are kept, [C, N, r], N being the number of samples in the end.

    Both are given because what is allocated anew at each merge leaves holes in a process's memory,
    where there are many factorizations.
    """

    def __init__(self, basis_room: Tensor, scores_room: Tensor) -> None:
        self._basis_room = basis_room
        self._scores_room = scores_room
        self._basis = basis_room[:, :0]
        # The scores of all samples so far, [C, N, r]; distances between samples are theirs.
        self.scores = scores_room[:, :0, :0]

    def add(self, samples: Tensor) -> None:
        """Merge samples [C, B, D]."""
        for part in samples.split(MERGED_SAMPLES, dim=1):
            self._merge(part)

    def _merge(self, samples: Tensor) -> None:
        # A square root of the kept samples' Gram matrix stands for all of them.
        values, vectors = torch.linalg.eigh((self.scores.mT @ self.scores).double())
        root = (vectors * values.clamp(min=0).sqrt().unsqueeze(1)).mT.to(samples.dtype)
        rows = torch.cat([root @ self._basis, samples], dim=1)
        n_before = self.scores.shape[1]
        # The right singular vectors of the few long rows, by way of their small Gram matrix.
        values, vectors = torch.linalg.eigh((rows @ rows.mT).double())
        rank = min(self._basis_room.shape[1], rows.shape[1], rows.shape[2])
        values, vectors = values[:, -rank:], vectors[:, :, -rank:]
        floor = values[:, -1:].clamp(min=torch.finfo(torch.float64).tiny) * 1e-12
        scale = values.maximum(floor).rsqrt().where(values > floor, 0.0)
        basis = (vectors * scale.unsqueeze(1)).mT.to(samples.dtype) @ rows
        scores = self._scores_room[:, : n_before + samples.shape[1], :rank]
        scores[:, n_before:] = samples @ basis.mT
        scores[:, :n_before] = self.scores @ (self._basis @ basis.mT)
        self._basis, self.scores = self._basis_room[:, :rank].copy_(basis), scores
