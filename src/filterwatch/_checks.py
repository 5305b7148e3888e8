"""Checks of constructor arguments, with messages that name the value and the remedy.

Each raises ``TypeError`` for a value of the wrong type and ``ValueError`` for one out of range.
"""

import math
from collections.abc import Sequence


def check_integer(name: str, value: object, minimum: int, hint: str = "") -> None:
    """Raise unless ``value`` is an integer of at least ``minimum``; a hint ends the message."""
    expected = f"pass an integer of at least {minimum}{hint}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is not an integer: {expected}")
    if value < minimum:
        raise ValueError(f"{name}={value} is too small: {expected}")


def check_optional_integer(name: str, value: object, minimum: int, none_means: str) -> None:
    """Raise unless ``value`` is None or an integer of at least ``minimum``."""
    if value is not None:
        check_integer(name, value, minimum, f", or None for {none_means}")


def check_text(name: str, value: object, what: str) -> None:
    """Raise ``TypeError`` unless ``value`` is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} is no string: pass {what}")


def check_flag(name: str, value: object) -> None:
    """Raise unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not a bool: pass True or False")


def check_seed(value: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``seed`` is an integer from 0 to 2**32 - 1."""
    check_integer("seed", value, 0)
    if isinstance(value, int) and value >= 2**32:
        raise ValueError(f"seed={value} is too large: NumPy takes seeds from 0 to {2**32 - 1}")


def check_patterns(name: str, value: object) -> None:
    """Raise unless ``value`` is None or a non-empty sequence of glob patterns, no single string."""
    if value is None:
        return
    if (
        isinstance(value, str)
        or not isinstance(value, Sequence)
        or not all(isinstance(pattern, str) for pattern in value)
    ):
        raise TypeError(
            f"{name}={value!r} is not a list of glob patterns over module names: pass a list of "
            "strings such as ['layer1.*'], or None for every layer"
        )
    if not value:
        raise ValueError(f"{name}=[] watches nothing: name a layer, or pass None for every layer")


def check_fraction(name: str, value: object) -> None:
    """Raise unless ``value`` is a number in ``[0, 1)``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r} is not a number: pass a fraction from 0 to below 1")
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value} is out of range: pass a fraction from 0 to below 1")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise unless ``value`` is one of at least two ``choices``."""
    if value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"{name}={value!r} is unknown: pass {', '.join(others)} or {last}")


def check_channels(name: str, values: Sequence[float], n_channels: int, positive: bool) -> None:
    """Raise unless ``values`` are finite (and positive) numbers, one for each channel."""
    if len(values) != n_channels:
        raise ValueError(
            f"{name}={list(values)} has {len(values)} values but the images have {n_channels} "
            "channels: pass one number for each"
        )
    if not all(math.isfinite(value) and (value > 0 or not positive) for value in values):
        kind = "finite and above 0" if positive else "finite"
        raise ValueError(f"{name}={list(values)} is not usable: every number must be {kind}")


def check_number(name: str, value: object, *, above: float, below: float = math.inf) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless a value is a number between two others."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not above < value < below:
        limit = f" and below {below}" if math.isfinite(below) else ""
        raise ValueError(f"{name} must be above {above}{limit}, got {value!r}")
