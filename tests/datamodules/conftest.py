"""Data sets whose images carry their own number, as fixtures."""

import pytest
from numbered_images import NumberedDataModule, ValidatedDataModule, read


@pytest.fixture
def numbered_datamodule():
    return NumberedDataModule


@pytest.fixture
def validated_datamodule():
    return ValidatedDataModule


@pytest.fixture
def numbers():
    """What reads the numbers of a batch of images, or of everything that a loader gives."""
    return read
