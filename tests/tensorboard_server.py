"""TensorBoard on a log directory, for as long as somebody looks."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serve_tensorboard(directory: Path, scratch: Path, *, timeout: float = 120.0) -> Iterator[str]:
    """Start TensorBoard on a free port of this machine, and stop it at the end.

    Args:
        directory: The log directory.
        scratch: Where to keep what the server prints.
        timeout: Seconds that it may take to start.

    Yields:
        The address of its page.

    Raises:
        RuntimeError: If it does not start.
    """
    command = [
        # The page shows this directory, so its name is enough.
        *(sys.executable, "-m", "tensorboard.main", "--logdir", directory.name),
        *("--host", "127.0.0.1", "--port", "0", "--load_fast", "false"),
    ]
    log = scratch / "tensorboard.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=directory.parent
        ) as process,
    ):
        try:
            yield _address(process, log, time.monotonic() + timeout)
        finally:
            process.terminate()
            process.wait(30)


def _address(process: subprocess.Popen[bytes], log: Path, deadline: float) -> str:
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"http://[\d.]+:\d+/", log.read_text())
        if found:
            return found[0]
        time.sleep(0.2)
    raise RuntimeError(f"TensorBoard did not start: {log.read_text()}")
