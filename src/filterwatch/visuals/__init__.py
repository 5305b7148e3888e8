"""Pictures: figures and their way to a logger, and the HTML reports."""

from filterwatch.visuals.pictures import Pictures
from filterwatch.visuals.progress import progress_bar

__all__ = ["Pictures", "progress_bar"]
