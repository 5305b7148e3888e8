"""CIFAR and Fashion-MNIST, read from tiny archives in the formats that are downloaded."""

import gzip
import pickle
import struct
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from filterwatch.datamodules import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    FashionMNISTDataModule,
)

N_TRAIN, N_TEST = 200, 30


def pixels(n, shape, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def old_pickle(value):
    """Pickle as the old NumPy did that wrote the archives: a data type's flags are numbers."""
    flags_now, flags_then = b"\x89\x88\x87", b"K\x00K\x01\x87"
    written = pickle.dumps(value, protocol=2)
    assert written.count(flags_now) == 1
    return written.replace(flags_now, flags_then)


def write_cifar(root, n_classes):
    """Write a CIFAR archive; return training and test images [N, 3, 32, 32] and labels."""
    key = "labels" if n_classes == 10 else "fine_labels"
    dataset = datasets.CIFAR10 if n_classes == 10 else datasets.CIFAR100
    names = (CIFAR10DataModule if n_classes == 10 else CIFAR100DataModule).class_names
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    written = []
    for n, files in ((N_TRAIN, dataset.train_list), (N_TEST, dataset.test_list)):
        images = pixels(n, (3072,), seed=n)
        labels = [i % n_classes for i in range(n)]
        share = n // len(files)
        for i, (name, _) in enumerate(files):
            rows = slice(i * share, (i + 1) * share)
            batch = {"data": images[rows], key: labels[rows]}
            (folder / name).write_bytes(old_pickle(batch))
        written.append((torch.from_numpy(images).view(n, 3, 32, 32), torch.tensor(labels)))
    meta = {dataset.meta["key"]: list(names)}
    (folder / dataset.meta["filename"]).write_bytes(pickle.dumps(meta, protocol=2))
    with tarfile.open(root / dataset.filename, "w:gz") as archive:
        archive.add(folder, dataset.base_folder)
    return written


def write_fashion_mnist(root):
    """Write Fashion-MNIST's four files; return training and test images and labels."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    written = []
    for n, name in ((N_TRAIN, "train"), (N_TEST, "t10k")):
        images = pixels(n, (28, 28), seed=n)
        labels = np.arange(n, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
            with gzip.open(folder / f"{name}-{kind}-ubyte.gz", "wb") as file:
                file.write(header + array.tobytes())
        written.append((torch.from_numpy(images)[:, None], torch.from_numpy(labels).long()))
    return written


def write(datamodule_class, root):
    if datamodule_class is FashionMNISTDataModule:
        return write_fashion_mnist(root)
    return write_cifar(root, len(datamodule_class.class_names))


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
