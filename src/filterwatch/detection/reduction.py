"""One layer's feature maps, gathered batch by batch and reduced to points."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from filterwatch.detection.pca import principal_components

PCA = Literal["filter", "layer"]


class LayerReduction:
    """Gathers the maps of one layer over the batches of a probe.

    Args:
        pca: ``"filter"``: components of each filter's own maps. ``"layer"``: one pair of components
            for all maps of the layer.
        seed: Seed of the principal component analysis.
    """

    def __init__(self, *, pca: PCA, seed: int) -> None:
        self._pca = pca
        self._seed = seed
        self._chunks: list[Tensor] = []
        self._magnitude = torch.zeros(())
        self._skip: str | None = None

    def add(self, maps: Tensor) -> None:
        """Add the maps [B, C, h, w] of one batch; they are copied."""
        if self._skip is not None:
            return
        if self._chunks and self._chunks[0].shape[0] != maps.shape[1]:
            self._give_up("its number of channels differs between batches")
            return
        maps = maps.detach().flatten(2).transpose(0, 1)  # [C, B, D]
        if self._chunks and self._chunks[0].shape[2] != maps.shape[2]:
            self._give_up("its maps differ in size between batches: give images of one size")
            return
        precise = maps.dtype if maps.dtype == torch.float64 else torch.float32
        maps = maps.to(precise, copy=True, memory_format=torch.contiguous_format)
        magnitude = torch.linalg.vector_norm(maps, 1, dim=(1, 2), dtype=torch.float64)
        if not bool(torch.isfinite(magnitude).all()):
            broken = int((~torch.isfinite(magnitude)).sum())
            self._give_up(f"NaN or infinity in the maps of {broken} of its {len(maps)} filters")
            return
        self._magnitude = self._magnitude.to(magnitude) + magnitude
        self._chunks.append(maps)

    def problem(self, n_samples: int) -> str | None:
        """Return why the layer cannot be judged on a probe of so many samples, if it cannot."""
        seen = sum(chunk.shape[1] for chunk in self._chunks)
        if self._skip is None and seen != n_samples:
            return f"it put out {seen} maps a filter for {n_samples} samples"
        return self._skip

    def finish(self) -> tuple[Tensor, Tensor]:
        """Return the points [C, N, 2] and the mean absolute activations [C], and forget the maps.

        Only for a layer without a `problem`.
        """
        chunks, self._chunks = self._chunks, []
        samples = chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=1)
        chunks.clear()
        n_filters, n_samples, width = samples.shape
        activation = self._magnitude / (n_samples * width)
        rows = samples if self._pca == "filter" else samples.view(1, n_filters * n_samples, width)
        points, _ = principal_components(rows, seed=self._seed)
        return points.view(n_filters, n_samples, 2), activation

    def _give_up(self, reason: str) -> None:
        self._skip = reason
        self._chunks.clear()
