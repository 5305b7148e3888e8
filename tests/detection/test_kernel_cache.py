"""Compiled code is kept where it can be, and compiled ahead where it is not there yet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import caching

import filterwatch
from filterwatch.detection import Compilation
from filterwatch.detection.kernels import compiled, mixture

SOURCES = str(Path(filterwatch.__file__).parents[1])
SOURCE = "def twice(x):\n    return 2 * x\n"


def kernel(folder: Path) -> Any:
    """Return a compiled function that lies in a file, as numba's cache wants it."""
    path = folder / "twice.py"
    if not path.exists():
        path.write_text(SOURCE)
    names: dict[str, Any] = {"__name__": "twice"}  # numba < 0.61 pickles what has no module
    exec(compile(SOURCE, str(path), "exec"), names)
    return numba.njit(cache=True)(names["twice"])


def test_what_is_not_compiled_yet_is_known(tmp_path: Path) -> None:
    twice = kernel(tmp_path)
    folder = compiled.folder_to_fill(twice)
    assert folder is not None
    assert Path(folder).is_relative_to(tmp_path)
    assert twice(np.float64(2)) == 4
    assert compiled.folder_to_fill(twice) is None
    # As another process would find it.
    assert compiled.folder_to_fill(kernel(tmp_path)) is None
    shutil.rmtree(tmp_path / "__pycache__")
    assert compiled.folder_to_fill(kernel(tmp_path)) is not None


def test_other_processes_compile_what_this_one_then_loads(tmp_path: Path) -> None:
    code = """
from filterwatch.detection import start_compiling
from filterwatch.detection.kernels.mixture import fit_all_k
from filterwatch.detection.kernels.power_iteration import project_range
compilation = start_compiling()
assert sorted(compilation.processes) == ["clustering", "components"]
seen = []
compilation.wait(lambda ready, total: seen.append((ready, total)))
assert seen[0] == (0, 2), seen
assert compilation.seconds_waited > 0
for kernel in (fit_all_k, project_range):
    assert kernel.stats.cache_hits and not kernel.stats.cache_misses, kernel.stats
assert not start_compiling().processes
"""
    environment = {**os.environ, "PYTHONPATH": SOURCES, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fails", ["cannot be started", "ends with an error"])
def test_what_no_other_process_compiles_is_compiled_here(fails: str) -> None:
    failed = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    compilation = Compilation({"clustering": None if "start" in fails else failed})
    compilation.wait()
    failed.wait()
    assert mixture.fit_all_k.signatures


def test_the_package_keeps_what_it_compiles() -> None:
    assert mixture.fit_all_k._cache.cache_path


def test_without_a_folder_to_write_to_the_package_works_and_warns() -> None:
    name = "CacheImpl" if hasattr(caching, "CacheImpl") else "_CacheImpl"
    code = f"""
from numba.core import caching
caching.{name}._locator_classes = [
    locator for locator in caching.{name}._locator_classes if "UserProvided" in locator.__name__
]
from filterwatch.detection import start_compiling
compilation = start_compiling()
print(compilation.folder)
compilation.stop()
"""
    environment = {**os.environ, "PYTHONPATH": SOURCES}
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
