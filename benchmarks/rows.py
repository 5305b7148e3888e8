"""One line of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A measured figure beside its goal.

    Attributes:
        what: What was measured.
        value: The figure; ``None`` where it could not be measured here.
        shown: The figure in words, or why there is none.
        goal: The goal in words, empty where the figure only informs.
        reached: Whether the goal is reached; ``None`` without a goal or figure.
    """

    what: str
    value: float | None
    shown: str
    goal: str = ""
    reached: bool | None = None

    @property
    def met(self) -> str:
        """Whether the goal is reached, in words."""
        return {True: "yes", False: "no", None: ""}[self.reached]

    def as_dict(self) -> dict[str, Any]:
        """Return the row for a JSON file."""
        return {
            "what": self.what,
            "value": self.value,
            "shown": self.shown,
            "goal": self.goal,
            "reached": self.reached,
        }


def at_least(what: str, value: float, goal: float, form: str = "{:.3g}") -> Row:
    """Return a row whose figure should be at least the goal."""
    return Row(what, value, form.format(value), f">= {goal:g}", value >= goal)


def at_most(what: str, value: float, goal: float, form: str = "{:.3g}") -> Row:
    """Return a row whose figure should be at most the goal."""
    return Row(what, value, form.format(value), f"<= {goal:g}", value <= goal)


def informs(what: str, value: float | None, shown: str) -> Row:
    """Return a row without a goal."""
    return Row(what, value, shown)
