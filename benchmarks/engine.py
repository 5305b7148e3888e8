"""Speed and quality of the fits against scikit-learn's, and how far they are from the floor."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from benchmarks.reference import LoopResult, fit_in_a_loop
from benchmarks.rows import Row, at_least, informs
from benchmarks.setting import Setting, seconds, threads
from filterwatch import AnomalyCriteria, AnomalyReport, cluster_points, detect_anomaly_filters
from filterwatch.detection import clustering, gmm
from filterwatch.detection.clustering import _standardize
from filterwatch.detection.criteria import flag_anomalies
from filterwatch.detection.fused import _block_densities, _block_expectation, _block_moments
from filterwatch.detection.fused_kmeans import FAST_MATH

_MAX_CLUSTERS = 10
_STARTS = 5  # of the loop that looks for better fits
_DEFAULTS: dict[str, Any] = dict(cluster_points.__kwdefaults__ or {})


def rows(setting: Setting) -> list[Row]:
    """Return the engine's rows."""
    report = detect_anomaly_filters(setting.classifier, setting.probe, max_clusters=_MAX_CLUSTERS)
    points = torch.cat([layer.points for layer in report.layers.values()])
    standardized, scale = _standardize(points)
    standardized = standardized[scale > 0]
    with threads(1):
        reference = fit_in_a_loop(standardized, _MAX_CLUSTERS, seed=0)
        again = fit_in_a_loop(standardized, _MAX_CLUSTERS, seed=1)
        better = fit_in_a_loop(standardized, _MAX_CLUSTERS, seed=2, n_starts=_STARTS)
        own = seconds(lambda: cluster_points(points, max_clusters=_MAX_CLUSTERS))
        whole = seconds(
            lambda: detect_anomaly_filters(
                setting.classifier, setting.probe, max_clusters=_MAX_CLUSTERS
            )
        )
        default = seconds(lambda: cluster_points(points))
    fits = f"{len(standardized)} filters, K = 2 to {_MAX_CLUSTERS}, N = {points.shape[1]}"
    return [
        informs("scikit-learn's fits", reference.fit_seconds, f"{reference.fit_seconds:.1f} s"),
        informs(f"cluster_points: {fits}", own, f"{own:.3f} s"),
        informs("cluster_points with its default, K to 14", default, f"{default:.3f} s"),
        at_least("cluster_points: times faster than the loop", reference.fit_seconds / own, 100),
        informs("detect_anomaly_filters, all of it", whole, f"{whole:.2f} s"),
        at_least(
            "detect_anomaly_filters: times faster than the loop's fits",
            reference.fit_seconds / whole,
            40,
        ),
        *_quality(standardized, reference, again, better),
        *_verdicts(report, scale > 0, [reference, again, better]),
        *_floor(standardized, own),
    ]


def _quality(
    standardized: Tensor, reference: LoopResult, again: LoopResult, better: LoopResult
) -> list[Row]:
    found = cluster_points(standardized, max_clusters=_MAX_CLUSTERS).log_likelihood
    difference = found - reference.log_likelihood
    others = [
        float((result.log_likelihood - reference.log_likelihood >= -0.01).double().mean())
        for result in (again, better)
    ]
    return [
        at_least(
            "mean log-likelihood per sample, less scikit-learn's", float(difference.mean()), -0.001
        ),
        at_least(
            "share of fits at most 0.01 below scikit-learn's",
            float((difference >= -0.01).double().mean()),
            0.99,
            "{:.4f}",
        ),
        informs(
            f"the same of scikit-learn with another seed, with the best of {_STARTS} starts",
            others[0],
            f"{others[0]:.4f}, {others[1]:.4f}",
        ),
        Row(
            "fits that are not finite",
            float((~torch.isfinite(found)).sum()),
            str(int((~torch.isfinite(found)).sum())),
            "0",
            bool(torch.isfinite(found).all()),
        ),
    ]


_CRITERIA = {
    "default criteria": AnomalyCriteria(),
    "Table 1, row 1": AnomalyCriteria.paper(1),
    "Table 1, row 3": AnomalyCriteria.paper(3),
}


