"""The checks that `AnomalyFilterCallback` makes of its constructor arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch.utils.data import Dataset

from filterwatch._checks import check_flag, check_integer
from filterwatch.detection import AnomalyCriteria
from filterwatch.detection.arguments import check_detection_arguments, check_probe_size
from filterwatch.visuals import check_pictures


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
    for name in ("probe_size", "every_n_epochs"):
        check_integer(name, arguments[name], 1)
    check_detection_arguments(arguments)
    for name in ("strict", "print_summary"):
        check_flag(name, arguments[name])
    check_probe(arguments["probe"])
    check_pictures(arguments["pictures"])
    check_probe_size(arguments["probe_size"], arguments["max_clusters"], arguments["criteria"])
    prefix = arguments["prefix"]
    if not isinstance(prefix, str):
        raise TypeError(f"prefix={prefix!r} is no string: pass what metric names begin with")
