"""Tiny archives in the formats that torchvision downloads."""

import gzip
import pickle
import struct
import tarfile

import numpy as np
import torch
from torchvision import datasets

from filterwatch.datamodules import CIFAR10DataModule, CIFAR100DataModule, FashionMNISTDataModule

N_TRAIN, N_TEST = 200, 30


def pixels(n, shape, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def old_pickle(value):
    """Pickle as the old NumPy did that wrote the archives: a data type's flags are numbers."""
    flags_now, flags_then = b"\x89\x88\x87", b"K\x00K\x01\x87"
    written = pickle.dumps(value, protocol=2)
    assert written.count(flags_now) == 1
    return written.replace(flags_now, flags_then)


def write_cifar(root, n_classes, n_train=N_TRAIN, n_test=N_TEST):
    """Write a CIFAR archive; return training and test images [N, 3, 32, 32] and labels."""
    key = "labels" if n_classes == 10 else "fine_labels"
    dataset = datasets.CIFAR10 if n_classes == 10 else datasets.CIFAR100
    names = (CIFAR10DataModule if n_classes == 10 else CIFAR100DataModule).class_names
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    written = []
    for n, files in ((n_train, dataset.train_list), (n_test, dataset.test_list)):
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


def write_fashion_mnist(root, n_train=N_TRAIN, n_test=N_TEST):
    """Write Fashion-MNIST's four files; return training and test images and labels."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    written = []
    for n, name in ((n_train, "train"), (n_test, "t10k")):
        images = pixels(n, (28, 28), seed=n)
        labels = np.arange(n, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
            with gzip.open(folder / f"{name}-{kind}-ubyte.gz", "wb") as file:
                file.write(header + array.tobytes())
        written.append((torch.from_numpy(images)[:, None], torch.from_numpy(labels).long()))
    return written


def write(datamodule_class, root, **sizes):
    """Write a data set's archives into a folder."""
    if datamodule_class is FashionMNISTDataModule:
        return write_fashion_mnist(root, **sizes)
    return write_cifar(root, len(datamodule_class.class_names), **sizes)
