"""Feature maps kept as a truncated factorisation, for layers too large to keep whole."""

from __future__ import annotations

import torch
from torch import Tensor

# Samples merged at once: work per sample grows with it, the number of eigenproblems falls.
MERGED_SAMPLES = 32


class TruncatedFactors:
    """Samples [C, N, D] as scores [C, N, r] times an orthonormal basis [C, r, D].

    Each merge keeps the r leading right singular vectors of what is kept and what is new (an
    incremental singular value decomposition), so that memory for the basis does not grow with N.
    The mean is not removed: it takes one of the r directions and leaves with it when the scores are
    centred.

    Args:
        rank: r, the number of directions kept.
        room: Where the basis is kept, [C, r, D]. Default: it is allocated anew at each merge, which
            leaves holes in a process's memory where there are many factorisations.
    """

    def __init__(self, rank: int, room: Tensor | None = None) -> None:
        self._rank = rank
        self._room = room
        self._basis: Tensor | None = None
        self._scores: Tensor | None = None

    def add(self, samples: Tensor) -> None:
        """Merge samples [C, B, D]."""
        for part in samples.split(MERGED_SAMPLES, dim=1):
            self._merge(part)

    def scores(self) -> Tensor:
        """Return the scores of all samples so far, [C, N, r]; distances between them are kept."""
        if self._scores is None:
            raise ValueError("no samples were added")
        return self._scores

    def _merge(self, samples: Tensor) -> None:
        if self._basis is None or self._scores is None:
            rows, old = samples, samples.new_zeros(samples.shape[0], 0, 0)
        else:
            # A square root of the kept samples' Gram matrix stands for all of them.
            values, vectors = torch.linalg.eigh((self._scores.mT @ self._scores).double())
            root = (vectors * values.clamp(min=0).sqrt().unsqueeze(1)).mT.to(samples.dtype)
            rows, old = torch.cat([root @ self._basis, samples], dim=1), self._scores
        # The right singular vectors of the few long rows, by way of their small Gram matrix.
        values, vectors = torch.linalg.eigh((rows @ rows.mT).double())
        rank = min(self._rank, rows.shape[1], rows.shape[2])
        values, vectors = values[:, -rank:], vectors[:, :, -rank:]
        floor = values[:, -1:].clamp(min=torch.finfo(torch.float64).tiny) * 1e-12
        scale = values.maximum(floor).rsqrt().where(values > floor, 0.0)
        basis = (vectors * scale.unsqueeze(1)).mT.to(samples.dtype) @ rows
        new_scores = samples @ basis.mT
        if self._basis is not None:
            rotated = old @ (self._basis @ basis.mT)
            new_scores = torch.cat([rotated, new_scores], dim=1)
        if self._room is not None:
            kept = self._room[:, :rank]
            basis = kept.copy_(basis)
        self._basis, self._scores = basis, new_scores
