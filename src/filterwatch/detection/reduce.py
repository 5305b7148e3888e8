"""Stage two: feature maps, gathered batch by batch, to points in the plane (section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from filterwatch.detection.components import (
    MERGED_SAMPLES,
    TruncatedFactors,
    absolute_sums,
    principal_components,
)
from filterwatch.detection.kernels.power_iteration import is_compiled, project_filters
from filterwatch.detection.memory import Plan, Workspace

PCA = Literal["filter", "layer"]
# Called with the step, the layer whose turn it is, what is done by then, and out of how much.
ProgressCallback = Callable[[str, str, int, int], None]

# A group of filters is reduced in this share of the memory budget: it is copied a few times.
_GROUPS = 8

# Filters reduced together on a CPU: few enough that their maps stay in its cache.
_CACHED_BYTES = 2**24
# Devices that cannot compute in double precision: their maps are reduced on the host.
_WITHOUT_DOUBLE = {"mps"}


class Reduced(NamedTuple):
    """What remains of a layer's maps, on the host.

    Sixteen bytes a map are soon copied, and the compiled clustering keeps its densities in the
    cache, which on a GPU go through memory at every step.

    Attributes:
        points: [C, N, 2], float64.
        activation: Mean absolute activation of each filter, [C], float64.
    """

    points: Tensor
    activation: Tensor


class Reduction:
    """Reduces the maps of all planned layers to points, over the batches of a probe.

    Args:
        plan: The layers, and how their maps are kept.
        pca: ``"filter"``: components of each filter's own maps. ``"layer"``: of all of a layer's.
        on_progress: Called while a layer's turn comes; see `detect_anomaly_filters`.
    """

    def __init__(
        self, plan: Plan, *, pca: PCA = "filter", on_progress: ProgressCallback | None = None
    ) -> None:
        self._layers = {
            name: LayerReduction(
                n_samples=plan.n_samples,
                pca=pca,
                rank=plan.ranks[name],
                group_bytes=plan.memory_budget // _GROUPS,
                name=name,
                workspace=plan.workspace,
            )
            for name in plan.names
        }
        self._on_progress = on_progress
        self._done, self._total = 0, plan.n_samples * len(self._layers)

    def add(self, name: str, maps: Tensor) -> None:
        """Add a layer's maps [B, C, h, w] of one batch; they are copied where they are kept."""
        if self._on_progress is not None:
            self._on_progress("feature maps", name, self._done, self._total)
            self._done += len(maps)
        self._layers[name].add(maps)

    def finish(self) -> tuple[dict[str, Reduced], dict[str, str]]:
        """Return what remains of each layer, and why nothing does of others; forget the maps."""
        reduced, skipped = {}, {}
        for done, (name, layer) in enumerate(self._layers.items()):
            if self._on_progress is not None:
                self._on_progress("principal components", name, done, len(self._layers))
            result = layer.finish()
            if isinstance(result, str):
                skipped[name] = result
            else:
                reduced[name] = result
        return reduced, skipped


