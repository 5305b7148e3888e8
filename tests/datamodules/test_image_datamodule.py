from itertools import combinations

import pytest
import torch

from filterwatch.datamodules import ImageDataModule, LabelledImages, MemoryImages

NAMES = ("train", "val", "probe", "test")


def indices(datamodule):
    """Each set as (source, row) pairs, so that rows of different sources never look alike."""
    return {
        name: {
            (id(dataset.source), row)
            for dataset in [getattr(datamodule, f"{name}_dataset")]
            for row in dataset.indices.tolist()
        }
        for name in NAMES
    }


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["numbered", "validated"])
def test_the_four_sets_are_disjoint_and_lose_nothing(request, numbers, kind, seed):
    datamodule = request.getfixturevalue(f"{kind}_datamodule")(seed=seed, val_size=None)
    datamodule.setup()

    sets = indices(datamodule)
    for one, other in combinations(NAMES, 2):
        assert not sets[one] & sets[other]
    n_val = 60 if kind == "numbered" else 50
    assert {name: len(rows) for name, rows in sets.items()} == {
        "train": 600 - 120 - (60 if kind == "numbered" else 0),
        "val": n_val,
        "probe": 120,
        "test": 100,
    }
    # The same by content, from the loaders, which the images' own numbers tell apart.
    seen = [
        number for name in NAMES for number in numbers(getattr(datamodule, f"{name}_dataloader")())
    ]
    assert len(seen) == len(set(seen)) == 700 + (50 if kind == "validated" else 0)


def test_validation_and_probe_have_the_classes_in_proportion(numbered_datamodule):
    datamodule = numbered_datamodule(val_size=60, probe_size=30)
    datamodule.setup()
    assert datamodule.val_dataset.labels.bincount().tolist() == [30, 10, 10, 10]
    assert datamodule.probe_dataset.labels.bincount().tolist() == [15, 5, 5, 5]


def test_the_probe_keeps_its_order_and_interleaves_the_classes(numbered_datamodule, numbers):
    datamodule = numbered_datamodule(batch_size=16)
    datamodule.setup()
    loader = datamodule.probe_dataloader()
    assert numbers(loader) == numbers(loader) == numbers(datamodule.probe_dataloader())
    labels = next(iter(loader))[1]
    assert labels.bincount(minlength=4).min() >= 2  # in the first batch already


def test_images_and_labels_belong_together(numbered_datamodule, numbers):
    datamodule = numbered_datamodule(label_noise=0.0)
    datamodule.setup()
    classes = torch.tensor([0] * 300 + [1] * 100 + [2] * 100 + [3] * 100)
    for images, labels in datamodule.train_dataloader():
        assert labels.equal(classes[numbers(images)])
        assert images.dtype == torch.float32


def test_same_seed_same_division_whatever_the_global_state(numbered_datamodule):
    def division(seed):
        datamodule = numbered_datamodule(seed=seed, train_size=40, label_noise=0.25)
        datamodule.setup()
        return [
            tensor.tolist()
            for name in ("train", "val", "probe")
            for dataset in [getattr(datamodule, f"{name}_dataset")]
            for tensor in (dataset.indices, dataset.labels)
        ]

    torch.manual_seed(0)
    first = division(5)
    torch.manual_seed(1)
    assert division(5) == first
    assert division(6) != first


def test_train_size_keeps_a_balanced_subset(numbered_datamodule):
    whole, small, smaller = (numbered_datamodule(train_size=n) for n in (None, 80, 20))
    for datamodule in (whole, small, smaller):
        datamodule.setup()
    assert small.train_dataset.labels.bincount().tolist() == [20] * 4
    rows = [set(d.train_dataset.indices.tolist()) for d in (whole, small, smaller)]
    assert rows[0] > rows[1] > rows[2]
    for name in ("val", "probe"):
        one, other = (getattr(d, f"{name}_dataset").indices for d in (whole, small))
        assert one.equal(other)


def test_noise_changes_training_labels_alone(numbered_datamodule):
    clean, noisy = numbered_datamodule(), numbered_datamodule(label_noise=0.3)
    for datamodule in (clean, noisy):
        datamodule.setup()
    train = noisy.train_dataset
    assert int(train.is_mislabelled.sum()) == round(0.3 * len(train))
    assert train.true_labels.equal(clean.train_dataset.labels)
    assert train.is_mislabelled.equal(train.labels != clean.train_dataset.labels)
    for name in ("val", "probe", "test"):
        dataset = getattr(noisy, f"{name}_dataset")
        assert not dataset.is_mislabelled.any()
        assert dataset.labels.equal(getattr(clean, f"{name}_dataset").labels)

    loaded = {}
    for images, labels in noisy.train_dataloader():
        keys = (images[:, 0, 4, 4] + 256 * images[:, 0, 4, 5]).int().tolist()
        loaded.update(zip(keys, labels.tolist(), strict=True))
    assert loaded == dict(zip(train.indices.tolist(), train.labels.tolist(), strict=True))


