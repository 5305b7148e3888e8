"""Things in words: many names in one line, and tables as text."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType


def first_few(names: Sequence[str], shown: int = 5) -> str:
    """Return the first of many names in one line, and how many more there are."""
    more = f", … {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def as_text(shown: RenderableType) -> str:
    """Return what a terminal of 100 columns without colors would show."""
    console = Console(width=100, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()
