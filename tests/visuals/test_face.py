"""What `filterwatch.visuals` offers, and what that costs before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from filterwatch import visuals

# The package above may load more, and is no matter of this test.
IMPORT_ALONE = """
import sys, types
parent = types.ModuleType("filterwatch")
parent.__path__ = [sys.argv[1]]
sys.modules["filterwatch"] = parent
import filterwatch.visuals
print(sorted({"lightning", "matplotlib", "PIL", "rich", "torch"} & set(sys.modules)))
"""


def test_nothing_large_is_loaded_before_a_name_is_used() -> None:
    package = Path(visuals.__file__).parents[1]
    command = [sys.executable, "-c", IMPORT_ALONE, str(package)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"


def test_every_name_is_there() -> None:
    for name in visuals.__all__:
        assert getattr(visuals, name).__name__ == name


def test_an_unknown_name_is_the_usual_error() -> None:
    with pytest.raises(AttributeError, match=r"'filterwatch\.visuals' has no attribute 'gone'"):
        _ = visuals.gone  # type: ignore[attr-defined]
