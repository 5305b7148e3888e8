"""Memory that probes share: the same results, nothing kept that is not asked for."""

from __future__ import annotations

import copy
import pickle

import torch
from torch import nn

from filterwatch import detect_anomaly_filters
from filterwatch.detection import Workspace


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU())


def images(seed: int, n_samples: int = 40) -> torch.Tensor:
    return torch.rand(n_samples, 1, 10, 10, generator=torch.Generator().manual_seed(seed))


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
        report = detect_anomaly_filters(
            model, probe, batch_size=16, max_clusters=4, workspace=workspace
        )
        for name, layer in expected.layers.items():
            assert torch.equal(report.layers[name].points, layer.points)
            assert torch.equal(report.layers[name].labels, layer.labels)


def test_a_report_keeps_its_points_when_the_memory_is_used_again() -> None:
    model, workspace = network(), Workspace()
    arguments = {"batch_size": 16, "max_clusters": 4, "workspace": workspace}
    report = detect_anomaly_filters(model, images(0), **arguments)
    before = {name: layer.points.clone() for name, layer in report.layers.items()}
    detect_anomaly_filters(model, images(1), **arguments)
    assert all(torch.equal(report.layers[name].points, points) for name, points in before.items())


def test_copies_and_what_was_cleared_hold_nothing() -> None:
    workspace = Workspace()
    workspace.empty("conv", (1000,), torch.empty(0))
    assert not copy.deepcopy(workspace)._arrays
    assert len(pickle.dumps(workspace)) < 1000
    workspace.clear()
    assert not workspace._arrays


def test_maps_take_no_more_than_their_share_of_the_budget() -> None:
    # Maps of one sample take 4 * 2 * (3 * 8 * 8 + 4 * 6 * 6) = 2688 bytes, those of all 107,520.
    for budget in (180_000, 100_000, 20_000):
        workspace = Workspace()
        detect_anomaly_filters(
            network(),
            images(0),
            batch_size=8,
            max_clusters=3,
            memory_budget=budget,
            workspace=workspace,
        )
        kept = sum(a.nbytes for name, a in workspace._arrays.items() if "scores" not in name)
        assert 0 < kept <= 0.75 * budget
