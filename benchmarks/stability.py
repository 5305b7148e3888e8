"""Do count and identities last, from one draw of the probe to another?"""

from __future__ import annotations

from itertools import combinations

import torch

from benchmarks.rows import Row, at_least, at_most, informs
from benchmarks.setting import Setting, seconds, threads
from filterwatch import detect_anomaly_filters

_DRAWS = 10
_CONFIGURATIONS: dict[str, dict[str, int]] = {
    "default": {},
    "K to 20": {"max_clusters": 20},
    "votes=16": {"votes": 16},
    "votes=16, K to 20": {"votes": 16, "max_clusters": 20},
}

Flagged = set[tuple[str, int]]


def rows(setting: Setting) -> list[Row]:
    """Return the rows of every configuration."""
    with threads(1):
        return [
            row
            for name, options in _CONFIGURATIONS.items()
            for row in _configuration(setting, name, options)
        ]


def _configuration(setting: Setting, name: str, options: dict[str, int]) -> list[Row]:
    probe = setting.probe

    def flagged(part: torch.Tensor) -> Flagged:
        report = detect_anomaly_filters(setting.classifier, part, **options)
        return {(anomaly.layer, anomaly.channel) for anomaly in report.anomalies}

    generator = torch.Generator().manual_seed(0)
    parts = [
        probe[torch.randperm(len(probe), generator=generator)[: len(probe) * 4 // 5]]
        for _ in range(_DRAWS)
    ]
    whole = flagged(probe)
    draws = [flagged(part) for part in parts]
    cost = seconds(lambda: flagged(probe), repeats=1)
    return [
        informs(
            f"{name}: filters flagged on the whole probe, cost",
            float(len(whole)),
            f"{len(whole)}, {cost:.2f} s",
        ),
        at_most(f"{name}: coefficient of variation, 10 draws of 80 %", _variation(draws), 0.15),
        at_least(f"{name}: mean pairwise Jaccard index, 10 draws of 80 %", _overlap(draws), 0.6),
    ]


def _variation(sets: list[Flagged]) -> float:
    counts = torch.tensor([float(len(found)) for found in sets])
    return float(counts.std() / counts.mean()) if counts.sum() else float("nan")


def _overlap(sets: list[Flagged]) -> float:
    pairs = list(combinations(sets, 2))
    return sum(len(one & other) / max(1, len(one | other)) for one, other in pairs) / len(pairs)
