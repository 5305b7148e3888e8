"""What a history keeps of each probe, as plain values."""

from __future__ import annotations

from typing import Any

from filterwatch.detection import AnomalyReport
from filterwatch.memorization import MemorizationReport, history_entry


def probe_entry(
    epoch: int, report: AnomalyReport, memorization: MemorizationReport | None
) -> dict[str, Any]:
    """Return what a probe found in an epoch.

    Returns:
        ``epoch``, ``count``, ``distinct``, ``by_layer``, ``outlier_samples``; where memorization
        was measured also what `filterwatch.memorization.history_entry` returns.
    """
    entry: dict[str, Any] = {
        "epoch": epoch,
        "count": report.count,
        "distinct": len(report.filters),
        "by_layer": report.count_by_layer,
        "outlier_samples": len(report.outlier_samples()),
    }
    return entry if memorization is None else entry | history_entry(memorization)
