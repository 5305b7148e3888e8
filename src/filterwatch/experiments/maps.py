"""What a probe leaves of a network's feature maps: points, activations, and simpler statistics.

Points are what costs time, and the clustering is what varies between configurations. So points are
kept on disk, once for each weights and probe, and clustered as often as a question asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from filterwatch.detection.detect import detect_anomaly_filters
from filterwatch.detection.reduce import PCA
from filterwatch.observing import observe

# Below this share of a filter's largest activation a map's element counts as silent.
_SILENT = 0.01


@dataclass(frozen=True)
class LayerMaps:
    """One layer of a probed network; C filters, N samples.

    Attributes:
        kind: ``"convolution"``, ``"activation"`` or ``"max_pool"``.
        points: Feature maps reduced to two dimensions, [C, N, 2].
        activation: Mean absolute activation, [C].
        sources: The convolution filter behind each channel, or ``None``.
        kurtosis: Kurtosis over the samples of a map's mean absolute activation, [C]; 3 for a
            normal distribution, NaN for a constant filter.
        max_to_median: Largest over median of the same, [C]; infinite where half the samples leave
            the filter silent, NaN where all do.
        sparsity: Share of silent elements of the maps: below 1% of the filter's largest, [C].
    """

    kind: str
    points: Tensor
    activation: Tensor
    sources: list[tuple[str, int] | None]
    kurtosis: Tensor
    max_to_median: Tensor
    sparsity: Tensor


Maps = dict[str, LayerMaps]


def probe_maps(network: nn.Module, images: Tensor, *, pca: PCA = "filter", seed: int = 0) -> Maps:
    """Send a probe through a network and reduce its feature maps.

    Args:
        network: Any network with 2-D convolutions; comes back as it went in.
        images: [N, C, H, W].
        pca: See `filterwatch.detect_anomaly_filters`.
        seed: Seed of the principal component analysis.

    Returns:
        Layer name to what is left of its maps, in forward order.
    """
    # The clustering is done later; the cheapest one comes along here.
    report = detect_anomaly_filters(network, images, max_clusters=2, pca=pca, seed=seed)
    statistics = {name: _Statistics() for name in report.layers}

    def consume(name: str, maps: Tensor) -> None:
        if name in statistics:
            statistics[name].add(maps)

    observe(network, images.split(256), consume, seed=seed)
    found = {}
    for name, layer in report.layers.items():
        assert layer.points is not None
        kurtosis, max_to_median, sparsity = statistics[name].finish()
        found[name] = LayerMaps(
            kind=layer.kind,
            points=layer.points,
            activation=layer.activation,
            sources=layer.sources,
            kurtosis=kurtosis,
            max_to_median=max_to_median,
            sparsity=sparsity,
        )
    return found


def to_plain(maps: Maps) -> dict[str, dict[str, Any]]:
    """Return maps as what ``torch.load(weights_only=True)`` reads."""
    return {name: dict(vars(layer)) for name, layer in maps.items()}


def from_plain(plain: dict[str, dict[str, Any]]) -> Maps:
    """Return the maps that `to_plain` took apart."""
    return {name: LayerMaps(**layer) for name, layer in plain.items()}


def kurtosis(values: Tensor) -> Tensor:
    """Return the kurtosis over the last dimension; NaN where the values are constant."""
    centered = values.double() - values.double().mean(-1, keepdim=True)
    variance = centered.square().mean(-1)
    return (centered.pow(4).mean(-1) / variance.square()).where(variance > 0, torch.nan)


class _Statistics:
    def __init__(self) -> None:
        self._means: list[Tensor] = []
        self._kept: list[Tensor] = []

    def add(self, maps: Tensor) -> None:
        magnitude = maps.detach().abs().flatten(2)  # [B, C, D]
        self._means.append(magnitude.mean(2, dtype=torch.float64).cpu())
        # A map's elements matter by their histogram alone: 1,000 levels of the batch's largest
        # would be biased between batches, so a fixed sample of positions is kept instead.
        width = magnitude.shape[2]
        positions = torch.linspace(0, width - 1, min(width, 64)).round().long()
        self._kept.append(magnitude[:, :, positions].half().cpu())

    def finish(self) -> tuple[Tensor, Tensor, Tensor]:
        means = torch.cat(self._means).T  # [C, N]
        elements = torch.cat(self._kept).float()  # [N, C, positions]
        largest = elements.amax((0, 2), keepdim=True)
        sparsity = (elements <= _SILENT * largest).double().mean((0, 2))
        return kurtosis(means), means.amax(1) / means.median(1).values, sparsity
