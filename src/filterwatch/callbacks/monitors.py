"""Callbacks that would read a metric before it is logged."""

from __future__ import annotations

from collections.abc import Container

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn


def warn_about_early_readers(trainer: Trainer, metrics: Container[str]) -> None:
    """Warn about callbacks that monitor a metric at the end of validation.

    With ``val_check_interval`` below 1 or ``check_val_every_n_epoch`` above 1, `EarlyStopping` and
    `ModelCheckpoint` read at the end of validation, when a metric of the epoch's end is an epoch
    old or not there yet.

    Args:
        trainer: A Trainer whose training is about to start.
        metrics: Names of the metrics that are logged at the epoch's end.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        setting = _missing_setting(trainer, callback)
        if setting is not None and callback.monitor in metrics:
            rank_zero_warn(
                f"{type(callback).__name__}(monitor={callback.monitor!r}) reads at the end of "
                "validation, before the epoch's value is there: it would see the previous epoch's, "
                f"or none. Give it {setting}=True"
            )


def _missing_setting(trainer: Trainer, callback: object) -> str | None:
    if isinstance(callback, EarlyStopping) and not callback._check_on_train_epoch_end:
        return "check_on_train_epoch_end"
    if isinstance(callback, ModelCheckpoint):
        at_epoch_end = callback._should_save_on_train_epoch_end(trainer)
        return None if at_epoch_end else "save_on_train_epoch_end"
    return None
