"""Whether a curve has risen over its minimum."""

from __future__ import annotations

from collections.abc import Sequence


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Return the mean over each ``window`` values in a row; nothing before there are so many.

    Means of fewer would jump more, and a minimum among them be too low.
    """
    return [sum(values[end - window : end]) / window for end in range(window, len(values) + 1)]


def has_risen(
    values: Sequence[float], *, factor: float, amount: float = 0.0, patience: int = 1
) -> bool:
    """Return whether each of the last ``patience`` values lies above the minimum of those up to it.

    Above means more than ``factor`` times the minimum, and by at least ``amount``.
    """
    if len(values) < patience:
        return False
    for end in range(len(values) - patience + 1, len(values) + 1):
        lowest, last = min(values[:end]), values[end - 1]
        if not (last > factor * lowest and last - lowest >= amount and last > lowest):
            return False
    return True
