"""Pictures: figures and their way to a logger, progress bars, and the HTML reports.

Names are imported when they are used: matplotlib and Lightning take seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filterwatch.visuals.drawing import render
    from filterwatch.visuals.gallery import Gallery, Pictures, check_pictures, chosen_pictures
    from filterwatch.visuals.loggers import send_text
    from filterwatch.visuals.progress import probe_progress, progress_bar

__all__ = [
    "Gallery",
    "Pictures",
    "check_pictures",
    "chosen_pictures",
    "probe_progress",
    "progress_bar",
    "render",
    "send_text",
]

_MODULES = {
    "drawing": ("render",),
    "gallery": ("Gallery", "Pictures", "check_pictures", "chosen_pictures"),
    "loggers": ("send_text",),
    "progress": ("probe_progress", "progress_bar"),
}

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
