"""Compiled code is kept where it can be, and said to be compiled where it is not there yet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numba
import numpy as np
import pytest
from numba.core import caching

import filterwatch
from filterwatch.detection import compilation_note
from filterwatch.detection.kernels import compiled, mixture

SOURCE = "def twice(x):\n    return 2 * x\n"


def kernel(folder: Path) -> Any:
    """Return a compiled function that lies in a file, as numba's cache wants it."""
    path = folder / "twice.py"
    if not path.exists():
        path.write_text(SOURCE)
    names: dict[str, Any] = {"__name__": "twice"}  # numba < 0.61 pickles what has no module
    exec(compile(SOURCE, str(path), "exec"), names)
    return numba.njit(cache=True)(names["twice"])


def note_on(function: Any) -> str | None:
    """Return what is said of a compiled function if it stands for the clustering."""
    with patch.object(sys.modules[compilation_note.__module__], "fit_all_k", function):
        return compilation_note()


def test_it_is_said_when_something_is_compiled(tmp_path: Path) -> None:
    twice = kernel(tmp_path)
    note = note_on(twice)
    assert note is not None
    assert note.startswith("compiling the clustering")
    assert str(tmp_path) in note
    assert twice(np.float64(2)) == 4
    assert note_on(twice) is None
    # As another process would find it.
    assert note_on(kernel(tmp_path)) is None
    shutil.rmtree(tmp_path / "__pycache__")
    assert note_on(kernel(tmp_path)) is not None


def test_the_package_keeps_what_it_compiles() -> None:
    assert mixture.fit_all_k._cache.cache_path


def test_without_a_folder_to_write_to_the_package_works_and_warns() -> None:
    name = "CacheImpl" if hasattr(caching, "CacheImpl") else "_CacheImpl"
    code = f"""
from numba.core import caching
caching.{name}._locator_classes = [
    locator for locator in caching.{name}._locator_classes if "UserProvided" in locator.__name__
]
from filterwatch.detection import compilation_note
print(compilation_note())
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(filterwatch.__file__).parents[1])}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().rpartition(" ")[2])
    assert "filterwatch-compiled-" in str(folder)
    assert not folder.exists()
    assert done.stderr.count("Set the environment variable NUMBA_CACHE_DIR") == 1


def test_other_errors_of_the_compiler_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**options: Any) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(numba, "njit", fail)
    with pytest.raises(RuntimeError, match="something else"):
        compiled.ensure_cache_folder()
