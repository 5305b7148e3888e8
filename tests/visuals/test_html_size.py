"""The size of reports of a real network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from filterwatch import AnomalyCriteria
from filterwatch.analysis import (
    Analysis,
    LoadedModel,
    ProbeImages,
    analyze,
    compare,
    sample_probe,
    write_comparison,
    write_report,
)

LIMIT = 10_000_000


def natural_images(n_images: int, side: int) -> np.ndarray:
    """Return images [n, side, side, 3] whose spectrum falls as that of photographs does."""
    generator = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    images = np.empty((n_images, side, side, 3), np.uint8)
    for image in images:
        noise = np.fft.fft2(generator.normal(size=(3, side, side)))
        pixels = np.fft.ifft2(noise / frequency).real
        pixels -= pixels.min()
        image[:] = (pixels * (255 / pixels.max())).transpose(1, 2, 0)
    return images


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
@pytest.mark.parametrize(("make", "side"), [(natural_images, 224), (noise_images, 64)])
def test_two_of_them_stay_below_ten_megabytes(
    make: Callable[[int, int], np.ndarray], side: int, tmp_path: Path
) -> None:
    """On photographs of the usual size, and on what compresses worst.

    The network sees them in 64 pixels, which is faster and leaves thumbnails and points as many.
    """
    images = probe(tmp_path, make(1000, side), 64)
    comparison = compare(resnet18(images, 0), resnet18(images, 1))
    assert min(comparison.first.report.count, comparison.second.report.count) > 400
    path = tmp_path / "comparison.html"
    write_comparison(comparison, path)
    print(f"{megabytes(path):.2f} MB, {len(comparison.turned)} turned")
    assert path.stat().st_size < LIMIT