class LayerReduction:
    """Reduces the maps of one layer to points, over the batches of a probe.

    Maps that arrive in one batch are reduced on arrival, a group of filters at a time; others are
    kept until the probe is complete, whole or as a truncated factorization.

    Args:
        n_samples: Number of samples in the probe.
        pca: See `Reduction`.
        rank: Rank of the factorization; ``None`` to keep maps whole.
        group_bytes: Largest size of a group of filters reduced together.
        workspace: Where the memory for kept maps comes from, and stays, under the layer's ``name``.
    """

    def __init__(
        self,
        *,
        n_samples: int,
        pca: PCA,
        rank: int | None,
        group_bytes: int,
        name: str = "",
        workspace: Workspace | None = None,
    ) -> None:
        self._n_samples = n_samples
        self._pca = pca
        self._group_bytes = group_bytes
        self._rank = rank
        self._name = name
        self._workspace = workspace
        self._factors: list[TruncatedFactors] = []
        self._maps: Tensor | None = None
        self._shape: tuple[int, int] | None = None
        self._seen = 0
        self._magnitude = torch.zeros(())
        self._points: Tensor | None = None
        self._skip: str | None = None

    def add(self, maps: Tensor) -> None:
        """Add the maps [B, C, h, w] of one batch; they are copied where they are kept."""
        if maps.device.type in _WITHOUT_DOUBLE:
            maps = maps.cpu()
        rows = maps.detach().flatten(2).transpose(0, 1)  # [C, B, D], a view
        n_filters, n_rows, width = rows.shape
        first, self._seen = self._seen, self._seen + n_rows
        if self._skip is not None or self._seen > self._n_samples:
            return
        if self._shape is not None and self._shape != (n_filters, width):
            self._give_up("its maps differ in shape between batches: give images of one size")
            return
        self._shape = (n_filters, width)
        if n_rows == self._n_samples:
            self._reduce(rows)
        elif self._rank is not None:
            self._merge(rows, self._rank)
        else:
            if self._maps is None:
                self._maps = self._room((n_filters, self._n_samples, width), rows)
            self._maps[:, first : self._seen] = rows

    def finish(self) -> Reduced | str:
        """Return what remains of the layer, or why it cannot be judged; and forget the maps."""
        if self._skip is None and self._seen != self._n_samples:
            self._give_up(f"it put out {self._seen} maps a filter for {self._n_samples} samples")
        if self._skip is None and self._points is None:
            if self._factors:
                scores = torch.cat([factors.scores for factors in self._factors])
                if self._pca == "layer":
                    scores = scores.view(self._n_samples, -1, scores.shape[2]).transpose(0, 1)
                self._points = self._project(scores)[0]
            elif self._maps is not None:
                self._reduce(self._maps)
        self._maps, self._factors = None, []
        if self._skip is not None:
            return self._skip
        assert self._points is not None
        assert self._shape is not None
        width = self._shape[1]
        activation = self._magnitude / (self._n_samples * width)
        return Reduced(self._points.cpu(), activation.cpu())

    def _merge(self, rows: Tensor, rank: int) -> None:
        """Add rows [C, B, D] to factorizations, a group of filters and a few samples at a time."""
        n_filters, _, width = rows.shape
        # Common components need a common basis: all filters' maps are one problem then.
        common = self._pca == "layer"
        limit = min(self._group_bytes, _CACHED_BYTES // 4)  # several copies of it at once
        size = max(1, limit // (4 * MERGED_SAMPLES * width))
        groups = rows.split(n_filters if common else size)
        if not self._factors:
            problems, at_once = (1, 1) if common else (n_filters, size)
            n_scores = self._n_samples * n_filters // problems
            rooms = (
                self._room((problems, rank, width), rows, "basis").split(at_once),
                self._room((problems, n_scores, rank), rows, "scores").split(at_once),
            )
            self._factors = [TruncatedFactors(*room) for room in zip(*rooms, strict=True)]
        magnitudes = []
        for factors, group in zip(self._factors, groups, strict=True):
            magnitude = torch.zeros((), device=rows.device)
            for part in group.split(MERGED_SAMPLES, dim=1):
                copied = _copied(part)
                magnitude = magnitude + absolute_sums(copied)
                if bool(torch.isfinite(magnitude).all()):
                    factors.add(copied.transpose(0, 1).reshape(1, -1, width) if common else copied)
            magnitudes.append(magnitude)
        self._magnitude = torch.cat(magnitudes) + self._magnitude.to(rows.device)
        self._give_up_unless_finite()

    def _reduce(self, rows: Tensor) -> None:
        """Reduce all rows [C, N, D] of the layer at once; kept ones are overwritten."""
        kept = rows is self._maps
        arranged = rows if kept else rows.transpose(0, 1)
        if self._pca == "filter" and is_compiled(arranged):
            self._points, self._magnitude = project_filters(arranged, samples_first=not kept)
        else:
            at_once = len(rows) if self._pca == "layer" else self._filters_at_once(rows)
            parts = [self._project(p if kept else _copied(p)) for p in rows.split(at_once)]
            self._points, self._magnitude = map(torch.cat, zip(*parts, strict=True))
        self._give_up_unless_finite()

    def _project(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce [C, N, D], overwriting them; return points and sums of absolute values."""
        if self._pca == "filter":
            return principal_components(rows)
        magnitude = absolute_sums(rows)
        together = rows.reshape(1, -1, rows.shape[2])
        return principal_components(together)[0].view(*rows.shape[:2], 2), magnitude

    def _filters_at_once(self, rows: Tensor) -> int:
        limit = self._group_bytes
        if rows.device.type == "cpu":
            limit = min(limit, _CACHED_BYTES)
        return max(1, limit // (rows.shape[1] * rows.shape[2] * 4))

    def _room(self, shape: tuple[int, ...], rows: Tensor, of: str = "maps") -> Tensor:
        # A workspace that nobody shares is forgotten at once, and the memory freed with the maps.
        workspace = Workspace() if self._workspace is None else self._workspace
        return workspace.empty(f"{self._name} {of}", shape, rows)

    def _give_up_unless_finite(self) -> None:
        """Give up if there is NaN or infinity in the maps so far."""
        broken = int((~torch.isfinite(self._magnitude)).sum())
        if broken and self._shape is not None:
            self._give_up(
                f"NaN or infinity in the maps of {broken} of its {self._shape[0]} filters"
            )

    def _give_up(self, reason: str) -> None:
        self._skip = reason
        self._maps = self._points = None
        self._factors = []


def _copied(rows: Tensor) -> Tensor:
    """Return a contiguous copy, in a precision that can be computed with."""
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    return rows.to(dtype, copy=True, memory_format=torch.contiguous_format)
