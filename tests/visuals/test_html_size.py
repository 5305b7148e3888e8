"""The size of reports of a real network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from filterwatch import AnomalyCriteria
from filterwatch.analysis import Analysis, LoadedModel, ProbeImages, analyze, sample_probe
from filterwatch.analysis.comparison import compare
from filterwatch.visuals.html import write_comparison, write_report

LIMIT = 10_000_000


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


def noise_images(n_images: int, side: int) -> np.ndarray:
    """Return images [n, side, side, 3] of noise, which compress worst."""
    shape = (n_images, side, side, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def resnet18(images: ProbeImages, seed: int) -> Analysis:
    torch.manual_seed(seed)
    module = torchvision.models.resnet18(num_classes=10)
    model = LoadedModel(module, "torchvision/resnet18", Path(f"{seed}.pt"), "state_dict")
    # So loose that there are more flagged filters than scatter plots have room.
    criteria = AnomalyCriteria(small_cluster_size=100, ch_ratio=None)
    return analyze(model, images, criteria=criteria)


def probe(directory: Path, pixels: np.ndarray, image_size: int) -> ProbeImages:
    for position, image in enumerate(pixels):
        folder = directory / f"class {position % 10}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{position:05}.png", compress_level=1)
    return sample_probe(directory, len(pixels), image_size=image_size)


def megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6


@pytest.mark.slow
def test_resnet18_with_a_thousand_images_stays_below_ten_megabytes(tmp_path: Path) -> None:
    analysis = resnet18(probe(tmp_path, natural_images(1000, 64), 64), 0)
    assert analysis.report.count > 400
    path = tmp_path / "report.html"
    write_report(analysis, path)
    print(f"{megabytes(path):.2f} MB, {analysis.report.count} anomaly filters")
    assert path.stat().st_size < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("make", [natural_images, noise_images])
def test_two_of_them_stay_below_ten_megabytes(make: object, tmp_path: Path) -> None:
    """On images of 224 pixels; thumbnails and points decide, not what the network sees."""
    assert callable(make)
    pixels = np.concatenate([make(100, 224)[:, :, :: 1 - 2 * (n % 2)] for n in range(10)])
    assert pixels.shape == (1000, 224, 224, 3)
    images = probe(tmp_path, pixels, 64)
    comparison = compare(resnet18(images, 0), resnet18(images, 1))
    assert min(comparison.first.report.count, comparison.second.report.count) > 400
    path = tmp_path / "comparison.html"
    write_comparison(comparison, path)
    print(f"{megabytes(path):.2f} MB, {len(comparison.turned)} turned")
    assert path.stat().st_size < LIMIT
