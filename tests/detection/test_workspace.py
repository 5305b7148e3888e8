"""Memory that probes share: the same results, nothing kept that is not asked for."""

from __future__ import annotations

import copy
import pickle

import torch
from torch import nn

from filterwatch.detection import (
    AnomalyCriteria,
    AnomalyReport,
    Workspace,
    detect_anomaly_filters,
    detect_as_planned,
    plan_detection,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU())


def images(seed: int, n_samples: int = 40) -> torch.Tensor:
    return torch.rand(n_samples, 1, 10, 10, generator=torch.Generator().manual_seed(seed))


def detect(
    model: nn.Module,
    probe: torch.Tensor,
    workspace: Workspace,
    *,
    batch_size: int = 16,
    max_clusters: int = 4,
    memory_budget: int = 2**30,
) -> AnomalyReport:
    plan = plan_detection(
        model, probe[:2], len(probe), memory_budget=memory_budget, workspace=workspace
    )
    return detect_as_planned(
        model,
        probe.split(batch_size),
        plan,
        criteria=AnomalyCriteria(),
        max_clusters=max_clusters,
    )


def test_the_memory_is_used_again() -> None:
    workspace = Workspace()
    like = torch.empty(0)
    first = workspace.empty("conv", (2, 3), like)
    assert workspace.empty("conv", (2, 3), like).data_ptr() == first.data_ptr()
    assert workspace.empty("other", (2, 3), like).data_ptr() != first.data_ptr()
    assert workspace.empty("conv", (2, 4), like).shape == (2, 4)
    assert workspace.empty("conv", (2, 4), like.double()).dtype == torch.float64
    assert workspace.empty("conv", (2, 4), like.half()).dtype == torch.float32


def test_shared_memory_changes_no_report() -> None:
    model, workspace = network(), Workspace()
    # Another probe, and one of another size, in between.
    for probe in (images(0), images(1), images(2, 30), images(0)):
        expected = detect_anomaly_filters(model, probe, batch_size=16, max_clusters=4)
        report = detect(model, probe, workspace)
        for name, layer in expected.layers.items():
            assert torch.equal(report.layers[name].points, layer.points)
            assert torch.equal(report.layers[name].labels, layer.labels)


def test_a_report_keeps_its_points_when_the_memory_is_used_again() -> None:
    model, workspace = network(), Workspace()
    report = detect(model, images(0), workspace)
    before = {name: layer.points.clone() for name, layer in report.layers.items()}
    detect(model, images(1), workspace)
    assert all(torch.equal(report.layers[name].points, points) for name, points in before.items())


def test_copies_hold_nothing() -> None:
    workspace = Workspace()
    workspace.empty("conv", (1000,), torch.empty(0))
    assert not copy.deepcopy(workspace)._arrays
    assert len(pickle.dumps(workspace)) < 1000


def test_maps_take_no_more_than_their_share_of_the_budget() -> None:
    # Maps of one sample take 4 * 2 * (3 * 8 * 8 + 4 * 6 * 6) = 2688 bytes, those of all 107,520.
    for budget in (180_000, 100_000, 20_000):
        workspace = Workspace()
        detect(network(), images(0), workspace, batch_size=8, max_clusters=3, memory_budget=budget)
        kept = sum(a.nbytes for name, a in workspace._arrays.items() if "scores" not in name)
        assert 0 < kept <= 0.75 * budget
