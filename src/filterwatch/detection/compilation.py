"""Compiling the kernels ahead of their first use, beside whatever else goes on.

Each kernel is compiled by a process of its own, which leaves it in numba's cache and ends. A thread
would take turns with the training for the interpreter's lock, and a data loader's worker that is
forked meanwhile would find the compiler locked for good.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from filterwatch.detection.cluster import cluster_points
from filterwatch.detection.kernels.compiled import cache_setting, folder_to_fill
from filterwatch.detection.kernels.mixture import fit_all_k
from filterwatch.detection.kernels.power_iteration import project_filters, project_range

# Each kernel, and what compiles it: a call on next to nothing.
_KERNELS: dict[str, tuple[Any, Callable[[], object]]] = {
    "clustering": (fit_all_k, lambda: cluster_points(torch.eye(2).unsqueeze(0), max_clusters=2)),
    "components": (
        project_range,
        lambda: project_filters(torch.zeros(2, 1, 1), samples_first=True),
    ),
}
_PAUSE = 0.05
_COMMAND = """
import sys
sys.path[:] = {path!r}
from {module} import compile_kernel
compile_kernel({name!r})
"""


def compile_kernel(name: str) -> None:
    """Compile a kernel in this process, or load it where it was kept."""
    _KERNELS[name][1]()


@dataclass
class Compilation:
    """Kernels that were not ready, each compiled by a process.

    Attributes:
        processes: Name of each kernel to its process; ``None`` where none could be started.
        folder: Where compiled kernels are kept.
        seconds_waited: What waiting for them has cost.
    """

    processes: dict[str, subprocess.Popen[bytes] | None] = field(default_factory=dict)
    folder: str = ""
    seconds_waited: float = 0.0

    def wait(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Return when all kernels are ready; compile in this process what no other could.

        Args:
            on_progress: Called now and then with how many are ready, and how many there are.
        """
        if not self.processes:
            return
        started = time.perf_counter()
        while n_running := sum(map(_is_running, self.processes.values())):
            if on_progress is not None:
                on_progress(len(self.processes) - n_running, len(self.processes))
            time.sleep(_PAUSE)
        for name in self.processes:
            compile_kernel(name)
        self.processes = {}
        self.seconds_waited += time.perf_counter() - started

    def stop(self) -> None:
        """End what is still running."""
        for process in self.processes.values():
            if process is not None:
                process.kill()
                process.wait()
        self.processes = {}


def start_compiling() -> Compilation:
    """Begin to compile, in other processes, the kernels that are neither loaded nor on disk."""
    folders = {name: folder_to_fill(kernel) for name, (kernel, _) in _KERNELS.items()}
    missing = {name: folder for name, folder in folders.items() if folder is not None}
    return Compilation({name: _start(name) for name in missing}, next(iter(missing.values()), ""))


def _start(name: str) -> subprocess.Popen[bytes] | None:
    command = _COMMAND.format(path=sys.path, module=__name__, name=name)
    try:
        return subprocess.Popen(
            [sys.executable, "-c", command],
            env={**os.environ, **cache_setting(), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:  # no room for a process, or no interpreter to start, as in an embedded one
        return None


def _is_running(process: subprocess.Popen[bytes] | None) -> bool:
    return process is not None and process.poll() is None
