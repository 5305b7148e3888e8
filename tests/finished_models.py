"""Folders of images and files of weights, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from filterwatch.models import ImageClassifier

# The first one's name is HTML.
CLASSES = {"<script>": 60, "a&b": 40, "one": 30, "two": 20}


def digits() -> np.ndarray:
    """Return 400 grey images [400, 8, 8]."""
    return np.rint(load_digits().images[:400] * (255 / 16)).astype(np.uint8)


def write_images(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for position, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{position:03}.png")


def write_classes(root: Path) -> Path:
    """Write 150 images in four classes of unequal size."""
    images, start = digits(), 0
    for name, size in CLASSES.items():
        write_images(root / name, images[start : start + size])
        start += size
    return root


def save_classifier(path: Path, *, seed: int) -> ImageClassifier:
    """Write a checkpoint of our own classifier, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = ImageClassifier("simple_cnn", num_classes=4, in_channels=1, image_size=8)
    save(classifier, path)
    return classifier


def save(classifier: ImageClassifier, path: Path) -> Path:
    """Write a checkpoint as a Trainer does it."""
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(classifier)
    trainer.save_checkpoint(path)
    return path


class Tiny(nn.Module):
    """Two convolutions with an activation that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.norm(self.first(images)))
        maps = self.relu(self.second(maps))
        return self.head(maps.mean((2, 3)))