def _verdicts(report: AnomalyReport, alive: Tensor, references: list[LoopResult]) -> list[Row]:
    layers = list(report.layers.values())
    lengths = [len(layer.ch_index) for layer in layers]
    activation = torch.cat([layer.activation for layer in layers]).split(lengths)
    own = cluster_sizes_and_index(report)
    looped = [_among_all(alive, result) for result in references]
    rows, shares = [], []
    for name, criteria in _CRITERIA.items():
        limit = criteria.small_cluster_limit(report.n_samples)
        ours, first, second, better = (
            torch.cat(
                [
                    flag_anomalies(*parts, limit=limit, criteria=criteria)
                    for parts in zip(
                        sizes.split(lengths), index.split(lengths), activation, strict=True
                    )
                ]
            )
            for sizes, index in (own, *looped)
        )
        shares.append(
            (
                (_agreement(ours, first) + _agreement(ours, second)) / 2,
                _agreement(first, second),
                (_agreement(better, first) + _agreement(better, second)) / 2,
                _agreement(ours, better),
            )
        )
        rows.append(
            informs(
                f"{name}: same verdict as scikit-learn, as scikit-learn with another seed; flagged "
                "by ours and its two seeds",
                shares[-1][0],
                f"{shares[-1][0]:.4f}, {shares[-1][1]:.4f}; "
                f"{int(ours.sum())}, {int(first.sum())}, {int(second.sum())}",
            )
        )
    mean, between, of_better, with_better = (
        sum(column) / len(shares) for column in zip(*shares, strict=True)
    )
    rows.append(
        Row(
            "filters with scikit-learn's verdict, mean of two seeds and the three criteria",
            mean,
            f"{mean:.4f}",
            f">= {between:.4f}, scikit-learn's agreement with itself",
            mean >= between,
        )
    )
    rows.append(
        informs(
            f"the same of scikit-learn with the best of {_STARTS} starts; that with ours",
            of_better,
            f"{of_better:.4f}; {with_better:.4f}",
        )
    )
    return rows


def _agreement(flags: Tensor, others: Tensor) -> float:
    return float((flags == others).double().mean())


def cluster_sizes_and_index(report: AnomalyReport) -> tuple[Tensor, Tensor]:
    """Return what a report says of all filters: sizes [C, K] and indices [C]."""
    layers = report.layers.values()
    return (
        torch.cat([layer.cluster_sizes for layer in layers]),
        torch.cat([layer.ch_index for layer in layers]),
    )


def _among_all(alive: Tensor, result: LoopResult) -> tuple[Tensor, Tensor]:
    sizes = torch.zeros(len(alive), result.cluster_sizes.shape[1], dtype=torch.int64)
    index = torch.full((len(alive),), torch.nan, dtype=torch.float64)
    sizes[alive], index[alive] = result.cluster_sizes, result.ch_index
    return sizes, index


@njit(fastmath=FAST_MATH)
def _evaluate(x, y, factors, density, peak, total, moments, repeats):  # type: ignore[no-untyped-def]
    for _ in range(repeats):
        _block_densities(x, y, factors, density, peak)
        _block_expectation(density, peak, total)
        _block_moments(x, y, factors, density, total, moments)


def _floor(standardized: Tensor, own: float) -> list[Row]:
    """Set the time beside that of the evaluations alone, each as cheap as it can be."""
    x, y = np.random.default_rng(0).normal(size=(2, 256)).astype(np.float32)
    factors = np.tile(np.array([0, 0, 1, 0, 1, -2], np.float32), (8, 1))
    density = np.empty((8, 256), np.float32)
    peak, total = np.empty(256, np.float32), np.empty(256, np.float32)
    moments = np.zeros((8, 6))
    repeats = 2000
    each = seconds(lambda: _evaluate(x, y, factors, density, peak, total, moments, repeats)) / (
        repeats * 8 * 256
    )
    evaluations = _evaluations(standardized)
    floor = evaluations * each
    return [
        informs(
            "point-component evaluations of the E- and M-steps",
            evaluations,
            f"{evaluations / 1e6:.0f} million",
        ),
        informs("one evaluation, all in cache", each * 1e9, f"{each * 1e9:.3f} ns"),
        informs(
            "the floor: evaluations alone",
            floor,
            f"{floor:.3f} s; cluster_points takes {own / floor:.2f} times that",
        ),
        *_profile(standardized),
    ]


def _evaluations(standardized: Tensor) -> float:
    """Count by the tensor form's steps of a sample of filters: the compiled form keeps none."""
    sample = standardized[:: max(1, len(standardized) // 40)]
    counted = 0.0
    original = gmm.fit_mixture

    def counting(points: Tensor, responsibilities: Tensor, **options: object) -> gmm.MixtureFit:
        nonlocal counted
        fit = original(points, responsibilities, **options)  # type: ignore[arg-type]
        # One more E-step than M-steps.
        counted += float((fit.n_iterations + 1).sum()) * responsibilities[0].numel()
        return fit

    gmm.fit_mixture = counting
    try:
        clustering._fit_tensors(
            sample,
            _MAX_CLUSTERS,
            -1,
            *(_DEFAULTS[name] for name in ("regularization", "tolerance", "max_iterations")),
            lambda n_done: None,
        )
    finally:
        gmm.fit_mixture = original
    return counted * len(standardized) / len(sample)


def _profile(standardized: Tensor) -> list[Row]:
    """Tell the fits from what surrounds them: with one step each, starts and indices remain."""
    with threads(1):
        whole = seconds(lambda: cluster_points(standardized, max_clusters=_MAX_CLUSTERS))
        one_step = seconds(
            lambda: cluster_points(standardized, max_clusters=_MAX_CLUSTERS, max_iterations=1)
        )
    return [
        informs(
            "where the time goes: starts, two evaluations, labels, indices",
            one_step,
            f"{one_step:.3f} s of {whole:.3f} s; the other steps {whole - one_step:.3f} s",
        )
    ]


def processor() -> str:
    """Return the processor's name."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
