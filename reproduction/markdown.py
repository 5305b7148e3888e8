"""Tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; columns of numbers are aligned right, the others left.

    >>> print(table(["a", "b"], [["x", "1"]]))
    | a | b |
    | --- | ---: |
    | x | 1 |
    """
    rows = list(rows)
    columns = zip(*rows, strict=True) if rows else ((),) * len(head)
    lines = [head, ["---:" if _are_numbers(column) else "---" for column in columns], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _are_numbers(column: Sequence[str]) -> bool:
    """Return whether every cell begins like a number, or is empty, and one is no dash."""
    begins = [cell[:1] for cell in column if cell not in ("", "–")]
    return bool(begins) and all(begin.isdigit() or begin in "+-−" for begin in begins)


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many digits behind the point, or a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}"


def whole(value: float | None) -> str:
    """Return a whole number, or a mean with one digit, or a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    return str(int(value)) if float(value).is_integer() else f"{value:.1f}"


def each(values: Iterable[float | None], digits: int | None = None) -> str:
    """Return one value a seed, comma-separated."""
    return ", ".join(whole(value) if digits is None else number(value, digits) for value in values)


def mean_spread(values: Sequence[float | None], digits: int = 2, factor: float = 1.0) -> str:
    """Return mean ± standard deviation, of those values that exist."""
    defined = [factor * value for value in values if value is not None]
    if not defined:
        return "–"
    mean = math.fsum(defined) / len(defined)
    if len(defined) == 1:
        return number(mean, digits)
    variance = math.fsum((value - mean) ** 2 for value in defined) / (len(defined) - 1)
    return f"{number(mean, digits)} ± {number(math.sqrt(variance), digits)}"
