"""Choosing a default configuration, on data that the figures it is quoted with do not come from.

A configuration is wanted whose count on an overfit network is at least 1.5 times that on the
well-trained one of the same run, in every seed, and whose rise over the same epochs of a
regularised run is under a fifth of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from filterwatch import AnomalyCriteria, AnomalyReport
from reproduction.kept_probes import Configuration
from reproduction.points_and_verdicts import CHReference
from reproduction.signals import anomaly_score, scatter_share
from reproduction.trained_cells import Reading, TrainedCell

MIN_RATIO = 1.5
MAX_REGULARISED_SHARE = 0.2
MIN_COUNT = 3  # of an overfit network: where one map more or less decides, nothing is said
SELECTION_DRAWS = (0, 1)  # of the held-out images, to choose with
REPORT_DRAWS = (2, 3)  # and to report on

_MAX_CLUSTERS = (8, 10, 14, 20)
_FRACTIONS = (0.005, 0.01, 0.02, 0.05, 0.1)
_REFERENCES: tuple[CHReference, ...] = ("mean", "median", "active")
# beta, and what a CH index is compared with
_CH_RATIOS: tuple[tuple[float | None, CHReference], ...] = (
    (None, "mean"),
    *((beta, reference) for reference in _REFERENCES for beta in (1.0, 1.2)),
)
_ACTIVATION_RATIOS = (0.2, 0.5)

Measure = Callable[[TrainedCell, int, int], float]
"""What a configuration says of a run at an epoch, on a draw of the held-out images."""


@dataclass(frozen=True)
class Four:
    """A measure of one seed's two runs at the same two epochs.

    Attributes:
        well_trained: Overfitting run, at its minimum of validation loss.
        overfit: The same, at its end.
        regularised_early: Regularised run at the epoch of the former.
        regularised_late: The same at the epoch of the latter.
    """

    well_trained: float
    overfit: float
    regularised_early: float
    regularised_late: float

    @property
    def ratio(self) -> float:
        """Overfit over well-trained; infinite where the latter is 0."""
        return self.overfit / self.well_trained if self.well_trained else float("inf")

    @property
    def regularised_share(self) -> float:
        """The regularised run's rise as a share of the overfitting one's; infinite without one."""
        rise = self.overfit - self.well_trained
        return (self.regularised_late - self.regularised_early) / rise if rise > 0 else float("inf")

    @property
    def passes(self) -> bool:
        """Whether both conditions hold."""
        return self.ratio >= MIN_RATIO and self.regularised_share < MAX_REGULARISED_SHARE


def candidates() -> Iterator[tuple[str, Reading]]:
    """Yield every configuration that is tried, with a name that says what it is."""
    for most in _MAX_CLUSTERS:
        for fraction in _FRACTIONS:
            for ch_ratio, reference in _CH_RATIOS:
                for activation_ratio in _ACTIVATION_RATIOS:
                    criteria = AnomalyCriteria(fraction, 0.2, ch_ratio, activation_ratio)
                    beta = f"β {ch_ratio} ({reference})" if ch_ratio else "β off"
                    name = f"K to {most}, λ {fraction:.1%}, {beta}, θ {activation_ratio}"
                    yield name, Reading(name, Configuration(max_clusters=most), criteria, reference)


def measures() -> dict[str, Measure]:
    """Return every measure that is compared: a count for each candidate, and scores."""

    def count(reading: Reading) -> Measure:
        def measure(trained: TrainedCell, epoch: int, draw: int) -> float:
            configuration = replace(reading.configuration, draw=draw)
            return trained.verdict(epoch, replace(reading, configuration=configuration)).count

        return measure

    def continuous(of: Callable[[AnomalyReport], float], max_clusters: int) -> Measure:
        def measure(trained: TrainedCell, epoch: int, draw: int) -> float:
            configuration = Configuration(draw=draw, max_clusters=max_clusters)
            return of(trained.probed(epoch, configuration).report)

        return measure

    found = {name: count(reading) for name, reading in candidates()}
    for most in _MAX_CLUSTERS:
        found[f"anomaly score, K to {most}"] = continuous(anomaly_score, most)
        found[f"scatter share score, K to {most}"] = continuous(scatter_share, most)
    return found


def four(
    measure: Measure, overfitting: TrainedCell, regularised: TrainedCell, draws: tuple[int, ...]
) -> Four:
    """Apply a measure to both runs of a seed, averaged over draws of the probe."""

    def mean(trained: TrainedCell, epoch: int) -> float:
        return sum(measure(trained, epoch, draw) for draw in draws) / len(draws)

    early, late = overfitting.well_trained, min(overfitting.last, regularised.last)
    return Four(
        well_trained=mean(overfitting, early),
        overfit=mean(overfitting, overfitting.last),
        regularised_early=mean(regularised, early),
        regularised_late=mean(regularised, late),
    )


def choose(table: dict[str, list[Four]]) -> str:
    """Return the name of the best measure.

    The most seeds that pass; then the smallest median excess of the regularised share over its
    limit plus shortfall of the ratio, which decides where none passes.

    Args:
        table: For each measure one entry a seed.
    """

    def rank(name: str) -> tuple[int, float]:
        seeds = table[name]
        misses = sorted(_miss(entry) for entry in seeds)
        return sum(entry.passes for entry in seeds), -misses[len(misses) // 2]

    return max(table, key=rank)


def _miss(entry: Four) -> float:
    shortfall = max(0.0, MIN_RATIO - min(entry.ratio, 1e6))
    excess = max(0.0, min(entry.regularised_share, 1e6) - MAX_REGULARISED_SHARE)
    # Both in units of what is asked for.
    return shortfall / MIN_RATIO + excess


def select(pairs: list[tuple[TrainedCell, TrainedCell]]) -> dict[str, Any]:
    """Choose on one half of the held-out images, and report on the other.

    Args:
        pairs: Overfitting and regularised run of each seed.

    Returns:
        ``chosen`` with its figures on fresh images; ``left_out``: for each seed the measure that
        the other seeds choose, and its figures on this one; ``best``: the ten best on the images
        that were chosen with; ``passing``: how many measures pass in every seed there;
        ``too_few``: how many of those tried count next to nothing.
    """
    tried = measures()
    table = {
        name: [four(measure, *pair, SELECTION_DRAWS) for pair in pairs]
        for name, measure in tried.items()
    }
    seeds = [overfitting.cell.seed for overfitting, _ in pairs]
    tried_in_all = len(table)
    table = without_tiny_counts(table, {name for name, _ in candidates()})
    chosen = choose(table)
    left_out = []
    for index, seed in enumerate(seeds):
        rest = {name: row[:index] + row[index + 1 :] for name, row in table.items()}
        if not rest[chosen]:
            continue
        name = choose(rest)
        left_out.append(
            {
                "seed": seed,
                "measure": name,
                **_figures([four(tried[name], *pairs[index], REPORT_DRAWS)]),
            }
        )
    best: list[dict[str, Any]] = []
    remaining = dict(table)
    while remaining and len(best) < 10:
        name = choose(remaining)
        best.append({"measure": name, **_figures(remaining.pop(name))})
    return {
        "seeds": seeds,
        "tried": tried_in_all,
        "too_few": tried_in_all - len(table),
        "passing": sum(all(entry.passes for entry in row) for row in table.values()),
        "chosen": {
            "measure": chosen,
            **_figures([four(tried[chosen], *pair, REPORT_DRAWS) for pair in pairs]),
        },
        "left_out": left_out,
        "best": best,
    }


def without_tiny_counts(table: dict[str, list[Four]], counts: set[str]) -> dict[str, list[Four]]:
    """Return a table without the counts that are below `MIN_COUNT` on an overfit network.

    Args:
        table: For each measure one entry a seed.
        counts: Which measures are counts of maps.
    """
    return {
        name: row
        for name, row in table.items()
        if name not in counts or min(entry.overfit for entry in row) >= MIN_COUNT
    }


def _figures(seeds: list[Four]) -> dict[str, Any]:
    return {
        "well_trained": [entry.well_trained for entry in seeds],
        "overfit": [entry.overfit for entry in seeds],
        "ratio": [entry.ratio for entry in seeds],
        "regularised_early": [entry.regularised_early for entry in seeds],
        "regularised_late": [entry.regularised_late for entry in seeds],
        "regularised_share": [entry.regularised_share for entry in seeds],
        "passes": [entry.passes for entry in seeds],
    }
