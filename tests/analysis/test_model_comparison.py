"""What changed between two models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from filterwatch import AnomalyCriteria
from filterwatch.analysis import (
    Analysis,
    InputError,
    LoadedModel,
    ProbeImages,
    analyze,
    compare,
    sample_probe,
)
from filterwatch.analysis.documents import comparison_document, comparison_notes
from finished_models import Tiny

CRITERIA = AnomalyCriteria(small_cluster_size=4)


def analysis(module: nn.Module, images: ProbeImages, seed: int = 0) -> Analysis:
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    model = LoadedModel(module, "tiny", Path(f"{seed}.pt"), "state_dict")
    return analyze(model, images, criteria=CRITERIA, max_clusters=8)


@pytest.fixture(scope="module")
def images(folder: Path) -> ProbeImages:
    return sample_probe(folder, 60)


def test_filters_are_sorted_into_turned_ceased_and_kept(images: ProbeImages) -> None:
    first, second = analysis(Tiny(), images, 0), analysis(Tiny(), images, 1)
    found = compare(first, second)
    before = {(a.layer, a.channel): a for a in first.report.anomalies}
    after = {(a.layer, a.channel): a for a in second.report.anomalies}
    assert before.keys() != after.keys()
    assert set(found.turned) == after.keys() - before.keys()
    assert set(found.ceased) == before.keys() - after.keys()
    assert set(found.kept) == before.keys() & after.keys()
    isolated = found.isolated_by(found.turned, second)
    assert sum(isolated.values()) == sum(len(after[filter_].outliers) for filter_ in found.turned)
    assert list(isolated.values()) == sorted(isolated.values(), reverse=True)
    document = comparison_document(found)
    assert len(document["turned"]) == len(found.turned)
    assert document["second"]["count"] == second.report.count
    assert any("turned anomalous: " in line for line in comparison_notes(found))


def test_a_model_and_itself_differ_in_nothing(images: ProbeImages) -> None:
    one = analysis(Tiny(), images)
    found = compare(one, one)
    assert (found.turned, found.ceased) == ([], [])
    assert len(found.kept) == one.report.count
    assert "turned anomalous: none" in list(comparison_notes(found))


class Wider(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(6, 9, 3, padding=1)
        self.head = nn.Linear(9, 4)


def test_only_layers_of_both_are_compared(images: ProbeImages) -> None:
    narrow, wide = analysis(Tiny(), images), analysis(Wider(), images, 1)
    found = compare(narrow, wide)
    assert list(found.first.report.layers) == list(found.second.report.layers) == ["first", "relu"]
    assert found.unmatched == ["second", "relu#2"]
    assert {layer for layer, _ in (*found.turned, *found.ceased, *found.kept)} <= {"first", "relu"}
    assert found.second.report.count == len(found.second.report.anomalies)


def test_nothing_in_common_and_other_images_are_refused(images: ProbeImages, folder: Path) -> None:
    one = analysis(Tiny(), images)
    other = analysis(nn.Sequential(nn.Conv2d(3, 4, 3)), images)
    with pytest.raises(InputError, match="no layer in common: the one has first"):
        compare(one, other)
    elsewhere = replace(one, images=sample_probe(folder, 60, seed=5))
    with pytest.raises(InputError, match="different images"):
        compare(one, elsewhere)
