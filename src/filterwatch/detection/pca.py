"""Feature maps to points in the plane, by principal component analysis (paper, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

# Vectors iterated at once. The error shrinks by (variance 17 / variance 2) a round, squared.
_BLOCK = 16
_MAX_ROUNDS = 50
# A covariance of at most this width is worth forming: it is smaller than the data by far.
_MAX_COVARIANCE = 512


def principal_components(
    samples: Tensor, *, tolerance: float | None = None, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Project each problem's samples onto their two leading principal components.

    Block power iteration with Rayleigh-Ritz, until no problem's captured variance rises by more
    than the tolerance. The sign of a component makes its coordinate of largest magnitude positive.

    Args:
        samples: [P, N, D], float32 or float64, finite. It is centred in place.
        tolerance: Relative rise of the captured variance at which to stop. Default: 1e-5 in
            float32, 1e-13 in float64.
        seed: Seed of the starting block.

    Returns:
        Points [P, N, 2], float64 — the second coordinate is 0 where D is 1 — and the share of the
        variance that each component explains [P, 2], 0 for a problem without variance.
    """
    _, n_samples, width = samples.shape
    if tolerance is None:
        tolerance = 1e-5 if samples.dtype == torch.float32 else 1e-13
    # First to unit size, so that no square leaves the range of the precision.
    smallest, largest = samples.flatten(1).aminmax(dim=1, keepdim=True)
    largest = largest.maximum(-smallest).unsqueeze(2)
    samples.div_(largest.where(largest > 0, 1.0)).sub_(samples.mean(1, keepdim=True))
    variance = torch.linalg.vector_norm(samples, dim=(1, 2), dtype=torch.float64).square()
    block = _leading_block(samples, min(_BLOCK, width, n_samples), tolerance, seed)
    scores = samples @ block  # [P, N, b]
    points, captured = _rotate(scores.double())
    if points.shape[2] == 1:
        points = torch.nn.functional.pad(points, (0, 1))
        captured = torch.nn.functional.pad(captured, (0, 1))
    extreme = points.gather(1, points.abs().argmax(1, keepdim=True))
    points = points * torch.where(extreme < 0, -1.0, 1.0) * largest.double()
    # Rounding noise around a constant is no variance.
    floor = 1e3 * n_samples * width * torch.finfo(samples.dtype).eps ** 2
    alive = (variance > floor).view(-1, 1, 1)
    explained = captured / variance.unsqueeze(1)
    return points.where(alive, 0.0), explained.where(alive.squeeze(2), 0.0)


def _leading_block(samples: Tensor, size: int, tolerance: float, seed: int) -> Tensor:
    """Return an orthonormal basis [P, D, b] that holds the two leading directions."""
    n_problems, n_samples, width = samples.shape
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(width, size, generator=generator, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(start)[0]
    block = basis.to(samples).expand(n_problems, -1, -1)
    if size == width:
        return block
    covariance = samples.mT @ samples if width <= min(_MAX_COVARIANCE, n_samples) else None
    previous = torch.zeros(n_problems, dtype=torch.float64, device=samples.device)
    for _ in range(_MAX_ROUNDS):
        image = covariance @ block if covariance is not None else samples.mT @ (samples @ block)
        # The Ritz values of the block that went in come for free.
        ritz = torch.linalg.eigvalsh((block.mT @ image).double())[:, -2:].sum(1)
        block = _orthonormal(image)
        if bool((ritz - previous <= tolerance * ritz).all()):
            break
        previous = ritz
    return block


def _orthonormal(block: Tensor) -> Tensor:
    """Orthonormalise the columns of [P, D, b] by way of their Gram matrix, twice for accuracy."""
    for _ in range(2):
        gram = (block.mT @ block).double()
        values, vectors = torch.linalg.eigh(gram)
        floor = 1e-14 * values[:, -1:].clamp(min=torch.finfo(torch.float64).tiny)
        scale = values.maximum(floor).rsqrt().where(values > floor, 0.0)
        block = block @ (vectors * scale.unsqueeze(1)).to(block.dtype)
    return block


def _rotate(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Turn scores [P, N, b] so that the first two columns carry the most variance; return those."""
    values, vectors = torch.linalg.eigh(scores.mT @ scores)
    leading = vectors[:, :, -2:].flip(2)
    return scores @ leading, values[:, -2:].flip(1).clamp(min=0)
