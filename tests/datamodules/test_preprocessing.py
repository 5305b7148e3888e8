import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from filterwatch.datamodules import seeded_generator
from filterwatch.datamodules.preprocessing import (
    Preprocessing,
    normalize,
    random_crop_and_flip,
    resize,
)


def random_images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size", [16, 48])
def test_resize_is_pillows_bicubic(size):
    image = random_images(3, 32, 32)
    reference = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    difference = resize(image[None], size)[0].int() - pil_to_tensor(reference).int()
    assert difference.abs().max() <= 1


def test_resize_keeps_proportions_and_the_centre():
    image = torch.zeros(1, 1, 20, 40, dtype=torch.uint8)
    image[..., 10:30] = 200  # the central square
    assert resize(image, 20).equal(torch.full((1, 1, 20, 20), 200, dtype=torch.uint8))
    assert resize(image, 10).shape == (1, 1, 10, 10)


def test_normalized_pixels():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    out = normalize(images, (0.5, 0.1, 0.0), (0.25, 0.2, 0.5))
    torch.testing.assert_close(out.flatten(), torch.tensor([-2.0, 0.5, 2.0]))


def test_crops_are_shifts_of_the_padded_image():
    images = random_images(200, 1, 16, 16)
    cropped = random_crop_and_flip(images, False, seeded_generator(0))
    padded = torch.nn.functional.pad(images, [2] * 4)
    shifts = set()
    for before, after in zip(padded, cropped, strict=True):
        matches = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if before[:, top : top + 16, left : left + 16].equal(after)
        ]
        assert len(matches) == 1
        shifts.update(matches)
    assert len(shifts) == 25


def test_half_the_images_are_mirrored():
    images = random_images(1, 1, 7, 7).expand(400, 1, 7, 7)
    # With a black frame as wide as the padding, a crop moves the picture and cuts nothing off.
    framed = torch.nn.functional.pad(images, [2] * 4)
    column_sums = random_crop_and_flip(framed, True, seeded_generator(0)).int().sum(dim=(1, 2))
    centre = (column_sums * torch.arange(11)).sum(1) / column_sums.sum(1)
    expected = (framed[0].int().sum(dim=(0, 1)) * torch.arange(11)).sum() / framed[0].sum()
    offset = centre - expected
    # Shifts move the centre by a whole number of pixels, a mirrored image by another fraction.
    mirrored = (offset - offset.round()).abs() > 1e-4
    assert 150 < mirrored.sum() < 250


def test_augmentation_depends_on_seed_and_samples_alone():
    images = random_images(6, 3, 32, 32)
    indices = torch.arange(6)
    augment = Preprocessing(None, (0.0,) * 3, (1.0,) * 3, augment=True, flip=True, seed=0)
    other_seed = Preprocessing(None, (0.0,) * 3, (1.0,) * 3, augment=True, flip=True, seed=1)
    order = torch.tensor([5, 4, 3, 2, 1, 0])
    torch.manual_seed(0)
    first = augment(images, indices)
    torch.manual_seed(1)
    assert augment(images, indices).equal(first)
    assert not augment(images[order], order)[order].equal(first)
    assert not other_seed(images, indices).equal(first)
