"""Shared by every test: one thread a process, so that parallel workers do not fight for cores."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder of its own: without a logger, pictures go to the current one."""
    monkeypatch.chdir(tmp_path)
