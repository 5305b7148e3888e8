"""How sensitive the count is to each choice that the paper leaves open, and its controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from filterwatch import AnomalyCriteria
from reproduction.kept_probes import Configuration
from reproduction.points_and_verdicts import CHReference
from reproduction.run_folder import UNTRAINED
from reproduction.trained_cells import Reading, TrainedCell

BASE = Configuration()
CRITERIA = AnomalyCriteria()
FRACTIONS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
MAX_CLUSTERS = (5, 8, 10, 14, 20)
DRAWS = (0, 1, 2, 3, 4, 5)
PROBE_SIZES = (250, 500, 1000, 2000, 5000)


def variations() -> Iterator[tuple[str, str, Reading]]:
    """Yield what is varied, to which value, and the reading; all else is the default."""

    def reading(configuration: Configuration, criteria: AnomalyCriteria = CRITERIA) -> Reading:
        return Reading("", configuration, criteria)

    for draw in DRAWS:
        yield "probe draw", str(draw), reading(replace(BASE, draw=draw))
    for size in PROBE_SIZES:
        yield "probe size", str(size), reading(replace(BASE, probe_size=size))
    for most in MAX_CLUSTERS:
        yield "largest K", str(most), reading(replace(BASE, max_clusters=most))
    for fraction in FRACTIONS:
        criteria = replace(CRITERIA, small_cluster_size=fraction)
        yield "lambda, of the probe", f"{fraction:g}", reading(BASE, criteria)
    yield "PCA", "filter", reading(replace(BASE, pca="filter"))
    yield "PCA", "layer", reading(replace(BASE, pca="layer"))
    references: dict[CHReference, str] = {
        "mean": "the layer's mean",
        "median": "its median",
        "active": "the mean of its active filters",
    }
    for reference, name in references.items():
        yield "CH index against", name, replace(reading(BASE), ch_reference=reference)
    no_ch = replace(CRITERIA, ch_ratio=None)
    yield "CH index against", "nothing (criterion 2 off)", reading(BASE, no_ch)
    yield "probe from", "held-out images", reading(BASE)
    yield "probe from", "training images", reading(replace(BASE, source="train"))


def sensitivity(
    overfitting: list[TrainedCell], regularised: list[TrainedCell]
) -> list[dict[str, Any]]:
    """Count anomaly filters under every variation.

    Args:
        overfitting: Runs that overfit, by seed.
        regularised: Runs that do not, of the same seeds and network where there are any.

    Returns:
        One entry a variation: ``factor``, ``value``, and lists over the seeds: ``untrained``,
        ``well_trained``, ``overfit``; ``regularised_well_trained`` and ``regularised_overfit`` are
        the regularised run's counts at the same epochs.
    """
    partners = {trained.cell.seed: trained for trained in regularised}
    table = []
    for factor, value, reading in variations():
        entry: dict[str, Any] = {"factor": factor, "value": value, "seeds": []}
        for trained in overfitting:
            counts: dict[str, int | None] = {
                "untrained": trained.verdict(UNTRAINED, reading).count,
                "well_trained": trained.verdict(trained.well_trained, reading).count,
                "overfit": trained.verdict(trained.last, reading).count,
            }
            partner = partners.get(trained.cell.seed)
            for name, epoch in (("well_trained", trained.well_trained), ("overfit", trained.last)):
                counts[f"regularised_{name}"] = (
                    partner.verdict(epoch, reading).count
                    if partner is not None and epoch <= partner.last
                    else None
                )
            entry["seeds"].append(trained.cell.seed)
            for name, count in counts.items():
                entry.setdefault(name, []).append(count)
        table.append(entry)
    return table


def last_epoch_counts(runs: list[TrainedCell], reading: Reading) -> list[dict[str, Any]]:
    """Count anomaly filters before training, at the minimum of validation loss, and at the end."""
    return [
        {
            "seed": trained.cell.seed,
            "untrained": trained.verdict(UNTRAINED, reading).count,
            "well_trained": trained.verdict(trained.well_trained, reading).count,
            "last": trained.verdict(trained.last, reading).count,
        }
        for trained in runs
    ]
