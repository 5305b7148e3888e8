"""Warnings that come back every epoch, said once."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn


class WarnOnce:
    """Warns from the first process, once for each kind of thing that there is to warn about."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def warn(self, kind: str, message: str) -> None:
        """Warn, unless it was done for this kind before."""
        if kind not in self._said:
            self._said.add(kind)
            rank_zero_warn(message)
