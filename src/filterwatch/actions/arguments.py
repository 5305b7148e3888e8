"""The checks that actions make of their constructor arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from filterwatch._checks import check_flag, check_integer, check_number
from filterwatch.detection.arguments import check_criteria


def check_masking_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise unless the arguments of `MaskFilters` can work; see there.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: If one is out of range.
    """
    check_integer("start_epoch", arguments["start_epoch"], 0)
    check_integer("patience", arguments["patience"], 1)
    check_integer("seed", arguments["seed"], 0)
    check_number("max_fraction", arguments["max_fraction"], above=0, below=1)
    check_number("rise", arguments["rise"], above=1)
    check_flag("release", arguments["release"])
    check_flag("verify", arguments["verify"])
    criteria, when, monitor = (arguments[name] for name in ("criteria", "when", "monitor"))
    check_criteria(criteria, none_means="the callback's")
    if when not in ("always", "count", "loss"):
        raise ValueError(f"when={when!r} is unknown: pass 'always', 'count' or 'loss'")
    if not isinstance(monitor, str) or not monitor:
        raise TypeError(f"monitor={monitor!r} is no metric's name: pass one such as 'val_loss'")


def check_stopping_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise unless the arguments of `StopTraining` can work; see there.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: If one is out of range.
    """
    for name, least in (("start_epoch", 0), ("min_rise", 0), ("patience", 1), ("window", 1)):
        check_integer(name, arguments[name], least)
    check_number("rise", arguments["rise"], above=1)
