"""Speed and quality of the fits against scikit-learn's, and where the time goes."""

from __future__ import annotations

import platform
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import agreement
from benchmarks.reference import LoopResult, fit_in_a_loop
from benchmarks.rows import Row, at_least, informs
from benchmarks.setting import Setting, seconds, threads
from filterwatch import cluster_points, detect_anomaly_filters

# An inner module, for `_profile` to limit the steps of the fits, which no argument does.
from filterwatch.detection import cluster

_MAX_CLUSTERS = 10
_SEEDS = 4  # of the loop; the agreement of two of them alone varies as much as what it judges
_STARTS = 5  # of the loop that looks for better fits


def rows(setting: Setting) -> list[Row]:
    """Return the engine's rows."""
    report = detect_anomaly_filters(setting.classifier, setting.probe, max_clusters=_MAX_CLUSTERS)
    points = torch.cat([layer.points for layer in report.layers.values()])
    alive = torch.cat([layer.n_clusters for layer in report.layers.values()]) > 0
    standardized = _standardized(points[alive])
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
    reference, again = references[:2]
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
        *agreement.rows(report, alive, references, better, _STARTS),
        *_profile(standardized),
    ]


def _standardized(points: Tensor) -> Tensor:
    """Return points [C, N, 2] of mean 0 and mean variance 1, rounded as the engine rounds them."""
    unit = points / points.abs().amax((1, 2), keepdim=True)
    centered = unit - unit.mean(1, keepdim=True)
    return centered / centered.square().mean((1, 2), keepdim=True).sqrt()


def _quality(
    standardized: Tensor, reference: LoopResult, again: LoopResult, better: LoopResult
) -> list[Row]:
    found = cluster_points(standardized, max_clusters=_MAX_CLUSTERS).log_likelihood
    others = [_within(result.log_likelihood, reference) for result in (again, better)]
    gain_of_starts = float((better.log_likelihood - reference.log_likelihood).mean())
    n_broken = int((~torch.isfinite(found)).sum())
    return [
        at_least(
            "mean log-likelihood per sample, less scikit-learn's",
            float((found - reference.log_likelihood).mean()),
            -0.001,
        ),
        at_least(
            "share of fits at most 0.01 below scikit-learn's",
            _within(found, reference),
            0.99,
            "{:.4f}",
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


def _profile(standardized: Tensor) -> list[Row]:
    """Set the fits apart from what surrounds them: starts and indices remain with one step each."""
    with threads(1):
        whole = seconds(lambda: cluster_points(standardized, max_clusters=_MAX_CLUSTERS))
        with patch.object(cluster, "MAX_ITERATIONS", 1):
            one_step = seconds(lambda: cluster_points(standardized, max_clusters=_MAX_CLUSTERS))
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
