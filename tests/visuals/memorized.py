"""A memorization report and a history of known numbers: what the tests of pictures draw."""

from __future__ import annotations

from typing import Any

import torch

from filterwatch.memorization import JOINT, OUTPUT, LayerMemorization, MemorizationReport

# Evidence of the witness by sample; the first four are contradicted, the fourth not memorized.
EVIDENCE = [-9.0, -11.0, -3.0, -8.0, -0.1, -0.2]
LABELS = [0, 1, 2, 0, 1, 2]
WITNESS_LABELS = [1, 2, 0, 2, 1, 2]
PREDICTIONS = [0, 1, 2, 1, 1, 2]
MEMORIZED = [1, 0, 2]  # worst first

# By layer, the value and its standard error in epochs 0, 2 and 6; epoch 4 was not measured.
VALUES = {
    "conv": [(0.02, 0.05), (0.03, 0.01), (-0.2, 0.05)],
    "dense": [(0.0, 0.05), (0.4, 0.2), (0.8, 0.05)],
    OUTPUT: [(0.0, 0.01), (0.5, 0.1), (6.0, 0.1)],
}
HISTORY: list[dict[str, Any]] = [{"epoch": 4, "count": 0, "by_layer": {}}]
for _at, _epoch in enumerate((0, 2, 6)):
    _entry = {
        "epoch": _epoch,
        "count": 0,
        "by_layer": {"conv": 0},
        "memorization": {layer: values[_at][0] for layer, values in VALUES.items()},
        "memorization_errors": {layer: values[_at][1] for layer, values in VALUES.items()},
        "memorized_samples": 0.0,
    }
    HISTORY.append(_entry)
HISTORY.sort(key=lambda entry: entry["epoch"])

LOSS = {
    "train_loss": [(0, 2.0), (2, 1.0), (4, 0.5), (6, 0.1)],
    "val_loss": [(0, 2.0), (2, 1.5), (4, 1.9), (6, 3.0)],
}


def memorization_report(**fields: Any) -> MemorizationReport:
    """Return a report on six training samples, layers as `VALUES` has them in epoch 6."""
    kinds = {"conv": "convolution", "dense": "linear", JOINT: "joint", OUTPUT: "output"}
    numbers = VALUES | {JOINT: [(0.1, 0.05)]}
    evidence = dict.fromkeys(kinds, torch.zeros(6))
    evidence[JOINT] = torch.tensor(EVIDENCE)
    evidence[OUTPUT] = torch.tensor([0.9, 0.75, 0.5, 0.2, 1.0, 1.0]).log()
    known: dict[str, Any] = {
        "layers": {
            name: LayerMemorization(kind, *numbers[name][-1], 0.9, 0.5, evidence[name])
            for name, kind in kinds.items()
        },
        "labels": torch.tensor(LABELS),
        "witness": JOINT,
        "witness_labels": torch.tensor(WITNESS_LABELS),
        "predictions": torch.tensor(PREDICTIONS),
        "memorized_samples": 2.5,
        "memorized_error": 0.5,
        "n_held_out": 40,
    }
    return MemorizationReport(**{**known, **fields})
