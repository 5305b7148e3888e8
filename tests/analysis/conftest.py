"""One folder of images and one checkpoint for all tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

from finished_models import save_classifier, write_classes


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes, of 60, 40, 30 and 20 images."""
    return write_classes(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Lightning checkpoint of our own classifier."""
    path = tmp_path_factory.mktemp("weights") / "classifier.ckpt"
    save_classifier(path, seed=0)
    return path
