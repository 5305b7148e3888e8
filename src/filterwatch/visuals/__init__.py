"""Pictures: figures and their way to a logger, and the HTML reports."""

from filterwatch.visuals.pictures import Pictures

__all__ = ["Pictures"]
