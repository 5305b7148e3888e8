"""CIFAR and Fashion-MNIST, read from tiny archives in the formats that are downloaded."""

from pathlib import Path
from urllib.error import URLError

import pytest

from archives import N_TEST, write
from filterwatch.datamodules import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    FashionMNISTDataModule,
)


def unpacked(datamodule_class, root):
    """The folder that the archives of a data set are unpacked to."""
    if datamodule_class is FashionMNISTDataModule:
        return root / "FashionMNIST" / "raw"
    return root / datamodule_class.dataset_class.base_folder


@pytest.fixture(params=[CIFAR10DataModule, CIFAR100DataModule, FashionMNISTDataModule])
def datamodule_class(request, monkeypatch):
    """A datamodule, offline, whose data set takes files for genuine because they exist."""

    def refuse(*args, **kwargs):
        raise URLError("no network in tests")

    def exists(path, md5=None):
        return Path(path).is_file()

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    for module in ("cifar", "mnist", "utils"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", exists)
    return request.param


@pytest.mark.parametrize("form", ["archived", "unpacked"])
def test_files_in_place_are_used(datamodule_class, tmp_path, form):
    (train_images, train_labels), (test_images, test_labels) = write(datamodule_class, tmp_path)
    folder = unpacked(datamodule_class, tmp_path)
    if form == "archived":
        for path in folder.iterdir():
            if path.suffix != ".gz":
                path.unlink()
    else:
        datamodule_class(str(tmp_path)).prepare_data()
        for archive in tmp_path.rglob("*.gz"):
            archive.unlink()

    datamodule = datamodule_class(str(tmp_path))
    datamodule.prepare_data()
    datamodule.prepare_data()
    datamodule.setup()

    for name, images, labels in (
        ("train", train_images, train_labels),
        ("val", train_images, train_labels),
        ("probe", train_images, train_labels),
        ("test", test_images, test_labels),
    ):
        dataset = getattr(datamodule, f"{name}_dataset")
        assert dataset.source.read(dataset.indices).equal(images[dataset.indices])
        assert dataset.labels.equal(labels[dataset.indices])
    sizes = [
        len(dataset)
        for dataset in (
            datamodule.train_dataset,
            datamodule.val_dataset,
            datamodule.probe_dataset,
            datamodule.test_dataset,
        )
    ]
    assert sizes == [140, 20, 40, 30]
    batch, _ = next(iter(datamodule.train_dataloader()))
    side = datamodule.image_size
    assert batch.shape == (64, datamodule.in_channels, side, side)


def test_class_names_are_those_of_the_files(datamodule_class, tmp_path):
    write(datamodule_class, tmp_path)
    datamodule = datamodule_class(str(tmp_path))
    datamodule.prepare_data()
    assert list(datamodule.class_names) == list(datamodule._open(True, False).classes)
    assert datamodule.num_classes == len(set(datamodule.class_names))


def test_offline_the_message_says_what_to_put_where(datamodule_class, tmp_path):
    datamodule = datamodule_class(str(tmp_path))
    with pytest.raises(RuntimeError) as caught:
        datamodule.prepare_data()
    message = str(caught.value)
    assert "no network in tests" in message
    assert all(url in message for url in datamodule.urls)
    assert all(url.startswith("http") and url.endswith(".gz") for url in datamodule.urls)
    assert str(datamodule.archive_folder.resolve()) in message
    assert str(tmp_path) in message


def test_what_the_message_asks_for_suffices(datamodule_class, tmp_path):
    write(datamodule_class, tmp_path / "elsewhere")
    datamodule = datamodule_class(str(tmp_path / "here"))
    datamodule.archive_folder.mkdir(parents=True)
    archives = {path.name: path for path in (tmp_path / "elsewhere").rglob("*.gz")}
    for url in datamodule.urls:
        name = url.rsplit("/", 1)[1]
        archives[name].rename(datamodule.archive_folder / name)
    datamodule.prepare_data()
    datamodule.setup()
    assert len(datamodule.test_dataset) == N_TEST


def test_setup_without_the_files_says_what_to_call(datamodule_class, tmp_path):
    with pytest.raises(RuntimeError, match=r"call prepare_data\(\) to download"):
        datamodule_class(str(tmp_path)).setup("fit")


def test_a_file_is_no_root(datamodule_class, tmp_path):
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"archive.tar.gz' is a file: pass a folder"):
        datamodule_class(str(path))
