"""Callbacks that monitor a metric: those that read too early, and before there is a value."""

from __future__ import annotations

from collections.abc import Container, Mapping

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from filterwatch._compat import callbacks_of, missing_setting


def warn_about_early_readers(trainer: Trainer, metrics: Container[str]) -> None:
    """Warn about callbacks that monitor a metric at the end of validation.

    With ``val_check_interval`` below 1 or ``check_val_every_n_epoch`` above 1, `EarlyStopping` and
    `ModelCheckpoint` read at the end of validation, when a metric of the epoch's end is an epoch
    old or not there yet.

    Args:
        trainer: A Trainer whose training is about to start.
        metrics: Names of the metrics that are logged at the epoch's end.
    """
    for callback in callbacks_of(trainer):
        setting = missing_setting(trainer, callback)
        monitor = getattr(callback, "monitor", None)
        if setting is not None and monitor in metrics:
            rank_zero_warn(
                f"{type(callback).__name__}(monitor={monitor!r}) reads at the end of "
                "validation, before the epoch's value is there: it would see the previous epoch's, "
                f"or none. Give it {setting}=True"
            )


def show_monitors(trainer: Trainer, prefix: str, metrics: Mapping[str, float]) -> None:
    """Give monitors a stand-in for metrics, and keep it from loggers and the progress bar."""
    for name, value in metrics.items():
        trainer.callback_metrics[prefix + name] = torch.tensor(value)
