"""The analysis is the detection, with predictions beside it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from filterwatch import AnomalyCriteria, detect_anomaly_filters
from filterwatch.analysis import InputError, LoadedModel, analyze, load_model, sample_probe
from finished_models import Tiny


def tiny(**arguments: object) -> LoadedModel:
    return LoadedModel(Tiny(), "tiny", Path("tiny.pt"), "state_dict", **arguments)  # type: ignore[arg-type]


def test_it_finds_what_the_detection_finds(checkpoint: Path, folder: Path) -> None:
    model = load_model(checkpoint)
    images = sample_probe(folder, 80, in_channels=1)
    criteria = AnomalyCriteria(small_cluster_size=5)
    found = analyze(model, images, criteria=criteria, max_clusters=8, batch_size=30, seed=2)
    rows = torch.arange(80)
    pixels = images.preprocessing(images.pixels(rows), rows)
    expected = detect_anomaly_filters(
        model.module, pixels.split(30), criteria=criteria, max_clusters=8, seed=2
    )
    assert found.report.to_dict() == expected.to_dict()
    assert found.report.count > 0
    with torch.no_grad():
        logits = model.module(pixels)
    assert found.predictions is not None
    assert found.confidences is not None
    assert torch.equal(found.predictions, logits.argmax(1))
    torch.testing.assert_close(found.confidences, logits.softmax(1).amax(1))
    assert images.labels is not None
    assert found.accuracy == float((logits.argmax(1) == images.labels).double().mean())
    assert found.output_names == images.class_names


def test_random_state_is_left_alone(folder: Path) -> None:
    images, model = sample_probe(folder, 30), tiny()
    state = torch.random.get_rng_state()
    analyze(model, images, max_clusters=4)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_progress_changes_nothing_and_names_every_layer(folder: Path) -> None:
    images, model = sample_probe(folder, 40), tiny()
    seen: list[tuple[str, str, int, int]] = []
    silent = analyze(model, images, max_clusters=5, batch_size=16)
    shown = analyze(
        model, images, max_clusters=5, batch_size=16, on_progress=lambda *step: seen.append(step)
    )
    assert shown.report.to_dict() == silent.report.to_dict()
    layers = list(silent.report.layers)
    for step, calls in (("feature maps", 3), ("principal components", 1), ("clustering", 1)):
        steps = [call for call in seen if call[0] == step]
        # A layer may report more than once while it is at work.
        turns = [name for name, _ in groupby(name for _, name, _, _ in steps)]
        assert turns == layers * calls
        done = [count for _, _, count, _ in steps]
        assert done == sorted(done)
        assert done[0] == 0
        assert all(count <= total for _, _, count, total in steps)


def test_classes_that_are_not_the_folders_are_not_compared(folder: Path, tmp_path: Path) -> None:
    model = tiny()
    model.module.head = nn.Linear(8, 6)
    images = sample_probe(folder, 30)
    found = analyze(model, images, max_clusters=4)
    assert found.accuracy is None
    assert found.output_names == ["0", "1", "2", "3", "4", "5"]


class Nested(Tiny):
    def forward(self, images: Tensor) -> object:  # type: ignore[override]
        return {"features": images, "logits": (super().forward(images), None)}


class Mapless(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        return self.relu(self.first(images))


def test_logits_are_found_in_the_output_or_done_without(folder: Path) -> None:
    images = sample_probe(folder, 30)
    nested = LoadedModel(Nested(), "nested", Path("x"), "state_dict")
    found = analyze(nested, images, max_clusters=4)
    assert found.n_outputs == 4
    without = LoadedModel(Mapless(), "mapless", Path("x"), "state_dict")
    found = analyze(without, images, max_clusters=4)
    assert (found.n_outputs, found.predictions, found.output_names) == (None, None, [])
    assert found.report.layers


def test_images_that_the_model_refuses_name_the_remedy(folder: Path, checkpoint: Path) -> None:
    images = sample_probe(folder, 30, in_channels=1, image_size=16)
    with pytest.raises(InputError, match=r"refuses images of shape \[1, 16, 16\].*--image-size"):
        analyze(load_model(checkpoint), images, max_clusters=4)


def test_half_precision_weights(folder: Path) -> None:
    model = LoadedModel(Tiny().bfloat16(), "tiny", Path("x"), "state_dict")
    assert analyze(model, sample_probe(folder, 30), max_clusters=4).n_outputs == 4
