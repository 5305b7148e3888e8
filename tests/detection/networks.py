"""One small network in two forms, and shorthands to look at it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filterwatch.detection import (
    AnomalyCriteria,
    AnomalyReport,
    detect_anomaly_filters,
)
from filterwatch.observing import find_layers, observe

IMAGES = torch.rand(40, 3, 10, 10, generator=torch.Generator().manual_seed(0))


class Modules(nn.Module):
    """Two convolutions with everything in modules."""

    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.relu1 = nn.ReLU(inplace=inplace)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.relu2 = nn.LeakyReLU(0.1, inplace=inplace)

    def forward(self, images: Tensor) -> Tensor:
        return self.relu2(self.conv2(self.pool(self.relu1(self.norm(self.conv1(images))))))


class Functions(nn.Module):
    """The same with functional calls."""

    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.inplace = inplace

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.norm(self.conv1(images)), inplace=self.inplace)
        maps = F.max_pool2d(maps, 2)
        maps = F.conv2d(maps, self.conv2.weight, self.conv2.bias)
        return F.leaky_relu(maps, 0.1, inplace=self.inplace)


def like(model: nn.Module, other: nn.Module) -> nn.Module:
    """Give a model the other's weights."""
    model.load_state_dict(other.state_dict())
    return model


def names(model: nn.Module, images: Tensor = IMAGES[:2], **options: Any) -> list[str]:
    return [layer.name for layer in find_layers(model, images, **options)]


def maps_of(model: nn.Module, *batches: Tensor) -> dict[str, list[Tensor]]:
    maps: dict[str, list[Tensor]] = {}
    observe(model, batches, lambda name, found: maps.setdefault(name, []).append(found.clone()))
    return maps


def detect(model: nn.Module, probe: Any = IMAGES, **options: Any) -> AnomalyReport:
    return detect_anomaly_filters(
        model, probe, criteria=AnomalyCriteria(small_cluster_size=4), max_clusters=8, **options
    )


def contents(report: AnomalyReport, *, renamed: bool = False) -> dict[str, Any]:
    """Return everything in a report, with layers numbered where their names may differ."""
    data = report.to_dict(include_samples=True)
    if renamed:
        position = {name: at for at, name in enumerate(report.layers)}
        data["layers"] = list(data["layers"].values())
        for anomaly in data["anomalies"]:
            anomaly["layer"] = position[anomaly["layer"]]
    return data
