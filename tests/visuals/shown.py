"""A report of known clusters and a probe of known images: what the tests of figures draw."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from filterwatch.detection import AnomalyCriteria, AnomalyFilter, AnomalyReport, LayerReport
from filterwatch.visuals.drawing import Tiles
from filterwatch.visuals.thumbnails import Thumbnails

N_SAMPLES = 60
OUTLIERS = {0: [3, 4, 17], 1: [3, 5], 2: [3]}  # of the layer's filters


def report(layer: str = "features.conv", *, n_filters: int = 3, **fields: Any) -> AnomalyReport:
    """Return a report on one layer of flagged filters.

    Filter c has two large clusters, and each of its outliers in a cluster of its own. Its CH index
    is 10 for the first filter and lower for each next.
    """
    labels, points = torch.zeros(n_filters, N_SAMPLES, dtype=torch.long), []
    generator = torch.Generator().manual_seed(0)
    for channel in range(n_filters):
        labels[channel, : N_SAMPLES // 2] = 1
        outliers = OUTLIERS.get(channel, [3])
        cloud = torch.randn(N_SAMPLES, 2, generator=generator, dtype=torch.float64)
        cloud[N_SAMPLES // 2 :] += 5
        for number, sample in enumerate(outliers):
            labels[channel, sample] = 2 + number
            cloud[sample] = torch.tensor([40.0 + 10 * number, 0.0], dtype=torch.float64)
        points.append(cloud)
    sizes = torch.stack([row.bincount(minlength=6) for row in labels])
    anomalies = [
        AnomalyFilter(
            layer=layer,
            channel=channel,
            source_layer=layer,
            source_channel=channel,
            ch_index=10.0 - channel,
            n_clusters=int((sizes[channel] > 0).sum()),
            cluster_sizes=sizes[channel][sizes[channel] > 0].tolist(),
            activation=1.0,
            outliers=OUTLIERS.get(channel, [3]),
        )
        for channel in range(n_filters)
    ]
    judged = LayerReport(
        kind="convolution",
        ch_index=torch.tensor([anomaly.ch_index for anomaly in anomalies]),
        n_clusters=(sizes > 0).sum(1),
        cluster_sizes=sizes,
        activation=torch.ones(n_filters),
        is_anomaly=torch.ones(n_filters, dtype=torch.bool),
        sources=[(layer, channel) for channel in range(n_filters)],
        points=torch.stack(points),
        labels=labels,
    )
    known: dict[str, Any] = {
        "anomalies": anomalies,
        "layers": {layer: judged},
        "skipped": {},
        "n_samples": N_SAMPLES,
        "criteria": AnomalyCriteria(small_cluster_size=1),
        "small_cluster_limit": 1,
    }
    return AnomalyReport(**{**known, **fields})


def images(n_samples: int = N_SAMPLES, channels: int = 3, size: int = 6) -> Tensor:
    """Return images [N, C, H, W] from 0 to 1; image i is all of brightness i / N."""
    levels = torch.arange(n_samples) / n_samples
    return levels.view(-1, 1, 1, 1).expand(-1, channels, size, size).clone()


def thumbnails(**options: Any) -> Thumbnails:
    """Return thumbnails of two batches of `images`, with labels 0, 1, 0, 1, …"""
    labels = torch.arange(N_SAMPLES) % 2
    batches = [(images()[part], labels[part]) for part in (slice(0, 40), slice(40, None))]
    return Thumbnails(batches, **options)


def shown_tiles(figure: Figure) -> Tiles:
    """Return the images and captions of a figure."""
    (tiles,) = (artist for artist in figure.artists if isinstance(artist, Tiles))
    return tiles
