"""One outcome for every process of a distributed run."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Trainer

from filterwatch.detection import AnomalyReport


def first_process_outcome(
    trainer: Trainer, detect: Callable[[], AnomalyReport]
) -> AnomalyReport | Exception:
    """Detect on every process, and return what the first one found, or why it failed, on each.

    Processes hold the same weights and samples, yet may round differently, and a verdict hangs on
    thresholds; what follows from it must be the same everywhere. No process skips the exchange,
    whatever happened to it: the others would wait for ever.

    Args:
        trainer: The Trainer.
        detect: Makes the report.

    Returns:
        The report, elsewhere than in the first process without points and labels; or the reason
        why there is none.
    """
    outcome = _attempt(detect)
    if trainer.world_size == 1:
        return outcome
    sent = _described(outcome) if isinstance(outcome, Exception) else outcome.to_dict()
    received = trainer.strategy.broadcast(sent)
    if trainer.is_global_zero:
        return outcome
    return (
        RuntimeError(received) if isinstance(received, str) else AnomalyReport.from_dict(received)
    )


def _attempt(detect: Callable[[], AnomalyReport]) -> AnomalyReport | Exception:
    try:
        report = detect()
    except Exception as error:
        return error
    if not report.layers:
        # Its count of 0 would look like the best network there is.
        return RuntimeError(f"no layer can be judged: {report.skipped}")
    return report


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
