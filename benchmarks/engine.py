"""Speed and quality of the fits against scikit-learn's, and how far they are from the floor."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from benchmarks import agreement
from benchmarks.reference import LoopResult, fit_in_a_loop
from benchmarks.rows import Row, at_least, informs
from benchmarks.setting import Setting, seconds, threads
from filterwatch import cluster_points, detect_anomaly_filters
from filterwatch.detection import gmm, tensor_clustering
from filterwatch.detection.clustering import _standardize
from filterwatch.detection.fused import _block_densities, _block_expectation, _block_moments
from filterwatch.detection.fused_kmeans import FAST_MATH

_MAX_CLUSTERS = 10
_SEEDS = 4  # of the loop; the agreement of two of them alone varies as much as what it judges
_STARTS = 5  # of the loop that looks for better fits
_DEFAULTS: dict[str, Any] = dict(cluster_points.__kwdefaults__ or {})


def rows(setting: Setting) -> list[Row]:
    """Return the engine's rows."""
    report = detect_anomaly_filters(setting.classifier, setting.probe, max_clusters=_MAX_CLUSTERS)
    points = torch.cat([layer.points for layer in report.layers.values()])
    standardized, scale = _standardize(points)
    standardized = standardized[scale > 0]
    with threads(1):
        references = [fit_in_a_loop(standardized, _MAX_CLUSTERS, seed) for seed in range(_SEEDS)]
        better = fit_in_a_loop(standardized, _MAX_CLUSTERS, _SEEDS, n_starts=_STARTS)
        own = seconds(lambda: cluster_points(points, max_clusters=_MAX_CLUSTERS))
        whole = seconds(
            lambda: detect_anomaly_filters(
                setting.classifier, setting.probe, max_clusters=_MAX_CLUSTERS
            )
        )
        default = seconds(lambda: cluster_points(points))
        refined = seconds(lambda: cluster_points(points, max_clusters=_MAX_CLUSTERS, refine=True))
    reference, again = references[:2]
    fits = f"{len(standardized)} filters, K = 2 to {_MAX_CLUSTERS}, N = {points.shape[1]}"
    return [
        informs("scikit-learn's fits", reference.fit_seconds, f"{reference.fit_seconds:.1f} s"),
        informs(f"cluster_points: {fits}", own, f"{own:.3f} s"),
        informs("cluster_points with its default, K to 14", default, f"{default:.3f} s"),
        at_least("cluster_points: times faster than the loop", reference.fit_seconds / own, 100),
        at_least(
            "cluster_points(refine=True): times faster than the loop",
            reference.fit_seconds / refined,
            100,
        ),
        informs("detect_anomaly_filters, all of it", whole, f"{whole:.2f} s"),
        at_least(
            "detect_anomaly_filters: times faster than the loop's fits",
            reference.fit_seconds / whole,
            40,
        ),
        *_quality(standardized, reference, again, better),
        *agreement.rows(report, points, scale > 0, references, better, _STARTS),
        *_floor(standardized, own),
    ]


def _quality(
    standardized: Tensor, reference: LoopResult, again: LoopResult, better: LoopResult
) -> list[Row]:
    found = {
        name: cluster_points(standardized, max_clusters=_MAX_CLUSTERS, refine=refine).log_likelihood
        for name, refine in (("", False), ("refine=True: ", True))
    }
    others = [_within(result.log_likelihood, reference) for result in (again, better)]
    gain_of_starts = float((better.log_likelihood - reference.log_likelihood).mean())
    n_broken = sum(int((~torch.isfinite(fits)).sum()) for fits in found.values())
    return [
        *(
            row
            for name, fits in found.items()
            for row in (
                at_least(
                    f"{name}mean log-likelihood per sample, less scikit-learn's",
                    float((fits - reference.log_likelihood).mean()),
                    -0.001,
                ),
                at_least(
                    f"{name}share of fits at most 0.01 below scikit-learn's",
                    _within(fits, reference),
                    0.99,
                    "{:.4f}",
                ),
            )
        ),
        informs(
            f"these shares of scikit-learn with another seed, with the best of {_STARTS} starts",
            others[0],
            f"{others[0]:.4f}, {others[1]:.4f}",
        ),
        informs(
            f"mean log-likelihood of the best of {_STARTS} starts, less that of one",
            gain_of_starts,
            f"{gain_of_starts:.3g}",
        ),
        Row("fits that are not finite", float(n_broken), str(n_broken), "0", n_broken == 0),
    ]


def _within(log_likelihood: Tensor, reference: LoopResult) -> float:
    """Return the share of fits that are at most 0.01 less likely than the reference's."""
    return float((log_likelihood - reference.log_likelihood >= -0.01).double().mean())


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
        tensor_clustering.fit_tensors(
            sample,
            _MAX_CLUSTERS,
            False,
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
    """Return the processor's name, with family and model where the system tells them."""
    path = Path("/proc/cpuinfo")
    found: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    if "model name" not in found:
        return platform.processor() or platform.machine()
    which = [f"{key} {found[key]}" for key in ("cpu family", "model") if key in found]
    return f"{found['model name']} ({', '.join(which)})" if which else found["model name"]