def test_setup_loads_what_a_stage_needs_and_loads_it_once(numbered_datamodule):
    datamodule = numbered_datamodule()
    datamodule.setup("test")
    assert datamodule.loaded == ["test"]
    datamodule.setup("fit")
    train = datamodule.train_dataset
    for stage in ("fit", "validate", "test", None):
        datamodule.setup(stage)
    assert sorted(datamodule.loaded) == ["test", "train", "val"]
    assert datamodule.train_dataset is train


def test_sets_are_missed_before_setup(numbered_datamodule):
    datamodule = numbered_datamodule()
    with pytest.raises(RuntimeError, match=r"probe images are not loaded.*setup\(\) first"):
        datamodule.probe_dataloader()


def test_images_are_resized(numbered_datamodule):
    datamodule = numbered_datamodule(image_size=20)
    assert datamodule.image_size == 20
    assert numbered_datamodule().image_size == 8
    datamodule.setup()
    for name in NAMES:
        images, _ = next(iter(getattr(datamodule, f"{name}_dataloader")()))
        assert images.shape[1:] == (1, 20, 20)


def test_samples_one_by_one_and_through_other_loaders(numbered_datamodule, numbers):
    datamodule = numbered_datamodule()
    datamodule.setup()
    dataset = datamodule.probe_dataset
    image, label = dataset[3]
    assert image.shape == (1, 8, 8)
    assert int(label) == int(dataset.labels[3])
    subset = torch.utils.data.Subset(dataset, [5, 2])
    images, _ = next(iter(torch.utils.data.DataLoader(subset, batch_size=2)))
    assert numbers(images) == dataset.indices[[5, 2]].tolist()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size=0 is too small: pass an integer of at least 1"),
        ({"batch_size": 1.5}, TypeError, "batch_size=1.5 is not an integer"),
        ({"batch_size": True}, TypeError, "batch_size=True is not an integer"),
        ({"num_workers": -1}, ValueError, "num_workers=-1 .* at least 0"),
        ({"seed": -1}, ValueError, "seed=-1 .* at least 0"),
        ({"image_size": 0}, ValueError, "image_size=0 .* or None for the stored size"),
        ({"val_size": 0}, ValueError, "val_size=0 .* or None for a tenth"),
        ({"probe_size": -5}, ValueError, "probe_size=-5 .* or None for 1,000"),
        ({"train_size": 0}, ValueError, "train_size=0 .* or None for all"),
        ({"label_noise": 1.0}, ValueError, r"label_noise=1.0 .* from 0 to below 1"),
        ({"label_noise": float("nan")}, ValueError, r"label_noise=nan .* from 0 to below 1"),
        ({"label_noise": "much"}, TypeError, "label_noise='much' is not a number"),
        ({"augment": 1}, TypeError, "augment=1 is not a bool"),
    ],
)
def test_constructor_names_what_is_wrong(numbered_datamodule, options, error, message):
    with pytest.raises(error, match=message):
        numbered_datamodule(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_size": 421}, "train_size=421 exceeds the 420 images left"),
        ({"val_size": 500}, "Validation takes 500 and the probe 120 of 600 .* lower val_size"),
        ({"probe_size": 599}, "the probe 599 of 600"),
    ],
)
def test_more_than_there_is_cannot_be_had(numbered_datamodule, options, message):
    with pytest.raises(ValueError, match=message):
        numbered_datamodule(**options).setup("fit")


def test_official_validation_images_leave_no_size_to_choose(validated_datamodule):
    with pytest.raises(ValueError, match="val_size=10 but the data set has 50 validation images"):
        validated_datamodule(val_size=10).setup("fit")


class BlankDataModule(ImageDataModule):
    """So many training images of one black pixel, and nothing else."""

    class_names = tuple("0123456789")
    mean = (0.0,)
    std = (1.0,)

    def __init__(self, n_images):
        super().__init__()
        self.n_images = n_images

    def load_split(self, split):
        if split != "train":
            return None
        pixels = torch.zeros(self.n_images, 1, 1, 1, dtype=torch.uint8)
        return LabelledImages(MemoryImages(pixels), torch.arange(self.n_images) % 10)


@pytest.mark.parametrize(
    ("n_images", "train", "val", "probe"),
    [(50_000, 44_000, 5_000, 1_000), (2_000, 1_400, 200, 400), (60, 42, 6, 12), (3, 1, 1, 1)],
)
def test_default_sizes(n_images, train, val, probe):
    datamodule = BlankDataModule(n_images)
    datamodule.setup("fit")
    divided = (datamodule.train_dataset, datamodule.val_dataset, datamodule.probe_dataset)
    assert [len(part) for part in divided] == [train, val, probe]


def test_two_images_are_too_few():
    with pytest.raises(ValueError, match="leaves none to train on"):
        BlankDataModule(2).setup("fit")
