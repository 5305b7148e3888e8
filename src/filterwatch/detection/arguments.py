"""The checks of arguments that `detect_anomaly_filters` and the callback share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from filterwatch._checks import check_integer
from filterwatch.detection.criteria import AnomalyCriteria


def check_detection_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise unless the method can run with some arguments; see `detect_anomaly_filters`.

    Args:
        arguments: Name to value, of ``layers``, ``criteria``, ``max_clusters``, ``pca``, ``votes``,
            ``seed``, ``batch_size`` and ``memory_budget``; others are passed over.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: If one is out of range.
    """
    check_integer("batch_size", arguments["batch_size"], 1)
    check_integer("memory_budget", arguments["memory_budget"], 1)
    check_integer("max_clusters", arguments["max_clusters"], 2)
    check_integer("votes", arguments["votes"], 0)
    check_seed(arguments["seed"])
    check_layers(arguments["layers"])
    check_criteria(arguments["criteria"], none_means="the defaults")
    pca = arguments["pca"]
    if pca not in ("filter", "layer"):
        raise ValueError(f"pca={pca!r} is unknown: pass 'filter' or 'layer'")


def check_layers(layers: object) -> None:
    """Raise unless ``layers`` is None or a non-empty sequence of glob patterns.

    Raises:
        TypeError: If it is something else, a single string included.
        ValueError: If there is no pattern in it.
    """
    if layers is None:
        return
    if (
        isinstance(layers, str)
        or not isinstance(layers, Sequence)
        or not all(isinstance(pattern, str) for pattern in layers)
    ):
        raise TypeError(
            f"layers={layers!r} is not a list of glob patterns over module names: pass a list of "
            "strings such as ['layer1.*'], or None for every layer"
        )
    if not layers:
        raise ValueError("layers=[] watches nothing: name a layer, or pass None for every layer")


def check_seed(seed: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``seed`` is an integer from 0 to 2**32 - 1."""
    check_integer("seed", seed, 0)
    if isinstance(seed, int) and seed >= 2**32:
        raise ValueError(f"seed={seed} is too large: NumPy takes seeds from 0 to {2**32 - 1}")


def check_criteria(criteria: object, *, none_means: str) -> None:
    """Raise ``TypeError`` unless ``criteria`` is None or an `AnomalyCriteria`."""
    if criteria is not None and not isinstance(criteria, AnomalyCriteria):
        raise TypeError(
            f"criteria={criteria!r} is no AnomalyCriteria: pass AnomalyCriteria(...), or None for "
            f"{none_means}"
        )


def check_probe_size(probe_size: int, max_clusters: int, criteria: AnomalyCriteria) -> None:
    """Raise ``ValueError`` unless so many samples are enough for the method.

    Args:
        probe_size: Number of samples in the probe.
        max_clusters: Largest number of clusters tried for a filter.
        criteria: Thresholds of the method.
    """
    if probe_size < max_clusters:
        raise ValueError(
            f"a probe of {probe_size} samples cannot form max_clusters={max_clusters} clusters: "
            "use a larger probe, or lower max_clusters"
        )
    criteria.small_cluster_limit(probe_size)
