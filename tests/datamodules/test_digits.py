import pytest
import torch

from filterwatch.datamodules import DigitsDataModule


def stored(dataset):
    """The stored pixels of each image; no two digits have the same."""
    return {image.numpy().tobytes() for image in dataset.source.read(dataset.indices)}


def test_four_disjoint_sets_of_real_digits():
    datamodule = DigitsDataModule()
    datamodule.prepare_data()
    datamodule.setup()
    sets = [
        datamodule.train_dataset,
        datamodule.val_dataset,
        datamodule.probe_dataset,
        datamodule.test_dataset,
    ]
    assert [len(dataset) for dataset in sets] == [700, 300, 500, 297]
    assert len(set.union(*map(stored, sets))) == 1797
    for dataset in sets[1:]:
        counts = dataset.labels.bincount(minlength=10)
        assert counts.max() - counts.min() <= 3


def test_the_network_sees_32_by_32_standardised():
    datamodule = DigitsDataModule()
    assert (datamodule.num_classes, datamodule.in_channels, datamodule.image_size) == (10, 1, 32)
    assert datamodule.class_names == tuple("0123456789")
    datamodule.setup()
    images = torch.cat([images for images, _ in datamodule.train_dataloader()])
    assert images.shape == (700, 1, 32, 32)
    assert abs(images.mean()) < 0.03
    assert abs(images.std() - 1) < 0.03


def test_labels_match_their_images():
    # Nearest class mean recognises nine digits out of ten where labels fit, one where they do not.
    datamodule = DigitsDataModule(batch_size=1000)
    datamodule.setup()
    images, labels = next(iter(datamodule.train_dataloader()))
    means = torch.stack([images[labels == digit].mean(0) for digit in range(10)])
    for loader in (datamodule.probe_dataloader(), datamodule.test_dataloader()):
        images, labels = next(iter(loader))
        nearest = torch.cdist(images.flatten(1), means.flatten(1)).argmin(1)
        assert (nearest == labels).float().mean() > 0.85


def test_test_images_are_the_same_for_every_seed():
    one, other = DigitsDataModule(seed=0), DigitsDataModule(seed=1)
    one.setup()
    other.setup()
    assert stored(one.test_dataset) == stored(other.test_dataset)
    assert stored(one.val_dataset) != stored(other.val_dataset)


def test_digits_are_never_mirrored():
    assert not DigitsDataModule(augment=True).horizontal_flip


def test_some_images_of_the_probe_are_blank_and_nothing_else_changes():
    whole, blank = DigitsDataModule(), DigitsDataModule(blank_probe_images=10)
    whole.setup()
    blank.setup()
    images = blank.probe_dataset.source.read(blank.probe_dataset.indices)
    assert (images[:10] == 255).all()
    expected = whole.probe_dataset.source.read(whole.probe_dataset.indices)
    assert torch.equal(images[10:], expected[10:])
    assert not (expected == 255).all((1, 2, 3)).any()
    assert torch.equal(blank.probe_dataset.labels, whole.probe_dataset.labels)
    for name in ("train_dataset", "val_dataset"):
        assert stored(getattr(blank, name)) == stored(getattr(whole, name))


def test_more_blank_images_than_the_probe_has_are_refused():
    with pytest.raises(ValueError, match="blank_probe_images=-1 is too small"):
        DigitsDataModule(blank_probe_images=-1)
    with pytest.raises(ValueError, match="blank_probe_images=501 exceeds the 500 images"):
        DigitsDataModule(blank_probe_images=501).setup()
