"""A tiny image folder, and runs on it."""

import json

import numpy as np
import pytest
from PIL import Image

from reproduction.__main__ import main

CLASSES, PER_CLASS, N_TEST = ("cat", "dog", "fox", "owl"), 150, 10


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """600 training and 40 test images of 8x8 pixels: a colour for each class, and much noise."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, n in (("train", PER_CLASS), ("test", N_TEST)):
        for label, name in enumerate(CLASSES):
            folder = root / "cifar10" / split / name
            folder.mkdir(parents=True)
            for index in range(n):
                pixels = rng.integers(0, 180, (8, 8, 3))
                pixels += np.array([20 * label, 60 - 20 * label, 30])
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root


@pytest.fixture
def reproduce(image_folder, tmp_path, monkeypatch):
    """Run ``python -m reproduction NAME`` on the folder; return the result it wrote, if any."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments, data=image_folder, runs=tmp_path / "runs"):
        where = ["--data", str(data), "--runs", str(runs), "--results", str(tmp_path / "results")]
        main([name, *where, "--device", "cpu", *map(str, arguments)])
        path = tmp_path / "results" / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    return run


@pytest.fixture(scope="session")
def trained_runs(image_folder, tmp_path_factory):
    """A folder with LeNet-5 trained for three epochs: both regimes, seeds 0 and 1."""
    runs = tmp_path_factory.mktemp("runs")
    where = ["--data", str(image_folder), "--runs", str(runs), "--device", "cpu"]
    which = ["--models", "lenet5", "--datasets", "cifar10", "--seeds", "0", "1", "--epochs", "3"]
    regimes = ["--regimes", "overfit", "regularised"]
    main(["train", *where, *which, *regimes])
    return runs
