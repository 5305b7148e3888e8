"""Things in words: many names in one line, and tables as text."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console, RenderableType

_WIDTH = 100
# A notebook's own style sets lines apart, and breaks them.
_IN_A_NOTEBOOK = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:normal;'
    "font-family:Menlo,'DejaVu Sans Mono',consolas,'Courier New',monospace\">{code}</pre>"
)


def first_few(names: Sequence[str], shown: int = 5) -> str:
    """Return the first of many names in one line, and how many more there are."""
    more = f", … {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def as_text(shown: RenderableType) -> str:
    """Return what a terminal of 100 columns without colors would show."""
    console = Console(width=_WIDTH, color_system=None, force_terminal=False, force_jupyter=False)
    with console.capture() as capture:
        console.print(shown)
    return capture.get()


def as_html(shown: RenderableType) -> str:
    """Return the same for a notebook, with colors."""
    console = Console(width=_WIDTH, record=True, file=io.StringIO(), force_jupyter=False)
    console.print(shown)
    return console.export_html(inline_styles=True, code_format=_IN_A_NOTEBOOK)
