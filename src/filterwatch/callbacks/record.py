"""What the probes of a run found, as plain values: for the log, the history and checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from filterwatch.detection import AnomalyReport
from filterwatch.memorization import MemorizationReport, logged_values
from filterwatch.watching import probe_entry

NAME = "anomaly_filters"
# What decides which samples a probe has.
SAMPLE_SETTINGS = frozenset({"probe_size", "seed"})

# Stands in for a count that is not known yet. Finite, so that EarlyStopping goes on, and more than
# any network has, so that a monitor with mode="min" never takes it for the best.
UNKNOWN = 2.0**24


@dataclass
class Record:
    """The probes so far.

    Attributes:
        history: One dict a probe; see `probe_entry`.
        seconds: What each of them cost.
        flagged: The maps that the newest one flagged, as (layer, channel).
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    flagged: list[tuple[str, int]] = field(default_factory=list)
    _n_before: int = 0

    def add(
        self,
        epoch: int,
        report: AnomalyReport,
        memorization: MemorizationReport | None,
        seconds: float,
    ) -> None:
        """Append what a probe found in an epoch, and what it cost."""
        self.history.append(probe_entry(epoch, report, memorization))
        self.seconds.append(seconds)
        self.flagged = [(anomaly.layer, anomaly.channel) for anomaly in report.anomalies]

    def start(self, epoch: int) -> None:
        """Begin a fit at an epoch: forget its probe and later ones.

        They are a previous fit's, or of epochs that a resumed fit goes through again.
        """
        self.history = [entry for entry in self.history if entry["epoch"] < epoch]
        self.seconds = self.seconds[: len(self.history)]
        self._n_before = len(self.history)

    def lacks(self, epoch: int, every_n_epochs: int) -> bool:
        """Return whether an epoch should have been probed and was not.

        A checkpoint written just before an epoch's end has its weights, but not its probe.
        """
        due = epoch >= 0 and epoch % every_n_epochs == 0
        return due and all(entry["epoch"] != epoch for entry in self.history)

    @property
    def seconds_in_fit(self) -> list[float]:
        """What each probe of this fit cost."""
        return self.seconds[self._n_before :]

    def metrics(self, layers: Iterable[str]) -> dict[str, float]:
        """Return the newest values under the names that they are logged by.

        Args:
            layers: Names of the layers to give a stand-in where there is no probe yet.
        """
        if self.history:
            entry, seconds = self.history[-1], self.seconds[-1]
        else:
            entry = dict.fromkeys(("count", "distinct", "outlier_samples"), UNKNOWN)
            entry, seconds = {**entry, "by_layer": dict.fromkeys(layers, UNKNOWN)}, 0.0
        return {
            NAME: float(entry["count"]),
            f"{NAME}_distinct": float(entry["distinct"]),
            "outlier_samples": float(entry["outlier_samples"]),
            f"{NAME}_seconds": seconds,
            **{f"{NAME}_by_layer/{layer}": float(n) for layer, n in entry["by_layer"].items()},
        }

    def memorization_metrics(self, by_layer: str) -> dict[str, float]:
        """Return the newest memorization; see `logged_values`."""
        measured = [entry for entry in self.history if "memorization" in entry]
        return logged_values(measured[-1], by_layer) if measured else {}

    def state_dict(self) -> dict[str, Any]:
        """Return the record for a checkpoint."""
        return {
            "history": copy.deepcopy(self.history),
            "seconds": list(self.seconds),
            "flagged": list(self.flagged),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; what is missing there starts anew."""
        self.history = list(state_dict.get("history", []))
        self.seconds = list(state_dict.get("seconds", [0.0] * len(self.history)))
        self.flagged = [(layer, channel) for layer, channel in state_dict.get("flagged", [])]


def count_settings(callback: Any) -> dict[str, Any]:
    """Return what the counts of an `AnomalyFilterCallback` depend on, as plain values."""
    names = (*sorted(SAMPLE_SETTINGS), "max_clusters", "pca", "votes")
    layers = None if callback.layers is None else list(callback.layers)
    settings = {name: getattr(callback, name) for name in names}
    return {**settings, "layers": layers, "criteria": asdict(callback.criteria)}


def changed_settings(
    saved: Mapping[str, Any], now: Mapping[str, Any], *, acting: bool
) -> frozenset[str]:
    """Return which settings differ from a checkpoint's, and warn about what that leads to.

    Args:
        saved: Those that the counts in the checkpoint depend on; what is missing counts as equal.
        now: Those of now.
        acting: Whether there are actions, whose state stays.
    """
    changed = {name for name, value in now.items() if saved.get(name, value) != value}
    if changed:
        parts = [f"{name}={now[name]!r} was {saved[name]!r}" for name in now if name in changed]
        rank_zero_warn(
            f"AnomalyFilterCallback goes on with other settings than the checkpoint's "
            f"({', '.join(parts)}), "
            "whose counts cannot be compared: a new history begins"
            f"{'; a new probe is taken' if SAMPLE_SETTINGS & changed else ''}"
            f"{'; masks, and what else actions have done, stay' if acting else ''}"
        )
    return frozenset(changed)
