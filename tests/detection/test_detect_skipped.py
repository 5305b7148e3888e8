"""Layers that cannot be judged are left out with a reason, and the others are judged."""

from __future__ import annotations

import math

import pytest
import torch
from planted import (
    ANOMALY,
    LAYERS,
    N_CLUSTERS,
    N_FILTERS,
    bank,
    detect,
    flagged,
)
from torch import Tensor, nn


class Breaking(nn.Module):
    """Puts something into one layer that is no number, and goes on without it."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.good = bank()
        self.bad = nn.Conv2d(N_FILTERS, 3, 1)
        self.value = value

    def forward(self, maps: Tensor) -> Tensor:
        kept = self.good(maps)
        self.bad(maps * torch.where(maps[:, :1] > maps[:, :1].mean(), self.value, 1.0))
        return kept  # type: ignore[no-any-return]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("batch_size", [20, 100])
def test_a_layer_with_numbers_that_are_none_is_skipped_and_the_others_are_judged(
    value: float, batch_size: int
) -> None:
    report = detect(Breaking(value), batch_size=batch_size)
    assert report.skipped == {"bad": "NaN or infinity in the maps of 3 of its 3 filters"}
    assert flagged(report) == {f"good.{name}": [ANOMALY] for name in LAYERS}
    assert "bad" not in report.layers


def test_a_network_gone_to_nan_gives_an_empty_report() -> None:
    model = bank()
    with torch.no_grad():
        model[0].bias.fill_(math.nan)
    report = detect(model)
    assert list(report.skipped) == LAYERS
    assert (report.count, report.layers, report.outlier_samples(all_filters=True)) == (0, {}, {})


def test_images_of_several_sizes_skip_what_depends_on_them() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.pool = nn.AdaptiveMaxPool2d(2)

        def forward(self, images: Tensor) -> Tensor:
            return self.pool(self.conv(images))  # type: ignore[no-any-return]

    batches = [torch.rand(20, 3, 8, 8), torch.rand(20, 3, 9, 9)]
    report = detect(Pooled(), batches)
    assert list(report.layers) == ["pool"]
    assert "give images of one size" in report.skipped["conv"]


def test_a_layer_that_runs_on_crops_is_skipped() -> None:
    class Crops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.relu = nn.ReLU()

        def forward(self, images: Tensor) -> Tensor:
            self.relu(self.conv(images))
            crops = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
            return self.conv(crops)  # type: ignore[no-any-return]

    report = detect(Crops(), torch.rand(20, 3, 8, 8))
    assert list(report.layers) == ["conv", "relu"]
    assert report.skipped == {"conv#2": "it put out 80 maps a filter for 20 samples"}


def test_a_layer_that_runs_for_some_batches_only_is_skipped() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)
            self.extra = nn.Conv2d(3, 2, 3)

        def forward(self, images: Tensor) -> Tensor:
            if len(images) != 10:
                self.extra(images)
            return self.conv(images)  # type: ignore[no-any-return]

    report = detect(Sometimes(), list(torch.rand(20, 3, 8, 8).split([6, 10, 4])))
    assert list(report.layers) == ["conv"]
    assert report.skipped == {"extra": "it put out 10 maps a filter for 20 samples"}


def test_a_layer_of_dead_filters() -> None:
    model = bank()
    with torch.no_grad():
        model[0].weight.zero_()
    report = detect(model)
    assert report.count == 0
    assert report.layers["0"].dead == list(range(N_FILTERS))
    assert report.outlier_samples(all_filters=True) == {}


def test_a_probe_of_one_picture_over_and_over() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    report = detect(model, torch.rand(1, 3, 8, 8).expand(40, -1, -1, -1))
    assert report.layers["0"].dead == [0, 1, 2, 3]


def test_maps_of_one_element() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU())
    report = detect(model, torch.rand(40, 3, 8, 8))
    assert report.layers["0"].dead == []
    assert not report.layers["0"].points[..., 1].any()  # type: ignore[index]


def test_as_many_samples_as_clusters() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    report = detect(model, torch.rand(N_CLUSTERS, 3, 8, 8))
    assert list(report.layers) == ["0", "1"]
