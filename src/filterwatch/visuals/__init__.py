"""Pictures of what the callback sees, and their way to a logger."""

from filterwatch.visuals.pictures import Pictures

__all__ = ["Pictures"]
