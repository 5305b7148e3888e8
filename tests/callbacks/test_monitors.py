"""Callbacks that monitor the count read the epoch's own value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from watched import fit, watch

from filterwatch.callbacks.record import Record


def checkpoint_of(path: Path, **options: Any) -> ModelCheckpoint:
    return ModelCheckpoint(
        path,
        filename="{epoch}-{anomaly_filters}",
        monitor="anomaly_filters",
        save_top_k=-1,
        **options,
    )


class Seen(EarlyStopping):
    """Notes the values that it reads; goes on for ever."""

    def __init__(self, **options: Any) -> None:
        super().__init__("anomaly_filters", mode="min", patience=100, **options)
        self.values: list[float] = []

    def _evaluate_stopping_criteria(self, current: Any) -> Any:
        self.values.append(float(current))
        return super()._evaluate_stopping_criteria(current)


@pytest.mark.parametrize("callback_first", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"val_check_interval": 0.5}, {"check_val_every_n_epoch": 2}]
)
def test_monitors_read_this_epochs_value(
    callback_first: bool, options: dict[str, Any], tmp_path: Path
) -> None:
    # What the documentation of the callback prescribes where validation runs at other times.
    early_stopping = Seen(check_on_train_epoch_end=True if options else None)
    checkpoint = checkpoint_of(tmp_path, save_on_train_epoch_end=True if options else None)
    callback = watch()
    callbacks = [callback, early_stopping, checkpoint]
    fit(
        *(callbacks if callback_first else callbacks[::-1]),
        enable_checkpointing=True,
        max_epochs=4,
        **options,
    )
    counts = [entry["count"] for entry in callback.history]
    assert len(set(counts)) > 1
    assert early_stopping.values == counts
    names = {path.stem for path in tmp_path.iterdir()}
    assert names == {
        f"epoch={epoch}-anomaly_filters={count:.1f}" for epoch, count in enumerate(counts)
    }
    assert checkpoint.best_model_score == min(counts)


def test_early_stopping_stops_on_the_count() -> None:
    callback = watch()
    fitted = fit(
        callback,
        EarlyStopping("anomaly_filters", mode="min", patience=1, min_delta=1000),
        max_epochs=10,
    )
    assert fitted.current_epoch == 2
    assert len(callback.history) == 2


@pytest.mark.parametrize("options", [{"val_check_interval": 0.5}, {"check_val_every_n_epoch": 2}])
def test_monitors_that_would_read_too_early_are_warned_about(
    options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="check_on_train_epoch_end=True"):
        fit(watch(), Seen(strict=False), **options)
    with pytest.warns(UserWarning, match="save_on_train_epoch_end=True"):
        fit(
            watch(prefix="deep_"),
            ModelCheckpoint(tmp_path, monitor="deep_outlier_samples"),
            enable_checkpointing=True,
            max_epochs=1,
            check_val_every_n_epoch=2,
        )


def test_monitors_of_other_metrics_are_left_alone(tmp_path: Path) -> None:
    fit(
        watch(),
        EarlyStopping("val_loss"),
        ModelCheckpoint(tmp_path, monitor="val_loss"),
        enable_checkpointing=True,
        check_val_every_n_epoch=2,
    )


def test_the_stand_in_for_an_unknown_count_is_no_optimum_and_no_alarm() -> None:
    value = Record().metrics(["layer"])["anomaly_filters"]
    assert torch.isfinite(torch.tensor(value))
    early_stopping = EarlyStopping("anomaly_filters", mode="min", patience=1)
    assert early_stopping._evaluate_stopping_criteria(torch.tensor(value))[0] is False
    assert early_stopping._evaluate_stopping_criteria(torch.tensor(50.0))[0] is False
    assert early_stopping.best_score == 50
