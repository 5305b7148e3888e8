"""What the packages of data and models export, and what asking for it loads."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import filterwatch
from filterwatch import datamodules, models

HEAVY = {"lightning", "matplotlib", "sklearn", "torchmetrics", "torchvision"}
# A package of that name without the code of its own, which may import more.
BARE = f"""
import sys, types
sys.modules["filterwatch"] = types.ModuleType("filterwatch")
sys.modules["filterwatch"].__path__ = [{str(Path(filterwatch.__file__).parent)!r}]
"""


def loaded_by(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after some code."""
    script = f"{BARE}\n{code}\nprint(*({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("package", [datamodules, models])
def test_every_exported_name_is_there(package: ModuleType) -> None:
    for name in package.__all__:
        assert name in dir(package)
        assert getattr(package, name) is not None
    assert len(package.__all__) == len(set(package.__all__))


@pytest.mark.parametrize("package", [datamodules, models])
def test_a_name_that_is_not_exported_is_missed(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=rf"'{package.__name__}' has no attribute 'Nothing'"):
        _ = package.Nothing


@pytest.mark.parametrize(
    "code",
    [
        "import filterwatch.datamodules, filterwatch.models",
        "from filterwatch.datamodules import Stream, seeded_generator, stratified_split",
        "from filterwatch import datamodules; dir(datamodules)",
    ],
)
def test_a_face_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) == set()


def test_networks_and_preprocessing_load_neither_lightning_nor_scikit_learn() -> None:
    code = "from filterwatch.models import NETWORKS; from filterwatch.datamodules import resize"
    assert loaded_by(code) == {"torchvision"}
