"""Feature maps kept as a truncated factorization, for layers too large to keep whole."""

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
        basis_room: Where the basis is kept, [C, r, D].
        scores_room: Where the scores are kept, [C, N, r], N being the number of samples in the end.

    Both are given because what is allocated anew at each merge leaves holes in a process's memory,
    where there are many factorizations.
    """

    def __init__(self, rank: int, basis_room: Tensor, scores_room: Tensor) -> None:
        self._rank = rank
        self._basis_room = basis_room
        self._scores_room = scores_room
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
            rows, n_before = samples, 0
        else:
            # A square root of the kept samples' Gram matrix stands for all of them.
            values, vectors = torch.linalg.eigh((self._scores.mT @ self._scores).double())
            root = (vectors * values.clamp(min=0).sqrt().unsqueeze(1)).mT.to(samples.dtype)
            rows = torch.cat([root @ self._basis, samples], dim=1)
            n_before = self._scores.shape[1]
        # The right singular vectors of the few long rows, by way of their small Gram matrix.
        values, vectors = torch.linalg.eigh((rows @ rows.mT).double())
        rank = min(self._rank, rows.shape[1], rows.shape[2])
        values, vectors = values[:, -rank:], vectors[:, :, -rank:]
        floor = values[:, -1:].clamp(min=torch.finfo(torch.float64).tiny) * 1e-12
        scale = values.maximum(floor).rsqrt().where(values > floor, 0.0)
        basis = (vectors * scale.unsqueeze(1)).mT.to(samples.dtype) @ rows
        scores = self._scores_room[:, : n_before + samples.shape[1], :rank]
        scores[:, n_before:] = samples @ basis.mT
        if self._basis is not None and self._scores is not None:
            scores[:, :n_before] = self._scores @ (self._basis @ basis.mT)
        self._basis, self._scores = self._basis_room[:, :rank].copy_(basis), scores
