"""The checks that `AnomalyFilterCallback` makes of its constructor arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from filterwatch.datamodules._checks import check_flag, check_integer
from filterwatch.detection import AnomalyCriteria
from filterwatch.visuals.pictures import check_pictures


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


def check_probe_size(probe_size: int, max_clusters: int, criteria: AnomalyCriteria) -> None:
    """Raise ``ValueError`` unless so many samples are enough for the method.

    Args:
        probe_size: Number of samples in the probe.
        max_clusters: Largest number of clusters tried for a filter.
        criteria: Thresholds of the method.
    """
    if probe_size < max_clusters:
        raise ValueError(
            f"a probe of {probe_size} samples cannot fall into max_clusters={max_clusters} "
            "clusters: probe with more samples, or lower max_clusters"
        )
    criteria.small_cluster_limit(probe_size)


def smallest_probe(max_clusters: int, criteria: AnomalyCriteria) -> int:
    """Return a number of samples that is just enough for the method to run."""
    size = criteria.small_cluster_size
    return max(2 * max_clusters, size + 1 if isinstance(size, int) else 0)


def check_probe(probe: object) -> None:
    """Raise unless ``probe`` is something that a probe can be taken from.

    Raises:
        TypeError: If it is neither iterable nor a data set.
        ValueError: If it is a string other than ``"train"``.
    """
    if isinstance(probe, str) and probe != "train":
        raise ValueError(f"probe={probe!r} is unknown: pass 'train', data, or None")
    if probe is not None and not isinstance(probe, (Dataset, Iterable)):
        raise TypeError(
            f"probe={probe!r} is no data: pass images [N, C, H, W], a data set, a dataloader, "
            "'train' for the training data, or None for the validation data"
        )


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise unless the callback's arguments can work; see there.

    Args:
        arguments: Name to value, of every argument.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: If one is out of range.
    """
    for name in ("probe_size", "every_n_epochs", "batch_size"):
        check_integer(name, arguments[name], 1)
    check_integer("max_clusters", arguments["max_clusters"], 2)
    check_integer("votes", arguments["votes"], 0)
    check_seed(arguments["seed"])
    for name in ("strict", "print_summary"):
        check_flag(name, arguments[name])
    check_layers(arguments["layers"])
    check_probe(arguments["probe"])
    check_pictures(arguments["pictures"])
    criteria, pca, prefix = (arguments[name] for name in ("criteria", "pca", "prefix"))
    if not isinstance(criteria, AnomalyCriteria):
        raise TypeError(
            f"criteria={criteria!r} is no AnomalyCriteria: pass AnomalyCriteria(...), or None for "
            "the defaults"
        )
    check_probe_size(arguments["probe_size"], arguments["max_clusters"], criteria)
    if pca not in ("filter", "layer"):
        raise ValueError(f"pca={pca!r} is unknown: pass 'filter' or 'layer'")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix={prefix!r} is no string: pass what metric names begin with")
