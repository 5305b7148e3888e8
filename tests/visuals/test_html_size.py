"""The size of a report of a real network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from filterwatch import AnomalyCriteria
from filterwatch.analysis import LoadedModel, analyze, sample_probe
from filterwatch.visuals.html import write_report


def natural_images(n_images: int, side: int) -> np.ndarray:
    """Return images [n, side, side, 3] whose spectrum falls as that of photographs does."""
    generator = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    noise = np.fft.fft2(generator.normal(size=(n_images, 3, side, side)))
    images = np.fft.ifft2(noise / frequency).real
    images -= images.min((1, 2, 3), keepdims=True)
    images *= 255 / images.max((1, 2, 3), keepdims=True)
    return images.transpose(0, 2, 3, 1).astype(np.uint8)


@pytest.mark.slow
def test_resnet18_with_a_thousand_images_stays_below_ten_megabytes(tmp_path: Path) -> None:
    for position, pixels in enumerate(natural_images(1000, 64)):
        folder = tmp_path / f"class {position % 10}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{position:05}.png")
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=10)
    model = LoadedModel(module, "torchvision/resnet18", Path("resnet18.pt"), "state_dict")
    # So loose that there are more flagged filters than scatter plots have room.
    criteria = AnomalyCriteria(small_cluster_size=100, ch_ratio=None)
    analysis = analyze(model, sample_probe(tmp_path, 1000), criteria=criteria)
    assert analysis.report.count > 400
    path = tmp_path / "report.html"
    write_report(analysis, path)
    size = path.stat().st_size
    print(f"{size / 1e6:.2f} MB, {analysis.report.count} anomaly filters")
    assert size < 10_000_000
