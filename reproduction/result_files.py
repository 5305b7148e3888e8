"""Results as JSON: what was found, by which command, with which versions, in what time."""

from __future__ import annotations

import json
import math
import platform
import statistics
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from reproduction.cells import Cell
from reproduction.options import Options
from reproduction.run_folder import RunFolder, write_json

_PACKAGES = ("filterwatch", "torch", "torchvision", "lightning", "scikit-learn", "scipy", "numpy")


class ResultFile:
    """The JSON file of one experiment; its clock starts when it is made.

    Args:
        options: The command's options.
        name: The experiment's name, which is the file's.
        title: What the rendered section is called.
    """

    def __init__(self, options: Options, name: str, title: str) -> None:
        self._options = options
        self._name = name
        self._title = title
        self._started = time.monotonic()

    def write(self, body: dict[str, Any]) -> Path:
        """Write the file, whole or not at all; NaN and infinity become null.

        Args:
            body: The experiment's own values.
        """
        options = self._options
        path = options.results / f"{self._name}.json"
        head = {
            "name": self._name,
            "title": self._title,
            "command": options.command,
            "seeds": list(options.seeds),
            "epochs": options.epochs,
            "train_size": options.train_size,
            "versions": {
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in _PACKAGES},
            },
            "device": options.device,
            "duration_seconds": round(time.monotonic() - self._started, 1),
        }
        write_json(path, plain({**head, **body}))
        return path


def read_results(results: Path) -> dict[str, dict[str, Any]]:
    """Read every result in a folder, by name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(results.glob("*.json"))
    }


def describe(cell: Cell, outcome: RunFolder | str) -> dict[str, Any]:
    """Say what a cell is, and whether it was run or why not."""
    row: dict[str, Any] = {
        "model": cell.model,
        "dataset": cell.dataset,
        "regime": cell.regime,
        "seed": cell.seed,
        "epochs": cell.epochs,
        "train_size": cell.train_size,
        "command": cell.command,
    }
    if isinstance(outcome, str):
        return {**row, "status": "not run", "reason": outcome}
    curves = outcome.curves()[: cell.epochs]
    seconds = round(sum(entry["seconds"] for entry in curves), 1)
    return {**row, "status": "done", "training_seconds": seconds}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation (None below two values) and the values themselves."""
    finite = [value for value in values if math.isfinite(value)]
    return {
        "mean": statistics.fmean(finite) if finite else None,
        "std": statistics.stdev(finite) if len(finite) > 1 else None,
        "values": list(values),
    }


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: six digits, NaN and infinity as None."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value
