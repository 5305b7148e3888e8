"""Every test draws the same random numbers, and property tests try the same few examples."""

import pytest
import torch
from hypothesis import settings

settings.register_profile(
    "few", max_examples=20, derandomize=True, deadline=None, database=None, print_blob=False
)
settings.load_profile("few")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
