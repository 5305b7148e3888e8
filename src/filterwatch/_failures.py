"""One way to fail softly: a warning for each reason, or the error itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities import rank_zero_warn


class Failures:
    """Warns from the first process, once for each kind of thing that there is to warn about.

    Args:
        name: Who could not do what it was to do.
        strict: Whether a failure is raised instead.
    """

    def __init__(self, name: str, strict: bool) -> None:
        self._name = name
        self._strict = strict
        self._said: set[str] = set()

    def warn(self, kind: str, message: str) -> None:
        """Warn, unless it was done for this kind before."""
        if kind not in self._said:
            self._said.add(kind)
            rank_zero_warn(message)

    @contextmanager
    def softly(self, what: str) -> Iterator[None]:
        """Warn of an exception in the block, once for each reason; or raise it, if strict."""
        try:
            yield
        except Exception as error:
            if self._strict:
                raise
            reason = f"{type(error).__name__}: {error}"
            self.warn(reason, f"{self._name} could not {what}; training goes on. {reason}")
