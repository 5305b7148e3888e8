"""What becomes of an attempt: one outcome for all processes; a warning, or an error if strict."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

T = TypeVar("T")


class Failures:
    """Warns from the first process, once for each kind of thing that there is to warn about.

    Args:
        name: Whose failures they are; begins every message.
        strict: Whether what fails raises instead.
    """

    def __init__(self, name: str, strict: bool) -> None:
        self.strict = strict
        self._name = name
        self._said: set[str] = set()

    def warn(self, kind: str, message: str) -> None:
        """Warn, unless it was done for this kind before."""
        if kind not in self._said:
            self._said.add(kind)
            rank_zero_warn(f"{self._name} {message}")

    def inform(self, kind: str, message: str) -> None:
        """Say what is no failure, unless it was done for this kind before."""
        if kind not in self._said:
            self._said.add(kind)
            rank_zero_info(f"{self._name} {message}")

    def softly(self, what: str, consequence: str = "training goes on") -> _Attempt:
        """Return a context that lets no error out: it warns once for each reason.

        With ``strict`` the error goes through.

        Args:
            what: What is tried, to follow "could not".
            consequence: What happens instead.
        """
        return _Attempt(self, what, consequence)


@dataclass
class _Attempt:
    failures: Failures
    what: str
    consequence: str

    def __enter__(self) -> None:
        pass

    # That this returns a bool tells mypy that what follows an attempt may be reached without it.
    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, Exception) or self.failures.strict:
            return False
        reason = f"{type(error).__name__}: {error}"
        message = f"could not {self.what}; {self.consequence}. {reason}"
        # Epochs and amounts of memory differ each time, and so does what follows them.
        self.failures.warn(re.sub(r"\d+", "", f"{self.what}: {reason}")[:100], message)
        return True


def first_process_outcome(
    trainer: Trainer,
    decide: Callable[[], T],
    *,
    pack: Callable[[T], Any] | None = None,
    unpack: Callable[[Any], T] | None = None,
) -> T:
    """Make a decision on every process, and return the first one's on each.

    Processes hold the same weights and samples, yet may round differently, and what follows must be
    the same everywhere. No process skips the exchange, whatever happened to it: the others would
    wait for ever.

    Args:
        trainer: The Trainer.
        decide: Makes the decision.
        pack: Makes plain data of it for the other processes. Default: it is sent as it is.
        unpack: Makes a decision of plain data again.

    Raises:
        Exception: If the decision failed in the first process.
    """
    outcome: T | Exception
    try:
        outcome = decide()
    except Exception as error:
        outcome = error
    if trainer.world_size > 1:
        failed = isinstance(outcome, Exception)
        sent: Any = f"{type(outcome).__name__}: {outcome}" if failed else outcome
        if not isinstance(outcome, Exception) and pack is not None:
            sent = pack(outcome)
        failed, sent = trainer.strategy.broadcast((failed, sent))
        if not trainer.is_global_zero:
            outcome = RuntimeError(sent) if failed else sent if unpack is None else unpack(sent)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
