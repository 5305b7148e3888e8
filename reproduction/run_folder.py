"""A run's folder: settings, curves, and the weights of every epoch that was kept."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

UNTRAINED = -1  # the epoch before the first


class RunFolder:
    """What a cell leaves on disk, each file written whole or not at all.

    - ``settings.json``: what decides the weights.
    - ``curves.json``: one object an epoch.
    - ``weights/<epoch>.pt``: the network's state dict; epoch -1 is before training.
    - ``last.ckpt``: the Trainer's checkpoint of the last finished epoch.

    Args:
        path: The folder; created when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoint(self) -> Path:
        """Where the Trainer's newest checkpoint lies."""
        return self.path / "last.ckpt"

    def weights_path(self, epoch: int) -> Path:
        """Where the weights of an epoch lie."""
        return self.path / "weights" / f"{epoch}.pt"

    def settings(self) -> dict[str, Any] | None:
        """Read the settings; None before the run has begun."""
        settings: dict[str, Any] | None = _read(self.path / "settings.json")
        return settings

    def curves(self) -> list[dict[str, float]]:
        """Read the curves; empty before the first epoch has ended."""
        return _read(self.path / "curves.json") or []

    def weights(self, epoch: int) -> dict[str, Tensor]:
        """Read the weights of an epoch.

        Raises:
            FileNotFoundError: If they were not kept.
        """
        path = self.weights_path(epoch)
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist: this epoch was not reached, or not kept (--keep-every)"
            )
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return weights

    def kept_epochs(self) -> list[int]:
        """Return the epochs whose weights were kept, ascending, without the untrained one."""
        epochs = sorted(int(path.stem) for path in (self.path / "weights").glob("*.pt"))
        finished = len(self.curves())
        return [epoch for epoch in epochs if 0 <= epoch < finished]

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Write the settings."""
        write_json(self.path / "settings.json", settings)

    def write_curves(self, curves: list[dict[str, float]]) -> None:
        """Write the curves."""
        write_json(self.path / "curves.json", curves)

    def write_weights(self, epoch: int, weights: dict[str, Tensor]) -> None:
        """Write the weights of an epoch."""
        write_tensors(self.weights_path(epoch), weights)


def write_tensors(path: Path, value: Any) -> None:
    """Write what ``torch.load(weights_only=True)`` reads, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(value, partial)
    partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named after the process, so that two that write the same file do not mix.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text = json.dumps(value, indent=1, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
