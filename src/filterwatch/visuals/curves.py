"""The losses and accuracies of a fit, epoch by epoch, for the picture of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Epoch and value of one metric, in order.
Curve = list[tuple[int, float]]


@dataclass
class Curves:
    """What a module logged that tells of overfitting: metrics with "loss" or "acc" in their name.

    Attributes:
        by_metric: Name to curve.
    """

    by_metric: dict[str, Curve] = field(default_factory=dict)

    @property
    def loss(self) -> dict[str, Curve]:
        """The losses."""
        return {name: curve for name, curve in self.by_metric.items() if "loss" in name.lower()}

    @property
    def accuracy(self) -> dict[str, Curve]:
        """The accuracies."""
        return {name: curve for name, curve in self.by_metric.items() if name not in self.loss}

    def add(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Add an epoch's values; those of single steps are left out, and so is what repeats."""
        for name, value in metrics.items():
            repeats = name.endswith("_epoch") and name.removesuffix("_epoch") in metrics
            tells = "loss" in name.lower() or "acc" in name.lower()
            if tells and not repeats and not name.endswith("_step"):
                self.by_metric.setdefault(name, []).append((epoch, value))

    def keep_before(self, epoch: int) -> None:
        """Forget an epoch and those after it."""
        kept = {
            name: [point for point in curve if point[0] < epoch]
            for name, curve in self.by_metric.items()
        }
        self.by_metric = {name: curve for name, curve in kept.items() if curve}

    def state_dict(self) -> dict[str, Any]:
        """Return the curves for a checkpoint; nothing where there are none."""
        curves = {name: list(curve) for name, curve in self.by_metric.items()}
        return {"curves": curves} if curves else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; what is missing there starts anew."""
        self.by_metric = {
            name: [(epoch, value) for epoch, value in curve]
            for name, curve in state_dict.get("curves", {}).items()
        }
