"""How often the engine's verdicts are scikit-learn's, and scikit-learn's are its own."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.reference import LoopResult
from benchmarks.rows import Row, informs
from filterwatch import AnomalyCriteria, AnomalyReport, cluster_points
from filterwatch.detection.clustering import _among_all
from filterwatch.detection.criteria import flag_anomalies

_CRITERIA = {
    "default criteria": AnomalyCriteria(),
    "Table 1, row 1": AnomalyCriteria.paper(1),
    "Table 1, row 3": AnomalyCriteria.paper(3),
}

Verdicts = dict[str, Tensor]


def rows(
    report: AnomalyReport,
    points: Tensor,
    alive: Tensor,
    references: list[LoopResult],
    n_starts: int,
) -> list[Row]:
    """Return the rows of the verdicts.

    Args:
        report: What the engine found.
        points: The points of all of its filters, [C, N, 2].
        alive: Which of them the loops fitted, [C].
        references: What scikit-learn finds from one start, from another one, and from the better
            of several.
        n_starts: How many those are.
    """
    ours = _judged(report)
    refined = cluster_points(points, max_clusters=report.settings["max_clusters"], refine=True)
    first, second, better = (
        _flagged(
            report,
            _among_all(result.cluster_sizes, alive, 0),
            _among_all(result.ch_index, alive, torch.nan),
        )
        for result in references
    )

    def shared(verdicts: Verdicts) -> dict[str, float]:
        return {
            name: (_agreement(flags, first[name]) + _agreement(flags, second[name])) / 2
            for name, flags in verdicts.items()
        }

    itself = {name: _agreement(first[name], second[name]) for name in _CRITERIA}
    with_both = shared(ours)
    between = _mean(itself)
    measured = {
        "": _mean(with_both),
        "refine=True: ": _mean(shared(_flagged(report, refined.cluster_sizes, refined.ch_index))),
    }
    of_better = _mean(shared(better))
    return [
        *(
            informs(
                f"{name}: same verdict as scikit-learn, as scikit-learn with another seed; flagged "
                "by ours and its two seeds",
                with_both[name],
                f"{with_both[name]:.4f}, {itself[name]:.4f}; "
                + ", ".join(str(int(found[name].sum())) for found in (ours, first, second)),
            )
            for name in _CRITERIA
        ),
        *(
            Row(
                f"{name}filters with scikit-learn's verdict, mean of two seeds and the three "
                "criteria",
                mean,
                f"{mean:.4f}",
                f">= {between:.4f}, scikit-learn's agreement with itself",
                mean >= between,
            )
            for name, mean in measured.items()
        ),
        informs(f"the same of the best of {n_starts} starts", of_better, f"{of_better:.4f}"),
    ]


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


def _agreement(flags: Tensor, others: Tensor) -> float:
    return float((flags == others).double().mean())


def _mean(shares: dict[str, float]) -> float:
    return sum(shares.values()) / len(shares)
