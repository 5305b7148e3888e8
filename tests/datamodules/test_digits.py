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
