"""What is loaded when, and that every name is there: nothing is loaded before it is used."""

from __future__ import annotations

import resource
import subprocess
import sys
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import pytest

import filterwatch
from filterwatch import actions, datamodules, models, visuals

HEAVY = ("torch", "lightning", "sklearn", "torchvision", "matplotlib", "numba", "scipy", "PIL")

FACES = [actions, datamodules, models, visuals]
LOADED_BY_A_FACE = {
    "lightning", "matplotlib", "PIL", "rich", "sklearn", "torch", "torchmetrics", "torchvision"
}  # fmt: skip
# A package of that name without the code of its own, which may import more.
BARE = f"""
import sys, types
sys.modules["filterwatch"] = types.ModuleType("filterwatch")
sys.modules["filterwatch"].__path__ = [{str(Path(filterwatch.__file__).parent)!r}]
"""


def loaded_by(code: str) -> set[str]:
    """Return which large packages a fresh interpreter has loaded after some code, ours left out."""
    script = f"{BARE}\n{code}\nprint(*({LOADED_BY_A_FACE!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


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


def test_a_loop_without_lightning_loads_no_lightning() -> None:
    loaded = loaded_after("from filterwatch import FilterWatch")
    assert "filterwatch.watching" in loaded
    assert loaded & {"lightning", "matplotlib", "sklearn", "PIL", "filterwatch.callbacks"} == set()


def test_public_names_alone_are_listed() -> None:
    assert set(dir(filterwatch)) == {*filterwatch.__all__, *filterwatch._PACKAGES, "__version__"}
    for package in FACES:
        assert dir(package) == sorted(package.__all__)


def test_every_public_name_is_found_listed_and_kept() -> None:
    for name in filterwatch.__all__:
        assert getattr(filterwatch, name).__name__ == name
        assert name in vars(filterwatch)  # the second access is a plain one
    assert {*filterwatch.__all__, *filterwatch._PACKAGES, "__version__"} <= set(dir(filterwatch))
    assert filterwatch.detection.AnomalyReport is filterwatch.AnomalyReport
    assert filterwatch.__version__.startswith("0.")
    with pytest.raises(AttributeError, match="'filterwatch' has no attribute 'NoSuchName'"):
        attrgetter("NoSuchName")(filterwatch)


@pytest.mark.parametrize("package", FACES)
def test_every_name_of_a_face_is_there(package: ModuleType) -> None:
    for name in package.__all__:
        assert name in dir(package)
        assert getattr(package, name) is not None
        if package is visuals:
            assert getattr(package, name).__name__ == name
    assert len(package.__all__) == len(set(package.__all__))


@pytest.mark.parametrize("package", FACES)
def test_a_name_that_a_face_does_not_have_is_the_usual_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=rf"'{package.__name__}' has no attribute 'Nothing'"):
        _ = package.Nothing


@pytest.mark.parametrize(
    "code",
    [
        "import filterwatch.actions, filterwatch.visuals",
        "import filterwatch.datamodules, filterwatch.models",
        "from filterwatch import datamodules; dir(datamodules)",
    ],
)
def test_a_face_loads_nothing(code: str) -> None:
    assert loaded_by(code) == set()


def test_seeded_choices_load_torch_alone() -> None:
    code = "from filterwatch.datamodules import Stream, seeded_generator, stratified_split"
    assert loaded_by(code) == {"torch"}


def test_networks_and_preprocessing_load_neither_lightning_nor_scikit_learn() -> None:
    code = "from filterwatch.models import NETWORKS; from filterwatch.datamodules import resize"
    heavy = {"lightning", "matplotlib", "sklearn", "torchmetrics", "torchvision"}
    assert loaded_by(code) & heavy == {"torchvision"}


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
