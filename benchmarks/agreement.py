"""How often the engine's verdicts are scikit-learn's, and scikit-learn's are its own."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from benchmarks.reference import LoopResult
from benchmarks.rows import Row, informs
from filterwatch import AnomalyCriteria, AnomalyReport
from filterwatch.detection.cluster import spread_out
from filterwatch.detection.criteria import flag_anomalies

_CRITERIA = {
    "default criteria": AnomalyCriteria(),
    "Table 1, row 1": AnomalyCriteria.paper(1),
    "Table 1, row 3": AnomalyCriteria.paper(3),
}

Verdicts = dict[str, Tensor]


def rows(
    report: AnomalyReport,
    alive: Tensor,
    references: list[LoopResult],
    better: LoopResult,
    n_starts: int,
) -> list[Row]:
    """Return the rows of the verdicts.

    Args:
        report: What the engine found.
        alive: Which of its filters the loops fitted, [C].
        references: What scikit-learn finds from one start, for each of several seeds.
        better: What it finds from the likeliest of several starts.
        n_starts: How many those are.
    """

    def judged(result: LoopResult) -> Verdicts:
        sizes = spread_out(result.cluster_sizes, alive, 0)
        return _flagged(report, sizes, spread_out(result.ch_index, alive, torch.nan))

    ours = _judged(report)
    seeds = [judged(result) for result in references]
    between = [_agreement(*pair) for pair in combinations(seeds, 2)]
    what = f"filters with scikit-learn's verdict, mean of {len(seeds)} seeds and the three criteria"
    goal = f">= {_mean(between):.4f}, scikit-learn's agreement with itself"
    own, of_better = (
        _mean([_agreement(verdicts, of_seed) for of_seed in seeds])
        for verdicts in (ours, judged(better))
    )
    return [
        *(_row_of(name, ours, seeds) for name in _CRITERIA),
        Row(what, own, f"{own:.4f}", goal, own >= _mean(between)),
        informs(
            "scikit-learn's agreement with itself, from pair to pair of seeds",
            max(between) - min(between),
            f"{min(between):.4f} to {max(between):.4f}",
        ),
        informs(f"the same of the best of {n_starts} starts", of_better, f"{of_better:.4f}"),
    ]


def _row_of(criterion: str, ours: Verdicts, seeds: list[Verdicts]) -> Row:
    """Return the row of one of the criteria."""
    flags, others = ours[criterion], [of_seed[criterion] for of_seed in seeds]
    shared = _mean([_same(flags, of_seed) for of_seed in others])
    itself = _mean([_same(*pair) for pair in combinations(others, 2)])
    return informs(
        f"{criterion}: same verdict as scikit-learn, as scikit-learn with another seed; flagged by "
        f"ours and its {len(seeds)} seeds",
        shared,
        f"{shared:.4f}, {itself:.4f}; "
        + ", ".join(str(int(found.sum())) for found in (flags, *others)),
    )


def _judged(report: AnomalyReport) -> Verdicts:
    layers = report.layers.values()
    return _flagged(
        report,
        torch.cat([layer.cluster_sizes for layer in layers]),
        torch.cat([layer.ch_index for layer in layers]),
    )


def _flagged(report: AnomalyReport, sizes: Tensor, ch_index: Tensor) -> Verdicts:
    """Judge clusterings of all filters, layer by layer, by each of the criteria."""
    layers = list(report.layers.values())
    lengths = [len(layer.ch_index) for layer in layers]
    return {
        name: torch.cat(
            [
                flag_anomalies(
                    of_sizes,
                    of_index,
                    layer.activation,
                    limit=criteria.small_cluster_limit(report.n_samples),
                    criteria=criteria,
                )
                for of_sizes, of_index, layer in zip(
                    sizes.split(lengths), ch_index.split(lengths), layers, strict=True
                )
            ]
        )
        for name, criteria in _CRITERIA.items()
    }


def _agreement(verdicts: Verdicts, others: Verdicts) -> float:
    """Return the share of filters with the same verdict, averaged over the criteria."""
    return _mean([_same(flags, others[name]) for name, flags in verdicts.items()])


def _same(flags: Tensor, others: Tensor) -> float:
    return float((flags == others).double().mean())


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
