"""From flagged maps to filters, on reports made by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from filterwatch import AnomalyCriteria, AnomalyFilter, AnomalyReport, LayerReport
from filterwatch.actions.candidates import (
    FlaggedFilter,
    flagged_filters,
    judged_filters,
    maps_without_filter,
    room,
)
from filterwatch.actions.wiring import FilterSlots, Wiring


def layer(kind: str, flags: list[int], ch_index: list[float], sources: Any) -> LayerReport:
    n = len(flags)
    return LayerReport(
        kind=kind,
        ch_index=torch.tensor(ch_index, dtype=torch.float64),
        n_clusters=torch.full((n,), 3),
        cluster_sizes=torch.tensor([[95, 4, 1]] * n),
        activation=torch.ones(n, dtype=torch.float64),
        is_anomaly=torch.tensor(flags, dtype=torch.bool),
        sources=sources,
    )


@pytest.fixture
def report() -> AnomalyReport:
    conv = [("conv", 0), ("conv", 1), ("conv", 2), ("conv", 3)]
    layers = {
        "conv": layer("convolution", [0, 1, 0, 1], [10, 20, 30, 60], conv),
        "relu": layer("activation", [0, 1, 0, 0], [10, 30, float("nan"), 20], conv),
        "sum": layer("activation", [1, 0, 0, 0], [40, 10, 10, 20], [None] * 4),
    }
    anomalies = [
        AnomalyFilter(
            name, channel, *(entry.sources[channel] or (None, None)), 1.0, 3, [95, 4, 1], 1.0, []
        )
        for name, entry in layers.items()
        for channel in entry.is_anomaly.nonzero().flatten().tolist()
    ]
    return AnomalyReport(anomalies, layers, {}, 100, AnomalyCriteria(4), 4)


def test_maps_are_gathered_by_filter(report: AnomalyReport) -> None:
    flagged = flagged_filters(report)
    assert flagged == {
        ("conv", 1): FlaggedFilter(("conv", 1), (("conv", 1), ("relu", 1)), 1.5),
        ("conv", 3): FlaggedFilter(("conv", 3), (("conv", 3),), 2.0),
    }
    assert list(flagged) == report.filters
    assert maps_without_filter(report) == 1
    assert list(judged_filters(report)) == [("conv", channel) for channel in range(4)]


def test_other_criteria_judge_the_clusterings_anew(report: AnomalyReport) -> None:
    strict = AnomalyCriteria(4, small_cluster_ratio=0.2, ch_ratio=1.9)
    assert list(flagged_filters(report, strict)) == [("conv", 3)]
    no_small_clusters = AnomalyCriteria(1, small_cluster_ratio=0.5)
    assert flagged_filters(report, no_small_clusters) == {}


def test_streaks_go_on_or_begin(report: AnomalyReport) -> None:
    flagged = flagged_filters(report, streaks={("conv", 1): 3, ("conv", 0): 7})
    assert {filter_[1]: entry.streak for filter_, entry in flagged.items()} == {1: 4, 3: 1}


@pytest.mark.parametrize(
    ("n_filters", "fraction", "expected"),
    [(64, 0.1, 6), (9, 0.1, 0), (10, 0.1, 1), (100, 0.29, 29), (4, 0.99, 3), (1, 0.9, 0)],
)
def test_room_in_a_layer(n_filters: int, fraction: float, expected: int) -> None:
    wiring = Wiring({("conv", channel): FilterSlots(()) for channel in range(n_filters)})
    assert room(wiring, "conv", fraction) == expected
