"""Default sizes, which depend on how many images there are."""

import pytest
import torch

from filterwatch.datamodules import ImageDataset, MemoryImages
from filterwatch.datamodules.division import Division
from filterwatch.datamodules.preprocessing import Preprocessing


@pytest.mark.parametrize(
    ("n_images", "train", "val", "probe"),
    [(50_000, 44_000, 5_000, 1_000), (2_000, 1_400, 200, 400), (60, 42, 6, 12), (3, 1, 1, 1)],
)
def test_default_sizes(n_images, train, val, probe):
    source = MemoryImages(torch.zeros(n_images, 1, 1, 1, dtype=torch.uint8))
    images = ImageDataset.of(
        source, torch.arange(n_images) % 10, Preprocessing(None, (0.0,), (1.0,))
    )
    divide = Division(
        num_classes=10,
        seed=0,
        val_size=None,
        probe_size=None,
        probe_source="held_out",
        train_size=None,
        label_noise=0.0,
    )
    divided = divide(images, None)
    assert [len(part) for part in divided] == [train, val, probe]


def test_two_images_are_too_few():
    source = MemoryImages(torch.zeros(2, 1, 1, 1, dtype=torch.uint8))
    images = ImageDataset.of(source, torch.arange(2), Preprocessing(None, (0.0,), (1.0,)))
    divide = Division(2, 0, None, None, "held_out", None, 0.0)
    with pytest.raises(ValueError, match="leaves none to train on"):
        divide(images, None)
