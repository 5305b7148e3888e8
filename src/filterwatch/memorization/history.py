"""What a fit keeps of each measurement, and the names that it is logged by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from filterwatch.memorization.evidence import OUTPUT
from filterwatch.memorization.report import MemorizationReport

# Of the deepest hidden layer, of the output, and of samples.
METRICS = ("memorization", "generalization_gap", "memorized_samples")


def history_entry(report: MemorizationReport) -> dict[str, Any]:
    """Return what a history keeps of a report, as plain values.

    Returns:
        ``memorization`` and ``memorization_errors``, values and standard errors by layer, the
        output's last; ``memorized_samples``.
    """
    rows = {name: row for name, row in report.layers.items() if row.kind != "joint"}
    return {
        "memorization": {name: row.value for name, row in rows.items()},
        "memorization_errors": {name: row.standard_error for name, row in rows.items()},
        "memorized_samples": report.memorized_samples,
    }


def logged_values(entry: Mapping[str, Any], by_layer: str = "memorization") -> dict[str, float]:
    """Return what was measured, by the names that it is logged by; no NaN.

    Args:
        entry: An entry of a history; where nothing was measured, nothing is returned.
        by_layer: Begins the names of single layers, before a slash.
    """
    if "memorization" not in entry:
        return {}
    layers = dict(entry["memorization"])
    gap = layers.pop(OUTPUT, math.nan)
    known = (list(layers.values())[-1], gap, entry["memorized_samples"])
    values = dict(zip(METRICS, known, strict=True))
    values |= {f"{by_layer}/{layer}": value for layer, value in layers.items()}
    return {name: value for name, value in values.items() if not math.isnan(value)}
