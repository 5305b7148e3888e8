"""How often the engine's verdicts are scikit-learn's, and scikit-learn's are its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from benchmarks.reference import LoopResult
from benchmarks.rows import Row, informs
from filterwatch import AnomalyCriteria, AnomalyReport

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
    ours = _judged(report)
    seeds = [_judged(_with_clusterings(report, alive, result)) for result in references]
    between = [_agreement(*pair) for pair in combinations(seeds, 2)]
    what = f"filters with scikit-learn's verdict, mean of {len(seeds)} seeds and the three criteria"
    goal = f">= {_mean(between):.4f}, scikit-learn's agreement with itself"
    own, of_better = (
        _mean([_agreement(verdicts, of_seed) for of_seed in seeds])
        for verdicts in (ours, _judged(_with_clusterings(report, alive, better)))
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
    """Return which of all filters each of the criteria flags."""
    return {
        name: torch.cat(list(report.flags(criteria).values()))
        for name, criteria in _CRITERIA.items()
    }


def _with_clusterings(report: AnomalyReport, alive: Tensor, result: LoopResult) -> AnomalyReport:
    """Return the report with a loop's clusterings of the filters that ``alive`` marks."""
    sizes = result.cluster_sizes.new_zeros(len(alive), result.cluster_sizes.shape[1])
    sizes[alive] = result.cluster_sizes
    ch_index = result.ch_index.new_full((len(alive),), torch.nan)
    ch_index[alive] = result.ch_index
    lengths = [len(layer.ch_index) for layer in report.layers.values()]
    parts = zip(report.layers.items(), sizes.split(lengths), ch_index.split(lengths), strict=True)
    return replace(
        report,
        layers={
            name: replace(layer, cluster_sizes=of_sizes, ch_index=of_index)
            for (name, layer), of_sizes, of_index in parts
        },
    )


def _agreement(verdicts: Verdicts, others: Verdicts) -> float:
    """Return the share of filters with the same verdict, averaged over the criteria."""
    return _mean([_same(flags, others[name]) for name, flags in verdicts.items()])


def _same(flags: Tensor, others: Tensor) -> float:
    return float((flags == others).double().mean())


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
