"""One layer's feature maps, gathered batch by batch and reduced to points."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from filterwatch.detection.pca import principal_components
from filterwatch.detection.streaming import TruncatedFactors

PCA = Literal["filter", "layer"]


class LayerReduction:
    """Reduces the maps of one layer to points, over the batches of a probe.

    Maps that arrive in one batch are reduced on arrival, a group of filters at a time; others are
    kept until the probe is complete, whole or as a truncated factorisation.

    Args:
        n_samples: Number of samples in the probe.
        pca: ``"filter"``: components of each filter's own maps. ``"layer"``: one pair of components
            for all maps of the layer.
        rank: Rank of the factorisation; ``None`` to keep maps whole.
        group_bytes: Size of a group of filters reduced together.
        seed: Seed of the principal component analysis.
    """

    def __init__(
        self, *, n_samples: int, pca: PCA, rank: int | None, group_bytes: int, seed: int
    ) -> None:
        self._n_samples = n_samples
        self._pca = pca
        self._group_bytes = group_bytes
        self._seed = seed
        self._factors = None if rank is None else TruncatedFactors(rank)
        self._chunks: list[Tensor] = []
        self._shape: tuple[int, int] | None = None
        self._seen = 0
        self._magnitude = torch.zeros(())
        self._points: Tensor | None = None
        self._skip: str | None = None

    def add(self, maps: Tensor) -> None:
        """Add the maps [B, C, h, w] of one batch; they are copied where they are kept."""
        if self._skip is not None:
            return
        rows = maps.detach().flatten(2).transpose(0, 1)  # [C, B, D], a view
        shape = (rows.shape[0], rows.shape[2])
        if self._shape is not None and self._shape != shape:
            self._give_up("its maps differ in shape between batches: give images of one size")
            return
        magnitude = torch.linalg.vector_norm(rows, 1, dim=(1, 2), dtype=torch.float64)
        if not bool(torch.isfinite(magnitude).all()):
            broken = int((~torch.isfinite(magnitude)).sum())
            self._give_up(f"NaN or infinity in the maps of {broken} of its {len(rows)} filters")
            return
        self._shape = shape
        self._seen += rows.shape[1]
        self._magnitude = self._magnitude.to(magnitude) + magnitude
        if rows.shape[1] == self._n_samples:
            self._points = self._reduce(rows)
        elif self._factors is not None:
            self._factors.add(_copied(rows))
        else:
            self._chunks.append(_copied(rows))

    def problem(self) -> str | None:
        """Return why the layer cannot be judged, if it cannot."""
        if self._skip is None and self._seen != self._n_samples:
            return f"it put out {self._seen} maps a filter for {self._n_samples} samples"
        return self._skip

    def finish(self) -> tuple[Tensor, Tensor]:
        """Return the points [C, N, 2] and the mean absolute activations [C], and forget the maps.

        Only for a layer without a `problem`.
        """
        if self._points is None:
            if self._factors is not None:
                rows = self._factors.scores()
                self._factors = None
            else:
                rows = torch.cat(self._chunks, dim=1)
                self._chunks.clear()
            self._points = self._reduce(rows)
        width = 1 if self._shape is None else self._shape[1]
        return self._points, self._magnitude / (self._n_samples * width)

    def _reduce(self, rows: Tensor) -> Tensor:
        """Reduce [C, N, D] to points [C, N, 2]."""
        n_filters, n_samples, width = rows.shape
        if self._pca == "layer":
            together = _copied(rows).view(1, n_filters * n_samples, width)
            points, _ = principal_components(together, seed=self._seed)
            return points.view(n_filters, n_samples, 2)
        group = max(1, self._group_bytes // (n_samples * width * 4))
        return torch.cat(
            [principal_components(_copied(part), seed=self._seed)[0] for part in rows.split(group)]
        )

    def _give_up(self, reason: str) -> None:
        self._skip = reason
        self._chunks.clear()
        self._factors = None


def _copied(rows: Tensor) -> Tensor:
    """Return a contiguous copy in a precision that can be computed with."""
    precise = torch.float64 if rows.dtype == torch.float64 else torch.float32
    return rows.to(precise, copy=True, memory_format=torch.contiguous_format)
