"""Exported programs are looked into like the modules they came from."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from filterwatch import detect_anomaly_filters
from filterwatch.analysis import InputError, analyze, load_model, sample_probe
from finished_models import Tiny


def export(module: nn.Module, path: Path, *, batch: int | None = None) -> Path:
    dynamic = None if batch else ({0: torch.export.Dim("batch", min=1, max=4096)},)
    images = torch.rand(batch or 4, 3, 8, 8)
    torch.export.save(torch.export.export(module, (images,), dynamic_shapes=dynamic), path)
    return path


def test_it_needs_trust_and_no_name(tmp_path: Path) -> None:
    path = export(Tiny().eval(), tmp_path / "tiny.pt2")
    with pytest.raises(InputError, match="--trust"):
        load_model(path)
    with pytest.raises(InputError, match="leave out --model torchvision/resnet18"):
        load_model(path, "torchvision/resnet18", trust=True)
    loaded = load_model(path, trust=True)
    assert (loaded.in_channels, loaded.fixed_image_size, loaded.notes) == (3, 8, [])


@pytest.mark.parametrize("batch", [None, 7])
def test_it_gives_what_the_module_gives(batch: int | None, folder: Path, tmp_path: Path) -> None:
    module = Tiny().eval()
    loaded = load_model(export(module, tmp_path / "tiny.pt2", batch=batch), trust=True)
    assert loaded.fixed_batch_size == batch
    images = sample_probe(folder, 60)
    found = analyze(loaded, images, max_clusters=6, batch_size=16)
    # A fixed batch of 7 leaves out the last 4 images.
    n_samples = 56 if batch else 60
    assert found.report.n_samples == len(found.images) == n_samples
    rows = torch.arange(n_samples)
    pixels = images.preprocessing(images.pixels(rows), rows)
    expected = detect_anomaly_filters(module, pixels, max_clusters=6)
    assert (
        list(found.report.layers) == list(expected.layers) == ["first", "relu", "second", "relu#2"]
    )
    for name, layer in expected.layers.items():
        other = found.report.layers[name]
        assert other.sources == layer.sources
        torch.testing.assert_close(other.activation, layer.activation, rtol=1e-5, atol=1e-6)
    assert found.predictions is not None
    assert torch.equal(found.predictions, module(pixels).argmax(1))


def test_a_probe_below_one_fixed_batch_is_refused(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(export(Tiny().eval(), tmp_path / "tiny.pt2", batch=70), trust=True)
    with pytest.raises(InputError, match="batches of 70 images, and the probe has 60"):
        analyze(loaded, sample_probe(folder, 60))


def test_training_mode_is_noted(tmp_path: Path) -> None:
    loaded = load_model(export(Tiny().train(), tmp_path / "tiny.pt2"), trust=True)
    assert "training mode" in loaded.notes[0]


class Two(nn.Module):
    def forward(self, images: Tensor, scale: Tensor) -> Tensor:
        return images * scale


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.pt2"
    torch.export.save(torch.export.export(Two(), (torch.rand(1, 3, 4, 4), torch.rand(1))), path)
    with pytest.raises(InputError, match=r"takes 2 inputs: \['1', '3', '4', '4'\], \['1'\]"):
        load_model(path, trust=True)


def test_a_damaged_program_is_refused(tmp_path: Path) -> None:
    path = export(Tiny().eval(), tmp_path / "tiny.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        names = archive.namelist()
    broken = tmp_path / "broken.pt2"
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr(next(name for name in names if name.endswith("archive_format")), "pt2")
    with pytest.raises(InputError, match="cannot be loaded as an exported program"):
        load_model(broken, trust=True)
