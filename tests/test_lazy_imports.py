"""What is loaded when: the command's help is quick, and the detection needs no Lightning."""

from __future__ import annotations

import resource
import subprocess
import sys
from operator import attrgetter

import pytest

import filterwatch

HEAVY = ("torch", "lightning", "sklearn", "torchvision", "matplotlib", "numba", "scipy", "PIL")


def loaded_after(statement: str) -> set[str]:
    """Return which of the heavy packages, and of our own, a fresh interpreter has loaded."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    # What a module loads is known by its last line: imports may print.
    modules = done.stdout.splitlines()[-1].split()
    own = {name for name in modules if name.startswith("filterwatch.") and name.count(".") == 1}
    return own | (set(HEAVY) & set(modules))


def test_the_package_alone_loads_nothing() -> None:
    assert loaded_after("import filterwatch") == set()
    assert loaded_after("import filterwatch.cli") == {"filterwatch.cli"}


@pytest.mark.parametrize(
    "statement", ["import filterwatch.detection", "from filterwatch import detect_anomaly_filters"]
)
def test_the_detection_loads_no_other_package_of_ours_and_no_lightning(statement: str) -> None:
    loaded = loaded_after(statement)
    assert {"filterwatch.detection", "torch", "numba"} <= loaded
    unwanted = {"lightning", "sklearn", "torchvision", "matplotlib", "PIL"}
    unwanted |= {f"filterwatch.{name}" for name in filterwatch._PACKAGES}
    unwanted -= {"filterwatch.detection", "filterwatch.observing"}
    assert loaded & unwanted == set()


def test_every_public_name_is_found_listed_and_kept() -> None:
    for name in filterwatch.__all__:
        assert getattr(filterwatch, name).__name__ == name
        assert name in vars(filterwatch)  # the second access is a plain one
    assert {*filterwatch.__all__, *filterwatch._PACKAGES, "__version__"} <= set(dir(filterwatch))
    assert filterwatch.detection.AnomalyReport is filterwatch.AnomalyReport
    assert filterwatch.__version__.startswith("0.")
    with pytest.raises(AttributeError, match="'filterwatch' has no attribute 'NoSuchName'"):
        attrgetter("NoSuchName")(filterwatch)


def test_help_takes_less_than_a_third_of_a_second() -> None:
    """Of processor time, which other programs on the machine do not lengthen; best of three."""
    command = [sys.executable, "-c", "from filterwatch.cli import main; main(['--help'])"]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "analyze" in done.stdout
    assert min(seconds) < 0.3
