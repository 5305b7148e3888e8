"""The process that compiles, and one that loads what it compiled: the same results, bit by bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import hashlib, torch
from filterwatch import detect_anomaly_filters
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
images = torch.randn(300, 1, 20, 20) ** 3
digest = hashlib.md5()
for probe in (images, images[:60]):  # each way to the components
    report = detect_anomaly_filters(model, probe, batch_size=100)
    for layer in report.layers.values():
        for values in (layer.points, layer.labels, layer.ch_index):
            digest.update(values.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_process_that_compiles_finds_what_later_ones_find(tmp_path: Path) -> None:
    def run(cache: str) -> str:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / cache)}
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
        return done.stdout.split()[-1]

    compiling, loading = run("a"), run("a")
    assert any((tmp_path / "a").rglob("*.nbc"))
    assert compiling == loading
