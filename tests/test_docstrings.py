"""Examples in docstrings run, and print what they say."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

WITH_EXAMPLES = [
    "detection.detect",
    "memorization.measure",
    "memorization.samples",
    "watching.filter_watch",
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples(module: str) -> None:
    result = doctest.testmod(import_module(f"filterwatch.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
